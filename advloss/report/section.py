"""What every report is made of: of runs, of a sweep, of a study alike."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure as Drawing


class Figure(NamedTuple):
    """A figure of a section.

    Attributes:
        name: of its files, unique in a report.
        drawing: matplotlib's.
        caption: what it shows, in a sentence or two.
    """

    name: str
    drawing: Drawing
    caption: str


class Block(NamedTuple):
    """Text to be copied: commands, a config. The title is any text."""

    title: str
    text: str


class Section(NamedTuple):
    """One table or figure with what belongs to it.

    Attributes:
        title: what it is.
        table: header and rows as text; () where there is none. The first column says
            what a row is about. A row shorter than the header ends in a cell that takes
            the place of all that are missing.
        notes: sentences on how to read it, and what is missing.
        figures: below the table.
        records: every number, unrounded, for CSV and JSON.
        blocks: text to be copied, folded away.
        terminal: a narrower table for a terminal; None for the same one, () for none.
    """

    title: str
    table: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    records: Sequence[Mapping[str, Any]] = ()
    blocks: Sequence[Block] = ()
    terminal: Sequence[Sequence[str]] | None = None
