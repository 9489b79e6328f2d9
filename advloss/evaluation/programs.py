"""Who attacks whom, what comes of it, and what is compiled for it.

The same functions give the same program: nothing is compiled twice, as long as the
network's function lives.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advloss import losses
from advloss.attacks import MINIMUM_NORM, Attack, base, example_keys
from advloss.attacks.kept import kept
from advloss.types import Array, AttackResult, Batch, Classifier, PyTree

_ROUNDING = 1e-6  # Of a distance, in float32.
_CLEARLY = 0.01  # Of the range of the logits: of another program they are rounded.


class Target(NamedTuple):
    """A network to be attacked.

    Attributes:
        classifier_of: variables -> (images -> logits), pure. The same object is
            compiled once.
        variables: its arrays; {} where the classifier holds them itself.
    """

    classifier_of: Callable[[PyTree], Classifier]
    variables: PyTree


class Adversary(NamedTuple):
    """An attack with its settings.

    Attributes:
        function: `f(classifier, keys, images, labels, **changes) -> AttackResult`, with
            the settings bound; changes replace some. The same object is compiled once.
        entry: of the registry.
        settings: by name; of a minimum-norm attack also `epsilon`, within which an
            image counts as fooled.
        traced: changes that enter the compiled program as arrays.
    """

    function: Callable[..., AttackResult]
    entry: Attack
    settings: Mapping[str, Any]
    traced: Mapping[str, float] = {}


def is_within(distance: np.ndarray, epsilon: float) -> np.ndarray:
    """Whether an image at this distance counts as within epsilon."""
    return distance <= epsilon + _ROUNDING


@kept
def look(classifier_of: Callable[[PyTree], Classifier]) -> Callable:
    """`(variables, images) -> {"prediction", "finite", "ends"}`, `[batch, ...]`."""

    def one_batch(variables: PyTree, images: Array) -> dict[str, Array]:
        logits = classifier_of(variables)(images)
        ends = jnp.stack([logits.min(axis=-1), logits.max(axis=-1)], axis=-1)
        return {**_seen(logits), "ends": ends}

    return one_batch


@kept
def _logits(classifier_of: Callable[[PyTree], Classifier]) -> Callable:
    return lambda variables, images: classifier_of(variables)(images)


def logits_of(target: Target, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """What the network gives for images of a shape, without computing it."""
    images = jax.ShapeDtypeStruct(shape, np.float32)
    return jax.eval_shape(_logits(target.classifier_of), target.variables, images)


def _seen(logits: Array) -> dict[str, Array]:
    return {
        "prediction": jnp.argmax(logits, axis=-1).astype(jnp.int32),
        "finite": jnp.isfinite(logits).all(axis=-1),
    }


def _denied(logits: Array, labels: Array, success: Array, nearest: bool) -> Array:
    """`[batch]` bool: the logits clearly say other than an attack of its images.

    Of nearest images it is what did not fool that need not be told.
    """
    margin = losses.margin(logits, labels)
    spread = logits.max(axis=-1) - logits.min(axis=-1)
    says = margin < -_CLEARLY * spread, margin > _CLEARLY * spread
    return jnp.where(success, says[0], says[1] & (not nearest))


def attack_round(
    target: Target, adversary: Adversary, part: base.Round, *, stop: bool
) -> Callable:
    """One round of an attack, as a function of what changes between rounds.

    Args:
        target: whose classifier is attacked.
        adversary: the attack.
        part: the round.
        stop: an image that fools is enough: it is the result, not the last iterate.

    Returns:
        `((variables, key, numbers), (batch, images)) -> dict` of `[batch, ...]`: the
        key of all examples' draws, changed settings as arrays, and the images that the
        round before has left.
    """
    return _attack_round(
        target.classifier_of,
        adversary.function,
        adversary.entry.norm,
        stop,
        adversary.entry.kind == MINIMUM_NORM,
        tuple(sorted(part.settings.items())),
        part.resume,
    )


@kept
def _attack_round(
    classifier_of: Callable[[PyTree], Classifier],
    function: Callable[..., AttackResult],
    norm: str,
    stop: bool,
    nearest: bool,
    settings: tuple[tuple[str, Any], ...],
    resume: bool,
) -> Callable:
    def one_batch(shared: tuple, arrays: tuple[Batch, Array]) -> dict[str, Array]:
        (variables, key, numbers), (batch, current) = shared, arrays
        classifier = classifier_of(variables)
        result = function(
            classifier,
            example_keys(key, batch.indices),
            batch.images,
            batch.labels,
            **dict(settings),
            **numbers,
            **({"start": current} if resume else {}),
        )
        images, success, distance = result.images, result.success, result.distance
        if stop and not nearest:
            success = result.worst_success
            images = base.select(success, result.worst_images, images)
            distance = base.distance(norm, images, batch.images)
        both = jnp.concatenate([images, result.worst_images])
        away = base.distance(norm, both, jnp.tile(batch.images, (2, 1, 1, 1)))
        in_box = ((both >= 0) & (both <= 1)).all(axis=(1, 2, 3))
        logits = classifier(images)
        seen = _seen(logits)
        return {
            "images": images,
            "attacked": seen["prediction"],
            "success": success,
            "worst_success": result.worst_success,
            "distance": distance,
            "farthest": away.reshape(2, -1).max(axis=0),
            "in_box": in_box.reshape(2, -1).all(axis=0),
            "denied": _denied(logits, batch.labels, success, nearest),
            "zero_gradient": result.zero_gradient,
            "backward_passes": result.backward_passes,
            "forward_passes": result.forward_passes + 1,  # Of `seen`.
            "finite": seen["finite"],
        }

    return one_batch
