"""Table II from training to report, in pieces that fit a lease, with its time.

    python benchmarks/protocol.py --workdir=runs/table2 --budget=paper --seeds=1 \
        -- --config.data.source=idx --config.data.dir=FOLDER

Runs experiments.study on configs/table2.py for at most --minutes and then ends it; the
same command goes on, and says with exit status 3 that there is more to do. At the end
it prints the table, the time of all pieces, and what share that is of the floor: the
work of training and of PGD-100, at the rate of a plain matrix product on this machine.
Arguments after -- go to the study.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
from absl import app, flags
from speed import FORWARD, product

from advloss import config as configs
from advloss.defences import DEFENCES
from advloss.evaluation import results
from advloss.runtime import files

_WORKDIR = flags.DEFINE_string("workdir", None, "The study's folder.", required=True)
_BUDGET = flags.DEFINE_string("budget", "paper", "An argument of configs/table2.py.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Networks of each row.", lower_bound=1)
_MINUTES = flags.DEFINE_float("minutes", 9.0, "Of this piece.", lower_bound=0.1)
_TIMES = 10  # The matrix product's, of which the best counts.


def run_piece(folder: Path, arguments: list[str]) -> tuple[str | None, float]:
    """The study's output, or None where its time was up; and its seconds."""
    command = [
        sys.executable, "-m", "experiments.study", f"--workdir={folder}",
        f"--config=configs/table2.py:{_BUDGET.value}",
        f"--config.seeds={_SEEDS.value}", *arguments,
    ]  # fmt: skip
    started = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    try:
        output, _ = child.communicate(timeout=60 * _MINUTES.value)
    except subprocess.TimeoutExpired:
        child.terminate()  # What is on disk is whole at any moment.
        child.communicate()
        output = None
    if output is not None and child.returncode:
        sys.exit(child.returncode)  # It has said why.
    return output, time.perf_counter() - started


def work(folder: Path) -> float:
    """Floating-point operations of all finished runs and their attacks."""
    total = 0.0
    for path in sorted(folder.glob("*-seed*")):
        config = configs.load_config(path)
        steps = config.train.attack.steps or 1  # FGSM has one.
        steps *= DEFENCES[config.defence.name].attacks
        total += config.train.steps * config.train.batch_size * (2 * steps + 3)
        for measured in results.load(path):
            total += 2 * float(measured.backward_passes.sum())
    return total * FORWARD


def floor_rate() -> float:
    """The best rate of a matrix product on all devices, in operations a second."""
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    flops, call = product(jax.local_devices())
    best = float("inf")
    for _ in range(_TIMES):
        started = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - started)
    return flops / best


def main(arguments: list[str]) -> None:
    folder = Path(_WORKDIR.value).absolute()
    note = folder.with_name(folder.name + ".seconds.json")
    pieces = (files.read_json(note) or {"pieces": []})["pieces"]
    output, seconds = run_piece(folder, arguments[1:])
    pieces.append(round(seconds, 1))
    files.write_json(note, {"pieces": pieces})
    if output is None:
        print(f"piece {len(pieces)} of {seconds:.0f} s: there is more to do")
        sys.exit(3)
    operations, rate = work(folder), floor_rate()
    print(output)
    print(
        json.dumps(
            {
                "pieces": pieces,
                "seconds": round(sum(pieces), 1),
                "floating_point_operations": operations,
                "matrix_product_per_second": rate,
                "share_of_floor": round(operations / rate / sum(pieces), 3),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    app.run(main)
