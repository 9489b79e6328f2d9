"""A trained network that stands alone: what `advloss.fit` gives, saved and loaded.

folder/
  config.json     every key that it was trained with
  variables.npz   the arrays of the variables, by their path
  network.json    the module's name, the shape of an image, the digest of the others,
                  which arrays are bfloat16, and what the network answers to two images
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss import config as configs
from advloss import imported, networks
from advloss.attacks.checks import blamed
from advloss.config import build
from advloss.errors import InputError, shown
from advloss.networks import Network
from advloss.runtime import files
from advloss.types import Classifier, PyTree

_VARIABLES = "variables.npz"
_SAVED = ("float16", "float32", "float64", "int32", "uint32", "int8", "uint8", "bool")
_HALF = "bfloat16"  # NumPy's files do not have it: exact as float32.
_CLOSE = 0.01  # Of the largest answer: other devices round otherwise.


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A network that `fit` has trained.

    Attributes:
        classifier: jitted and pure: images -> logits `[batch, classes]`.
        variables: the network's whole tree; where a moving average of the weights is
            kept, the average; with train.keep=best those that did best on held-out
            images.
        network: its pure functions.
        config: what it was trained with, every key.
        metrics: of every step by name, `[steps]`; of validations, `[validations]`.
        module: "table1" or another name that a config takes, or the class's of one's
            own.
        image_shape: (height, width, channels).
    """

    classifier: Classifier
    variables: PyTree
    network: Network
    config: ConfigDict
    metrics: dict[str, np.ndarray]
    module: str
    image_shape: tuple[int, ...]

    def save(self, folder: str | Path) -> None:
        """Writes the network into a folder, for `advloss.load`.

        Raises:
            InputError: the folder's path is not valid, or it holds anything but an
                earlier save; or the variables are no nested dicts of arrays of NumPy's
                types.
            OSError: it can't be written.
        """
        folder = files.check_folder("folder", folder)
        if folder.exists() and any(folder.iterdir()):
            _noted(folder)  # An earlier save, which is replaced.
        leaves = _flatten(self.variables)
        halves = [path for path, leaf in leaves.items() if leaf.dtype == _HALF]
        arrays = {
            path: np.asarray(leaf, np.float32 if path in halves else leaf.dtype)
            for path, leaf in leaves.items()
        }
        text = configs.to_json(self.config)
        about = {
            "module": self.module,
            "image_shape": list(self.image_shape),
            "bfloat16": halves,
            "answers": _answers(self.classifier, self.image_shape).tolist(),
            "digest": _digest(text, arrays),
        }
        files.write_text(folder / configs.CONFIG, text)
        files.write_arrays(folder / _VARIABLES, arrays)
        files.write_json(folder / configs.NETWORK, about)


def _flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves by their path, its parts joined by "/", which in a name is "%2F"."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        names = [getattr(key, "key", None) for key in path]
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"variables{jax.tree_util.keystr(path)}: use nested dicts")
        names = [name.replace("%", "%25").replace("/", "%2F") for name in names]
        if leaf.dtype not in (*_SAVED, _HALF):
            where = "/".join(names)
            valid = ", ".join((*_SAVED, _HALF))
            raise InputError(f"{where} is {leaf.dtype}: use one of {valid}")
        found["/".join(names)] = leaf
    return found


def _unflatten(arrays: Mapping[str, np.ndarray]) -> PyTree:
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        *parts, last = (
            name.replace("%2F", "/").replace("%25", "%") for name in path.split("/")
        )
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = array
    return tree


def load(folder: str | Path, module: Any = None) -> Trained:
    """What `Trained.save` wrote.

    Args:
        folder: where it was written.
        module: the flax module, of one's own; not needed for those that a config
            names.

    Raises:
        InputError: nothing or something else is there, or the module is missing.
    """
    folder = files.as_path("folder", folder)
    name, shape, digest, more = _noted(folder)
    config, arrays = configs.load_config(folder), files.read_arrays(folder / _VARIABLES)
    if _digest(files.read_text(folder / configs.CONFIG), arrays) != digest:
        raise InputError(f"{folder} was not saved whole, or was changed: save it again")
    named = name in networks.NETWORKS or imported.is_path(name)
    by_itself = named and config.model.name == name
    if not by_itself and (module is None or isinstance(module, str)):
        raise InputError(f"{folder} holds a {name} of one's own: give it as module")
    if isinstance(module, str) and module != name:
        raise InputError(
            f"module={module!r} is not what {folder} holds: leave it out, it is {name}"
        )
    network, _ = network_of(name if module is None else module, config)
    with blamed(f"the module fails for images {shape}"):
        expected = jax.eval_shape(
            lambda key: network.init(key, shape), jax.random.key(0)
        )
        wanted = {path: leaf.shape for path, leaf in _flatten(expected).items()}
    if {path: array.shape for path, array in arrays.items()} != wanted:
        raise InputError(f"{folder / _VARIABLES} holds the arrays of another network")
    for path in more.get("bfloat16", ()):
        arrays[path] = arrays[path].astype(_HALF)
    found = trained(network, _unflatten(arrays), config, {}, name, shape)
    if (module is not None or imported.is_path(name)) and "answers" in more:
        told, now = np.array(more["answers"]), _answers(found.classifier, shape)
        if not np.allclose(now, told, rtol=0, atol=_CLOSE * np.abs(told).max()):
            raise InputError(
                f"module={shown(module or name)} computes something else than the "
                f"{name} that {folder} holds: give that one"
            )
    return found


def _answers(classifier: Classifier, shape: tuple[int, ...]) -> np.ndarray:
    """The logits of two images, the same for every network."""
    images = np.linspace(0, 1, 2 * math.prod(shape), dtype=np.float32)
    return np.asarray(classifier(images.reshape(2, *shape)))


def _noted(folder: Path) -> tuple[str, tuple[int, ...], str, dict[str, Any]]:
    """What a folder says of the network in it: module, shape of images, digest, all.

    Raises:
        InputError: the folder holds something else.
    """
    try:
        if folder.is_file():
            raise InputError(f"{folder} is a file: name the folder of a network")
        noted = files.read_json(folder / configs.NETWORK)
        shape = tuple(map(int, noted["image_shape"]))
        return str(noted["module"]), shape, str(noted["digest"]), noted
    except InputError:
        raise
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{folder} holds no network that Trained.save wrote: use another folder"
            + (", or load_run" if (folder / configs.CONFIG).exists() else "")
        ) from None


def _digest(config: str, arrays: Mapping[str, np.ndarray]) -> str:
    text = np.frombuffer(config.encode("utf-8"), np.uint8)
    return files.digest({"config": text, "arrays": dict(arrays)})


def trained(
    network: Network,
    variables: PyTree,
    config: ConfigDict,
    metrics: dict[str, np.ndarray],
    name: str,
    image_shape: tuple[int, ...],
) -> Trained:
    """A network with its variables; the arguments are `Trained`'s attributes."""
    classifier = jax.jit(networks.classifier(network, variables))
    return Trained(classifier, variables, network, config, metrics, name, image_shape)


def network_of(module: Any, config: ConfigDict) -> tuple[Network, str]:
    """A flax module's or a named network, and its name. Raises InputError."""
    if isinstance(module, str):
        return build.network(config), module
    try:
        return networks.from_flax(module), type(module).__name__
    except TypeError as error:
        raise InputError(
            f"module={shown(module)} is not valid: use a flax.linen module, or one of "
            f"{', '.join(networks.NETWORKS)}"
        ) from error
