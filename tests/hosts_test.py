"""Two processes on the loopback address, as two hosts: one run, one writer."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import ROOT

from advloss import checkpoints, metrics, runs

pytestmark = pytest.mark.slow
_SMALL = (
    "--config.model.name=mlp",
    "--config.train.steps=8",
    "--config.train.batch_size=20",
    "--config.train.chunk_steps=2",
    "--config.train.checkpoint_every=4",
    "--config.train.attack.steps=2",
    "--config.evaluate.batch_size=40",
    "--config.evaluate.pgd.steps=3",
)
# Sums over a batch in another order, after a few updates.
_CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def _command(launcher: str, workdir: Path, *flags: str) -> list[str]:
    return [
        sys.executable, "-m", f"experiments.{launcher}", f"--workdir={workdir}", *flags
    ]  # fmt: skip


def _start_two(command: list[str], folder: Path) -> list[subprocess.Popen]:
    """The command as process 0 and 1; their output goes to files 0 and 1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = (f"--coordinator=127.0.0.1:{port}", "--process_count=2", "--devices=1")
    folder.mkdir(exist_ok=True)
    processes = []
    for index in range(2):
        with (folder / str(index)).open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [*command, *where, f"--process_index={index}"],
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                )
            )
    return processes


def _run_two(command: list[str], folder: Path) -> list[str]:
    """What both wrote; they must have ended well."""
    processes = _start_two(command, folder)
    status = [process.wait() for process in processes]
    said = [(folder / str(i)).read_text(errors="replace") for i in range(2)]
    assert status == [0, 0], "\n\n".join(said)
    return said


def _run_one(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _state(workdir: Path) -> dict:
    with checkpoints.open_folder(workdir) as manager:
        return checkpoints.restore(manager, runs.load_config(workdir))


def _assert_close(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_allclose(a, b, **_CLOSE)


def test_two_hosts_train_and_attack_as_one(digits_dir, tmp_path):
    data = "--config.data.source=idx", f"--config.data.dir={digits_dir}"
    flags = ("--config=configs/default.py", *_SMALL, *data)
    one, two = tmp_path / "one", tmp_path / "two"
    _run_one(_command("train", one, *flags, "--devices=1"))
    said = _run_two(_command("train", two, *flags), tmp_path / "logs")
    _assert_close(_state(one), _state(two))
    # The first alone speaks and writes: no row is there twice.
    assert "100%" in said[0] and "trained for 8 steps" in said[0]
    assert "%" not in said[1] and "trained" not in said[1]
    assert [row["step"] for row in metrics.read(two)] == [2, 4, 6, 8]
    assert len(runs.load_environment(two)["devices"]) == 2

    # Another number of hosts goes on from where these were.
    shutil.rmtree(two / "checkpoints" / "8")
    _run_one(_command("train", two, *flags, "--devices=1"))
    _assert_close(_state(one), _state(two))
    shutil.rmtree(one / "checkpoints" / "8")
    _run_two(_command("train", one, *flags), tmp_path / "logs")
    _assert_close(_state(one), _state(two))

    found = []
    shutil.copytree(two, tmp_path / "copy")
    _run_one(_command("evaluate", two, "--devices=1"))
    _run_two(_command("evaluate", tmp_path / "copy"), tmp_path / "logs")
    for workdir in (two, tmp_path / "copy"):
        result = json.loads((workdir / "evaluation.json").read_text())
        pgd = result["attacks"]["pgd"]
        found.append((result["natural"], pgd["final"], pgd["worst"]))
    assert found[0] == found[1]


# Starts a command as two tasks of one host, as SLURM's own would.
_SRUN = """#!/bin/bash
shift
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=127.0.0.1
for i in 0 1; do
    SLURM_PROCID=$i SLURM_LOCALID=$i "$@" > "$LOGS/$i" 2>&1 & tasks="${tasks:-} $!"
done
trap 'kill -TERM $tasks' TERM
wait; wait
"""


@pytest.fixture
def slurm(tmp_path):
    """A cluster of one host, `slurm(*arguments)`: its time is up when `until` says."""
    for name, text in (("srun", _SRUN), ("scontrol", '#!/bin/bash\necho "$@"')):
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


def test_two_tasks_of_slurm_sweep_as_one(digits_dir, tmp_path, slurm):
    data = "--config.data.source=idx", f"--config.data.dir={digits_dir}"
    flags = (
        "--config=configs/lmcl_sweep.py", "--config.sweep=seed=0,1,2", *_SMALL, *data,
        "--config.train.steps=40",
    )  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    _run_one(_command("sweep", one, *flags, "--devices=2"))
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
    assert len(folders) == 3
    for name in folders:
        _assert_close(_state(one / name), _state(two / name))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_host_ends_the_other(digits_dir, tmp_path, victim):
    data = "--config.data.source=idx", f"--config.data.dir={digits_dir}"
    long = ("--config.train.steps=1000000", "--config.train.checkpoint_every=100")
    flags = ("--config=configs/default.py", *_SMALL, *long, *data)
    workdir = tmp_path / "run"
    processes = _start_two(_command("train", workdir, *flags), tmp_path / "logs")
    deadline = time.monotonic() + 120
    while not checkpoints.steps(workdir) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [process.poll() for process in processes] == [None, None]
    time.sleep(0.3)
    processes[victim].send_signal(signal.SIGKILL)
    other = 1 - victim
    try:
        assert processes[other].wait(timeout=90) != 0
    finally:
        processes[other].kill()
    said = (tmp_path / "logs" / str(other)).read_text(errors="replace")
    ours = "error: another process of this run has ended" in said
    # JAX may be faster than we are to end a process whose coordinator is gone.
    assert ours or (victim == 0 and "another task died" in said)
    assert _state(workdir)["step"] > 0


def test_asked_to_end_one_host_ends_both(digits_dir, tmp_path):
    data = "--config.data.source=idx", f"--config.data.dir={digits_dir}"
    steps = "--config.train.steps=1000000"
    flags = ("--config=configs/default.py", *_SMALL, steps, *data)
    workdir = tmp_path / "run"
    processes = _start_two(_command("train", workdir, *flags), tmp_path / "logs")
    deadline = time.monotonic() + 120
    while len(metrics.read(workdir)) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    processes[1].send_signal(signal.SIGTERM)
    try:
        assert [process.wait(timeout=60) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    last = _state(workdir)["step"]
    assert metrics.read(workdir)[-1]["step"] == last
    said = (tmp_path / "logs" / "0").read_text(errors="replace")
    assert f"stopped at step {last} of 1000000, saved" in said
