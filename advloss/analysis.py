"""How an attack moves what a network computes: ranks of classes, outputs of layers.

    changes = analysis.layer_changes(network, params, natural, attacked)
    changes["conv1"]    # [n], relative to the layer's natural input

Pure functions of images and scores. What a change is measured against follows
"Robust Loss Functions" by Vu and Tran, Section III-A.
"""

import jax.numpy as jnp

from advloss.models import Network
from advloss.types import Array, PyTree


def rank(scores: Array, classes: Array) -> Array:
    """How many outputs are larger than that of a class: 0 where it is predicted.

    Args:
        scores: `[batch, classes]`.
        classes: `[batch]` int, one class for each example.

    Returns:
        `[batch]` int32, 0 to classes - 1. Outputs that tie are not larger.

    See "Robust Loss Functions" by Vu and Tran, Section III-A (rank(j, y)).
    """
    own = jnp.take_along_axis(scores, classes[:, None], axis=-1)
    return jnp.sum(scores > own, axis=-1, dtype=jnp.int32)


def rank_change(natural: Array, changed: Array) -> Array:
    """The rank that the natural prediction has after a change of the image.

    Args:
        natural: `[batch, classes]` scores of the natural images.
        changed: `[batch, classes]` scores of the changed ones.

    Returns:
        `[batch]` int32; 0 where the prediction stayed.

    See "Robust Loss Functions" by Vu and Tran, Figures 1 and 4.
    """
    return rank(changed, jnp.argmax(natural, axis=-1))


def layer_changes(
    network: Network, params: PyTree, natural: Array, changed: Array
) -> dict[str, Array]:
    """`||y' - y||_2 / ||x||_2` of every layer: x its natural input, y its output.

    Args:
        network: from `models.build`.
        params: its parameters.
        natural: `[batch, height, width, channels]` images.
        changed: the same images after a change.

    Returns:
        Of every layer by name `[batch]`; inf or nan where a natural input is zero.

    See "Robust Loss Functions" by Vu and Tran, Section III-A, Figures 2 and 3.
    """
    _, before = network.apply(params, natural)
    _, after = network.apply(params, changed)
    inputs = [natural, *(before[name] for name in network.layers[:-1])]
    return {
        name: _length(after[name] - before[name]) / _length(x)
        for name, x in zip(network.layers, inputs, strict=True)
    }


def _length(values: Array) -> Array:
    return jnp.linalg.norm(values.reshape(len(values), -1), axis=-1)
