"""A study: what is there is used again, what is missing is said, numbers add up."""

import csv
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import config as configs
from advloss import files, lock, report, results, runs, study
from advloss.errors import InputError
from advloss.report.parts import PARTS
from configs import paper

NAMES = ("undefended", "softmax", "lmcl_m0.3")


def _configs(digits_dir, seeds=(0, 1)):
    found = []
    for seed in seeds:
        for name in NAMES:
            config = paper.network(name, "smoke")
            config.seed = seed
            config.data.source, config.data.dir = "idx", str(digits_dir)
            config.train.batch_size = 20
            config.model.name = "mlp"
            config.evaluate.examples, config.evaluate.batch_size = 40, 40
            found.append(configs.resolve(config))
    return found


@pytest.fixture(scope="module")
def members(digits_dir):
    return _configs(digits_dir)


@pytest.fixture(scope="module")
def folder(members, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study.run(members, folder, jax.devices()[:1])
    return folder


def _write(folder, to, parts=tuple(PARTS), members=()):
    workdirs = [study.workdir_of(config, folder) for config in members]
    return report.write_study(parts, workdirs, to, budget="smoke", command="make it")


def _contents(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != lock.NAME)
    return {path: path.stat().st_mtime_ns for path in files}


def test_a_finished_study_is_left_as_it_is(folder, members):
    before = _contents(folder)
    study.run(members, folder, jax.devices()[:1])
    assert _contents(folder) == before


@pytest.mark.parametrize("key", ["evaluate.batch_size", "train.batch_size"])
def test_devices_that_do_not_divide_are_told_before_training(members, tmp_path, key):
    config = members[0].copy_and_resolve_references()
    config.update_from_flattened_dict({key: 41})
    with pytest.raises(InputError, match=rf"config.{key}=41 is not valid.* 2 devices"):
        study.run([config], tmp_path / "study", jax.devices()[:2])
    assert not (tmp_path / "study").exists()


def test_what_is_missing_is_made_again(folder, members, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    kept = study.workdir_of(members[0], copy)
    lost = study.workdir_of(members[1], copy)
    (lost / "evaluation.json").unlink()
    (lost / "changes" / "pgd.npz").unlink()
    before = _contents(kept)
    study.run(members, copy, jax.devices()[:1])
    assert _contents(kept) == before
    for name in ("rank_change", "layer_fc3"):
        np.testing.assert_array_equal(
            study.load_changes(lost, "pgd")[name],
            study.load_changes(study.workdir_of(members[1], folder), "pgd")[name],
        )


def test_changes_are_those_of_the_attacked_images(folder, members):
    workdir = study.workdir_of(members[1], folder)
    changes = study.load_changes(workdir, "pgd")
    examples = results.load_examples(workdir, "pgd")
    stays = examples["natural"] == examples["attacked"]
    np.testing.assert_array_equal(changes["rank_change"] == 0, stays)
    layers = [key for key in changes if key.startswith("layer_")]
    assert layers == ["layer_fc1", "layer_fc2", "layer_fc3"]
    network = runs.load_run(workdir)
    natural = runs.load_data(network.config).test.images[:40]
    scores = [network.classifier(x) for x in (natural, examples["attacked_images"])]
    change = jnp.linalg.norm(scores[1] - scores[0], axis=-1)
    # fc3's change, times the norm of what goes into it, is the change of the scores.
    assert np.corrcoef(changes["layer_fc3"], change)[0, 1] > 0.5
    assert (changes["layer_fc3"] > 0).all()


def test_transfer_shows_the_attackers_images_to_the_defender(folder, members):
    attacker, defender = (study.workdir_of(c, folder) for c in members[1:3])
    images = results.load_examples(attacker, "pgd")["attacked_images"]
    labels = results.load_examples(defender, "pgd")["labels"]
    predictions = jnp.argmax(runs.load_run(defender).classifier(images), axis=-1)
    found = study.transfer(attacker, defender, "pgd")
    np.testing.assert_array_equal(found, predictions == labels)
    own = study.transfer(defender, defender, "pgd").mean()
    final = results.load_results(defender)["attacks"]["pgd"]["final"]["accuracy"]
    assert own == pytest.approx(final)


def test_transfer_between_different_images_is_refused(folder, members, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    workdirs = [study.workdir_of(c, copy) for c in members[1:3]]
    path = results.examples_path(workdirs[0], "pgd")
    arrays = files.read_arrays(path)
    np.savez(path, **{**arrays, "labels": arrays["labels"][::-1]})
    with pytest.raises(InputError, match="different test images"):
        study.transfer(*workdirs, "pgd")


def test_the_report_has_every_part(folder, members, tmp_path):
    text = _write(folder, tmp_path, members=members)
    assert re.search(r"conv2 +64 \(5 x 5\) +14 x 14 x 32 +14 x 14 x 64 +51,264", text)
    assert re.search(r"in all +3,274,634", text)
    assert re.search(r"hinge: not part of this study[.;] ", " ".join(text.split()))
    for name in ("table2", "table3", "figure1", "figure2", "figure3", "figure4"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / f"{name}.svg").exists()
    records = json.loads((tmp_path / "numbers.json").read_text())
    with (tmp_path / "numbers.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(records)
    # The mean that is printed is that of the seeds' accuracies.
    values = [
        100 * r["accuracy"]
        for r in records
        if (r["part"], r.get("network"), r.get("measure"))
        == ("table2", "softmax", "pgd")
    ]
    assert len(values) == 2
    (row,) = re.findall(r"^softmax +2 +([\d.]+) \[", text, re.MULTILINE)
    assert float(row) == pytest.approx(np.mean(values), abs=0.051)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img ") == 6
    assert "a smoke test" in page.lower()


def test_missing_and_half_finished_runs_are_rows_that_say_so(folder, members, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(study.workdir_of(members[1], copy))
    (study.workdir_of(members[2], copy) / "evaluation.json").unlink()
    (study.workdir_of(members[0], copy) / "changes" / "pgd.npz").write_bytes(b"PK")
    text = _write(copy, tmp_path / "report", members=members)
    said = " ".join(text.split())
    lacking = "softmax, seed 0: no such run; lmcl_m0.3, seed 0: not evaluated yet"
    assert re.search(rf"Missing: {re.escape(lacking)}[.;] ", said)


def test_a_report_of_nothing(members, tmp_path):
    text = _write(tmp_path / "nothing", tmp_path / "report", members=members)
    assert re.search(r"softmax, seed 1: no such run[.;] ", " ".join(text.split()))
    assert (tmp_path / "report" / "report.html").exists()
