"""The results of attacks on a run, in its work directory: found and summarised.

    measured = results.chosen(results.load(workdir))
    summary = results.summarise(measured)
    summary.worst[0].proportion.accuracy    # under the worst of all attacks

Results of other settings, examples or data stand side by side. They are sorted into
groups that can be compared, and accuracies are derived from their examples.
"""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advloss.attacks import ATTACKS, MINIMUM_NORM, SUITES
from advloss.errors import InputError
from advloss.evaluation import measured as one
from advloss.evaluation.measured import (
    FOLDER,
    GALLERY_IMAGES,
    Attack,
    Measured,
    load_images,
)
from advloss.evaluation.statistics import Proportion, proportion
from advloss.runtime import checkpoints, files
from advloss.training import validation

__all__ = ["FOLDER", "GALLERY_IMAGES", "Measured", "Proportion", "load_images"]

_NAME = re.compile(r"[a-z0-9_]+-[0-9a-f]{12}\.npz")
_GROUP = ("data", "examples", "seed", "survivors_only", "network")


class AttackSummary(NamedTuple):
    """What one attack leaves.

    Attributes:
        measured: its result.
        attack: what it was.
        final: the accuracy under its final iterate, as the paper.
        worst: under the worst of its iterates and the natural image.
        median_distance: of a minimum-norm attack, inf where fewer than half were
            fooled at all; else None, and where it was shown survivors alone: it stops
            at the first image within epsilon, which need not be the nearest.
    """

    measured: Measured
    attack: Attack
    final: Proportion
    worst: Proportion
    median_distance: float | None


class SuiteSummary(NamedTuple):
    """What a suite of one number leaves, where all its attacks were measured.

    Attributes:
        name: its key in `attacks.SUITES`.
        attacks: its attacks with their settings, in their order.
        proportion: what is left after all of them.
    """

    name: str
    attacks: tuple[tuple[str, dict[str, Any]], ...]
    proportion: Proportion


class ThreatModel(NamedTuple):
    """What is left where the worst attack in one ball counts, example by example."""

    norm: str
    epsilon: float
    proportion: Proportion
    attacks: tuple[str, ...]


class Summary(NamedTuple):
    """What a group of results says.

    Attributes:
        natural: the accuracy without an attack.
        attacks: in the order of the results.
        suites: those that are whole, in the order of the results.
        worst: one for each threat model.
        union: where the worst attack of several threat models counts; None where there
            is one alone.
    """

    natural: Proportion
    attacks: list[AttackSummary]
    suites: list[SuiteSummary]
    worst: list[ThreatModel]
    union: Proportion | None


def network_digest(workdir: Path) -> str:
    """Of the variables of a run's network, as its newest checkpoint holds them.

    Raises:
        DamagedError: the checkpoint is damaged.
    """
    with checkpoints.open_folder(workdir) as manager:
        state: Any = checkpoints.restore(manager)
        settings = checkpoints.load_origin(manager).config.get("train", {})
    return files.digest(validation.evaluated(state, settings))


def load(workdir: str | Path) -> list[Measured]:
    """All results of the run's network as it is now, the oldest first.

    What is damaged is left out, with a warning that names it. So is what was measured
    before code of one's own was changed: of an attack, where it was measured again,
    with what was found of its survivors; of a network, all.

    Raises:
        InputError: the network is damaged, or what has the folder's name is none.
    """
    workdir = Path(workdir)
    folder = workdir / FOLDER
    if os.path.lexists(folder) and not folder.is_dir():
        raise InputError(f"{folder} is not a folder: put the run's own back")
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in paths if _NAME.fullmatch(path.name)]
    if not paths or not checkpoints.steps(workdir):
        return []
    parameters = network_digest(workdir)
    found = []
    for path in paths:
        try:
            each = one.read(path)
        except InputError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
            continue
        if each.identity["parameters"] == parameters:
            found.append(each)
    return _of_today(sorted(found, key=lambda each: each.finished))


def _of_today(found: Sequence[Measured]) -> list[Measured]:
    """Without what code of one's own computed before it was changed.

    Args:
        found: the oldest first.
    """
    known = {one.digest(each.identity): each for each in found}
    newest = {_but_program(each): digest for digest, each in known.items()}
    gone = {
        digest
        for digest, each in known.items()
        if newest[_but_program(each)] != digest
        or _is_of_another_network(each, found[-1])
    }
    while more := {
        digest
        for digest, each in known.items()
        if gone & {*each.identity.get("before", ())} and digest not in gone
    }:
        gone |= more
    if gone:
        names = sorted({known[digest].attack for digest in gone})
        warnings.warn(
            f"left out: what {', '.join(names)} found before code of your own, or a "
            "package, was changed",
            stacklevel=3,
        )
    return [each for digest, each in known.items() if digest not in gone]


def _but_program(measured: Measured) -> str:
    return one.digest({**measured.identity, "program": ""})


def _is_of_another_network(measured: Measured, newest: Measured) -> bool:
    """What other versions of packages traced, or none noted, can't be compared."""
    ours, theirs = (each.identity.get("network") for each in (measured, newest))
    packages = (each.environment.get("packages") for each in (measured, newest))
    return (
        None not in (ours, theirs)
        and ours != theirs
        and len({*map(str, packages)}) == 1
    )


def groups(measured: Sequence[Measured]) -> list[list[Measured]]:
    """Results that can stand side by side: of the same data, examples, seed and mode.

    Returns:
        The group with the most examples first, of equal ones the newest; none empty.
    """
    found: dict[tuple, list[Measured]] = {}
    for each in measured:
        key = tuple(str(each.identity.get(name)) for name in _GROUP)
        found.setdefault(key, []).append(each)

    def rank(group: list[Measured]) -> tuple[int, float]:
        return len(group[0].labels), max(each.finished for each in group)

    return sorted(found.values(), key=rank, reverse=True)


def chosen(measured: Sequence[Measured]) -> list[Measured]:
    """The group to be shown: the first of `groups`, or nothing."""
    return next(iter(groups(measured)), [])


def summarise(measured: Sequence[Measured]) -> Summary:
    """Accuracies with intervals from a group of results, at least one.

    Raises:
        InputError: they are not of the same examples.
    """
    if len(groups(measured)) != 1:
        raise InputError(
            f"{len(measured)} results of {len(groups(measured))} groups can't be "
            "summarised as one: choose a group of the same data, examples and seed"
        )
    balls: dict[tuple[str, float], list[Measured]] = {}
    for each in measured:
        balls.setdefault((each.norm, each.epsilon), []).append(each)
    attacks = [_summarise_attack(each, measured) for each in measured]
    return Summary(
        natural=proportion(measured[-1].natural == measured[-1].labels),
        attacks=attacks,
        suites=[found for each in attacks if (found := _summarise_suite(each))],
        worst=[
            ThreatModel(
                *ball,
                _worst(inside),
                tuple(dict.fromkeys(each.attack for each in inside)),
            )
            for ball, inside in balls.items()
        ],
        union=_worst(measured) if len(balls) > 1 else None,
    )


def _summarise_attack(measured: Measured, beside: Sequence[Measured]) -> AttackSummary:
    before = median = None
    if not measured.whole:
        known = {one.digest(m.identity): (m.attack, m.settings) for m in beside}
        before = tuple(known.get(d, d) for d in measured.identity["before"])
    elif ATTACKS[measured.attack].kind == MINIMUM_NORM:
        median = float(np.median(measured.distance))
    attack = Attack(measured.attack, measured.settings, before, measured.suite)
    final, worst = proportion(measured.correct), proportion(measured.worst_correct)
    return AttackSummary(measured, attack, final, worst, median)


def _summarise_suite(last: AttackSummary) -> SuiteSummary | None:
    """The suite whose last attack this is; None where one of it is not known."""
    name, settings, before, suite = last.attack
    if suite is None:
        return None
    attacks = (*before, (name, settings))
    names = tuple(each if isinstance(each, str) else each[0] for each in attacks)
    if names != SUITES[suite].attacks:
        return None
    return SuiteSummary(suite, attacks, last.worst)


def _worst(measured: Sequence[Measured]) -> Proportion:
    return proportion(np.all([each.worst_correct for each in measured], axis=0))
