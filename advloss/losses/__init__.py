r"""Loss functions, per example, and the registry that configs choose from.

Losses are functions of the gaps `f_j - f_y` between a wrong class's logit and the true
class's, j != y. Written that way they need no special case for large logits, and their
gradients keep their precision where the network is sure: in the textbook form the true
class's gradient `p_y - 1` rounds to zero, and an attack that follows it stands still
although the network could be fooled. Logits must be finite and labels in [0, classes),
which is not checked: under `jit`, values are not known.

    softmax_cross_entropy   log(1 + sum_j exp(f_j - f_y))
    hinge                   sum_j max(0, f_j - f_y + margin)
    lmcl, he                log(1 + sum_j exp(scale * (cos_j - cos_y + margin)))
    arcface, sphereface     the same with a margin on the angle
    mmc                     ||z - mu_y||^2 / 2, of features and fixed centres

To add a loss: write a function `f(logits, labels, *, settings) -> [batch]`, and enter
it in `LOSSES` with its head and its settings (docs/add-a-loss.md).
"""

import functools
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from advloss.errors import InputError, shown
from advloss.losses.angles import (
    arcface,
    arcface_margin_bound,
    lmcl,
    lmcl_margin_bound,
    sphereface,
)
from advloss.losses.centres import mmc
from advloss.losses.climbed import (
    DLR_CLASSES,
    TARGETED,
    TARGETED_DLR_CLASSES,
    dlr,
    margin,
    targeted_dlr,
    targeted_margin,
)
from advloss.losses.logits import hinge, softmax_cross_entropy
from advloss.losses.smoothing import smoothed
from advloss.registry import Setting, positive, shipped, whole
from advloss.types import Array, Objective

__all__ = [
    "DLR_CLASSES", "LOSSES", "OBJECTIVES", "TARGETED", "TARGETED_DLR_CLASSES", "Loss",
    "arcface", "arcface_margin_bound", "climb", "defaults", "dlr", "hinge", "lmcl",
    "lmcl_margin_bound", "margin", "mmc", "objective", "smoothed",
    "softmax_cross_entropy", "sphereface", "targeted_dlr", "targeted_margin",
]  # fmt: skip


class Loss(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: `f(logits, labels, *, settings) -> [batch]`.
        title: its name in tables.
        head: what the network's last layer gives it, a key of `networks.HEADS`:
            "linear" for logits, "cosine" for cosines, "centres" for distances.
        settings: its hyperparameters by name; they are keys of `config.loss`.
        bounds: the largest value a setting may take, from the number of classes,
            where there is one.
        climbed: settings with which an attack climbs it, where they are others than
            those that it trains with.
    """

    function: Callable[..., Array]
    title: str
    head: str
    settings: Mapping[str, Setting] = {}
    bounds: Mapping[str, Callable[[int], float]] = {}
    climbed: Mapping[str, float] = {}


def _scale(default: float) -> dict[str, Setting]:
    help = "s, the length given to features"
    return {"scale": Setting(default, positive(), help, swept=True)}


def _margin(default: float, help: str) -> dict[str, Setting]:
    return {"margin": Setting(default, positive(), help, swept=True)}


_ON_THE_COSINE = "m, on the cosine, at most C / (C - 1) for C classes"

LOSSES = {
    "softmax_cross_entropy": Loss(softmax_cross_entropy, "softmax", "linear"),
    "hinge": Loss(
        hinge,
        "hinge",
        "linear",
        _margin(1.0, "by how much the true logit must lead"),
    ),
    "lmcl": Loss(
        lmcl,
        "LMCL",
        "cosine",
        {**_scale(10.0), **_margin(0.3, _ON_THE_COSINE)},
        {"margin": lmcl_margin_bound},
    ),
    "arcface": Loss(
        arcface,
        "ArcFace",
        "cosine",
        {
            **_scale(10.0),
            **_margin(0.5, "m, in radians, at most arccos(-1 / (C - 1)) for C classes"),
        },
        {"margin": arcface_margin_bound},
    ),
    "sphereface": Loss(
        sphereface,
        "SphereFace",
        "cosine",
        {
            **_scale(10.0),
            "multiplier": Setting(2, whole(1, 8), "m, the factor of the angle"),
        },
    ),
    "he": Loss(
        lmcl,
        "hypersphere embedding",
        "cosine",
        {**_scale(15.0), **_margin(0.2, _ON_THE_COSINE)},
        {"margin": lmcl_margin_bound},
        climbed={"margin": 0.0},
    ),
    "mmc": Loss(mmc, "max-Mahalanobis centres", "centres"),
}
shipped(LOSSES)


# What an attack can climb, by name: others, and the losses as they are registered.
_OTHERS: dict[str, Any] = dict.fromkeys(("training", "margin", "dlr"))
OBJECTIVES: Collection[str] = ChainMap(LOSSES, _OTHERS)


def defaults(name: str) -> dict[str, float]:
    """The default settings of the loss of that name. Raises InputError."""
    return {key: setting.default for key, setting in _entry(name).settings.items()}


def _entry(name: str) -> Loss:
    if not isinstance(name, str) or name not in LOSSES:
        raise InputError(
            f"name={shown(name)} is no loss: use one of {', '.join(LOSSES)}"
        )
    return LOSSES[name]


def climb(name: str, settings: Mapping[str, float | Array]) -> Objective:
    """The loss of that name with its settings, as an attack climbs it.

    Raises InputError where there is none.
    """
    entry = _entry(name)
    return functools.partial(entry.function, **{**settings, **entry.climbed})


def objective(name: str, training: Objective, scale: float = 1.0) -> Objective:
    """What an attack climbs, by its name in `OBJECTIVES`.

    Args:
        name: "training" for the network's own loss, "margin", "dlr", or a loss's name,
            which then takes its default settings.
        training: the network's own loss.
        scale: the logits are multiplied by it first. Cross-entropy on cosines, say, is
            nearly flat, and says more of the network at a scale of 10 or 100.
    """
    chosen = {"training": training, "margin": margin, "dlr": dlr}.get(name)
    if chosen is None:
        chosen = climb(name, defaults(name))
    if scale == 1:
        return chosen
    return lambda logits, labels: chosen(scale * logits, labels)
