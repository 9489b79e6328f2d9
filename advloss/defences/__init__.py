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

from collections.abc import Mapping

from advloss.defences.adversarial import adversarial
from advloss.defences.alp import alp
from advloss.defences.atta import atta
from advloss.defences.atta import nothing_yet as atta_memory
from advloss.defences.base import Defence
from advloss.defences.distillation import distillation
from advloss.defences.entry import Entry
from advloss.defences.free import free
from advloss.defences.free import nothing_yet as free_memory
from advloss.defences.mart import mart
from advloss.defences.natural import natural
from advloss.defences.trades import trades
from advloss.registry import Setting, number, positive, shipped, text, whole

__all__ = ["DEFENCES", "Defence", "Entry"]


def _beta(default: float, help: str) -> dict[str, Setting]:
    return {"beta": Setting(default, number(0, 1e6), help, swept=True)}


def _temperature(default: float) -> dict[str, Setting]:
    help = "T, by which logits are divided in training"
    return {"temperature": Setting(default, positive(), help, swept=True)}


DEFENCES: Mapping[str, Entry] = {
    "natural": Entry(
        natural, "natural training", attacks=False, settings=_temperature(1.0)
    ),
    "adversarial": Entry(adversarial, "adversarial training"),
    "trades": Entry(
        trades,
        "TRADES",
        settings=_beta(6.0, "the weight of stability against accuracy"),
        own_objective=True,
        backward=2,
    ),
    "mart": Entry(
        mart,
        "MART",
        settings=_beta(5.0, "the weight of stability against accuracy"),
        backward=2,
    ),
    "alp": Entry(
        alp,
        "logit pairing",
        settings=_beta(0.5, "the weight of the distance of logits"),
        backward=2,
    ),
    "free": Entry(
        free,
        "free adversarial training",
        settings={"replays": Setting(4, whole(1), "updates on one batch, in a row")},
        memory=free_memory,
        moved=True,  # A start for other images too, as its authors hand it on.
        only=("fgsm",),
        held={"objective": "training", "objective_scale": 1.0, "random_start": False},
        backward=0,  # The attack's moves the weights too.
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
    "distillation": Entry(
        distillation,
        "defensive distillation",
        attacks=False,
        settings={
            **_temperature(100.0),
            "teacher": Setting(
                "", text(), 'the teacher\'s work directory; "": trained in its own'
            ),
        },
        teacher=True,
        losses=("softmax_cross_entropy",),
        forward=1,
    ),
}
shipped(DEFENCES)
