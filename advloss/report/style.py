"""How figures look: colours, text that is shown as it is, legends that are not cut.

Colours are Okabe and Ito's, told apart by the colour-blind; nothing is said by colour
alone.
"""

import functools
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure

from advloss.runtime import files

matplotlib.rcdefaults()  # A matplotlibrc of the user changes no figure.

BLUE, VERMILION = "#0072B2", "#D55E00"  # Natural or right; worst or wrong.
COLOURS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*", "h")
LINES = ("-", "--", ":", "-.")
WIDTH = 8.0  # Of every figure, in inches.
SAVED = (".png", ".svg")  # Every figure, as.
_MOST_COLUMNS = 4
_LABEL = 48  # Characters in a line of a legend.
_LONGEST = 120


class Look(NamedTuple):
    """How one series is drawn, wherever it is drawn."""

    colour: str
    hatch: str
    marker: str
    line: str


def look(place: int) -> Look:
    """Of the series at a place among others: unlike that of the next 30."""
    return Look(
        COLOURS[place % len(COLOURS)],
        HATCHES[place % len(HATCHES)],
        MARKERS[place % len(MARKERS)],
        LINES[place % len(LINES)],
    )


def natural() -> Look:
    """Of the natural accuracy."""
    return Look(BLUE, "", "o", "-")


def worst(place: int = 0) -> Look:
    """Of the worst case under one of several threat models."""
    hatch = HATCHES[(place + 1) % len(HATCHES)]
    return Look(VERMILION, hatch, "v", LINES[(place + 1) % len(LINES)])


def new(height: float) -> Figure:
    """A figure of a given height in inches, its legend not counted."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def tidy(axes: Axes, grid: str = "y") -> None:
    """Pale lines at the ticks, no frame."""
    axes.grid(axis=grid, alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def text(content: str, width: int = 0) -> str:
    """Text that matplotlib shows as it is.

    A "$" starts no formula, and what the font lacks is a "?".

    Args:
        content: any text.
        width: characters after which lines are broken; 0 for one line.
    """
    glyphs = _glyphs()
    known = "".join(c if ord(c) in glyphs else "?" for c in " ".join(content.split()))
    known = textwrap.shorten(known, _LONGEST, placeholder="…") if width else known
    known = known if len(known) <= _LONGEST else f"{known[: _LONGEST - 1]}…"
    lines = textwrap.wrap(known, width) if width else [known]
    return "\n".join(lines).replace("$", r"\$")


@functools.cache
def _glyphs() -> frozenset[int]:
    path = font_manager.findfont(font_manager.FontProperties())
    return frozenset(font_manager.get_font(path).get_charmap())


def legend_below(
    figure: Figure, entries: Sequence[tuple[Artist | Container, str]]
) -> None:
    """A legend under the axes, in as many columns as fit; the figure grows by it.

    Args:
        figure: of `new`; what is drawn keeps its height.
        entries: what is explained, with its title.
    """
    handles = [handle for handle, _ in entries]
    titles = [text(title, _LABEL) for _, title in entries]
    for columns in range(min(_MOST_COLUMNS, len(entries)), 0, -1):
        legend = figure.legend(
            handles, titles, loc="outside lower center", ncols=columns, frameon=False
        )
        box = legend.get_window_extent()
        if columns == 1 or box.width < 0.98 * figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def save(figure: Figure, path: Path) -> None:
    """Writes PATH.png and PATH.svg, the same bytes for the same figure."""
    for ending in SAVED:
        with matplotlib.rc_context({"svg.hashsalt": "advloss"}):
            drawn = io.BytesIO()
            figure.savefig(
                drawn,
                format=ending[1:],
                dpi=150,
                metadata={"Date": None} if ending == ".svg" else None,
            )
        files.write_bytes(path.with_name(path.name + ending), drawn.getvalue())
        figure.set_layout_engine("none")  # What stands stays, and is not sought.
