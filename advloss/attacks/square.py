r"""Square: random search by squares, without a gradient.

    x <- x + square, cut to the ball and the box, where that raises max f_j - f_y

The first query is the image with vertical stripes of +-epsilon (in l2, with a grid of
bumps). Each later one tries a square at a random place, whose side shrinks from query
to query: in l-inf +-epsilon in each channel, in l2 a bump that takes its length from
elsewhere in the image. An example that is fooled changes no more, and is asked no more.

See "Square Attack: a query-efficient black-box adversarial attack via random search" by
Andriushchenko et al., Algorithms 1 to 3.
"""

import functools
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from advloss.attacks import base
from advloss.types import Array, AttackResult, Classifier, Objective

# The share of the image that a square covers is halved after so many queries.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Queries after which what is fooled leaves, and every 1,000 from then on.
_ENDS = (50, 200, 500)
_TINY = 1e-12  # Of a length that is divided by.


class _State(NamedTuple):
    """Where the search stands, each example for itself.

    Attributes:
        number: of the next trial; 0 is the random start.
        trial: what is looked at next.
        best: the best image so far, its `success` and its `objective`.
        queries: `[batch]` how often the network was asked.
    """

    number: Array
    trial: Array
    best: base.Worst
    queries: Array


def square(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    objective: Objective,
    epsilon: Array | float,
    queries: Array | int = 5000,
    p_init: Array | float = 0.8,
    norm: str = "linf",
    done: Array | int = 0,
    start: Array | None = None,
) -> AttackResult:
    """Random search by squares that raises the objective.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example, see `base.example_keys`.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        objective: (logits, labels) -> `[batch]`, climbed; the authors' is
            `losses.margin`.
        epsilon: the ball's radius, in units of pixel value; may be traced.
        queries: after how many the search ends; may be traced.
        p_init: the share of the image that the first squares cover, in (0, 1]; may be
            traced. It is halved after 10, 50, 200, 500, 1,000, 2,000, 4,000, 6,000 and
            8,000 queries, however many there are.
        norm: "linf" or "l2".
        done: how many queries were made before; may be traced.
        start: the images that they have left; by default `images`, with done=0.

    Returns:
        The images of the highest objective, or the first that fool, with distances in
        the norm; they count as the worst iterates, too. Forward passes are the queries
        that were spent on each example until it was fooled, and one for `start`.

    Raises:
        AssertionError: a shape or a type is not as above.
        InputError: no norm of that name.
    """
    base.check_arguments(keys, images, labels)
    base.check_norm(norm, _MOVES)
    ball, (scatter, change) = base.NORMS[norm], _MOVES[norm]

    def look(state: _State) -> _State:
        """The trial in place of the best, where it is better."""
        logits, best = classifier(state.trial), state.best
        fools = base.fooled(logits, labels, None)
        seen = base.Worst(state.trial, fools, objective(logits, labels))
        better = ~best.success & (fools | (seen.objective > best.objective))
        keep = functools.partial(base.select, better)
        return state._replace(
            best=jax.tree.map(keep, seen, best), queries=state.queries + ~best.success
        )

    def propose(state: _State) -> _State:
        """The next trial; the first replaces the image even where it is no better."""
        number, best = state.number, state.best
        own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
        side = _side(number, p_init, images.shape)
        trial = jax.lax.cond(
            number == 0,
            lambda: jax.vmap(scatter, in_axes=(0, 0, None))(own, images, epsilon),
            lambda: jax.vmap(change, in_axes=(0, 0, 0, None, None))(
                own, images, best.images, epsilon, side
            ),
        )
        forget = (number == 0) & ~best.success
        known = jnp.where(forget, -jnp.inf, best.objective)
        return state._replace(
            number=number + 1,
            trial=ball.project(trial, images, epsilon),
            best=best._replace(objective=known),
        )

    def is_open(state: _State) -> Array:
        return (state.number <= queries) & ~state.best.success.all()

    first = images if start is None else start
    lowest = jnp.full(labels.shape, -jnp.inf, images.dtype)
    unseen = base.Worst(first, jnp.zeros(labels.shape, bool), lowest)
    none = jnp.zeros(labels.shape, jnp.int32)
    state = _State(jnp.asarray(done, jnp.int32), first, unseen, none)
    state = jax.lax.while_loop(is_open, lambda state: propose(look(state)), state)
    best = state.best
    return AttackResult(
        images=best.images,
        success=best.success,
        objective=best.objective,
        distance=ball.distance(best.images, images),
        worst_images=best.images,
        worst_success=best.success,
        backward_passes=none,
        forward_passes=state.queries,
        zero_gradient=jnp.zeros(labels.shape, bool),
    )


def square_rounds(settings: Mapping[str, Any], classes: int) -> list[base.Round]:
    """All queries, in a few parts: the first ones fool most."""
    queries = settings["queries"]
    ends = [end for end in (*_ENDS, *range(1000, queries, 1000)) if end < queries]
    return [
        base.Round({}, {"done": done, "queries": end}, resume=True)
        for done, end in itertools.pairwise([0, *ends, queries])
    ]


def _side(number: Array | int, p_init: Array | float, shape: tuple[int, ...]) -> Array:
    """The side of the square that is tried next, in pixels."""
    _, height, width, _ = shape
    halvings = jnp.sum(number > jnp.array(_HALVINGS))
    side = jnp.round(jnp.sqrt(p_init * 0.5**halvings * height * width))
    return jnp.clip(side, 1, min(height, width)).astype(jnp.int32)


# What follows is of one example: images are `[height, width, channels]`.


def _signs(key: Array, *shape: int) -> Array:
    return jax.random.rademacher(key, shape, jnp.float32)


def _window(key: Array, side: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """A square at a random place: rows and columns from its corner, `[height, width]`
    each, and where it is, `[height, width, 1]`."""
    height, width, _ = shape
    sizes = jnp.array([height, width]) - side + 1
    corner = jnp.floor(jax.random.uniform(key, (2,)) * sizes).astype(jnp.int32)
    places = jnp.indices((height, width)) - corner[:, None, None]
    return places, ((places >= 0) & (places < side)).all(axis=0)[..., None]


def _stripes(key: Array, original: Array, epsilon: Array | float) -> Array:
    """Every column epsilon up or down, in each channel."""
    return original + epsilon * _signs(key, 1, *original.shape[1:])


def _flat_square(
    key: Array, original: Array, x: Array, epsilon: Array | float, side: Array
) -> Array:
    """A square epsilon up or down, in each channel."""
    place, colour = jax.random.split(key)
    _, inside = _window(place, side, x.shape)
    return jnp.where(inside, original + epsilon * _signs(colour, 1, 1, x.shape[2]), x)


def _bump(places: Array, side: Array | int, size: int) -> Array:
    """A hill over a hollow, as a picture of length 1.

    Each is a pile of squares around the middle of its half, the k-th of them
    2 * k + 1 wide and 1 / (k + 1)^2 high.

    Args:
        places: `[2, ...]` rows and columns; the picture is where both are from 0 to
            `side`, and 0 elsewhere.
        side: of the picture, at most `size`.
    """
    row, column = places
    widths = jnp.arange(1, size + 2, dtype=jnp.float32)
    heights = jnp.cumsum(1 / widths**2)  # Of the first k squares, from k = 1.
    heights = jnp.concatenate([jnp.zeros_like(widths[:1]), heights])

    def pile(row: Array, height: Array | int) -> Array:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < side)
        middle = jnp.maximum(jnp.abs(row - height // 2), jnp.abs(column - side // 2))
        count = jnp.maximum(height // 2, side // 2) + 1
        values = heights[count] - heights[jnp.minimum(middle, count)]
        return _to_length(jnp.where(inside, values, 0.0), 1.0)

    upper = side // 2
    return _to_length(pile(row, upper) - pile(row - upper, side - upper), 1.0)


def _to_length(
    values: Array, length: Array | float, axis: tuple[int, ...] | None = None
) -> Array:
    now = jnp.sqrt(jnp.sum(jnp.square(values), axis=axis, keepdims=True))
    return values / (now + _TINY) * length


def _bumps(key: Array, original: Array, epsilon: Array | float) -> Array:
    """A grid of bumps, up or down in each channel, together epsilon long."""
    height, width, channels = original.shape
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    turn, colour = jax.random.split(key)
    bump = _bump(jnp.indices((side, side)), side, side)
    turned = jax.random.bernoulli(turn, shape=(rows, 1, columns, 1))
    grid = jnp.where(turned, bump.T[None, :, None], bump[None, :, None])
    grid = grid[..., None] * _signs(colour, rows, 1, columns, 1, channels)
    grid = grid.reshape(rows * side, columns * side, channels)
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    change = jnp.zeros_like(original)
    change = jax.lax.dynamic_update_slice(change, grid, (top, left, 0))
    return original + _to_length(change, epsilon)


def _moved_bump(
    key: Array, original: Array, x: Array, epsilon: Array | float, side: Array
) -> Array:
    """A bump on one square, for which the change within another is given up."""
    height, width, channels = x.shape
    size = min(height, width)
    side = jnp.maximum(side, 3)
    side = jnp.minimum(side + 1 - side % 2, size)
    to, off, turn, colour = jax.random.split(key, 4)
    (places, inside), (_, given) = (_window(k, side, x.shape) for k in (to, off))
    turned = jax.random.bernoulli(turn)
    bump = _bump(jnp.where(turned, places[::-1], places), side, size)
    change = x - original
    here, pixels = jnp.where(inside, change, 0.0), (0, 1)
    new = bump[..., None] * _signs(colour, 1, 1, channels)
    new += _to_length(here, 1.0, pixels)
    both = jnp.where(inside | given, change, 0.0)
    unused = jnp.maximum(epsilon**2 - jnp.sum(jnp.square(change)), 0.0) / channels
    length = jnp.sqrt(unused + jnp.sum(jnp.square(both), axis=pixels, keepdims=True))
    change = jnp.where(given, 0.0, change)
    change = jnp.where(inside, _to_length(new, length, pixels), change)
    return original + _to_length(change, epsilon)


_MOVES = {"linf": (_stripes, _flat_square), "l2": (_bumps, _moved_bump)}
