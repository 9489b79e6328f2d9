"""Arrays in a safetensors file, with what is said of them. It holds no code.

tensors.write(folder / "model.safetensors", arrays, {"module": "mlp"})
arrays, about = tensors.read(folder / "model.safetensors")
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from advloss.errors import InputError, line
from advloss.runtime import files

_ABOUT = "advloss"  # The key of the file's metadata, which are texts.


def write(
    path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> None:
    """Replaces a file in one move, as `files.write_text`.

    Args:
        path: of the file.
        arrays: of NumPy's own types, by name.
        about: as JSON has it.
    """
    # What is not contiguous, safetensors would write in the order of the memory.
    held = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(about)
    files.write_bytes(path, safetensors.numpy.save(held, {_ABOUT: text}))


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays that `write` wrote, and what was said of them.

    Raises:
        InputError: the file is missing, damaged, or was not written by `write`.
    """
    try:
        files.check_regular(path)
        with safetensors.safe_open(path, framework="np") as content:
            said = (content.metadata() or {}).get(_ABOUT)
            names = content.keys() if said else ()
            arrays = {name: content.get_tensor(name) for name in names}
    except (
        OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError,
        MemoryError,
    ) as error:  # fmt: skip
        raise InputError(f"{path} is missing or damaged: {line(error)}") from error
    if not said:
        raise InputError(f"{path} was not written by advloss: it does not say of what")
    try:
        about = json.loads(said)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {line(error)}") from error
    if not isinstance(about, dict):
        raise InputError(f"{path} is damaged: what it says of itself is no object")
    return arrays, about
