"""Two processes on the loopback address, as two hosts: one run, one writer."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from conftest import ROOT

from advloss.cli import flags as cli_flags
from advloss.cli import members, study, train
from advloss.config.saved import load_config
from advloss.evaluation import results
from advloss.evaluation.run import evaluate_run
from advloss.runtime import checkpoints, files, metrics
from advloss.training import workdir as workdirs
from advloss.training.run import train_runs

pytestmark = pytest.mark.slow
_SMALL = (
    "--config.model.name=mlp",
    "--config.train.steps=8",
    "--config.train.batch_size=20",
    "--config.train.chunk_steps=2",
    "--config.train.checkpoint_every=4",
    "--config.train.attack.steps=2",
    "--config.evaluate.batch_size=40",
    "--config.evaluate.attacks=pgd",
    "--config.evaluate.pgd.steps=3",
)
# Sums over a batch in another order, after a few updates.
_CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def _command(launcher: str, workdir: Path, *flags: str) -> list[str]:
    return [
        sys.executable, "-m", f"experiments.{launcher}", f"--workdir={workdir}", *flags
    ]  # fmt: skip


def _start_two(command: list[str], folder: Path, *own: str) -> list[subprocess.Popen]:
    """The command as process 0 and 1; their output goes to files 0 and 1.

    `own` are flags that 1 alone is given, in place of those of the same key.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ("--devices=1", f"--coordinator=127.0.0.1:{port}", "--process_count=2")
    given = [*command, *where]
    folder.mkdir(exist_ok=True)
    processes = []
    for index in range(2):
        with (folder / str(index)).open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [*_with(given, *index * own), f"--process_index={index}"],
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )
            )
    return processes


def _run_two(command: list[str], folder: Path) -> list[str]:
    """What both wrote; they must have ended well."""
    status = _end(_start_two(command, folder), timeout=300)
    said = _said(folder)
    assert status == [0, 0], "\n\n".join(said)
    return said


def _end(processes: list[subprocess.Popen], timeout: float) -> list[int]:
    """Their exit statuses; none is left behind."""
    try:
        return [process.wait(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()


def _said(folder: Path) -> list[str]:
    return [(folder / str(i)).read_text(errors="replace") for i in range(2)]


def _train_alone(workdir: Path, flags: Sequence[str]) -> None:
    """In this process, on one device."""
    given = cli_flags.parse(train.FLAGS, ["train"], [f"--workdir={workdir}", *flags])
    train_runs([given.resolved()], [workdir], jax.devices()[:1])


def _wait_until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def flags(digits_dir):
    data = ("--config.data.source=idx", f"--config.data.dir={digits_dir}")
    return ("--config=configs/default.py", *_SMALL, *data)


def _with(flags: Sequence[str], *changes: str) -> list[str]:
    """The flags, with some in place of those of the same key: none is given twice."""
    keys = {change.partition("=")[0] for change in changes}
    return [flag for flag in flags if flag.partition("=")[0] not in keys] + [*changes]


def _state(workdir: Path) -> dict:
    with checkpoints.open_folder(workdir) as manager:
        return checkpoints.restore(manager)


def _assert_close(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, **_CLOSE)


def test_two_hosts_train_and_attack_as_one(flags, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    _train_alone(one, flags)
    said = _run_two(_command("train", two, *flags), tmp_path / "logs")
    _assert_close(_state(one), _state(two))
    # The first alone speaks and writes: no row is there twice.
    assert "100%" in said[0] and "trained for 8 steps" in said[0]
    assert "%" not in said[1] and "trained" not in said[1]
    assert [row["step"] for row in metrics.read(two)] == [2, 4, 6, 8]
    assert len(files.read_json(two / workdirs.ENVIRONMENT)["devices"]) == 2

    # One goes on from where these were; that two go on, the tasks of SLURM show.
    shutil.rmtree(two / "checkpoints" / "8")
    _train_alone(two, flags)
    _assert_close(_state(one), _state(two))

    found = []
    shutil.copytree(two, tmp_path / "copy")
    evaluate_run(load_config(two), two, jax.devices()[:1])
    _run_two(_command("evaluate", tmp_path / "copy"), tmp_path / "logs")
    for workdir in (two, tmp_path / "copy"):
        summary = results.summarise(results.load(workdir))
        (pgd,) = summary.attacks
        found.append((summary.natural, pgd.final, pgd.worst))
    assert found[0] == found[1]


# What the script calls, as on a cluster of one host. Two tasks are started; SIGTERM to
# srun kills them, as srun_job.c of SLURM does it, scancel's goes to them.
_SLURM = {
    "srun": """#!/bin/bash
shift
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=127.0.0.1
for i in 0 1; do
    SLURM_PROCID=$i SLURM_LOCALID=$i "$@" > "$LOGS/$i" 2>&1 & tasks="${tasks:-} $!"
done
echo $tasks > "$LOGS/tasks"
trap 'kill -KILL $tasks' TERM
wait
""",
    "scancel": """#!/bin/bash
[ "$*" = "--signal=TERM $SLURM_JOB_ID" ] && kill -TERM $(cat "$LOGS/tasks")
""",
    "scontrol": """#!/bin/bash
echo "$@"
""",
}


@pytest.fixture
def slurm(tmp_path):
    """A cluster of one host, `slurm(*arguments)`: its time is up when `until` says."""
    for name, text in _SLURM.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "logs").mkdir()
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "VENV": sys.prefix,
        "LOGS": str(tmp_path / "logs"),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": str(os.getpid()),  # Its port follows from it.
    }

    def submit(*arguments, until=lambda: False):
        process = subprocess.Popen(
            [ROOT / "docs" / "slurm.sh", *arguments, "--devices=1"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and not until():
            time.sleep(0.1)
        process.terminate()
        said, _ = process.communicate(timeout=120)
        logs = (tmp_path / "logs" / str(i) for i in range(2))
        return process.returncode, said, [path.read_text() for path in logs]

    return submit


def test_two_tasks_of_slurm_sweep_as_one(flags, tmp_path, slurm):
    flags = _with(
        flags,
        "--config=configs/lmcl_sweep.py",
        "--config.sweep=seed=0,1",
        "--config.train.steps=40",
    )
    one, two = tmp_path / "one", tmp_path / "two"
    given = cli_flags.parse(study.FLAGS, ["sweep"], [f"--workdir={one}", *flags])
    variants = members.variants(given.config)
    study.run([variant.config for variant in variants], one, jax.devices()[:2])
    arguments = ("sweep", f"--workdir={two}", *flags)
    # Its time is up after the first metrics: it saves, and goes back into the queue.
    status, said, logs = slurm(*arguments, until=lambda: list(two.glob("*/metrics.*")))
    assert status == 0, logs
    assert said == f"requeue {os.getpid()}\n", logs
    assert "stopped at step" in logs[0]
    status, said, logs = slurm(*arguments)
    assert (status, said) == (0, ""), logs
    assert "report.html" in logs[0] and "report" not in logs[1]
    folders = sorted(path.parent.name for path in two.glob("*/config.json"))
    assert len(folders) == 2
    for name in folders:
        _assert_close(_state(one / name), _state(two / name))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_host_ends_the_other(flags, tmp_path, victim):
    long = _with(
        flags, "--config.train.steps=1000000", "--config.train.checkpoint_every=100"
    )
    workdir = tmp_path / "run"
    processes = _start_two(_command("train", workdir, *long), tmp_path / "logs")
    _wait_until(lambda: checkpoints.steps(workdir))
    assert [process.poll() for process in processes] == [None, None]
    time.sleep(0.3)
    processes[victim].send_signal(signal.SIGKILL)
    assert 0 not in _end(processes, timeout=90)
    said = _said(tmp_path / "logs")[1 - victim]
    ours = "error: another process of this run has ended" in said
    # JAX may be faster than we are to end a process whose coordinator is gone.
    assert ours or (victim == 0 and "another task died" in said)
    assert _state(workdir)["step"] > 0


def test_asked_to_end_one_host_ends_both(flags, tmp_path):
    workdir = tmp_path / "run"
    long = _with(flags, "--config.train.steps=1000000")
    command = _command("train", workdir, *long)
    processes = _start_two(command, tmp_path / "logs")
    _wait_until(lambda: len(metrics.read(workdir)) >= 4)
    processes[1].send_signal(signal.SIGTERM)
    assert _end(processes, timeout=60) == [0, 0]
    last = _state(workdir)["step"]
    assert metrics.read(workdir)[-1]["step"] == last
    said = _said(tmp_path / "logs")[0]
    assert f"stopped at step {last} of 1000000, saved" in said


def test_a_full_disk_ends_both(flags, tmp_path):
    """The first has no space for a checkpoint; the other must not wait for it long."""
    workdir = tmp_path / "run"
    less_patient = (
        "from advloss.runtime import checkpoints; checkpoints._BARRIER_SECONDS = 5; "
        "from advloss.cli.main import launch; launch('train')"
    )
    command = [sys.executable, "-c", less_patient, f"--workdir={workdir}", *flags]
    processes = _start_two(command, tmp_path / "logs")
    for process in processes:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    assert 0 not in _end(processes, timeout=240)
    said = _said(tmp_path / "logs")
    assert "can't be written: File too large" in said[0]
    assert "error: another process of this run has ended" in said[1]
    assert "Traceback" not in "".join(said)
    assert not checkpoints.steps(workdir)


def test_hosts_of_different_sizes_are_refused(flags, tmp_path):
    command = _command("train", tmp_path / "run", *flags)
    processes = _start_two(command, tmp_path / "logs", "--devices=2")
    assert _end(processes, timeout=120) == [2, 2]
    for said in _said(tmp_path / "logs"):
        assert "error: the processes have from 1 to 2 devices: all must" in said
        assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
