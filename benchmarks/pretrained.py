"""The networks that come with the package, from their runs, attacked as they are kept.

    make pretrained RUNS=runs/softmax,runs/lmcl

Saves each run as advloss/pretrained/mnist-LOSS, rounded to float16, and loads it again.
That network is attacked: by PGD-100 and the suite `fast` on the first 1,000 test
digits, by AutoAttack on as many (`--autoattack=200`: on the first 200), and by the
checks of `diagnose` on the first 100. What is left stands in its model card. The
networks are named by their losses; docs/recipe.md has the commands that train them.
"""

import dataclasses
import os
from pathlib import Path

import jax
from absl import app, flags

import advloss
from advloss.training.validation import parts
from advloss.training.workdir import load_data, load_run
from advloss.types import Dataset

_RUNS = flags.DEFINE_list("runs", [], "Work directories of finished runs on MNIST.")
_TO = flags.DEFINE_string("to", "advloss/pretrained", "Where the folders are written.")
_AUTOATTACK = flags.DEFINE_integer("autoattack", 1_000, "The first so many digits.")
_ATTACKED, _DIAGNOSED = 1_000, 100


def facts(trained: advloss.Trained, dataset: Dataset) -> dict[str, str]:
    """What is left of the test digits, by how they were attacked."""
    epsilon = trained.config.train.attack.epsilon
    trained_on, held_out = (
        len(part.labels) for part in parts(dataset.train, trained.config)
    )
    found = {"data": f"MNIST, {trained_on:,} training digits"}
    if held_out:
        found["data"] += f", and {held_out:,} others by which weights were chosen"
    for name, attack, count, settings in (
        ("PGD-100", "pgd", _ATTACKED, {"steps": 100, "step_size": 0.01}),
        ("fast", "fast", _ATTACKED, {}),
        ("AutoAttack", "autoattack", _AUTOATTACK.value, {}),
    ):
        digits = [array[:count] for array in dataset.test]
        result = advloss.evaluate(
            trained, *digits, epsilon=epsilon, attacks=attack, **settings
        )
        print(result, flush=True)
        said = f"the first {count:,} test digits"
        if name == "PGD-100":
            found[f"natural accuracy, {said}"] = _percent(*result.natural)
        found[f"{name}, epsilon {epsilon:g}, {said}"] = _left(result)
    few = [array[:_DIAGNOSED] for array in dataset.test]
    diagnosis = advloss.diagnose(trained, *few, epsilon=epsilon)
    return found | {f"diagnosis, the first {_DIAGNOSED}": diagnosis.sentence}


def _left(result: advloss.Result) -> str:
    (accuracy,), (low,), (high,) = result.robust_accuracy, result.low, result.high
    return _percent(accuracy, low, high)


def _percent(accuracy: float, low: float, high: float) -> str:
    return f"{100 * accuracy:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def main(_: list[str]) -> None:
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    for workdir in _RUNS.value:
        run = load_run(workdir)
        if not run.finished:
            raise app.UsageError(f"{workdir} is not finished: train it first")
        folder = Path(_TO.value) / f"mnist-{run.config.loss.name.split('_')[0]}"
        config = run.config.copy_and_resolve_references()
        config.data.dir = ""  # Where they lay says nothing to others.
        trained = dataclasses.replace(advloss.load(workdir), config=config)
        trained.save(folder, precision="float16")
        kept = advloss.load(folder)
        kept.save(folder, precision="float16", facts=facts(kept, load_data(run.config)))
        print((folder / "README.md").read_text())


if __name__ == "__main__":
    app.run(main)
