"""The columns that rows share: natural accuracy, worst cases, attacks and suites."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from advloss.config import titles
from advloss.evaluation.statistics import Proportion
from advloss.report.figures import ATTACK, NATURAL, WORST

if TYPE_CHECKING:
    from advloss.evaluation.results import Attack, Summary
    from advloss.report.rows import Row


class Column(NamedTuple):
    """An accuracy that rows may have.

    Attributes:
        title: its name, with the settings that matter.
        role: NATURAL, WORST or ATTACK, as in `figures`.
        of: the row's proportion, or None where it was not measured.
    """

    title: str
    role: str
    of: Callable[["Row"], Proportion | None]


def of_rows(rows: Sequence["Row"]) -> list[Column]:
    """The accuracies that any of the rows has: natural, worst cases, attacks, suites.

    Of a suite of one number, its attacks have no columns of their own.

    A worst case is one of a threat model, a norm and an epsilon. Where a run was
    attacked under several, their union is a column of its own.
    """
    summaries = [row.summary for row in rows if row.summary]
    found = [Column("natural", NATURAL, _of(lambda summary: summary.natural))]
    threats = {(t.norm, t.epsilon) for summary in summaries for t in summary.worst}
    for norm, epsilon in sorted(threats, key=lambda t: (t[0] != "linf", *t)):
        title = titles.worst_title(norm, epsilon)
        found.append(Column(title, WORST, _of_threat(norm, epsilon)))
    if any(summary.union for summary in summaries):
        found.append(Column(titles.UNION, WORST, _of(lambda summary: summary.union)))
    attacks = titles.attack_titles(
        each.attack for summary in summaries for each in summary.attacks
    )
    found += [
        Column(title, ATTACK, _of_attack(attack))
        for attack, title in attacks
        if not attack.suite
    ]
    suites = titles.suite_titles(
        each for summary in summaries for each in summary.suites
    )
    return found + [Column(title, ATTACK, _of_suite(suite)) for suite, title in suites]


def _of(
    measure: Callable[["Summary"], Proportion | None],
) -> Callable[["Row"], Proportion | None]:
    return lambda row: measure(row.summary) if row.summary else None


def _of_threat(norm: str, epsilon: float) -> Callable[["Row"], Proportion | None]:
    def measure(summary: "Summary") -> Proportion | None:
        for threat in summary.worst:
            if (threat.norm, threat.epsilon) == (norm, epsilon):
                return threat.proportion
        return None

    return _of(measure)


def _of_attack(attack: "Attack") -> Callable[["Row"], Proportion | None]:
    def measure(summary: "Summary") -> Proportion | None:
        left = (each.final for each in summary.attacks if each.attack == attack)
        return next(left, None)

    return _of(measure)


def _of_suite(suite: titles.Suite) -> Callable[["Row"], Proportion | None]:
    def measure(summary: "Summary") -> Proportion | None:
        left = (s.proportion for s in summary.suites if (s.name, s.attacks) == suite)
        return next(left, None)

    return _of(measure)
