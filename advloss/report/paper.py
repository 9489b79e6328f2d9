"""The sections of a study: each table and figure of the paper, beside its numbers.

A part is a function of the study's runs; `PARTS` names them. Where runs are missing or
not finished, it shows what there is and says what is not.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advloss.errors import InputError
from advloss.evaluation.changes import load_changes
from advloss.evaluation.results import AttackSummary, Measured
from advloss.evaluation.statistics import Proportion
from advloss.evaluation.transfer import transfer
from advloss.report import (
    changes,
    losses_table,
    network_table,
    published,
    rows,
    seeds,
    transfer_table,
)
from advloss.report.losses_table import Accuracies
from advloss.report.reading import guarded
from advloss.report.rows import Row
from advloss.report.section import Section
from advloss.training.workdir import load_run
from advloss.types import Classifier

ATTACK, NOISE = "pgd", "noise"  # The attacks that a study shows, by name.
_WORDS = {None: "natural", ATTACK: "PGD", NOISE: "noise"}
_LOSSES = tuple(name for name in published.ACCURACY if name != "undefended")
_DEFENDERS = tuple(published.TRANSFER)
_BLACK_BOX = ("undefended", "mlp")

Groups = Mapping[str, Mapping[int, Row]]
"""Runs by the network's name and the seed."""


class Part(NamedTuple):
    """A table or figure, and the names of the networks that it takes."""

    section: Callable[[Groups], Section]
    networks: Sequence[str]


def sections_of_paper(
    parts: Sequence[str], workdirs: Sequence[str | Path]
) -> list[Section]:
    """Tables and figures of the paper.

    Args:
        parts: names in `PARTS`, in the order to be shown.
        workdirs: of all runs of the study, finished or not. Of one that can't be read
            the folder's name, NAME-seedN, says which it is.

    Raises:
        InputError: a part is unknown.
    """
    for part in parts:
        if part not in PARTS:
            known = ", ".join(PARTS)
            raise InputError(f"part {part!r} is not valid: use some of {known}")
    groups: dict[str, dict[int, Row]] = {}
    for workdir in workdirs:
        row = rows.load_row(workdir)
        name, seed = _whose(row)
        groups.setdefault(name, {})[seed] = row
    return [PARTS[part].section(groups) for part in parts]


def _whose(row: Row) -> tuple[str, int]:
    if row.config is not None:
        return row.config.name, row.config.seed
    found = re.fullmatch(r"(.*)-seed(\d{1,10})", row.workdir.name)
    return (found[1], int(found[2])) if found else (row.workdir.name, -1)


def _finished(groups: Groups, name: str) -> dict[int, Row]:
    return {s: row for s, row in groups.get(name, {}).items() if row.summary}


def _attack(row: Row, name: str) -> AttackSummary | None:
    """What an attack left: with the config's settings, or with the newest others."""
    found = [each for each in row.summary.attacks if each.measured.attack == name]
    wanted = row.config.evaluate[name].to_dict()
    same = [each for each in found if each.measured.settings == wanted]
    return next(iter([*same, *reversed(found)]), None)


def _worst(row: Row) -> Proportion | None:
    """What is left where the worst attack under the threat model of PGD counts."""
    attack = _attack(row, ATTACK)
    for threat in row.summary.worst if attack else ():
        if (threat.norm, threat.epsilon) == attack.measured[2:4]:
            return threat.proportion
    return None


def _values(groups: Groups, name: str, attack: str | None) -> dict[int, float]:
    """Accuracies in per cent by seed; natural ones where no attack is named."""
    found: dict[int, float] = {}
    for seed, row in _finished(groups, name).items():
        left = _attack(row, attack) if attack else None
        if left or not attack:
            cell = left.final if left else row.summary.natural
            found[seed] = 100 * cell.accuracy
    return found


def _text(groups: Groups, name: str, values: Mapping[int, float]) -> str:
    images = min((row.images for row in _finished(groups, name).values()), default=0)
    return seeds.text(list(values.values()), images)


def _remarks(groups: Groups, names: Sequence[str]) -> list[str]:
    """Sentences on runs that are not there, and on those that were measured unlike."""
    shown = _labelled(groups, names)
    lacking = [f"{label}: {row.status}" for label, row in shown if row.status]
    lacking += [f"{n}: not part of this study" for n in names if n not in groups]
    missing = [f"Missing: {'; '.join(lacking)}."] if lacking else []
    return [*rows.unlike(shown), *missing]


def _labelled(groups: Groups, names: Sequence[str]) -> list[tuple[str, Row]]:
    return [
        (f"{name}, seed {seed}", row)
        for name in names
        for seed, row in groups.get(name, {}).items()
    ]


def _attacked(
    groups: Groups, names: Sequence[str]
) -> list[tuple[Row, AttackSummary | None]]:
    """All finished runs, with what PGD left of each."""
    found = [row for _, row in _labelled(groups, names) if row.summary]
    return [(row, _attack(row, ATTACK)) for row in found]


def _why_not_published(groups: Groups, names: Sequence[str]) -> list[str]:
    """A sentence on why the paper's numbers are left out; none where they may stand."""
    return published.left_out(
        (row.config, left.measured.settings if left else {}, row.measured[0].labels)
        for row, left in _attacked(groups, names)
    )


def _records(part: str, groups: Groups, names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "part": part,
            "network": name,
            "seed": seed,
            "measure": attack or "natural",
            "accuracy": value / 100,
        }
        for name in names
        for attack in (None, ATTACK, NOISE)
        for seed, value in _values(groups, name, attack).items()
    ]


def section3(groups: Groups) -> Section:
    """Undefended and defended: natural, under attack, under noise."""
    names = ("undefended", "softmax")
    left_out = _why_not_published(groups, names)
    paper = [] if left_out else ["paper: natural", "paper: attacked"]
    table = [["network", "seeds", "natural %", "attacked %", "noise %", *paper]]
    for name in names:
        values = [_values(groups, name, attack) for attack in (None, ATTACK, NOISE)]
        cells = [_text(groups, name, each) for each in values]
        attacked, natural = published.ACCURACY[name]
        printed = [] if left_out else [f"{natural}", f"{attacked}"]
        table.append([name, str(len(values[0])), *cells, *printed])
    notes = ["Noise is uniform in the same ball, one draw.", seeds.NOTE, *left_out]
    return Section(
        "Section III: attack and noise",
        table,
        [*notes, *_remarks(groups, names)],
        records=_records("section3", groups, names),
    )


def table2(groups: Groups) -> Section:
    """Accuracy of every loss over seeds, beside the paper's where that may stand."""
    measured = {}
    for name in _LOSSES:
        found = _finished(groups, name)
        worst = {seed: _worst(row) for seed, row in found.items()}
        measured[name] = Accuracies(
            _values(groups, name, None),
            _values(groups, name, ATTACK),
            {seed: 100 * cell.accuracy for seed, cell in worst.items() if cell},
            min((row.images for row in found.values()), default=0),
        )
    left_out = _why_not_published(groups, _LOSSES)
    printed = {} if left_out else published.ACCURACY
    notes = [*left_out, *_remarks(groups, _LOSSES)]
    records = _records("table2", groups, _LOSSES)
    pairs = _attacked(groups, _LOSSES)
    ways = [(row.measured_on, left and left.attack) for row, left in pairs]
    alike = all(way == ways[0] for way in ways)
    return losses_table.section(measured, printed, notes, records, alike=alike)


def _transfer(
    groups: Groups, attacker: str, defender: str
) -> tuple[dict[int, float], list[str]]:
    """Per cent correct by seed, of pairs of one seed; and what could not be read."""
    ours, theirs = _finished(groups, attacker), _finished(groups, defender)
    found, problems = {}, []
    for seed in sorted(ours.keys() & theirs.keys()):
        made, own = _attack(ours[seed], ATTACK), _attack(theirs[seed], ATTACK)
        if made and own:
            what, pair = f"{attacker} or {defender}", (made.measured, own.measured)
            correct, more = guarded(what, _shown_to, *pair)
            problems += more
            if correct is not None:
                found[seed] = 100 * float(np.mean(correct))
    return found, problems


def _shown_to(made: Measured, own: Measured) -> np.ndarray:
    classifier = _classifier(own.workdir, own.identity["parameters"])
    return transfer(made, own, classifier)


@functools.lru_cache(maxsize=32)
def _classifier(workdir: Path, parameters: str) -> Classifier:
    """The network's; of other parameters it is another."""
    return load_run(workdir).classifier


def table3(groups: Groups) -> Section:
    """Attacker by defender, with averages, and black-box attackers below."""
    attackers = (*_DEFENDERS, *_BLACK_BOX)
    found, problems = {}, []
    for attacker in attackers:
        for defender in _DEFENDERS:
            values, more = _transfer(groups, attacker, defender)
            found[attacker, defender] = values
            problems += more
    left_out = _why_not_published(groups, _DEFENDERS)
    printed = {} if left_out else published.TRANSFER
    notes = [*left_out, *dict.fromkeys(problems), *_remarks(groups, attackers)]
    return transfer_table.section(attackers, _DEFENDERS, found, printed, notes)


def _figure(part: str, title: str, shown: Sequence[tuple[str, str]], kind: str) -> Part:
    """A figure of changes: `shown` are networks with attacks."""
    names = tuple(dict.fromkeys(name for name, _ in shown))

    def section(groups: Groups) -> Section:
        candidates = {
            (name, _WORDS[attack]): [
                (
                    functools.partial(load_changes, left.measured),
                    row.config.data.num_classes,
                )
                for row in _finished(groups, name).values()
                if (left := _attack(row, attack))
            ]
            for name, attack in shown
        }
        return changes.section(part, title, candidates, kind, _remarks(groups, names))

    return Part(section, names)


def _pairs(*names: str) -> list[tuple[str, str]]:
    return [(name, attack) for name in names for attack in (ATTACK, NOISE)]


PARTS: Mapping[str, Part] = {
    "table1": Part(lambda groups: network_table.section(), ()),
    "section3": Part(section3, ("undefended", "softmax")),
    "table2": Part(table2, _LOSSES),
    "table3": Part(table3, (*_DEFENDERS, *_BLACK_BOX)),
    "figure1": _figure(
        "figure1",
        "Figure 1: change in rank of the natural prediction",
        _pairs("undefended", "softmax"),
        changes.RANKS,
    ),
    "figure2": _figure(
        "figure2",
        "Figure 2: change of every layer",
        [("undefended", ATTACK), ("undefended", NOISE), ("softmax", ATTACK)],
        changes.LAYERS,
    ),
    "figure3": _figure(
        "figure3",
        "Figure 3: change of every layer, LMCL and softmax",
        [("softmax", ATTACK), ("lmcl_m0.3", ATTACK)],
        changes.LAYERS,
    ),
    "figure4": _figure(
        "figure4",
        "Figure 4: change in rank, LMCL and softmax",
        _pairs("softmax", "lmcl_m0.3"),
        changes.RANKS,
    ),
}
