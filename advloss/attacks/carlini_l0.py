"""Carlini and Wagner's attack for the number of changed pixels."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from advloss.attacks import base, carlini
from advloss.types import Array, AttackResult, Classifier


class _Example(NamedTuple):
    """What every example carries from round to round, `[batch, ...]`.

    Attributes:
        mask: `[batch, height, width, 1]` bool, the pixels that suffice.
        start: the image found with them, where the next search begins.
        use: `[batch, height, width, 1]` how much each pixel does for it.
        share: of the pixels that suffice, how many are dropped next.
        constant: the weight of the margin to begin with.
    """

    mask: Array
    start: Array
    use: Array
    share: Array
    constant: Array


def _drop(mask: Array, use: Array, share: Array) -> Array:
    """`mask` without its least useful pixels: that share of them, one at least."""
    flat = jnp.where(mask, use, jnp.inf).reshape(len(mask), -1)
    place = jnp.argsort(jnp.argsort(flat, axis=-1), axis=-1).reshape(mask.shape)
    size = jnp.sum(mask, axis=(1, 2, 3))
    dropped = jnp.where(share > 0, jnp.maximum(jnp.floor(share * size), 1), 0)
    return mask & (place >= dropped[:, None, None, None])


def carlini_l0(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    confidence: Array | float = 0.0,
    learning_rate: Array | float = 1e-2,
    rounds: int = 20,
    share: Array | float = 0.3,
    binary_search_steps: int = 3,
    steps: int = 200,
    initial_constant: Array | float = 1e-1,
    targets: Array | None = None,
) -> AttackResult:
    """The fewest pixels whose change fools the classifier.

    The l2 attack is repeated on fewer and fewer pixels. A round searches, from the last
    image found, for one that differs in the allowed pixels alone; then those are
    dropped whose change did least, by `sum over channels of |change * gradient of f|`.
    Where a round fails, its pixels are given back, and half as many are dropped in the
    next. (The original stops there.) The l2 attack's first round may need several
    constants: a failure hands the next one on.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example; nothing is drawn from them.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        confidence: by how much, in units of logit, the wrong class must lead.
        learning_rate: Adam's, in units of w.
        rounds: how many times the l2 attack is run, at least 1.
        share: of the allowed pixels, how many are dropped in a round, in (0, 1); one
            at least.
        binary_search_steps: weights that the l2 attack tries in a round.
        steps: iterations for each weight.
        initial_constant: the first weight of the first round.
        targets: `[batch]` int, the classes to be reached; by default any wrong one.

    Returns:
        As `carlini_l2`'s; a distance is the number of pixels (not of their channels)
        that differ from the original: 0 where the original fools already, and inf where
        no image was found.

    Raises:
        AssertionError: a shape or a type is not as above.

    See "Towards Evaluating the Robustness of Neural Networks" by Carlini and Wagner,
    Section VI-B.
    """
    base.check_arguments(keys, images, labels, targets)
    aim = carlini.Aim(labels, targets, confidence)

    def margins(x: Array) -> Array:
        return aim.margin(classifier(x)).sum()

    def search(
        carry: tuple[_Example, carlini.Found, Array], _: None
    ) -> tuple[Any, ...]:
        example, fewest, flat = carry
        allowed = _drop(example.mask, example.use, example.share)
        near, constant, unseen = carlini.solve_l2(
            classifier,
            images,
            aim,
            found=carlini.Found(images, jnp.full(labels.shape, jnp.inf, images.dtype)),
            start=jnp.where(allowed, example.start, images),
            mask=allowed,
            constant=example.constant,
            learning_rate=learning_rate,
            binary_search_steps=binary_search_steps,
            steps=steps,
        )
        success = jnp.isfinite(near.distance)
        changed = jnp.any(near.images != images, axis=-1, keepdims=True)
        count = jnp.sum(changed, axis=(1, 2, 3)).astype(images.dtype)
        fewest = fewest.closer(near.images, count, success)
        use = jnp.abs((near.images - images) * jax.grad(margins)(near.images))
        return (
            _Example(
                mask=base.select(success, allowed & changed, example.mask),
                start=base.select(success, near.images, example.start),
                use=base.select(success, use.sum(axis=-1, keepdims=True), example.use),
                # Before the first success there is nothing to drop.
                share=jnp.where(
                    success,
                    jnp.where(example.share > 0, example.share, share),
                    example.share / 2,
                ),
                constant=constant,
            ),
            fewest,
            flat & unseen,
        ), None

    one_channel = images[..., :1]
    start = _Example(
        mask=jnp.ones_like(one_channel, bool),
        start=images,
        use=jnp.zeros_like(one_channel),
        share=jnp.zeros(labels.shape, images.dtype),
        constant=jnp.full(labels.shape, initial_constant, images.dtype),
    )
    fewest = carlini.nothing_found(classifier, images, aim)
    evaluations = rounds * (binary_search_steps * steps + 1)
    flat = base.never_seen(labels, rounds * binary_search_steps * steps)
    (_, fewest, flat), _ = jax.lax.scan(search, (start, fewest, flat), length=rounds)
    return carlini.as_result(classifier, aim, fewest, gradients=evaluations, flat=flat)
