"""Projected gradient descent that is watched, as a program of a batch.

Radius, steps, objective and the scale of the logits are traced: every sweep of a
diagnosis runs one compiled program. `watch.climb` runs it on any examples.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advloss import losses
from advloss.attacks import base
from advloss.attacks.kept import in_float32, kept
from advloss.types import Array, Batch, Classifier, Objective, PyTree

OBJECTIVES = ("training", "softmax_cross_entropy", "margin", "dlr", "towards")
"""What can be climbed; "towards" is the margin of one of the likely wrong classes."""

CHUNK = 20
"""The most steps of the program; between two, what is fooled may leave."""

_REACH = 2.5  # All steps together go so many times as far as the radius.


class Climb(NamedTuple):
    """What PGD saw, of examples that it was not run on too: nan and False.

    Attributes:
        loss: `[n, steps + 1]` the objective at the start and after each step.
        success: `[n, steps + 1]` bool, the iterate fools the network.
        flat: `[n, steps]` bool, the gradient at the iterate is zero or not a number.
        images: `[n, height, width, channels]` the worst iterate, one that fools before
            one that does not; the natural image where it was not run.
    """

    loss: np.ndarray
    success: np.ndarray
    flat: np.ndarray
    images: np.ndarray

    @property
    def fooled(self) -> np.ndarray:
        """`[n]` bool, some iterate fools the network."""
        return self.success.any(axis=1)


def step_size(epsilon: float, steps: int) -> float:
    """How long each of so many steps is, as Madry et al. choose it."""
    return _REACH * epsilon / max(steps, 1)


def objective_of(named: str, function: Callable) -> Objective:
    """What "training" stands for: a loss with its defaults, or a caller's function."""
    if named in losses.LOSSES and function is losses.LOSSES[named].function:
        return losses.climb(named, losses.defaults(named))
    return in_float32(function)


@kept
def program(
    classifier_of: Callable[[PyTree], Classifier],
    norm: str,
    classes: int,
    named: str,
    function: Callable,
    held: bytes,
) -> Callable:
    """`((variables, key, numbers), (batch, current)) -> dict` of what a chunk saw."""
    ball, training = base.NORMS[norm], objective_of(named, function)
    dlr = losses.dlr if classes >= losses.DLR_CLASSES else losses.margin
    untargeted = (training, losses.softmax_cross_entropy, losses.margin, dlr)
    branches = [
        *(lambda z, y, t, f=each: f(z, y) for each in untargeted),
        losses.targeted_margin,
    ]

    def one_batch(shared: tuple, arrays: tuple[Batch, Array]) -> dict[str, Array]:
        (variables, key, numbers), (batch, current) = shared, arrays
        classifier = classifier_of(variables)
        images, labels = batch.images, batch.labels
        keys = base.example_keys(key, batch.indices)
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, numbers["start"])
        change = ball.draw(keys, images, numbers["epsilon"])
        first = ball.project(images + change, images, numbers["epsilon"])
        first = jnp.where(numbers["first"], first, current)
        targets = _ranked(classifier(images), labels, numbers["rank"])

        def look(x: Array) -> tuple[Array, tuple[base.Worst, Array]]:
            logits = classifier(x)
            values = jax.lax.switch(
                numbers["choice"], branches, numbers["scale"] * logits, labels, targets
            )
            fools = base.fooled(logits, labels, None)
            seen = base.Worst(x, fools, values)
            return values.sum(), (seen, jnp.isfinite(logits).all(axis=-1))

        def step(i: Array, carry: dict[str, Any]) -> dict[str, Any]:
            x = carry["images"]
            gradient, (seen, finite) = jax.grad(look, has_aux=True)(x)
            ascent = ball.ascend(base.finite(gradient))
            moved = x + numbers["step_size"] * ascent
            return {
                "images": ball.project(moved, images, numbers["epsilon"]),
                "worst": base.worse(carry["worst"], seen),
                "loss": carry["loss"].at[:, i].set(seen.objective),
                "success": carry["success"].at[:, i].set(seen.success),
                "flat": carry["flat"].at[:, i].set(base.has_zero_gradient(gradient)),
                "finite": carry["finite"] & finite,
            }

        shape = (len(labels), CHUNK)
        none = jnp.zeros(labels.shape, bool)
        begin = {
            "images": first,
            "worst": base.Worst(
                first, none, jnp.full(labels.shape, -jnp.inf, jnp.float32)
            ),
            "loss": jnp.zeros(shape, jnp.float32),
            "success": jnp.zeros(shape, bool),
            "flat": jnp.zeros(shape, bool),
            "finite": ~none,
        }
        done = jax.lax.fori_loop(0, numbers["steps"], step, begin)
        _, (last, finite) = look(done["images"])
        worst = base.worse(done.pop("worst"), last)
        return {
            **done,
            "finite": done["finite"] & finite,
            "last_loss": last.objective,
            "last_success": last.success,
            "worst_images": worst.images,
        }

    return one_batch


def _ranked(logits: Array, labels: Array, rank: Array) -> Array:
    """`[batch]` the wrong class of a rank from 2, or the last that there is."""
    wrong = ~jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    order = jnp.argsort(-jnp.where(wrong, logits, -jnp.inf), axis=-1)
    place = jnp.minimum(rank - 2, logits.shape[-1] - 2)
    return jnp.take(order, place, axis=1)
