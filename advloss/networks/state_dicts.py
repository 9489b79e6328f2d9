"""Arrays by name, as PyTorch keeps them: a `state_dict`, or a file that holds one."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from advloss.errors import InputError, line, shown
from advloss.runtime.files import as_path

# What data-parallel training and wrappers put before a name.
_PREFIX = re.compile(r"(module\.|model\.)+")
# Counts of updates; and a second copy of the first stage in TRADES' WideResNet, which
# its forward pass does not use.
_UNUSED = re.compile(r".*\.num_batches_tracked|sub_block1\..*")


def arrays(weights: Any) -> dict[str, np.ndarray]:
    """float32 arrays by name, without prefixes and without what nothing uses.

    Args:
        weights: arrays or tensors by name, or the path of a file, .pt, .pth or
            .safetensors.

    Raises:
        InputError: there is no such file, it can't be read, or holds something else.
    """
    if not isinstance(weights, Mapping):
        path = as_path("weights", weights, "file, or give a state_dict")
        weights = _state_dict(_read(path), path)
    found: dict[str, np.ndarray] = {}
    for name, value in weights.items():
        if not isinstance(name, str) or not _is_array(value):
            kind = type(value).__name__
            raise InputError(f"weights[{shown(name)}] is a {kind}: use arrays by name")
        prefix = _PREFIX.match(name)
        key = name[prefix.end() :] if prefix else name
        if key in found:
            raise InputError(f"weights hold {key} twice, once as {name}")
        if not _UNUSED.fullmatch(key):
            found[key] = _as_float32(key, value)
    return found


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _as_float32(key: str, value: Any) -> np.ndarray:
    try:
        if hasattr(value, "detach"):  # PyTorch's, of any real type and device.
            value = value.detach().cpu()
            value = (value if value.is_complex() else value.float()).numpy()
        value = np.asarray(value)
    except Exception as error:  # Of a sparse tensor, or one without values.
        raise InputError(f"weights[{key!r}] can't be read: {line(error)}") from error
    if value.dtype.kind not in "fiu" and value.dtype.name != "bfloat16":
        raise InputError(f"weights[{key!r}] is {value.dtype}: use floats")
    with np.errstate(over="ignore"):  # What is infinite then is refused.
        return value.astype(np.float32)


def _read(path: Path) -> Any:
    """What a file holds. Raises InputError where it can't be read."""
    readers = {".pt": _read_torch, ".pth": _read_torch, ".safetensors": _read_safe}
    if path.suffix not in readers:
        raise InputError(
            f"weights={path} is not valid: use a file {', '.join(readers)}, or give "
            "the arrays by name"
        )
    if not path.is_file():
        raise InputError(f"weights={path} is not valid: there is no such file")
    try:
        return readers[path.suffix](path)
    except ImportError as error:
        raise InputError(
            f"weights={path} can't be read: {line(error)}; install it, or give the "
            "arrays by name"
        ) from error
    except Exception as error:  # Whatever the reader makes of a damaged file.
        raise InputError(f"weights={path} can't be read: {line(error)}") from error


def _read_torch(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _read_safe(path: Path) -> Any:
    from safetensors.numpy import load_file

    return load_file(path)


def _state_dict(content: Any, path: Path) -> Mapping[str, Any]:
    """Arrays by name, or the one entry of a file that is that."""

    def holds_arrays(value: Any) -> bool:
        named = isinstance(value, Mapping) and bool(value)
        return named and all(map(_is_array, value.values()))

    if holds_arrays(content):
        return content
    if not isinstance(content, Mapping):
        raise InputError(f"weights={path} holds a {type(content).__name__}: use arrays")
    found = [key for key, value in content.items() if holds_arrays(value)]
    if len(found) != 1:
        told = ", ".join(map(str, found or content)) or "nothing"
        raise InputError(
            f"weights={path} holds {told}: give the arrays of one network by name"
        )
    return content[found[0]]
