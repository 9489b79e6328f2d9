"""Results of an evaluation: what is kept, reused, damaged."""

import errno
import json
import os
import shutil
import zipfile

import jax
import numpy as np
import pytest

from advloss import batches, evaluate, files, results, runs, stopping
from advloss import config as configs
from advloss.errors import InputError, Stopped


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


@pytest.mark.parametrize("worst_only", [False, True])
def test_an_interrupted_attack_repeats_no_finished_batch(
    workdir, tmp_path, monkeypatch, worst_only
):
    changes = {"worst_only": worst_only, "batch_size": 20, "attacks": ("pgd",)}
    settings = runs.load_config(workdir).evaluate.pgd
    settings.steps = 25
    changes["pgd"] = settings
    whole = shutil.copytree(workdir, tmp_path / "whole")
    expected = _evaluate(whole, **changes)
    calls = []
    original = evaluate.Mapped.__call__ if worst_only else evaluate.Mapped._one_batch

    def counted(self, arrays, *rest):
        calls.append(len(arrays))
        return original(self, arrays, *rest)

    name = "__call__" if worst_only else "_one_batch"
    monkeypatch.setattr(evaluate.Mapped, name, counted)
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: len(calls) >= 3)
        with pytest.raises(Stopped, match="what is finished is saved"):
            _evaluate(workdir, **changes)
    first = len(calls)
    assert (workdir / "evaluation" / "pgd.parts").is_dir()
    found = _evaluate(workdir, **changes)
    # 110 images in batches of 20. Or predictions, a start, 25 steps in three rounds,
    # predictions; of which the first are made again.
    assert 0 < first < len(calls) == (7 if worst_only else 6)
    for result in (found, expected):
        del result["attacks"]["pgd"]["seconds"]
    assert found == expected
    assert not (workdir / "evaluation" / "pgd.parts").exists()
    both = [results.load_examples(path, "pgd") for path in (whole, workdir)]
    for key in both[0]:
        np.testing.assert_array_equal(both[0][key], both[1][key])


def test_what_is_left_by_other_attacks_is_no_part_of_this_one(
    workdir, tmp_path, monkeypatch
):
    """Where only the worst case is asked for, an attack builds on those before it."""
    fgs = runs.load_config(workdir).evaluate.fgs
    changes = {"worst_only": True, "attacks": ("fgs", "pgd"), "fgs": fgs}
    clean = shutil.copytree(workdir, tmp_path / "clean")
    fgs.epsilon = 0.05
    parts = workdir / "evaluation" / "pgd.parts"
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", parts.is_dir)
        with pytest.raises(Stopped, match="stopped in pgd"):
            _evaluate(workdir, **changes)
    fgs.epsilon = 0.001
    found, expected = (_evaluate(path, **changes) for path in (workdir, clean))
    for result in (found, expected):
        for attack in result["attacks"].values():
            del attack["seconds"]
    assert found == expected


def test_an_attack_of_one_round_stops_and_goes_on_between_batches(
    workdir, tmp_path, monkeypatch
):
    changes = {"worst_only": True, "batch_size": 20, "attacks": ("fgs",)}
    whole = _evaluate(shutil.copytree(workdir, tmp_path / "whole"), **changes)
    calls = []
    original = evaluate.Mapped.__call__

    def counted(self, arrays, *rest):
        calls.append(len(jax.tree.leaves(arrays)[0]))
        return original(self, arrays, *rest)

    monkeypatch.setattr(evaluate.Mapped, "__call__", counted)
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: len(calls) == 3)
        with pytest.raises(Stopped, match="stopped in fgs"):
            _evaluate(workdir, **changes)
    assert calls == [110, 20, 20]
    found = _evaluate(workdir, **changes)
    right = round(110 * found["natural"]["accuracy"])
    # Predictions again, then what was left of those who were classified correctly.
    assert sum(calls[4:-1]) == right - 40
    for result in (found, whole):
        del result["attacks"]["fgs"]["seconds"]
    assert found == whole


def test_parts_of_other_settings_are_thrown_away(tmp_path):
    first = batches.Finished(tmp_path / "parts", {"steps": 1})
    first.save(0, images=np.ones(3))
    again = batches.Finished(tmp_path / "parts", {"steps": 1})
    np.testing.assert_array_equal(again.load(0)["images"], np.ones(3))
    (tmp_path / "parts" / "0.npz").write_bytes(b"PK")
    assert again.load(0) is None
    again.save(0, images=np.ones(3))
    other = batches.Finished(tmp_path / "parts", {"steps": 2})
    assert other.load(0) is None


def test_the_seconds_of_all_sessions_count(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(batches.time, "perf_counter", lambda: now[0])

    def session(work):
        finished = batches.Finished(tmp_path / "parts", {})
        for number, seconds in work:
            if finished.load(number) is None:
                now[0] += seconds
                finished.save(number, x=np.ones(1))
        return finished

    assert session([(0, 3.0)]).earlier == 0
    assert session([(0, 3.0), (1, 4.0)]).earlier == 3
    last = session([(0, 3.0), (1, 4.0)])
    assert last.earlier == 7
    # A part that grows takes what it took before along.
    now[0] += 5
    last.save(1, x=np.ones(1))
    assert session([(0, 0.0), (1, 0.0)]).earlier == 12


def test_other_parameters_are_measured_anew(workdir):
    """Someone put another network's checkpoint there: the numbers are not its own."""
    before = results.load_results(workdir)
    own, before["parameters"] = before["parameters"], "another's"
    before["attacks"]["pgd"]["seconds"] = -1.0
    (workdir / "evaluation.json").write_text(json.dumps(before))
    found = _evaluate(workdir)
    assert found["parameters"] == own
    assert found["attacks"]["pgd"]["seconds"] >= 0


def test_other_images_are_measured_anew(workdir, digits_dir, tmp_path):
    """As many, from another folder."""
    copy = shutil.copytree(digits_dir, tmp_path / "digits")
    path = copy / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-64] + bytes(64))
    before = results.load_results(workdir)
    config = runs.load_config(workdir)
    config.data.dir = str(copy)
    found = results.evaluate_run(config, workdir, jax.devices()[:1])
    assert found["data"] != before["data"]
    assert {**found, "data": 0, "attacks": 0}.keys() == before.keys()
    assert (results.load_examples(workdir, "pgd")["labels"]).shape == (110,)


def test_killed_between_two_files_no_number_is_anothers(workdir, monkeypatch):
    """The examples are of the new settings already, the accuracies of the old."""
    _evaluate(workdir, attacks=("fgs",))
    settings = runs.load_config(workdir).evaluate.pgd
    settings.steps = 2
    with monkeypatch.context() as patch:
        write = results._write_examples

        def killed(*arguments):
            write(*arguments)
            raise KeyboardInterrupt

        patch.setattr(results, "_write_examples", killed)
        with pytest.raises(KeyboardInterrupt):
            _evaluate(workdir, pgd=settings)
    assert list(results.load_results(workdir)["attacks"]) == ["fgs"]
    found = _evaluate(workdir)["attacks"]["pgd"]
    assert (found["settings"]["steps"], found["gradients"]) == (10, 10)
    examples = results.load_examples(workdir, "pgd")
    assert found["worst"]["accuracy"] == examples["worst_correct"].mean()


def test_parts_of_other_code_are_thrown_away(workdir, monkeypatch):
    fgs = ("fgs",)
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "requested", lambda: True)
        with pytest.raises(Stopped):
            _evaluate(workdir, attacks=fgs, batch_size=55)
    made = []
    original = evaluate.Mapped._one_batch

    def counted(self, *arguments):
        made.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(evaluate.Mapped, "_one_batch", counted)
    monkeypatch.setattr(runs, "code_digest", lambda: "edited")
    _evaluate(workdir, attacks=fgs, batch_size=55)
    assert len(made) == 2


def test_a_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    files.write_text(tmp_path / "a.txt", "good")

    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match=r"a.txt: No space left on device"):
            files.write_text(tmp_path / "a.txt", "better")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "good"


def test_arrays_are_no_code_and_fit_into_their_file(tmp_path):
    path = tmp_path / "x.npz"
    np.savez_compressed(path, x=np.array([print], dtype=object))
    with pytest.raises(InputError, match=r"missing or damaged: .*allow_pickle"):
        files.read_arrays(path)
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    with zipfile.ZipFile(path, "w") as archive:
        length = len(header).to_bytes(2, "little")
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + length + header.encode())
    with pytest.raises(InputError, match=r"x.npy claims 8000000000000 bytes"):
        files.read_arrays(path)


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
