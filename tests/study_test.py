"""A study in its folder: what is there is used again, what is missing is made.

Its report is in study_report_test.py.
"""

import shutil

import jax
import numpy as np
import pytest
from made_runs import make_run

from advloss import config as configs
from advloss import report
from advloss.cli import flags, members, study
from advloss.errors import InputError, Stopped
from advloss.evaluation import results
from advloss.evaluation.changes import load_changes
from advloss.runtime import lock, signals
from configs import paper

NAMES = ("undefended", "softmax", "lmcl_m0.3")


@pytest.fixture(scope="module")
def runs(digits_dir):
    found = []
    for name in NAMES:
        config = paper.network(name, "smoke")
        config.data.source, config.data.dir = "idx", str(digits_dir)
        config.train.batch_size = 20
        config.model.name = "mlp"
        config.evaluate.examples, config.evaluate.batch_size = 40, 40
        found.append(configs.resolve(config))
    return found


@pytest.fixture
def quick(runs):
    """The same, attacked by noise alone: for what is no matter of attacks."""
    found = [config.copy_and_resolve_references() for config in runs]
    for config in found:
        config.evaluate.attacks = ("noise",)
    return found


@pytest.fixture(scope="module")
def folder(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    study.run(runs, folder, jax.devices()[:1])
    return folder


def _contents(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != lock.NAME)
    return {path: path.stat().st_mtime_ns for path in files}


def test_every_network_is_trained_attacked_and_looked_into(folder, runs):
    for config in runs:
        found = results.load(study.workdir_of(config, folder))
        assert [each.attack for each in found] == [
            "pgd", "noise", "apgd_margin", "apgd_t_margin", "fmn"
        ]  # fmt: skip
        # Of survivors alone it can't be said what an attack moves.
        whole = [each for each in found if each.whole]
        assert len(whole) == 3
        for each in whole:
            assert load_changes(each)["rank_change"].shape == (40,)
        assert len(list(found[0].workdir.glob("changes/*"))) == 3


def test_a_run_that_diverges_holds_up_no_other(quick, tmp_path):
    bad, good = quick[1:]
    bad.train.learning_rate = 1e30
    bad, good = configs.resolve(bad), configs.resolve(good)
    (error,) = study.run([bad, good], tmp_path, jax.devices()[:1])
    assert "learning_rate=1e+30" in str(error)
    assert results.load(study.workdir_of(good, tmp_path))
    assert not results.load(study.workdir_of(bad, tmp_path))


def test_a_finished_study_is_left_as_it_is(folder, runs):
    before = _contents(folder)
    study.run(runs, folder, jax.devices()[:1])
    assert _contents(folder) == before


@pytest.mark.parametrize("key", ["evaluate.batch_size", "train.batch_size"])
def test_devices_that_do_not_divide_are_told_before_training(runs, tmp_path, key):
    config = runs[0].copy_and_resolve_references()
    config.update_from_flattened_dict({key: 41})
    with pytest.raises(InputError, match=rf"config.{key}=41 is not valid.* 2 devices"):
        study.run([config], tmp_path / "study", jax.devices()[:2])
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("what", ["a file", "other things", "another run", "no data"])
def test_what_would_end_a_study_is_told_before_training(runs, tmp_path, what):
    """The second network's folder or data; it is not trained with the first."""
    first, second = (config.copy_and_resolve_references() for config in runs[:2])
    workdir, said = study.workdir_of(second, tmp_path / "study"), "softmax-seed0 is not"
    workdir.parent.mkdir()
    if what == "a file":
        workdir.write_text("x")
    elif what == "other things":
        workdir.mkdir()
        (workdir / "thesis.tex").write_text("precious")
    elif what == "another run":
        make_run(workdir, "softmax", changes={"loss.name": "hinge"})
        said = "softmax-seed0 belongs to another config"
    else:
        second.data.dir, said = str(tmp_path / "nowhere"), "nowhere' is not a folder"
    before = _contents(tmp_path)
    with pytest.raises(InputError, match=said):
        study.run([first, second], tmp_path / "study", jax.devices()[:1])
    assert _contents(tmp_path) == before


def _student(config, teacher):
    config = config.copy_and_resolve_references()
    config.name, config.defence.teacher = "student", str(teacher)
    config.defence.name, config.defence.beta = "distillation", None
    config.defence.temperature = 20.0
    return configs.resolve(config)


def test_a_teacher_that_is_not_there_is_told_before_training(runs, tmp_path):
    student = _student(runs[1], tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config.defence.teacher=.*nowhere holds no "):
        study.run([runs[1], student], tmp_path / "study", jax.devices()[:1])
    assert not (tmp_path / "study").exists()


def test_a_teacher_may_be_trained_in_the_study_before_its_student(quick, tmp_path):
    teacher = quick[1]
    student = _student(teacher, study.workdir_of(teacher, tmp_path))
    with pytest.raises(InputError, match=r"config.defence.teacher=.*holds no run"):
        study.run([student, teacher], tmp_path, jax.devices()[:1])
    with pytest.warns(UserWarning, match=r"at temperature 1, and .*temperature=20: "):
        study.run([teacher, student], tmp_path, jax.devices()[:1])
    assert results.load(study.workdir_of(student, tmp_path))


def test_a_teacher_that_diverges_holds_up_no_other(quick, tmp_path):
    """They are trained together, as their students are."""
    good = _student(quick[1], "")
    bad = good.copy_and_resolve_references()
    bad.name, bad.train.learning_rate = "bad", 1e30
    (error,) = study.run([bad, good], tmp_path, jax.devices()[:2])
    assert "learning_rate=1e+30" in str(error)
    assert results.load(study.workdir_of(good, tmp_path))
    assert not results.load(study.workdir_of(bad, tmp_path))


def test_the_place_of_the_report_is_held_to_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "run", lambda *_: pytest.fail("it is trained"))
    monkeypatch.setattr(flags, "devices", lambda given, *sizes: jax.devices()[:1])
    (tmp_path / "report").write_text("x")
    arguments = ["--config=configs/lmcl_sweep.py", f"--workdir={tmp_path}"]
    given = flags.parse(study.FLAGS, ["advloss", "sweep"], arguments)
    with pytest.raises(InputError, match=r"--workdir=.*/report is not a folder"):
        study.main(given)


def test_what_is_missing_is_made_again(folder, runs, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    kept, lost = (study.workdir_of(config, copy) for config in runs[:2])
    for path in [*lost.glob("evaluation/pgd-*"), *lost.glob("changes/*")]:
        path.unlink()
    before = _contents(kept)
    study.run(runs, copy, jax.devices()[:1])
    assert _contents(kept) == before
    again, once = (
        {m.attack: load_changes(m) for m in results.load(workdir) if m.whole}
        for workdir in (lost, study.workdir_of(runs[1], folder))
    )
    for name in ("rank_change", "layer_fc3"):
        for attack in ("pgd", "noise"):
            np.testing.assert_array_equal(again[attack][name], once[attack][name])


def test_asked_to_end_it_stops_between_two_networks(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "train_runs", lambda *arguments: signals.request())
    monkeypatch.setattr(signals, "requested", lambda: True)
    with pytest.raises(Stopped, match="between two networks"):
        study.run(runs, tmp_path, jax.devices()[:1])


@pytest.mark.parametrize("key", ["parts", "networks"])
@pytest.mark.parametrize("value", [None, 3, [["a"]], {"a": 1}, ("a", None)])
def test_a_study_of_other_types_is_refused(key, value):
    config = paper.get_config("smoke")
    del config[key]
    config[key] = value
    with pytest.raises(InputError, match=rf"config.{key}=.* is not valid"):
        members.networks(config, tuple(report.PARTS))


@pytest.mark.parametrize(
    ("config", "run", "said"),
    [
        ("configs/table2.py:smoke", None, "no such run"),
        ("configs/lmcl_sweep.py", None, "no such run"),
        ("configs/table2.py:smoke", "hinge-seed0", "damaged: holds another run"),
        ("configs/lmcl_sweep.py", "lmcl_margin0.1-seed0", "damaged: holds another run"),
    ],
)
def test_only_a_report_trains_nothing(tmp_path, monkeypatch, capsys, config, run, said):
    if run:
        make_run(tmp_path / run, "softmax")
    monkeypatch.setattr(flags, "devices", lambda given, *sizes: jax.devices()[:1])
    monkeypatch.setattr(flags, "end_on_signals", lambda: None)
    arguments = [f"--config={config}", f"--workdir={tmp_path}", "--report_only"]
    given = flags.parse(study.FLAGS, ["advloss", "study"], arguments)
    study.main(given)
    assert {path.name for path in tmp_path.iterdir()} == {"report", run} - {None}
    assert said in " ".join(capsys.readouterr().out.split())
