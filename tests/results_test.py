"""Results of an evaluation: what is kept, reused, damaged."""

import json
import shutil

import jax
import numpy as np
import pytest

from advloss import config as configs
from advloss import results, runs
from advloss.errors import InputError


def _evaluate(workdir, **changes):
    config = runs.load_config(workdir)
    for key, value in changes.items():
        config.evaluate[key] = value
    return results.evaluate_run(configs.resolve(config), workdir, jax.devices()[:1])


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_every_number_follows_from_the_examples(trained):
    found = results.load_results(trained)
    examples = results.load_examples(trained, "pgd")
    assert found["examples"] == 110 == len(examples["labels"])
    natural = np.mean(examples["natural"] == examples["labels"])
    final = np.mean(examples["attacked"] == examples["labels"])
    assert found["natural"]["accuracy"] == pytest.approx(natural)
    pgd = found["attacks"]["pgd"]
    assert pgd["final"]["accuracy"] == pytest.approx(final)
    assert pgd["worst"]["accuracy"] == pytest.approx(examples["worst_correct"].mean())
    assert pgd["worst"]["low"] < pgd["worst"]["accuracy"] <= final < natural
    assert found["worst_of_all"] == pgd["worst"]
    assert examples["distance"].max() <= 0.1 + 1e-6
    assert pgd["environment"]["packages"]["jax"] == jax.__version__


def test_a_suite_is_added_to_and_nothing_is_measured_twice(workdir, capsys):
    before = results.load_results(workdir)
    config = (workdir / "config.json").read_bytes()
    after = _evaluate(workdir, attacks=("pgd", "fgs"))
    assert after["attacks"]["pgd"] == before["attacks"]["pgd"]  # The seconds, too.
    assert "pgd was measured before" in capsys.readouterr().err
    standing = [
        results.load_examples(workdir, name)["worst_correct"] for name in ("pgd", "fgs")
    ]
    both = np.mean(standing[0] & standing[1])
    assert after["worst_of_all"]["accuracy"] == pytest.approx(both)
    # The next suite has no PGD; its result stays.
    assert _evaluate(workdir, attacks=("noise",))["attacks"].keys() == {
        "pgd", "fgs", "noise",
    }  # fmt: skip
    assert (workdir / "config.json").read_bytes() == config


def test_other_settings_and_other_examples_are_measured_anew(workdir):
    first = results.load_results(workdir)["attacks"]["pgd"]
    settings = runs.load_config(workdir).evaluate.pgd
    settings.steps = 3
    second = _evaluate(workdir, pgd=settings)["attacks"]["pgd"]
    assert (first["gradients"], second["gradients"]) == (10, 3)
    _evaluate(workdir, attacks=("fgs",))
    found = _evaluate(workdir, examples=50, attacks=("noise",))
    assert found["examples"] == 50
    assert found["attacks"].keys() == {"noise"}  # The others had 110 examples.


def test_the_closest_images_have_a_median_distance(workdir):
    config = runs.load_config(workdir)
    penalty = config.evaluate.penalty
    penalty.search_steps, penalty.steps = 3, 6
    found = _evaluate(workdir, attacks=("penalty",), penalty=penalty, examples=55)
    distance = results.load_examples(workdir, "penalty")["distance"]
    median = found["attacks"]["penalty"]["median_distance"]
    assert median == (pytest.approx(np.median(distance)) if median else None)
    assert "median_distance" not in results.load_results(workdir)["natural"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        "{}",
        '{"attacks": 3}',
        '{"attacks": {}, "natural": 1, "worst_of_all": 1}',
        '{"attacks": {"../../x": {}}, "natural": {}, "worst_of_all": {}}',
    ],
)
def test_damaged_results_are_named(workdir, content):
    (workdir / "evaluation.json").write_text(content)
    with pytest.raises(InputError, match=r"evaluation.json is damaged"):
        results.load_results(workdir)


def test_damaged_results_are_measured_anew(workdir, capsys):
    (workdir / "evaluation" / "pgd.npz").write_bytes(b"PK")
    found = _evaluate(workdir)
    assert "measured anew" in capsys.readouterr().err
    assert found["attacks"]["pgd"]["final"]["accuracy"] <= 1
    assert len(results.load_examples(workdir, "pgd")["labels"]) == 110


def test_what_was_measured_as_a_config(workdir):
    found = results.load_results(workdir)
    config = runs.load_config(workdir)
    found["attacks"]["pgd"]["settings"]["steps"] = 77
    measured = results.measured_config(config, found)
    assert measured.evaluate.pgd.steps == 77
    assert measured.evaluate.examples == 110
    command = configs.command_line("evaluate", measured, workdir, base=config)
    assert "--config.evaluate.pgd.steps=77" in command
    found["attacks"]["pgd"]["settings"]["stepz"] = 7
    with pytest.raises(InputError, match=r"stepz"):
        results.measured_config(config, json.loads(json.dumps(found)))
