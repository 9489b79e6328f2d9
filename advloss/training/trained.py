"""A trained network that stands alone: what `advloss.fit` gives, saved and loaded.

folder/
  config.json        every key that it was trained with
  model.safetensors  the arrays of the variables, by their path; what the network is,
                     what is known of it, and the digest of all
  README.md          its model card
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from advloss import config as configs
from advloss import imported, networks
from advloss.attacks.checks import plain
from advloss.attacks.given import blamed
from advloss.config import build
from advloss.errors import InputError, shown
from advloss.networks import Network
from advloss.runtime import files, tensors
from advloss.training import card, portable
from advloss.types import Classifier, PyTree

_CARD = "README.md"
FILES = (configs.CONFIG, configs.NETWORK, _CARD)
_ABOUT = ("module", "image_shape", "dtypes", "answers", "facts")
_BITS = 1024  # Of a whole number; Python does not write the digits of any.
_CLOSE = 0.01  # Of the largest answer: other devices round otherwise.


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A network that has been trained.

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
        facts: what is known of it, by what it is: where its data come from, and of a
            run its accuracies. Its model card says them.
    """

    classifier: Classifier
    variables: PyTree
    network: Network
    config: ConfigDict
    metrics: dict[str, np.ndarray]
    module: str
    image_shape: tuple[int, ...]
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def save(
        self,
        folder: str | Path,
        *,
        precision: str = "float32",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes the network into a folder, for `advloss.load` and for others.

        Args:
            folder: made if need be; an earlier save there is replaced, its card too.
            precision: "float32" keeps every bit; "float16" takes half of the bytes,
                and rounds the weights to 11 bits.
            facts: what the model card is to say beside what is known, in its order,
                texts or numbers by what they are: {"PGD-100, epsilon 0.3": "93.1 %"}.

        Raises:
            InputError: the folder's path is not valid, or it holds anything but an
                earlier save; or the variables are no nested dicts of arrays of NumPy's
                types; or a fact is neither text nor number; or float16 changes the
                logits by more than 1 % of the largest.
            OSError: it can't be written.
        """
        folder = files.check_folder("folder", folder)
        if folder.exists() and any(folder.iterdir()):
            _noted(folder)  # An earlier save, which is replaced.
        known = {**self.facts, **_checked(facts or {})}
        leaves = portable.flatten(self.variables)
        arrays, dtypes = portable.stored(leaves, precision=precision)
        about = {
            "module": self.module,
            "image_shape": list(self.image_shape),
            "dtypes": dtypes,
            "answers": self._answers_of(arrays, dtypes).tolist(),
            "facts": known,
        }
        text = configs.to_json(self.config)
        noted = {"about": about, "digest": _digest(text, about, arrays)}
        params = jax.tree.leaves(self.variables.get("params", {}))
        told = card.text(
            folder.absolute().name,
            self.config,
            configs.recipe(self.config),
            known,
            module=self.module,
            image_shape=self.image_shape,
            parameters=sum(leaf.size for leaf in params),
            halved=precision == "float16",
            own=_is_own(self.module, self.config),
        )
        (folder / _CARD).unlink(missing_ok=True)  # It is not of what comes now.
        files.write_text(folder / configs.CONFIG, text)
        tensors.write(folder / configs.NETWORK, arrays, noted)
        files.write_text(folder / _CARD, told)

    def _answers_of(
        self, arrays: Mapping[str, np.ndarray], dtypes: Mapping[str, str]
    ) -> np.ndarray:
        """What the network answers as it is written. Raises InputError as `save`."""
        own = _answers(self.classifier, self.image_shape)
        if not any(arrays[path].dtype == np.float16 for path in dtypes):
            return own
        written = portable.unflatten(portable.restored(arrays, dtypes))
        classifier = jax.jit(networks.classifier(self.network, written))
        answers = _answers(classifier, self.image_shape)
        if not _agree(answers, own):
            raise InputError(
                "precision='float16' is not valid: it changes a logit by "
                f"{np.abs(answers - own).max():.2g}; use float32"
            )
        return answers


def _checked(facts: Any) -> dict[str, Any]:
    """Facts that a card can show. Raises InputError."""
    said = "use a dict of texts or numbers by name"
    if not isinstance(facts, Mapping):
        raise InputError(f"facts={shown(facts)} is not valid: {said}")
    found = {key: plain(value) for key, value in facts.items()}
    for key, value in found.items():
        right = isinstance(key, str) and isinstance(value, str | int | float)
        if not right or (type(value) is int and value.bit_length() > _BITS):
            raise InputError(f"facts={{{key!r}: {shown(value)}}} is not valid: {said}")
    return found


def _is_own(module: str, config: ConfigDict) -> bool:
    """Whether a network is a module of one's own, which no name stands for."""
    named = module in networks.NETWORKS or imported.is_path(module)
    return not named or config.model.name != module


def load(folder: str | Path, module: Any = None, *, imports: bool = True) -> Trained:
    """What `Trained.save` wrote.

    Args:
        folder: where it was written.
        module: the flax module, of one's own; not needed for those that a config
            names.
        imports: whether a network of one's own is imported where the config names it:
            what strangers wrote must not say what is run.

    Raises:
        InputError: nothing or something else is there, or the module is missing.
    """
    folder = files.as_path("folder", folder)
    about, digest, stored = _noted(folder)
    if not (folder / configs.CONFIG).exists():
        raise InputError(
            f"{folder} was not saved whole: {configs.CONFIG} is missing; save it again"
        )
    config = configs.load_config(folder)
    if _digest(files.read_text(folder / configs.CONFIG), about, stored) != digest:
        raise InputError(f"{folder} was not saved whole, or was changed: save it again")
    name, shape = about["module"], tuple(about["image_shape"])
    own = _is_own(name, config) or (imported.is_path(name) and not imports)
    if own and (module is None or isinstance(module, str)):
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
        wanted = {path: leaf.shape for path, leaf in portable.flatten(expected).items()}
    if {path: array.shape for path, array in stored.items()} != wanted:
        raise InputError(
            f"{folder / configs.NETWORK} holds the arrays of another network"
        )
    variables = portable.unflatten(portable.restored(stored, about["dtypes"]))
    found = trained(network, variables, config, {}, name, shape, about["facts"])
    if module is not None or not build.is_library_s(config):
        told, now = np.array(about["answers"]), _answers(found.classifier, shape)
        if not _agree(now, told):
            given, advice = f"module={shown(module)}", "give that one"
            if module is None:
                given = f"{name}, of what is entered or imported here,"
                advice = "use what it was saved with"
            raise InputError(
                f"{given} computes something else than the {name} that {folder} "
                f"holds: {advice}"
            )
    return found


def _answers(classifier: Classifier, shape: tuple[int, ...]) -> np.ndarray:
    """The logits of two images, the same for every network."""
    images = np.linspace(0, 1, 2 * math.prod(shape), dtype=np.float32)
    return np.asarray(classifier(jnp.asarray(images.reshape(2, *shape))))


def _agree(found: np.ndarray, told: np.ndarray) -> bool:
    return found.shape == told.shape and np.allclose(
        found, told, rtol=0, atol=_CLOSE * np.abs(told).max()
    )


def _noted(folder: Path) -> tuple[dict[str, Any], str, dict[str, np.ndarray]]:
    """What a folder says of the network in it, the digest of all, and the arrays.

    Raises:
        InputError: the folder holds something else.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file: name the folder of a network")
    path = folder / configs.NETWORK
    if not path.exists():
        raise InputError(
            f"{folder} holds no network that Trained.save wrote: use another folder"
        )
    arrays, noted = tensors.read(path)
    about, digest = noted.get("about"), noted.get("digest")
    if not isinstance(about, dict) or not {*_ABOUT} <= about.keys():
        raise InputError(f"{path} is damaged: it does not say what it holds")
    return about, str(digest), arrays


def _digest(
    config: str, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> str:
    texts = {"config": config, "about": json.dumps(about, sort_keys=True)}
    said = {key: np.frombuffer(t.encode("utf-8"), np.uint8) for key, t in texts.items()}
    return files.digest({**said, "arrays": dict(arrays)})


def trained(
    network: Network,
    variables: PyTree,
    config: ConfigDict,
    metrics: dict[str, np.ndarray],
    name: str,
    image_shape: tuple[int, ...],
    facts: Mapping[str, Any],
) -> Trained:
    """A network with its variables; the arguments are `Trained`'s attributes."""
    classifier = jax.jit(networks.classifier(network, variables))
    return Trained(
        classifier, variables, network, config, metrics, name, image_shape, facts
    )


def network_of(module: Any, config: ConfigDict) -> tuple[Network, str]:
    """A flax module's or a named network, and its name. Raises InputError."""
    if isinstance(module, str):
        return build.network(config), module
    name = type(module).__name__
    if name in networks.NETWORKS:  # Which it is not.
        name = f"{type(module).__module__}.{name}"
    try:
        return networks.from_flax(module), name
    except TypeError as error:
        raise InputError(
            f"module={shown(module)} is not valid: use a flax.linen module, or one of "
            f"{', '.join(networks.NETWORKS)}"
        ) from error
