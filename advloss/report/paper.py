"""The sections of a study: each table and figure of the paper, and that of defences.

A part is a function of the study's runs; `PARTS` names them. Where runs are missing or
not finished, it shows what there is and says what is not.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from advloss.errors import InputError
from advloss.evaluation.changes import load_changes
from advloss.evaluation.results import AttackSummary, Measured
from advloss.evaluation.transfer import transfer
from advloss.report import (
    changes,
    defences_table,
    losses_table,
    network_table,
    published,
    rows,
    seeds,
    study,
    transfer_table,
)
from advloss.report.reading import guarded
from advloss.report.rows import Row
from advloss.report.section import Section
from advloss.report.study import ATTACK, NOISE, Study
from advloss.training.workdir import load_run
from advloss.types import Classifier

_WORDS = {None: "natural", ATTACK: "PGD", NOISE: "noise"}
_LOSSES = tuple(name for name in published.ACCURACY if name != "undefended")
_DEFENDERS = tuple(published.TRANSFER)
_BLACK_BOX = ("undefended", "mlp")


class Part(NamedTuple):
    """A table or figure, and the names of the networks that it takes."""

    section: Callable[[Study], Section]
    networks: Sequence[str]


def sections_of_paper(
    parts: Sequence[str],
    workdirs: Sequence[str | Path],
    expected: Sequence[ConfigDict] | None = None,
) -> list[Section]:
    """Tables and figures of the paper.

    Args:
        parts: names in `PARTS`, in the order to be shown.
        workdirs: of all runs of the study, finished or not.
        expected: their configs, as in `load_row`. Without them a run's own says which
            it is, or the folder's name, NAME-seedN, where it can't be read.

    Raises:
        InputError: a part is unknown, or two runs are of one name and seed.
    """
    for part in parts:
        if part not in PARTS:
            known = ", ".join(PARTS)
            raise InputError(f"part {part!r} is not valid: use some of {known}")
    found = rows.load_rows(workdirs, expected)
    runs = study.of_rows(found, expected)
    return [PARTS[part].section(runs) for part in parts]


def _attacked(
    runs: Study, names: Sequence[str]
) -> list[tuple[Row, AttackSummary | None]]:
    """All finished runs, with what PGD left of each."""
    found = [row for _, row in runs.labelled(names) if row.summary]
    return [(row, runs.attack(row, ATTACK)) for row in found]


def _why_not_published(runs: Study, names: Sequence[str]) -> list[str]:
    """A sentence on why the paper's numbers are left out; none where they may stand."""
    return published.left_out(
        (row.config, left.measured.settings if left else {}, row.measured[0].labels)
        for row, left in _attacked(runs, names)
    )


def _records(part: str, runs: Study, names: Sequence[str]) -> list[dict[str, Any]]:
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
        for seed, value in runs.values(name, attack).items()
    ]


def section3(runs: Study) -> Section:
    """Undefended and defended: natural, under attack, under noise."""
    names = ("undefended", "softmax")
    left_out = _why_not_published(runs, names)
    paper = [] if left_out else ["paper: natural", "paper: attacked"]
    table = [["network", "seeds", "natural %", "attacked %", "noise %", *paper]]
    for name in names:
        values = [runs.values(name, attack) for attack in (None, ATTACK, NOISE)]
        cells = [runs.text(name, each) for each in values]
        attacked, natural = published.ACCURACY[name]
        printed = [] if left_out else [f"{natural}", f"{attacked}"]
        table.append([name, str(len(values[0])), *cells, *printed])
    notes = [*_of_noise(runs), seeds.NOTE, *left_out]
    return Section(
        "Section III: attack and noise",
        table,
        [*notes, *runs.remarks(names)],
        records=_records("section3", runs, names),
    )


def _of_noise(runs: Study) -> list[str]:
    """A sentence on the noise that is shown."""
    if NOISE not in runs.shown:
        return []
    noise = runs.shown[NOISE].settings
    epsilon, draws = noise["epsilon"], noise["draws"]
    attacked = runs.shown[ATTACK].settings["epsilon"] if ATTACK in runs.shown else None
    ball = "the same ball" if epsilon == attacked else f"another ball, ε={epsilon:g}"
    count = "one draw" if draws == 1 else f"the worst of {draws} draws"
    return [f"Noise is uniform in {ball}, {count}."]


def table2(runs: Study) -> Section:
    """Accuracy of every loss over seeds, beside the paper's where that may stand."""
    measured = {name: runs.accuracies(name) for name in _LOSSES}
    left_out = _why_not_published(runs, _LOSSES)
    printed = {} if left_out else published.ACCURACY
    notes = [*left_out, *runs.remarks(_LOSSES)]
    records = _records("table2", runs, _LOSSES)
    alike = runs.alike(_LOSSES)
    return losses_table.section(measured, printed, notes, records, alike=alike)


def _transfer(
    runs: Study, attacker: str, defender: str
) -> tuple[dict[int, float], list[str]]:
    """Per cent correct by seed, of pairs of one seed; and what could not be read."""
    ours, theirs = runs.finished(attacker), runs.finished(defender)
    found, problems = {}, []
    for seed in sorted(ours.keys() & theirs.keys()):
        made, own = (
            runs.attack(row, ATTACK, whole=True) for row in (ours[seed], theirs[seed])
        )
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


def table3(runs: Study) -> Section:
    """Attacker by defender, with averages, and black-box attackers below."""
    attackers = (*_DEFENDERS, *_BLACK_BOX)
    found, problems = {}, []
    for attacker in attackers:
        for defender in _DEFENDERS:
            values, more = _transfer(runs, attacker, defender)
            found[attacker, defender] = values
            problems += more
    left_out = _why_not_published(runs, _DEFENDERS)
    printed = {} if left_out else published.TRANSFER
    notes = [*left_out, *dict.fromkeys(problems), *runs.remarks(attackers, whole=True)]
    return transfer_table.section(attackers, _DEFENDERS, found, printed, notes)


def _figure(part: str, title: str, shown: Sequence[tuple[str, str]], kind: str) -> Part:
    """A figure of changes: `shown` are networks with attacks."""
    names = tuple(dict.fromkeys(name for name, _ in shown))

    def section(runs: Study) -> Section:
        candidates = {
            (name, _WORDS[attack]): [
                (
                    functools.partial(load_changes, left.measured),
                    row.config.data.num_classes,
                )
                for row in runs.finished(name).values()
                if (left := runs.attack(row, attack, whole=True))
            ]
            for name, attack in shown
        }
        return changes.section(
            part, title, candidates, kind, runs.remarks(names, whole=True)
        )

    return Part(section, names)


def _pairs(*names: str) -> list[tuple[str, str]]:
    return [(name, attack) for name in names for attack in (ATTACK, NOISE)]


PARTS: Mapping[str, Part] = {
    "table1": Part(lambda runs: network_table.section(), ()),
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
    "defences": Part(defences_table.section, ()),
}
