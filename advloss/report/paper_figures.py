"""Figures of a study, from plain data: losses with seeds, transfer, ranks, layers."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from advloss.report import style
from advloss.report.figures import Interval


def losses(
    values: Mapping[str, Sequence[float]],
    means: Mapping[str, Interval],
    printed: Mapping[str, float],
) -> Figure:
    """Accuracy under attack of every loss, in per cent.

    Args:
        values: of each loss, every seed's; at least one.
        means: with their intervals, nan at the ends where there is none.
        printed: the paper's numbers; may lack losses.
    """
    figure = style.new(3.4)
    axes = figure.subplots()
    entries = {}
    for i, (name, seeds) in enumerate(values.items()):
        (entries["a seed"],) = axes.plot(
            [i] * len(seeds), seeds, "o", color=style.BLUE, alpha=0.5
        )
        mean, low, high = means[name]
        if not np.isnan(low):
            entries["mean with 95 % interval"] = axes.errorbar(
                i, mean, [[mean - low], [high - mean]], color="grey", capsize=6,
                fmt="_", markersize=14,
            )  # fmt: skip
        if name in printed:
            (entries["the paper"],) = axes.plot(
                i + 0.2, printed[name], "D", color=style.VERMILION
            )
    axes.set_xticks(range(len(values)), [style.text(name, 12) for name in values])
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_ylabel("accuracy under attack (%)")
    style.tidy(axes)
    style.legend_below(figure, [(drawn, title) for title, drawn in entries.items()])
    return figure


def heat_map(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    """Attackers in rows, defenders in columns, accuracy in per cent, nan unknown."""
    figure = style.new(3.8)
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(matrix):
        shown = "-" if np.isnan(value) else f"{value:.1f}"
        dark = value < 55  # Not where it is missing: that is white.
        axes.text(
            column, row, shown, ha="center", va="center",
            color="white" if dark else "black",
        )  # fmt: skip
    shown = [style.text(name, 16) for name in names]
    axes.set_xticks(range(len(names)), shown)
    axes.set_yticks(range(len(names)), shown)
    axes.set_xlabel("defends")
    axes.set_ylabel("attacks")
    figure.colorbar(image, label="accuracy of the defender (%)")
    return figure


def ranks(found: Mapping[tuple[str, str], np.ndarray]) -> Figure:
    """Histograms of the rank that the natural prediction has afterwards.

    Args:
        found: of each network's and attack's title, ranks `[n]`, whole numbers from 0.
    """
    figure = style.new(3.0)
    classes = max(10, 1 + max(int(values.max()) for values in found.values()))
    attacks = list(dict.fromkeys(attack for _, attack in found))
    names = list(dict.fromkeys(name for name, _ in found))
    grid = figure.subplots(1, len(attacks), sharey=True, squeeze=False)[0]
    width = 0.8 / len(names)
    entries = {}
    for axes, attack in zip(grid, attacks, strict=True):
        for i, name in enumerate(names):
            if (name, attack) not in found:
                continue
            values = found[name, attack]
            share = 100 * np.bincount(values, minlength=classes) / len(values)
            places = np.arange(classes) + (i - (len(names) - 1) / 2) * width
            look = style.look(i)
            entries[name] = axes.bar(
                places, share, width, color=look.colour, hatch=look.hatch,
                edgecolor="white",
            )  # fmt: skip
        axes.set_title(style.text(attack, 40), fontsize=11)
        axes.set_xticks(range(0, classes, max(1, classes // 10)))
        axes.set_xlabel("rank of the natural prediction")
        style.tidy(axes)
    grid[0].set_ylabel("share of test images (%)")
    style.legend_below(figure, [(drawn, title) for title, drawn in entries.items()])
    return figure


def layers(
    found: Mapping[str, Mapping[str, np.ndarray]],
) -> Figure:
    """Boxes of the relative change of every layer.

    Args:
        found: of each title, of every layer by name, the changes `[n]`, all finite.
    """
    names = list(dict.fromkeys(name for changes in found.values() for name in changes))
    figure = style.new(3.4)
    axes = figure.subplots()
    width = 0.8 / len(found)
    entries = []
    for i, (title, changes) in enumerate(found.items()):
        places = np.arange(len(names)) + (i - (len(found) - 1) / 2) * width
        there = [k for k, name in enumerate(names) if name in changes]
        look = style.look(i)
        boxes = axes.boxplot(
            [changes[names[k]] for k in there],
            positions=places[there],
            widths=0.85 * width,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            medianprops={"color": "black"},
        )["boxes"]
        for box in boxes:
            box.set(facecolor=look.colour, hatch=look.hatch, edgecolor="black")
        entries.append((boxes[0], title))
    axes.set_xticks(range(len(names)), [style.text(name, 16) for name in names])
    axes.set_ylabel("‖change of output‖ / ‖natural input‖")
    axes.set_ylim(bottom=0)
    style.tidy(axes)
    style.legend_below(figure, entries)
    return figure
