"""Table II: how well each loss defends, over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

from advloss.report import paper_figures, seeds
from advloss.report.section import Figure, Section
from advloss.report.seeds import Accuracies


def section(
    measured: Mapping[str, Accuracies],
    printed: Mapping[str, tuple[float, float]],
    notes: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    *,
    alike: bool,
) -> Section:
    """The table, what seeds say of the differences, and a figure.

    Args:
        measured: of every loss by name, "softmax" among them.
        printed: the paper's numbers, under attack and natural; {} to leave them out.
        notes: what is missing.
        records: every number.
        alike: all were measured alike: differences are tested.
    """
    paper = ["paper", "Δ"] if printed else []
    header = ["loss", "seeds", "natural %", *paper, "attacked %", *paper]
    table = [[*header, "fast %", "worst %"]]
    for name, found in measured.items():
        cells = []
        for place, values in ((1, found.natural), (0, found.attacked)):
            cells.append(found.text(values))
            if printed:
                number = printed[name][place]
                cells += [f"{number:.2f}", _beside(values, found.images, number)]
        cells += [found.text(values) for values in (found.fast, found.worst)]
        table.append([name, str(len(found.natural)), *cells])
    said = [
        seeds.NOTE,
        "attacked: by PGD, as the paper; fast: the suite of that name, see "
        "docs/attacks.md; worst: no iterate of any attack in the same ball fools.",
    ]
    if printed:
        said.append(
            "Δ is ours minus the paper's single number; * where that lies outside our "
            "interval."
        )
    if alike:
        attacked = {name: found.attacked for name, found in measured.items()}
        natural = {name: found.natural for name, found in measured.items()}
        said += seeds.verdict("Under attack", attacked, "softmax")
        said += seeds.verdict("On natural images", natural, "softmax")
    else:
        said.append("Not all were measured alike: differences are not tested.")
    title = "Table II: how well each loss defends"
    drawn = _figures(measured, printed)
    return Section(title, table, [*said, *notes], drawn, records)


def _beside(values: Mapping[int, float], images: int, printed: float) -> str:
    """Ours minus the paper's; starred where the paper's is outside our interval."""
    if not values:
        return "-"
    mean, low, high = seeds.interval(list(values.values()), images)
    star = " *" if printed < low or printed > high else ""
    return f"{mean - printed:+.1f}{star}"


def _figures(
    measured: Mapping[str, Accuracies], printed: Mapping[str, tuple[float, float]]
) -> list[Figure]:
    there = {name: found for name, found in measured.items() if found.attacked}
    if not there:
        return []
    values = {name: list(found.attacked.values()) for name, found in there.items()}
    means = {
        name: seeds.interval(values[name], found.images)
        for name, found in there.items()
    }
    paper = {name: printed[name][0] for name in there if name in printed}
    caption = (
        "Accuracy under PGD by training loss: every seed, and the mean with its 95 % "
        f"interval where there are at least {seeds.FEWEST} seeds"
        f"{', and the number that the paper prints' if paper else ''}."
    )
    return [Figure("table2", paper_figures.losses(values, means, paper), caption)]
