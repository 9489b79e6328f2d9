"""The report of a sweep: accuracies over seeds, against what was swept.

print(report.write_sweep(variants.expand(config, text), folder, command="..."))
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from advloss import statistics, study
from advloss.report.figures import COLOURS, Sketch
from advloss.report.rows import Column, Row, columns, load_row
from advloss.report.section import Section, interval
from advloss.report.study import write_sections
from advloss.variants import Variant

_MARKERS = "osD^v"

Settings = tuple[tuple[str, object], ...]
"""Swept keys but the seed, each with its value."""


def write_sweep(
    variants: Sequence[Variant], folder: str | Path, *, command: str
) -> str:
    """Writes `report/` into the sweep's folder: a page, Markdown, CSV, JSON, a figure.

    Args:
        variants: of the sweep, finished or not.
        folder: where their work directories are.
        command: makes the report again.

    Returns:
        The table and the page's path, for a terminal.
    """
    rows = [load_row(study.workdir_of(v.config, folder)) for v in variants]
    settings: list[Settings] = [
        tuple((key, value) for key, value in v.values.items() if key != "seed")
        for v in variants
    ]
    groups: dict[Settings, list[Row]] = {}
    for setting, row in zip(settings, rows, strict=True):
        groups.setdefault(setting, []).append(row)
    section = _section(groups, columns(rows))
    notes = [f"Made by: {command}"]
    shown = write_sections([section], rows, Path(folder) / "report", notes)
    return "\n\n".join(shown)


def _section(
    groups: Mapping[Settings, Sequence[Row]], measures: Sequence[Column]
) -> Section:
    keys = [key for key, _ in next(iter(groups))]
    table = [[*keys, "seeds", *(f"{measure.title} %" for measure in measures)]]
    records = []
    for setting, rows in groups.items():
        done = [row for row in rows if not row.status]
        values = [_values(measure, done) for measure in measures]
        shown = [str(value) for _, value in setting]
        table.append([*shown, str(len(done)), *map(interval, values)])
        records += [
            {
                "part": "sweep",
                **dict(setting),
                "network": row.name,
                "seed": row.config.seed,
                "measure": measure.title,
                "accuracy": value / 100,
            }
            for measure in measures
            for row in done
            for value in _values(measure, [row])
        ]
    unfinished = [row for rows in groups.values() for row in rows if row.status]
    notes = [
        "Mean over seeds with Student's 95 % interval; all on the same test images.",
        *(f"{row.workdir.name}: {row.status}." for row in unfinished),
    ]
    sketch = _curve(keys[0], groups, measures) if len(keys) == 1 else None
    return Section(
        "Accuracy over seeds",
        table,
        notes,
        {"sweep": sketch} if sketch else {},
        records,
    )


def _values(measure: Column, rows: Sequence[Row]) -> list[float]:
    cells = [measure.of(row) for row in rows]
    return [100 * cell["accuracy"] for cell in cells if cell]


def _curve(
    key: str, groups: Mapping[Settings, Sequence[Row]], measures: Sequence[Column]
) -> Sketch | None:
    """Every run and the mean over seeds, against the one key that was swept."""
    points = {value: rows for ((_, value),), rows in groups.items()}
    if len(points) < 2 or not all(isinstance(x, int | float) for x in points):
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    empty = True
    for i, measure in enumerate(measures):
        colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]
        means, ends = [], []
        for x in sorted(points):
            values = _values(measure, [row for row in points[x] if not row.status])
            if not values:
                continue
            empty = False
            axes.plot([x] * len(values), values, marker, color=colour, alpha=0.35)
            mean, low, high = statistics.accuracy_interval(values)
            means.append((x, mean))
            if not np.isnan(low):
                ends.append((x, mean, mean - low, high - mean))
        if means:
            axes.plot(*zip(*means, strict=True), "-" + marker, color=colour,
                      label=measure.title)  # fmt: skip
        if ends:
            xs, ys, *reach = zip(*ends, strict=True)
            axes.errorbar(xs, ys, reach, fmt="none", color=colour, capsize=4)
    if empty:
        return None
    axes.set_xlabel(key)
    axes.set_ylabel("accuracy (%)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return Sketch(
        figure,
        f"Accuracy against {key}: pale, every run; the line, the mean over seeds with "
        "Student's 95 % interval.",
    )
