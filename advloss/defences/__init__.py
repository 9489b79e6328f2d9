"""Defences: how a batch becomes a training loss.

    loss, (variables, memory, metrics) = defence(
        forward, variables, batch, key, hyper, frozen, memory
    )

A defence is a pure function (`base.Defence`); the training step around it does the
rest: gradient, mean over devices, optimiser, moving average of the weights. `DEFENCES`
names them for configs.

To add a defence: write a file like `trades.py`, and enter its function in `DEFENCES`
(docs/add-a-defence.md).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from advloss.defences.adversarial import adversarial
from advloss.defences.alp import alp
from advloss.defences.atta import atta
from advloss.defences.atta import nothing_yet as atta_memory
from advloss.defences.base import Defence
from advloss.defences.free import free
from advloss.defences.free import nothing_yet as free_memory
from advloss.defences.mart import mart
from advloss.defences.natural import natural
from advloss.defences.trades import trades
from advloss.registry import Setting, number, whole
from advloss.types import PyTree, Split

__all__ = ["DEFENCES", "Defence", "Entry"]


class Entry(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: the defence.
        title: its name in tables.
        attacks: whether it attacks its batches: `defence.attack` and `train.attack`
            mean something then.
        settings: keys of `config.defence`.
        memory: what is kept of every training example before the first step,
            training split -> a tree of arrays `[examples, ...]`; None where nothing is.
        own_objective: its attack climbs an objective of its own, which is flat at the
            natural image and knows no targets: `train.attack.objective` says nothing
            then, the attack must start at random, and must not be targeted.
        only: the attacks that it can use; all where it is empty.
        held: settings of the attack that must have these values: it says itself what
            they would say.
    """

    function: Defence
    title: str
    attacks: bool = True
    settings: Mapping[str, Setting] = {}
    memory: Callable[[Split], PyTree] | None = None
    own_objective: bool = False
    only: tuple[str, ...] = ()
    held: Mapping[str, Any] = {}


def _beta(default: float, help: str) -> dict[str, Setting]:
    return {"beta": Setting(default, number(0, 1e6), help, swept=True)}


DEFENCES: Mapping[str, Entry] = {
    "natural": Entry(natural, "natural training", attacks=False),
    "adversarial": Entry(adversarial, "adversarial training"),
    "trades": Entry(
        trades,
        "TRADES",
        settings=_beta(6.0, "the weight of stability against accuracy"),
        own_objective=True,
    ),
    "mart": Entry(
        mart,
        "MART",
        settings=_beta(5.0, "the weight of stability against accuracy"),
    ),
    "alp": Entry(
        alp,
        "logit pairing",
        settings=_beta(0.5, "the weight of the distance of logits"),
    ),
    "free": Entry(
        free,
        "free adversarial training",
        settings={"replays": Setting(4, whole(1), "updates on one batch, in a row")},
        memory=free_memory,
        only=("fgsm",),
        held={"objective": "training", "objective_scale": 1.0, "random_start": False},
    ),
    "atta": Entry(
        atta,
        "ATTA",
        settings={
            "reset": Setting(10, whole(1), "visits after which an example starts anew")
        },
        memory=atta_memory,
        only=("pgd",),
        held={"random_start": True, "restarts": 1},
    ),
}
