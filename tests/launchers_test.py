"""Launchers as a user runs them: the whole way, and every error as one line."""

import json
import re
import subprocess
import sys

import jax
import pytest
from conftest import ROOT

from experiments import launcher


def _launch(name, *arguments):
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def _small(digits_dir, workdir):
    return [
        f"--workdir={workdir}",
        "--config=configs/quickstart.py:lmcl",
        "--config.data.source=idx",
        f"--config.data.dir={digits_dir}",
        "--config.train.steps=4",
        "--config.train.chunk_steps=2",
        "--config.train.checkpoint_every=2",
        "--config.train.attack.steps=1",
        "--config.evaluate.pgd.steps=2",
        "--config.loss.margin=0.25",
    ]


@pytest.mark.slow
def test_train_evaluate_report(digits_dir, tmp_path):
    run = tmp_path / "run"
    trained = _launch("train", *_small(digits_dir, run))
    assert trained.returncode == 0, trained.stderr
    assert "100%" in trained.stderr
    config = json.loads((run / "config.json").read_text())
    assert config["loss"] == {"name": "lmcl", "margin": 0.25, "scale": 10.0}
    evaluated = _launch(
        "evaluate",
        f"--workdir={run}",
        "--config.evaluate.pgd.steps=3",
        "--config.evaluate.examples=50",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert "lmcl (s=10, m=0.25), trained against PGD-1 ε=0.3" in evaluated.stdout
    assert "PGD-3 ε=0.3" in evaluated.stdout
    assert json.loads((run / "evaluation.json").read_text())["examples"] == 50
    reported = _launch("report", f"--runs={run}", f"--workdir={tmp_path / 'report'}")
    assert reported.returncode == 0, reported.stderr
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.slow
def test_a_study_of_no_network(tmp_path):
    """Table I takes none; the launcher and its report do the rest."""
    done = _launch("study", "--config=configs/table1.py:smoke", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "3,274,634" in done.stdout
    assert (tmp_path / "report" / "report.html").exists()


WRONG = {
    "no config": (["--workdir={dir}"], "--config is missing"),
    "no workdir": (["--config=configs/default.py"], "--workdir is missing"),
    "no such row": (
        ["--workdir={dir}", "--config=configs/table2.py:hinje"],
        "configs/table2.py:hinje: use one of",
    ),
    "no such file": (["--workdir={dir}", "--config=configs/none.py"], "none.py"),
    "no such key": (
        ["--workdir={dir}", "--config=configs/default.py", "--config.loss.nme=x"],
        "nme",
    ),
    "not a number": (
        ["--workdir={dir}", "--config=configs/default.py", "--config.train.steps=many"],
        "many",
    ),
    "a margin above the bound": (
        ["--workdir={dir}", "--config=configs/quickstart.py:lmcl",
         "--config.loss.margin=2.5"],
        "config.loss.margin=2.5 is not valid: use a number in (0, 1.111]",
    ),
    "an unknown flag": (
        ["--workdir={dir}", "--config=configs/default.py", "--margin=1"], "margin",
    ),
    "not a flag": (
        ["--workdir={dir}", "--config=configs/default.py", "margin"], "margin",
    ),
    "a config file with an error": (
        ["--workdir={dir}", "--config={files}/syntax.py"],
        "SyntaxError",
    ),
    "a config file that fails": (
        ["--workdir={dir}", "--config={files}/imports.py"],
        "ModuleNotFoundError: No module named 'nowhere'",
    ),
    "a config file that is none": (
        ["--workdir={dir}", "--config={files}/dict.py"], "dict",
    ),
    "more devices than there are": (
        ["--workdir={dir}", "--config=configs/default.py", "--devices=x"], "devices",
    ),
    "no devices": (
        ["--workdir={dir}", "--config=configs/default.py", "--devices=0"],
        "devices",
    ),
    "devices that do not divide": (
        ["--workdir={dir}", "--config=configs/default.py", "--devices=3"],
        "config.train.batch_size=50 is not valid: use a multiple of the 3 devices",
    ),
    "no data": (
        ["--workdir={dir}", "--config=configs/default.py", "--config.data.source=idx",
         "--config.data.dir=/nonexistent"],
        "config.data.dir='/nonexistent' is not a folder",
    ),
}  # fmt: skip


CONFIG_FILES = {
    "syntax.py": "def get_config(:\n",
    "imports.py": "import nowhere\n",
    "dict.py": "def get_config():\n    return {'seed': 1}\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(case, tmp_path):
    arguments, message = WRONG[case]
    for name, text in CONFIG_FILES.items():
        (tmp_path / name).write_text(text)
    workdir, paths = tmp_path / "run", {"files": tmp_path}
    done = _launch("train", *(t.format(dir=workdir, **paths) for t in arguments))
    _assert_one_line(done, message)
    assert not workdir.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "arguments", "message"),
    [
        ("evaluate", ["--workdir={dir}"], "holds no run"),
        ("report", ["--workdir={dir}"], "--runs is missing"),
        ("quickstart", [], "--workdir is missing"),
        ("study", ["--workdir={dir}", "--config=configs/default.py"], "is no study"),
        (
            "study",
            ["--workdir={dir}", "--config=configs/table3.py:shrt"],
            "use one of ('paper', 'short', 'smoke')",
        ),
    ],
)
def test_other_launchers_too(launcher, arguments, message, tmp_path):
    done = _launch(launcher, *(text.format(dir=tmp_path / "run") for text in arguments))
    _assert_one_line(done, message)


def _assert_one_line(done, message):
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.slow
def test_a_sweep_is_trained_compared_and_left_alone(digits_dir, tmp_path):
    command = [
        "sweep",
        *(f for f in _small(digits_dir, tmp_path / "s") if "margin" not in f),
        "--config.model.name=mlp",
        "--config.train.batch_size=20",
        "--config.evaluate.batch_size=40",
        "--config.sweep=loss.margin=0.1,0.5 seed=0,1,2",
    ]
    command[2] = "--config=configs/lmcl_sweep.py"
    first = _launch(*command)
    assert first.returncode == 0, first.stderr
    assert max(map(len, first.stdout.splitlines())) <= 100
    folders = sorted(p.name for p in (tmp_path / "s").iterdir())
    assert folders == [
        f"lmcl_margin{margin}-seed{seed}" for margin in (0.1, 0.5) for seed in range(3)
    ] + ["report"]
    records = json.loads((tmp_path / "s" / "report" / "numbers.json").read_text())
    natural = [r["accuracy"] for r in records if r["measure"] == "natural"]
    assert len(natural) == 6
    assert (tmp_path / "s" / "report" / "sweep.png").stat().st_size > 5000
    before = (tmp_path / "s" / folders[0] / "evaluation.json").stat().st_mtime_ns
    again = _launch(*command)
    assert again.stdout == first.stdout
    after = (tmp_path / "s" / folders[0] / "evaluation.json").stat().st_mtime_ns
    assert after == before


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("UNAVAILABLE: Connection reset by peer", True),
        ("INTERNAL: Gloo all-reduce failed", True),
        ("DEADLINE_EXCEEDED: Barrier timed out", True),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes", False),
        ("INTERNAL: NCCL operation failed: out of memory", False),
        ("can't read /data/connection/barrier", False),
    ],
)
def test_only_a_lost_connection_means_that_another_host_ended(text, alone, monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    error = OSError("a checkpoint can't be written")
    error.__cause__ = jax.errors.JaxRuntimeError(text)
    assert launcher._is_alone(error) == alone
    assert launcher._is_alone(error.__cause__) == alone


def test_a_sweep_without_axes_is_one_line(tmp_path):
    wrong = _launch("sweep", "--config=configs/default.py", f"--workdir={tmp_path}/x")
    assert wrong.returncode == 2
    assert "--config is no sweep" in wrong.stderr
    assert not (tmp_path / "x").exists()


def test_every_target_of_make_has_a_recipe():
    text = (ROOT / "Makefile").read_text()
    named = text.split(".PHONY:")[1].splitlines()[0].split()
    told = re.findall(r"^# make (\w+)", text, flags=re.MULTILINE)
    assert set(told) <= set(named)
    done = subprocess.run(
        ["make", "--dry-run", *named], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
