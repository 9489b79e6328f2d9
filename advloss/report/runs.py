"""The sections of a list of runs: accuracies, curves, images, attacks, how they came.

sections = sections_of_runs(["runs/softmax", "runs/lmcl"])
print(page.write("Softmax and LMCL", sections, "runs/report"))
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from advloss.config import titles
from advloss.report import (
    alike,
    attacks,
    figures,
    made,
    rows,
    seed_means,
    tables,
    training_log,
)
from advloss.report.columns import Column
from advloss.report.columns import of_rows as columns_of
from advloss.report.figures import Series
from advloss.report.rows import Row
from advloss.report.section import Figure, Section

_HOW = (
    "Intervals (Wilson, 95 %) are over the choice of test images; they don't speak of "
    "the spread between seeds, and differences of a few points between single networks "
    "may be chance. “worst” counts an image as lost if it, or any iterate of any "
    "attack of that norm and radius ε, is misclassified. The number after an attack's "
    "name is its steps; its column is the accuracy at its last iterate."
)

_TOGETHER = 8  # Networks in a figure of curves.


def sections_of_runs(
    workdirs: Sequence[str | Path],
    expected: Sequence[ConfigDict] | None = None,
    *,
    appendix: bool = False,
) -> list[Section]:
    """What there is to say of some runs, in the order given.

    A run that is missing, unfinished or damaged is a row that says so.

    Args:
        workdirs: the runs.
        expected: their configs, as in `load_row`.
        appendix: they follow other sections: tables and curves alone, and none for a
            terminal.
    """
    found = rows.load_rows(workdirs, expected)
    if appendix:
        every = _accuracies(found, "Every network")._replace(figures=(), terminal=())
        sections = [every, _against_epsilon(found), _attacks(found), _made(found)]
    else:
        sections = [
            _accuracies(found, "Accuracy"),
            seed_means.section(found, columns_of(found)),
            _against_epsilon(found),
            _training(found),
            _galleries(found),
            _attacks(found),
            _made(found),
        ]
    return [section for section in sections if section]


def terminal_attack_table(row: Row) -> str:
    """The attacks on one run, for a terminal of 80 columns."""
    if not row.summary:
        return tables.filled([f"{row.name}: {row.status}", *row.notes])
    adversary = titles.defence_title(row.config)
    title = f"{row.name}: {titles.loss_title(row.config)}, trained against {adversary}"
    table = [cells[1:] for cells in attacks.table(_labelled([row]), tables.SHORT)]
    said = tables.filled([_counted([row]), *_warnings([row])])
    return f"{tables.filled([title])}\n\n{tables.aligned(table)}\n\n{said}"


def _labelled(found: Sequence[Row]) -> list[tuple[str, Any]]:
    """The summaries that there are, with their rows' labels."""
    pairs = zip(alike.labels(found), found, strict=True)
    return [(label, row.summary) for label, row in pairs if row.summary]


def _accuracies(found: Sequence[Row], title: str) -> Section:
    columns = columns_of(found)
    return Section(
        title,
        _run_table(found, columns),
        [
            _counted(found),
            _HOW,
            *alike.unlike(zip(alike.labels(found), found, strict=True)),
            *_warnings(found),
        ],
        _accuracy_figure(found, columns),
        _records(found, columns),
        terminal=_terminal_table(found, columns),
    )


def _run_table(found: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """Header and rows; one without results ends in its status.

    Where rows were measured on different numbers of images, a column says so.
    """
    many = _differ(found)
    header = ["network", "seed", *["images"] * many]
    header += [f"{column.title} %" for column in columns]
    table = [[*header, "loss", "trained against"]]
    for label, row in zip(alike.labels(found), found, strict=True):
        seed, *words = map(str, _identity(row).values()) if row.config else [""]
        if row.summary:
            numbers = [tables.percent(column.of(row)) for column in columns]
            counted = [f"{row.images:,}"] * many
            table.append([label, seed, *counted, *numbers, *words])
        else:
            table.append([label, *([seed] if row.config else []), row.status])
    return table


def _terminal_table(found: Sequence[Row], columns: Sequence[Column]) -> list[list[str]]:
    """The same in fewer characters, the numbers before what a network is."""
    many = _differ(found)
    header = [*(f"{column.title} %" for column in columns), *["images"] * many]
    table = [["network", *header, "loss", "trained against", "seed"]]
    for label, row in zip(alike.labels(found), found, strict=True):
        if not row.summary:
            table.append([label, row.status])
            continue
        numbers = [tables.percent(column.of(row), tables.SHORT) for column in columns]
        seed, *words = map(str, _identity(row).values())
        table.append([label, *numbers, *[f"{row.images:,}"] * many, *words, seed])
    return table


def _differ(found: Sequence[Row]) -> bool:
    """Whether rows were measured on different numbers of images."""
    return len({row.images for row in found if row.summary}) > 1


def _identity(row: Row) -> dict[str, Any]:
    """Seed, loss and adversary, where they are known."""
    if row.config is None:
        return {}
    return {
        "seed": row.config.seed,
        "loss": titles.loss_title(row.config),
        "trained_against": titles.defence_title(row.config),
    }


def _counted(found: Sequence[Row]) -> str:
    counts = {row.images for row in found if row.summary}
    count = f"{counts.pop():,} " if len(counts) == 1 else ""
    sentence = f"Accuracy in % with its 95 % interval over {count}test images."
    labelled = zip(alike.labels(found), found, strict=True)
    known = [(label, row) for label, row in labelled if row.measured]
    # One group of results is shown, and so one mode.
    some = [n for n, row in known if row.measured[0].identity["survivors_only"]]
    if some:
        whom = f" on {', '.join(some)}" if len(some) < len(known) else ""
        sentence += (
            f" Attacks{whom} were shown only what those before them under the same "
            "threat model had left: an attack's accuracy is what stands after all of "
            "them (evaluate.survivors_only)."
        )
    return sentence


def _warnings(found: Sequence[Row]) -> list[str]:
    """What could not be read, and attacks that had nothing to follow."""
    pairs = list(zip(alike.labels(found), found, strict=True))
    unread = [f"{label}: {note}" for label, row in pairs for note in row.notes]
    blind = [attacks.warnings(*pair) for pair in _labelled(found)]
    return [*unread, *(sentence for each in blind for sentence in each)]


def _accuracy_figure(found: Sequence[Row], columns: Sequence[Column]) -> list[Figure]:
    shown = [row for row in found if row.summary]
    if not shown:
        return []

    def interval(row: Row, column: Column) -> tuple[float, ...] | None:
        cell = column.of(row)
        return cell and tuple(100 * value for value in cell)

    series = [
        Series(column.title, column.role, [interval(row, column) for row in shown])
        for column in columns
    ]
    names = [label for label, _ in _labelled(found)]
    caption = (
        "Accuracy on test images: bars for the natural and the worst-case accuracy, a "
        "point for every attack. Whiskers: 95 % intervals over the choice of images."
    )
    return [Figure("accuracy", figures.accuracy(names, series), caption)]


def _records(found: Sequence[Row], columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Every number of every run, or its status."""
    named = attacks.naming([summary for _, summary in _labelled(found)])
    records: list[dict[str, Any]] = []
    for label, row in zip(alike.labels(found), found, strict=True):
        run = {"part": "runs", "network": label, **_identity(row)}
        run["workdir"] = str(row.workdir)
        if not row.summary:
            records.append({**run, "status": row.status})
            continue
        run |= {"steps": row.measured[0].identity["step"], "images": row.images}
        attacked = attacks.records(row.summary, named)
        own = {each["measure"] for each in attacked}
        for column in columns:  # Natural, worst cases and suites.
            cell = column.of(row)
            if cell and column.title not in own:
                numbers = tables.proportion(cell)
                records.append({**run, "measure": column.title, **numbers})
        records += [{**run, **each} for each in attacked]
    return records


def _attacks(found: Sequence[Row]) -> Section | None:
    labelled = _labelled(found)
    if not labelled:
        return None
    table = attacks.table(labelled, tables.LONG)
    return Section("Attack by attack", table, [attacks.NOTE], terminal=())


def _training(found: Sequence[Row]) -> Section | None:
    curves = [
        row.training._replace(name=label)
        for label, row in zip(alike.labels(found), found, strict=True)
        if row.training
    ]
    if not curves:
        return None
    caption = (
        "Accuracy and loss on the batches as they were trained on (attacked, where the "
        "network was trained against an attack), averaged between two points. Losses "
        "of different kinds have different scales. Held out: training images that no "
        "step trained on, under PGD (train.validation)."
    )
    figure = Figure("training", training_log.drawing(curves), caption)
    return Section("Training", figures=[figure])


def _against_epsilon(found: Sequence[Row]) -> Section | None:
    """Figures for each norm that was attacked, of a few networks each."""
    drawn, notes, blocks = [], [], []
    for norm in ("linf", "l2", "l1", "l0"):
        each = [(n, attacks.curves(n, s, norm)) for n, s in _labelled(found)]
        known = [(label, curves) for label, curves in each if curves]
        for start in range(0, len(known), _TOGETHER):
            some = [c for _, curves in known[start : start + _TOGETHER] for c in curves]
            caption = (
                f"Accuracy against the radius ε in {norm}: of a minimum-norm attack, "
                "what it leaves within each radius, to the furthest image that it "
                "found; of the worst case, what is left at the radii that were "
                "attacked."
            )
            drawing = figures.against_epsilon(some, norm)
            drawn.append(Figure(f"epsilon_{norm}", drawing, caption))
        more = attacks.without_curve(known, norm)
        notes, blocks = [*notes, *more[0]], [*blocks, *more[1]]
    if not drawn:
        return None
    return Section("Accuracy against ε", (), notes, drawn, blocks=blocks)


def _galleries(found: Sequence[Row]) -> Section | None:
    """Of every run, images under the first of its attacks."""
    drawn, notes = [], []
    for i, (label, row) in enumerate(zip(alike.labels(found), found, strict=True)):
        if not row.summary:
            continue
        images, problems = rows.load_gallery(row.measured[0])
        notes += [f"{label}: {problem}" for problem in problems]
        if images is None:
            continue
        title = attacks.naming([row.summary])(row.summary.attacks[0])
        drawing, most = figures.gallery(*images)
        caption = (
            f"{label}: the first image of each class, what {title} adds to it (grey: "
            f"nothing; black and white: ∓{most:.2g}), and the sum. Below the images "
            "the prediction, ✓ right or ✗ wrong."
        )
        drawn.append(Figure(f"gallery_{i}", drawing, caption))
    return Section("Attacked images", (), notes, drawn) if drawn or notes else None


def _made(found: Sequence[Row]) -> Section | None:
    pairs = zip(alike.labels(found), found, strict=True)
    blocks = [
        block
        for label, row in pairs
        if row.config
        for block in made.blocks(
            label, row.workdir, row.config, row.environment, row.measured
        )
    ]
    return Section("How each network was made", blocks=blocks) if blocks else None
