"""Colour images, from an npz file to a report."""

import jax
import numpy as np
import pytest

import advloss
from advloss import config as configs
from advloss import report
from advloss.evaluation import results
from advloss.evaluation.run import evaluate_run
from advloss.runtime import metrics
from advloss.training.run import train_runs


@pytest.fixture
def colours(tmp_path):
    """A file of 8x8 images on noise, three classes: more red, green or blue."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 300), ("test", 60)):
        labels = np.arange(count) % 3
        images = rng.integers(40, 160, (count, 8, 8, 3), np.uint8)
        images[np.arange(count), :, :, labels] += 60
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    np.savez(tmp_path / "colours.npz", **arrays)
    return tmp_path / "colours.npz"


@pytest.mark.usefixtures("compiled_quickly")
@pytest.mark.parametrize(
    "model", ["mlp", pytest.param("table1", marks=pytest.mark.slow)]
)
def test_a_config_trains_and_evaluates_in_colour(colours, tmp_path, model):
    config = configs.default()
    config.name = "colours"
    config.data.source, config.data.file = "npz", str(colours)
    config.data.num_classes = 3
    config.model.name = model
    config.train.steps, config.train.batch_size = 40, 30
    config.train.chunk_steps = config.train.checkpoint_every = 20
    config.train.augment.names = ("crop", "flip", "cutout")
    config.train.augment.padding, config.train.augment.size = 1, 3
    config.train.attack.epsilon, config.train.attack.step_size = 8 / 255, 4 / 255
    config.train.attack.steps = 2
    config.train.validation.examples, config.train.validation.every = 30, 20
    config.evaluate.attacks, config.evaluate.batch_size = ("pgd", "fmn"), 60
    for name in config.evaluate.attacks:
        config.evaluate[name].epsilon = 8 / 255
        config.evaluate[name].steps = 5
    config.evaluate.pgd.step_size = 4 / 255
    config = configs.resolve(config)
    workdir = tmp_path / "run"
    train_runs([config], [workdir], jax.devices()[:2])
    rows = metrics.read(workdir)
    assert rows[-1]["validation_accuracy"] > 0.8
    evaluate_run(config, workdir, jax.devices()[:2])
    found = {each.attack: each for each in results.load(workdir)}
    assert set(found) == {"pgd", "fmn"}
    assert report.write("colours", report.sections_of_runs([workdir]), tmp_path / "all")
    images = (np.load(colours)["x_test"] / 255).astype(np.float32)
    predictions = advloss.load_run(workdir).classifier(images).argmax(axis=-1)
    np.testing.assert_array_equal(predictions, found["pgd"].natural)
    assert np.mean(predictions == found["pgd"].labels) > 0.8
