"""What a diagnosis says: checks, accuracies, one sentence."""

import dataclasses
import textwrap
from collections.abc import Mapping

import numpy as np

from advloss.evaluation.diagnosis.check import Check, percent

_WIDTH = 80  # Columns of a terminal.
_COLUMNS = (36, 9, 12, 8, 15)


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnosis:
    """Whether a network's accuracy under attack can be trusted.

    Attributes:
        norm: of all radii.
        epsilon: the radius.
        attack: the attack whose number is judged, such as "PGD-100 on training".
        natural: `[n]` bool, the natural images that are classified correctly.
        standing: `[n]` bool, those that the attack leaves, at any iterate.
        robust: `[n]` bool, those that none of all attacks fools.
        attacks: of every attack that was tried on all images, the accuracy that it
            leaves by itself.
        checks: what was checked.
        by_epsilon: `[2, 1 + radii]` growing radii from 0, and the accuracy within each.
        by_steps: `[2, 2 * steps + 1]` steps, and the accuracy after each, as the worst
            of all so far.
        seconds: of all, compilation included.
    """

    norm: str
    epsilon: float
    attack: str
    natural: np.ndarray
    standing: np.ndarray
    robust: np.ndarray
    attacks: Mapping[str, float]
    checks: tuple[Check, ...]
    by_epsilon: np.ndarray
    by_steps: np.ndarray
    seconds: float

    @property
    def accuracy(self) -> float:
        """What the attack leaves: the number that is judged."""
        return float(self.standing.mean())

    @property
    def robust_accuracy(self) -> float:
        """What all attacks together leave."""
        return float(self.robust.mean())

    @property
    def best_attack(self) -> str:
        """The attack that leaves least by itself; of equal ones the first."""
        return min(self.attacks, key=lambda name: self.attacks[name])

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.passed is False)

    @property
    def trusted(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def sentence(self) -> str:
        """Whether the number can be trusted, and what the best attack was."""
        run = sum(check.passed is not None for check in self.checks)
        verb = "can be trusted" if self.trusted else "can NOT be trusted"
        why = (
            f"all {run} checks that were run pass"
            if self.trusted
            else f"{len(self.failed)} of {run} checks fail"
        )
        least = percent(self.attacks[self.best_attack])
        return (
            f"The accuracy of {percent(self.accuracy)} under {self.attack} {verb}: "
            f"{why}; the best attack, {self.best_attack}, leaves {least}, and all "
            f"together leave {percent(self.robust_accuracy)}."
        )

    def __str__(self) -> str:
        """A table of the checks and the sentence, in 80 columns."""
        count = len(self.natural)
        head = (
            f"{count} images, {self.norm}, epsilon {self.epsilon:g}: natural accuracy "
            f"{percent(float(self.natural.mean()))}, {self.attack} "
            f"{percent(self.accuracy)}"
        )
        lines = [*textwrap.wrap(head, _WIDTH), ""]
        lines.append(_row("check", "figure", "threshold", "result", "source"))
        lines.append(_row(*("-" * (width - 1) for width in _COLUMNS)))
        for each in self.checks:
            lines.append(
                _row(
                    each.name,
                    percent(each.figure),
                    each.limit,
                    each.result,
                    each.source,
                )
            )
            told = f"{each.meaning}." if each.passed is False else each.reason
            lines += textwrap.wrap(
                told, _WIDTH, initial_indent="    ", subsequent_indent="    "
            )
        return "\n".join([*lines, "", *textwrap.wrap(self.sentence, _WIDTH)])

    __repr__ = __str__


def _row(*cells: str) -> str:
    padded = (cell.ljust(w) for cell, w in zip(cells, _COLUMNS, strict=True))
    return "".join(padded).rstrip()
