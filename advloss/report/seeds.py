"""Accuracies of several seeds: their mean, and an interval where it means something."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from advloss.evaluation import statistics
from advloss.evaluation.statistics import Difference, Interval

FEWEST = 3  # Seeds without which there is no interval.
_ROUNDING = 1e-9  # Of differences of percentages.
NOTE = (
    "Mean over seeds with a 95 % interval for both the choice of seeds (Student) and "
    f"that of test images (Wilson). Over fewer than {FEWEST} seeds there is no "
    "interval: the seeds stand in brackets."
)


class Accuracies(NamedTuple):
    """Of one network, in per cent by seed; measured on so many images each.

    Natural, under PGD, what the suite `fast` leaves, and the worst case in PGD's ball.
    """

    natural: Mapping[int, float]
    attacked: Mapping[int, float]
    fast: Mapping[int, float]
    worst: Mapping[int, float]
    images: int

    def text(self, values: Mapping[int, float]) -> str:
        """One of these with its interval, as `text` of a list."""
        return text(list(values.values()), self.images, len(self.natural))


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


def text(accuracies: Sequence[float], images: int, of: int) -> str:
    """The mean with its interval, or with its seeds: "88.9 [87.1, 90.2]".

    Args:
        accuracies: in per cent, by seed.
        images: how many each was measured on.
        of: how many seeds the row has; where fewer have this one, it is said.
    """
    count = len(accuracies)
    if not count:
        return "-"
    mean, low, high = interval(accuracies, images)
    fewer = f" ({count} seed{'s' * (count > 1)})" if count < of else ""
    if count >= FEWEST:
        return f"{mean:.1f} [{low:.1f}, {high:.1f}]{fewer}"
    if count == 1:
        return f"{mean:.1f}{fewer}"
    return f"{mean:.1f} ({', '.join(f'{value:.1f}' for value in accuracies)})"


def verdict(
    what: str, values: Mapping[str, Mapping[int, float]], reference: str
) -> list[str]:
    """Sentences on which groups differ from a reference by more than seeds explain.

    Groups of fewer than `FEWEST` common seeds, and those that differ by the same at
    every seed, are not tested, do not count in Holm's correction, and are named.

    Args:
        what: begins each sentence.
        values: of each group by name, percentages by seed; may be empty.
        reference: the group that the others are compared with.
    """
    if not values[reference]:
        return []
    few, same, enough = [], [], {reference: values[reference]}
    for name, own in values.items():
        common = own.keys() & values[reference].keys()
        pairs = [own[seed] - values[reference][seed] for seed in common]
        if name == reference or not own:
            continue
        if len(pairs) < FEWEST:
            few.append(name)
        elif np.ptp(pairs) < _ROUNDING:
            same.append(f"{name} {np.mean(pairs):+.1f} at each of {len(pairs)} seeds")
        else:
            enough[name] = own
    said = []
    if tested := statistics.compare(enough, reference):
        said.append(
            f"{what}, against {reference} (paired t-test, Holm's correction): "
            f"{'; '.join(map(_tested, tested))}."
        )
    if same:
        listed = "; ".join(same)
        said.append(
            f"{what}, against {reference}: {listed}: no spread between seeds, so no "
            "test."
        )
    if few:
        listed = ", ".join(few)
        said.append(f"{what}: too few seeds for a test of {listed}.")
    return said


def _tested(difference: Difference) -> str:
    name, count, (mean, low, high), p = difference
    sure = " (more than seeds explain)" if p < 0.05 else ""
    interval = f"[{low:+.1f}, {high:+.1f}]"
    return f"{name} {mean:+.1f} {interval} over {count} seeds, p = {p:.2g}{sure}"
