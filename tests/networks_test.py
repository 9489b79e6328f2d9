"""The network of Table I, its two heads and its named layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import losses, networks

# Table I, output shapes; the paper prints the last two layers' units alone.
TABLE_1 = {
    "conv1": (28, 28, 32),
    "pool1": (14, 14, 32),
    "conv2": (14, 14, 64),
    "pool2": (7, 7, 64),
    "fc1": (1024,),
    "fc2": (10,),
}


def _build(head, seed=0):
    network = networks.build("table1", head=head, num_classes=10, init="madry")
    return network, network.init(jax.random.key(seed), (28, 28, 1))


@pytest.mark.parametrize("head", networks.HEADS)
def test_table_1_shapes(head):
    network, params = _build(head)
    logits, layers = jax.eval_shape(network.apply, params, jnp.zeros((3, 28, 28, 1)))
    assert logits.shape == (3, 10)
    assert {name: x.shape[1:] for name, x in layers.items()} == TABLE_1


def test_parameter_counts():
    _, params = _build("linear")
    counts = {
        layer: sum(x.size for x in jax.tree.leaves(weights))
        for layer, weights in params.items()
    }
    assert counts == {
        "conv1": 5 * 5 * 1 * 32 + 32,
        "conv2": 5 * 5 * 32 * 64 + 64,
        "fc1": 3136 * 1024 + 1024,
        "fc2": 1024 * 10 + 10,
    }


def test_layers_follow_from_one_another():
    network, params = _build("linear")
    images = jax.random.uniform(jax.random.key(1), (2, 28, 28, 1))
    logits, layers = network.apply(params, images)
    for i in (1, 2):
        conv, pool = np.asarray(layers[f"conv{i}"]), np.asarray(layers[f"pool{i}"])
        n, h, w, c = conv.shape
        windows = conv.reshape(n, h // 2, 2, w // 2, 2, c)
        np.testing.assert_array_equal(pool, windows.max(axis=(2, 4)))
    hidden = np.maximum(
        np.asarray(layers["pool2"]).reshape(2, -1) @ params["fc1"]["kernel"]
        + params["fc1"]["bias"].reshape(1, -1),
        0,
    )
    np.testing.assert_allclose(layers["fc1"], hidden, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(logits, layers["fc2"])


def test_cosine_head_gives_cosines_and_has_no_bias():
    network, params = _build("cosine")
    assert list(params["fc2"]) == ["kernel"]
    images = jax.random.uniform(jax.random.key(1), (4, 28, 28, 1))
    cosines, layers = network.apply(params, images)
    for i, features in enumerate(np.asarray(layers["fc1"])):
        for j, vector in enumerate(np.asarray(params["fc2"]["kernel"]).T):
            lengths = np.linalg.norm(features) * np.linalg.norm(vector)
            np.testing.assert_allclose(
                cosines[i, j], features @ vector / lengths, atol=1e-5
            )
    params["fc2"]["kernel"] *= 7.0
    np.testing.assert_allclose(network.apply(params, images)[0], cosines, atol=1e-6)


def test_zero_features_have_finite_losses_and_gradients():
    """All the way from the loss, whose scale multiplies what the head gives."""
    head = networks.HEADS["cosine"](3, "lecun", "head")
    params = head.init(jax.random.key(0), jnp.ones((2, 5)))

    def loss(params, features):
        cosines = head.apply(params, features)
        return losses.lmcl(cosines, jnp.array([0, 2]), scale=64.0, margin=0.3).sum()

    zeroed = jax.tree.map(jnp.zeros_like, params)
    for features in (jnp.zeros((2, 5)), jnp.ones((2, 5))):
        for weights in (params, zeroed):
            value, gradients = jax.value_and_grad(loss, (0, 1))(weights, features)
            assert np.isfinite(value)
            assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_zero_features_have_finite_cosines_and_gradients():
    def cosines(features):
        return networks.normalise(features, axis=-1).sum()

    value, gradient = jax.value_and_grad(cosines)(jnp.zeros((2, 5)))
    assert value == 0
    assert np.isfinite(gradient).all()


def test_other_image_sizes():
    network = networks.build("table1", head="linear", num_classes=3, init="lecun")
    params = network.init(jax.random.key(0), (8, 12, 3))
    assert network.apply(params, jnp.zeros((2, 8, 12, 3)))[0].shape == (2, 3)


def test_images_must_be_a_float_batch():
    network, params = _build("linear")
    with pytest.raises(AssertionError):
        network.apply(params, jnp.zeros((28, 28, 1)))
    with pytest.raises(AssertionError):
        network.apply(params, jnp.zeros((1, 28, 28, 1), jnp.uint8))


@pytest.mark.parametrize("name", list(networks.MODELS))
@pytest.mark.parametrize("head", list(networks.HEADS))
def test_lower_precision_changes_scores_a_little_and_no_type(name, head):
    build = functools.partial(
        networks.build, name, head=head, num_classes=10, init="lecun"
    )
    exact, coarse = build(), build(precision="bfloat16")
    params = exact.init(jax.random.key(0), (8, 8, 1))
    images = jax.random.uniform(jax.random.key(1), (20, 8, 8, 1))

    def loss(network, params, images):
        return jnp.square(network.apply(params, images)[0]).mean()

    logits = [network.apply(params, images)[0] for network in (exact, coarse)]
    difference = np.abs(logits[1] - logits[0]).max() / np.abs(logits[0]).max()
    assert 1e-5 < difference < 0.03  # bfloat16 has 8 bits.
    by_params, by_images = jax.grad(loss, argnums=(1, 2))(coarse, params, images)
    types = {leaf.dtype for leaf in jax.tree.leaves((by_params, by_images))}
    assert types == {jnp.dtype("float32")}
    layers = coarse.apply(params, images)[1]
    assert {layer.dtype for layer in layers.values()} == {jnp.dtype("float32")}
