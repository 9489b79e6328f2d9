"""The evaluation of a run, kept in its work directory.

    results = results.evaluate_run(config, workdir, devices)
    results["attacks"]["pgd"]["final"]["accuracy"]

workdir/
  evaluation.json       what was measured, with its settings and environment
  evaluation/NAME.npz   per example, of every attack
  evaluation/NAME.parts/  its finished batches, until it is finished

An attack that was measured before with the same settings is not repeated, nor is a
batch of one that was interrupted, so a suite can be stopped, continued and added to.
"""

import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss import (
    batches,
    checkpoints,
    compaction,
    evaluate,
    files,
    lock,
    parallel,
    runs,
    stopping,
)
from advloss import config as configs
from advloss.attacks import ATTACKS, CLOSEST_ATTACKS
from advloss.errors import InputError, Stopped
from advloss.types import Split

_RESULTS = "evaluation.json"
_FOLDER = "evaluation"
GALLERY_IMAGES = 100  # Natural images that are kept, for the report's gallery.


def evaluate_run(
    config: ConfigDict, workdir: str | Path, devices: Sequence[jax.Device]
) -> dict:
    """Attacks a trained network with every attack of `evaluate.attacks`.

    Attacks that were measured earlier on the same examples stay in the results.

    Returns:
        What `evaluation.json` holds.

    Raises:
        InputError: no finished run there, or of another config, or in use; or as
            `fit.train_run`.
        Stopped: the process was asked to end, see `stopping`.
    """
    workdir = Path(workdir)
    run, test = runs.load_run(workdir, config), test_split(config)
    measured = _identity(config, run, test)
    with lock.hold(workdir):
        return _evaluate(config, workdir, run, test, measured, devices)


def _identity(config: ConfigDict, run: runs.Run, test: Split) -> dict:
    """What all attacks' numbers depend on, beside the attacks.

    Raises InputError where a host sees something else than the first.
    """
    identity = {
        "step": run.step,
        "parameters": checkpoints.digest(run.params),
        "data": checkpoints.digest(tuple(test)),
        "examples": len(test.labels),
        "seed": config.evaluate.seed,
        "worst_only": config.evaluate.worst_only,
    }
    if (first := parallel.from_first(identity)) != identity:
        key = next(key for key in identity if identity[key] != first[key])
        raise InputError(
            f"{key}: {identity[key]} here, {first[key]} for the first process: all "
            "must see the same --workdir and data"
        )
    return identity


def _evaluate(
    config: ConfigDict,
    workdir: Path,
    run: runs.Run,
    test: Split,
    measured: dict,
    devices: Sequence[jax.Device],
) -> dict:
    if run.step < config.train.steps:
        raise InputError(
            f"--workdir={workdir} is trained for {run.step} of {config.train.steps} "
            "steps: finish it with experiments.train first"
        )
    worst_only = config.evaluate.worst_only
    attacks = parallel.from_first(_measured_before(workdir, measured))
    for name in config.evaluate.attacks:
        settings = config.evaluate[name].to_dict()
        if attacks.get(name, {}).get("settings") == settings:
            _tell(f"{config.name}: {name} was measured before")
            continue
        if worst_only and name in attacks:  # What came after it built on it.
            attacks = dict(itertools.takewhile(lambda a: a[0] != name, attacks.items()))  # noqa: B023
        environment = runs.environment(devices)
        finished = batches.Finished(
            workdir / _FOLDER / f"{name}.parts",
            {
                **measured,
                "before": _settings(attacks) if worst_only else [],
                "settings": settings,
                "batch_size": config.evaluate.batch_size,
                "environment": environment,
                "code": runs.code_digest(),
            },
        )
        standing = [_standing(workdir, attacks, test)] if worst_only else []
        outcome = _attack(config, name, run, test, standing, devices, finished)
        others = {key: attacks[key] for key in attacks if key != name}
        _write_results(workdir, measured, others)  # What is replaced counts no longer.
        _write_examples(examples_path(workdir, name), outcome, test)
        parallel.wait_for_all()
        attacks[name] = {
            "settings": settings,
            **_summary(name, outcome),
            "environment": environment,
        }
        _write_results(workdir, measured, attacks)
        finished.clear()
    parallel.wait_for_all()
    return load_results(workdir)


def _write_results(workdir: Path, measured: dict, attacks: dict) -> None:
    if attacks:
        results = {**measured, **_over_all(workdir, attacks), "attacks": attacks}
        files.write_json(workdir / _RESULTS, results)
    elif parallel.is_first():
        (workdir / _RESULTS).unlink(missing_ok=True)


def _attack(
    config: ConfigDict,
    name: str,
    run: runs.Run,
    test: Split,
    standing: list[np.ndarray],
    devices: Sequence[jax.Device],
    finished: batches.Finished,
) -> evaluate.Outcome:
    attack = compaction.attack_standing if standing else evaluate.attack_split
    with runs.progress_bar(f"{config.name}: {name}", len(test.labels), "img") as bar:

        def progress(count: int) -> None:
            bar.update(count)
            if stopping.requested():
                raise Stopped(f"stopped in {name}; what is finished is saved")

        how = {"devices": devices, "progress": progress, "finished": finished}
        return attack(config, name, run.params, test, *standing, **how)


def _settings(attacks: dict) -> list:
    """The attacks so far, in their order: on what they left the next one builds."""
    return [[name, attack["settings"]] for name, attack in attacks.items()]


def _tell(line: str) -> None:
    if parallel.is_first():
        print(line, file=sys.stderr)


def test_split(config: ConfigDict) -> Split:
    """The test examples that a config attacks. Raises InputError as `data.load`."""
    return evaluate.first(runs.load_data(config).test, config.evaluate.examples)


def _measured_before(workdir: Path, measured: dict) -> dict:
    """Earlier results of attacks on the same examples; none where they are damaged."""
    try:
        earlier = load_results(workdir) or {}
        same = all(earlier.get(key) == value for key, value in measured.items())
        attacks = earlier["attacks"] if same else {}
        for name in attacks:
            load_examples(workdir, name)
    except InputError as error:
        _tell(f"measured anew, as {error}")
        return {}
    return attacks


def _standing(workdir: Path, attacks: Iterable[str], test: Split) -> np.ndarray:
    """Which examples none of these attacks has fooled."""
    fooled = [~load_examples(workdir, name)["worst_correct"] for name in attacks]
    standing = ~np.any([np.zeros(len(test.labels), bool), *fooled], axis=0)
    return np.array(parallel.from_first(standing.tolist()))


def _summary(name: str, outcome: evaluate.Outcome) -> dict:
    summary = {
        "final": _proportion(outcome.correct),
        "worst": _proportion(outcome.worst_correct),
        "gradients": outcome.gradients,
        "blind": int(outcome.blind.sum()),
        "seconds": round(outcome.seconds, 1),
    }
    if name in CLOSEST_ATTACKS:
        median = float(np.median(outcome.distance))
        # JSON has no infinity: null, where fewer than half were fooled at all.
        summary["median_distance"] = median if np.isfinite(median) else None
    return summary


def _over_all(workdir: Path, attacks: dict) -> dict:
    """The natural accuracy, and what is left where the worst attack counts."""
    examples = [load_examples(workdir, name) for name in attacks]
    standing = np.all([each["worst_correct"] for each in examples], axis=0)
    natural = examples[-1]["natural"] == examples[-1]["labels"]
    return {"natural": _proportion(natural), "worst_of_all": _proportion(standing)}


def _proportion(correct: np.ndarray) -> dict:
    low, high = evaluate.wilson_interval(int(correct.sum()), len(correct))
    return {"accuracy": float(correct.mean()), "low": low, "high": high}


def examples_path(workdir: Path, attack: str) -> Path:
    """Where the per-example results of an attack are kept."""
    return workdir / _FOLDER / f"{attack}.npz"


def _write_examples(path: Path, outcome: evaluate.Outcome, test: Split) -> None:
    arrays = {
        "labels": test.labels,
        "natural": outcome.natural,
        "attacked": outcome.attacked,
        "correct": outcome.correct,
        "worst_correct": outcome.worst_correct,
        "distance": outcome.distance,
        "natural_images": test.images[:GALLERY_IMAGES],
        "attacked_images": outcome.images,
    }
    files.write_arrays(path, arrays)


def measured_config(config: ConfigDict, results: dict) -> ConfigDict:
    """A run's config with the evaluation that led to these results.

    Raises:
        InputError: the results have other settings than there are.
    """
    config = config.copy_and_resolve_references()
    try:
        config.evaluate.examples = results["examples"]
        config.evaluate.seed = results["seed"]
        config.evaluate.worst_only = results.get("worst_only", False)
        config.evaluate.attacks = tuple(results["attacks"])
        for name, attack in results["attacks"].items():
            config.evaluate[name].update(attack["settings"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{_RESULTS} is damaged: {error}") from error
    return configs.resolve(config)


def load_results(workdir: str | Path) -> dict | None:
    """What `evaluate_run` wrote, or None.

    Raises:
        InputError: it is damaged.
    """
    path = Path(workdir) / _RESULTS
    results = files.read_json(path)
    if results is None:
        return None
    try:
        cells = [results["natural"], results["worst_of_all"]]
        if not results["attacks"].keys() <= ATTACKS.keys():
            raise InputError(f"{path} is damaged: it names attacks that there are not")
        for attack in results["attacks"].values():
            cells += [attack["final"], attack["worst"]]
            attack["settings"].items()
        complete = results["attacks"] and all(
            isinstance(cell[key], float)
            for cell in cells
            for key in ("accuracy", "low", "high")
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: no {error}") from error
    if not complete:
        raise InputError(f"{path} is damaged: it lacks accuracies")
    return results


def load_examples(workdir: str | Path, attack: str) -> dict[str, np.ndarray]:
    """Per-example results of an attack: labels, predictions, images.

    The attacked images are all kept: what was made against one network can be shown to
    another, and looked into. Of the natural ones, the first `GALLERY_IMAGES` are.

    Raises:
        InputError: the file is missing or damaged.
    """
    return files.read_arrays(examples_path(Path(workdir), attack))
