"""Optimisers, their schedules, and the moving average of the weights.

    optimiser = optimisers.make("sgd", momentum=0.9, weight_decay=5e-4, clip_norm=0.0)
    updates, state = optimiser.update(gradient, state, params)    # of rate 1
    params = optimisers.apply(params, updates, rate=0.1)

The learning rate stands outside, so that it may be traced.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from advloss.registry import shipped
from advloss.types import Array, PyTree


class Optimiser(NamedTuple):
    """An entry of the registry: `(momentum, weight_decay) -> transformation`."""

    make: Callable[[float, float], optax.GradientTransformation]
    title: str


def _adam(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    """Decay of weights apart from the gradient, see "Decoupled Weight Decay
    Regularization" by Loshchilov and Hutter."""
    decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    return optax.chain(optax.scale_by_adam(b1=momentum), *decay)


def _sgd(momentum: float, weight_decay: float) -> optax.GradientTransformation:
    """Decay of weights as a part of the gradient, as PyTorch's SGD has it."""
    decay = [optax.add_decayed_weights(weight_decay)] if weight_decay else []
    return optax.chain(*decay, optax.trace(decay=momentum))


OPTIMISERS: Mapping[str, Optimiser] = {
    "adam": Optimiser(_adam, "Adam"),
    "sgd": Optimiser(_sgd, "SGD with momentum"),
}
shipped(OPTIMISERS)


def make(
    name: str, *, momentum: float, weight_decay: float = 0.0, clip_norm: float = 0.0
) -> optax.GradientTransformation:
    """The optimiser of that name in `OPTIMISERS`, for a learning rate of 1.

    Args:
        name: a key of `OPTIMISERS`.
        momentum: SGD's; Adam's decay of the first moment.
        weight_decay: per unit of learning rate; 0 for none.
        clip_norm: gradients longer than that (l2, over all parameters) are shortened;
            0 for never.
    """
    clip = [optax.clip_by_global_norm(clip_norm)] if clip_norm else []
    return optax.chain(*clip, OPTIMISERS[name].make(momentum, weight_decay))


def apply(params: PyTree, updates: PyTree, *, rate: Array | float) -> PyTree:
    """`params - rate * updates`."""
    return optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates))


Schedule = Callable[[Array], Array]
"""The finished steps -> the factor of the learning rate."""


def _constant(steps: int, milestones: tuple[float, ...]) -> Schedule:
    """1 at every step."""
    return optax.constant_schedule(1.0)


def _cosine(steps: int, milestones: tuple[float, ...]) -> Schedule:
    """Half a wave of a cosine, from 1 to 0 at the last step."""
    return optax.cosine_decay_schedule(1.0, steps)


def _one_cycle(steps: int, milestones: tuple[float, ...]) -> Schedule:
    """Linear to 1 until the first milestone, and linear to 0 until the last step."""
    top = max(1, round(milestones[0] * steps))
    up = optax.linear_schedule(0.0, 1.0, top)
    down = optax.linear_schedule(1.0, 0.0, max(1, steps - top))
    return optax.join_schedules([up, down], [top])


def _piecewise(steps: int, milestones: tuple[float, ...]) -> Schedule:
    """A tenth at each milestone, of those too that fall on the same step."""
    places = [round(share * steps) for share in milestones]
    factors = {place: 0.1 ** places.count(place) for place in places}
    return optax.piecewise_constant_schedule(1.0, factors)


SCHEDULES: Mapping[str, Callable[[int, tuple[float, ...]], Schedule]] = {
    "constant": _constant,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "piecewise": _piecewise,
}
shipped(SCHEDULES)


def average(mean: PyTree, new: PyTree, *, decay: float, step: Array) -> PyTree:
    """The moving average after a step; young ones forget faster.

    `mean <- d * mean + (1 - d) * new` with `d = min(decay, (1 + step) / (10 + step))`:
    the first weights, which know nothing, do not stay in it for long.
    """
    share = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, b: share * a + (1.0 - share) * b, mean, new)
