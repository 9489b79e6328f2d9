"""What a defence gives, held to the seam: one line for each mistake of one's own."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from advloss.attacks.given import blamed
from advloss.defences.base import Outcome
from advloss.errors import InputError
from advloss.types import PyTree

# What training adds to every defence's metrics.
_OF_TRAINING = (
    "best_robust", "best_step", "epsilon", "learning_rate", "step", "steps_per_second",
    "validation_accuracy", "validation_robust", "validations_since_best",
)  # fmt: skip


def told(
    name: str, function: Callable[..., Any]
) -> contextlib.AbstractContextManager[None]:
    """Whatever a defence of one's own raises, or its memory, becomes one line."""
    if function.__module__.startswith("advloss."):
        return contextlib.nullcontext()
    return blamed(f"config.defence.name={name!r}: the defence fails")


def checked(name: str, found: Any, variables: PyTree, memory: PyTree) -> Outcome:
    """What a defence gave, where it is what `base.Defence` says.

    Args:
        name: of the defence.
        found: what it gave.
        variables, memory: what it was given.

    Raises:
        InputError: it is something else.
    """

    def wrong(what: str) -> InputError:
        return InputError(f"config.defence.name={name!r}: the defence gives {what}")

    try:
        value, (renewed, kept, metrics) = found
    except (TypeError, ValueError):
        raise wrong("no (loss, (variables, memory, metrics))") from None
    if not isinstance(metrics, dict) or not {"loss", "accuracy"} <= metrics.keys():
        raise wrong("no metrics loss and accuracy: give a dict of scalars by name")
    for key, number in {"the loss": value, **metrics}.items():
        if not _is_scalar(number):
            raise wrong(f"{key} that is no scalar")
        if key in _OF_TRAINING:
            raise wrong(f"a metric {key}, as training itself does: rename it")
    if not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise wrong("a loss that is no float")
    if not isinstance(renewed, Mapping):
        raise wrong("no variables")
    if lost := variables.keys() - {"params"} - renewed.keys():
        raise wrong(f"variables without {', '.join(sorted(lost))}")
    if jax.tree.leaves(memory) and _form(kept) != _form(memory):
        raise wrong("a memory of another form than it was given")
    return found


def _is_scalar(number: Any) -> bool:
    known = isinstance(number, bool | int | float) or hasattr(number, "dtype")
    return known and jnp.ndim(number) == 0


def _form(tree: PyTree) -> tuple[Any, ...]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [jnp.shape(leaf) for leaf in leaves]
