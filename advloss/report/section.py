"""What a part of a study's report is made of."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from advloss import statistics
from advloss.report.figures import Sketch
from advloss.report.rows import Row

ATTACK, NOISE = "pgd", "noise"  # The attacks that a study shows, by name.


class Section(NamedTuple):
    """One table or figure of the paper.

    Attributes:
        title: what it is.
        table: header and rows as text; empty where there is none.
        notes: sentences on how to read it, and what is missing.
        sketches: figures by the name of their file.
        records: every number, unrounded, for CSV and JSON.
    """

    title: str
    table: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    sketches: Mapping[str, Sketch] = MappingProxyType({})
    records: Sequence[dict[str, Any]] = ()


def interval(values: Collection[float]) -> str:
    """The mean of percentages with its interval over seeds, as text."""
    if not values:
        return "-"
    mean, low, high = statistics.accuracy_interval(list(values))
    return f"{mean:.1f}" if np.isnan(low) else f"{mean:.1f} [{low:.1f}, {high:.1f}]"


Groups = Mapping[str, Mapping[int, Row]]
"""Runs by the network's name and the seed."""


def finished(groups: Groups, name: str) -> dict[int, Row]:
    return {s: row for s, row in groups.get(name, {}).items() if not row.status}


def missing(groups: Groups, names: Sequence[str]) -> list[str]:
    """A sentence on the runs that are not there, or none."""
    lacking = [
        f"{name}, seed {seed}: {row.status}"
        for name in names
        for seed, row in groups.get(name, {}).items()
        if row.status
    ] + [f"{name}: not part of this study" for name in names if name not in groups]
    return [f"Missing: {'; '.join(lacking)}."] if lacking else []
