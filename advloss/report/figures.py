"""Figures of runs, from plain data; each function draws one, with matplotlib.

    drawing = figures.accuracy(["softmax", "LMCL"], [
        Series("natural", "natural", [(97.7, 97.4, 98.0), (98.0, 97.7, 98.3)]),
        Series("worst linf ε=0.3", "worst", [(88.9, 88.2, 89.5), None]),
    ])

Accuracies are in per cent.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure

from advloss.report import style
from advloss.report.style import Look

Interval = tuple[float, float, float]
"""A number with the lower and upper end of its interval."""

NATURAL, WORST, ATTACK = "natural", "worst", "attack"
_POINT = 0.6  # The height of an attack's line, of a bar's.


class Series(NamedTuple):
    """One accuracy of several runs.

    Attributes:
        title: its name in the legend.
        role: NATURAL, WORST or ATTACK; decides how it is drawn.
        values: of every run, or of every swept value; None where it is not known.
    """

    title: str
    role: str
    values: Sequence


def _looks(series: Sequence[Series]) -> list[Look]:
    """Natural and worst always look the same; attacks by their place."""
    counts = dict.fromkeys((NATURAL, WORST, ATTACK), 0)
    looks = {NATURAL: lambda _: style.natural(), WORST: style.worst, ATTACK: style.look}
    found = []
    for each in series:
        found.append(looks[each.role](counts[each.role]))
        counts[each.role] += 1
    return found


def accuracy(names: Sequence[str], series: Sequence[Series]) -> Figure:
    """Of every run: bars of natural and worst accuracy, a point for each attack.

    Args:
        names: of the runs.
        series: values are `Interval | None`, one for each run.
    """
    looks = _looks(series)
    order = sorted(range(len(series)), key=lambda i: series[i].role == ATTACK)
    entries: dict[int, Artist | Container] = {}
    lines = [
        (run, i) for run in range(len(names)) for i in order if series[i].values[run]
    ]
    heights = [_POINT if series[i].role == ATTACK else 1.0 for _, i in lines]
    figure = style.new(0.9 + 0.22 * (sum(heights) + len(names)))
    axes = figure.subplots()
    place, ticks, latest = 0.0, [], -1
    for (run, i), height in zip(lines, heights, strict=True):
        if run != latest:
            place, latest = place + (1.0 if ticks else 0.0), run
            ticks.append((place + 0.5, style.text(names[run], 24)))
        middle = place + height / 2
        place += height
        is_bar = series[i].role != ATTACK
        entries[i] = _line(axes, middle, series[i].values[run], looks[i], is_bar=is_bar)
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(place + 0.4, -0.4)
    axes.set_xlim(0, 108)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("accuracy (%)")
    style.tidy(axes, "x")
    explained = [(entries[i], series[i].title) for i in order if i in entries]
    style.legend_below(figure, explained)
    return figure


def _line(
    axes: Axes, at: float, value: Interval, look: Look, *, is_bar: bool
) -> Artist | Container:
    """One number with its interval, as a bar or as a point."""
    middle, low, high = value
    # At 0 and 100 % rounding can put an end on the wrong side.
    reach = [[max(0.0, middle - low)], [max(0.0, high - middle)]]
    if is_bar:
        drawn = axes.barh(
            at, middle, 0.9, color=look.colour, hatch=look.hatch, edgecolor="white"
        )
        axes.errorbar(middle, at, xerr=reach, fmt="none", ecolor="black", capsize=2)
    else:
        drawn = axes.errorbar(
            middle, at, xerr=reach, fmt=look.marker, color=look.colour, capsize=2,
            markersize=5, elinewidth=1,
        )  # fmt: skip
    axes.annotate(
        f"{middle:.1f}", (max(middle, high), at), xytext=(4, 0), va="center",
        textcoords="offset points", fontsize=8 if is_bar else 6.5,
    )  # fmt: skip
    return drawn


def gallery(
    natural: np.ndarray,
    attacked: np.ndarray,
    labels: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
) -> tuple[Figure, float]:
    """Natural images, perturbations and attacked images, with the predictions.

    Args:
        natural: `[n, height, width, channels]` in [0, 1], at most 10 or so.
        attacked: the same after the attack.
        labels: `[n]`.
        before: `[n]` predictions of the natural images.
        after: `[n]` predictions of the attacked ones.

    Returns:
        The figure, and the change of a pixel that is shown as black or white.
    """
    change = np.mean(attacked.astype(np.float32) - natural, axis=-1, keepdims=True)
    most = max(float(np.abs(change).max()), 1e-9)
    lines = (
        ("natural", natural, before),
        ("perturbation", change / (2 * most) + 0.5, None),
        ("attacked", attacked, after),
    )
    figure = style.new(3.0)
    grid = figure.subplots(len(lines), 1)
    for axes, (title, images, predictions) in zip(grid, lines, strict=True):
        centres = _strip(axes, images)
        axes.set_ylabel(title)
        axes.set_yticks([])
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        if predictions is not None:
            right = predictions == labels
            pairs = zip(predictions, right, strict=True)
            marks = [f"{found} {'✓' if is_right else '✗'}" for found, is_right in pairs]
            axes.set_xticks(centres, marks)
            axes.tick_params(length=0, pad=2)
            for text, is_right in zip(axes.get_xticklabels(), right, strict=True):
                text.set_color(style.BLUE if is_right else style.VERMILION)
    return figure, most


def _strip(axes: Axes, images: np.ndarray) -> list[float]:
    """Draws images side by side; three channels are colours, others' mean is grey.

    Returns:
        The middle of each.
    """
    count, height, width, channels = images.shape
    shown = images if channels == 3 else images.mean(axis=-1, keepdims=True)
    shown = np.clip(np.repeat(shown, 3 // shown.shape[-1], axis=-1), 0, 1)
    gap = max(1, width // 6)
    strip = np.ones((height, count * (width + gap) - gap, 3))
    starts = np.arange(count) * (width + gap)
    for start, image in zip(starts, shown, strict=True):
        strip[:, start : start + width] = image
    axes.imshow(strip, interpolation="nearest")
    return list(starts + (width - 1) / 2)


POINTS, LINES, STEPS = "points", "lines", "steps"


class Curve(NamedTuple):
    """Accuracies in per cent against epsilon.

    Attributes:
        title: its name in the legend.
        epsilons: growing.
        accuracies: at each.
        form: POINTS that were measured, LINES between them, or STEPS, where the curve
            is known at every epsilon.
        network: whose it is: its curve looks as its points do. "" where it stands for
            itself.
    """

    title: str
    epsilons: Sequence[float]
    accuracies: Sequence[float]
    form: str = LINES
    network: str = ""


def _curve_looks(curves: Sequence[Curve]) -> list[Look]:
    """By network; the second and further whole curves of one by places after all."""
    keys = [(curve.network or curve.title, curve.form) for curve in curves]
    networks = [*dict.fromkeys(name for name, _ in keys)]
    is_first = [keys.index(key) == i for i, key in enumerate(keys)]
    return [
        style.look(networks.index(name) if is_first[i] else len(networks) + i)
        for i, (name, _) in enumerate(keys)
    ]


def against_epsilon(curves: Sequence[Curve], norm: str) -> Figure:
    """The accuracy that is left at every epsilon, in one norm, to the largest one."""
    figure = style.new(3.6)
    axes = figure.subplots()
    most = max(curve.epsilons[-1] for curve in curves) or 1.0
    entries = []
    for curve, look in zip(curves, _curve_looks(curves), strict=True):
        if curve.form == STEPS:
            # What is not fooled at the last epsilon stands at all that follow.
            on = curve.epsilons[-1] < most
            (line,) = axes.step(
                [*curve.epsilons, *[most] * on],
                [*curve.accuracies, *[curve.accuracies[-1]] * on],
                where="post", color=look.colour, linestyle=look.line,
            )  # fmt: skip
        else:
            (line,) = axes.plot(
                curve.epsilons, curve.accuracies, marker=look.marker, clip_on=False,
                color=look.colour, linestyle=look.line if curve.form == LINES else "",
            )  # fmt: skip
        entries.append((line, curve.title))
    axes.set_xlabel(f"ε ({norm})")
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 102)
    axes.set_xlim(0, most)
    style.tidy(axes, "both")
    style.legend_below(figure, entries)
    return figure


def swept(key: str, places: Sequence[float], series: Sequence[Series]) -> Figure:
    """Every run and the mean over seeds, against the one key that was swept.

    Args:
        key: what was swept.
        places: its values, growing.
        series: values are, for each place, the runs' accuracies and the `Interval` of
            their mean, nan at its ends where there is none: `(list, Interval)` or None.
    """
    figure = style.new(3.8)
    axes = figure.subplots()
    entries = []
    for each, look in zip(series, _looks(series), strict=True):
        points = [
            (x, *cell) for x, cell in zip(places, each.values, strict=True) if cell
        ]
        for x, values, _ in points:
            axes.plot(
                [x] * len(values), values, look.marker, color=look.colour, alpha=0.3
            )
        xs = [x for x, _, _ in points]
        mean, low, high = np.array([cell for _, _, cell in points]).reshape(-1, 3).T
        reach = np.nan_to_num(np.maximum([mean - low, high - mean], 0))
        line = axes.errorbar(
            xs, mean, reach, color=look.colour, marker=look.marker,
            linestyle=look.line, capsize=4,
        )  # fmt: skip
        entries.append((line, each.title))
    axes.set_xlabel(style.text(key))
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 102)
    style.tidy(axes, "both")
    style.legend_below(figure, entries)
    return figure
