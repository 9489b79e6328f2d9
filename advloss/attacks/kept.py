"""What is compiled for a function is kept as long as the function, and no longer.

    network = stand_in(classifier, arrays)   # calls it, and does not keep it alive
    program = compiled(network, steps)       # `compiled` is `kept`: by `network`

A compiled program holds the arrays of the function that it was compiled for. In a cache
of its own it would hold the weights of every network that was ever attacked.
"""

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_MOST = 16  # Functions of callers, and what each keeps of a kind.
# By identity: of two that are equal, one may compute something else.
_stand_ins: dict[
    tuple[int, ...], tuple[weakref.ref[Any], bytes, Callable[..., Any]]
] = {}


def kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make(function, *key)`, called once for each key; its last results stay.

    They are attributes of the function, which must be one of ours, and go with it. Of a
    key that can't be hashed, nothing is kept.
    """
    name = f"{make.__module__}.{make.__qualname__}"

    @functools.wraps(make)
    def once(function: Callable[..., Any], *key: Any) -> Any:
        try:
            hash(key)
        except TypeError:
            return make(function, *key)
        if name not in vars(function):
            results = functools.lru_cache(_MOST)(functools.partial(make, function))
            vars(function)[name] = results
        return vars(function)[name](*key)

    return once


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that gives in float32 what another gives in floats of any type."""

    def converted(*given: Any) -> Any:
        found = function(*given)
        if isinstance(found, jax.Array) and jnp.issubdtype(found.dtype, jnp.floating):
            return found.astype(jnp.float32)
        return found

    return converted


def stand_in(function: Callable[..., Any], arrays: bytes) -> Callable[..., Any]:
    """A function that calls another, and gives float32, without keeping it alive.

    It is the same object for the same function as long as that lives and holds the
    same arrays, of which `arrays` is the digest. Of what can't be referred to weakly it
    is a new one, which keeps it.
    """
    refer: Any = weakref.ref
    key: tuple[int, ...] = (id(function),)
    if inspect.ismethod(function):  # Every look at one gives a new object.
        refer, key = weakref.WeakMethod, (id(function.__self__), id(function.__func__))
    try:
        weak = refer(function, lambda _: _stand_ins.pop(key, None))
    except TypeError:
        return in_float32(function)
    _, held, found = _stand_ins.get(key, (weak, b"", None))
    if found is None or held != arrays:
        found = in_float32(lambda *given: weak()(*given))
        _stand_ins[key] = weak, arrays, found
        if len(_stand_ins) > _MOST:
            del _stand_ins[next(iter(_stand_ins))]
    return found
