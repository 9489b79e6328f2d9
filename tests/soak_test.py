"""Killed at random moments, a training and a sweep end with the same bits.

ADVLOSS_SOAK says how many kills each must survive: one by default, 50 by `make soak`.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, bits

from advloss.runtime import checkpoints

KILLS = int(os.environ.get("ADVLOSS_SOAK", "1"))
LONGEST = 0.3  # Seconds between a row of the metrics and a kill.
SMALL = (
    "--config.model.name=mlp",
    "--config.train.batch_size=20",
    "--config.train.chunk_steps=20",
    "--config.train.checkpoint_every=20",
    "--config.train.attack.steps=2",
    "--config.evaluate.batch_size=40",
    "--config.evaluate.attacks=pgd",
    "--config.evaluate.pgd.steps=5",
    "--devices=2",
)

COMMANDS = {
    "train": ("--config=configs/default.py", "--config.train.steps=600"),
    "sweep": (
        "--config=configs/lmcl_sweep.py",
        "--config.sweep=loss.margin=0.1,0.5 seed=0,1",
        "--config.train.steps=120",
    ),
}


def _command(launcher: str, digits: Path, workdir: Path) -> list[str]:
    data = "--config.data.source=idx", f"--config.data.dir={digits}"
    own = f"--workdir={workdir}"
    return [
        sys.executable, "-m", f"experiments.{launcher}",
        *COMMANDS[launcher], *SMALL, *data, own,
    ]  # fmt: skip


def _start(command: list[str], log: Path) -> subprocess.Popen:
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)


def _rows(folder: Path) -> int:
    """How many rows of metrics the runs in a folder have."""
    rows = 0
    for path in [*folder.glob("metrics.jsonl"), *folder.glob("*/metrics.jsonl")]:
        with contextlib.suppress(FileNotFoundError):  # It is being replaced.
            rows += path.read_bytes().count(b"\n")
    return rows


def _bits(folder: Path) -> dict[str, list[str]]:
    """Of every run in a folder, the arrays of its last checkpoint."""
    found = {}
    for config_path in sorted(folder.rglob("config.json")):
        workdir = config_path.parent
        with checkpoints.open_folder(workdir) as manager:
            state = checkpoints.restore(manager)
        found[str(workdir.relative_to(folder))] = bits(state)
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("launcher", list(COMMANDS))
def test_killed_at_random_moments(digits_dir, tmp_path, launcher):
    log, moments = tmp_path / "log", random.Random(launcher)
    whole = tmp_path / "whole"
    assert _start(_command(launcher, digits_dir, whole), log).wait() == 0
    expected, total = _bits(whole), _rows(whole)
    killed = attempt = 0
    while killed < KILLS:
        attempt += 1
        folder = tmp_path / f"killed{attempt}"
        command, status = _command(launcher, digits_dir, folder), -signal.SIGKILL
        while status == -signal.SIGKILL:
            process = _start(command, log)
            row = moments.randint(min(_rows(folder) + 1, total), total)
            while process.poll() is None and _rows(folder) < row:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, LONGEST))
            if killed < KILLS and process.poll() is None:
                process.send_signal(signal.SIGKILL)
            status = process.wait()
            killed += status == -signal.SIGKILL
        assert status == 0, log.read_text(errors="replace")[-2000:]
        assert _bits(folder) == expected
