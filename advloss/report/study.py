"""The runs of a study, and which of their attacks stand side by side.

A study shows one PGD, one noise and one suite `fast`: that which most runs have of
those that their configs ask for. What attacked a run in another way is left out, and
named.
"""

import collections
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ml_collections import ConfigDict

from advloss.config import titles
from advloss.errors import InputError
from advloss.evaluation.asked import settings_of
from advloss.evaluation.measured import Attack
from advloss.evaluation.statistics import Proportion
from advloss.report import alike, seeds
from advloss.report.seeds import Accuracies

if TYPE_CHECKING:
    from advloss.evaluation.results import AttackSummary
    from advloss.report.rows import Row

ATTACK, NOISE = "pgd", "noise"  # The attacks that a study shows, by name,
SUITE = "fast"  # and the suite.


class Study(NamedTuple):
    """Runs, and what is shown of them.

    Attributes:
        groups: rows by the network's name and the seed.
        shown: attacks by name; those that no run has are left out.
        suite: the attacks of the suite that is shown, with their settings, if any.
    """

    groups: Mapping[str, Mapping[int, "Row"]]
    shown: Mapping[str, Attack]
    suite: tuple[tuple[str, dict[str, Any]], ...] | None

    def finished(self, name: str) -> dict[int, "Row"]:
        """The evaluated runs of a network, by seed."""
        return {s: row for s, row in self.groups.get(name, {}).items() if row.summary}

    def attack(
        self, row: "Row", name: str, *, whole: bool = False
    ) -> "AttackSummary | None":
        """What the attack that is shown left of an evaluated run, if it was measured.

        Args:
            row: of the run.
            name: of the attack.
            whole: every image counts: none where only survivors were attacked, since
                such a result holds natural images beside the attacked ones.
        """
        for each in row.summary.attacks:
            if each.attack == self.shown.get(name):
                return None if whole and not each.measured.whole else each
        return None

    def worst(self, row: "Row") -> Proportion | None:
        """What is left where the worst attack in PGD's ball counts."""
        attack = self.attack(row, ATTACK)
        for threat in row.summary.worst if attack else ():
            if (threat.norm, threat.epsilon) == attack.measured[2:4]:
                return threat.proportion
        return None

    def left_by_suite(self, row: "Row") -> Proportion | None:
        """What the suite left of an evaluated run in PGD's ball, if it was measured."""
        attack = self.attack(row, ATTACK)
        for each in row.summary.suites if attack else ():
            radii = {settings["epsilon"] for _, settings in each.attacks}
            shown = each.name == SUITE and each.attacks == self.suite
            if shown and radii == {attack.measured.epsilon}:
                return each.proportion
        return None

    def values(self, name: str, attack: str | None) -> dict[int, float]:
        """Accuracies in per cent by seed; natural ones where no attack is named."""
        found: dict[int, float] = {}
        for seed, row in self.finished(name).items():
            left = self.attack(row, attack) if attack else None
            if left or not attack:
                cell = left.final if left else row.summary.natural
                found[seed] = 100 * cell.accuracy
        return found

    def accuracies(self, name: str) -> Accuracies:
        """What was measured of a network."""
        found = self.finished(name)
        fast = {seed: self.left_by_suite(row) for seed, row in found.items()}
        worst = {seed: self.worst(row) for seed, row in found.items()}
        return Accuracies(
            self.values(name, None),
            self.values(name, ATTACK),
            *(_percents(each) for each in (fast, worst)),
            min((row.images for row in found.values()), default=0),
        )

    def alike(self, names: Sequence[str], *, worst: bool = False) -> bool:
        """Whether all runs of these networks were measured in the same way.

        Args:
            names: of networks.
            worst: also in the worst case, by the same attacks in PGD's ball.
        """
        found = [row for _, row in self.labelled(names) if row.summary]
        ways = [self._way(row, worst=worst) for row in found]
        return all(way == ways[0] for way in ways)

    def _way(self, row: "Row", *, worst: bool) -> tuple[Any, ...]:
        left = self.attack(row, ATTACK)
        way = row.measured_on, row.data.get("train"), left and left.attack
        if not worst or not left:
            return way
        ball = left.measured.norm, left.measured.epsilon
        inside = [m for m in row.measured if (m.norm, m.epsilon) == ball]
        attacks = {json.dumps([m.attack, m.settings], sort_keys=True) for m in inside}
        return *way, attacks

    def text(self, name: str, values: Mapping[int, float]) -> str:
        """The mean of a network's values over its seeds."""
        finished = self.finished(name)
        images = min((row.images for row in finished.values()), default=0)
        return seeds.text(list(values.values()), images, len(finished))

    def labelled(self, names: Sequence[str]) -> list[tuple[str, "Row"]]:
        """All runs of these networks."""
        return [
            (f"{name}, seed {seed}", row)
            for name in names
            for seed, row in self.groups.get(name, {}).items()
        ]

    def remarks(self, names: Sequence[str], *, whole: bool = False) -> list[str]:
        """Sentences on runs that are missing, measured unlike, or left out.

        Args:
            names: of networks.
            whole: as in `attack`.
        """
        shown = self.labelled(names)
        lacking = [f"{label}: {row.status}" for label, row in shown if row.status]
        lacking += [f"{n}: not part of this study" for n in names if n not in self[0]]
        missing = [f"Missing: {'; '.join(lacking)}."] if lacking else []
        left_out = self._left_out(shown, whole=whole)
        return [*alike.unlike(shown), *left_out, *alike.noted(shown), *missing]

    def _left_out(
        self, labelled: Sequence[tuple[str, "Row"]], *, whole: bool
    ) -> list[str]:
        """A sentence on the runs that have an attack, but not as it is shown."""
        found = []
        for name in (ATTACK, NOISE):
            for label, row in labelled:
                own = _of_name(row, name)
                if own and not self.attack(row, name, whole=whole):
                    found.append(f"{label}: {', '.join(map(_title, own))}")
        for label, row in labelled if not whole else ():
            suites = row.summary.suites if row.summary else ()
            own = [each.attacks for each in suites if each.name == SUITE]
            if own and self.suite not in own:
                found.append(f"{label}: {SUITE} of other settings")
        if not found:
            return []
        kept = [titles.attack_title(*attack[:2]) for attack in self.shown.values()]
        which = f"beside {', '.join(kept)}" if kept and not whole else "here"
        return [
            "Left out, since attacks of other settings, or on the survivors of others "
            f"(evaluate.survivors_only), can't stand {which}: {'; '.join(found)}."
        ]


def _percents(cells: Mapping[int, Proportion | None]) -> dict[int, float]:
    return {seed: 100 * cell.accuracy for seed, cell in cells.items() if cell}


def of_rows(
    found: Sequence["Row"], expected: Sequence[ConfigDict] | None = None
) -> Study:
    """The study of some runs, finished or not.

    Args:
        found: their rows.
        expected: the configs that they were held to. Without them a run's own says
            which it is, or the folder's name, NAME-seedN, where it can't be read.

    Raises:
        InputError: two runs are of one name and seed.
    """
    configs = [row.config for row in found] if expected is None else expected
    groups: dict[str, dict[int, Row]] = {}
    for row, config in zip(found, configs, strict=True):
        name, seed = (config.name, config.seed) if config else _whose(row)
        other = groups.setdefault(name, {}).setdefault(seed, row)
        if other is not row:
            raise InputError(
                f"{row.workdir} and {other.workdir} are both {name}, seed {seed}: "
                "leave one out"
            )
    groups = {
        name: dict(zip(rows, alike.of_one_training([*rows.values()]), strict=True))
        for name, rows in groups.items()
    }
    finished = [row for rows in groups.values() for row in rows.values() if row.summary]
    shown = {name: _most(_attacks(finished, name)) for name in (ATTACK, NOISE)}
    known = {name: attack for name, attack in shown.items() if attack}
    return Study(groups, known, _most(_suites(finished)))


def _whose(row: "Row") -> tuple[str, int]:
    found = re.fullmatch(r"(.*)-seed(\d{1,10})", row.workdir.name)
    return (found[1], int(found[2])) if found else (row.workdir.name, -1)


def _of_name(row: "Row", name: str) -> list["AttackSummary"]:
    attacks = row.summary.attacks if row.summary else ()
    return [e for e in attacks if e.attack.name == name and not e.attack.suite]


T = TypeVar("T")


def _most(found: Iterable[tuple[T, bool]]) -> T | None:
    """What most runs have, first of that for which their configs ask.

    Args:
        found: of every run what it has, and whether its config asks for that.
    """
    asked: collections.Counter[str] = collections.Counter()
    there: collections.Counter[str] = collections.Counter()
    known: dict[str, T] = {}
    for each, wanted in found:
        key = json.dumps(each, sort_keys=True)
        known[key] = each
        there[key] += 1
        asked[key] += wanted
    best = max(known, key=lambda key: (asked[key], there[key]), default=None)
    return None if best is None else known[best]


def _attacks(finished: Iterable["Row"], name: str) -> Iterator[tuple[Attack, bool]]:
    """The attacks of a name; one on the survivors of others measures these too."""
    for row in finished:
        for each in _of_name(row, name):
            if not each.attack.before:
                wanted = row.config.evaluate[name].to_dict()
                yield each.attack, each.measured.settings == wanted


def _suites(
    finished: Iterable["Row"],
) -> Iterator[tuple[tuple[tuple[str, dict[str, Any]], ...], bool]]:
    """The attacks of the suites of the name that is shown."""
    for row in finished:
        for each in row.summary.suites:
            if each.name == SUITE:
                wanted = [settings_of(row.config, name) for name, _ in each.attacks]
                yield each.attacks, [own for _, own in each.attacks] == wanted


def _title(summary: "AttackSummary") -> str:
    title = titles.attack_title(*summary.attack[:2])
    return title if summary.measured.whole else f"{title} on survivors"
