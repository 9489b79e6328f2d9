"""Accuracies of several seeds: their mean, and an interval where it means something."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from advloss.evaluation import statistics
from advloss.evaluation.statistics import Interval

FEWEST = 3  # Seeds without which there is no interval.
NOTE = (
    "Mean over seeds with a 95 % interval for both the choice of seeds (Student) and "
    f"that of test images (Wilson). Over fewer than {FEWEST} seeds there is no "
    "interval: the seeds stand in brackets."
)


def interval(accuracies: Sequence[float], images: int) -> Interval:
    """The mean of percentages with its interval over seeds and test images.

    Both errors are added as if they were independent. The networks share their test
    images, so more seeds don't make the second one smaller.

    Args:
        accuracies: in per cent, of at least one seed.
        images: how many each was measured on.

    Returns:
        In per cent; nan ends where there are fewer than `FEWEST` seeds.
    """
    mean, low, high = statistics.mean_interval(list(accuracies))
    if len(accuracies) < FEWEST:
        return Interval(mean, math.nan, math.nan)
    correct = min(images, max(0, round(mean / 100 * images)))
    chance = statistics.proportion(np.arange(images) < correct)
    below = math.hypot(mean - low, mean - 100 * min(chance.low, mean / 100))
    above = math.hypot(high - mean, 100 * max(chance.high, mean / 100) - mean)
    return Interval(mean, max(0.0, mean - below), min(100.0, mean + above))


def text(accuracies: Sequence[float], images: int) -> str:
    """The mean with its interval, or with its seeds: "88.9 [87.1, 90.2]"."""
    if not len(accuracies):
        return "-"
    mean, low, high = interval(accuracies, images)
    if not np.isnan(low):
        return f"{mean:.1f} [{low:.1f}, {high:.1f}]"
    if len(accuracies) == 1:
        return f"{mean:.1f}"
    return f"{mean:.1f} ({', '.join(f'{value:.1f}' for value in accuracies)})"


def verdict(
    what: str, values: Mapping[str, Mapping[int, float]], reference: str
) -> list[str]:
    """A sentence on which groups differ from a reference by more than seeds explain.

    Args:
        what: begins the sentence.
        values: of each group by name, percentages by seed; may be empty.
        reference: the group that the others are compared with.
    """
    if not values[reference]:
        return []
    found = statistics.compare({n: v for n, v in values.items() if v}, reference)
    tested = [each for each in found if each.seeds >= FEWEST and not np.isnan(each.p)]
    if not tested:
        return [f"{what}: too few seeds for a test of the differences."]
    listed = "; ".join(
        f"{each.name} {each.mean.mean:+.1f} [{each.mean.low:+.1f}, "
        f"{each.mean.high:+.1f}], p = {each.p:.2g}"
        f"{' (more than seeds explain)' if each.p < 0.05 else ''}"
        for each in tested
    )
    return [
        f"{what}, against {reference} (paired t-test over {tested[0].seeds} seeds, "
        f"Holm's correction): {listed}."
    ]
