"""Networks that mask must be caught, and an honest one must pass.

All are the same dense network on 4,000 digits, at epsilon 0.1: what differs is how it
was trained, by what its logits are multiplied, and to how many levels its inputs are
rounded. These two are arrays of its variables, so that all five are one program.
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import advloss
from advloss import data

pytestmark = pytest.mark.slow
EPSILON, IMAGES = 0.1, 100


class Dense(nn.Module):
    """Logits `[batch, 10]`, times a factor, of images rounded to some levels."""

    temperature: float = 1.0
    widths: ClassVar = (200, 200)

    @nn.compact
    def __call__(self, images, train=False):
        factor = self.variable("control", "factor", jnp.ones, ())
        levels = self.variable("control", "levels", jnp.zeros, ())
        some = jnp.maximum(levels.value, 1.0)
        coarse = jnp.round(images * some) / some
        x = jnp.where(levels.value > 0, coarse, images)
        x = x.reshape(len(x), -1)
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return factor.value * nn.Dense(10)(x) / self.temperature


@pytest.fixture(scope="module")
def digits():
    return data.load("mnist_5k")


def _trained(digits, *, temperature=1.0, epsilon=EPSILON, steps=800, **how):
    found = advloss.fit(
        Dense(temperature), *digits.train, epsilon=epsilon, steps=steps,
        progress=False, devices=jax.devices()[:1], **how,
    )  # fmt: skip
    return found.variables["params"]


@pytest.fixture(scope="module")
def honest(digits):
    return _trained(digits)


def _diagnosed(digits, params, factor=1.0, levels=0.0, epsilon=EPSILON):
    control = {"factor": jnp.float32(factor), "levels": jnp.float32(levels)}
    return advloss.diagnose(
        (Dense(), {"params": params, "control": control}),
        *(array[:IMAGES] for array in digits.test),
        epsilon=epsilon, progress=False, devices=jax.devices()[:1],
    )  # fmt: skip


def _failed(found):
    return {each.name for each in found.failed}


def test_an_honest_network_passes(digits, honest):
    found = _diagnosed(digits, honest)
    assert found.trusted, str(found)
    assert found.natural.mean() > 0.9
    assert 0.5 < found.robust_accuracy < found.natural.mean()


def test_logits_of_a_high_temperature_are_caught(digits):
    """Trained on logits / 100 and tested without: cross-entropy has no gradient."""
    how = {"defence": "natural", "learning_rate": 3e-3}
    found = _diagnosed(digits, _trained(digits, temperature=100.0, **how))
    assert found.natural.mean() > 0.85
    assert {
        "gradients are missing (IAF 1)",
        "another objective finds more",
        "another scale of logits finds more",
        "all attacks together find more",
    } <= _failed(found), str(found)
    assert found.accuracy > found.robust_accuracy + 0.3


def test_catastrophic_overfitting_is_caught(digits):
    """Trained by whole steps of FGSM, as long as 0.3, from the image itself."""
    fast = {"attack": "fgsm", "epsilon": 0.3, "learning_rate": 5e-3, "steps": 2000}
    with pytest.warns(UserWarning, match="^fit: catastrophic overfitting at step 600"):
        trained = _trained(digits, **fast)
    found = _diagnosed(digits, trained, epsilon=0.3)
    assert "many steps find far more than one" in _failed(found), str(found)
    assert found.attacks["FGSM"] > 0.5 > 0.1 > found.robust_accuracy


def test_logits_times_1000_are_caught(digits, honest):
    found = _diagnosed(digits, honest, factor=1000.0)
    assert {
        "gradients are missing (IAF 1)",
        "another objective finds more",
        "all attacks together find more",
    } <= _failed(found), str(found)
    # What is left by all is what the network had before.
    assert found.robust_accuracy == pytest.approx(
        _diagnosed(digits, honest).robust_accuracy, abs=0.03
    )


def test_rounded_inputs_are_caught(digits, honest):
    found = _diagnosed(digits, honest, levels=7.0)  # 3 bits.
    assert {
        "gradients are missing (IAF 1)",
        "logits have no gradient",
        "fails without a bound (IAF 6)",
        "planted examples are found",
        "Square finds more than gradients",
    } <= _failed(found), str(found)
