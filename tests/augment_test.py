"""Augmentation: its windows and squares by hand, and what must not change a run."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import bits, whole_and_cut

import advloss
from advloss import config as configs
from advloss import data
from advloss.attacks import example_keys
from advloss.config import build
from advloss.data import augment
from advloss.data.order import draw
from advloss.defences import DEFENCES, base
from advloss.errors import InputError
from advloss.networks import classifier
from advloss.registry import Setting, whole
from advloss.training import run, stack, step, validation

pytestmark = pytest.mark.usefixtures("compiled_quickly")

IMAGE = jnp.arange(1, 61, dtype=jnp.float32).reshape(5, 4, 3) / 60


def _many(function, count, image=IMAGE):
    """What so many keys make of an image."""
    keys = example_keys(jax.random.key(0), jnp.arange(count))
    return np.asarray(jax.vmap(function, in_axes=(0, None))(keys, image))


def test_crops_are_the_windows_of_the_framed_image():
    """All 9 of a frame of 1, none of another, and each as often as the others."""
    framed = np.zeros((7, 6, 3), np.float32)
    framed[1:6, 1:5] = IMAGE
    windows = [framed[i : i + 5, j : j + 4] for i in range(3) for j in range(3)]
    found = _many(functools.partial(augment.crop, padding=1), 900)
    same = (found[:, None] == np.stack(windows)).all(axis=(2, 3, 4))
    assert (same.sum(axis=1) == 1).all()
    assert abs(same.sum(axis=0) - 100).max() < 50  # Five deviations.


def test_flips_change_left_and_right_of_half_of_the_images():
    found = _many(augment.flip, 400)
    mirrored = np.asarray(IMAGE)[:, ::-1]
    kept = (found == np.asarray(IMAGE)).all(axis=(1, 2, 3))
    assert (found[~kept] == mirrored).all()
    assert abs(kept.sum() - 200) < 50
    keys = example_keys(jax.random.key(0), jnp.arange(400))
    twice = jax.vmap(augment.flip)(keys, jnp.asarray(found))
    np.testing.assert_array_equal(twice, np.broadcast_to(IMAGE, twice.shape))


@pytest.mark.parametrize(("size", "before", "after"), [(2, 1, 1), (3, 1, 2)])
def test_cutouts_are_squares_around_every_pixel(size, before, after):
    """Of so many rows and columns before the pixel, and after it, itself included."""
    squares = []
    for i in range(5):
        for j in range(4):
            image = np.array(IMAGE)
            image[max(0, i - before) : i + after, max(0, j - before) : j + after] = 0
            squares.append(image)
    whole = [int((image == 0).sum()) for image in squares]
    assert max(whole) == 3 * size**2
    found = _many(functools.partial(augment.cutout, size=size), 400)
    same = (found[:, None] == np.stack(squares)).all(axis=(2, 3, 4))
    assert (same.sum(axis=1) == 1).all()
    assert (same.sum(axis=0) > 0).all()


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_images_stay_images(name):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(size=(6, 7, 9, 2)), jnp.float32)
    keys = example_keys(jax.random.key(1), jnp.arange(6))
    settings = {k: 3 for k in augment.AUGMENTATIONS[name].settings}
    found = augment.apply((name,), keys, images, settings)
    assert found.shape == images.shape
    assert found.dtype == jnp.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert (found != images).any()


def test_an_image_does_not_see_its_batch():
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(8, 6, 6, 3)))
    images, indices = images.astype(jnp.float32), jnp.arange(8) * 5
    names, settings = ("crop", "flip", "cutout"), {"padding": 2, "size": 3}

    def changed(places, seed=3):
        keys = example_keys(jax.random.key(seed), indices[places])
        return augment.apply(names, keys, images[places], settings)

    whole = changed(jnp.arange(8))
    order = jnp.array([5, 0, 7, 2])
    np.testing.assert_array_equal(changed(order), whole[order])
    # Nor other runs that lie on the device beside its own.
    stacked = jax.vmap(functools.partial(changed, order))(jnp.array([4, 3]))
    np.testing.assert_array_equal(stacked[1], whole[order])
    # Further ones change nothing of those before.
    keys = example_keys(jax.random.key(3), indices)
    two = augment.apply(names[:2], keys, images, settings)
    left = np.asarray(whole != 0)
    np.testing.assert_array_equal(np.where(left, two, 0), whole)


def test_settings_are_those_of_what_is_named():
    config = configs.default()
    resolved = configs.resolve(config).train.augment
    assert (resolved.names, resolved.padding, resolved.size) == ((), None, None)
    config.train.augment.names = ("crop", "flip")
    resolved = configs.resolve(config).train.augment
    assert (resolved.padding, resolved.size) == (4, None)
    config.train.augment.size = 8
    with pytest.raises(InputError, match=r"size=8 .*names=\('crop', 'flip'\) has no"):
        configs.resolve(config)
    config.train.augment.names = ("cutout",)
    assert configs.resolve(config).train.augment.size == 8
    config.train.augment.size = 0
    with pytest.raises(InputError, match=r"augment.size=0 .* from 1 to 1024"):
        configs.resolve(config)


def test_a_memory_of_still_images_is_refused():
    config = configs.default()
    config.defence.name = "atta"
    config.train.augment.names = ("flip",)
    with pytest.raises(InputError, match=r"names=\('flip',\) .*defence.name=atta: "):
        configs.resolve(config)
    config.defence.name, config.defence.attack = "free", "fgsm"
    configs.resolve(config)


@pytest.mark.parametrize(
    ("names", "key", "value"), [("crop", "padding", 8), ("cutout", "size", 9)]
)
def test_frames_and_squares_fit_the_images(small_config, tmp_path, names, key, value):
    """Nothing is written before that is known."""
    small_config.train.augment.names = (names,)
    small_config.train.augment[key] = value
    config = configs.resolve(small_config)
    said = rf"config.train.augment.{key}={value} is not valid: use less than 8 for"
    with pytest.raises(InputError, match=said):
        run.train_runs([config], [tmp_path / "run"], jax.devices()[:1])
    assert list(tmp_path.iterdir()) == []
    images = np.zeros((20, 8, 8, 1), np.float32)
    changes = {"train.augment.names": (names,), f"train.augment.{key}": value}
    with pytest.raises(InputError, match=said):
        advloss.fit("mlp", images, np.arange(20) % 2, config=changes)


WEIGHTS = jnp.sin(jnp.arange(64.0)).reshape(8, 8, 1)


def _probe(forward, variables, batch, key, hyper, frozen, memory, *, replays, **_):
    """Natural training that tells what it sees."""
    logits, _, variables = forward(variables, batch.images, True)
    seen = (batch.images * WEIGHTS[None]).sum(axis=(1, 2, 3)).mean()
    accuracy = base.accuracy(logits, batch.labels)
    metrics = {"loss": jnp.square(logits).mean(), "accuracy": accuracy, "seen": seen}
    return metrics["loss"], (variables, memory, metrics)


@pytest.fixture
def probed(small_config, monkeypatch):
    """A run of 8 steps, crop and flip, whose metrics tell what the defence saw."""
    settings = {"replays": Setting(2, whole(1), "updates on one batch, in a row")}
    entry = DEFENCES["natural"]._replace(function=_probe, settings=settings)
    monkeypatch.setitem(DEFENCES, "natural", entry)
    small_config.defence.name = "natural"
    small_config.train.augment.names = ("crop", "flip")
    small_config.train.augment.padding = 2
    return configs.resolve(small_config)


def _train(config, count=1):
    """The state and the metrics of a run on so many devices."""
    dataset, network = data.load(**config.data), build.network(config)
    state = step.init(config, network, dataset.train)
    where = stack.layout(1, config.train.batch_size, jax.devices()[:count])
    found = []
    for fetch, (metrics,) in stack.run(
        [config], network, dataset, [state], where=where
    ):
        found.append(metrics)
        (state,) = fetch()
    keys = dict.fromkeys(key for row in found for key in row)
    return state, {
        k: np.concatenate([row[k] for row in found if k in row]) for k in keys
    }


def test_a_batch_is_augmented_by_its_number(probed):
    """Replays of a batch see the same images; what they see is known beforehand."""
    _, metrics = _train(probed)
    keys, split = step.keys(probed.seed), data.load(**probed.data).train
    batches = draw(keys.order, 0, 4 * 20, 400).reshape(4, 20)
    for number, indices in enumerate(batches):
        key = jax.random.fold_in(jax.random.fold_in(keys.init, 2), number)
        seen = augment.apply(
            ("crop", "flip"),
            example_keys(key, indices),
            jnp.asarray(split.images)[indices],
            {"padding": 2},
        )
        expected = (seen * WEIGHTS[None]).sum(axis=(1, 2, 3)).mean()
        told = metrics["seen"][2 * number : 2 * number + 2]
        np.testing.assert_allclose(told, expected, rtol=1e-5)
    assert len(np.unique(metrics["seen"])) == 4


def test_devices_share_a_batch_that_is_augmented(probed):
    (one, metrics), (two, of_two) = (_train(probed, count) for count in (1, 2))
    np.testing.assert_allclose(of_two["seen"], metrics["seen"], rtol=1e-5)
    np.testing.assert_allclose(of_two["loss"], metrics["loss"], rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=6e-4),
        one.variables,
        two.variables,
    )


def test_a_continued_run_has_the_same_bits(small_config, tmp_path, monkeypatch):
    """It stops between two updates on one batch, whose images are moved once."""
    small_config.defence.name, small_config.defence.attack = "free", "fgsm"
    small_config.defence.replays = 3
    small_config.train.attack.steps = None
    small_config.train.augment.names = ("crop", "flip", "cutout")
    small_config.train.augment.padding = 2
    small_config.train.augment.size = 3
    config = configs.resolve(small_config)
    whole, cut = whole_and_cut(config, tmp_path, monkeypatch, jax.devices()[:1])
    assert bits(whole) == bits(cut)


def test_held_out_images_are_seen_as_they_are(small_config, monkeypatch):
    inverse = augment.Augmentation(lambda key, image: 1 - image, "inverse")
    monkeypatch.setitem(augment.AUGMENTATIONS, "inverse", inverse)
    small_config.defence.name = "natural"
    small_config.train.augment.names = ("inverse",)
    small_config.train.steps = small_config.train.chunk_steps = 20
    small_config.train.checkpoint_every = 20
    small_config.train.validation.examples = 100
    config = configs.resolve(small_config)
    state, metrics = _train(config)
    held_out = validation.parts(data.load(**config.data).train, config).held_out
    network = classifier(build.network(config), state.variables)
    images = jnp.stack([held_out.images, 1 - held_out.images])
    predictions = np.asarray(jax.lax.map(network, images)).argmax(axis=-1)
    right, of_inverse = (predictions == held_out.labels).mean(axis=1)
    assert of_inverse > right + 0.1
    np.testing.assert_allclose(metrics["validation_accuracy"][-1], right, rtol=1e-6)


def test_a_run_is_saved_with_its_augmentation(small_config):
    small_config.train.augment.names = ("flip",)
    config = configs.resolve(small_config)
    again = configs.from_dict(json.loads(configs.to_json(config)))
    assert again.train.augment.names == ("flip",)
    small_config.train.augment.names = ()
    told = configs.training_differences(again, configs.resolve(small_config))
    assert told == ["train.augment.names: ('flip',) there, () here"]
