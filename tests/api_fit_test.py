"""`advloss.fit`: a network of one's own, or of the library, from arrays."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_modules import IMAGES, LABELS, Halves, Own, fit, fit_small

import advloss
from advloss import config as configs
from advloss import data

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def digits(digits_dir):
    return data.load("idx", dir=str(digits_dir))


def test_it_is_the_training_of_a_config(digits, digits_dir, tmp_path):
    """The same keys in a work directory give the same bits."""
    from advloss.training.run import train_runs

    steps = {"train.chunk_steps": 5, "train.checkpoint_every": 5}
    trained = fit("mlp", digits.train, steps=10, config=steps)
    config = trained.config.copy_and_resolve_references()
    configs.put(config, "data.source", "idx")
    configs.put(config, "data.dir", str(digits_dir))
    train_runs([config], [tmp_path / "run"], jax.devices()[:1])
    loaded = advloss.load_run(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, trained.variables, loaded.variables)


def test_robust_training_is_robust(digits):
    images, labels = (array[:60] for array in digits.test)
    robust = {}
    for defence in ("natural", "adversarial"):
        trained = fit(Own(), digits.train, defence=defence, epsilon=0.1, steps=200)
        found = advloss.evaluate(
            trained,
            images,
            labels,
            epsilon=0.1,
            attacks="pgd",
            steps=20,
            progress=False,
        )
        robust[defence] = found.robust_accuracy[0]
    assert robust["adversarial"] > robust["natural"] + 0.1


def test_a_step_is_half_as_long_as_the_radius_of_any_number():
    for epsilon in (0.05, np.float32(0.05), 1):
        trained = fit(Own(), (IMAGES, LABELS), epsilon=epsilon, steps=1, batch_size=4)
        settings = trained.config.train.attack
        assert settings.step_size == settings.epsilon / 2 == float(epsilon) / 2


def test_images_of_other_floats_are_the_same_images(tmp_path):
    """Halves and doubles are converted; what is saved is float32."""
    near = np.linspace(0, 1, 128).reshape(8, 4, 4, 1).astype(np.float16)
    weights = [
        fit(Own(), (near.astype(dtype), LABELS), steps=1, batch_size=4).variables
        for dtype in (np.float16, np.float64)
    ]
    jax.tree.map(np.testing.assert_array_equal, *weights)


def test_trades_starts_at_random_whatever_the_attack():
    arguments = {"defence": "trades", "attack": "fgsm", "steps": 1, "batch_size": 4}
    assert fit(Own(), (IMAGES, LABELS), **arguments).config.train.attack.random_start


def test_a_radius_among_the_keys_has_its_step():
    trained = fit(
        Own(),
        (IMAGES, LABELS),
        steps=1,
        batch_size=4,
        config={"train.attack.epsilon": 0.1},
    )
    assert trained.config.train.attack.step_size == 0.05


class Counting(nn.Module):
    """It counts its batches, in whole numbers, beside the params."""

    @nn.compact
    def __call__(self, images, train=False):
        count = self.variable("counts", "batches", lambda: np.zeros((), np.int32))
        if train:
            count.value += 1
        return nn.Dense(3)(images.reshape(len(images), -1))


@pytest.mark.parametrize("devices", [1, 2])
def test_whole_numbers_beside_the_params_stay_whole(devices):
    trained = fit(
        Counting(),
        (IMAGES, LABELS),
        steps=3,
        batch_size=4,
        defence="natural",
        devices=jax.devices()[:devices],
    )
    assert trained.variables["counts"]["batches"].dtype == np.int32
    assert trained.variables["counts"]["batches"] == 3


def test_numbers_of_jax_are_numbers_among_the_keys():
    given = {"defence.replays": jnp.int32(2), "defence.label_smoothing": jnp.float32(0)}
    trained = fit_small(defence="free", config=given)
    assert trained.config.defence.replays == 2


def test_radius_and_step_are_of_the_attack_that_holds():
    named = {"defence.attack": "pgd"}
    section = fit_small(config=named, epsilon=0.1).config.train.attack
    assert (section.epsilon, section.step_size) == (0.1, 0.05)
    section = fit_small(
        defence="natural", epsilon=0.1, config={"defence.name": "adversarial"}
    ).config.train.attack
    assert section.epsilon == 0.1
    fgsm = fit_small(attack="pgd", config={"defence.attack": "fgsm"})
    assert fgsm.config.train.attack.step_size is None


def test_modes_of_jax_train_the_same():
    expected = jax.tree.leaves(fit_small("mlp", loss="sphereface").variables)
    for mode in (jax.enable_x64(True), jax.numpy_dtype_promotion("strict")):
        with mode:
            found = fit_small("mlp", loss="sphereface")
        for one, other in zip(jax.tree.leaves(found.variables), expected, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_trained_by_every_defence_that_takes_gradients_itself():
    trained = fit_small(Halves(), defence="free")
    assert trained.variables["params"]["Dense_0"]["kernel"].dtype == jnp.bfloat16


def test_fit_compiles_its_programs_whatever_holds_outside():
    """Under `disable_jit`, which is for debugging, two steps took minutes."""
    seen = []

    class Seen(nn.Module):
        @nn.compact
        def __call__(self, images):
            seen.append(jax.config.jax_disable_jit)
            raise ValueError("it is seen")

    images, labels = np.full((4, 4, 4, 1), 0.5, np.float32), np.arange(4)
    with jax.disable_jit(), pytest.raises(advloss.InputError, match="it is seen"):
        advloss.fit(Seen(), images, labels, steps=1, batch_size=4, progress=False)
    assert seen[0] is False
