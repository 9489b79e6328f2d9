"""What the registry says of a defence."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from advloss.defences.base import Outcome
from advloss.registry import Setting
from advloss.types import PyTree, Split


class Entry(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: the defence, a `base.Defence` with its settings.
        title: its name in tables.
        attacks: whether it attacks its batches: `defence.attack` and `train.attack`
            mean something then.
        settings: keys of `config.defence`.
        memory: what is kept of every training example before the first step,
            training split -> a tree of arrays `[examples, ...]`; None where nothing is.
        moved: its memory serves images that augmentation moves otherwise each time.
        own_objective: its attack climbs an objective of its own, which is flat at the
            natural image and knows no targets: `train.attack.objective` says nothing
            then, the attack must start at random, and must not be targeted.
        only: the attacks that it can use; all where it is empty.
        held: settings of the attack that must have these values: it says itself what
            they would say.
        teacher: it reads the variables of a trained network of the same architecture.
        losses: those that it can train with; all where it is empty.
        backward: gradients of an image that an update takes beside its attack's.
        forward: passes of an image without a gradient, beside its attack's.
    """

    function: Callable[..., Outcome]
    title: str
    attacks: bool = True
    settings: Mapping[str, Setting] = {}
    memory: Callable[[Split], PyTree] | None = None
    moved: bool = False
    own_objective: bool = False
    only: tuple[str, ...] = ()
    held: Mapping[str, Any] = {}
    teacher: bool = False
    losses: tuple[str, ...] = ()
    backward: int = 1
    forward: int = 0
