"""Training in a work directory: interrupted, continued, refused."""

import errno
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest
import tensorstore
from conftest import ROOT, bits, small, stop_after

import advloss
from advloss import config as configs
from advloss import losses
from advloss.errors import DivergedError, InputError, Stopped
from advloss.evaluation.run import evaluate_run
from advloss.runtime import checkpoints, metrics, signals
from advloss.training.run import train_runs
from advloss.training.workdir import restore


@pytest.fixture
def config(small_config):
    return configs.resolve(small_config)


@pytest.fixture(scope="module")
def made(digits_dir, tmp_path_factory):
    """The folder and the state of that run, finished: to be copied."""
    workdir = tmp_path_factory.mktemp("made") / "run"
    return workdir, _train(configs.resolve(small(digits_dir)), workdir)


@pytest.fixture
def whole(made):
    """Its state at the end."""
    return made[1]


@pytest.fixture
def finished(made, tmp_path):
    """A copy of its folder."""
    return shutil.copytree(made[0], tmp_path / "finished")


def _train(config, workdir):
    train_runs([config], [workdir], jax.devices()[:1])
    return _state(config, workdir)


def _state(config, workdir, step=None):
    with checkpoints.open_folder(workdir) as manager:
        return restore(manager, config, step=step)


def test_a_continued_run_has_the_same_bits(
    config, tmp_path, monkeypatch, whole, finished
):
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            _train(config, tmp_path / "parts")
    stopped = _state(config, tmp_path / "parts")
    continued = _train(config, tmp_path / "parts")
    assert bits(whole) == bits(continued)
    # Nor did later chunks write into an earlier checkpoint.
    assert bits(_state(config, finished, step=4)) == bits(stopped)
    rows = [metrics.read(folder) for folder in (finished, tmp_path / "parts")]
    for row in rows[0] + rows[1]:
        del row["steps_per_second"]
    assert [row["step"] for row in rows[0]] == [2, 4, 6, 8]
    assert rows[0] == rows[1]


def test_a_finished_run_is_left_as_it_is(config, whole, finished):
    assert bits(whole) == bits(_train(config, finished))
    assert len(metrics.read(finished)) == 4


def _command(config, workdir, **changes) -> list[str]:
    """That trains the config, with changes of `train`, on one device."""
    with config.unlocked():
        config.train.update(changes)
    line = configs.command_line("train", config, workdir)
    return [sys.executable, *shlex.split(line)[1:], "--devices=1"]


@pytest.mark.slow
def test_a_full_disk_keeps_what_is_good(config, whole, finished):
    """No file may grow beyond what a checkpoint takes: the system refuses, as when
    there is no space."""
    # As it was four steps earlier.
    shutil.rmtree(finished / "checkpoints" / "8")
    process = subprocess.Popen(
        _command(config, finished), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    _, said = process.communicate()
    assert process.returncode == 2
    lines = said.replace("\r", "\n").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and "can't be written: File too large" in errors[0]
    assert "Traceback" not in said
    assert checkpoints.steps(finished) == [4]
    assert bits(whole) == bits(_train(config, finished))


def test_a_checkpoint_of_absurd_size_is_refused(config, whole, finished):
    """Before there is memory for it: the process would end without a word."""
    files = finished / "checkpoints" / "8" / "state"
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{files}/"})
    store = store.result()
    key = next(k for k in store.list().result() if b"bias/.zarray" in k)
    about = json.loads(store.read(key).result().value)
    about["shape"] = about["chunks"] = [10**13]
    store.write(key, json.dumps(about)).result()
    with pytest.raises(InputError, match=r"8 is damaged .* claims 4\d{13} bytes"):
        advloss.load_run(finished)
    with pytest.warns(UserWarning, match=r"claims .*damaged, going on from step 4"):
        assert bits(whole) == bits(_train(config, finished))


@pytest.mark.parametrize(
    "how",
    ["truncated", "one bit", "no digest", "its config's bit", "its data's bit"],
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    config, whole, finished, how
):
    newest = finished / "checkpoints" / "8"
    files = [path for path in (newest / "state").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    if how == "truncated":
        largest.write_bytes(content[: len(content) // 2])
    elif how == "one bit":
        content[len(content) // 2] ^= 1
        largest.write_bytes(content)
    elif how == "no digest":
        (newest / "digest" / "metadata").write_text("{")
    else:
        name, old = "config", '"seed": '
        if "data" in how:
            name, old = "digest", '"train": "'
        text = (newest / name / "metadata").read_text()
        place = text.rindex(old) + len(old)
        flipped = chr(ord(text[place]) ^ 1)
        text = text[:place] + flipped + text[place + 1 :]
        (newest / name / "metadata").write_text(text)
    with pytest.warns(UserWarning, match=r"8 is damaged.*going on from step 4"):
        continued = _train(config, finished)
    assert bits(whole) == bits(continued)
    assert [path.name for path in (finished / "damaged").iterdir()] == ["8"]


def test_asked_to_end_it_saves_and_goes_on_with_the_same_bits(
    config, tmp_path, monkeypatch, whole
):
    with monkeypatch.context() as patch:
        patch.setattr(signals, "requested", lambda: True)
        with pytest.raises(Stopped, match="stopped at step 2 of 8, saved"):
            _train(config, tmp_path / "parts")
        assert checkpoints.steps(tmp_path / "parts") == [2]
        with pytest.raises(Stopped, match="stopped at step 4 of 8, saved"):
            _train(config, tmp_path / "parts")
    assert bits(whole) == bits(_train(config, tmp_path / "parts"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_launcher_in_order(config, tmp_path, number):
    command = _command(config, tmp_path / "run", steps=100_000)
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not metrics.read(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(InputError, match=f"is in use by process {process.pid} on "):
        _train(config, tmp_path / "run")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    step = checkpoints.steps(tmp_path / "run")[-1]
    line = f"stopped at step {step} of 100000, saved: the same command continues"
    assert said.strip().splitlines()[-1] == line


def test_another_config_is_refused_and_nothing_is_overwritten(config, finished):
    before = _contents(finished)
    with config.unlocked():
        config.train.attack.epsilon = 0.2
    with pytest.raises(
        InputError, match=r"train.attack.epsilon: 0.3 there, 0.2 here.*--workdir"
    ):
        _train(config, finished)
    assert _contents(finished) == before


def _contents(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_checkpoint_of_another_config_is_refused(config, finished):
    """Also where someone replaced config.json."""
    with config.unlocked():
        config.seed = 5
    (finished / "config.json").write_text(configs.to_json(config))
    with pytest.raises(InputError, match="seed: 0 there, 5 here"):
        _train(config, finished)


def test_a_folder_with_other_things_is_refused(config, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not empty and holds no run"):
        _train(config, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_missing_and_unfinished_runs(config, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="holds no run"):
        advloss.load_run(tmp_path / "nowhere")
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        _train(config, tmp_path / "half")
    with pytest.raises(InputError, match="trained for 4 of 8 steps"):
        evaluate_run(config, tmp_path / "half", jax.devices()[:1])


def test_a_loss_that_is_no_longer_finite_stops_the_run(config, tmp_path):
    with config.unlocked():
        config.train.learning_rate = 1e30
    with pytest.raises(
        DivergedError, match=r"at step [1-8] of 8 .*learning_rate=1e\+30"
    ):
        _train(config, tmp_path)
    assert not checkpoints.steps(tmp_path)


def test_a_run_does_not_go_on_with_other_data(config, tmp_path, monkeypatch):
    """Neither from another folder nor where files were replaced in place."""
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        _train(config, tmp_path / "run")
    before = _contents(tmp_path / "run")
    _use_other_data(config, tmp_path)
    with pytest.raises(InputError, match=r"data.dir=.*other.*training images or label"):
        _train(config, tmp_path / "run")
    assert _contents(tmp_path / "run") == before


def _use_other_data(config, folder):
    """A copy of the digits with one other label."""
    other = shutil.copytree(config.data.dir, folder / "other")
    labels = other / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[-1] = (content[-1] + 1) % 10
    labels.write_bytes(content)
    with config.unlocked():
        config.data.dir = str(other)


def test_a_checkpoint_of_a_run_on_other_data_is_refused(config, tmp_path, finished):
    """Of the same config: only its data tell it apart."""
    others = config.copy_and_resolve_references()
    _use_other_data(others, tmp_path)
    _train(others, tmp_path / "others")
    newest = finished / "checkpoints" / "8"
    shutil.rmtree(newest)
    shutil.copytree(tmp_path / "others" / "checkpoints" / "8", newest)
    said = (
        r"checkpoints/8 was trained on other data than .*finished/data.json notes: if "
        r"it is another run's, take it out; if data.json was edited, delete that"
    )
    for use in (
        lambda: _train(config, finished),
        lambda: evaluate_run(config, finished, jax.devices()[:1]),
        lambda: advloss.load_run(finished),
    ):
        with pytest.raises(InputError, match=said):
            use()
    (finished / "data.json").unlink()
    with pytest.raises(InputError, match=r"the training images or labels are not"):
        _train(config, finished)


def test_an_edited_note_of_data_is_told_from_other_data(config, finished):
    path = finished / "data.json"
    noted = path.read_text()
    path.write_text(json.dumps({"train": "0" * 64, "test": "0" * 64}))
    with pytest.raises(InputError, match=r"data.json was edited: .* delete it: the"):
        _train(config, finished)
    path.unlink()
    _train(config, finished)
    assert path.read_text() == noted


def _forget_data(workdir):
    """Checkpoints as they were before they held the digests of the data."""
    for path in (workdir / "checkpoints").glob("*/digest/metadata"):
        written = json.loads(path.read_text())
        del written["data"], written["origin"]
        path.write_text(json.dumps(written))


def _meanwhile(monkeypatch, workdir, act):
    """What somebody does to a work directory that is trained, after a checkpoint."""
    original = metrics.Writer.write

    def write(self, step, values):
        original(self, step, values)
        if step == 6:
            while not checkpoints.steps(workdir):  # It is written in the background.
                time.sleep(0.01)
            act()

    monkeypatch.setattr(metrics.Writer, "write", write)


@pytest.mark.filterwarnings("ignore:metrics can't be written")
@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_a_folder_that_goes_away_ends_the_run(config, tmp_path, monkeypatch, how):
    """Training does not go on into a ghost, and does not say that it continues."""
    workdir = tmp_path / "run"
    move = {
        "moved": lambda: workdir.rename(tmp_path / "moved"),
        "deleted": lambda: shutil.rmtree(workdir),
    }
    _meanwhile(monkeypatch, workdir, move[how])
    with pytest.raises(InputError, match=r"--workdir=.*run was moved or deleted"):
        _train(config, workdir)
    assert not (workdir / "checkpoints" / "8").exists()
    if how == "moved":
        monkeypatch.undo()
        assert checkpoints.steps(tmp_path / "moved") == [4]
        _train(config, tmp_path / "moved")
        assert checkpoints.steps(tmp_path / "moved") == [4, 8]


def test_a_name_with_brackets_is_a_name(config, tmp_path, whole):
    """What a sweep or a user may well call a run."""
    assert bits(whole) == bits(_train(config, tmp_path / "lmcl[m=0.3]*?"))
    assert bits(whole) == bits(_state(config, tmp_path / "lmcl[m=0.3]*?"))
    with pytest.raises(InputError, match=r"--workdir=.*a\\b is not valid"):
        _train(config, tmp_path / "a\\b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lmcl[m=0.3]*?"]


def test_a_finished_run_is_held_to_its_data_too(config, whole, finished):
    _forget_data(finished)
    assert bits(whole) == bits(_train(config, finished))
    (finished / "data.json").unlink()
    with pytest.raises(InputError, match=r"data.json is missing: .*put it back"):
        _train(config, finished)
    with pytest.raises(InputError, match=r"data.json is missing: .*put it back"):
        evaluate_run(config, finished, jax.devices()[:1])


@pytest.mark.parametrize("name", ["config.json", "data.json"])
def test_a_file_that_is_removed_while_it_trains(
    config, tmp_path, monkeypatch, whole, name
):
    with monkeypatch.context() as patch:
        _meanwhile(patch, tmp_path / "run", (tmp_path / "run" / name).unlink)
        assert bits(whole) == bits(_train(config, tmp_path / "run"))
    found = configs.load_config(tmp_path / "run")
    evaluate_run(found, tmp_path / "run", jax.devices()[:1])


def test_a_lock_that_is_removed_ends_the_run(config, tmp_path, monkeypatch, whole):
    with monkeypatch.context() as patch:
        _meanwhile(patch, tmp_path / "run", (tmp_path / "run" / ".lock").unlink)
        with pytest.raises(InputError, match=r"run/.lock was removed .* continues"):
            _train(config, tmp_path / "run")
    assert checkpoints.steps(tmp_path / "run") == [4]
    assert bits(whole) == bits(_train(config, tmp_path / "run"))


def test_what_a_checkpoint_knows_is_written_again(config, whole, finished):
    names = ("config.json", "data.json")
    before = {name: (finished / name).read_text() for name in names}
    for name in names:
        (finished / name).unlink()
    others = config.copy_and_resolve_references()
    with others.unlocked():
        others.seed = 5
    with pytest.raises(InputError, match="seed: 0 there, 5 here"):
        _train(others, finished)
    assert bits(whole) == bits(_train(config, finished))
    assert {name: (finished / name).read_text() for name in names} == before


def test_a_run_that_lost_its_checkpoints_says_that_it_begins_again(
    config, whole, finished
):
    for left in ([], ["checkpoints"]):
        shutil.rmtree(finished / "checkpoints")
        [(finished / name).mkdir() for name in left]
        with pytest.warns(UserWarning, match="metrics of step 8 and no checkpoint: "):
            assert bits(whole) == bits(_train(config, finished))


def test_a_finished_run_takes_new_settings_of_its_evaluation(config, whole, finished):
    with config.unlocked():
        config.evaluate.pgd.steps = 5
    assert bits(whole) == bits(_train(config, finished))
    assert configs.load_config(finished).evaluate.pgd.steps == 5


def _put(path, text):
    path.unlink() if path.is_file() else shutil.rmtree(path)
    path.symlink_to("nowhere") if text is None else path.write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("checkpoints", "", r"checkpoints can't be read \(Not a directory\): it must"),
        ("checkpoints", None, r"checkpoints can't be read \(No such file .*it must be"),
        ("data.json", "{}", r"data.json is damaged: it holds no digests.*; delete it"),
        ("data.json", "[]", r"data.json is damaged: it holds no JSON obj.*; delete it"),
        ("data.json", '{"train": 1, "test": ""}', r"no digests of data; delete it: "),
        (
            "data.json",
            "",
            r"data.json is damaged: Expecting value.*; delete it: the same",
        ),
        (
            "config.json",
            "",
            r"config.json is damaged: Expecting.*; delete it: the comm",
        ),
        (
            "config.json",
            "[]",
            r"config.json is damaged: it holds.*; delete it: the comm",
        ),
    ],
)
def test_what_is_not_what_its_name_says(config, finished, name, text, said):
    _put(finished / name, text)
    before = _contents(finished)
    for use in (
        lambda: _train(config, finished),
        lambda: evaluate_run(config, finished, jax.devices()[:1]),
        lambda: advloss.load_run(finished),
    ):
        with pytest.raises(InputError, match=said):
            use()
    assert _contents(finished) == before


@pytest.mark.parametrize("refusal", [errno.EACCES, errno.EMFILE])
def test_a_checkpoint_that_may_not_be_read_is_not_put_aside(
    config, monkeypatch, finished, refusal
):
    words = os.strerror(refusal)

    def read(*_, **__):
        raise ValueError(f"tensorstore failed: {words}")

    monkeypatch.setattr(checkpoints, "_read", read)
    with pytest.raises(InputError, match=f"checkpoints/8 can't be read: {words}"):
        _train(config, finished)
    assert checkpoints.steps(finished) == [4, 8]


def test_checkpoints_of_others_are_left_as_they_are(config, tmp_path):
    theirs = tmp_path / "checkpoints" / "3"
    theirs.mkdir(parents=True)
    (theirs / "model.pt").write_text("precious")
    with pytest.raises(InputError, match="not empty and holds no run"):
        _train(config, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [theirs / "model.pt"]


def test_a_file_is_no_checkpoint(config, finished):
    """It must not pass for the last one."""
    shutil.rmtree(finished / "checkpoints" / "8")
    (finished / "checkpoints" / "8").touch()
    assert checkpoints.steps(finished) == [4]
    with pytest.raises(InputError, match="trained for 4 of 8 steps"):
        evaluate_run(config, finished, jax.devices()[:1])


def _interrupted(*_):
    raise KeyboardInterrupt


def test_code_of_one_s_own_that_changes_is_told(small_config, tmp_path, monkeypatch):
    small_config.loss.name = "hinge"
    config = configs.resolve(small_config)

    def enter(scale):
        def mine(logits, labels, *, margin):
            return scale * losses.hinge(logits, labels, margin=margin)

        mine.__module__ = "mine"
        entry = losses.LOSSES["hinge"]._replace(function=mine)
        monkeypatch.setitem(losses.LOSSES, "hinge", entry)

    enter(3.0)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            _train(config, tmp_path)
    enter(1.0)  # Nothing is left of what it was.
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            _train(config, tmp_path)
    enter(1.0)  # Another object that computes the same.
    _train(config, tmp_path)
    enter(2.0)
    with pytest.warns(UserWarning, match="computes something else than"):
        _train(config, tmp_path)  # It stays what it was.
    shutil.rmtree(tmp_path / "checkpoints" / "8")
    for _ in range(2):  # Two programs have trained it: that does not pass.
        with pytest.warns(UserWarning, match="or a part of it"):
            _train(config, tmp_path)
    made_with = json.loads((tmp_path / "environment.json").read_text())
    made_with["packages"]["jax"] = "0.1"
    (tmp_path / "environment.json").write_text(json.dumps(made_with))
    _train(config, tmp_path)
