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

_MOST_LINES = 8  # Of a figure that can be read.

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
    kept = {row.workdir: row for _, group in groups for row in group}
    found = [(own, kept[row.workdir]) for own, row in found]
    loaded = [row for _, row in found]
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
    drawn, more = _figures(groups, columns)
    notes += more
    records = _records(found, columns)
    return [Section("Accuracy over seeds", table, notes, drawn, records)]


def _grouped(found: Sequence[tuple[Mapping[str, Any], Row]]) -> Groups:
    groups: dict[str, tuple[Mapping[str, Any], list[Row]]] = {}
    for values, row in found:
        own = {key: value for key, value in values.items() if key != "seed"}
        groups.setdefault(repr(own), (own, []))[1].append(row)
    return [(own, alike.of_one_training(each)) for own, each in groups.values()]


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


def _figures(
    groups: Groups, columns: Sequence[Column]
) -> tuple[list[Figure], list[str]]:
    """Every run and the mean over seeds, against a key whose values are numbers.

    Of one swept key, a line for each accuracy. Of several, the worst cases alone: each
    a figure against the key of most values, with a line for each choice of the others;
    a sentence instead where these are too many.
    """
    found = {key: [own[key] for own, _ in groups] for key in groups[0][0]}
    places_of = {
        key: sorted({*values})
        for key, values in found.items()
        if all(type(value) in (int, float) for value in values)
    }
    key = max(places_of, key=lambda key: len(places_of[key]), default="")
    known = any(row.summary for _, group in groups for row in group)
    if not known or not key or len(places_of[key]) < 2:
        return [], []
    places = places_of[key]
    lines: dict[str, dict[float, Sequence[Row]]] = {}
    for own, group in groups:
        others = [f"{k}={titles.value_text(v)}" for k, v in own.items() if k != key]
        finished = [row for row in group if row.summary]
        lines.setdefault(" ".join(others), {})[own[key]] = finished
    if len(lines) == 1:
        ((_, line),) = lines.items()
        series = [_series(c.title, c.role, c, line, places) for c in columns]
        return [_figure("sweep", key, places, series, "Accuracy")], []
    if len(lines) > _MOST_LINES:
        return [], [
            f"No figure: against {key} it would have {len(lines)} lines, and more than "
            f"{_MOST_LINES} can't be told apart."
        ]
    return [
        _figure(
            f"sweep_{number}",
            key,
            places,
            [
                _series(title, figures.ATTACK, column, line, places)
                for title, line in lines.items()
            ],
            f"Accuracy, {column.title},",
        )
        for number, column in enumerate(c for c in columns if c.role == figures.WORST)
    ], []


def _series(
    title: str,
    role: str,
    column: Column,
    line: Mapping[float, Sequence[Row]],
    places: Sequence[float],
) -> Series:
    """An accuracy of every run along a line, with its mean and interval."""

    def at(finished: Sequence[Row]) -> tuple | None:
        found = _accuracies(column, finished)
        images = min((row.images for row in finished), default=0)
        return (found, seeds.interval(found, images)) if found else None

    return Series(title, role, [at(line.get(x, ())) for x in places])


def _figure(
    name: str, key: str, places: Sequence[float], series: Sequence[Series], what: str
) -> Figure:
    caption = (
        f"{what} against {key}: pale, every run; the line, the mean over seeds, with "
        f"its 95 % interval where there are at least {seeds.FEWEST}."
    )
    return Figure(name, figures.swept(key, places, series), caption)
