"""What metrics say of a training: curves, seconds, and whether it broke."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from ml_collections import ConfigDict

from advloss.report import style
from advloss.training import guards


class Training(NamedTuple):
    """Of one run: steps, and accuracy in per cent and loss after each.

    And of validations the steps, and what PGD left of the held-out images.
    """

    name: str
    steps: Sequence[float]
    accuracy: Sequence[float]
    loss: Sequence[float]
    held_out: Sequence[tuple[float, float]] = ()


def drawing(curves: Sequence[Training]) -> Figure:
    """Accuracy and loss of the training batches, over the steps, and validations."""
    figure = style.new(3.0)
    left, right = figure.subplots(1, 2)
    entries = []
    for i, curve in enumerate(curves):
        look = style.look(i)
        marker = look.marker if len(curve.steps) == 1 else ""
        for axes, values in ((left, curve.accuracy), (right, curve.loss)):
            (line,) = axes.plot(
                curve.steps, values, look.line, color=look.colour,
                marker=marker,
            )  # fmt: skip
        entries.append((line, curve.name))
        if curve.held_out:
            (points,) = left.plot(
                *zip(*curve.held_out, strict=True),
                linestyle=":", marker=look.marker, markersize=4, color=look.colour,
            )  # fmt: skip
            entries.append((points, f"{curve.name}, held out, under PGD"))
    left.set_ylabel("accuracy (%)")
    left.set_ylim(0, 102)
    right.set_ylabel("loss")
    if all(value > 0 for curve in curves for value in curve.loss):
        right.set_yscale("log")
    for axes in (left, right):
        axes.set_xlabel("step")
        style.tidy(axes, "both")
    style.legend_below(figure, entries)
    return figure


def points(logged: Sequence[Mapping[str, Any]]) -> Training | None:
    """The curves, without a name yet; None where no row has them."""
    rows = _numbers(logged, "step", "accuracy", "loss")
    if not rows:
        return None
    steps, accuracy, loss = zip(*rows, strict=True)
    held_out = _numbers(logged, "step", "validation_robust")
    return Training(
        "",
        steps,
        [100 * value for value in accuracy],
        loss,
        [(step, 100 * value) for step, value in held_out],
    )


def seconds(logged: Sequence[Mapping[str, Any]]) -> float:
    """Of all chunks that say how fast they were."""
    found, before = 0.0, 0.0
    for step, speed in _numbers(logged, "step", "steps_per_second"):
        found += max(0.0, step - before) / speed if speed > 0 else 0.0
        before = step
    return found


def broke(logged: Sequence[Mapping[str, Any]], config: ConfigDict) -> list[str]:
    """A sentence on the first validation that shows catastrophic overfitting."""
    wanted = ("step", "accuracy", "validation_robust", "best_robust", "best_step")
    rows = (dict(zip(wanted, row, strict=True)) for row in _numbers(logged, *wanted))
    told = (guards.lost(row, config) for row in rows)
    return [first] if (first := next(filter(None, told), "")) else []


def _numbers(logged: Sequence[Mapping[str, Any]], *keys: str) -> list[list[float]]:
    """These numbers of every row that has them all."""
    rows = [[_number(row.get(key)) for key in keys] for row in logged]
    return [row for row in rows if None not in row]


def _number(value: Any) -> float | None:
    """A finite number that can be drawn, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -1e30 < value < 1e30 else None
