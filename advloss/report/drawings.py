"""Figures of a study: losses with seeds, transfer, ranks, layers.

Each draws one figure and returns it with its caption, or None where nothing is to be
seen. Colours are those of `figures`.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from advloss import statistics
from advloss.report.figures import COLOURS, HATCHES, Sketch

Changes = Mapping[tuple[str, str], Mapping[str, np.ndarray]]
"""Of a network and an attack, what `study.load_changes` gives."""

_ATTACKS = {"pgd": "attacked", "noise": "noise"}


def losses(
    values: Mapping[str, Mapping[int, float]], printed: Mapping[str, float]
) -> Sketch | None:
    """Accuracy under attack: every seed, the mean with its interval, the paper's."""
    names = [name for name in values if values[name]]
    if not names:
        return None
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(names):
        seeds = list(values[name].values())
        mean, low, high = statistics.accuracy_interval(seeds)
        first = i == 0
        axes.plot([i] * len(seeds), seeds, "o", color=COLOURS[0], alpha=0.5,
                  label="a seed" if first else None)  # fmt: skip
        if not np.isnan(low):
            axes.errorbar(i, mean, [[mean - low], [high - mean]], color="black",
                          capsize=6, fmt="_", markersize=14,
                          label="mean, 95 % interval" if first else None)  # fmt: skip
        axes.plot(i + 0.2, printed[name], "D", color=COLOURS[1], markersize=6,
                  label="the paper" if first else None)  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylabel("accuracy under attack (%)")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return Sketch(
        figure,
        "Accuracy under PGD by training loss: every seed, the mean over seeds with "
        "Student's 95 % interval, and the paper's single number.",
    )


def heat_map(matrix: np.ndarray, names: tuple[str, ...]) -> Sketch | None:
    """Attackers in rows, defenders in columns, accuracy in per cent."""
    if np.isnan(matrix).all():
        return None
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="cividis", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(matrix):
        text = "-" if np.isnan(value) else f"{value:.1f}"
        dark = value < 55  # Not where it is missing: that is white.
        axes.text(column, row, text, ha="center", va="center",
                  color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(matrix)), names)
    axes.set_xlabel("defends")
    axes.set_ylabel("attacks")
    figure.colorbar(image, label="accuracy of the defender (%)")
    return Sketch(
        figure,
        "Transfer: accuracy of each network on images made against another; on the "
        "diagonal those made against itself.",
    )


def ranks(changes: Changes) -> Sketch | None:
    """Histograms 0 ... 9 of the rank that the natural prediction has afterwards."""
    if not changes:
        return None
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    attacks = list(dict.fromkeys(attack for _, attack in changes))
    names = list(dict.fromkeys(name for name, _ in changes))
    grid = figure.subplots(1, len(attacks), sharey=True, squeeze=False)[0]
    width = 0.8 / len(names)
    for axes, attack in zip(grid, attacks, strict=True):
        for i, name in enumerate(names):
            if (name, attack) not in changes:
                continue
            found = changes[name, attack]["rank_change"]
            share = 100 * np.bincount(found, minlength=10) / len(found)
            places = np.arange(len(share)) + (i - (len(names) - 1) / 2) * width
            axes.bar(places, share, width, color=COLOURS[i], hatch=HATCHES[i],
                     edgecolor="white",
                     label=name if axes is grid[0] else None)  # fmt: skip
        axes.set_title(_ATTACKS.get(attack, attack), fontsize=11)
        axes.set_xticks(range(10))
        axes.set_xlabel("rank of the natural prediction")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("share of test images (%)")
    figure.legend(loc="outside upper center", ncols=len(names), frameon=False)
    return Sketch(
        figure,
        "How many outputs are larger than that of the naturally predicted class, once "
        "the image is attacked or noisy: at 0 the prediction stays, at 9 the class has "
        "become the least likely. One seed.",
    )


def layers(changes: Changes) -> Sketch | None:
    """Boxes of the relative change of every layer."""
    if not changes:
        return None
    names = [key for key in next(iter(changes.values())) if key.startswith("layer_")]
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(changes)
    for i, ((name, attack), found) in enumerate(changes.items()):
        places = np.arange(len(names)) + (i - (len(changes) - 1) / 2) * width
        boxes = axes.boxplot(
            [found[key] for key in names],
            positions=places,
            widths=0.85 * width,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            medianprops={"color": "black"},
            label=f"{name}, {_ATTACKS.get(attack, attack)}",
        )
        for box in boxes["boxes"]:
            box.set(facecolor=COLOURS[i], hatch=HATCHES[i], edgecolor="black")
    axes.set_xticks(range(len(names)), [key.removeprefix("layer_") for key in names])
    axes.set_ylabel("‖change of output‖ / ‖natural input‖")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(changes), frameon=False)
    return Sketch(
        figure,
        "How far each layer's output moves, relative to its natural input (l2): "
        "quartiles over test images, whiskers from 5 to 95 %. One seed.",
    )
