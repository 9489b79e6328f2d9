"""Table III: images made against one network, shown to others."""

from collections.abc import Mapping, Sequence

import numpy as np

from advloss.report import paper_figures
from advloss.report.section import Figure, Section

_NOTE = (
    "Accuracy in % of the column's network on images made against the row's, mean over "
    "pairs of one seed. A row's high average means that its images harm others little, "
    "a column's that the network withstands. Below the averages: black-box attackers "
    "that no defender saw, an undefended network of the same architecture and a dense "
    "one (mlp)."
)


def section(
    attackers: Sequence[str],
    defenders: Sequence[str],
    found: Mapping[tuple[str, str], Mapping[int, float]],
    printed: Mapping[str, Mapping[str, float]],
    notes: Sequence[str],
) -> Section:
    """The table with averages, and the defenders among themselves as a heat map.

    Args:
        attackers: the defenders first, then black-box ones.
        defenders: names of networks.
        found: of attacker and defender, accuracies in per cent by seed.
        printed: the paper's numbers by attacker and defender; {} to leave them out.
        notes: what is missing.
    """
    ours = np.array(
        [[_mean(found[a, d].values()) for d in defenders] for a in attackers]
    )
    theirs = np.array(
        [[printed.get(a, {}).get(d, np.nan) for d in defenders] for a in attackers]
    )
    square = ours[: len(defenders)]
    drawn = []
    if not np.isnan(square).all():
        caption = (
            "Transfer: accuracy of each network on images made against another; on the "
            "diagonal those made against itself."
        )
        drawing = paper_figures.heat_map(square, defenders)
        drawn = [Figure("table3", drawing, caption)]
    brackets = ["In brackets the numbers that the paper prints."] if printed else []
    records = [
        {
            "part": "table3",
            "attacker": attacker,
            "defender": defender,
            "seed": seed,
            "accuracy": value / 100,
        }
        for (attacker, defender), values in found.items()
        for seed, value in values.items()
    ]
    table = _table(attackers, defenders, ours, theirs)
    notes = [_NOTE, *brackets, *notes]
    return Section("Table III: transfer", table, notes, drawn, records)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(list(values))) if values else np.nan


def _table(
    attackers: Sequence[str],
    defenders: Sequence[str],
    ours: np.ndarray,
    theirs: np.ndarray,
) -> list[list[str]]:
    """The defenders' averages stand after their rows, as the paper prints them."""
    count = len(defenders)
    body = [
        [name, *map(_cell, mine, other), _cell(np.mean(mine), np.mean(other))]
        for name, mine, other in zip(attackers, ours, theirs, strict=True)
    ]
    averages = np.mean(ours[:count], axis=0), np.mean(theirs[:count], axis=0)
    body.insert(count, ["defence average", *map(_cell, *averages), ""])
    return [["attack / defence", *defenders, "attack average"], *body]


def _cell(value: float, printed: float) -> str:
    text = "-" if np.isnan(value) else f"{value:.1f}"
    return text if np.isnan(printed) else f"{text} ({printed:.2f})"
