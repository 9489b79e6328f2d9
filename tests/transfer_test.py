"""Transfer: images made against one network, shown to another."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import config as configs
from advloss.errors import InputError
from advloss.evaluation import measured, results
from advloss.evaluation.run import evaluate_run
from advloss.evaluation.transfer import transfer
from advloss.training.run import train_runs
from advloss.training.workdir import load_run

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def pair(trained, tmp_path_factory):
    """A run, and another that was trained otherwise: the results of both."""
    other = tmp_path_factory.mktemp("transfer") / "other"
    config = configs.load_config(trained)
    config.seed, config.name = 1, "other"
    config.train.steps = config.train.checkpoint_every = 20
    train_runs([config], [other], jax.devices()[:1])
    (own,) = evaluate_run(config, other, jax.devices()[:1])
    return results.load(trained)[0], own


def test_the_attackers_images_are_shown_to_the_defender(pair):
    for made, own in (pair, pair[::-1]):
        images = measured.load_images(made).attacked
        classifier = load_run(own.workdir).classifier
        predictions = jnp.argmax(classifier(images), axis=-1)
        found = transfer(made, own, classifier)
        assert found.shape == (110,)
        np.testing.assert_array_equal(found, predictions == own.labels)
        # What was made against another network fools less.
        assert found.mean() > own.correct.mean()


def test_to_itself_it_is_its_own_accuracy(pair):
    for own in pair:
        found = transfer(own, own, load_run(own.workdir).classifier)
        np.testing.assert_array_equal(found, own.correct)


def test_between_different_images_it_is_refused(pair, tmp_path):
    made, own = pair
    copy = shutil.copytree(own.workdir, tmp_path / "other")
    config = configs.load_config(copy)
    config.evaluate.examples = 40
    (few,) = evaluate_run(config, copy, jax.devices()[:1])
    with pytest.raises(InputError, match=r"different test images"):
        transfer(made, few, load_run(copy).classifier)
