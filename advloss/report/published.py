"""The numbers that the paper prints, in per cent, and what they may stand beside.

"Robust Loss Functions: Defense Mechanisms for Deep Architectures" by Vu and Tran,
Section III and Tables II and III; one seed each, PGD-100 on MNIST's 10,000 test images.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

# Of each network: accuracy under attack, natural accuracy.
ACCURACY = {
    "undefended": (0.27, 99.13),
    "hinge": (64.97, 91.04),
    "softmax": (88.98, 97.73),
    "lmcl_m0.1": (89.93, 98.28),
    "lmcl_m0.3": (91.95, 98.04),
    "lmcl_m0.5": (90.53, 97.28),
    "lmcl_m1.11": (90.25, 97.66),
}
# TRANSFER[attacker][defender]: accuracy of the defender on the attacker's images.
TRANSFER = {
    "hinge": {"hinge": 64.97, "softmax": 96.26, "lmcl_m0.3": 95.9},
    "softmax": {"hinge": 85.53, "softmax": 88.98, "lmcl_m0.3": 94.74},
    "lmcl_m0.3": {"hinge": 85.45, "softmax": 95.53, "lmcl_m0.3": 91.95},
}
# Of each network: its loss, and the loss's margin where the paper gives one.
_LOSSES = {
    "undefended": ("softmax_cross_entropy", None),
    "hinge": ("hinge", None),
    "softmax": ("softmax_cross_entropy", None),
    "lmcl_m0.1": ("lmcl", 0.1),
    "lmcl_m0.3": ("lmcl", 0.3),
    "lmcl_m0.5": ("lmcl", 0.5),
    "lmcl_m1.11": ("lmcl", 1.11),
}
_NETWORK, _NATURAL = "table1", "undefended"
_ATTACK = {"steps": 100, "epsilon": 0.3, "step_size": 0.01, "objective": "training"}
# The first labels of MNIST's test set, as its own files have them.
_MNIST = (7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5, 9, 7, 3, 4)


def left_out(
    shown: Iterable[tuple[ConfigDict, Mapping[str, Any], np.ndarray]],
) -> list[str]:
    """A sentence on why the paper's numbers are left out; none where they may stand.

    Args:
        shown: of each network, the config, the settings of the PGD that it was attacked
            with, and the labels `[n]` of the images.
    """
    reasons = dict.fromkeys(each for one in shown for each in _differences(*one))
    joined = "; ".join(reasons)
    return [f"The paper's numbers are left out, as {joined}."] if reasons else []


def _differences(
    config: ConfigDict, settings: Mapping[str, Any], labels: np.ndarray
) -> list[str]:
    found = []
    if config.model.name != _NETWORK:
        found.append(f"the network is {config.model.name}, not {_NETWORK}")
    if config.model.activation != "relu":
        found.append(f"the activation is {config.model.activation}, not relu")
    if others := _trained_otherwise(config):
        found.append(f"{config.name} was trained with {', '.join(others)}")
    if not _is_mnist(config, labels):
        found.append(f"the data are not the whole of MNIST ({config.data.source})")
    if any(settings.get(key) != value for key, value in _ATTACK.items()):
        wanted = ", ".join(f"{key}={value}" for key, value in _ATTACK.items())
        found.append(f"PGD had other settings than the paper's {wanted}")
    return found


def _trained_otherwise(config: ConfigDict) -> list[str]:
    """Keys that are not as in the paper's training, with their values.

    It is natural, or against PGD, whatever its radius.
    """
    chosen, against = config.defence, config.defence.name == "adversarial"
    known = against or chosen.name == "natural"
    if config.name in ACCURACY:
        known = known and against == (config.name != _NATURAL)
    usual = {"awp": 0.0, "label_smoothing": 0.0, "temperature": 1.0}
    keys = [key for key, value in usual.items() if (chosen[key] or value) != value]
    keys += ["attack"] * (against and chosen.attack != "pgd")
    found = [f"defence.{key}={chosen[key]}" for key in ["name"] * (not known) + keys]
    loss, margin = _LOSSES.get(config.name, (config.loss.name, None))
    if config.loss.name != loss:
        found.append(f"loss.name={config.loss.name}")
    elif margin not in (None, config.loss.margin):
        found.append(f"loss.margin={config.loss.margin}")
    if config.train.examples:
        found.append(f"train.examples={config.train.examples}")
    return found


def _is_mnist(config: ConfigDict, labels: np.ndarray) -> bool:
    """By the name of TFDS, which has an order of its own, or by the first labels."""
    if config.data.source == "tfds":
        return config.data.name == "mnist"
    return len(labels) >= len(_MNIST) and tuple(labels[: len(_MNIST)]) == _MNIST
