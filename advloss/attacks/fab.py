r"""FAB, the fast adaptive boundary attack: the nearest image that fools.

Each iteration replaces the network by its linearisation at the iterate x, and goes to
the plane where that changes its prediction, inside the box:

    x <- (1 - a) * (x + eta * d(x)) + a * (x0 + eta * d(x0)),    a <= alpha_max

where d(x) is the shortest change of x that reaches the plane (`plane.py`), x0 the
original, and a = |d(x)| / (|d(x)| + |d(x0)|). An iterate that fools is a candidate, and
goes back towards x0: it keeps the share beta of its change. At the end the nearest
candidate is drawn in, along the line to x0.

`fab` takes the nearest plane of all wrong classes, `fab_t` one class at a time: one
gradient a step, however many classes there are.

See "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack" by
Croce and Hein, Algorithm 1.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from advloss.attacks import base, plane
from advloss.attacks.carlini import Aim, Found
from advloss.errors import InputError
from advloss.types import Array, AttackResult, Classifier

_SHORTEST = 1e-8  # Of a change whose length is divided by.
_DRAWS = 3  # Looks along the line from what was found to the original, at the end.


def fab(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    steps: int = 100,
    restarts: int = 1,
    alpha_max: Array | float = 0.1,
    eta: Array | float = 1.05,
    beta: Array | float = 0.9,
    radius: Array | float = 0.3,
    norm: str = "linf",
    target_classes: int | None = None,
    start: Array | None = None,
    restart: Array | int | None = None,
    rank: Array | int | None = None,
) -> AttackResult:
    """The nearest image that fools, by projections on linearised boundaries.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example, see `base.example_keys`.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        steps: iterations from each start. Each takes the gradients towards all wrong
            classes, `classes - 1` of them, on one forward pass, and a forward pass to
            see whether the new iterate fools.
        restarts: how many times to start, at least 1: first from the image itself.
        alpha_max: the largest weight a of the original's own projection, in [0, 1].
        eta: how far to go, 1 being to the plane.
        beta: the share of its change that an iterate which fools keeps.
        radius: later starts are random points of a ball around the image, half as large
            as this or, where that is less, as the distance of what was found.
        norm: "linf" or "l2".
        target_classes, rank: see `fab_t`.
        start: what was found before: only nearer images replace it.
        restart: the number of the one start to be made, of several; may be traced.

    Returns:
        The nearest images that fool, which are the worst ones too, at their distances.
        An original that fools is its own result, at distance 0. Where none is found,
        `success` is False, the image is the original and the distance inf. The
        objective is the margin still missing: below 0 where it fools.

    Raises:
        AssertionError: a shape or a type is not as above.
        InputError: no class has that rank, or no norm that name.
    """
    base.check_arguments(keys, images, labels)
    base.check_norm(norm, ("linf", "l2"))
    aim, ball = Aim(labels, None, 0.0), base.NORMS[norm]
    natural = classifier(images)
    found = Found(images, jnp.where(aim.fooled(natural), 0.0, jnp.inf))
    if start is not None:
        fools = aim.fooled(classifier(start))
        found = found.closer(start, ball.distance(start, images), fools)

    likely = _by_likelihood(natural, labels)
    groups = likely[None] if target_classes is None else likely[:target_classes, None]
    runs = _runs(groups, rank, jnp.arange(restarts) if restart is None else restart)

    def run(carry: tuple[Found, Array], given: tuple[Array, ...]) -> tuple[Any, ...]:
        (found, flat), (rivals, rank, number) = carry, given

        def step(carry: tuple[Array, Found, Array], _: None) -> tuple[Any, ...]:
            x, found, flat = carry
            gap, normal = _nearest_plane(classifier, x, labels, rivals, norm)
            flat = flat & base.has_zero_gradient(normal)
            gap, normal = jax.tree.map(_finite, (gap, normal))
            x = _approach(x, images, gap, normal, alpha_max, eta, norm)
            logits = classifier(x)
            distance, surely = ball.distance(x, images), aim.surely_fooled(logits)
            found = found.closer(x, distance, surely)
            # Also what hardly fools goes back: on the boundary, no step is left.
            x = base.select(aim.fooled(logits), images + beta * (x - images), x)
            return (x, found, flat), None

        x = images
        if restarts > 1 or restart is not None:
            reach = jnp.minimum(found.distance, radius) / 2
            own = _fold(_fold(keys, rank), number)
            change = ball.draw(own, images, plane.as_pixels(reach, images))
            drawn = jnp.clip(images + change, 0.0, 1.0)
            x = jnp.where(number > 0, drawn, images)
        (_, found, flat), _ = jax.lax.scan(step, (x, found, flat), length=steps)
        return (found, flat), None

    iterations, gradients = len(runs[0]) * steps, groups.shape[1]
    flat = base.never_seen(labels, iterations)
    (found, flat), _ = jax.lax.scan(run, (found, flat), runs)
    found, missing = _draw_in(classifier, images, aim, found, natural, norm)
    success = jnp.isfinite(found.distance)
    looks = 1 + (start is not None) + iterations + 1 + _DRAWS
    return AttackResult(
        images=found.images,
        success=success,
        objective=missing,
        distance=found.distance,
        worst_images=found.images,
        worst_success=success,
        backward_passes=jnp.full(labels.shape, iterations * gradients, jnp.int32),
        forward_passes=jnp.full(labels.shape, looks, jnp.int32),
        zero_gradient=flat & ~success,
    )


def fab_t(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    target_classes: int = 9,
    **settings: Any,
) -> AttackResult:
    """FAB towards the most likely wrong classes in turn; any of them is a success.

    A step takes one gradient, that of `f_t - f_y`, whatever the number of classes.

    Arguments and result are those of `fab`.

    Args:
        classifier, keys, images, labels: see `fab`.
        target_classes: how many wrong classes t are aimed at, the most likely of the
            natural image first; at most all of them.
        **settings: see `fab`. And `rank`: of the one class to be aimed at, from 2 (the
            most likely wrong one) to target_classes + 1; may be traced, and is the
            nearest of these then.

    See "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks" by Croce and Hein, Section 5.
    """
    settings["target_classes"] = target_classes
    return fab(classifier, keys, images, labels, **settings)


def fab_rounds(settings: Mapping[str, Any], classes: int) -> list[base.Round]:
    """Start by start, class by class."""
    starts = ranks = list[dict[str, int]]([{}])
    if settings["restarts"] > 1:
        starts = [{"restart": number} for number in range(settings["restarts"])]
    if "target_classes" in settings:
        count = min(settings["target_classes"], classes - 1)
        ranks = [{"rank": rank} for rank in range(2, count + 2)]
    return [
        base.Round({}, {**rank, **start}, resume=True)
        for rank in ranks
        for start in starts
    ]


def _by_likelihood(logits: Array, labels: Array) -> Array:
    """`[classes - 1, batch]` the wrong classes, those of the largest logits first."""
    wrong = ~jax.nn.one_hot(labels, logits.shape[1], dtype=bool)
    others = jnp.where(wrong, logits, -jnp.inf)
    return jax.lax.top_k(others, logits.shape[1] - 1)[1].T


def _runs(
    groups: Array, rank: Array | int | None, starts: Array | int
) -> tuple[Array, Array, Array]:
    """Of each run the wrong classes that it goes towards, their rank, and its start.

    Args:
        groups: `[ranks, several, batch]` wrong classes.
        rank: the only one that is asked for, or None.
        starts: their numbers, or that of the only one.
    """
    ranks, starts = jnp.arange(2, len(groups) + 2), jnp.atleast_1d(starts)
    if rank is not None:
        if isinstance(rank, int) and not 2 <= rank <= len(groups) + 1:
            raise InputError(f"rank={rank} is not valid: use 2 to {len(groups) + 1}")
        ranks = jnp.atleast_1d(jnp.clip(rank, 2, len(groups) + 1))
    ranks, starts = jnp.repeat(ranks, len(starts)), jnp.tile(starts, len(ranks))
    return groups[ranks - 2], ranks, starts


def _fold(keys: Array, number: Array) -> Array:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)


def _finite(values: Array) -> Array:
    return jnp.where(jnp.isfinite(values), values, 0.0)


def _nearest_plane(
    classifier: Classifier, x: Array, labels: Array, rivals: Array, norm: str
) -> tuple[Array, Array]:
    """f_j - f_y `[batch]` and its gradient, of the class j whose plane is nearest to x.

    Only classes of `rivals` `[several, batch]` count; those without a gradient do last.
    """
    logits, pull = jax.vjp(classifier, x)

    def towards(others: Array) -> tuple[Array, Array]:
        def gap(logits: Array) -> Array:
            both = jnp.stack([others, labels], axis=1)
            both = jnp.take_along_axis(logits, both, axis=1)
            return both[:, 0] - both[:, 1]

        gaps, pull_gap = jax.vjp(gap, logits)
        return gaps, pull(*pull_gap(jnp.ones_like(gaps)))[0]

    gaps, normals = jax.vmap(towards)(rivals)
    lengths = jax.vmap(_dual_length, in_axes=(0, None))(normals, norm)
    distances = jnp.where(lengths > 0, jnp.abs(gaps) / lengths, jnp.inf)
    chosen = jnp.argmin(jnp.nan_to_num(distances, nan=jnp.inf), axis=0)
    each = jnp.arange(len(x))
    return gaps[chosen, each], normals[chosen, each]


def _dual_length(gradient: Array, norm: str) -> Array:
    """`[batch]` the rise along a step of length 1 that climbs most."""
    return base.dot(gradient, base.NORMS[norm].ascend(gradient))


def _approach(
    x: Array,
    images: Array,
    gap: Array,
    normal: Array,
    alpha_max: Array | float,
    eta: Array | float,
    norm: str,
) -> Array:
    """Between the projections of x and of the original, a little beyond the plane."""
    wanted = -gap, base.dot(normal, x - images) - gap
    change = plane.shortest_change(
        jnp.concatenate([x, images]),
        jnp.concatenate([normal, normal]),
        jnp.concatenate(wanted),
        norm,
    )
    length = base.NORMS[norm].distance(change, jnp.zeros_like(change))
    (own, other), lengths = jnp.split(change, 2), jnp.maximum(length, _SHORTEST)
    here, there = jnp.split(lengths, 2)
    share = plane.as_pixels(jnp.minimum(here / (here + there), alpha_max), images)
    moved = (1 - share) * (x + eta * own) + share * (images + eta * other)
    return jnp.clip(moved, 0.0, 1.0)


def _draw_in(
    classifier: Classifier,
    images: Array,
    aim: Aim,
    found: Found,
    natural: Array,
    norm: str,
) -> tuple[Found, Array]:
    """What was found, nearer on the line to the original; and the missing margin.

    The margin is taken as linear between the nearest point that fools and the farthest
    that does not, and looked at where it then vanishes (regula falsi).
    """
    change, ball = found.images - images, base.NORMS[norm]

    def look(carry: tuple[Any, ...], _: None) -> tuple[Any, ...]:
        low, high, found = carry
        (share, missing), gap = high, low[1] - high[1]
        back = (share - low[0]) * missing / gap
        share = share + jnp.where(gap > 0, back, 0.0)
        x = jnp.clip(images + plane.as_pixels(share, images) * change, 0.0, 1.0)
        logits = classifier(x)
        fools, here = aim.surely_fooled(logits), (share, aim.margin(logits))
        found = found.closer(x, ball.distance(x, images), fools)
        fools |= share == high[0]  # What was found, seen for the first time.
        keep = functools.partial(jnp.where, fools)
        low, high = jax.tree.map(keep, low, here), jax.tree.map(keep, here, high)
        return (low, high, found), None

    none = jnp.zeros_like(found.distance)
    begin = ((none, aim.margin(natural)), (none + 1, none), found)
    (_, (_, missing), found), _ = jax.lax.scan(look, begin, length=1 + _DRAWS)
    return found, missing
