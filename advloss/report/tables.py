"""Rows as text: for the terminal, for Markdown, as CSV."""

import csv
import io
import json
import re
import textwrap
from collections.abc import Iterator, Sequence

from advloss.report.rows import (
    Row,
    columns,
    describe_adversary,
    describe_attack,
    describe_loss,
)

_HEADER = ("network", "loss", "trained against")
_ATTACK_HEADER = (
    "network",
    "attack",
    "accuracy %",
    "worst %",
    "median distance",
    "gradients",
    "seconds",
)
_WIDTH = 80
SHORT = "{a:.1f} ± {half:.1f}"
LONG = "{a:.1f} [{low:.1f}, {high:.1f}]"


def percent(cell: dict | None, form: str) -> str:
    """An accuracy in per cent; the form may use {a}, {low}, {high}, {half}."""
    if cell is None:
        return "-"
    accuracy, low, high = (100 * cell[key] for key in ("accuracy", "low", "high"))
    return form.format(a=accuracy, low=low, high=high, half=(high - low) / 2)


def identify(row: Row) -> list[str]:
    """What identifies a row: its name, its loss, what it was trained against."""
    if row.config is None:
        return [row.name, "", ""]
    return [row.name, describe_loss(row.config), describe_adversary(row.config)]


def text_table(rows: Sequence[Row], form: str) -> list[list[str]]:
    """Header and rows; a run that is not finished has its status in place of numbers.

    Where rows were measured on different numbers of images, a column says so.
    """
    measures = columns(rows)
    counts = {row.results["examples"] for row in rows if not row.status}
    images = len(counts) > 1
    table = [[*_HEADER, *["images"] * images, *(m.title for m in measures)]]
    for row in rows:
        if row.status:
            cells = [row.status, *[""] * (len(measures) + images - 1)]
        else:
            cells = [str(row.results["examples"])] * images
            cells += [percent(measure.of(row), form) for measure in measures]
        table.append([*identify(row), *cells])
    return table


def attack_table(rows: Sequence[Row], form: str) -> list[list[str]]:
    """Header, and a row for each attack on each run: what it left, what it cost."""
    table = [list(_ATTACK_HEADER)]
    for row in rows:
        if row.status:
            continue
        blank = ["", "", ""]
        natural = percent(row.results["natural"], form)
        table.append([row.name, "none", natural, natural, *blank])
        for name, attack in row.results["attacks"].items():
            table.append(
                [
                    row.name,
                    describe_attack(name, attack["settings"]),
                    percent(attack["final"], form),
                    percent(attack["worst"], form),
                    _median(attack),
                    str(attack["gradients"]),
                    f"{attack['seconds']:.0f}",
                ]
            )
        worst = percent(row.results["worst_of_all"], form)
        table.append([row.name, "worst of all", "", worst, *blank])
    return table


def warnings(rows: Sequence[Row]) -> list[str]:
    """Sentences on attacks that had nothing to follow."""
    return [
        f"{row.name}: {name} met no gradient at {attack['blind']} of "
        f"{row.results['examples']} images; where an objective is flat, robustness "
        f"is not shown: try --config.evaluate.{name}.objective=lead"
        for row in rows
        if not row.status
        for name, attack in row.results["attacks"].items()
        if attack["blind"]
    ]


def note(rows: Sequence[Row]) -> str:
    """What the numbers are."""
    counts = {row.results["examples"] for row in rows if not row.status}
    count = f"{counts.pop():,} " if len(counts) == 1 else ""
    sentence = (
        f"Accuracy in % with the 95 % interval over {count}test images; one seed "
        "each. worst: no iterate of any attack fools."
    )
    if any(row.results.get("worst_only") for row in rows if not row.status):
        sentence += (
            " Attacks stopped where an image was fooled: an attack's accuracy is what "
            "no iterate of it or of those before it fools (evaluate.worst_only)."
        )
    return sentence


def aligned(table: list[list[str]], measured: Sequence[list[str]]) -> str:
    """Columns as wide as the `measured` rows need; headers wrapped to fit."""
    widths = [max(map(len, cells)) for cells in zip(*measured, strict=True)]
    words = [max(map(len, title.split())) for title in table[0]]
    widths = [max(pair) for pair in zip(widths, words, strict=True)]
    wrapped = [textwrap.wrap(t, w) for t, w in zip(table[0], widths, strict=True)]
    height = max(map(len, wrapped))
    heads = [[*lines, *[""] * (height - len(lines))] for lines in wrapped]
    lines = [*zip(*heads, strict=True), ["-" * width for width in widths], *table[1:]]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def terminal_table(rows: Sequence[Row]) -> str:
    """Runs and their accuracies; turned on its side where it would not fit."""
    table = text_table(rows, SHORT)
    finished = [
        cells for cells, row in zip(table[1:], rows, strict=True) if not row.status
    ]
    unfinished = [[*cells[:3], *[""] * (len(cells) - 3)] for cells in table[1:]]
    text = aligned(table, finished or unfinished)
    if max(map(len, text.splitlines())) > _WIDTH and not any(r.status for r in rows):
        turned = [list(cells) for cells in zip(*table, strict=True)]
        text = aligned(turned, turned)
    return "\n".join([text, *_fill([note(rows), *warnings(rows)])])


def terminal_attack_table(row: Row) -> str:
    """The attacks on one run."""
    if row.status:
        return f"{row.name}: {row.status}"
    name, loss, adversary = identify(row)
    table = [cells[1:] for cells in attack_table([row], SHORT)]
    title = f"{name}: {loss}, trained against {adversary}"
    return "\n".join(
        [title, aligned(table, table[1:]), *_fill([note([row]), *warnings([row])])]
    )


def _fill(sentences: Sequence[str]) -> list[str]:
    return [textwrap.fill(sentence, _WIDTH) for sentence in sentences]


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|$~-])", r"\\\1", text)


def markdown_table(table: list[list[str]]) -> str:
    """A table whose first row is its header."""
    escaped = [[escape_markdown(cell) for cell in row] for row in table]
    rows = [escaped[0], ["---"] * len(table[0]), *escaped[1:]]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def csv_table(rows: Sequence[Row]) -> str:
    """Every number, unrounded: one line for each run and each accuracy."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ["accuracy", "low95", "high95", "median_distance", "examples", "settings"]
    writer.writerow([*_HEADER, "seed", "steps", "measure", *names, "status", "workdir"])
    for row in rows:
        if row.status:
            unknown = [""] * 9
            writer.writerow([*identify(row), *unknown, row.status, row.workdir])
            continue
        for measure, cell, attack in _measures(row):
            ran = [row.config.seed, row.results["step"], measure]
            numbers = [cell["accuracy"], cell["low"], cell["high"]]
            numbers += [_median(attack), row.results["examples"]]
            settings = json.dumps(attack["settings"]) if attack else ""
            ran = [*identify(row), *ran, *numbers, settings]
            writer.writerow([*ran, "", row.workdir])
    return out.getvalue()


def _measures(row: Row) -> Iterator[tuple[str, dict, dict | None]]:
    """Of a finished run: a name, the accuracy, and the attack that it belongs to."""
    yield "natural", row.results["natural"], None
    for name, attack in row.results["attacks"].items():
        title = describe_attack(name, attack["settings"])
        yield title, attack["final"], attack
        yield f"{title} worst", attack["worst"], attack
    yield "worst of all", row.results["worst_of_all"], None


def _median(attack: dict | None) -> str:
    """The median distance of an attack that looks for the closest image."""
    if attack is None or "median_distance" not in attack:
        return ""
    median = attack["median_distance"]
    return "inf" if median is None else f"{median:.4g}"
