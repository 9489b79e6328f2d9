"""What is seen of a network around its images, as programs of a batch.

None is an iterative attack. `watch` runs them on any examples.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from advloss import losses
from advloss.attacks import base
from advloss.attacks.kept import kept
from advloss.evaluation.diagnosis.climbs import objective_of
from advloss.types import Array, Batch, Classifier, PyTree

SHARES = np.arange(1, 11, dtype=np.float32) / 10
"""How far along the line of a single step the network is looked at, of epsilon."""

_DRAWS = 100


@kept
def logits(classifier_of: Callable[[PyTree], Classifier]) -> Callable:
    def one_batch(shared: tuple, arrays: tuple[Batch, Array]) -> dict[str, Array]:
        (variables, _, _), (_, images) = shared, arrays
        found = classifier_of(variables)(images)
        return {"logits": found, "finite": jnp.isfinite(found).all(axis=-1)}

    return one_batch


@kept
def line(
    classifier_of: Callable[[PyTree], Classifier],
    norm: str,
    named: str,
    function: Callable,
    held: bytes,
) -> Callable:
    ball, training = base.NORMS[norm], objective_of(named, function)

    def one_batch(shared: tuple, arrays: tuple[Batch]) -> dict[str, Array]:
        (variables, _, numbers), (batch,) = shared, arrays
        classifier, images, labels = classifier_of(variables), *batch[:2]
        found, backward = jax.vjp(classifier, images)

        def gradient(objective: Callable) -> Array:
            slope = jax.grad(lambda z: objective(z, labels).sum())(found)
            return backward(slope)[0]

        slope, margin = gradient(training), gradient(losses.margin)
        ascent = ball.ascend(base.finite(slope))

        def look(share: Array) -> Array:
            x = images + share * numbers["epsilon"] * ascent
            x = ball.project(x, images, numbers["epsilon"])
            return base.fooled(classifier(x), labels, None)

        return {
            "success": jax.lax.map(look, jnp.asarray(SHARES)).T,
            "flat": base.has_zero_gradient(slope),
            "flat_margin": base.has_zero_gradient(margin),
            "finite": jnp.isfinite(found).all(axis=-1),
        }

    return one_batch


@kept
def around(classifier_of: Callable[[PyTree], Classifier], norm: str) -> Callable:
    ball = base.NORMS[norm]

    def one_batch(shared: tuple, arrays: tuple[Batch]) -> dict[str, Array]:
        (variables, key, numbers), (batch,) = shared, arrays
        classifier, images, labels = classifier_of(variables), *batch[:2]
        keys = base.example_keys(key, batch.indices)
        here = losses.margin(classifier(images), labels)
        size = jnp.maximum(jnp.abs(here), jnp.finfo(jnp.float32).tiny)

        def draw(seen: dict[str, Array], number: Array) -> tuple[dict, None]:
            own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
            change = ball.draw(own, images, numbers["radius"])
            x = ball.project(images + change, images, numbers["radius"])
            found = classifier(x)
            moved = jnp.abs(losses.margin(found, labels) - here) / size
            return {
                "change": seen["change"] + moved / _DRAWS,
                "success": seen["success"] | base.fooled(found, labels, None),
                "finite": seen["finite"] & jnp.isfinite(found).all(axis=-1),
            }, None

        none = jnp.zeros(labels.shape, bool)
        begin = {"change": jnp.zeros_like(here), "success": none, "finite": ~none}
        return jax.lax.scan(draw, begin, jnp.arange(_DRAWS))[0]

    return one_batch
