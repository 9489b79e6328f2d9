"""Networks that differ in their seed alone: means over seeds, with intervals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from advloss.config import saved
from advloss.report import seeds
from advloss.report.section import Section

if TYPE_CHECKING:
    from advloss.report.columns import Column
    from advloss.report.rows import Row


def section(rows: Sequence["Row"], columns: Sequence["Column"]) -> Section | None:
    """A row for each training of several seeds, or None where there is none.

    Args:
        rows: of a report.
        columns: its accuracies.
    """
    trainings = [t for t in _trainings(rows) if len(t) > 1]
    groups = [[of_seed[0] for of_seed in each.values()] for each in trainings]
    if not groups:
        return None
    table = [["network", "seeds", *(f"{column.title} %" for column in columns)]]
    records: list[dict[str, Any]] = []
    for name, group in zip(_labels(groups), groups, strict=True):
        found = {column.title: _percents(column, group) for column in columns}
        count = min(row.images for row in group)
        cells = [seeds.text([*v.values()], count, len(group)) for v in found.values()]
        table.append([name, str(len(group)), *cells])
        records += _records(name, found, count)
    notes = [seeds.NOTE, *_repeated(trainings)]
    return Section("Means over seeds", table, notes, records=records)


def _trainings(rows: Sequence["Row"]) -> list[dict[int, list["Row"]]]:
    """Evaluated rows of one training, measured on the same images, by seeds.

    Trainings on other images, or by another teacher that the config names, are others,
    though the config may say the same of them.
    """
    found: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        if row.config is not None and row.summary:
            values = dict(saved.flatten_training(row.config))
            seed = values.pop("seed")
            seen = [row.data.get("train")]
            if row.config.defence.teacher:
                seen.append(row.data.get("teacher"))
            key = repr((sorted(values.items()), row.measured_on, seen))
            found.setdefault(key, {}).setdefault(seed, []).append(row)
    return [*found.values()]


def _repeated(trainings: Sequence[Mapping[int, Sequence["Row"]]]) -> list[str]:
    """Sentences on runs that repeat a training with its seed: each seed counts once."""
    return [
        f"Of {row.name}, seed {seed}, {row.workdir} counts; not "
        f"{', '.join(str(other.workdir) for other in others)}."
        for training in trainings
        for seed, (row, *others) in training.items()
        if others
    ]


def _labels(groups: Sequence[Sequence["Row"]]) -> list[str]:
    """What a group's runs are called; with its first's folder, where others are too."""
    names = [group[0].name for group in groups]
    return [
        name if names.count(name) == 1 else f"{name} ({group[0].workdir}, ...)"
        for name, group in zip(names, groups, strict=True)
    ]


def _percents(column: "Column", group: Sequence["Row"]) -> dict[int, float]:
    """By seed, of those that have it."""
    cells = {row.config.seed: column.of(row) for row in group if row.config}
    return {seed: 100 * cell.accuracy for seed, cell in cells.items() if cell}


def _records(
    name: str, found: Mapping[str, Mapping[int, float]], images: int
) -> list[dict[str, Any]]:
    made = []
    for title, values in found.items():
        if values:
            cell = seeds.interval([*values.values()], images)
            mean, low, high = (value / 100 for value in cell)
            made.append(
                {
                    "part": "means over seeds", "network": name, "measure": title,
                    "seeds": len(values), "accuracy": mean, "low95": low,
                    "high95": high,
                }
            )  # fmt: skip
    return made
