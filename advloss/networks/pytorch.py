"""Weights of PyTorch networks for the library's, by the names of public repositories.

    loaded = load_pytorch("wide_resnet", "trades.pt", depth=34, widen=10)
    loaded.classifier(images)       # -> logits

The names are those of RobustBench's PreActResNet and WideResNet, which are TRADES' and
Rice et al.'s, too; `module.` and `model.` before them are taken off.
"""

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from advloss import networks
from advloss.errors import InputError, shown
from advloss.networks import state_dicts
from advloss.networks.network import Network
from advloss.types import Array, Classifier, PyTree

# Of each network, what its layers are called there.
_LAYERS = {
    "preact_resnet18": {
        "stem": "conv1", "norm": "bn", "fc": "linear", "block": "layer{}.{}",
        "shortcut": "shortcut.0",
    },
    "wide_resnet": {
        "stem": "conv1", "norm": "bn1", "fc": "fc", "block": "block{}.layer.{}",
        "shortcut": "convShortcut",
    },
}  # fmt: skip
_STAGES = {"preact_resnet18": 4, "wide_resnet": 3}
_LEAVES = {
    "kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean",
    "var": "running_var",
}  # fmt: skip
# Buffers of what normalises images before the network.
_IMAGES = re.compile(r"(?:normalize\.)?(mean|std|mu|sigma)")


class Pretrained(NamedTuple):
    """A network with the weights that were loaded.

    Attributes:
        network: its pure functions.
        variables: the network's whole tree.
        classifier: jitted and pure: images `[batch, height, width, channels]` in
            [0, 1] -> logits `[batch, classes]`.
    """

    network: Network
    variables: PyTree
    classifier: Classifier


def load_pytorch(name: str, weights: Any, **settings: Any) -> Pretrained:
    """A network of the library with the weights of a PyTorch network.

    Args:
        name: preact_resnet18 or wide_resnet.
        weights: arrays or tensors by their names in PyTorch, a `state_dict`; or the
            path of a file, .pt or .pth, which takes PyTorch, or .safetensors, which
            takes safetensors. A file that holds more than one is read where it has one
            entry of that kind.
        settings: those of the network, such as depth and widen. `shortcut` must be
            said of a preact_resnet18, as no weight tells it: "activated" for Rice et
            al.'s, "input" for Wong et al.'s (2020), which has final_norm=False, too.
            `mean` and `std` are by default those that the weights hold as
            `normalize.mean` and `normalize.std`, or `mu` and `sigma`, else 0 and 1.

    Raises:
        InputError: a name, setting or file is not valid; names are missing or left
            over; an array has another shape, or holds what is not finite.
    """
    if not isinstance(name, str) or name not in _LAYERS:
        raise InputError(
            f"name={shown(name)} is not valid: use one of {', '.join(_LAYERS)}"
        )
    known = networks.settings_of(name)
    for key in settings:
        if key not in known or key == "norm":
            own = ", ".join(key for key in known if key != "norm")
            raise InputError(
                f"{key}={shown(settings[key])} is no setting of {name} here: use {own}"
            )
    if name == "preact_resnet18" and "shortcut" not in settings:
        raise InputError(
            "shortcut is missing, and no weight tells it: use shortcut='activated' "
            "(Rice et al.'s PreActResNet-18) or 'input' (Wong et al.'s)"
        )
    settings = {key: _plain(key, value) for key, value in settings.items()}
    networks.check_settings(name, settings)
    arrays = state_dicts.arrays(weights)
    settings = {**_of_images(arrays, settings), **settings}
    if any(not 0 <= each <= 1 for each in settings.get("mean", ())):
        raise InputError(
            f"mean={settings['mean']} is not of images in [0, 1]: of weights for bytes "
            "divide mean and std by 255, and give them as settings alone"
        )
    stem, last = (f"{_LAYERS[name][each]}.weight" for each in ("stem", "fc"))
    for key, rank in ((stem, 4), (last, 2)):
        if key not in arrays or arrays[key].ndim != rank or not arrays[key].size:
            raise InputError(f"weights hold no {key} of {rank} axes: use a {name}'s")
    network = networks.build(
        name, head="linear", num_classes=arrays[last].shape[0], **settings
    )
    shape = (8, 8, arrays[stem].shape[1])  # The parameters are those of any size.
    form = jax.eval_shape(lambda key: network.init(key, shape), jax.random.key(0))
    blocks = sum(each.startswith("block") for each in network.layers)
    calls = functools.partial(_pytorch_name, name, blocks=blocks // _STAGES[name])
    variables = _filled(calls, f"{name} with {_text(name, settings)}", form, arrays)
    return Pretrained(
        network, variables, jax.jit(networks.classifier(network, variables))
    )


def _plain(key: str, value: Any) -> Any:
    """A setting as Python has it: mean and std as tuples, whatever they were."""
    if isinstance(value, np.generic):
        value = value.item()
    if key not in ("mean", "std"):
        return value
    try:
        return tuple(np.ravel(value).tolist())
    except ValueError as error:  # Rows of several lengths.
        raise InputError(
            f"{key}={shown(value)} is not valid: use one number for each channel, or "
            "one for all"
        ) from error


def _filled(
    calls: Callable[[tuple[Any, ...]], str],
    told: str,
    form: PyTree,
    arrays: Mapping[str, np.ndarray],
) -> PyTree:
    """The variables. Raises InputError where names or shapes are others.

    Args:
        calls: what PyTorch calls a leaf of the variables, by its path.
        told: what the network is, for errors.
        form: the variables' shapes.
        arrays: by PyTorch's names.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(form)
    named = [calls(path) for path, _ in leaves]
    for what, found in (
        ("lack", set(named) - arrays.keys()),
        ("hold, beside those of that network,", arrays.keys() - set(named)),
    ):
        if found:
            first = ", ".join(sorted(found)[:4]) + ("" if len(found) < 5 else ", ...")
            raise InputError(
                f"weights {what} {first} ({len(found)} in all): {told} is "
                "another network"
            )
    values = [
        _leaf(key, arrays[key], leaf.shape)
        for key, (_, leaf) in zip(named, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, values)


def _text(name: str, settings: Mapping[str, Any]) -> str:
    usual = {key: each.default for key, each in networks.settings_of(name).items()}
    own = {**usual, **settings}
    shape = ("depth", "widen", "shortcut", "final_norm")
    return ", ".join(f"{key}={own[key]!r}" for key in shape if key in own)


def _pytorch_name(name: str, path: tuple[Any, ...], *, blocks: int) -> str:
    """What PyTorch calls a leaf of the variables, of so many blocks in a stage."""
    _, *parts, leaf = (key.key for key in path)
    calls = _LAYERS[name]
    if place := re.fullmatch(r"block(\d+)", parts[0]):
        stage, number = divmod(int(place[1]) - 1, blocks)
        inner = parts[1].replace("norm", "bn")
        inner = calls["shortcut"] if inner == "shortcut" else inner
        where = f"{calls['block'].format(stage + 1, number)}.{inner}"
    else:
        where = calls[parts[0]]
    return f"{where}.{_LEAVES[leaf]}"


def _leaf(key: str, array: np.ndarray, shape: tuple[int, ...]) -> Array:
    """An array as we hold it: kernels [height, width, in, out], matrices [in, out]."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(len(shape), (0,))
    theirs = tuple(shape[place] for place in np.argsort(axes))
    if array.shape != theirs:
        raise InputError(f"{key} is {array.shape}: use {theirs}, the network's")
    ours = array.transpose(axes)
    if not np.isfinite(ours).all():
        raise InputError(f"{key} holds values that are not finite: use other weights")
    if key.endswith("running_var") and (ours < 0).any():
        raise InputError(f"{key} holds variances below 0: use other weights")
    return jax.numpy.asarray(ours)


def _of_images(
    arrays: dict[str, np.ndarray], settings: Mapping[str, Any]
) -> dict[str, tuple[float, ...]]:
    """Mean and deviation of images that the weights hold; they are taken out."""
    found: dict[str, tuple[float, ...]] = {}
    for match in list(filter(None, map(_IMAGES.fullmatch, arrays))):
        key, which = match[0], "mean" if match[1] in ("mean", "mu") else "std"
        value = arrays.pop(key).ravel()
        if not np.isfinite(value).all():
            raise InputError(f"{key} holds values that are not finite: use others")
        given = found.get(which, settings.get(which, value))
        if np.shape(given) != value.shape or not np.allclose(given, value, atol=1e-6):
            raise InputError(
                f"{which}={shown(given)} is not what the weights hold as {key}, "
                f"{value.tolist()}: leave it out"
            )
        found[which] = tuple(value.tolist())
    for which, other in (("mean", "std"), ("std", "mean")):
        if which in found and other not in {*found, *settings}:
            raise InputError(f"weights hold {which} of images alone: give {other}, too")
    return found
