"""How an attack moves what a network computes: ranks of classes, outputs of layers.

    changes = layer_changes(network, variables, natural, attacked)
    changes["conv1"]                        # [n], relative to the layer's natural input
    path_of(measured)                       # where a run's own are kept
    load_changes(measured[0])["rank_change"]    # of a run's own attacked images

What a change is measured against follows "Robust Loss Functions" by Vu and Tran,
Section III-A. A run's changes are kept in workdir/changes/, in files named as the
results that they belong to; each holds that result's digest.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from advloss.errors import InputError
from advloss.evaluation.measured import Measured, digest
from advloss.networks import Network
from advloss.runtime import files
from advloss.types import Array, PyTree

_FOLDER, _RESULT = "changes", "result"


def rank(logits: Array, classes: Array) -> Array:
    """How many outputs are larger than that of a class: 0 where it is predicted.

    Args:
        logits: `[batch, classes]`.
        classes: `[batch]` int, one class for each example.

    Returns:
        `[batch]` int32, 0 to classes - 1. Outputs that tie are not larger.

    See "Robust Loss Functions" by Vu and Tran, Section III-A (rank(j, y)).
    """
    own = jnp.take_along_axis(logits, classes[:, None], axis=-1)
    return jnp.sum(logits > own, axis=-1, dtype=jnp.int32)


def rank_change(natural: Array, changed: Array) -> Array:
    """The rank that the natural prediction has after a change of the image.

    Args:
        natural: `[batch, classes]` logits of the natural images.
        changed: `[batch, classes]` logits of the changed ones.

    Returns:
        `[batch]` int32; 0 where the prediction stayed.

    See "Robust Loss Functions" by Vu and Tran, Figures 1 and 4.
    """
    return rank(changed, jnp.argmax(natural, axis=-1))


def layer_changes(
    network: Network, variables: PyTree, natural: Array, changed: Array
) -> dict[str, Array]:
    """`||y' - y||_2 / ||x||_2` of every layer: x its natural input, y its output.

    Args:
        network: from `networks.build`.
        variables: its whole flax tree.
        natural: `[batch, height, width, channels]` images.
        changed: the same images after a change.

    Returns:
        Of every layer by name `[batch]`; inf or nan where a natural input is zero.

    See "Robust Loss Functions" by Vu and Tran, Section III-A, Figures 2 and 3.
    """
    _, before, _ = network.apply(variables, natural)
    _, after, _ = network.apply(variables, changed)
    inputs = [natural, *(before[name] for name in network.layers[:-1])]
    return {
        name: _length(after[name] - before[name]) / _length(x)
        for name, x in zip(network.layers, inputs, strict=True)
    }


def _length(values: Array) -> Array:
    return jnp.linalg.norm(values.reshape(len(values), -1), axis=-1)


def path_of(measured: Measured) -> Path:
    """Where the changes of a result are kept."""
    return measured.workdir / _FOLDER / measured.path.name


def is_there(measured: Measured) -> bool:
    """Whether the changes of a result are kept, whole; warns of a file that isn't."""
    if not path_of(measured).exists():
        return False
    try:
        load_changes(measured)
    except InputError as error:
        warnings.warn(f"made again: {error}", stacklevel=2)
        return False
    return True


def save_changes(measured: Measured, arrays: Mapping[str, np.ndarray]) -> None:
    """Keeps what `load_changes` returns. Raises OSError where it can't be written."""
    own = np.array(digest(measured.identity))
    files.write_arrays(path_of(measured), {**arrays, _RESULT: own})


def load_changes(measured: Measured) -> dict[str, np.ndarray]:
    """What an attack moved in a run's network, per example.

    Returns:
        "rank_change" `[n]`, and of each layer "layer_NAME" `[n]`, see `layer_changes`.

    Raises:
        InputError: the file is missing or damaged, or of another result.
    """
    path = path_of(measured)
    arrays = files.read_arrays(path)
    if str(arrays.pop(_RESULT, "")) != digest(measured.identity):
        raise InputError(f"{path} is damaged: it is of another result, or names none")
    count = (len(measured.labels),)
    layers = [name for name in arrays if name.startswith("layer_")]
    if list(arrays) != ["rank_change", *layers] or any(
        array.shape != count or array.dtype.kind not in "fiu"
        for array in arrays.values()
    ):
        raise InputError(f"{path} is damaged: it holds no changes of {count[0]} images")
    return arrays
