"""The section of a sweep: accuracies over seeds, against what was swept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from advloss.config import titles
from advloss.report import alike, figures, rows, seeds
from advloss.report.columns import Column
from advloss.report.columns import of_rows as columns_of
from advloss.report.figures import Series
from advloss.report.rows import Row
from advloss.report.section import Figure, Section

Groups = Sequence[tuple[Mapping[str, Any], Sequence[Row]]]
"""Swept keys but the seed with their values, and the runs that have them."""


def sections_of_sweep(
    runs: Sequence[tuple[Mapping[str, Any], str | Path]],
    expected: Sequence[ConfigDict] | None = None,
) -> list[Section]:
    """Accuracies of every combination of values, over its seeds.

    Args:
        runs: of each run the swept keys with its values, "seed" perhaps among them, and
            its work directory; finished or not.
        expected: their configs, as in `load_row`.
    """
    loaded = rows.load_rows([workdir for _, workdir in runs], expected)
    found = [(own, row) for (own, _), row in zip(runs, loaded, strict=True)]
    groups = _grouped(found)
    columns = columns_of(loaded)
    done = [[row for row in group if row.summary] for _, group in groups]
    keys = list(groups[0][0])
    table = [[*keys, "seeds", *(f"{column.title} %" for column in columns)]]
    for (values, _), finished in zip(groups, done, strict=True):
        images = min((row.images for row in finished), default=0)
        accuracies = [_accuracies(column, finished) for column in columns]
        cells = [seeds.text(each, images, len(finished)) for each in accuracies]
        shown = [titles.value_text(value) for value in values.values()]
        table.append([*shown, str(len(finished)), *cells])
    labelled = [(row.workdir.name, row) for row in loaded]
    notes = [
        seeds.NOTE,
        *_images(done),
        *alike.unlike(labelled),
        *alike.noted(labelled),
    ]
    notes += [f"{row.workdir.name}: {row.status}." for row in loaded if not row.summary]
    drawn = _figure(keys[0], groups, columns) if len(keys) == 1 else []
    records = _records(found, columns)
    return [Section("Accuracy over seeds", table, notes, drawn, records)]


def _grouped(found: Sequence[tuple[Mapping[str, Any], Row]]) -> Groups:
    groups: dict[str, tuple[Mapping[str, Any], list[Row]]] = {}
    for values, row in found:
        own = {key: value for key, value in values.items() if key != "seed"}
        groups.setdefault(repr(own), (own, []))[1].append(row)
    return list(groups.values())


def _images(done: Sequence[Sequence[Row]]) -> list[str]:
    counts = sorted({row.images for finished in done for row in finished})
    if not counts:
        return []
    listed = " or ".join(f"{count:,}" for count in counts)
    return [f"Measured on {listed} test images."]


def _accuracies(column: Column, finished: Sequence[Row]) -> list[float]:
    """In per cent, of the runs that have it."""
    cells = [column.of(row) for row in finished]
    return [100 * cell.accuracy for cell in cells if cell]


def _records(
    found: Sequence[tuple[Mapping[str, Any], Row]], columns: Sequence[Column]
) -> list[dict[str, Any]]:
    records = []
    for values, row in found:
        run = {"part": "sweep", **values, "network": row.name}
        run["seed"] = row.config.seed if row.config else values.get("seed")
        if not row.summary:
            records.append({**run, "status": row.status})
        for column in columns:
            if cell := column.of(row):
                numbers = {"images": row.images, "accuracy": cell.accuracy}
                records.append({**run, "measure": column.title, **numbers})
    return records


def _figure(key: str, groups: Groups, columns: Sequence[Column]) -> list[Figure]:
    """Every run and the mean over seeds, where the one key's values are numbers."""
    points = [(values[key], group) for values, group in groups]
    numbers = all(type(x) in (int, float) for x, _ in points)
    known = any(row.summary for _, group in points for row in group)
    if len(points) < 2 or not numbers or not known:
        return []
    points.sort(key=lambda point: point[0])

    def value(column: Column, group: Sequence[Row]) -> tuple | None:
        finished = [row for row in group if row.summary]
        found = _accuracies(column, finished)
        images = min((row.images for row in finished), default=0)
        return (found, seeds.interval(found, images)) if found else None

    series = [
        Series(c.title, c.role, [value(c, group) for _, group in points])
        for c in columns
    ]
    caption = (
        f"Accuracy against {key}: pale, every run; the line, the mean over seeds, with "
        f"its 95 % interval where there are at least {seeds.FEWEST}."
    )
    drawing = figures.swept(key, [x for x, _ in points], series)
    return [Figure("sweep", drawing, caption)]
