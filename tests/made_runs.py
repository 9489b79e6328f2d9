"""Work directories with numbers chosen by hand, in the form of trained ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from advloss import config as configs
from advloss.attacks import ATTACKS, MINIMUM_NORM
from advloss.evaluation import changes, measured
from advloss.evaluation.outcome import Outcome
from advloss.runtime import checkpoints, files
from advloss.types import Split, TrainState

IMAGES = 20


def make_run(
    workdir: Path,
    name: str,
    *,
    accuracy: float = 0.5,
    attacks: tuple[str, ...] = ("pgd",),
    changes: dict | None = None,
    labels: np.ndarray | None = None,
) -> Path:
    """A run of 8x8 images; every attack leaves so much of its accuracy, natural 95 %.

    Args:
        workdir: made.
        name: of the config.
        accuracy: under the first attack; of those after it one image more each.
        attacks: none for a run that is not evaluated.
        changes: of the config, by dotted key.
        labels: `[n]` of the images that are attacked.
    """
    labels = np.arange(IMAGES) % 10 if labels is None else labels
    config = configs.default()
    config.name = name
    for key, value in (changes or {}).items():
        configs.put(config, key, value)
    config = configs.resolve(config)
    files.write_text(workdir / "config.json", configs.to_json(config))
    rows = [{"step": s, "loss": 1 / s, "accuracy": s / 100} for s in (10, 20, 600)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    files.write_text(workdir / "metrics.jsonl", lines)
    files.write_json(workdir / "environment.json", {"python": "3"})
    weights = {"params": {"w": np.full(3, accuracy)}}
    state = TrainState(np.int32(600), weights, {}, {}, {}, {})
    with checkpoints.open_folder(workdir, together=True) as manager:
        origin = checkpoints.Origin(config.to_dict(), {})
        checkpoints.save(manager, state, origin)
    for i, attack in enumerate(attacks):
        settings = config.evaluate[attack].to_dict()
        measure(workdir, attack, settings, round(accuracy * len(labels)) + i, labels)
    return workdir


def measure(
    workdir: Path,
    attack: str,
    settings: dict,
    correct: int,
    labels: np.ndarray | None = None,
    after: tuple[Path, ...] | None = None,
    **more: Any,
) -> Path:
    """Writes a result of an attack that leaves so many images, and returns its path.

    Args:
        after: the results whose survivors it was shown; None for all images.
        more: fields of its `Outcome`, or of its identity, that are others.
    """
    with checkpoints.open_folder(workdir) as manager:
        variables = checkpoints.restore(manager)["variables"]
    labels = np.arange(IMAGES) % 10 if labels is None else labels
    images = len(labels)
    natural = np.where(np.arange(images) < images - 1, labels, (labels + 1) % 10)
    left = np.arange(images) < correct
    rank = np.arange(images, dtype=np.float32)
    closest = ATTACKS[attack].kind == MINIMUM_NORM
    shape = (images, 8, 8, 1)
    outcome = Outcome(
        natural=natural,
        attacked=np.where(left, labels, (labels + 1) % 10),
        images=np.full(shape, 0.5, np.float32),
        correct=left,
        worst_correct=left & (np.arange(images) != 0),
        distance=np.flip(rank) / 10
        if closest
        else np.full(images, settings["epsilon"]),
        zero_gradient=np.zeros(images, bool),
        backward_passes=np.full(images, 100),
        forward_passes=np.full(images, 1),
        seconds=12.0,
    )
    given = {key: more.pop(key) for key in [*more] if key in Outcome._fields}
    outcome = outcome._replace(**given)
    test = Split(np.full(shape, 0.2, np.float32), labels)
    identity = {
        "step": 600,
        "parameters": files.digest(variables),
        "data": files.digest(tuple(test)),
        "examples": images,
        "seed": 0,
        "survivors_only": after is not None,
        "attack": attack,
        "settings": json.loads(json.dumps(settings)),
        **more,
    }
    if after is not None:
        identity["before"] = [path.stem.split("-")[1] for path in after]
    path = measured.path_of(workdir, identity)
    finished = 1.7e9 + len(list(path.parent.glob("*")))
    measured.write(path, identity, outcome, test, environment={}, finished=finished)
    return path


def move(workdir: Path, attack: str, rank: int = 9, **layers: np.ndarray) -> Path:
    """Writes what a run's attack moved: ranks 0 to `rank`, and layers' changes."""
    (result,) = workdir.glob(f"evaluation/{attack}-*.npz")
    layers = layers or {"conv1": np.linspace(0, 1, IMAGES), "fc2": np.ones(IMAGES)}
    arrays = {f"layer_{name}": values for name, values in layers.items()}
    ranks = np.arange(IMAGES) % (rank + 1)
    made = measured.read(result)
    changes.save_changes(made, {"rank_change": ranks, **arrays})
    return changes.path_of(made)
