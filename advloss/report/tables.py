"""The results of runs as rows, and rows as text."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from advloss import runs
from advloss.errors import InputError
from advloss.losses import LOSSES

_HEADER = ("network", "loss", "trained against")


class Row(NamedTuple):
    """One run in a table.

    Attributes:
        workdir: where it is.
        name: what its config calls it, or its folder's name where there is no config.
        config: None where it could not be read.
        results: what `runs.evaluate_run` wrote, or None.
        status: "" for a finished run, or what is missing.
    """

    workdir: Path
    name: str
    config: ConfigDict | None
    results: dict | None
    status: str


def load_row(workdir: str | Path) -> Row:
    """A run's row, also where the run is missing, unfinished or damaged."""
    workdir = Path(workdir)
    config = results = None
    try:
        config = runs.load_config(workdir)
        results = runs.load_results(workdir)
        status = "" if results else "not evaluated yet"
    except InputError:
        status = "damaged" if workdir.exists() else "no such run"
    name = workdir.name if config is None else config.name
    return Row(workdir, name, config, results, status)


def describe_loss(config: ConfigDict) -> str:
    """The loss with its hyperparameters, such as "lmcl (s=10, m=0.3)"."""
    symbols = {"scale": "s", "margin": "m"}
    settings = ", ".join(
        f"{symbols.get(key, key)}={config.loss[key]:g}"
        for key in sorted(LOSSES[config.loss.name].defaults, reverse=True)
    )
    name = config.loss.name.replace("softmax_cross_entropy", "softmax")
    return f"{name} ({settings})" if settings else name


def describe_attack(name: str, settings: dict) -> str:
    """An attack with its number of steps, such as "PGD-100"."""
    title = name.upper().replace("_", " ")
    return f"{title}-{settings['steps']}" if "steps" in settings else title


def describe_adversary(config: ConfigDict) -> str:
    """What a network was trained against, such as "PGD-40", or "nothing"."""
    attack = config.train.attack
    return "nothing" if attack.name == "none" else describe_attack(attack.name, attack)


def columns(rows: Sequence[Row]) -> list[tuple[str, tuple[str, ...]]]:
    """The accuracies that any of the rows has: their titles and paths in `results`."""
    found: dict[str, tuple[str, ...]] = {"natural": ("natural",)}
    for row in rows:
        for name, attack in (row.results or {}).get("attacks", {}).items():
            title = describe_attack(name, attack["settings"])
            found[title] = ("attacks", name, "final")
            found[f"{title} worst"] = ("attacks", name, "worst")
        if len((row.results or {}).get("attacks", {})) > 1:
            found["worst of all"] = ("worst_of_all",)
    return list(found.items())


def value(row: Row, title: str, path: tuple[str, ...]) -> dict | None:
    """A row's accuracy with its interval, or None where it was not measured."""
    cell = row.results
    for part in path:
        cell = (cell or {}).get(part)
    if cell is None or path[0] != "attacks":
        return cell
    settings = row.results["attacks"][path[1]]["settings"]
    own = describe_attack(path[1], settings)
    return cell if title in (own, f"{own} worst") else None


def cells(row: Row) -> list[str]:
    """What identifies a row: its name, its loss, what it was trained against."""
    if row.config is None:
        return [row.name, "", ""]
    return [row.name, describe_loss(row.config), describe_adversary(row.config)]


def _percent(cell: dict | None, form: str) -> str:
    if cell is None:
        return "-"
    accuracy, low, high = (100 * cell[key] for key in ("accuracy", "low", "high"))
    return form.format(a=accuracy, low=low, high=high, half=(high - low) / 2)


def text_table(rows: Sequence[Row], form: str) -> list[list[str]]:
    """Header and rows as text.

    Args:
        rows: the runs.
        form: of an accuracy in per cent; may use {a}, {low}, {high}, {half}.
    """
    titles = columns(rows)
    table = [[*_HEADER, *(f"{title} %" for title, _ in titles)]]
    for row in rows:
        if row.status:
            missing = [row.status, *[""] * (len(titles) - 1)]
            table.append([*cells(row), *missing])
        else:
            measured = [_percent(value(row, *title), form) for title in titles]
            table.append([*cells(row), *measured])
    return table


def terminal_table(rows: Sequence[Row]) -> str:
    """The table for a terminal; accuracies with half of their 95 % interval."""
    table = text_table(rows, "{a:.1f} ± {half:.1f}")
    table[0] = [title.removesuffix(" %").replace(" against", "") for title in table[0]]
    whole = [
        row for row, source in zip(table[1:], rows, strict=True) if not source.status
    ]
    widths = [max(map(len, column)) for column in zip(table[0], *whole, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in table
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    note = "Accuracy in % ± half of the 95 % interval over test images (one seed each)."
    return "\n".join([*(line.rstrip() for line in lines), note])


def markdown_table(rows: Sequence[Row]) -> str:
    """The table in Markdown; accuracies with their 95 % interval."""
    table = text_table(rows, "{a:.1f} [{low:.1f}, {high:.1f}]")
    table = [[cell.replace("|", "\\|") for cell in row] for row in table]
    rule = ["---"] * len(table[0])
    return "".join(f"| {' | '.join(row)} |\n" for row in [table[0], rule, *table[1:]])


def csv_table(rows: Sequence[Row]) -> str:
    """Every number, unrounded: one line for each run and each accuracy."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            *_HEADER,
            "seed",
            "steps",
            "measure",
            "accuracy",
            "low95",
            "high95",
            "examples",
            "status",
            "workdir",
        ]
    )
    titles = columns(rows)
    for row in rows:
        if row.status:
            writer.writerow([*cells(row), *[""] * 7, row.status, row.workdir])
            continue
        for title in titles:
            if (cell := value(row, *title)) is not None:
                writer.writerow(
                    [
                        *cells(row),
                        row.config.seed,
                        row.results["step"],
                        title[0],
                        cell["accuracy"],
                        cell["low"],
                        cell["high"],
                        row.results["examples"],
                        "",
                        row.workdir,
                    ]
                )
    return out.getvalue()
