"""What functions compute, as digests: one's own may change behind the same name."""

import contextlib
import hashlib
import os
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advloss.attacks import base, given
from advloss.types import Array, AttackResult, Objective, PyTree

# Where functions stay as they are.
_FIXED = tuple(
    f"{folder}{os.sep}"
    for folder in (Path(jax.__file__).parent, Path(__file__).parents[1])
)
# Attributes by which callables of Python and of JAX hold functions.
_HOLDING = ("func", "args", "f", "fun", "transforms", "__wrapped__", "__func__")


class Look(NamedTuple):
    """What a function computes of arrays of some shapes.

    Attributes:
        program: the digest of all of it: where what the function computes or holds has
            changed behind the same object, it is another.
        lasting: the same digest in every process: of what is called on the host it
            knows the code alone, not what that reads.
        arrays: the digest of the arrays that it holds.
        result: the shapes and types of what it gives.
    """

    program: bytes
    lasting: bytes
    arrays: bytes
    result: Any


def look(classifier: Callable[..., Any], images: Any, *variables: PyTree) -> Look:
    """A classifier's program; nothing is computed.

    Args:
        classifier: images, and `variables` where they are given -> logits.
        images: an array of their shape.
        *variables: what enters the program as arguments.

    Raises:
        InputError: the classifier fails.
        TracedError: it holds arrays that are traced.
    """
    with given.blamed(
        f"the classifier fails for images of shape {images.shape}: it must be a JAX "
        "function of images [batch, height, width, channels]"
    ):
        shape = jax.ShapeDtypeStruct(images.shape, np.float32)
        return look_at(classifier, shape, *variables)


def look_at_objective(objective: Objective, count: int, classes: int) -> Look:
    """An objective's program for that many images and classes.

    Raises:
        InputError: the objective fails, or gives no number for each image.
        TracedError: it holds arrays that are traced.
    """
    logits = jax.ShapeDtypeStruct((count, classes), np.float32)
    labels = jax.ShapeDtypeStruct((count,), np.int32)
    with given.blamed(
        f"the objective fails for logits {logits.shape} and labels {labels.shape}"
    ):
        found = look_at(objective, logits, labels)
    given.check_values(found.result, count)
    return found


def look_at_attack(
    attack: Callable[..., AttackResult], shape: tuple[int, ...], classes: int
) -> Look:
    """The program of an attack of one's own, whatever it attacks.

    Args:
        attack: with its settings bound.
        shape: of the images.
        classes: how many there are.

    Raises:
        InputError: it fails, or gives no `AttackResult` of such images.
    """

    def program(images: Array) -> AttackResult:
        def logits(images: Array) -> Array:
            return jnp.tile(images.reshape(len(images), -1)[:, :1], classes)

        keys = base.example_keys(jax.random.key(0), jnp.arange(len(images)))
        return attack(logits, keys, images, jnp.zeros(len(images), jnp.int32))

    with given.blamed(f"the attack fails for images {shape}"):
        found = look_at(program, jax.ShapeDtypeStruct(shape, np.float32))
    given.check_result(found.result, shape)
    return found


def look_at(function: Callable[..., Any], *arrays: Any) -> Look:
    """What a function computes of arrays of these shapes; nothing is computed.

    Raises TracedError where it holds arrays that are traced.
    """
    # A function that is new to JAX, which would answer for an old one from its cache.
    made, result = jax.make_jaxpr(lambda *xs: function(*xs), return_shape=True)(*arrays)
    found, equations = [made], [e for each in _programs(made) for e in each.eqns]
    if any(map(_has_own_rule, equations)):
        # Rules of derivatives, as of BPDA, are called for gradients alone. Of what has
        # no gradient, an attack that asks for one says so.
        with contextlib.suppress(Exception):
            found.append(jax.make_jaxpr(_gradient(function))(*arrays))
    held = [array for each in _programs(found) for array in getattr(each, "consts", ())]
    if given.is_traced(held):
        raise given.TracedError("evaluate was called")
    # Addresses of functions in memory say nothing, but of those that run on the host.
    text = re.sub(r"0x[0-9a-f]+", "", "".join(map(str, found)))
    calls = [call for equation in equations for call in _on_host(equation)]
    text += "".join(_source(getattr(call, "__code__", None)) for call in calls)
    parts = [hashlib.blake2b(_bytes(array)).digest() for array in held]
    constants = hashlib.blake2b(b"".join(parts)).digest()
    lasting = hashlib.blake2b(text.encode()).digest() + constants
    own = str([*map(id, calls)]).encode()
    return Look(lasting + own, lasting, constants, result)


def short(digest: bytes) -> str:
    """As it is written down: 12 hexadecimal digits."""
    return hashlib.blake2b(digest).hexdigest()[:12]


def _gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function's pull of ones back to its first argument."""

    def pulled(first: Array, *rest: Any) -> Array:
        found, pull = jax.vjp(lambda x: function(x, *rest), first)
        return pull(jnp.ones_like(found))

    return pulled


def _has_own_rule(equation: Any) -> bool:
    """Whether it has a rule of derivatives that is neither JAX's nor ours."""
    if not equation.primitive.name.startswith("custom_"):
        return False
    rules = _reached([*equation.params.values()], {})
    return not all(rule.__code__.co_filename.startswith(_FIXED) for rule in rules)


def _reached(found: Any, seen: dict[int, Any]) -> Iterator[types.FunctionType]:
    """The functions that something holds: in a closure, a `partial`, an attribute."""
    if id(found) in seen or isinstance(found, types.ModuleType | type):
        return
    seen[id(found)] = found
    inside: list[Any] = []
    if isinstance(found, types.FunctionType):
        yield found
        inside = [getattr(found, "__wrapped__", None)]
        inside += [_content(cell) for cell in found.__closure__ or ()]
    elif isinstance(found, list | tuple):
        inside = [*found]
    else:
        inside = [getattr(found, name, None) for name in _HOLDING]
    for each in inside:
        yield from _reached(each, seen)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # It is empty.
        return None


def _on_host(equation: Any) -> Iterator[Any]:
    """The functions that run in Python, whatever they are then."""
    if equation.primitive.name in ("pure_callback", "io_callback"):
        call = equation.params.get("callback")
        yield getattr(call, "callback_func", call)


def _source(constant: Any) -> str:
    """Code of Python, and what it holds, the same in every process."""
    if isinstance(constant, types.CodeType):
        inside = [*map(_source, constant.co_consts)]
        return repr((constant.co_code, constant.co_names, inside))
    if isinstance(constant, frozenset):  # Its order is the process's.
        return repr(sorted(map(_source, constant)))
    return repr(constant)


def _bytes(array: Array) -> bytes:
    if given.is_key(array.dtype):
        array = jax.random.key_data(array)
    return np.asarray(array).tobytes()


def _programs(program: Any) -> Iterator[Any]:
    """The programs in a tree, and those that they call."""
    if isinstance(program, tuple | list):
        for part in program:
            yield from _programs(part)
    elif hasattr(program, "eqns"):
        yield program
        for equation in program.eqns:
            yield from _programs(tuple(equation.params.values()))
