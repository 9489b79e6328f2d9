"""Optimisers against PyTorch's rule and Optax; schedules at ends and milestones."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from advloss import optimisers

RATES = (0.1, 0.05, 0.2, 0.01)


def _gradients():
    rng = np.random.default_rng(0)
    return [
        {"w": rng.normal(size=(3, 2)).astype(np.float32), "b": np.float32(rng.normal())}
        for _ in RATES
    ]


def _start():
    return {"w": jnp.arange(6.0).reshape(3, 2) / 3, "b": jnp.float32(-1)}


def _run(name, gradients, **settings):
    optimiser, params = optimisers.make(name, **settings), _start()
    state = optimiser.init(params)

    @jax.jit
    def step(params, state, gradient, rate):
        updates, state = optimiser.update(gradient, state, params)
        return optimisers.apply(params, updates, rate=rate), state

    for gradient, rate in zip(gradients, RATES, strict=True):
        params, state = step(params, state, gradient, rate)
    return params


def _equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-6, atol=1e-6),
        found,
        expected,
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd_is_pytorch_s(momentum, weight_decay):
    """v <- momentum v + (g + decay w); w <- w - rate v, v beginning at 0."""
    gradients = _gradients()
    settings = {"momentum": momentum, "weight_decay": weight_decay}
    for key, value in _run("sgd", gradients, **settings).items():
        w = np.asarray(_start()[key], np.float64)
        v = np.zeros_like(w)
        for gradient, rate in zip(gradients, RATES, strict=True):
            v = momentum * v + gradient[key] + weight_decay * w
            w = w - rate * v
        np.testing.assert_allclose(value, w, rtol=2e-6, atol=1e-6)


def test_sgd_by_hand():
    """w = 1, twice the gradient 0.5, momentum 0.5, decay 0.1, rate 1: v = 0.6, w = 0.4;
    v = 0.3 + 0.5 + 0.04 = 0.84, w = -0.44."""
    optimiser = optimisers.make("sgd", momentum=0.5, weight_decay=0.1)
    w, state = jnp.float32(1), optimiser.init(jnp.float32(1))
    for expected in (0.4, -0.44):
        updates, state = optimiser.update(jnp.float32(0.5), state, w)
        w = optimisers.apply(w, updates, rate=1.0)
        np.testing.assert_allclose(w, expected, rtol=1e-6)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_optax_s(weight_decay):
    """With a rate from outside, and its decay apart from the gradient."""
    found = _run("adam", _gradients(), momentum=0.8, weight_decay=weight_decay)
    params = _start()
    theirs = optax.inject_hyperparams(optax.adamw)(
        learning_rate=0.0, b1=0.8, weight_decay=weight_decay
    )
    state = theirs.init(params)
    for gradient, rate in zip(_gradients(), RATES, strict=True):
        state.hyperparams["learning_rate"] = jnp.float32(rate)
        updates, state = theirs.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    _equal(found, params)


def test_adam_s_first_step_is_the_rate_by_hand():
    optimiser = optimisers.make("adam", momentum=0.9)
    params = jnp.array([1.0, 1.0, 1.0])
    gradient = jnp.array([1e-3, -5.0, 0.0])
    updates, _ = optimiser.update(gradient, optimiser.init(params), params)
    params = optimisers.apply(params, updates, rate=0.1)
    np.testing.assert_allclose(params, [0.9, 1.1, 1.0], rtol=1e-5)


@pytest.mark.parametrize(("clip_norm", "factor"), [(0.0, 1), (5.1, 1), (2.5, 0.5)])
def test_long_gradients_are_shortened(clip_norm, factor):
    """(3, 4), over two arrays, is 5 long."""
    optimiser = optimisers.make("sgd", momentum=0.0, clip_norm=clip_norm)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = optimiser.update(gradient, optimiser.init(params), params)
    expected = {"a": np.array([3.0]) * factor, "b": np.array([4.0]) * factor}
    _equal(updates, expected)


def test_clipping_comes_before_weight_decay():
    """The gradient is shortened to 1; the decay adds 0.5 * 10 to it all the same."""
    optimiser = optimisers.make("sgd", momentum=0.0, weight_decay=0.5, clip_norm=1.0)
    params = jnp.float32(10)
    updates, _ = optimiser.update(jnp.float32(100), optimiser.init(params), params)
    np.testing.assert_allclose(updates, 6.0, rtol=1e-6)


# Of a schedule over 20 steps with milestones at 0.25 and 0.75: the factor by step.
SCHEDULES = {
    "constant": {0: 1, 7: 1, 19: 1, 20: 1},
    "cosine": {0: 1, 5: (1 + np.sqrt(0.5)) / 2, 10: 0.5, 20: 0},
    "one_cycle": {0: 0, 1: 0.2, 5: 1, 8: 0.8, 19: 1 / 15, 20: 0},
    "piecewise": {0: 1, 4: 1, 5: 0.1, 14: 0.1, 15: 0.01, 20: 0.01},
}


def test_every_registered_schedule_is_in_the_table():
    assert SCHEDULES.keys() == optimisers.SCHEDULES.keys()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_at_their_ends_and_milestones(name):
    schedule = optimisers.SCHEDULES[name](20, (0.25, 0.75))
    compiled = jax.jit(schedule)
    for step, expected in SCHEDULES[name].items():
        for factor in (schedule(step), compiled(jnp.int32(step))):
            np.testing.assert_allclose(factor, expected, rtol=1e-5, atol=1e-7)
    every = np.array([compiled(jnp.int32(step)) for step in range(25)])
    assert (every >= 0).all()
    assert (every <= 1).all()


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("milestones", [(0.01,), (0.5,), (0.99,)])
def test_schedules_of_one_step(name, milestones):
    factors = optimisers.SCHEDULES[name](1, milestones)
    assert np.isfinite([factors(step) for step in (0, 1)]).all()


def test_milestones_that_fall_on_one_step_both_count():
    factor = optimisers.SCHEDULES["piecewise"](10, (0.5, 0.52, 0.9))
    found = [factor(step) for step in (4, 5, 9)]
    np.testing.assert_allclose(found, [1, 0.01, 0.001], rtol=1e-5)


def test_the_average_by_hand():
    """d = (1 + step) / (10 + step) while that is less than the decay."""
    mean, new = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([2.0, 10.0])}
    for step, decay, share in ((0, 0.99, 0.1), (8, 0.99, 0.5), (8, 0.4, 0.4)):
        found = optimisers.average(mean, new, decay=decay, step=jnp.int32(step))
        expected = share * np.array([1.0, 0.0]) + (1 - share) * np.array([2.0, 10.0])
        np.testing.assert_allclose(found["w"], expected, rtol=1e-6)
    late = optimisers.average(mean, new, decay=0.75, step=jnp.int32(10**6))
    np.testing.assert_allclose(late["w"], [1.25, 2.5], rtol=1e-6)


def test_the_average_of_what_stands_still_stays():
    tree = {"a": {"b": jnp.array([0.5, -3.0])}}
    found = optimisers.average(tree, tree, decay=0.9, step=jnp.int32(3))
    _equal(found, tree)


def test_optimisers_have_titles():
    titles = [entry.title for entry in optimisers.OPTIMISERS.values()]
    assert len(set(titles)) == len(titles)
    assert all(titles)
