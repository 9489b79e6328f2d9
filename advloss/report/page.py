"""Sections as files: one HTML page, Markdown, CSV, JSON, figures; templates by jinja2.

text = page.write("Three losses", sections, "runs/report", command="...")
"""

import base64
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from advloss import __version__
from advloss.report import own, style, tables
from advloss.report.section import Figure, Section
from advloss.report.tables import shown_text
from advloss.runtime import files

_FILES = ("report.html", "report.md", "numbers.csv", "numbers.json")
_NUMBER = re.compile(r"[-+]?\d[\d.,]*( .*)?|-?|inf")


def write(
    title: str,
    sections: Sequence[Section],
    folder: str | Path,
    *,
    notes: Sequence[str] = (),
    command: str = "",
    overwrite: bool = False,
) -> str:
    """Writes a report of any sections.

        report.html     one page that needs no other file
        report.md       the same as Markdown; figures lie beside it
        numbers.csv     every number, unrounded, one in a line
        numbers.json    the same as a list of objects
        NAME.png, NAME.svg  every figure

    Args:
        title: of the report; tells what was compared.
        sections: in their order.
        folder: made if need be; an earlier report there is replaced, and nothing else.
        notes: sentences that hold for all sections.
        command: makes the report again; "" where there is none.
        overwrite: an earlier report is replaced though it is of runs that this one is
            not of.

    Returns:
        The tables and the page's path, for a terminal of 80 columns.

    Raises:
        InputError: a file of that name is there that no report wrote, or a report of
            other runs; nothing was written.
        OSError: a file can't be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sections = _with_own_names(sections)
    drawn = [figure for section in sections for figure in section.figures]
    pictures = [f"{figure.name}{ending}" for figure in drawn for ending in style.SAVED]
    runs = _runs(sections)
    if not overwrite:
        own.check_runs(folder, runs)
    with own.replacing(folder, [*_FILES, *pictures], runs=runs):
        for figure in drawn:
            style.save(figure.drawing, folder / figure.name)
        _write(title, sections, folder, notes, command)
    return terminal_text(sections, notes, folder / "report.html")


def _runs(sections: Sequence[Section]) -> list[str]:
    """The work directories that the numbers are of."""
    places = (r.get("workdir") for section in sections for r in section.records)
    return [*dict.fromkeys(place for place in places if isinstance(place, str))]


def _write(
    title: str,
    sections: Sequence[Section],
    folder: Path,
    notes: Sequence[str],
    command: str,
) -> None:
    """All but the figures, which are there."""
    records = [_plain(record) for section in sections for record in section.records]
    files.write_text(folder / "numbers.json", json.dumps(records, indent=1) + "\n")
    files.write_text(folder / "numbers.csv", csv_text(records))
    content = {
        "title": shown_text(title),
        "sections": [_shown(section, folder) for section in sections],
        "notes": [shown_text(note) for note in notes],
        "command": _code(command),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
    }
    for name in ("report.md", "report.html"):
        files.write_text(folder / name, _TEMPLATES.get_template(name).render(content))


def _with_own_names(sections: Iterable[Section]) -> list[Section]:
    """The sections, their figures' names made fit for files and unlike each other."""
    taken: set[str] = set()

    def rename(figure: Figure) -> Figure:
        name = re.sub(r"[^\w-]", "_", figure.name, flags=re.ASCII)[:80] or "figure"
        count, free = 1, name
        while free in taken:
            count += 1
            free = f"{name}_{count}"
        taken.add(free)
        return figure._replace(name=free)

    return [s._replace(figures=[rename(f) for f in s.figures]) for s in sections]


def _shown(section: Section, folder: Path) -> dict[str, Any]:
    """What the templates show of a section, all of it text."""
    table = [[shown_text(cell) for cell in row] for row in section.table]
    return {
        "title": shown_text(section.title),
        "table": table,
        "classes": _classes(table),
        "notes": [shown_text(note) for note in section.notes],
        "figures": [
            {
                "name": figure.name,
                "caption": shown_text(figure.caption),
                "content": _base64(folder / f"{figure.name}.png"),
            }
            for figure in section.figures
        ],
        "blocks": [
            {"title": shown_text(block.title), "text": _code(block.text)}
            for block in section.blocks
        ],
    }


def _classes(table: Sequence[Sequence[str]]) -> list[str]:
    """Of every column: numbers stand to the right."""
    whole = [row for row in table[1:] if len(row) == len(table[0])]
    return [
        "number" if whole and all(map(_NUMBER.fullmatch, cells)) else ""
        for cells in zip(*(whole or table[:1]), strict=True)
    ]


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _code(text: str) -> str:
    """Text of several lines that can be written."""
    return "\n".join(map(shown_text, text.splitlines()))


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as JSON has it: no nan but null, infinity as the text "inf"."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        if value is None or isinstance(value, bool | int | float):
            return value
        return shown_text(value)

    return plain(record)


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as CSV with a column for every key that any of them has."""
    out = io.StringIO()
    keys = dict.fromkeys(key for record in records for key in record)
    writer = csv.DictWriter(out, keys, restval="", lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow(
            {
                key: json.dumps(value) if isinstance(value, dict | list) else value
                for key, value in record.items()
            }
        )
    return out.getvalue()


def terminal_text(
    sections: Sequence[Section], notes: Sequence[str], page: str | Path
) -> str:
    """The sections' tables, for a terminal."""
    parts = []
    for section in sections:
        table = section.table if section.terminal is None else section.terminal
        if table:
            lines = [shown_text(section.title), "", tables.aligned(table)]
            parts += ["\n".join(lines), *filter(None, [tables.filled(section.notes)])]
    parts += filter(None, [tables.filled(notes)])
    return "\n\n".join([*parts, f"Report: {page}"])


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = re.sub(r"([\\`*_\[\]<>|$~&])", r"\\\1", text)
    return re.sub(r"^([-+#=]|\d+(?=[.)]))", _escape_first, text)


def _escape_first(found: re.Match) -> str:
    """A list or a title is made by what begins a line."""
    first = found[1]
    return f"{first}\\" if first.isdecimal() else f"\\{first}"


def _fenced(text: str) -> str:
    """Text as a block of code, whatever backticks it has."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("advloss.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    found.filters |= {"plain": _markdown, "fenced": _fenced}
    return found


_TEMPLATES = _environment()
