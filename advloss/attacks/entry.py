"""What the registries say of an attack, and of a suite of attacks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from advloss.attacks.base import Round
from advloss.registry import Setting
from advloss.types import AttackResult

FIXED_EPSILON, MINIMUM_NORM = "fixed-epsilon", "minimum-norm"
TRAINING_ONLY = "training-only"  # It leaves the ball: it measures nothing.


class Attack(NamedTuple):
    """An entry of `ATTACKS`.

    Attributes:
        function: the attack.
        title: its name in tables.
        norm: of its radius and distances: "linf", "l2", "l1" or "l0".
        kind: `FIXED_EPSILON`, `MINIMUM_NORM` or `TRAINING_ONLY`.
        settings: keys of `config.evaluate.<name>`. A minimum-norm attack has an
            "epsilon" that its function does not take: within it an image counts as
            fooled. "objective" and "objective_scale" become the function's objective.
        training: the settings with which it trains, where others than its defaults.
        targeted: it climbs towards classes, so that an objective of the true one alone
            misleads it.
        rounds: (settings, classes) -> the parts between which what is fooled may leave.
    """

    function: Callable[..., AttackResult]
    title: str
    norm: str
    kind: str
    settings: Mapping[str, Setting]
    training: Mapping[str, Any] = {}
    targeted: bool = False
    rounds: Callable[[Mapping[str, Any], int], Sequence[Round]] = lambda *_: [Round()]

    @property
    def climbs(self) -> bool:
        """Whether it follows the gradient of an objective."""
        without = {"draws", "queries"} & self.settings.keys()
        return "objective" in self.settings and not without

    @property
    def trains_with(self) -> dict[str, Setting]:
        """Its settings, with the defaults with which it trains."""
        return {
            key: setting._replace(default=self.training.get(key, setting.default))
            for key, setting in self.settings.items()
        }


class Suite(NamedTuple):
    """An entry of `SUITES`: attacks that belong together.

    Attributes:
        title: its name in tables.
        norm: of all its attacks.
        attacks: their names, in their order.
        survivors_only: each is shown those that the ones before it have left, and the
            suite has one number. Else every attack has its own.
    """

    title: str
    norm: str
    attacks: tuple[str, ...]
    survivors_only: bool = False


def in_both(
    name: str,
    functions: Sequence[Callable[..., AttackResult]],
    title: str,
    settings: Callable[[str], Mapping[str, Setting]],
    training: Callable[[str], Mapping[str, Any]] = lambda norm: {},
    kind: str = FIXED_EPSILON,
    **rest: Any,
) -> dict[str, Attack]:
    """Entries of an attack in l-inf and in l2."""
    linf, l2 = (
        Attack(function, title, norm, kind, settings(norm), training(norm), **rest)
        for function, norm in zip(functions, ("linf", "l2"), strict=True)
    )
    return {name: linf, f"{name}_l2": l2._replace(title=f"{title} l2")}


def suite_in_both(
    name: str, title: str, *attacks: str, survivors_only: bool = False
) -> dict[str, Suite]:
    """Entries of a suite in l-inf and in l2, of the attacks' namesakes there."""
    l2 = tuple(f"{attack}_l2" for attack in attacks)
    return {
        name: Suite(title, "linf", attacks, survivors_only),
        f"{name}_l2": Suite(f"{title} l2", "l2", l2, survivors_only),
    }
