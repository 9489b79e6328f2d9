"""Natural accuracy, and accuracy under attacks, over a whole split.

    outcome = evaluate.attack_split(config, "pgd", params, dataset.test, devices=...)
    outcome.correct.mean()          # under PGD's final iterate, as the paper
    outcome.worst_correct.mean()    # under the worst of all iterates

Every number comes from per-example results, which are returned too.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss import losses, models, parallel, train
from advloss.attacks import ATTACKS, CLOSEST_ATTACKS, example_keys
from advloss.batches import Finished
from advloss.types import Array, AttackResult, Batch, PyTree, Split

_ROUNDING = 1e-6  # Of a distance, in float32.

Progress = Callable[[int], None]
"""Called with the number of examples that were just finished."""


class Outcome(NamedTuple):
    """What one attack did to a split; arrays `[n, ...]` on the host.

    Attributes:
        natural: the predictions for the natural images.
        attacked: the predictions for the attack's final images.
        images: the attack's final images; of an attack that looks for the closest,
            also those that lie further away than its `epsilon`.
        correct: the final images are classified correctly: the paper's accuracy. Of an
            attack that looks for the closest: none within `epsilon` fools.
        worst_correct: neither the natural image nor any iterate fools the network.
        distance: of the final images from the natural ones; inf where none was found.
        blind: nothing was found, and there was no gradient to follow.
        gradients: evaluations of the gradient spent on an example.
        seconds: wall-clock time, compilation included; also of earlier processes that
            were interrupted.
    """

    natural: np.ndarray
    attacked: np.ndarray
    images: np.ndarray
    correct: np.ndarray
    worst_correct: np.ndarray
    distance: np.ndarray
    blind: np.ndarray
    gradients: int
    seconds: float


class Mapped:
    """A function of a batch, as one of any number of examples.

    Args:
        function: `(shared, batch) -> result`, where batch and result are trees of
            arrays `[batch, ...]`; compiled once.
        shared: what is the same for all examples.
        batch_size: of the function, over all devices; the last batch is filled up.
        devices: they share every batch.
        progress: is told how many examples have just been finished.

    Raises:
        InputError: the devices do not divide the batch.
    """

    def __init__(
        self,
        function: Callable[[PyTree, PyTree], PyTree],
        shared: PyTree,
        batch_size: int,
        devices: Sequence[jax.Device],
        progress: Progress = lambda count: None,
    ):
        parallel.share("evaluate.batch_size", batch_size, devices)
        self._function = parallel.map_examples(function, devices)
        self._shared = parallel.replicate(shared, devices)
        self._batch_size, self._progress = batch_size, progress

    def __call__(self, arrays: PyTree, finished: Finished | None = None) -> PyTree:
        """The results of `[n, ...]` arrays, n at least 1, on the host.

        `finished` keeps each batch, and gives those that it has already; the result
        must be a dict then.
        """
        total = len(jax.tree.leaves(arrays)[0])
        parts = []
        for start in range(0, total, self._batch_size):
            count = min(self._batch_size, total - start)
            part = finished.load(start) if finished else None
            if part is None:
                part = self._one_batch(arrays, start, count)
                if finished:
                    finished.save(start, **part)
            parts.append(part)
            self._progress(count)
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def _one_batch(self, arrays: PyTree, start: int, count: int) -> PyTree:
        last = start + count - 1
        chosen = np.minimum(np.arange(start, start + self._batch_size), last)
        batch = jax.tree.map(lambda x: np.asarray(x)[chosen], arrays)
        result = self._function(self._shared, batch)
        return jax.tree.map(lambda x: np.asarray(x[:count]), result)


def map_split(
    function: Callable[[PyTree, Batch], PyTree],
    shared: PyTree,
    split: Split,
    *,
    batch_size: int,
    devices: Sequence[jax.Device],
    progress: Progress = lambda count: None,
    finished: Finished | None = None,
) -> PyTree:
    """`function(shared, batch)` over a split, whose positions are the indices.

    See `Mapped` for the arguments.

    Raises:
        InputError: the devices do not divide the batch.
    """
    indices = np.arange(len(split.labels), dtype=np.int32)
    batch = Batch(np.asarray(split.images), np.asarray(split.labels), indices)
    return Mapped(function, shared, batch_size, devices, progress)(batch, finished)


def make_attack(
    config: ConfigDict, name: str
) -> Callable[[PyTree, PyTree, Batch], AttackResult]:
    """The attack `evaluate.<name>` of a config on its network.

    Returns:
        `(params, keys, batch, **changes) -> AttackResult`, pure; keys `[batch]`, and
        changes of the settings.
    """
    network = train.network_of(config)
    own = losses.bind(config.loss.name, train.loss_of(config))
    settings = dict(config.evaluate[name])
    if name in CLOSEST_ATTACKS:
        del settings["epsilon"]  # By which its result is judged, see `attack_split`.
    if "objective" in settings:
        settings["objective"] = losses.objective(
            settings["objective"], own, settings.pop("objective_scale")
        )

    def attack(
        params: PyTree, keys: Array, batch: Batch, **changes: Any
    ) -> AttackResult:
        return ATTACKS[name](
            models.classifier(network, params),
            keys,
            batch.images,
            batch.labels,
            **{**settings, **changes},
        )

    return attack


def attack_split(
    config: ConfigDict,
    name: str,
    params: PyTree,
    split: Split,
    *,
    devices: Sequence[jax.Device],
    progress: Progress = lambda count: None,
    finished: Finished | None = None,
) -> Outcome:
    """Attacks a whole split, in batches, each example as if it were alone.

    Args:
        config: resolved; its network, `evaluate.<name>` and `evaluate.seed` are used.
        name: the attack, a key of `attacks.ATTACKS`.
        params: the network's parameters.
        split: any number of examples.
        devices: they share every batch.
        progress: is told how many examples have just been finished.
        finished: keeps each batch, so that an interrupted attack can go on.

    Raises:
        InputError: the devices do not divide `evaluate.batch_size`.
    """
    attack = make_attack(config, name)
    network = train.network_of(config)

    def one_batch(shared: tuple[PyTree, PyTree], batch: Batch) -> dict[str, Array]:
        params, key = shared
        predict = models.predictor(network, params)
        result = attack(params, example_keys(key, batch.indices), batch)
        return {
            "natural": predict(batch.images),
            "attacked": predict(result.images),
            "images": result.images,
            "success": result.success,
            "worst_success": result.worst_success,
            "distance": result.distance,
            "blind": result.blind,
            "gradients": result.gradients,
        }

    started = time.perf_counter()
    found = map_split(
        one_batch,
        (params, jax.random.key(config.evaluate.seed)),
        split,
        batch_size=config.evaluate.batch_size,
        devices=devices,
        progress=progress,
        finished=finished,
    )
    success, worst_success = found["success"], found["worst_success"]
    if name in CLOSEST_ATTACKS:
        within = is_within(config, name, found["distance"])
        success, worst_success = success & within, worst_success & within
    was_right = found["natural"] == np.asarray(split.labels)
    return Outcome(
        natural=found["natural"],
        attacked=found["attacked"],
        images=found["images"],
        correct=~success,
        worst_correct=was_right & ~worst_success,
        distance=found["distance"],
        blind=found["blind"],
        gradients=int(found["gradients"][0]),
        seconds=time.perf_counter() - started + (finished.earlier if finished else 0),
    )


def is_within(config: ConfigDict, name: str, distance: Array) -> Array:
    """Whether the result of an attack for the closest image counts as found."""
    return distance <= config.evaluate[name].epsilon + _ROUNDING


def first(split: Split, count: int) -> Split:
    """The first `count` examples; all of them where count is 0."""
    return Split(*(array[: count or None] for array in split))


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """95 % interval of a proportion, Wilson's score interval.

    It speaks of the choice of test examples alone, not of the seed of training.

    See "Probable Inference, the Law of Succession, and Statistical Inference" by
    Wilson.
    """
    z = 1.959964
    share = correct / total
    centre = share + z**2 / (2 * total)
    spread = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    ends = np.array([centre - spread, centre + spread]) / (1 + z**2 / total)
    low, high = np.clip(ends, 0.0, 1.0)  # At 0 and 1 rounding could leave the range.
    return float(low), float(high)
