"""Adversarial weight perturbation: any defence, at the worst weights nearby."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from advloss.defences.base import Outcome, TrainingAttack
from advloss.errors import InputError
from advloss.types import Array, Batch, PyTree

Through = Callable[[TrainingAttack], TrainingAttack]


def perturbed(
    defend: Callable[..., Outcome], gamma: float, mean: Callable[[PyTree], PyTree]
) -> Callable[..., Outcome]:
    """The loss at weights that were moved a little towards a higher loss.

    `v_l = gamma * ||w_l|| * g_l / ||g_l||` for every kernel w_l, g the gradient of the
    defence's loss; then `loss(w + v)`, whose gradient moves w. The images are attacked
    once, at w. Biases and scales stay.

    Args:
        defend: a defence with its loss and attack bound; as `through` it takes a
            function of the attack, which it uses in place of the attack.
        gamma: how far, in units of each kernel's length.
        mean: over the devices that share the batch.

    Returns:
        The defence, without `through`.

    Raises:
        InputError: the defence calls its attack within a function that it has traced.

    See "Adversarial Weight Perturbation Helps Robust Generalization" by Wu et al., Eq.
    9 and 10.
    """

    def at_the_worst(
        forward: Callable[..., Any], variables: PyTree, batch: Batch, *rest: Any
    ) -> Outcome:
        def first(params: PyTree) -> tuple[Array, list[Any]]:
            found: list[Any] = []
            own = {**variables, "params": params}
            value, _ = defend(forward, own, batch, *rest, through=_kept_in(found))
            return value, found

        params = jax.lax.stop_gradient(variables["params"])
        gradient, found = jax.grad(first, has_aux=True)(params)
        moved = jax.tree.map(
            lambda w, g, x: x + jax.lax.stop_gradient(_step(gamma, w, g)),
            params,
            mean(gradient),
            variables["params"],
        )
        again = iter(found)
        own = {**variables, "params": moved}
        value, (renewed, memory, metrics) = defend(
            forward, own, batch, *rest, through=lambda _: lambda *_, **__: next(again)
        )
        return value, ({**renewed, "params": params}, memory, metrics)

    return at_the_worst


def _kept_in(found: list[Any]) -> Through:
    here = _traced()

    def through(attack: TrainingAttack) -> TrainingAttack:
        def keeps(*given: Any, **settings: Any) -> Any:
            if _traced() != here:  # What is found there can't be kept.
                raise InputError(
                    "config.defence.awp is not valid with a defence that calls its "
                    "attack within a function that JAX traces, as jit, checkpoint and "
                    "scan do: call it outside"
                )
            found.append(attack(*given, **settings))
            return found[-1]

        return keeps

    return through


def _traced() -> Any:
    """Which function is being traced."""
    return get_opaque_trace_state(convention="flax")


def _step(gamma: float, weights: Array, gradient: Array) -> Array:
    if weights.ndim < 2:
        return jnp.zeros_like(weights)
    # In units of its largest entry: squares of small ones are 0, of large ones inf.
    largest = jnp.max(jnp.abs(gradient), initial=0.0)
    unit = gradient / jnp.where(largest > 0, largest, 1.0)
    length = jnp.linalg.norm(unit)
    return gamma * jnp.linalg.norm(weights) * unit / jnp.where(length > 0, length, 1.0)
