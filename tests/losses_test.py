"""Losses: values worked by hand, gradients by finite differences, extreme logits."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from advloss import losses, networks
from advloss.attacks import ATTACKS
from advloss.errors import InputError

CASES = {
    "softmax_cross_entropy": losses.softmax_cross_entropy,
    "hinge": functools.partial(losses.hinge, margin=1.0),
    "lmcl": functools.partial(losses.lmcl, scale=10.0, margin=0.3),
    "arcface": functools.partial(losses.arcface, scale=10.0, margin=0.5),
    "sphereface": functools.partial(losses.sphereface, scale=10.0, multiplier=2),
    "he": functools.partial(losses.lmcl, scale=15.0, margin=0.2),
    "mmc": losses.mmc,
}
# As attacks climb them, where that is something else.
CLIMBED = {**CASES, "he": functools.partial(losses.lmcl, scale=15.0, margin=0.0)}
OF_GAPS = ("softmax_cross_entropy", "hinge", "lmcl", "he")
NAMED = [(name, loss) for name, loss in CASES.items()]


class ValueTest(chex.TestCase, parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_softmax_by_hand(self):
        # log 2 and log 4: both logits equal; one class of odds 1 to 3.
        logits = jnp.array([[5.0, 5.0], [0.0, float(np.log(3.0))]])
        found = self.variant(losses.softmax_cross_entropy)(logits, jnp.array([0, 0]))
        np.testing.assert_allclose(found, [np.log(2), np.log(4)], rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_hinge_sums_over_wrong_classes(self):
        # 1 - 2 + 1 = 0; 2.5 - 2 + 1 = 1.5; 1.75 - 2 + 1 = 0.75: the sum, not 1.5.
        logits = jnp.array([[2.0, 1.0, 2.5, 1.75]])
        found = self.variant(losses.hinge)(logits, jnp.array([0]))
        np.testing.assert_allclose(found, [2.25])

    @chex.variants(with_jit=True, without_jit=True)
    def test_lmcl_by_hand(self):
        # scale (cos_j - cos_y + margin) = 2 (0.5 - 0.75 + 0.25) = 0: log(1 + 1).
        loss = functools.partial(losses.lmcl, scale=2.0, margin=0.25)
        found = self.variant(loss)(jnp.array([[0.75, 0.5]]), jnp.array([0]))
        np.testing.assert_allclose(found, [np.log(2)], rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_arcface_by_hand(self):
        # 60 degrees and 30 more: 0. 150 and 60 more, beyond 180: -2 - cos(210).
        true = jnp.cos(jnp.radians(jnp.array([60.0, 150.0])))
        cosines = jnp.stack([true, jnp.array([0.5, -1.0])], axis=-1)
        loss = functools.partial(losses.arcface, scale=2.0)
        for i, (degrees, turned) in enumerate([(30, 0.0), (60, -2 + 0.8660254)]):
            margin = float(np.radians(degrees))
            found = self.variant(functools.partial(loss, margin=margin))(
                cosines[i : i + 1], jnp.array([0])
            )
            gap = 2 * (float(cosines[i, 1]) - turned)
            np.testing.assert_allclose(found, [np.log1p(np.exp(gap))], rtol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_sphereface_by_hand(self):
        # Twice 60 degrees: -0.5. Twice 120, in the second half: -cos(240) - 2.
        cosines = jnp.array([[0.5, 0.25], [-0.5, 0.25]])
        loss = functools.partial(losses.sphereface, scale=2.0, multiplier=2)
        found = self.variant(loss)(cosines, jnp.array([0, 0]))
        gaps = 2 * np.array([0.25 + 0.5, 0.25 + 1.5])
        np.testing.assert_allclose(found, np.log1p(np.exp(gaps)), rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_mmc_by_hand(self):
        found = self.variant(losses.mmc)(jnp.array([[-2.5, -0.5]]), jnp.array([0]))
        np.testing.assert_array_equal(found, [2.5])

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters(NAMED)
    def test_gradient_is_the_finite_difference(self, loss):
        rng = np.random.default_rng(0)
        logits = rng.uniform(-1, 1, (6, 5)).astype(np.float32)
        labels = jnp.arange(6) % 5
        total = self.variant(jax.grad(lambda s: loss(s, labels).sum()))
        found = total(jnp.asarray(logits))
        with jax.enable_x64(True):
            step = 1e-6
            exact = np.zeros(logits.shape)
            for i in np.ndindex(logits.shape):
                ends = [logits.astype(np.float64) for _ in range(2)]
                ends[0][i] += step
                ends[1][i] -= step
                high, low = (float(loss(jnp.asarray(x), labels).sum()) for x in ends)
                exact[i] = (high - low) / (2 * step)
        np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", CASES.values(), ids=CASES)
@pytest.mark.parametrize("true", [-1e4, 0.0, 1e4])
@pytest.mark.parametrize("wrong", [-1e4, 0.0, 1e4])
def test_finite_at_extreme_logits(loss, true, wrong):
    logits = jnp.full((3, 10), wrong).at[:, 4].set(true)
    labels = jnp.full(3, 4)
    values, gradients = jax.value_and_grad(lambda s: loss(s, labels).sum())(logits)
    assert np.isfinite(values)
    assert np.isfinite(gradients).all()


def test_exact_where_the_textbook_form_overflows():
    logits = jnp.array([[1e4, -1e4]])
    assert losses.softmax_cross_entropy(logits, jnp.array([1]))[0] == 2e4


def test_gradient_survives_confidence():
    """30 ahead, p_y - 1 is 0 in float32; an attack needs the e^-30 that is true."""
    logits = jnp.array([[30.0, 0.0]])
    gradient = jax.grad(
        lambda s: losses.softmax_cross_entropy(s, jnp.array([0])).sum()
    )(logits)
    np.testing.assert_allclose(gradient, [[-np.exp(-30), np.exp(-30)]], rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(
    logits=npst.arrays(np.float32, (4, 7), elements=st.floats(-50, 50, width=32)),
    shift=st.sampled_from([-100.0, 3.0, 64.0]),
    name=st.sampled_from(OF_GAPS),
)
def test_only_differences_of_logits_count(logits, shift, name):
    labels = jnp.array([0, 2, 4, 6])
    here, there = (
        CASES[name](jnp.asarray(x), labels) for x in (logits, logits + shift)
    )
    assert (here >= 0).all()
    np.testing.assert_allclose(here, there, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("loss", CASES.values(), ids=CASES)
def test_any_leading_axes(loss):
    logits = jax.random.normal(jax.random.key(0), (2, 3, 5))
    labels = jnp.array([[0, 1, 2], [3, 4, 0]])
    found = loss(logits, labels)
    chex.assert_shape(found, (2, 3))
    one_by_one = jax.vmap(jax.vmap(loss))(logits, labels)
    np.testing.assert_allclose(found, one_by_one, rtol=1e-6)


def test_lmcl_without_margin_is_softmax_of_scaled_cosines():
    cosines = jax.random.uniform(jax.random.key(0), (8, 10), minval=-1)
    labels = jnp.arange(8)
    found = losses.lmcl(cosines, labels, scale=10.0, margin=0.0)
    expected = losses.softmax_cross_entropy(10 * cosines, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", CASES.values(), ids=CASES)
def test_shapes_and_types_are_checked(loss):
    with pytest.raises(AssertionError):
        loss(jnp.zeros((3, 10)), jnp.zeros(2, int))
    with pytest.raises(AssertionError):
        loss(jnp.zeros((3, 10)), jnp.zeros(3))


_TURNED = {
    **{
        f"arcface {margin}": functools.partial(losses.arcface, margin=margin)
        for margin in (0.1, 0.5, 1.5, 3.0)
    },
    **{
        f"sphereface {number}": functools.partial(losses.sphereface, multiplier=number)
        for number in (1, 2, 3, 4, 8)
    },
}


@pytest.mark.parametrize("loss", _TURNED.values(), ids=_TURNED)
def test_a_larger_angle_costs_more(loss):
    """From 0 to 180 degrees, at least as much as without a margin, without a jump."""
    cosines = jnp.cos(jnp.linspace(0, jnp.pi, 4001))
    cosines = jnp.stack([cosines, jnp.zeros_like(cosines)], axis=-1)
    labels = jnp.zeros(4001, int)
    found = loss(cosines, labels, scale=1.0)
    rise = np.diff(found)
    assert (rise > -1e-5).all()
    assert rise.max() < 0.02
    plain = losses.softmax_cross_entropy(cosines, labels)
    assert (found >= plain - 1e-5).all()


@pytest.mark.parametrize("loss", _TURNED.values(), ids=_TURNED)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("off", [0.0, 1e-7, 1e-4, 1e-2])
def test_gradients_of_features_at_0_and_180_degrees(loss, sign, off):
    """Where the sine has no slope: no longer than at any other angle."""
    vectors = jnp.array([[1.0, 0.0], [0.0, 1.0]])

    def value(features):
        features = networks.layers.normalise(features, axis=-1)
        return loss(features @ vectors.T, jnp.zeros(1, int), scale=1.0).sum()

    gradient = jax.grad(value)(jnp.array([[sign, off]]))
    assert np.isfinite(gradient).all()
    assert np.linalg.norm(gradient) < 20


def test_arcface_margin_bound():
    """The angle between two corners of a simplex: 180, 120 and 109.47 degrees."""
    bounds = [np.degrees(losses.arcface_margin_bound(n)) for n in (2, 3, 4)]
    np.testing.assert_allclose(bounds, [180, 120, 109.4712], rtol=1e-5)
    with pytest.raises(ValueError, match="num_classes=1"):
        losses.arcface_margin_bound(1)


def test_margin_bound():
    assert losses.lmcl_margin_bound(10) == pytest.approx(1.1111, abs=1e-4)
    assert losses.lmcl_margin_bound(2) == 2.0
    with pytest.raises(ValueError, match="num_classes=1"):
        losses.lmcl_margin_bound(1)


def test_every_registered_loss_is_in_the_table():
    """CASES holds each with its default settings."""
    assert CASES.keys() == losses.LOSSES.keys()
    logits = jax.random.uniform(jax.random.key(0), (4, 5), minval=-1)
    for name, entry in losses.LOSSES.items():
        trained = functools.partial(entry.function, **losses.defaults(name))
        climbed = losses.climb(name, losses.defaults(name))
        for found, loss in ((trained, CASES[name]), (climbed, CLIMBED[name])):
            expected = loss(logits, jnp.arange(4))
            np.testing.assert_array_equal(found(logits, jnp.arange(4)), expected)


def test_entries_hold_to_their_own_rules():
    """Defaults are valid for any number of classes; heads are those of networks."""
    titles = [entry.title for entry in losses.LOSSES.values()]
    assert len(set(titles)) == len(titles)
    for name, entry in losses.LOSSES.items():
        assert entry.head in networks.HEADS
        assert set(entry.bounds) <= set(entry.settings)
        for key, value in losses.defaults(name).items():
            setting = entry.settings[key]
            assert type(value) is setting.valid.kind
            assert setting.valid.accepts(value)
            if bound := entry.bounds.get(key):
                assert all(value <= bound(classes) for classes in (2, 10, 1000))
        assert set(entry.climbed) <= set(entry.settings)


def test_settings_may_be_arrays_and_differ_by_run():
    logits, labels = jnp.array([[1.0, 0.5, 0.25]]), jnp.array([0])
    margins = jnp.array([0.5, 1.0])
    found = jax.vmap(lambda m: losses.climb("hinge", {"margin": m})(logits, labels))(
        margins
    )
    # 0.5 - 1 + 0.5 and 0.25 - 1 + 0.5 < 0; with margin 1, 0.5 + 0.25.
    np.testing.assert_allclose(found, [[0.0], [0.75]])


def test_margin_by_hand():
    """Of the best wrong class; its gradient is 1, -1 and 0, whatever the confidence."""
    logits = jnp.array([[1.0, 4.0, 2.5], [1e6, -1.0, 3.0]])
    labels = jnp.array([1, 0])
    np.testing.assert_allclose(losses.margin(logits, labels), [-1.5, 3 - 1e6])
    gradient = jax.grad(lambda s: losses.margin(s, labels).sum())(logits)
    np.testing.assert_array_equal(gradient, [[0, -1, 1], [-1, 0, 1]])


@pytest.mark.parametrize("scale", [1.0, 10.0])
@pytest.mark.parametrize("name", losses.OBJECTIVES)
def test_objectives_by_name(name, scale):
    """The network's own for "training"; losses take their defaults."""

    def own(logits, labels):
        return logits.sum(axis=-1) + labels

    found = losses.objective(name, own, scale)
    others = {"training": own, "margin": losses.margin, "dlr": losses.dlr}
    expected = others.get(name) or CLIMBED[name]
    logits = jax.random.uniform(jax.random.key(1), (3, 4), minval=-1)
    labels = jnp.array([0, 3, 1])
    np.testing.assert_allclose(
        found(logits, labels), expected(scale * logits, labels), rtol=1e-6
    )


def test_an_unscaled_objective_is_the_loss_itself():
    """So that a program that is compiled for it is found again."""
    assert losses.objective("margin", losses.hinge) is losses.margin
    assert losses.objective("training", losses.hinge) is losses.hinge


def test_an_unknown_objective_is_refused():
    with pytest.raises(InputError, match="is no loss: use one of"):
        losses.objective("lead", losses.hinge)


def test_a_loss_that_is_entered_later_is_an_objective(monkeypatch):
    """Of attacks in configs too, whose error lists it."""
    valid = ATTACKS["pgd"].settings["objective"].valid
    assert not valid.accepts("squared")
    entry = losses.Loss(losses.softmax_cross_entropy, "squared", "linear")
    monkeypatch.setitem(losses.LOSSES, "squared", entry)
    assert "squared" in losses.OBJECTIVES
    assert valid.accepts("squared")
    assert "squared" in valid.text


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dlr_of_equal_logits_is_a_number(dtype):
    """Their lead, by which it divides, is 0."""
    equal, labels = jnp.ones((1, 4), dtype), jnp.zeros(1, int)
    assert losses.dlr(equal, labels) == 0
    assert losses.targeted_dlr(equal, labels, labels + 1) == 0


@pytest.mark.parametrize("name", ["nix", None, ["hinge"]])
def test_what_is_no_loss_is_one_line(name):
    for function in (losses.defaults, lambda name: losses.climb(name, {})):
        with pytest.raises(InputError, match=r"name=.* is no loss: use one of softmax"):
            function(name)


@pytest.mark.parametrize("multiplier", [0, -1, 2.0, True, "2"])
def test_a_multiplier_is_a_whole_number(multiplier):
    with pytest.raises(InputError, match=r"multiplier=.* is not valid: use a whole nu"):
        losses.sphereface(
            jnp.zeros((2, 3)), jnp.array([0, 1]), scale=2.0, multiplier=multiplier
        )


def test_a_traced_multiplier_is_told():
    def loss(multiplier):
        return losses.sphereface(
            jnp.zeros((1, 3)), jnp.array([0]), scale=2.0, multiplier=multiplier
        )

    with pytest.raises(InputError, match=r"multiplier=.* is not valid"):
        jax.jit(loss)(2)
