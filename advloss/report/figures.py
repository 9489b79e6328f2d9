"""Figures; each function draws one and returns it, or None where nothing is to be seen.

Colours are Okabe and Ito's, told apart by the colour-blind; nothing is said by colour
alone.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from advloss import metrics, results
from advloss.errors import InputError
from advloss.report.rows import Row, columns, describe_attack

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--")
_GALLERY_COLUMNS = 10


class Drawn(NamedTuple):
    """A figure that was saved.

    Attributes:
        png: its file; the same name with .svg lies beside it.
        caption: what it shows, in a sentence or two.
    """

    png: Path
    caption: str


class Sketch(NamedTuple):
    """A figure with its caption, not yet saved."""

    figure: Figure
    caption: str


def save(sketch: Sketch, path: Path) -> Drawn:
    """Writes PATH.png and PATH.svg."""
    for ending in (".png", ".svg"):
        with matplotlib.rc_context({"svg.hashsalt": "advloss"}):
            sketch.figure.savefig(
                path.with_suffix(ending),
                dpi=150,
                metadata={"Date": None} if ending == ".svg" else None,
            )
        sketch.figure.set_layout_engine("none")  # What stands stays, and is not sought.
    return Drawn(path.with_suffix(".png"), sketch.caption)


def accuracy(rows: Sequence[Row]) -> Sketch | None:
    """Bars of every accuracy of every run, with 95 % intervals."""
    rows = [row for row in rows if not row.status]
    if not rows:
        return None
    measures = columns(rows)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(measures)
    for i, measure in enumerate(measures):
        found = [measure.of(row) for row in rows]
        places = [n for n, cell in enumerate(found) if cell is not None]
        heights, low, high = (
            np.array([100 * found[n][key] for n in places])
            for key in ("accuracy", "low", "high")
        )
        x = np.array(places) + (i - (len(measures) - 1) / 2) * width
        axes.bar(
            x,
            heights,
            width,
            label=measure.title,
            color=COLOURS[i % len(COLOURS)],
            hatch=HATCHES[i % len(HATCHES)],
            edgecolor="white",
        )
        # At 0 or 100 % rounding can put the interval's end on the wrong side.
        errors = np.maximum([heights - low, high - heights], 0)
        axes.errorbar(x, heights, errors, fmt="none", ecolor="black", capsize=3)
        for place, height, top in zip(x, heights, high, strict=True):
            axes.annotate(
                f"{height:.1f}",
                (place, top),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    axes.set_xticks(
        range(len(rows)), [textwrap.fill(_plain(row.name), 14) for row in rows]
    )
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("accuracy (%)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        loc="outside upper center", ncols=min(len(measures), 4), frameon=False
    )
    return Sketch(
        figure,
        "Accuracy on test images. Whiskers: 95 % intervals over the choice of test "
        "images (Wilson); they do not speak of the spread between seeds.",
    )


def training(rows: Sequence[Row]) -> Sketch | None:
    """The accuracy and the loss of the training batches, over the steps."""
    curves = [(row, metrics.read(row.workdir)) for row in rows]
    curves = [(row, points) for row, points in curves if points]
    if not curves:
        return None
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = ("-", "--", ":", "-.")
    for i, (row, points) in enumerate(curves):
        steps = [point["step"] for point in points]
        for axes, key, unit in ((left, "accuracy", 100), (right, "loss", 1)):
            axes.plot(
                steps,
                [unit * point[key] for point in points],
                styles[i % len(styles)],
                color=COLOURS[i % len(COLOURS)],
                label=_plain(row.name) if axes is left else None,
            )
    left.set_ylabel("accuracy on training batches (%)")
    left.set_ylim(0, 102)
    right.set_ylabel("loss")
    if all(point["loss"] > 0 for _, points in curves for point in points):
        right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=min(len(curves), 4), frameon=False)
    return Sketch(
        figure,
        "Training: accuracy and loss on the batches as they were trained on (attacked, "
        "where the network was trained against an attack), averaged between two "
        "points. Losses of different kinds have different scales.",
    )


def gallery(row: Row) -> Sketch | None:
    """Natural images, perturbations and attacked images, with the predictions."""
    if row.status:
        return None
    attack = next(iter(row.results["attacks"]))
    try:
        examples = results.load_examples(row.workdir, attack)
    except InputError:
        return None  # The table still has the numbers.
    chosen = _one_a_class(examples["labels"][: len(examples["natural_images"])])
    natural, attacked = (
        examples[key][chosen].astype(np.float32)
        for key in ("natural_images", "attacked_images")
    )
    title = describe_attack(attack, row.results["attacks"][attack]["settings"])
    change = np.mean(attacked - natural, axis=-1)
    most = max(np.abs(change).max(), 1e-9)
    change = change / (2 * most) + 0.5
    lines = (
        ("natural", natural, examples["natural"][chosen]),
        ("perturbation", change, None),
        ("attacked", attacked, examples["attacked"][chosen]),
    )
    figure = Figure(figsize=(8, 3.1), layout="constrained")
    grid = figure.subplots(len(lines), len(chosen), squeeze=False)
    for axes_row, (label, images, predictions) in zip(grid, lines, strict=True):
        axes_row[0].set_ylabel(label)
        for i, axes in enumerate(axes_row):
            axes.imshow(images[i], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if predictions is not None:
                right = predictions[i] == examples["labels"][chosen[i]]
                mark, colour = ("✓", COLOURS[0]) if right else ("✗", COLOURS[1])
                axes.set_xlabel(f"{predictions[i]} {mark}", color=colour, labelpad=2)
    figure.suptitle(f"{_plain(row.name)} under {title}", fontsize=11)
    return Sketch(
        figure,
        f"{row.name}: the first attacked image of each class, what {title} adds "
        f"to it (grey: nothing; black and white: ∓{most:.2g}), and the sum. Below "
        "the images the prediction, ✓ right or ✗ wrong.",
    )


def _plain(name: str) -> str:
    """A name that matplotlib takes as text: no formula, no hidden legend entry."""
    name = name.replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def _one_a_class(labels: np.ndarray) -> np.ndarray:
    """Places of the first example of each class, at most `_GALLERY_COLUMNS`."""
    _, places = np.unique(labels, return_index=True)
    return places[:_GALLERY_COLUMNS]
