"""Results of an evaluation: what is kept, reused, damaged, summarised."""

import errno
import json
import os
import shutil
import time
import types
import warnings
import zipfile

import jax
import numpy as np
import pytest
from conftest import to_evaluate

import advloss
from advloss import config as configs
from advloss import report
from advloss.cli import idle
from advloss.errors import InputError, Stopped
from advloss.evaluation import asked, batches, examples, measured, results, run
from advloss.evaluation.mapped import Mapped
from advloss.evaluation.statistics import proportion
from advloss.runtime import environment, files, signals
from advloss.training.run import train_runs
from advloss.training.workdir import load_data


def _evaluate(workdir, **changes):
    return run.evaluate_run(to_evaluate(workdir, **changes), workdir, jax.devices()[:1])


def _equal(first, second):
    for name in (*measured._EXAMPLES, "identity"):
        a, b = (getattr(each, name) for each in (first, second))
        np.testing.assert_array_equal(a, b, err_msg=name)
    for a, b in zip(*map(measured.load_images, (first, second)), strict=True):
        np.testing.assert_array_equal(a, b)


def _files(workdir):
    return sorted(path.name for path in (workdir / results.FOLDER).iterdir())


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def test_every_number_follows_from_the_examples(trained):
    (found,) = results.load(trained)
    assert (found.attack, found.norm, found.epsilon) == ("pgd", "linf", 0.1)
    assert found.identity["examples"] == 110 == len(found.labels)
    np.testing.assert_array_equal(found.correct, found.attacked == found.labels)
    assert found.distance.max() <= 0.1 + 1e-6
    assert (found.backward_passes == 10).all()
    assert found.environment["packages"]["jax"] == jax.__version__
    assert found.workdir == trained
    natural = measured.load_images(found).natural
    attacked = measured.load_images(found).attacked
    assert len(natural) == results.GALLERY_IMAGES
    change = np.abs(attacked[:100] - natural).max(axis=(1, 2, 3))
    np.testing.assert_allclose(change, found.distance[:100], atol=1e-6)
    summary = results.summarise([found])
    (attack,), (worst,) = summary.attacks, summary.worst
    assert summary.natural.accuracy == np.mean(found.natural == found.labels)
    assert attack.final.accuracy == np.mean(found.attacked == found.labels)
    assert attack.worst.accuracy == found.worst_correct.mean()
    assert attack.median_distance is None
    assert worst.proportion == attack.worst
    assert worst[:2] == ("linf", 0.1)
    assert attack.worst.accuracy <= attack.final.accuracy < summary.natural.accuracy
    assert summary.union is None


def test_a_suite_is_added_to_and_nothing_is_measured_twice(workdir, capsys):
    (before,) = results.load(workdir)
    config = (workdir / "config.json").read_bytes()
    pgd, _ = _evaluate(workdir, attacks=("pgd", "fgsm"))
    assert "pgd was measured before" in capsys.readouterr().err
    assert pgd.finished == before.finished
    _equal(pgd, before)
    # The next suite has no PGD; its result stays.
    (noise,) = _evaluate(workdir, attacks=("noise",))
    assert [each.attack for each in results.load(workdir)] == ["pgd", "fgsm", "noise"]
    assert noise.attack == "noise"
    assert (workdir / "config.json").read_bytes() == config


def test_a_suite_is_its_attacks_each_once(workdir):
    config = to_evaluate(workdir, attacks=("strong", "pgd"))
    assert asked.attacks_of(config) == [("pgd", None), ("multi_targeted", None)]


def test_other_settings_and_examples_stand_side_by_side(workdir):
    (first,) = results.load(workdir)
    (second,) = _evaluate(workdir, pgd__steps=3)
    (third,) = _evaluate(workdir, examples=50)
    (fourth,) = _evaluate(workdir, seed=1)
    (fifth,) = _evaluate(workdir, survivors_only=True)
    found = results.load(workdir)
    made = [first, second, third, fourth, fifth]
    assert [each.path for each in found] == [each.path for each in made]
    assert len(set(_files(workdir))) == 5
    assert (second.backward_passes == 3).all()
    assert len(third.labels) == 50
    # Two of them can be compared; the newest of the largest groups is shown.
    groups = results.groups(found)
    assert [len(group) for group in groups] == [1, 1, 2, 1]
    assert groups[-1][0].path == third.path
    assert results.chosen(found) == [found[4]]
    assert [each.path for each in groups[2]] == [first.path, second.path]
    with pytest.raises(InputError, match=r"5 results of 4 groups can't be summarised"):
        results.summarise(found)
    assert results.chosen([]) == []


def test_the_worst_case_is_taken_in_each_ball(workdir):
    settings = {"carlini_linf__rounds": 2, "carlini_linf__steps": 5}
    found = _evaluate(
        workdir,
        attacks=("pgd", "fgsm", "noise", "carlini_linf"),
        fgsm__epsilon=0.1,
        noise__epsilon=0.02,
        carlini_linf__epsilon=0.1,
        **settings,
    )
    summary = results.summarise(found)
    pgd, fgsm, noise, carlini = (each.worst_correct for each in found)
    large, small = summary.worst
    assert large[:2] == ("linf", 0.1)
    assert large.attacks == ("pgd", "fgsm", "carlini_linf")
    assert large.proportion.accuracy == np.mean(pgd & fgsm & carlini)
    assert small[:2] == ("linf", 0.02)
    assert small.proportion.accuracy == noise.mean()
    assert summary.union.accuracy == np.mean(pgd & fgsm & carlini & noise)
    assert summary.attacks[3].median_distance == np.median(found[3].distance)
    for each in [summary.natural, summary.union, *(a.final for a in summary.attacks)]:
        assert 0 <= each.low <= each.accuracy <= each.high <= 1


def test_survivors_are_those_of_the_same_ball(workdir):
    """What is fooled is not attacked again, within the same epsilon."""
    suite = {
        "attacks": ("fgsm", "noise", "pgd"),
        "fgsm__epsilon": 0.1,
        "pgd__steps": 25,
        "noise__epsilon": 0.01,
    }
    whole = _evaluate(workdir, **suite)
    short = _evaluate(workdir, **suite, survivors_only=True)
    fgsm, _, pgd = short
    digests = [measured.digest(each.identity) for each in short]
    assert [each.identity["before"] for each in short] == [[], [], [digests[0]]]
    assert (pgd.worst_correct <= fgsm.worst_correct).all()
    assert pgd.backward_passes.sum() < whole[2].backward_passes.sum()
    assert (pgd.backward_passes[~fgsm.worst_correct] == 0).all()
    expected, summary = results.summarise(whole), results.summarise(short)
    assert summary.worst == expected.worst
    assert summary.natural == expected.natural
    # Not all were attacked: no median of distances.
    (_, carlini) = _evaluate(
        workdir, attacks=("fgsm", "carlini_linf"), survivors_only=True,
        fgsm__epsilon=0.1, carlini_linf__epsilon=0.1,
        carlini_linf__rounds=2, carlini_linf__steps=5,
    )  # fmt: skip
    assert np.isnan(carlini.distance).any()
    assert results.summarise([carlini]).attacks[0].median_distance is None
    # Nor where all were: it stops at the first class within epsilon.
    (fab,) = _evaluate(
        workdir, attacks=("fab_t",), survivors_only=True, fab_t__steps=3
    )  # fmt: skip
    assert not np.isnan(fab.distance).any()
    assert results.summarise([fab]).attacks[0].median_distance is None
    # After another FGSM it is another PGD.
    suite["fgsm__random_start"] = True
    assert _evaluate(workdir, **suite, survivors_only=True)[2].path != pgd.path


def test_a_suite_of_one_number_stands_beside_attacks_on_all(workdir):
    """Its attacks are shown the survivors of its own, whatever else was measured."""
    small = {"apgd_margin__steps": 5, "apgd_t_margin__steps": 5}
    own = [
        {f"{name}__epsilon": 0.1} for name in ("pgd", "apgd_margin", "apgd_t_margin")
    ]
    settings = small | own[0] | own[1] | own[2]
    made = _evaluate(workdir, attacks=("pgd", "fast"), **settings)
    pgd, first, last = made
    assert [each.whole for each in made] == [True, False, False]
    assert [each.suite for each in made] == [None, "fast", "fast"]
    assert first.identity["before"] == []
    assert last.identity["before"] == [measured.digest(first.identity)]
    assert (last.backward_passes[~first.worst_correct] == 0).all()
    assert (first.backward_passes[first.natural == first.labels] > 0).all()
    # One group, one summary: the suite's number is what its last attack leaves.
    summary = results.summarise(made)
    (suite,) = summary.suites
    assert (suite.name, suite.proportion) == ("fast", summary.attacks[2].worst)
    assert [name for name, _ in suite.attacks] == ["apgd_margin", "apgd_t_margin"]
    (threat,) = summary.worst
    worst = np.all([each.worst_correct for each in made], axis=0).mean()
    assert threat.proportion.accuracy == worst
    # The front door leaves the same images, and alone it is the same measurement.
    trained = advloss.load_run(workdir)
    split = examples.first(load_data(trained.config).test, len(pgd.labels))
    found = advloss.evaluate(
        trained, *split, epsilon=0.1, attacks="fast", steps=5, progress=False
    )
    np.testing.assert_array_equal(found.robust[0], last.worst_correct)
    alone = _evaluate(workdir, attacks=("fast",), **settings)
    assert [each.path for each in alone] == [first.path, last.path]
    # Without its first attack its number is not known.
    assert results.summarise([pgd, last]).suites == []


def test_a_suite_of_which_the_first_attack_leaves_nobody(workdir):
    suite = {f"{n}__epsilon": 0.9 for n in ("apgd", "apgd_t", "fab_t", "square")}
    made = _evaluate(
        workdir, attacks=("autoattack",), survivors_only=True, apgd__steps=5, **suite
    )
    assert [each.worst_correct.sum() for each in made] == [0, 0, 0, 0]
    assert made[0].backward_passes.any()
    assert not any(each.backward_passes.any() for each in made[1:])
    assert len(results.summarise(made).attacks) == 4


@pytest.mark.parametrize("survivors_only", [False, True])
def test_an_interrupted_attack_repeats_no_finished_batch(
    workdir, tmp_path, monkeypatch, survivors_only
):
    changes = {"survivors_only": survivors_only, "batch_size": 20, "pgd__steps": 25}
    whole = shutil.copytree(workdir, tmp_path / "whole")
    calls = []
    original = Mapped._one_batch

    def counted(self, *arguments):
        calls.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(Mapped, "_one_batch", counted)
    (expected,) = _evaluate(whole, **changes)
    needed = len(calls)
    calls.clear()
    with monkeypatch.context() as patch:
        patch.setattr(signals, "requested", lambda: len(calls) >= 9)
        with pytest.raises(Stopped, match="stopped in pgd; what is finished is saved"):
            _evaluate(workdir, **changes)
    (parts,) = (p for p in (workdir / results.FOLDER).iterdir() if p.is_dir())
    assert parts.name.startswith(f"{expected.path.stem}.")
    (found,) = _evaluate(workdir, **changes)
    # 110 images in batches of 20: the predictions of the natural ones are made again.
    assert len(calls) == needed + 6
    _equal(found, expected)
    assert not parts.exists()


def test_parts_of_other_code_are_thrown_away(workdir, monkeypatch):
    fgsm = {"attacks": ("fgsm",), "batch_size": 55}
    made = []

    def interrupted():
        with monkeypatch.context() as patch:
            patch.setattr(signals, "requested", lambda: True)
            with pytest.raises(Stopped):
                _evaluate(workdir, **fgsm)

    interrupted()
    original = Mapped._one_batch

    def counted(self, *arguments):
        made.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(Mapped, "_one_batch", counted)
    monkeypatch.setattr(environment, "code_digest", lambda: "edited")
    _evaluate(workdir, **fgsm)
    assert len(made) == 4  # Predictions, and the attack, of two batches.
    assert not [path for path in (workdir / results.FOLDER).iterdir() if path.is_dir()]


def test_parts_of_other_settings_are_not_taken(tmp_path):
    first = batches.Finished(tmp_path, "pgd", {"steps": 1})
    first.save("0", images=np.ones(3))
    again = batches.Finished(tmp_path, "pgd", {"steps": 1})
    np.testing.assert_array_equal(again.load("0")["images"], np.ones(3))
    other = batches.Finished(tmp_path, "pgd", {"steps": 2})
    assert other.load("0") is None
    path = again.folder / "0.npz"

    def is_refused():
        with pytest.warns(UserWarning, match=f"computed again: {path} is .*damaged"):
            return again.load("0") is None

    for content in (b"", b"PK", path.read_bytes()[:-30]):
        path.write_bytes(content)
        assert is_refused()
    again.save("0", images=np.ones(3))
    with np.load(path) as content:
        kept = dict(content)
    for changed in kept:
        for change in ({}, {changed: np.zeros(3)}):
            part = {name: kept[name] for name in kept if name != changed} | change
            np.savez(path, **part)
            assert is_refused(), changed
    for owner, name in ((again, "1-0"), (other, "0")):  # Copies of other parts.
        owner.save(name, images=np.ones(3))
        shutil.copy(owner.folder / f"{name}.npz", path)
        assert is_refused()
    other.discard("0")
    again.save("0", images=np.ones(3))
    again.discard("1-")
    assert again.load("1-0") is None
    assert again.load("0") is not None
    neighbour = batches.Finished(tmp_path, "pgd_l2", {})
    neighbour.save("0", images=np.ones(3))
    other.save("0", images=np.ones(3))
    again.clear()
    assert list(tmp_path.iterdir()) == [neighbour.folder]


def test_the_seconds_of_all_sessions_count(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(batches.time, "perf_counter", lambda: now[0])

    def session(work):
        finished = batches.Finished(tmp_path, "pgd", {})
        for name, seconds in work:
            if finished.load(name) is None:
                now[0] += seconds
                finished.save(name, x=np.ones(1))
        return finished

    assert session([("0", 3.0)]).earlier == 0
    assert session([("0", 3.0), ("1", 4.0)]).earlier == 3
    last = session([("0", 3.0), ("1", 4.0)])
    assert last.earlier == 7
    # What is done again is spent again.
    (last.folder / "0.npz").unlink()
    assert session([("0", 3.0), ("1", 4.0)]).earlier == 7
    now[0] += 5
    last.save("1", x=np.ones(1))
    assert session([("0", 0.0), ("1", 0.0)]).earlier == 7 + 3 + 5


def test_a_moved_folder_is_not_written_into(workdir, monkeypatch, tmp_path):
    """Nothing is made where the work directory was."""
    original, calls = Mapped._one_batch, []

    def moved(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            workdir.rename(tmp_path / "elsewhere")
        return original(self, *arguments)

    monkeypatch.setattr(Mapped, "_one_batch", moved)
    with pytest.raises(InputError, match=r"was moved or deleted"):
        _evaluate(workdir, attacks=("fgsm",), batch_size=55)
    assert not workdir.exists()


def _with(path, **changes):
    """The same file with other arrays, or metadata where these are a dict."""
    arrays = files.read_arrays(path)
    for name, change in changes.items():
        if name == "metadata" and isinstance(change, dict):
            text = arrays[name].tobytes().decode()
            merged = {**json.loads(text), **change}
            change = np.frombuffer(json.dumps(merged).encode(), np.uint8)
        arrays[name] = change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    files.write_arrays(path, arrays)


def _edit(path, **changes):
    """As somebody's own program would, which knows of no digest."""
    with np.load(path) as content:
        arrays = {**content, **changes}
    np.savez(path, **arrays)


def _long(path):
    _with(path, labels=np.zeros(111, np.int32))


DAMAGE = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no zip"),
    "flipped": lambda path: path.write_bytes(
        path.read_bytes().replace(b"attacked_images.npy", b"attacked_omages.npy")
    ),
    "no labels": lambda path: _with(path, labels=None),
    "no metadata": lambda path: _with(path, metadata=None),
    "no images": lambda path: _with(path, attacked_images=None),
    "too many": _long,
    "text for numbers": lambda path: _with(path, natural=np.full(110, "a")),
    "floats for classes": lambda path: _with(path, natural=np.zeros(110)),
    "accuracy of 500 %": lambda path: _with(path, worst_correct=np.full(110, 5)),
    "negative class": lambda path: _with(path, labels=np.full(110, -1, np.int32)),
    "negative distance": lambda path: _with(path, distance=-np.ones(110)),
    "robust though wrong": lambda path: _with(
        path, worst_correct=np.ones(110, bool), natural=np.full(110, 99)
    ),
    "worst above final": lambda path: _with(
        path, worst_correct=np.ones(110, bool), correct=np.zeros(110, bool)
    ),
    "images of another rank": lambda path: _with(path, natural_images=np.zeros(100)),
    "images of bytes": lambda path: _with(
        path, attacked_images=np.zeros((110, 8, 8, 1), np.uint8)
    ),
    "images of two shapes": lambda path: _with(
        path, attacked_images=np.zeros((110, 9, 9, 1), np.float32)
    ),
    "further away than epsilon": lambda path: _with(path, distance=np.full(110, 0.2)),
    "edited": lambda path: _edit(path, correct=np.ones(110, bool)),
    "edited images": lambda path: _edit(
        path, attacked_images=np.zeros((110, 8, 8, 1), np.float32)
    ),
    "no digest": lambda path: np.savez(path, **files.read_arrays(path)),
    "images not in [0, 1]": lambda path: _with(
        path, attacked_images=np.full((110, 8, 8, 1), np.nan, np.float32)
    ),
    "metadata no JSON": lambda path: _with(path, metadata=np.zeros(9, np.uint8)),
    "metadata no object": lambda path: _with(
        path, metadata=np.frombuffer(b"[1]", np.uint8)
    ),
    "metadata nested": lambda path: _with(
        path, metadata=np.frombuffer(b"[" * 100_000, np.uint8)
    ),
    "identity of nothing": lambda path: _with(path, metadata={"identity": None}),
    "identity of another": lambda path: _with(path, metadata={"identity": {"a": 1}}),
    "seconds no number": lambda path: _with(path, metadata={"seconds": "long"}),
    "seconds negative": lambda path: _with(path, metadata={"seconds": -1.0}),
    "no environment": lambda path: _with(path, metadata={"environment": 3}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_results_are_left_out(workdir, damage):
    DAMAGE[damage](results.load(workdir)[0].path)
    with pytest.warns(UserWarning, match=r"left out: .*pgd-.*npz is .*damaged"):
        assert results.load(workdir) == []


@pytest.mark.parametrize("damage", ["cut", "edited images", "identity of another"])
def test_damaged_results_are_measured_again(workdir, damage):
    """Of each kind one: no zip, not what was written, of another network."""
    before = results.load(workdir)[0]
    images = measured.load_images(before)
    DAMAGE[damage](before.path)
    with pytest.warns(UserWarning, match=r"measured again: .*pgd-.*npz is .*damaged"):
        (found,) = _evaluate(workdir)
    for name in measured._EXAMPLES:
        np.testing.assert_array_equal(getattr(found, name), getattr(before, name))
    np.testing.assert_array_equal(measured.load_images(found).attacked, images.attacked)
    assert len(results.load(workdir)) == 1


def test_a_copy_under_another_name_does_not_count(workdir):
    path = results.load(workdir)[0].path
    shutil.copy(path, path.with_name("pgd-0123456789ab.npz"))
    shutil.copy(path, path.with_name(path.name.replace("pgd", "fgsm")))
    shutil.copy(path, path.with_name("copy of pgd.npz"))
    (path.parent / "pgd-0123456789ac.npz").mkdir()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (found,) = results.load(workdir)
    assert found.path == path
    assert len(told) == 3


def test_a_clock_before_1970_loses_nothing(workdir, monkeypatch):
    monkeypatch.setattr(run, "time", types.SimpleNamespace(time=lambda: -1e6))
    (fgsm,) = _evaluate(workdir, attacks=("fgsm",))
    assert fgsm.finished == -1e6
    assert [each.attack for each in results.load(workdir)] == ["fgsm", "pgd"]


def test_other_labels_are_measured_again(workdir):
    """A file of this name with the labels of other data."""
    before = results.load(workdir)[0]
    _with(before.path, labels=before.labels[::-1], worst_correct=np.zeros(110, bool))
    with pytest.warns(UserWarning, match=r"measured again: .*labels are not those"):
        (found,) = _evaluate(workdir)
    np.testing.assert_array_equal(found.labels, before.labels)


def test_of_another_network_nothing_counts(workdir, monkeypatch):
    """Someone put another network's checkpoint there: the numbers are not its own."""
    (before,) = results.load(workdir)
    monkeypatch.setattr(results, "network_digest", lambda _: "another's")
    assert results.load(workdir) == []
    assert before.path.exists()


def test_the_network_is_that_of_its_checkpoint(trained):
    (found,) = results.load(trained)
    assert found.identity["parameters"] == results.network_digest(trained)


def test_other_images_are_refused(workdir, digits_dir, tmp_path):
    """As many, from another folder."""
    copy = shutil.copytree(digits_dir, tmp_path / "digits")
    config = configs.load_config(workdir)
    config.data.dir = str(copy)
    before = _files(workdir)
    run.evaluate_run(config, workdir, jax.devices()[:1])  # The same: nothing to do.
    path = copy / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-64] + bytes(64))
    with pytest.raises(InputError, match=r"testing images or labels are not those"):
        run.evaluate_run(config, workdir, jax.devices()[:1])
    assert _files(workdir) == before


def test_a_run_that_is_not_finished_is_refused(workdir):
    config = to_evaluate(workdir)
    config.train.steps = 120
    with pytest.raises(InputError):
        run.evaluate_run(config, workdir, jax.devices()[:1])
    with pytest.raises(InputError, match=r"holds no run|no checkpoint"):
        _evaluate(workdir.parent)


def test_devices_must_divide_the_batch(workdir):
    config = to_evaluate(workdir, batch_size=33)
    with pytest.raises(InputError, match=r"config.evaluate.batch_size=33"):
        run.evaluate_run(config, workdir, jax.devices()[:2])


def test_what_never_was_evaluated_has_no_results(workdir, tmp_path):
    shutil.rmtree(workdir / results.FOLDER)
    assert results.load(workdir) == []
    assert results.load(tmp_path / "nothing") == []


@pytest.mark.parametrize("how", ["a file", "a link to nothing"])
def test_results_that_can_not_be_reached_are_not_said_to_be_none(workdir, how):
    folder = workdir / results.FOLDER
    shutil.rmtree(folder)
    folder.write_text("x") if how == "a file" else folder.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"evaluation is not a folder"):
        results.load(workdir)
    row = report.load_row(workdir)
    assert (row.status, row.summary) == ("damaged: evaluation", None)


def test_paths_with_special_characters(workdir):
    strange = workdir.with_name("lmcl [m=0.3] *?")
    workdir.rename(strange)
    before = time.time()
    pgd, fgsm = _evaluate(strange, attacks=("pgd", "fgsm"))
    assert pgd.finished < before < fgsm.finished
    assert len(results.load(strange)) == 2


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


@pytest.mark.slow
def test_accuracy_under_attack_is_the_same_at_lower_precision(small_config, tmp_path):
    """Trained and attacked in bfloat16, a network is as robust as in float32."""
    small_config.train.steps = small_config.train.checkpoint_every = 200
    small_config.train.chunk_steps = 200
    small_config.train.attack.epsilon = small_config.train.attack.step_size = 0.1
    small_config.evaluate.pgd.epsilon = 0.1
    small_config.evaluate.pgd.steps = 20
    devices, found = jax.devices()[:1], {}
    for precision in ("float32", "tensorfloat32", "bfloat16"):
        small_config.model.precision = precision
        config = configs.resolve(small_config)
        train_runs([config], [tmp_path / precision], devices)
        (found[precision],) = run.evaluate_run(config, tmp_path / precision, devices)
    # A CPU has no tensorfloat32.
    full, lower = found["float32"].correct, found["tensorfloat32"].correct
    np.testing.assert_array_equal(lower, full)
    _, low, high = proportion(full)
    assert 0.3 < low < found["bfloat16"].correct.mean() < high


def test_a_key_of_an_attack_that_is_not_asked_for_is_said():
    config = configs.default()
    config.evaluate.attacks = ("fast", "pgd")
    keys = (
        "evaluate.apgd_margin.steps",
        "evaluate.pgd.steps",
        "evaluate.seed",
        "data.dir",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        idle.warn_in_evaluation([config], keys)
    said = r"config.evaluate.fgsm.epsilon changes nothing: fgsm is not in .*=fast,pgd"
    with pytest.warns(UserWarning, match=said):
        idle.warn_in_evaluation([config], ["evaluate.fgsm.epsilon"])
