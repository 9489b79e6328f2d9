"""Statistics against textbook values and scipy's own tests."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from advloss.errors import InputError
from advloss.evaluation import statistics


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # From the closed form, worked with z = 1.96: 8 of 10 and both ends.
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)
def test_proportion_has_wilsons_interval(correct, total, low, high):
    found = statistics.proportion(np.arange(total) < correct)
    np.testing.assert_allclose(found, (correct / total, low, high), atol=1e-4)
    assert 0 <= found.low <= found.accuracy <= found.high <= 1


def test_proportion_stays_in_range():
    for total in range(1, 300, 7):
        assert statistics.proportion(np.zeros(total, bool)).low >= 0
        assert statistics.proportion(np.ones(total, bool)).high <= 1


def test_mean_interval_by_hand():
    """1, 2, 3: deviation 1, error 1 / sqrt 3, t with two degrees of freedom 4.3027."""
    found = statistics.mean_interval([1.0, 2.0, 3.0])
    reach = 4.302653 / np.sqrt(3)
    np.testing.assert_allclose(found, (2, 2 - reach, 2 + reach), rtol=1e-6)


def test_one_value_has_no_interval():
    mean, low, high = statistics.mean_interval([5.0])
    assert mean == 5
    assert math.isnan(low)
    assert math.isnan(high)


def test_differences_are_paired_by_seed():
    groups = {
        "softmax": {0: 80.0, 1: 85.0, 2: 90.0},
        "near": {0: 80.5, 1: 84.9, 2: 90.1, 3: 10.0},
        "better": {0: 82.0, 1: 87.1, 2: 92.1},
    }
    near, better = statistics.compare(groups, "softmax")
    assert (near.name, near.seeds) == ("near", 3)
    np.testing.assert_allclose(better.mean.mean, 2.0666667)
    p_near, p_better = (
        stats.ttest_rel([groups[name][s] for s in range(3)], [80.0, 85.0, 90.0]).pvalue
        for name in ("near", "better")
    )
    # Holm: the smaller of two is doubled, the larger one stays.
    assert better.p == pytest.approx(2 * p_better)
    assert near.p == pytest.approx(p_near)
    assert better.p < 0.05 < near.p


def test_holm_by_hand():
    found = statistics._holm([0.01, 0.04, 0.03, math.nan])
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, math.nan])


def test_a_single_pair_is_no_test():
    (found,) = statistics.compare({"a": {0: 1.0}, "b": {0: 2.0}, "c": {7: 2.0}}, "a")
    assert (found.name, found.mean.mean) == ("b", 1.0)
    assert math.isnan(found.p)


@pytest.mark.parametrize("count", [3, 7, 30, 110, 10_000])
@pytest.mark.parametrize("step", [0, 1])
def test_equal_differences_have_no_spread_to_test(count, step):
    """Of percentages, whose differences are equal but for rounding."""
    reference = {seed: 100 * (seed + 1) / count for seed in range(3)}
    other = {seed: 100 / count * (seed + 1 + step) for seed in range(3)}
    (found,) = statistics.compare({"a": reference, "b": other}, "a")
    assert math.isnan(found.p)
    np.testing.assert_allclose(found.mean.mean, 100 * step / count, atol=1e-9)
    assert found.mean.high - found.mean.low < 1e-15 * max(1, found.mean.mean)
    # One image more of one network is a spread.
    other[2] += 100 / count
    (found,) = statistics.compare({"a": reference, "b": other}, "a")
    assert 0.05 < found.p < 1


@pytest.mark.parametrize("correct", [[], [0.6, 0.6], [2, 0], np.ones((3, 2), bool)])
def test_what_is_no_share_of_examples_is_one_line(correct):
    with pytest.raises(InputError, match=r"correct of .* use True or False for each"):
        statistics.proportion(correct)


@pytest.mark.parametrize("values", [[], ["a"], np.ones((2, 2)), (x for x in [1.0])])
def test_what_has_no_mean_is_one_line(values):
    with pytest.raises(InputError, match=r"values of .* are not valid: use numbers"):
        statistics.mean_interval(values)


def test_a_reference_that_is_none_is_one_line():
    with pytest.raises(InputError, match="reference='z' is not valid: use one of a, b"):
        statistics.compare({"a": {0: 1.0}, "b": {0: 2.0}}, "z")


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"a": {0: "x"}, "b": {0: 1.0}}, r"groups\['a'\] of <U1 .* use numbers"),
        (
            {"a": [1.0, 2.0], "b": [2.0, 3.0]},
            r"groups=.* is not valid: use dicts of va",
        ),
        ([("a", {0: 1.0})], r"groups=.* is not valid: use dicts of values by seed"),
    ],
)
def test_what_are_no_groups_is_one_line(groups, said):
    with pytest.raises(InputError, match=said):
        statistics.compare(groups, "a")


def test_masked_values_are_not_counted():
    with pytest.raises(InputError, match="1 values of correct are masked"):
        statistics.proportion(np.ma.array([True, False], mask=[False, True]))


@pytest.mark.parametrize("kind", [np.float16, np.float32, jnp.bfloat16])
def test_a_mean_of_any_floats_is_of_their_values(kind):
    """In halves the sum would be infinite, in singles digits would be lost."""
    values = np.array([60000.0, 60032.0, 60064.0]).astype(kind)
    exact = statistics.mean_interval(values.astype(np.float64))
    assert statistics.mean_interval(values) == exact


@pytest.mark.filterwarnings("error")
def test_of_what_is_not_finite_there_is_no_interval():
    mean, low, high = statistics.mean_interval([math.inf, 1.0])
    assert mean == math.inf and math.isnan(low) and math.isnan(high)
