"""The binarization test: can the attack find an adversarial example that is there?

Around an image lie random points within 0.95 epsilon, and one at epsilon. A linear
read-out of the network's logits tells the one from the others. So a network of two
classes is made in which an adversarial example is known to exist, and the attack must
find it, by steps along the margin of the two classes. Where it does not, it would not
find one in the network either.

We take 199 inner points, not 999, and Fisher's discriminant, not a logistic regression:
in the few dimensions of logits it separates as surely, and needs no iteration. The
point at epsilon is a corner of the ball in l-inf, as in the authors' code for robust
networks. The boundary lies close to it, so that random points do not find the region.

See "Increasing Confidence in Adversarial Robustness Evaluations" by Zimmermann et al.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advloss.attacks import base
from advloss.attacks.kept import kept
from advloss.evaluation.diagnosis.check import Check, at_least, not_run
from advloss.evaluation.diagnosis.climbs import step_size
from advloss.types import Array, Batch, Classifier, PyTree

_INNER = 199  # Points within; so many random ones look for the region, too.
_WITHIN = 0.95  # Theirs: the inner points' radius, of epsilon.
_CLOSE = 0.999  # Theirs: how near to the outer point the boundary lies.
_PASS = 0.95  # Theirs: about so many must be found.
_STEPS = 40
_LEAST = 10  # Ours: images that a share is taken of.
_HARD = 0.5  # Ours: of more, random points find the region, and nothing is shown.
_RIDGE = 1e-4  # Of the spread of logits, where some of them always move together.


class Found(NamedTuple):
    """What the test found of each image.

    Attributes:
        separated: `[n]` bool, the read-out tells the outer point from the inner ones.
        attack: `[n]` bool, the attack found the region.
        random: `[n]` bool, random points did.
    """

    separated: np.ndarray
    attack: np.ndarray
    random: np.ndarray


def binarization(found: Found) -> Check:
    """The share of planted regions that the attack finds."""
    name = "planted examples are found"
    meaning = (
        "the attack does not find an adversarial example that is known to be there: "
        "what it leaves says nothing"
    )
    source, count = "Zimmermann 2022", int(found.separated.sum())
    if count < min(_LEAST, len(found.separated)) or not count:
        reason = f"the logits separate the points of {count} images alone"
        return not_run(name, reason, meaning, source)
    if (easy := found.random[found.separated].mean()) > _HARD:
        reason = f"random points find {100 * easy:.0f} % of them"
        return not_run(name, reason, meaning, source)
    figure = found.attack[found.separated].mean()
    # One image alone decides nothing.
    return at_least(name, figure, min(_PASS, 1 - 1 / count), meaning, source)


@kept
def program(classifier_of: Callable[[PyTree], Classifier], norm: str) -> Callable:
    ball = base.NORMS[norm]

    def one_batch(shared: tuple, arrays: tuple[Batch]) -> dict[str, Array]:
        (variables, key, numbers), (batch,) = shared, arrays
        classifier, images = classifier_of(variables), batch.images
        epsilon = numbers["epsilon"]
        keys = base.example_keys(key, batch.indices)
        keys = jax.vmap(lambda k: jax.random.split(k, 4), out_axes=1)(keys)

        def points(key: Array, image: Array, radius: Array) -> Array:
            """`[_INNER, ...]` random points within a radius of an image."""
            many = jnp.broadcast_to(image, (_INNER, *image.shape))
            change = ball.draw(jax.random.split(key, _INNER), many, radius)
            return ball.project(many + change, many, radius)

        def read_out(given: tuple[Array, Array, Array]) -> tuple[Array, ...]:
            """Weights and threshold; whether they separate; whether all is finite."""
            inner_key, outer_key, image = given
            inner = points(inner_key, image, _WITHIN * epsilon)
            outer = image + epsilon * _direction(outer_key, image, norm)
            outer = ball.project(outer[None], image[None], epsilon)
            found = classifier(jnp.concatenate([inner, outer]))
            weights, threshold, separated = discriminant(found[:-1], found[-1])
            return weights, threshold, separated, jnp.isfinite(found).all()

        weights, thresholds, separated, finite = jax.lax.map(
            read_out, (keys[0], keys[1], images)
        )

        def is_found(x: Array) -> tuple[Array, Array]:
            values = jnp.sum(weights * classifier(x), axis=-1) - thresholds
            return values.sum(), values > 0

        def step(_: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            x, found = carry
            gradient, now = jax.grad(is_found, has_aux=True)(x)
            moved = x + step_size(1.0, _STEPS) * epsilon * ball.ascend(
                base.finite(gradient)
            )
            return ball.project(moved, images, epsilon), found | now

        change = ball.draw(keys[2], images, epsilon)
        start = ball.project(images + change, images, epsilon)
        none = jnp.zeros(len(images), bool)
        x, attack = jax.lax.fori_loop(0, _STEPS, step, (start, none))

        def search(given: tuple[Array, ...]) -> Array:
            key, image, weights, threshold = given
            found = classifier(points(key, image, epsilon))
            return (found @ weights > threshold).any()

        random = jax.lax.map(search, (keys[3], images, weights, thresholds))
        return {
            "separated": separated,
            "attack": attack | is_found(x)[1],
            "random": random,
            "finite": finite,
        }

    return one_batch


def _direction(key: Array, image: Array, norm: str) -> Array:
    """A change of length 1: in l-inf a corner, which is farther in every direction."""
    if norm == "linf":
        return jax.random.rademacher(key, image.shape, image.dtype)
    change = jax.random.normal(key, image.shape, image.dtype)
    return change / jnp.linalg.norm(change.ravel())


def discriminant(inner: Array, outer: Array) -> tuple[Array, Array, Array]:
    """Fisher's direction from many points to one, with a threshold near the one.

    Args:
        inner: `[points, features]`.
        outer: `[features]`.

    Returns:
        Weights `[features]`, the threshold, and whether it separates the points.
    """
    mean, spread = jnp.mean(inner, axis=0), jnp.std(inner, axis=0)
    size = spread + _RIDGE * jnp.max(spread) + jnp.finfo(inner.dtype).tiny
    points, point = (inner - mean[None]) / size[None], (outer - mean) / size
    shape = points.T @ points / len(points) + _RIDGE * jnp.eye(points.shape[-1])
    weights = jnp.linalg.solve(shape, point)
    nearest, there = jnp.max(points @ weights), jnp.sum(point * weights)
    threshold = _CLOSE * there + (1 - _CLOSE) * nearest
    weights = weights / size
    return weights, threshold + jnp.sum(weights * mean), there > nearest
