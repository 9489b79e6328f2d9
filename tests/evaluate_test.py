"""Evaluation: any size of split, any batch, any number of devices."""

import jax
import numpy as np
import pytest

from advloss import config as configs
from advloss import data, evaluate, models, train
from advloss.errors import InputError


@pytest.fixture
def config(small_config):
    return configs.resolve(small_config)


@pytest.fixture
def split(config):
    return data.load(**config.data).test


@pytest.fixture
def params(config):
    return train.init(config, (8, 8, 1)).params


def _attack(config, params, split, devices=1, name="pgd", **keywords):
    return evaluate.attack_split(
        config, name, params, split, devices=jax.devices()[:devices], **keywords
    )


@pytest.mark.parametrize("batch_size", [7, 110, 200])
def test_the_batch_size_changes_nothing(config, params, split, batch_size):
    whole = _attack(config, params, split)
    with config.unlocked():
        config.evaluate.batch_size = batch_size
    other = _attack(config, params, split)
    assert len(other.correct) == 110
    np.testing.assert_array_equal(whole.natural, other.natural)
    assert (whole.attacked == other.attacked).mean() > 0.98
    assert np.isclose(whole.images, other.images, atol=1e-6).mean() > 0.98


def test_devices_change_nothing(config, params, split):
    one, four = (_attack(config, params, split, devices) for devices in (1, 4))
    assert (one.attacked == four.attacked).mean() > 0.98
    assert np.isclose(one.images, four.images, atol=1e-6).mean() > 0.98


def test_accuracies_follow_from_predictions(config, params, split):
    outcome = _attack(config, params, split)
    np.testing.assert_array_equal(outcome.correct, outcome.attacked == split.labels)
    assert (outcome.worst_correct <= (outcome.natural == split.labels)).all()
    assert (outcome.worst_correct <= outcome.correct).all()
    assert outcome.distance.max() <= 0.3 + 1e-6


def test_the_closest_images_are_judged_by_their_distance(config, params, split):
    """Within the largest radius all that is found counts, within none only mistakes."""
    penalty = config.evaluate.penalty
    with config.unlocked():
        penalty.search_steps, penalty.steps = 4, 8
    outcomes = {}
    for radius in (0.0, 1.0, 100.0):
        with config.unlocked():
            penalty.epsilon = radius
        outcomes[radius] = _attack(config, params, split, name="penalty")
    natural = outcomes[0.0].natural == split.labels
    np.testing.assert_array_equal(outcomes[0.0].correct, natural)
    distance = outcomes[1.0].distance
    assert np.isfinite(distance).any()
    np.testing.assert_array_equal(outcomes[1.0].correct, distance > 1.0)
    np.testing.assert_array_equal(outcomes[100.0].correct, np.isinf(distance))
    for outcome in outcomes.values():
        np.testing.assert_array_equal(outcome.worst_correct, outcome.correct)


def test_one_program_serves_every_batch(config, params, split, monkeypatch):
    """The network is traced as often for three batches as for one."""
    traced, original = [], models.classifier

    def counting(network, params):
        classifier = original(network, params)
        return lambda images: traced.append(images.shape) or classifier(images)

    monkeypatch.setattr(models, "classifier", counting)
    _attack(config, params, evaluate.first(split, 40))
    once = len(traced)
    _attack(config, params, split)
    assert once > 0
    assert len(traced) == 2 * once


def test_progress_counts_real_examples_only(config, params, split):
    counts = []
    _attack(config, params, split, progress=counts.append)
    assert counts == [40, 40, 30]


def test_first_examples(split):
    assert len(evaluate.first(split, 5).labels) == 5
    assert len(evaluate.first(split, 0).labels) == 110


def test_devices_must_divide_the_batch(config, params, split):
    with config.unlocked():
        config.evaluate.batch_size = 30
    with pytest.raises(InputError, match=r"evaluate.batch_size=30"):
        _attack(config, params, split, devices=4)


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    # From the closed form, worked with z = 1.96: 8 of 10 and both ends.
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)],
)
def test_wilson_interval(correct, total, low, high):
    found = evaluate.wilson_interval(correct, total)
    np.testing.assert_allclose(found, (low, high), atol=1e-4)
    assert 0 <= found[0] <= found[1] <= 1


def test_wilson_interval_stays_in_range():
    for total in range(1, 300):
        assert evaluate.wilson_interval(0, total)[0] >= 0
        assert evaluate.wilson_interval(total, total)[1] <= 1


def test_accuracy_under_attack_is_the_same_at_lower_precision(small_config):
    """Trained and attacked in bfloat16, a network is as robust as in float32."""
    small_config.train.steps = small_config.train.checkpoint_every = 200
    small_config.train.chunk_steps = 200
    small_config.train.attack.epsilon = small_config.train.attack.step_size = 0.1
    small_config.evaluate.pgd.epsilon = 0.1
    small_config.evaluate.pgd.steps = 20
    dataset = data.load(**small_config.data)
    devices, correct = jax.devices()[:1], {}
    for precision in ("float32", "tensorfloat32", "bfloat16"):
        small_config.model.precision = precision
        config = configs.resolve(small_config)
        state = train.init(config, (8, 8, 1))
        *_, (state, _) = train.run(config, dataset, state, devices=devices)
        outcome = evaluate.attack_split(
            config, "pgd", state.params, dataset.test, devices=devices
        )
        correct[precision] = outcome.correct
    # A CPU has no tensorfloat32.
    np.testing.assert_array_equal(correct["tensorfloat32"], correct["float32"])
    low, high = evaluate.wilson_interval(int(correct["float32"].sum()), 110)
    assert 0.3 < low < correct["bfloat16"].mean() < high
