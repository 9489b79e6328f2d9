"""Accuracies with intervals; what several seeds say, and differences with a test.

proportion(correct)                 # of examples
mean_interval([88.1, 88.9, 87.5])   # of seeds
compare({"softmax": {0: 88.1, 1: 88.9}, "lmcl": {0: 90.2, 1: 90.4}}, "softmax")
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from advloss.attacks import checks
from advloss.errors import InputError, shown

_CONFIDENCE = 0.95
_ROUNDING = 1e-9  # Of a difference, relative to the values that it is of.


class Proportion(NamedTuple):
    """A share of examples with its 95 % interval, in [0, 1]."""

    accuracy: float
    low: float
    high: float


class Interval(NamedTuple):
    """A mean and its 95 % interval; nan ends where there is one value alone."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """How much a group differs from the reference, seed by seed.

    Attributes:
        name: the group.
        seeds: pairs that were compared.
        mean: of the differences, group minus reference, with its 95 % interval.
        p: of the paired t-test, after Holm's correction for all groups; nan where
            there are fewer than two pairs, or where all differ by the same but for
            rounding; the interval is that one value then.
    """

    name: str
    seeds: int
    mean: Interval
    p: float


def proportion(correct: np.ndarray) -> Proportion:
    """The share of true values in `[n]`, n at least 1, with Wilson's score interval.

    The interval speaks of the choice of test examples alone, not of the seed of
    training.

    Raises:
        InputError: they are none.

    See "Probable Inference, the Law of Succession, and Statistical Inference" by
    Wilson.
    """
    correct = checks.as_array(correct, "correct")
    if correct.dtype != bool or correct.ndim != 1 or not len(correct):
        raise InputError(
            f"correct of {correct.dtype} {correct.shape} is not valid: use True or "
            "False for each example, at least one"
        )
    count, total = int(np.sum(correct)), len(correct)
    found = stats.binomtest(count, total).proportion_ci(_CONFIDENCE, method="wilson")
    return Proportion(count / total, float(found.low), float(found.high))


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """The mean with Student's 95 % interval over the values, at least one.

    Where one of them is not finite, the ends are nan.

    Raises:
        InputError: there is none, or they are no list of numbers.
    """
    values = _numbers("values", values)
    mean = float(np.mean(values))
    if len(values) < 2 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan)
    error = float(stats.sem(values))
    reach = error * float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1))
    return Interval(mean, mean - reach, mean + reach)


def accuracy_interval(percentages: Sequence[float]) -> Interval:
    """`mean_interval`, cut where no accuracy can be: below 0 and above 100."""
    mean, low, high = mean_interval(percentages)
    return Interval(mean, float(np.maximum(low, 0.0)), float(np.minimum(high, 100.0)))


def compare(
    groups: Mapping[str, Mapping[int, float]], reference: str
) -> list[Difference]:
    """Paired t-tests of every group against the reference, over common seeds.

    Networks of one seed share their order of examples, so pairs differ by less than
    seeds do. Holm's correction keeps the chance of any false alarm below the level.

    Args:
        groups: of each name, values by seed.
        reference: the name that the others are compared with.

    Raises:
        InputError: no group has that name, or a group is no dict of numbers by seed.

    See "A Simple Sequentially Rejective Multiple Test Procedure" by Holm.
    """
    for name, values in groups.items() if isinstance(groups, Mapping) else [("", 0)]:
        if not isinstance(values, Mapping):
            raise InputError(
                f"groups={shown(groups)} is not valid: use dicts of values by seed, "
                'such as {"softmax": {0: 88.1, 1: 88.9}}'
            )
        if values:
            _numbers(f"groups[{name!r}]", [*values.values()])
    if reference not in groups:
        raise InputError(
            f"reference={shown(reference)} is not valid: use one of {', '.join(groups)}"
        )
    found = []
    for name, values in groups.items():
        common = sorted(values.keys() & groups[reference].keys())
        if name == reference or not common:
            continue
        both = np.array([[values[s], groups[reference][s]] for s in common])
        pairs = both[:, 0] - both[:, 1]
        if np.ptp(pairs) <= _ROUNDING * np.abs(both).max():
            pairs[:] = pairs[0]
        found.append(
            Difference(name, len(pairs), mean_interval(pairs), _paired_t(pairs))
        )
    corrected = _holm([difference.p for difference in found])
    return [d._replace(p=p) for d, p in zip(found, corrected, strict=True)]


def _numbers(name: str, values: Any) -> np.ndarray:
    """Numbers of any type as float64 `[n]`, n at least 1. Raises InputError."""
    numbers = checks.as_array(values, name)
    if not checks.is_of_numbers(numbers) or numbers.ndim != 1 or not len(numbers):
        raise InputError(
            f"{name} of {numbers.dtype} {numbers.shape} are not valid: use numbers, at "
            "least one"
        )
    return numbers.astype(np.float64)


def _paired_t(pairs: np.ndarray) -> float:
    """Two-sided; nan where there is no spread to compare with."""
    if len(pairs) < 2 or np.ptp(pairs) == 0:
        return math.nan
    return float(stats.ttest_1samp(pairs, 0.0).pvalue)


def _holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction; nan stays and does not count."""
    known = [i for i in range(len(values)) if not math.isnan(values[i])]
    corrected, largest = list(values), 0.0
    for place, i in enumerate(sorted(known, key=lambda i: values[i])):
        largest = max(largest, min(1.0, values[i] * (len(known) - place)))
        corrected[i] = largest
    return corrected
