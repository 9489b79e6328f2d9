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
from typing import NamedTuple

from advloss.defences.adversarial import adversarial
from advloss.defences.base import Defence
from advloss.defences.natural import natural
from advloss.defences.trades import trades
from advloss.registry import Setting, number
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
    """

    function: Defence
    title: str
    attacks: bool = True
    settings: Mapping[str, Setting] = {}
    memory: Callable[[Split], PyTree] | None = None
    own_objective: bool = False


DEFENCES: Mapping[str, Entry] = {
    "natural": Entry(natural, "natural training", attacks=False),
    "adversarial": Entry(adversarial, "adversarial training"),
    "trades": Entry(
        trades,
        "TRADES",
        settings={
            "beta": Setting(
                6.0,
                number(0, 1e6),
                "the weight of stability against accuracy",
                swept=True,
            )
        },
        own_objective=True,
    ),
}
