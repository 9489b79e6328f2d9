"""What functions of others give, held to the contract: logits, numbers, results."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from advloss.errors import InputError, line
from advloss.types import AttackResult

_TREES = (tuple, list, dict)


class TracedError(InputError):
    """What was given is, or holds, an array of a program that is being traced."""

    def __init__(self, what: str):
        super().__init__(
            f"{what} within a function that JAX traces, as jit, grad and vmap do: it "
            "compiles programs of its own; call it outside"
        )


@contextlib.contextmanager
def blamed(what: str) -> Iterator[None]:
    """Whatever an author's function raises becomes one line that begins so."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{what} ({type(error).__name__}: {line(error)})") from error


def is_traced(tree: Any) -> bool:
    """Whether JAX traces an array in it: its values are not known."""
    leaves = jax.tree.leaves(tree, is_leaf=lambda x: not isinstance(x, _TREES))
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def is_key(dtype: Any) -> bool:
    """Whether it is the type of JAX's typed keys."""
    return jnp.issubdtype(dtype, jax.dtypes.prng_key)


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
