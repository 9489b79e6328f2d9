"""Cells and tables as text, for a terminal too."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from advloss.evaluation.statistics import Proportion

Table = Sequence[Sequence[str]]

SHORT = "{a:.1f} ± {reach:.1f}"
LONG = "{a:.1f} [{low:.1f}, {high:.1f}]"
WIDTH = 80  # Columns of a terminal.
_CELL = 24  # Characters after which a cell is wrapped.


def percent(cell: Proportion | None, form: str = LONG) -> str:
    """An accuracy in per cent; the form may use {a}, {low}, {high}, {reach}.

    The reach is that of the interval's longer side.
    """
    if cell is None:
        return "-"
    accuracy, low, high = (100 * value for value in cell)
    reach = max(accuracy - low, high - accuracy)
    return form.format(a=accuracy, low=low, high=high, reach=reach)


def median(distance: float | None) -> str:
    """A median distance; inf where fewer than half of the images were fooled."""
    if distance is None:
        return ""
    return f"{distance:.4g}" if math.isfinite(distance) else "inf"


def proportion(cell: Proportion) -> dict[str, Any]:
    """A proportion as a part of a record, unrounded, between 0 and 1."""
    return {"accuracy": cell.accuracy, "low95": cell.low, "high95": cell.high}


def shown_text(content: Any) -> str:
    """Any text as one line that can be written: no controls, nothing but Unicode."""
    return "".join(c if c.isprintable() else " " for c in str(content))


def aligned(table: Table, width: int = WIDTH) -> str:
    """A table of characters that fits a terminal.

    Long cells are wrapped. A table that is too wide is cut into several, one below the
    other, each with the first column. A row shorter than the header ends in a cell that
    stands across all others.
    """
    table = [[shown_text(cell) for cell in row] for row in table]
    wide = [len(row) == len(table[0]) for row in table]
    whole = [row for row, is_whole in zip(table, wide, strict=True) if is_whole]
    cells = [*zip(*whole, strict=True)]
    # A last cell that stands across is not measured, but those before it are.
    for row in table:
        for i, cell in enumerate(row[:-1] if len(row) < len(table[0]) else ()):
            cells[i] = (*cells[i], cell)
    widths = [_column_width(column) for column in cells]
    blocks = [
        _block(table, widths, chosen, first=i == 0)
        for i, chosen in enumerate(_fitting(widths, width))
    ]
    return "\n\n".join(blocks)


def _column_width(cells: Sequence[str]) -> int:
    """The header is wrapped at words, so it counts by its longest."""
    header, *body = cells
    longest = max([0, *map(len, body)])
    words = max([1, *map(len, header.split())])
    return min(_CELL, max(longest, words))


def _fitting(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Columns that fit beside the first, block by block."""
    chosen, used = [0], widths[0]
    for i in range(1, len(widths)):
        if used + 2 + widths[i] > width and len(chosen) > 1:
            yield chosen
            chosen, used = [0], widths[0]
        chosen.append(i)
        used += 2 + widths[i]
    yield chosen


def _block(
    table: Table, widths: Sequence[int], chosen: Sequence[int], *, first: bool
) -> str:
    lines: list[str] = []
    for number, row in enumerate(table):
        across = len(row) < len(table[0])
        if across and not first:
            continue
        columns = [i for i in chosen if i < len(row) - across]
        room = [widths[i] for i in columns]
        cells = [row[i] for i in columns]
        if across:
            cells.append(row[-1])
            room.append(max(8, WIDTH - sum(room) - 2 * len(room)))
        lines += _wrapped(cells, room)
        if number == 0:
            lines.append("  ".join("-" * width for width in room))
    return "\n".join(lines)


def _wrapped(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    parts = [
        textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
        for cell, width in zip(cells, widths, strict=True)
    ]
    for i in range(max(map(len, parts))):
        line = [part[i] if i < len(part) else "" for part in parts]
        padded = (cell.ljust(w) for cell, w in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def filled(sentences: Sequence[str]) -> str:
    """Sentences, each from a line of its own, for a terminal."""
    return "\n".join(
        # A path stays whole, however long: it is there to be copied.
        textwrap.fill(
            shown_text(sentence), WIDTH, break_on_hyphens=False, break_long_words=False
        )
        for sentence in sentences
    )
