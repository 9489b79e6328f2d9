"""An attack that stops spending: what is fooled leaves the batch.

    outcome = compaction.attack_standing(config, "pgd", params, split, standing, ...)

Where only the worst case is asked for (`evaluate.worst_only`), an example that has been
fooled once needs no further step. PGD comes in rounds of a few steps; after each, the
examples that still stand are put together into fewer batches. Other attacks come batch
by batch. Which examples stand at the end is the same as without: keys go with the
example, and a round goes on where the one before ended.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss import evaluate, models, train
from advloss.attacks import CLOSEST_ATTACKS, base, example_keys
from advloss.attacks.pgd import keys_of_starts
from advloss.batches import Finished
from advloss.evaluate import Outcome, Progress
from advloss.types import Array, Batch, PyTree, Split

_STEPS = 10  # Of PGD in a round: a program's dispatch is not worth fewer.


class _Round(NamedTuple):
    """A part of an attack.

    Attributes:
        start: which of PGD's starts it belongs to.
        settings: the attack's, where they differ from the config's.
        examples: whom it takes on, if they still stand; indices.
    """

    start: int
    settings: tuple[tuple[str, Any], ...]
    examples: np.ndarray


def _rounds(config: ConfigDict, name: str, examples: np.ndarray) -> Iterator[_Round]:
    if name not in ("pgd", "pgd_l2"):
        size = config.evaluate.batch_size
        for first in range(0, len(examples), size):
            yield _Round(0, (), examples[first : first + size])
        return
    settings = config.evaluate[name]
    for start in range(settings.restarts):
        yield _Round(start, (("restarts", 1), ("steps", 0)), examples)
        for done in range(0, settings.steps, _STEPS):
            steps = min(_STEPS, settings.steps - done)
            go_on = {"restarts": 1, "steps": steps, "random_start": False}
            yield _Round(start, tuple(go_on.items()), examples)


class _Found(NamedTuple):
    """What a round leaves; arrays `[batch, ...]`."""

    images: Array
    fooled: Array
    distance: Array
    gradients: Array
    blind: Array


def _program(config: ConfigDict, name: str, settings: dict[str, Any]) -> Callable:
    """A round with these settings, as a function of what changes between rounds."""
    attack = evaluate.make_attack(config, name)
    restarts = config.evaluate[name].get("restarts", 1)
    norm = base.NORMS["l2" if name == "pgd_l2" else "linf"]

    def one_batch(shared: tuple, arrays: tuple[Batch, Array]) -> _Found:
        (params, key, start), (batch, images) = shared, arrays
        keys = example_keys(key, batch.indices)
        if restarts > 1:
            keys = keys_of_starts(keys, restarts)[start]
        changed = dict(settings)
        if changed.get("random_start") is False:
            changed["start"] = images
        result = attack(params, keys, batch, **changed)
        if name in CLOSEST_ATTACKS:
            within = evaluate.is_within(config, name, result.distance)
            fooled = result.success & within
            found = result.images, fooled, result.distance
        else:
            fooled = result.worst_success
            images = base.select(fooled, result.worst_images, result.images)
            found = images, fooled, norm.distance(images, batch.images)
        return _Found(*found, result.gradients, result.blind)

    return one_batch


def attack_standing(
    config: ConfigDict,
    name: str,
    params: PyTree,
    split: Split,
    standing: np.ndarray,
    *,
    devices: Sequence[jax.Device],
    progress: Progress = lambda count: None,
    finished: Finished | None = None,
) -> Outcome:
    """Attacks the examples that stand, each until it is first fooled.

    Args:
        config, name, params, split, devices, progress: as `evaluate.attack_split`.
        finished: keeps what the rounds so far have found.
        standing: `[n]` bool, which examples no earlier attack has fooled.

    Returns:
        As `evaluate.attack_split`, but for `correct`, which is `worst_correct`: none
        of the attacks so far fools. An example's image is the first that fools, its
        own where it was not attacked; gradients are the mean over all examples.
    """
    started = time.perf_counter()
    size, network = config.evaluate.batch_size, train.network_of(config)
    originals, labels = (np.asarray(array) for array in split)

    def predict(params: PyTree, images: Array) -> Array:
        return models.predictor(network, params)(images)

    predict = evaluate.Mapped(predict, params, size, devices)
    key = jax.random.key(config.evaluate.seed)
    natural = predict(originals)
    standing = standing & (natural == labels)
    state = (finished and finished.load(0)) or {
        "rounds": np.zeros((), int),
        "images": originals.copy(),
        "standing": standing,
        "distance": np.zeros(len(labels), np.float32),
        "gradients": np.zeros(len(labels), int),
        "blind": standing.copy(),
    }
    progress(int((~state["standing"]).sum()))

    @functools.cache
    def program(start: int, settings: tuple[tuple[str, Any], ...]) -> evaluate.Mapped:
        function = _program(config, name, dict(settings))
        return evaluate.Mapped(function, (params, key, start), size, devices)

    rounds = _rounds(config, name, np.flatnonzero(standing))
    for part in itertools.islice(rounds, int(state["rounds"]), None):
        chosen = part.examples[state["standing"][part.examples]]
        if not len(chosen):
            break
        batch = Batch(originals[chosen], labels[chosen], chosen.astype(np.int32))
        run = program(part.start, part.settings)
        found = run((batch, state["images"][chosen]))
        state["images"][chosen] = found.images
        state["distance"][chosen] = found.distance
        state["gradients"][chosen] += found.gradients
        state["blind"][chosen] &= found.blind
        state["standing"][chosen[found.fooled]] = False
        state["rounds"] += 1
        if finished:
            finished.save(0, **state)
        progress(int(found.fooled.sum()))
    standing = state["standing"]
    progress(int(standing.sum()))
    return Outcome(
        natural=natural,
        attacked=predict(state["images"]),
        images=state["images"],
        correct=standing,
        worst_correct=standing,
        distance=state["distance"],
        blind=state["blind"] & standing,
        gradients=round(float(state["gradients"].mean())),
        seconds=time.perf_counter() - started + (finished.earlier if finished else 0),
    )
