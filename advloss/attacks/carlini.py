r"""The attacks of Carlini and Wagner: the least change that fools a classifier.

    result = attacks.carlini_l2(classifier, keys, images, labels)
    jnp.median(result.distance)    # inf where no image was found

    carlini_l2      the smallest Euclidean change          (this file)
    carlini_linf    the smallest change of the worst pixel (carlini_linf.py)
    carlini_l0      the fewest changed pixels              (carlini_l0.py)

All three lower a weighted sum of a distance and of the margin

    f(x) = max(max_{i != t} Z_i(x) - Z_t(x), -confidence)    t the wished-for class
    f(x) = max(Z_y(x) - max_{i != y} Z_i(x), -confidence)    y the true class

with Adam on w, where x = (tanh w + 1) / 2: every w is an image, so the box [0, 1] needs
no projection. What they share is here; each is one compiled loop over the whole batch,
with constants, bounds and masks of its own for every example.

See "Towards Evaluating the Robustness of Neural Networks" by Carlini and Wagner.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from advloss.attacks import base
from advloss.losses.climbed import margin
from advloss.types import Array, AttackResult, Classifier

# Pixels of 0 and 1 lie at infinite w; drawn in by this factor, they lie at +-3.8 and
# can leave within tens of steps, at the price of moving by 0.0005.
_SQUEEZE = 0.999
# In float32, of the largest logit: a lead smaller than this may vanish where another
# program evaluates the same classifier.
_ROUNDING = 1e-5
_LARGEST_CONSTANT = 1e10


class Found(NamedTuple):
    """The closest fooling image so far, `[batch, ...]`; the original where none."""

    images: Array
    distance: Array

    def closer(self, images: Array, distance: Array, success: Array) -> "Found":
        """With those of `images` that fool and are closer than what there was."""
        take = success & (distance < self.distance)
        return Found(
            base.select(take, images, self.images),
            jnp.where(take, distance, self.distance),
        )


def to_variables(images: Array) -> Array:
    """w of images in [0, 1]; finite also for pixels of 0 and 1."""
    return jnp.arctanh((2.0 * images - 1.0) * _SQUEEZE)


def to_images(variables: Array) -> Array:
    """Images in [0, 1], exactly, of any w."""
    return (jnp.tanh(variables) + 1.0) / 2.0


class Aim(NamedTuple):
    """Which predictions fool, and by how much.

    Attributes:
        labels: `[batch]` int, the true classes.
        targets: `[batch]` int, the classes to be reached, or None for any wrong one.
        confidence: by how much, in units of logit, the wrong class must lead.
    """

    labels: Array
    targets: Array | None
    confidence: Array | float

    def margin(self, logits: Array) -> Array:
        """`[batch]` the logit that is still missing; negative where it is fooled."""
        if self.targets is None:
            return -margin(logits, self.labels)
        return margin(logits, self.targets)

    def excess(self, logits: Array) -> Array:
        """`[batch]` the margin as it is minimised: no lower than need be."""
        return jnp.maximum(self.margin(logits), -self.confidence)

    def fooled(self, logits: Array) -> Array:
        """`[batch]` bool: by `confidence`."""
        enough = self.margin(logits) <= -self.confidence
        return enough & base.fooled(logits, self.labels, self.targets)

    def surely_fooled(self, logits: Array) -> Array:
        """`[batch]` bool: by `confidence`, and by more than rounding."""
        slack = _ROUNDING * jnp.max(jnp.abs(logits), axis=-1)
        return self._replace(confidence=self.confidence + slack).fooled(logits)


def nothing_found(classifier: Classifier, images: Array, aim: Aim) -> Found:
    """The originals: at distance 0 where they fool already, at inf elsewhere."""
    distance = jnp.where(aim.fooled(classifier(images)), 0.0, jnp.inf)
    return Found(images, distance.astype(images.dtype))


def as_result(
    classifier: Classifier, aim: Aim, found: Found, *, gradients: int, flat: Array
) -> AttackResult:
    """The result of an attack that began with `nothing_found`."""
    labels, success = aim.labels, jnp.isfinite(found.distance)
    return AttackResult(
        images=found.images,
        success=success,
        objective=aim.margin(classifier(found.images)),
        distance=found.distance,
        worst_images=found.images,
        worst_success=success,
        backward_passes=jnp.full(labels.shape, gradients, jnp.int32),
        # Of the originals, and of what was found.
        forward_passes=jnp.full(labels.shape, 2, jnp.int32),
        zero_gradient=flat & ~success,
    )


class _Search(NamedTuple):
    """Of every example: the constant, and between which bounds it is looked for."""

    constant: Array
    lower: Array
    upper: Array

    def next(self, success: Array) -> "_Search":
        """Ten times the constant until the first success, then the middle."""
        lower = jnp.where(success, self.lower, self.constant)
        upper = jnp.where(success, self.constant, self.upper)
        middle, grown = (lower + upper) / 2, self.constant * 10
        constant = jnp.where(jnp.isfinite(upper), middle, grown)
        return _Search(jnp.minimum(constant, _LARGEST_CONSTANT), lower, upper)


def solve_l2(
    classifier: Classifier,
    images: Array,
    aim: Aim,
    *,
    found: Found,
    start: Array,
    mask: Array,
    constant: Array,
    learning_rate: Array | float,
    binary_search_steps: int,
    steps: int,
) -> tuple[Found, Array, Array]:
    """The closest fooling image that differs from the original in `mask` alone.

    Args:
        classifier: images -> logits `[batch, classes]`.
        images: `[batch, height, width, channels]` the originals.
        aim: what fools.
        found: what was found before; only closer images replace it.
        start: images where every search for a constant begins anew.
        mask: bool, broadcastable to images: which pixels may change.
        constant: `[batch]` the weight of the margin to begin with.
        learning_rate: Adam's.
        binary_search_steps: the number of constants that are tried.
        steps: the iterations for each of them.

    Returns:
        What is found, at its Euclidean distance; `[batch]` the least constant that
        succeeded, or the next to be tried where none did; and `[batch]` whether every
        gradient of the margin was zero.
    """
    adam = optax.scale_by_adam()
    first = to_variables(start)
    anchor = to_images(to_variables(images))

    def objective(variables: Array, constant: Array) -> tuple[Array, tuple[Any, ...]]:
        x = jnp.where(mask, to_images(variables), images)
        logits = classifier(x)
        # From the squeezed original, whose gradient is 0 where nothing has moved.
        change = jnp.where(mask, x - anchor, 0.0)
        values = base.dot(change, change) + constant * aim.excess(logits)
        return values.sum(), (x, aim.surely_fooled(logits))

    def search(carry: tuple[_Search, Found, Array], _: Any) -> tuple[Any, ...]:
        bounds, found, flat = carry

        def step(carry: tuple[Any, ...], _: None) -> tuple[Any, ...]:
            variables, moments, found, ever, flat = carry
            gradient, (x, success) = jax.grad(objective, has_aux=True)(
                variables, bounds.constant
            )
            direction, moments = adam.update(gradient, moments)
            distance = base.NORMS["l2"].distance(x, images)
            found = found.closer(x, distance, success)
            variables = variables - learning_rate * direction
            flat = flat & base.has_zero_gradient(gradient)
            return (variables, moments, found, ever | success, flat), None

        never = jnp.zeros(constant.shape, bool)
        begin = (first, adam.init(first), found, never, flat)
        (_, _, found, success, flat), _ = jax.lax.scan(step, begin, length=steps)
        return (bounds.next(success), found, flat), None

    bounds = _Search(
        constant, jnp.zeros_like(constant), jnp.full_like(constant, jnp.inf)
    )
    flat = base.never_seen(constant, binary_search_steps * steps)
    (bounds, found, flat), _ = jax.lax.scan(
        search, (bounds, found, flat), length=binary_search_steps
    )
    least = jnp.where(jnp.isfinite(bounds.upper), bounds.upper, bounds.constant)
    return found, least, flat


def carlini_l2(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    confidence: Array | float = 0.0,
    learning_rate: Array | float = 1e-2,
    binary_search_steps: int = 9,
    steps: int = 1000,
    initial_constant: Array | float = 1e-3,
    targets: Array | None = None,
) -> AttackResult:
    """The smallest Euclidean change that fools the classifier.

    Minimises `||x - x0||^2 + c * f(x)`, see the module's docstring for f. The weight c
    is looked for example by example: it grows tenfold until an image is found, then
    the interval between failure and success is halved; each time Adam starts afresh
    from the original. Of all iterates that fool, the closest is kept.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example; nothing is drawn from them.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        confidence: by how much, in units of logit, the wrong class must lead; with 0
            the images lie so near the boundary that only rounding is allowed for.
        learning_rate: Adam's, in units of w.
        binary_search_steps: how many weights are tried.
        steps: iterations for each weight.
        initial_constant: the first weight.
        targets: `[batch]` int, the classes to be reached; by default any wrong one.

    Returns:
        The closest fooling images, which are the worst ones too, at their l2 distances.
        An original that fools by `confidence` is its own result at distance 0. Where
        none is found, `success` is False, the image is the original and the distance
        inf. The objective is the margin, unclipped: the lower, the worse.

    Raises:
        AssertionError: a shape or a type is not as above.

    See "Towards Evaluating the Robustness of Neural Networks" by Carlini and Wagner,
    Sections V and VI-A.
    """
    base.check_arguments(keys, images, labels, targets)
    aim = Aim(labels, targets, confidence)
    found, _, flat = solve_l2(
        classifier,
        images,
        aim,
        found=nothing_found(classifier, images, aim),
        start=images,
        mask=jnp.ones_like(images, bool),
        constant=jnp.full(labels.shape, initial_constant, images.dtype),
        learning_rate=learning_rate,
        binary_search_steps=binary_search_steps,
        steps=steps,
    )
    evaluations = binary_search_steps * steps
    return as_result(classifier, aim, found, gradients=evaluations, flat=flat)
