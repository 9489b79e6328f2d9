"""What functions of others give, held to the contract: logits, numbers, results."""

from typing import Any

import jax
import jax.numpy as jnp

from advloss.errors import InputError
from advloss.types import AttackResult


def count_classes(found: Any, count: int) -> int:
    """How many classes a classifier's logits have.

    Raises:
        InputError: it gives no logits.
    """
    if not (
        isinstance(found, jax.ShapeDtypeStruct)
        and len(found.shape) == 2
        and found.shape[0] == count
        and found.shape[1] > 1
        and jnp.issubdtype(found.dtype, jnp.floating)
    ):
        raise InputError(
            f"the classifier gives {_described(found)} for {count} images: it must "
            f"give logits, float [{count}, classes] of at least 2 classes"
        )
    return found.shape[1]


def check_values(found: Any, count: int) -> None:
    """Raises InputError where that is not what an objective gives."""
    right = isinstance(found, jax.ShapeDtypeStruct) and found.shape == (count,)
    if not right or not jnp.issubdtype(found.dtype, jnp.floating):
        raise InputError(
            f"the objective gives {_described(found)} for {count} images: it must give "
            f"a number for each, float [{count}]"
        )


def check_result(found: Any, shape: tuple[int, ...]) -> None:
    """Raises InputError where that is not what an attack gives for such images."""
    if not isinstance(found, AttackResult):
        raise InputError(
            f"the attack gives {_described(found)}: it must give an AttackResult"
        )
    for name, part in found._asdict().items():
        wanted = shape if name in ("images", "worst_images") else shape[:1]
        if getattr(part, "shape", None) != wanted:
            raise InputError(
                f"the attack gives {name} of {_described(part)} for images {shape}: "
                f"it must give {wanted}"
            )


def _described(found: Any) -> str:
    if not isinstance(found, jax.ShapeDtypeStruct):
        return type(found).__name__
    return f"{found.dtype} {found.shape}"
