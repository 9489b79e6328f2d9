"""Residual networks: their sizes, normalisation, settings, and memory.

What they compute is held to PyTorch's rules in pytorch_test.py, and trained, resumed
and spread over devices in defences_test.py.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import config as configs
from advloss import losses, networks
from advloss.attacks import ATTACKS, example_keys
from advloss.errors import InputError
from advloss.networks import norms
from advloss.training import run
from advloss.types import Axis

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def _form(name, shape=(32, 32, 3), **settings):
    network = networks.build(name, head="linear", num_classes=10, **settings)

    def look(key):
        variables = network.init(key, shape)
        return variables, network.apply(variables, jnp.zeros((2, *shape)))[1]

    return network, *jax.eval_shape(look, jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "settings", "millions"),
    [
        ("preact_resnet18", {}, 11.172170),
        ("wide_resnet", {}, 36.479194),  # The paper's Table 4 has 36.5, of depth 28.
        ("wide_resnet", {"depth": 34}, 46.160474),
        ("wide_resnet", {"depth": 16, "widen": 8}, 10.961370),
    ],
)
def test_parameter_counts(name, settings, millions):
    """As PyTorch counts those of the public repositories."""
    _, variables, _ = _form(name, **settings)
    counts = [math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])]
    assert sum(counts) == round(millions * 1e6)


def test_shapes_of_preact_resnet18():
    network, _, found = _form("preact_resnet18")
    sides, widths = (32, 32, 16, 16, 8, 8, 4, 4), (64, 64, 128, 128, 256, 256, 512, 512)
    expected = {"stem": (32, 32, 64), "pool": (512,), "fc": (10,)}
    for i, (side, width) in enumerate(zip(sides, widths, strict=True), 1):
        expected[f"block{i}"] = (side, side, width)
    assert {name: found[name].shape[1:] for name in network.layers} == expected


def test_wide_resnet_has_the_layers_that_its_depth_says():
    network, _, _ = _form("wide_resnet", depth=16, widen=1)
    assert network.layers == ("stem", *(f"block{i}" for i in range(1, 7)), "pool", "fc")


def _normed(values, *, train=True, axis=None, variables=None):
    module = norms.BatchNorm()
    if variables is None:
        variables = module.init(jax.random.key(0), values, train=False, axis=None)
    return module.apply(
        variables, values, train=train, axis=axis, mutable=["batch_stats"]
    )


def test_batch_norm_by_hand():
    """A channel of 1, 2, 3, 6: mean 3, variance 3.5, unbiased 14/3; one of zeros."""
    x = jnp.array([[1.0, 0], [2, 0], [3, 0], [6, 0]])
    found, kept = _normed(x)
    expected = np.array([-2, -1, 0, 3]) / math.sqrt(3.5 + 1e-5)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found[:, 1], 0)
    statistics = kept["batch_stats"]
    np.testing.assert_allclose(statistics["mean"], [0.3, 0], rtol=1e-5)
    np.testing.assert_allclose(statistics["var"], [0.9 + 1.4 / 3, 0.9], rtol=1e-5)
    own = {"scale": jnp.array([2.0, 1]), "bias": jnp.array([1.0, 5])}
    found, same = _normed(x, train=False, variables={"params": own, **kept})
    expected = 2 * (x[:, 0] - 0.3) / math.sqrt(0.9 + 1.4 / 3 + 1e-5) + 1
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(found[:, 1], 5)
    jax.tree.map(np.testing.assert_array_equal, same, kept)


@pytest.mark.parametrize("groups", [None, [[0, 1], [2, 3]]])
def test_statistics_are_of_all_devices_that_share_a_batch(groups):
    x = jax.random.normal(jax.random.key(1), (4, 3, 2, 2, 5)) * 3 + 1
    variables = norms.BatchNorm().init(jax.random.key(0), x[0], train=False, axis=None)
    apply = functools.partial(
        _normed, axis=Axis("devices", groups), variables=variables
    )
    found, kept = jax.pmap(apply, "devices", devices=jax.devices()[:4])(x)
    for members in groups or [[0, 1, 2, 3]]:
        together = x[jnp.array(members)].reshape(-1, 2, 2, 5)
        whole, expected = _normed(together)
        whole = whole.reshape(len(members), 3, 2, 2, 5)
        for place, device in enumerate(members):
            np.testing.assert_allclose(found[device], whole[place], atol=1e-5)
            for name in ("mean", "var"):
                np.testing.assert_allclose(
                    kept["batch_stats"][name][device],
                    expected["batch_stats"][name],
                    rtol=1e-5,
                    atol=1e-6,
                )


def test_one_value_a_channel_has_no_variance():
    with pytest.raises(InputError, match=r"^config.model.norm='batch' .*one value"):
        _normed(jnp.ones((1, 1, 1, 3)))


def test_group_norm_is_of_16_channels_of_an_example():
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 32)).astype(np.float32) * 2 + 1
    module = norms.GroupNorm()
    variables = module.init(jax.random.key(0), x)
    assert list(variables) == ["params"]
    found = module.apply(variables, x)
    for example in range(3):
        for group in (slice(0, 16), slice(16, 32)):
            own = x[example, ..., group].astype(np.float64)
            expected = (own - own.mean()) / np.sqrt(own.var() + 1e-5)
            np.testing.assert_allclose(found[example, ..., group], expected, atol=1e-4)


@pytest.mark.parametrize("norm", norms.NORMS)
def test_norms_are_of_float32_at_lower_precision(norm):
    """Large means lose nothing but what bfloat16 already lost."""
    x = (jax.random.normal(jax.random.key(0), (8, 2, 2, 16)) + 50).astype(jnp.bfloat16)
    module = norms.NORMS[norm]()
    exact = x.astype(jnp.float32)
    variables = module.init(jax.random.key(0), x, train=False, axis=None)
    found, expected = (
        module.apply(variables, y, train=True, axis=None, mutable=["batch_stats"])
        for y in (x, exact)
    )
    assert found[0].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found[0], expected[0].astype(jnp.bfloat16))
    jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])


def test_norms_are_in_the_network():
    _, variables, _ = _form("resnet8")
    assert set(variables) == {"params", "batch_stats"}
    _, variables, _ = _form("resnet8", norm="group")
    assert set(variables) == {"params"}


def test_images_are_normalised_within_the_network():
    build = functools.partial(networks.build, "resnet8", head="linear", num_classes=3)
    plain = build()
    variables = plain.init(jax.random.key(0), (4, 4, 3))
    images = jax.random.uniform(jax.random.key(1), (2, 4, 4, 3))
    for mean, std in (((0.5, 0.25, 0.0), (2.0, 0.5, 1.0)), ((0.5,), (0.25,))):
        shifted = (images - np.array(mean, "f4")[None, None, None]) / np.array(
            std, "f4"
        )[None, None, None]
        found = build(mean=mean, std=std).apply(variables, images)[0]
        np.testing.assert_allclose(
            found, plain.apply(variables, shifted)[0], rtol=1e-4, atol=1e-5
        )


def test_a_wrong_number_of_channels_is_refused_before_anything_is_written(
    small_config, tmp_path
):
    small_config.model.name = "resnet8"
    small_config.model.mean = (0.5, 0.4, 0.3)
    config = configs.resolve(small_config)
    with pytest.raises(InputError, match=r"^config.model.mean=.* 1 channels, or one"):
        run.train_runs([config], [tmp_path / "run"], jax.devices()[:1])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("wide_resnet", "depth", 27, "10, 16, 22, 28, 34 or another 6n"),
        ("wide_resnet", "widen", 0, "a whole number from 1"),
        ("resnet8", "depth", 28, "unset, as resnet8 with relu has no depth"),
        ("table1", "mean", (0.5,), "unset, as table1 with relu has no mean"),
        ("resnet8", "norm", "layer", "one of batch, group"),
        ("resnet8", "mean", (), "finite numbers, at least one"),
        ("resnet8", "mean", (float("nan"),), "finite numbers, at least one"),
        ("resnet8", "std", (1.0, 0.0), "finite numbers > 0, at least one"),
        ("resnet8", "std", (1e-50,), "finite numbers > 0, at least one"),
        ("resnet8", "std", (True,), "finite numbers > 0, at least one"),
        ("preact_resnet18", "shortcut", "none", "one of activated, input"),
    ],
)
def test_settings_that_are_not_valid(name, key, value, said):
    config = configs.default()
    config.model.name = name
    config.model[key] = value
    with pytest.raises(InputError, match=rf"^config.model.{key}=.*{said}"):
        configs.resolve(config)
    if "unset" not in said:
        with pytest.raises(InputError, match=rf"^config.model.{key}=.*{said}"):
            networks.build(name, head="linear", num_classes=3, **{key: value})


def test_memory_does_not_grow_with_the_steps_of_an_attack():
    network = networks.build("resnet8", head="linear", num_classes=10)
    variables, _ = _form("resnet8", (8, 8, 3))[1:]

    def used(steps):
        def attack(variables, images, labels):
            classifier = networks.classifier(network, variables)
            keys = example_keys(jax.random.key(0), labels)
            return ATTACKS["pgd"].function(
                classifier, keys, images, labels, epsilon=0.1, step_size=0.05,
                steps=steps, objective=losses.objective("softmax_cross_entropy", None),
            ).images  # fmt: skip

        shapes = jax.ShapeDtypeStruct((16, 8, 8, 3), jnp.float32)
        labels = jax.ShapeDtypeStruct((16,), jnp.int32)
        compiled = jax.jit(attack).lower(variables, shapes, labels).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = used(2), used(20)
    assert 0 < many <= 1.01 * few
