"""What must hold of a network and its images before training."""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss import imported, networks
from advloss.attacks.given import blamed
from advloss.errors import InputError
from advloss.losses import LOSSES
from advloss.networks import Network, classifier
from advloss.types import Dataset, PyTree, Split

_SOME = 100  # Images that are looked at.
_ROUNDING = 0.01  # Of a cosine; lower precisions round much.


def check_images(dataset: Dataset, config: ConfigDict, network: Network) -> None:
    """The config's network must fit the images, and be one. Raises InputError."""
    height, width = dataset.train.images.shape[1:3]
    divisor = networks.divisor(config.model.name)
    if height % divisor or width % divisor or not height or not width:
        raise InputError(
            f"the images are {height}x{width}: config.model.name={config.model.name!r} "
            f"needs height and width that are multiples of {divisor}"
        )
    name = config.model.name
    told = f"config.model.name={name!r}: the network"
    found = check_module(network, dataset.train, config.data.num_classes, told)
    if found != config.data.num_classes:
        raise InputError(
            f"{told} gives logits of {found} classes: it must give those of "
            f"config.data.num_classes={config.data.num_classes}"
        )
    if imported.is_path(name) and LOSSES[config.loss.name].head != "linear":
        variables = network.init(jax.random.key(0), dataset.train.images.shape[1:])
        check_logits(network, variables, dataset.train, config.loss.name, told)


def check_module(
    network: Network, split: Split, classes: int, told: str = "the module"
) -> int:
    """A network must give logits, trained or not.

    Args:
        network: what is held to that.
        split: on whose images.
        classes: how many logits there must be at least.
        told: what an error begins with.

    Returns:
        How many there are.

    Raises:
        InputError: it gives something else, or has no parameters to be trained.
    """
    images = split.images[:2]

    def look(key: jax.Array) -> tuple[PyTree, list[tuple[Any, ...]]]:
        variables = network.init(key, images.shape[1:])
        modes = (False, True)
        return variables, [network.apply(variables, images, train=t) for t in modes]

    with blamed(
        f"{told} fails for images {images.shape}: it must give logits [batch, "
        "classes] and have params"
    ):
        variables, found = jax.eval_shape(look, jax.random.key(0))
        params = variables.get("params", {})
        found = [(y.shape, y.dtype, given.keys(), v) for y, given, v in found]
    kinds = sorted({str(leaf.dtype) for leaf in jax.tree.leaves(params)})
    if not kinds or not all("float" in kind for kind in kinds):
        raise InputError(
            f"{told}'s params are {', '.join(kinds) or 'none'}: use a module with "
            "params, all of them floats"
        )
    for shape, dtype, names, renewed in found:
        right = len(shape) == 2 and shape[0] == len(images) and shape[1] >= classes
        if not right or not np.issubdtype(dtype, np.floating):
            raise InputError(
                f"{told} gives {dtype} {shape} for images {images.shape}: it must give "
                f"logits, float [batch, classes], of at least {classes} classes as the "
                "labels say"
            )
        if absent := [name for name in network.layers if name not in names]:
            raise InputError(f"{told} gives no activations of {', '.join(absent)}")
        if _form(renewed) != _form(variables):
            raise InputError(
                f"{told} gives variables of another form than it began with: it must "
                "give the same arrays, by the same names"
            )
    return found[0][0][1]


def check_form(saved: PyTree, begun: PyTree, config: ConfigDict) -> None:
    """A checkpoint's variables must be the network's. Raises InputError."""
    if _form(saved) != _form(begun):
        raise InputError(
            f"config.model.name={config.model.name!r}: the network has other "
            "parameters than the run's checkpoint: use the source that the run began "
            "with, or another --workdir"
        )


def _form(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), tree)


def check_logits(
    network: Network,
    variables: PyTree,
    split: Split,
    loss: str,
    told: str = "the module",
) -> None:
    """A network of one's own must give what the loss takes. Raises InputError."""
    found = jax.jit(classifier(network, variables))(split.images[:_SOME])
    low, high = float(found.min()), float(found.max())
    largest = max(abs(low), abs(high))
    right, takes = {
        "cosine": (largest <= 1 + _ROUNDING, "cosines, from -1 to 1"),
        "centres": (
            high <= _ROUNDING * max(largest, 1),
            "-||z - mu||^2 / 2 of features z and centres mu, none above 0",
        ),
    }.get(LOSSES[loss].head, (True, ""))
    if not right:
        raise InputError(
            f"{told} gives logits from {low:.3g} to {high:.3g}: "
            f"config.loss.name={loss!r} takes {takes}"
        )
