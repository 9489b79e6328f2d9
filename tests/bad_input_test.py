"""Wrong configs, flags and files: one line that says what is valid, nothing touched.

Every case is a real launcher in a process of its own, started from a server that has
imported the library, so that dozens take seconds.
"""

import multiprocessing
import os
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_idx

TRAIN = ("train", "--config=configs/default.py", "--devices=1")
# (what is changed, what the line must say)
CONFIG_CASES = [
    ("name=", r"config.name='' .*1 to 40 printable"),
    ("name=../../x", r"config.name='../../x' .*without /"),
    ("name=.x", r"config.name='.x' .*no dot"),
    ("seed=-1", r"config.seed=-1 .*whole number >= 0"),
    ("seed=one", r"seed.*one"),
    ("loss.name=softmaxx", r"loss.name='softmaxx' .*lmcl, softmax_cross_entropy"),
    ("loss.margin=0.3", r"loss.margin=0.3 .*softmax_cross_entropy has no margin"),
    ("loss.scale=3.0", r"loss.scale=3.0 .*has no scale"),
    ("loss.marginn=0.3", r"no such key: 'marginn' Did you mean .margin. instead"),
    ("data.source=cifar", r"data.source='cifar' .*idx, mnist_5k, tfds"),
    ("data.num_classes=1", r"data.num_classes=1 .*>= 2"),
    ("model.name=resnet", r"model.name='resnet' .*mlp, table1"),
    ("model.init=zeros", r"model.init='zeros' .*challenge, lecun"),
    ("model.precision=fp8", r"model.precision='fp8' .*bfloat16, float32"),
    ("train.steps=0", r"train.steps=0 .*>= 1"),
    ("train.steps=100000000", r"train.steps=100000000 .*less than 2\*\*31"),
    ("train.steps=1.5", r"steps.*1.5"),
    ("train.batch_size=0", r"train.batch_size=0 .*>= 1"),
    ("train.learning_rate=0.0", r"train.learning_rate=0.0 .*finite number > 0"),
    ("train.learning_rate=nan", r"train.learning_rate=nan .*finite number > 0"),
    ("train.learning_rate=inf", r"train.learning_rate=inf .*finite number > 0"),
    ("train.schedule=step", r"train.schedule='step' .*constant, cosine"),
    ("train.chunk_steps=0", r"train.chunk_steps=0 .*>= 1"),
    ("train.checkpoint_every=75", r"checkpoint_every=75 .*multiple of train.chunk"),
    ("train.attack.name=fgs", r"train.attack.name='fgs' .*none, pgd"),
    ("train.attack.objective=l2", r"train.attack.objective='l2' .*lead"),
    ("train.attack.epsilon=-0.1", r"train.attack.epsilon=-0.1 .*\[0, 1\]"),
    ("train.attack.epsilon=76.5", r"train.attack.epsilon=76.5 .*\[0, 1\]"),
    ("train.attack.epsilon=nan", r"train.attack.epsilon=nan .*\[0, 1\]"),
    ("train.attack.step_size=2.0", r"train.attack.step_size=2.0 .*\[0, 1\]"),
    ("train.attack.steps=-1", r"train.attack.steps=-1 .*>= 0"),
    ("train.attack.warmup=1.5", r"train.attack.warmup=1.5 .*\[0, 1\]"),
    ("train.attack.random_start=maybe", r"random_start"),
    ("evaluate.attacks=", r"evaluate.attacks"),
    ("evaluate.attacks=pgd,fab", r"evaluate.attacks=.*fab.*carlini_l0"),
    ("evaluate.batch_size=0", r"evaluate.batch_size=0 .*>= 1"),
    ("evaluate.examples=-5", r"evaluate.examples=-5 .*>= 0"),
    ("evaluate.seed=-1", r"evaluate.seed=-1 .*>= 0"),
    ("evaluate.pgd.restarts=0", r"evaluate.pgd.restarts=0 .*>= 1"),
    ("evaluate.pgd.objective_scale=0.0", r"objective_scale=0.0 .*> 0"),
    ("evaluate.pgd.steps=-1", r"evaluate.pgd.steps=-1 .*>= 0"),
    ("train=5", r"train"),
]  # fmt: skip
FLAG_CASES = [
    (("train", "--workdir=W"), r"--config is missing"),
    (("train", "--config=configs/default.py"), r"--workdir is missing"),
    (("train", "--config=configs/none.py", "--workdir=W"), r"none.py"),
    (("train", "--config=configs/quickstart.py:x", "--workdir=W"), r"x: use one of"),
    (("train", "--config=W.py", "--workdir=W"), r"W.py"),
    ((*TRAIN, "--workdir=W", "extra"), r"'extra' is not a flag"),
    ((*TRAIN, "--workdir=W", "--devces=2"), r"devces"),
    ((*TRAIN[:2], "--workdir=W", "--devices=0"), r"--devices"),
    ((*TRAIN[:2], "--workdir=W", "--devices=3"), r"batch_size=50 .*multiple of the 3"),
    ((*TRAIN, "--workdir=W", "--process_count=2"), r"--coordinator.* go together"),
    ((*TRAIN, "--workdir=W", "--distributed"), r"--distributed: .*can't be joined"),
    ((*TRAIN, "--workdir=W", "--coordinator=h", "--process_count=2",
      "--process_index=1"), r"--coordinator=h is not valid: use HOST:PORT"),
    ((*TRAIN, "--workdir=W", "--coordinator=h:65536", "--process_count=2",
      "--process_index=1"), r"--coordinator=h:65536 is not valid: .* 1 to 65535"),
    ((*TRAIN, "--workdir=W", "--coordinator=no.such.host:1", "--process_count=2",
      "--process_index=0"), r"no.such.host:1 can't be reached"),
    ((*TRAIN, "--workdir=W", "--coordinator=no.such.host:1", "--process_count=2",
      "--process_index=1"), r"no.such.host:1 can't be reached"),
    ((*TRAIN, "--workdir=W", "--coordinator=h:1", "--process_count=2",
      "--process_index=2"), r"--process_index=2 is not valid: use 0 to 1"),
    (("evaluate", "--workdir=W"), r"W holds no run.*experiments.train"),
    (("report", "--workdir=W"), r"--runs is missing"),
    (("quickstart",), r"--workdir is missing"),
    (("study", "--config=configs/default.py", "--workdir=W"), r"is no study"),
    (("study", "--config=configs/paper.py:tiny", "--workdir=W"), r"tiny: use one of"),
    (("study", "--config=configs/paper.py:smoke", "--workdir=W", "--config.seeds=0"),
     r"config.seeds=0 .*at least 1"),
    (("study", "--config=configs/paper.py:smoke", "--workdir=W",
      "--config.parts=table9"), r"config.parts=.*table9.*table1"),
    (("sweep", "--config=configs/default.py", "--workdir=W"), r"is no sweep"),
    (("sweep", "--config=configs/lmcl_sweep.py:x", "--workdir=W"), r"x: use one of"),
    (("sweep", "--config=configs/lmcl_sweep.py", "--workdir=W",
      "--config.sweep=loss.margin=2"), r"config.loss.margin=2.0 .*1.111"),
    (("sweep", "--config=configs/lmcl_sweep.py", "--workdir=W",
      "--config.sweep=margin"), r"config.sweep='margin' .*KEY=VALUE"),
]  # fmt: skip
FILE_CASES = {
    "a file in the work directory's place": r"--workdir=\S+ is not empty",
    "other things in the work directory": r"not empty and holds no run",
    "a config that is no JSON": r"config.json is damaged",
    "a config of unknown keys": r"config.json is damaged or of another version",
    "no data folder": r"config.data.dir",
    "no labels": r"train-labels",
    "a wrong magic number": r"magic number 0x\w+ is wrong",
    "a header that promises too much": r"promises \d+ bytes",
    "images that are cut short": r"truncated",
    "labels out of range": r"label",
    "fewer labels than images": r"labels",
    "no pixels": r"idx|images|empty",
}


def _serve(arguments: list[str], cwd: str, output: str) -> None:
    """In the child: a launcher, with what it says in files."""
    os.chdir(cwd)
    sys.path.insert(0, str(ROOT))
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [f"experiments.{arguments[0]}", *arguments[1:]]
    runpy.run_module(f"experiments.{arguments[0]}", run_name="__main__")


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """(arguments) -> exit status, standard error."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["advloss.report", "advloss.study"])

    def call(arguments):
        output = tmp_path_factory.mktemp("said")
        process = context.Process(
            target=_serve, args=(list(arguments), str(ROOT), str(output))
        )
        process.start()
        process.join(120)
        return process.exitcode, (output / "stderr").read_text()

    return call


def _contents(folder: Path) -> dict:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _assert_refused(launch, arguments, said, folder):
    before = _contents(folder)
    status, text = launch(arguments)
    errors = [line for line in text.splitlines() if not line.startswith("warning: ")]
    assert status == 2, text
    assert len(errors) == 1, text
    assert errors[0].startswith("error: ")
    assert re.search(said, errors[0]), errors[0]
    assert _contents(folder) == before


@pytest.mark.parametrize(("change", "said"), CONFIG_CASES)
def test_a_wrong_value(launch, tmp_path, change, said):
    workdir = f"--workdir={tmp_path / 'run'}"
    _assert_refused(launch, [*TRAIN, workdir, f"--config.{change}"], said, tmp_path)


@pytest.mark.parametrize(("arguments", "said"), FLAG_CASES)
def test_wrong_flags(launch, tmp_path, arguments, said):
    (tmp_path / "W.py").write_text("raise RuntimeError('W.py has a bug')\n")
    own = [
        a.replace("=W.py", f"={tmp_path / 'W.py'}").replace(
            "--workdir=W", f"--workdir={tmp_path / 'W'}"
        )
        for a in arguments
    ]
    _assert_refused(launch, own, said, tmp_path)


@pytest.mark.parametrize("case", list(FILE_CASES))
def test_a_wrong_file(launch, tmp_path, case):
    workdir, folder = tmp_path / "run", tmp_path / "data"
    rng = np.random.default_rng(0)
    folder.mkdir()
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 255, (count, 8, 8))
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    images, labels = (
        folder / f"train-{name}-ubyte" for name in ("images-idx3", "labels-idx1")
    )
    content = images.read_bytes()
    if case.startswith("a file"):
        workdir.write_text("precious")
    elif case.startswith("other things"):
        workdir.mkdir()
        (workdir / "thesis.tex").write_text("precious")
    elif case.startswith("a config"):
        workdir.mkdir()
        text = "{" if "JSON" in case else '{"nmae": "x"}'
        (workdir / "config.json").write_text(text)
    elif case == "no data folder":
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    elif case == "no labels":
        labels.unlink()
    elif case == "a wrong magic number":
        images.write_bytes(b"\x00\x00\x0d" + content[3:])
    elif case == "a header that promises too much":
        images.write_bytes(content[:4] + b"\xff" * 12 + content[16:])
    elif case == "images that are cut short":
        images.write_bytes(content[:-7])
    elif case == "labels out of range":
        write_idx(labels, np.full(20, 200))
    elif case == "fewer labels than images":
        write_idx(labels, np.arange(19) % 10)
    elif case == "no pixels":
        write_idx(images, np.zeros((20, 0, 0)))
    arguments = [
        *TRAIN, f"--workdir={workdir}", "--config.data.source=idx",
        f"--config.data.dir={folder}", "--config.train.batch_size=10",
    ]  # fmt: skip
    _assert_refused(launch, arguments, FILE_CASES[case], tmp_path)
