"""What every attack keeps, in one table; a new attack joins CASES."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advloss import attacks, losses
from advloss.errors import InputError

EPSILON = 0.1
CLASSES = 5
_CLIMB = {"objective": losses.softmax_cross_entropy}
_BALL = {**_CLIMB, "epsilon": EPSILON}
_PGD = {**_BALL, "step_size": 0.03, "steps": 4}
_APGD = {**_BALL, "steps": 10}
_APGD_T = {"epsilon": EPSILON, "steps": 5}
# The name of the attack, its settings; a word after the colon tells variants apart.
CASES = {
    "apgd": _APGD,
    "apgd_l2": {**_APGD, "epsilon": 0.5},
    "apgd_ce": _APGD,
    "apgd_ce_l2": {**_APGD, "epsilon": 0.5, "restarts": 1},
    "apgd_dlr": {**_APGD, "objective": losses.dlr, "restarts": 2},
    "apgd_dlr_l2": {"epsilon": 0.5, "objective": losses.dlr, "steps": 10},
    "apgd_margin": {"epsilon": 0.2, "objective": losses.margin, "steps": 10},
    "apgd_margin_l2": {"epsilon": 0.5, "objective": losses.margin, "steps": 10},
    "apgd_t": _APGD_T,
    "apgd_t_l2": {**_APGD_T, "epsilon": 0.5, "loss": "margin"},
    "apgd_t_margin": _APGD_T,
    "apgd_t_margin_l2": {**_APGD_T, "epsilon": 0.5},
    "fgsm": _BALL,
    "fgsm:targeted": {**_BALL, "random_start": True},
    "fgsm_rs": _BALL,
    "n_fgsm": _BALL,
    "multi_targeted": {**_PGD, "steps": 2},
    "multi_targeted_l2": {**_PGD, "epsilon": 0.5, "step_size": 0.3, "steps": 2},
    "noise": {**_BALL, "draws": 3},
    "pgd": _PGD,
    "pgd:plain_start": {**_PGD, "random_start": False},
    "pgd:restarts": {**_PGD, "restarts": 3},
    "pgd:targeted": _PGD,
    "pgd_l2": {**_PGD, "epsilon": 0.5, "step_size": 0.2},
    "pgd_l2:targeted": {**_PGD, "epsilon": 0.5, "step_size": 0.2},
    "carlini_l2": {"binary_search_steps": 4, "steps": 40, "learning_rate": 0.05},
    "carlini_linf": {"rounds": 6, "steps": 25, "learning_rate": 0.05},
    "carlini_l0": {
        "rounds": 3,
        "binary_search_steps": 3,
        "steps": 25,
        "learning_rate": 0.05,
    },
    "ddn": {"steps": 40},
    "fmn": {"steps": 40},
    "fmn_l2": {"steps": 40},
    "fmn_l1": {"steps": 40, "step_size": 3.0},
    "lbfgs": {**_CLIMB, "search_steps": 5, "steps": 10},
    "fab": {"steps": 8},
    "fab:restarts": {"steps": 4, "restarts": 2},
    "fab_l2": {"steps": 8},
    "fab_t": {"steps": 8, "target_classes": 2},
    "fab_t_l2": {"steps": 8, "target_classes": 2},
    "square": {**_BALL, "queries": 60},
    "square_l2": {**_BALL, "epsilon": 0.5, "queries": 60},
}
# So many gradients are taken on one forward pass; elsewhere, one.
_JACOBIANS = {"fab": CLASSES - 1, "fab_l2": CLASSES - 1}
_WITHOUT_GRADIENTS = ("noise", "square", "square_l2")
# APGD with another objective.
_OBJECTIVES = tuple(
    f"apgd_{name}" for name in (
        "ce", "ce_l2", "dlr", "dlr_l2", "margin", "margin_l2", "t_margin", "t_margin_l2"
    )
)  # fmt: skip


def _entry(case):
    return attacks.ATTACKS[case.split(":")[0]]


def _looks_for_the_nearest(case):
    return _entry(case).kind == attacks.MINIMUM_NORM


CASES |= {
    f"{name}:targeted": CASES[name]
    for name in CASES
    if _looks_for_the_nearest(name)
    and "targets" in inspect.signature(_entry(name).function).parameters
}
each_attack = pytest.mark.parametrize("case", CASES)
in_a_ball = pytest.mark.parametrize(
    "case", [case for case in CASES if _entry(case).kind == attacks.FIXED_EPSILON]
)
_NORMS = {
    "linf": lambda change: np.abs(change).max(axis=(1, 2, 3)),
    "l2": lambda change: np.sqrt((change**2).sum(axis=(1, 2, 3))),
    "l1": lambda change: np.abs(change).sum(axis=(1, 2, 3)),
    "l0": lambda change: (change != 0).any(axis=-1).sum(axis=(1, 2)),
}


def _distance(case, images, originals):
    change = np.asarray(images, np.float64) - np.asarray(originals, np.float64)
    return _NORMS[_entry(case).norm](change)


def _attack(case, classifier, keys, images, labels, **changes):
    """Targets, where the case has them, are the classes after the labels."""
    arguments = {**CASES[case], **changes}
    if case.endswith(":targeted"):
        arguments.setdefault("targets", (labels + 1) % CLASSES)
    return _entry(case).function(classifier, keys, images, labels, **arguments)


@functools.cache
def _compiled(case):
    """(weights, batch, changes) -> result; one program for each shape."""

    @jax.jit
    def attack(weights, batch, changes):
        return _attack(case, functools.partial(_network, weights), *batch, **changes)

    numbers = {k: v for k, v in CASES[case].items() if k == "epsilon"}
    return lambda weights, batch, **changes: attack(weights, batch, numbers | changes)


def _fools(case, logits, labels):
    predictions = np.argmax(logits, axis=-1)
    if case.endswith(":targeted"):
        return predictions == (labels + 1) % CLASSES
    return predictions != labels


def _network(weights, images):
    """Two dense layers: smooth enough to be fooled within few steps."""
    first, second, bias = weights
    hidden = jnp.tanh((images.reshape(len(images), -1) - 0.5) @ first)
    return hidden @ second + bias[None]


def _weights(pixels, spread=1.0, seed=0):
    rng = np.random.default_rng(seed)
    first = spread * rng.normal(size=(pixels, 16)) / 4
    second = rng.normal(size=(16, CLASSES))
    return tuple(map(np.float32, (first, second, np.zeros(CLASSES))))


@pytest.fixture(scope="module")
def weights():
    return _weights(72)


@pytest.fixture(scope="module")
def batch(weights):
    """Keys, images with pixels of 0 and 1, labels; the last two fool already."""
    images = np.random.default_rng(1).uniform(-1, 2, (6, 6, 6, 2)).clip(0, 1)
    images = jnp.asarray(images, jnp.float32)
    labels = jnp.argmax(_network(weights, images), axis=-1).astype(jnp.int32)
    labels = labels.at[4:].set((labels[4:] - 1) % CLASSES)
    return attacks.example_keys(jax.random.key(2), jnp.arange(6)), images, labels


@pytest.fixture(scope="module")
def results(weights, batch):
    return functools.cache(lambda case: _compiled(case)(weights, batch))


def test_every_registered_attack_is_in_the_table():
    assert {case.split(":")[0] for case in CASES} == set(attacks.ATTACKS)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_entries_hold_to_their_own_rules(name, weights, batch):
    """Defaults are valid, and the function takes every setting."""
    entry = attacks.ATTACKS[name]
    kinds = attacks.FIXED_EPSILON, attacks.MINIMUM_NORM, attacks.TRAINING_ONLY
    assert entry.kind in kinds
    assert entry.norm in _NORMS
    assert [other.title for other in attacks.ATTACKS.values()].count(entry.title) == 1
    trains = {key: setting.default for key, setting in entry.settings.items()}
    trains |= entry.training
    for key, setting in entry.settings.items():
        for value in (setting.default, trains[key]):
            assert type(value) is setting.valid.kind, key
            assert setting.valid.accepts(value), key
    assert trains.keys() == entry.settings.keys()
    for key, parameter in inspect.signature(entry.function).parameters.items():
        if key in trains and parameter.default is not parameter.empty:
            assert parameter.default == entry.settings[key].default, key
    assert entry.settings["epsilon"].swept
    if _looks_for_the_nearest(name):
        assert not entry.training
        del trains["epsilon"]  # By which its result is judged.
    if "objective" in trains:
        loss = losses.softmax_cross_entropy
        how = trains.pop("objective"), loss, trains.pop("objective_scale")
        trains["objective"] = losses.objective(*how)
    attack = functools.partial(
        entry.function, functools.partial(_network, weights), **trains
    )
    found = jax.eval_shape(attack, *batch)
    assert found.images.shape == batch[1].shape
    found = {key: (x.shape, x.dtype) for key, x in found._asdict().items()}
    types = {"images": float, "worst_images": float, "objective": float}
    types |= {"distance": float, "backward_passes": int, "forward_passes": int}
    for key, (shape, dtype) in found.items():
        assert dtype == jnp.zeros(0, types.get(key, bool)).dtype, key
        assert shape == (batch[1] if "images" in key else batch[2]).shape, key


def test_suites_are_of_registered_attacks_in_their_norm():
    for name, (_, norm, chosen, _) in attacks.SUITES.items():
        assert name not in attacks.ATTACKS
        assert attacks.suite(name) == chosen
        assert attacks.suite(name.removesuffix(f"_{norm}"), norm) == chosen
        assert {attacks.ATTACKS[each].norm for each in chosen} == {norm}
    assert attacks.suite("carlini_l0") == ("carlini_l0",)
    with pytest.raises(KeyError):
        attacks.suite("strong", "l0")
    with pytest.raises(KeyError):
        attacks.suite("nothing")


@each_attack
def test_images_are_in_the_box_and_at_their_distance(case, batch, results):
    _, originals, _ = batch
    result = results(case)
    for images in (result.images, result.worst_images):
        assert images.min() >= 0
        assert images.max() <= 1
    found = np.isfinite(result.distance)
    distance = _distance(case, result.images, originals)
    np.testing.assert_allclose(
        result.distance[found], distance[found], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(result.images[~found], originals[~found])


@in_a_ball
def test_images_are_in_the_ball(case, batch, results):
    result, radius = results(case), CASES[case]["epsilon"]
    for images in (result.images, result.worst_images):
        # One rounding of a number below 1; in l2, of every pixel.
        assert _distance(case, images, batch[1]).max() <= np.float32(radius) + 2**-24


@each_attack
def test_success_means_that_the_prediction_changed(case, weights, batch, results):
    result = results(case)
    pairs = (result.images, result.success), (result.worst_images, result.worst_success)
    for images, success in pairs:
        fools = _fools(case, _network(weights, images), batch[2])
        np.testing.assert_array_equal(success, fools)
    assert (result.worst_success >= result.success).all()
    assert result.worst_success.any()
    assert not result.zero_gradient.any()


@each_attack
def test_what_fools_already_is_found(case, batch, results):
    _, originals, _ = batch
    result, already = results(case), slice(4, 6)
    if _looks_for_the_nearest(case):
        assert result.success[already].all()
        assert (result.distance[already] == 0).all()
        np.testing.assert_array_equal(result.images[already], originals[already])
    elif not case.endswith(":targeted"):
        assert result.worst_success[already].all()


@each_attack
def test_alone_an_example_fares_the_same(case, weights, batch, results):
    """And every call of the network, which reports itself here, is counted."""
    calls = []

    def counting(images):
        # Given a value, it is called for every restart that vmap stacks.
        jax.debug.callback(lambda _: calls.append(None), images.sum())
        return _network(weights, images)

    attack = jax.jit(functools.partial(_attack, case, counting))
    alone = attack(*jax.tree.map(lambda x: x[:1], batch))
    jax.effects_barrier()
    backward = alone.backward_passes[0] / _JACOBIANS.get(case.split(":")[0], 1)
    assert len(calls) == backward + alone.forward_passes[0]
    together = jax.tree.map(lambda x: x[:1], results(case))
    np.testing.assert_array_equal(alone.success, together.success)
    np.testing.assert_array_equal(alone.worst_success, together.worst_success)
    # Of the closest, iterates that just fool may differ by one.
    np.testing.assert_allclose(alone.distance, together.distance, rtol=0.05, atol=1e-6)


@in_a_ball
def test_epsilon_zero_changes_nothing(case, weights, batch):
    result = _compiled(case)(weights, batch, epsilon=0.0)
    np.testing.assert_array_equal(result.images, batch[1])
    assert (result.distance == 0).all()


@each_attack
def test_a_network_without_gradients_is_reported(case, weights, batch):
    """On constant images, too: nothing is found, and the result says why."""
    keys, images, labels = batch
    first, second, bias = weights
    flat = np.zeros_like(first), second, bias + np.eye(CLASSES, dtype=np.float32)[0]
    result = _compiled(case)(flat, (keys, jnp.ones_like(images), 0 * labels))
    assert not result.success.any()
    assert not result.worst_success.any()
    assert np.isfinite(result.images).all()
    assert (result.zero_gradient == (case not in _WITHOUT_GRADIENTS)).all()


@each_attack
def test_a_network_that_gives_no_numbers_is_survived(case, weights, batch):
    """Within a program, which can't refuse it: it is never fooled."""
    result = _compiled(case)(jax.tree.map(lambda x: x * np.nan, weights), batch)
    assert not result.success.any()
    assert not result.worst_success.any()
    assert np.isfinite(result.images).all()
    assert result.images.min() >= 0
    assert result.images.max() <= 1


@pytest.mark.parametrize(
    "case",
    ["pgd", "multi_targeted", "carlini_l2", "lbfgs", "fab", "fab_t_l2", "square"],
)
def test_networks_may_be_mapped(case, weights, batch, results):
    """As a sweep does: the attack under vmap over parameters."""
    many = jax.tree.map(lambda x: jnp.stack([x, -x]), weights)
    mapped = jax.vmap(_compiled(case), in_axes=(0, None))(many, batch)
    np.testing.assert_array_equal(mapped.success[0], results(case).success)
    np.testing.assert_allclose(
        mapped.distance[0], results(case).distance, rtol=0.05, atol=1e-6
    )


@pytest.mark.parametrize("case", [case for case in CASES if ":targeted" in case])
def test_a_target_that_is_the_label_is_refused_where_it_is_known(case, weights, batch):
    network = functools.partial(_network, weights)
    targets = batch[2].at[:3].add(1) % CLASSES
    with pytest.raises(InputError, match=r"targets\[3\]=\d is the label of that ex"):
        _attack(case, network, *batch, targets=targets)


@each_attack
def test_arguments_are_checked_within_a_program(case, weights, batch):
    attack = functools.partial(_attack, case, functools.partial(_network, weights))
    keys, images, labels = batch
    for wrong in (
        (keys[:3], images, labels),
        (keys, images, labels[:3]),
        (keys, images.astype(int), labels),
        (keys, images, labels.astype(float)),
    ):
        with pytest.raises(AssertionError):
            jax.eval_shape(attack, *wrong)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("apgd", {"steps": 6, "restarts": 3}),
        ("apgd_t", {"steps": 6}),
        ("fgsm", {}),
        ("pgd", {"steps": 23, "restarts": 3}),
        ("pgd", {"steps": 23, "random_start": False}),
        ("pgd", {"steps": 0}),
        ("pgd_l2", {"steps": 12, "restarts": 2}),
        ("multi_targeted", {"steps": 4}),
        ("multi_targeted_l2", {"steps": 4}),
        ("noise", {"draws": 1}),
        ("noise", {"draws": 5}),
        ("square", {"queries": 1100}),
        ("square_l2", {"queries": 70}),
    ],
)
@pytest.mark.usefixtures("compiled_quickly")
def test_rounds_put_together_fool_whom_the_attack_fools(case, changes, weights):
    """And together they spend what it spends on those that it does not fool."""
    epsilon = {"linf": 0.03, "l2": 0.15}[_entry(case).norm]
    epsilon = 3 * epsilon if case == "noise" else epsilon
    changes = {"epsilon": epsilon, **changes}
    if "step_size" in CASES[case]:
        changes["step_size"] = epsilon / 8
    images = np.random.default_rng(5).uniform(size=(60, 6, 6, 2)).astype(np.float32)
    network = functools.partial(_network, weights)
    labels = jnp.argmax(network(images), axis=-1).astype(jnp.int32)
    keys = attacks.example_keys(jax.random.key(6), jnp.arange(60))
    batch = keys, images, labels
    programs = {}

    def run(settings, arrays):
        def attack(arrays):
            return _attack(case, network, *batch, **changes | settings | arrays)

        key = (*settings.items(), *arrays)
        return programs.setdefault(key, jax.jit(attack))(arrays)

    whole = run({}, {})
    settings = {key: value.default for key, value in _entry(case).settings.items()}
    rounds = _entry(case).rounds({**settings, **CASES[case], **changes}, CLASSES)
    current, fooled, backward = images, np.zeros(60, bool), np.zeros(60, int)
    for part in rounds:
        start = {"start": current} if part.resume else {}
        result = run(part.settings, {**part.numbers, **start})
        fooled |= np.asarray(result.worst_success)
        backward += np.asarray(result.backward_passes)
        current = result.images
    np.testing.assert_array_equal(fooled, whole.worst_success)
    np.testing.assert_array_equal(backward, whole.backward_passes)
    assert changes.get("steps") == 0 or 3 <= fooled.sum() <= 57
    # Rounds that differ in numbers alone are one program: a start, ten steps, the rest.
    assert len(programs) <= 4


@pytest.mark.slow
@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize("case", [n for n in attacks.ATTACKS if n not in _OBJECTIVES])
@settings(deadline=None, max_examples=12)
@given(
    shape=st.sampled_from([(1, 1, 1, 1), (3, 4, 2, 3)]),
    seed=st.integers(0, 999),
    spread=st.sampled_from([0.1, 1.0, 100.0]),
    epsilon=st.floats(0, 1, width=32),
)
def test_any_network_shape_and_radius(case, shape, seed, spread, epsilon):
    """Ball, box and success hold whatever is attacked."""
    rng = np.random.default_rng(seed)
    weights = _weights(np.prod(shape[1:]), spread, seed)
    images = rng.uniform(-0.5, 1.5, shape).clip(0, 1).astype(np.float32)
    labels = rng.integers(0, CLASSES, shape[0]).astype(np.int32)
    keys = attacks.example_keys(jax.random.key(seed), jnp.arange(shape[0]))
    in_ball = not _looks_for_the_nearest(case)
    changes = {"epsilon": np.float32(epsilon)} if in_ball else {}
    result = _compiled(case)(weights, (keys, images, labels), **changes)
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    logits = np.asarray(_network(weights, result.images))
    ordered = np.sort(logits, axis=-1)
    clear = ordered[:, -1] - ordered[:, -2] > 1e-5  # No tie, which rounding may break.
    fools = _fools(case, logits, labels)
    np.testing.assert_array_equal(result.success[clear], fools[clear])
    if in_ball:
        reach = 3 if _entry(case).kind == attacks.TRAINING_ONLY else 1
        farthest = _distance(case, result.images, images).max()
        assert farthest <= reach * (epsilon + 2**-22)


@pytest.mark.parametrize(
    ("name", "key", "weak", "strong"),
    [
        ("apgd", "steps", 1, 20),
        ("apgd_t", "target_classes", 1, 4),
        ("pgd", "steps", 1, 20),
        ("pgd", "epsilon", 0.02, 0.1),
        ("pgd", "restarts", 1, 8),
        ("pgd_l2", "steps", 1, 20),
        ("noise", "draws", 1, 50),
        ("lbfgs", "search_steps", 2, 9),
        ("carlini_l2", "binary_search_steps", 2, 8),
        ("carlini_linf", "rounds", 3, 20),
        ("carlini_l0", "rounds", 1, 6),
        ("fab", "steps", 1, 20),
        ("fab_t", "target_classes", 1, 4),
        ("fab_t_l2", "restarts", 1, 4),
        ("square", "queries", 5, 200),
        ("square_l2", "queries", 5, 200),
    ],
)
@pytest.mark.usefixtures("compiled_quickly")
def test_a_larger_budget_finds_no_less(name, key, weak, strong, weights):
    network = functools.partial(_network, weights)
    images = np.random.default_rng(5).uniform(size=(60, 6, 6, 2)).astype(np.float32)
    labels = jnp.argmax(network(images), axis=-1).astype(jnp.int32)
    keys = attacks.example_keys(jax.random.key(6), jnp.arange(60))
    few, many = (
        jax.jit(functools.partial(_attack, name, network, **{key: value}))(
            keys, images, labels
        )
        for value in (weak, strong)
    )
    # Two of 60 may go the other way by chance.
    assert many.worst_success.sum() >= few.worst_success.sum() - 2
    if _looks_for_the_nearest(name):
        assert np.median(many.distance) <= np.median(few.distance) * 1.01
