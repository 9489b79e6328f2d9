"""The registry's networks, heads and activations, and others' flax modules."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import losses, networks
from advloss.networks import layers
from advloss.types import Axis

pytestmark = pytest.mark.usefixtures("compiled_quickly")
# Table I, output shapes; the paper prints the last two layers' units alone.
TABLE_1 = {
    "conv1": (28, 28, 32),
    "pool1": (14, 14, 32),
    "conv2": (14, 14, 64),
    "pool2": (7, 7, 64),
    "fc1": (1024,),
    "fc2": (10,),
}


@functools.cache
def _made(head):
    network = networks.build("table1", head=head, num_classes=10, init="madry")
    return network, network.init(jax.random.key(0), (28, 28, 1))


def _build(head):
    network, variables = _made(head)
    return network, jax.tree.map(lambda x: x, variables)  # Dicts of its own.


@pytest.mark.parametrize("head", networks.HEADS)
def test_table_1_shapes(head):
    network, variables = _build(head)
    images = jnp.zeros((3, 28, 28, 1))
    logits, activations, again = jax.eval_shape(network.apply, variables, images)
    assert logits.shape == (3, 10)
    assert {name: x.shape[1:] for name, x in activations.items()} == TABLE_1
    assert network.layers == tuple(TABLE_1)
    assert jax.tree.structure(again) == jax.tree.structure(variables)


def test_parameter_counts():
    _, variables = _build("linear")
    assert list(variables) == ["params"]
    counts = {
        layer: sum(x.size for x in jax.tree.leaves(weights))
        for layer, weights in variables["params"].items()
    }
    assert counts == {
        "conv1": 5 * 5 * 1 * 32 + 32,
        "conv2": 5 * 5 * 32 * 64 + 64,
        "fc1": 3136 * 1024 + 1024,
        "fc2": 1024 * 10 + 10,
    }


def test_layers_follow_from_one_another():
    network, variables = _build("linear")
    params = variables["params"]
    images = jax.random.uniform(jax.random.key(1), (2, 28, 28, 1))
    logits, found, _ = network.apply(variables, images)
    for i in (1, 2):
        conv, pool = np.asarray(found[f"conv{i}"]), np.asarray(found[f"pool{i}"])
        n, h, w, c = conv.shape
        windows = conv.reshape(n, h // 2, 2, w // 2, 2, c)
        np.testing.assert_array_equal(pool, windows.max(axis=(2, 4)))
    hidden = np.maximum(
        np.asarray(found["pool2"]).reshape(2, -1) @ params["fc1"]["kernel"]
        + params["fc1"]["bias"].reshape(1, -1),
        0,
    )
    np.testing.assert_allclose(found["fc1"], hidden, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(logits, found["fc2"])


def test_cosine_head_gives_cosines_and_has_no_bias():
    network, variables = _build("cosine")
    params = variables["params"]
    assert list(params["fc2"]) == ["kernel"]
    images = jax.random.uniform(jax.random.key(1), (4, 28, 28, 1))
    cosines, found, _ = network.apply(variables, images)
    for i, features in enumerate(np.asarray(found["fc1"])):
        for j, vector in enumerate(np.asarray(params["fc2"]["kernel"]).T):
            lengths = np.linalg.norm(features) * np.linalg.norm(vector)
            np.testing.assert_allclose(
                cosines[i, j], features @ vector / lengths, atol=1e-5
            )
    params["fc2"]["kernel"] *= 7.0
    np.testing.assert_allclose(network.apply(variables, images)[0], cosines, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_centres_are_as_far_apart_as_can_be(classes):
    """Of length 10, all pairs equally far, around 0: a simplex."""
    points = np.asarray(layers.simplex(classes))
    np.testing.assert_allclose(np.linalg.norm(points, axis=-1), 10, rtol=1e-5)
    np.testing.assert_allclose(points.sum(axis=0), 0, atol=1e-4)
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    expected = 10 * np.sqrt(2 * classes / (classes - 1)) * (1 - np.eye(classes))
    np.testing.assert_allclose(apart, expected, rtol=1e-4, atol=1e-3)


def test_the_head_of_centres_measures_distances():
    head = networks.HEADS["centres"](3, "lecun", "head")
    features = jax.random.normal(jax.random.key(1), (4, 5))
    variables = head.init(jax.random.key(0), features)
    weights = variables["params"]["map"]
    assert list(variables["params"]) == ["map"]  # The centres do not move.
    mapped = features @ weights["kernel"] + weights["bias"][None]
    away = mapped[:, None] - layers.simplex(3)[None]
    expected = -jnp.square(away).sum(axis=-1) / 2
    np.testing.assert_allclose(head.apply(variables, features), expected, rtol=1e-4)


def test_the_head_of_centres_holds_no_array_of_classes_squared_an_image():
    head = networks.HEADS["centres"](40, "lecun", "head")
    features = jnp.ones((50, 8))
    variables = head.init(jax.random.key(0), features)
    program = jax.make_jaxpr(head.apply)(variables, features).jaxpr
    made = [math.prod(out.aval.shape) for eqn in program.eqns for out in eqn.outvars]
    assert max(made) <= 50 * 40


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
        return layers.normalise(features, axis=-1).sum()

    value, gradient = jax.value_and_grad(cosines)(jnp.zeros((2, 5)))
    assert value == 0
    assert np.isfinite(gradient).all()


def test_other_image_sizes():
    network = networks.build("table1", head="linear", num_classes=3)
    variables = network.init(jax.random.key(0), (8, 12, 3))
    assert network.apply(variables, jnp.zeros((2, 8, 12, 3)))[0].shape == (2, 3)


def test_images_must_be_a_float_batch():
    network, variables = _build("linear")
    with pytest.raises(AssertionError):
        network.apply(variables, jnp.zeros((28, 28, 1)))
    with pytest.raises(AssertionError):
        network.apply(variables, jnp.zeros((1, 28, 28, 1), jnp.uint8))


@pytest.mark.parametrize(
    ("name", "head"),
    # Of the networks of one class, the one that compiles soonest.
    [
        ("table1", "linear"),
        ("resnet8", "linear"),
        *(("mlp", h) for h in networks.HEADS),
    ],
)
def test_lower_precision_changes_logits_a_little_and_no_type(name, head):
    build = functools.partial(networks.build, name, head=head, num_classes=10)
    exact, coarse = build(), build(precision="bfloat16")
    variables = exact.init(jax.random.key(0), (8, 8, 1))
    images = jax.random.uniform(jax.random.key(1), (20, 8, 8, 1))

    def loss(network, variables, images):
        return jnp.square(network.apply(variables, images)[0]).mean()

    logits = [jax.jit(n.apply)(variables, images)[0] for n in (exact, coarse)]
    difference = np.abs(logits[1] - logits[0]).max() / np.abs(logits[0]).max()
    assert 1e-5 < difference < 0.03  # bfloat16 has 8 bits.
    by_weights_and_images = jax.grad(functools.partial(loss, coarse), argnums=(0, 1))
    gradients = jax.eval_shape(by_weights_and_images, variables, images)
    types = {leaf.dtype for leaf in jax.tree.leaves(gradients)}
    assert types == {jnp.dtype("float32")}
    _, activations, _ = jax.eval_shape(coarse.apply, variables, images)
    assert {x.dtype for x in activations.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_entries_hold_to_their_own_rules(name):
    """Layers by name in their order, logits last; every size it allows."""
    network = networks.build(name, head="linear", num_classes=4)
    side = 4 * networks.divisor(name)
    shape = (side, side + networks.divisor(name), 2)

    def look(key, images):
        variables = network.init(key, shape)
        logits, activations, again = network.apply(variables, images, train=True)
        assert network.layers == tuple(activations)
        assert activations[network.layers[-1]] is logits
        return variables, again, activations

    images = jnp.zeros((3, *shape))
    variables, again, found = jax.eval_shape(look, jax.random.key(0), images)
    assert again == variables
    assert {len(x.shape) for x in found.values()} <= {2, 4}
    assert {x.shape[0] for x in found.values()} == {3}


def test_a_classifier_and_a_predictor_see_the_network():
    network = networks.build("mlp", head="linear", num_classes=3)
    variables = network.init(jax.random.key(0), (4, 4, 1))
    images = jax.random.uniform(jax.random.key(1), (6, 4, 4, 1))
    logits = network.apply(variables, images)[0]
    np.testing.assert_array_equal(
        networks.classifier(network, variables)(images), logits
    )
    predictions = networks.predictor(network, variables)(images)
    np.testing.assert_array_equal(predictions, np.argmax(logits, axis=-1))


def test_initialisers():
    """By their moments: a normal cut at two sigma, of variance 1 / fan-in."""
    # Jax's truncated normal is a normal of 0.1 that is cut; LeCun's is scaled up again.
    deviations = {"madry": 0.1 * 0.87962566, "lecun": 1 / np.sqrt(64)}
    biases = {"madry": 0.1, "lecun": 0.0}
    assert networks.INITIALISERS.keys() == deviations.keys()
    for init, deviation in deviations.items():
        network = networks.build("mlp", head="linear", num_classes=3, init=init)
        layer = network.init(jax.random.key(0), (8, 8, 1))["params"]["fc1"]
        # 19,200 draws: the deviation is known to 0.5 %.
        assert np.std(layer["kernel"]) == pytest.approx(deviation, rel=0.03)
        assert np.abs(layer["kernel"]).max() < 2.01 * deviation / 0.87962566
        np.testing.assert_allclose(layer["bias"], biases[init], rtol=1e-6)


def test_the_same_key_is_the_same_network():
    network = networks.build("mlp", head="cosine", num_classes=3)
    one, same, other = (network.init(jax.random.key(i), (4, 4, 1)) for i in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(
        one["params"]["fc1"]["kernel"], other["params"]["fc1"]["kernel"]
    )


# Activations.


def test_bounded_relu_by_hand():
    """min(max(0, x), t), t = 1 by default; slope 1 between, 0 beyond."""
    x = jnp.array([-3.0, -0.5, 0.25, 0.75, 1.5])
    found = layers.bounded_relu(x)
    np.testing.assert_array_equal(found, [0, 0, 0.25, 0.75, 1])
    found = layers.bounded_relu(x, ceiling=0.5)
    np.testing.assert_array_equal(found, [0, 0, 0.25, 0.5, 0.5])
    slopes = jax.vmap(jax.grad(layers.bounded_relu))(x)
    np.testing.assert_array_equal(slopes, [0, 0, 1, 1, 0])


@pytest.mark.parametrize("name", networks.ACTIVATIONS)
def test_no_activation_falls(name):
    """Networks take it after pooling: the largest must stay the largest."""
    entry = networks.ACTIVATIONS[name]
    settings = {key: setting.default for key, setting in entry.settings.items()}
    x = jnp.linspace(-20, 20, 4001)
    found = np.asarray(entry.function(x, **settings))
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    pooled = entry.function(x.reshape(-1, 4001).max(axis=1), **settings)
    assert pooled == found.max()


@pytest.mark.parametrize("network", ["table1", "mlp"])
def test_an_activation_and_its_settings_reach_every_hidden_layer(network):
    built = networks.build(
        network,
        head="linear",
        num_classes=3,
        init="madry",
        activation="bounded_relu",
        ceiling=0.5,
    )
    variables = built.init(jax.random.key(0), (8, 8, 1))
    images = jax.random.uniform(jax.random.key(1), (5, 8, 8, 1))
    logits, activations, _ = built.apply(variables, images)
    assert np.abs(logits).max() > 0.5
    for name in built.layers[:-1]:
        assert activations[name].min() >= 0
        assert activations[name].max() == 0.5


def test_settings_that_nothing_takes_are_refused():
    build = functools.partial(networks.build, "mlp", head="linear", num_classes=3)
    for wrong in ({"ceiling": 0.5}, {"width": 10}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            build(**wrong)
    for wrong in ({"activation": "none"}, {"init": "none"}, {"precision": "none"}):
        with pytest.raises(KeyError, match="none"):
            build(**wrong).init(jax.random.key(0), (4, 4, 1))


# Others' modules.


class _Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), -1))


class _Named(nn.Module):
    """Gives activations, of 16 bits, the logits last though first by name."""

    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Dense(5)(images.reshape(len(images), -1)))
        logits = nn.Dense(3)(hidden)
        return {"z": hidden.astype(jnp.bfloat16), "a": logits.astype(jnp.bfloat16)}


class _Normed(nn.Module):
    """The mean of a pixel's batch, kept with a momentum of 0.75."""

    @nn.compact
    def __call__(self, images, train, axis):
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.75,
            axis_name=axis and axis.name,
            axis_index_groups=axis and axis.groups,
        )(images.reshape(len(images), -1))
        return nn.Dense(3)(x)


def _from_flax(module):
    network = networks.from_flax(module)
    return network, network.init(jax.random.key(0), (2, 2, 1))


def test_a_plain_module_is_a_network():
    network, variables = _from_flax(_Plain())
    images = jax.random.uniform(jax.random.key(1), (6, 2, 2, 1))
    expected = _Plain().apply(variables, images)
    for train in (False, True):
        logits, activations, again = network.apply(variables, images, train=train)
        np.testing.assert_array_equal(logits, expected)
        assert list(activations) == ["logits"]
        jax.tree.map(np.testing.assert_array_equal, variables, again)
    assert network.layers == ()
    found = networks.classifier(network, variables)(images)
    np.testing.assert_array_equal(found, expected)


def test_a_module_s_activations_keep_their_names():
    network, variables = _from_flax(_Named())
    logits, activations, _ = network.apply(variables, jnp.ones((2, 2, 2, 1)))
    assert {name: x.shape for name, x in activations.items()} == {
        "z": (2, 5),
        "a": (2, 3),
    }
    assert {x.dtype for x in activations.values()} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(logits, activations["a"])


def test_statistics_move_in_training_alone():
    network, variables = _from_flax(_Normed())
    images = jax.random.uniform(jax.random.key(1), (6, 2, 2, 1))
    assert set(variables) == {"params", "batch_stats"}
    still = network.apply(variables, images)[2]
    jax.tree.map(np.testing.assert_array_equal, variables, still)
    logits, _, moved = network.apply(variables, images, train=True)
    jax.tree.map(np.testing.assert_array_equal, variables["params"], moved["params"])
    pixels = np.asarray(images).reshape(6, 4)
    # 0.75 of the first mean, 0, and a quarter of the batch's; of variances 1.
    expected = {"mean": pixels.mean(0) / 4, "var": 0.75 + pixels.var(0) / 4}
    for name, value in moved["batch_stats"]["BatchNorm_0"].items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)
    assert not np.allclose(logits, network.apply(variables, images)[0])
    # What an attack sees does not move, and is of the kept statistics.
    alone = networks.classifier(network, moved)(images[:1])
    together = networks.classifier(network, moved)(images)
    np.testing.assert_allclose(alone, together[:1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", [None, [[0, 1], [2, 3]], [[0, 2], [1, 3]]])
def test_statistics_are_of_all_devices_of_the_axis(groups):
    """As of their images in one batch; with groups, of those of a device's group."""
    network, variables = _from_flax(_Normed())
    images = jax.random.uniform(jax.random.key(1), (4, 3, 2, 2, 1))
    axis = Axis("devices", groups)

    def apply(images):
        logits, _, moved = network.apply(variables, images, train=True, axis=axis)
        return logits, moved["batch_stats"]

    found, statistics = jax.pmap(apply, "devices", devices=jax.devices()[:4])(images)
    for members in groups or [[0, 1, 2, 3]]:
        together = images[jnp.array(members)].reshape(-1, 2, 2, 1)
        logits, _, moved = network.apply(variables, together, train=True)
        logits = logits.reshape(len(members), 3, 3)
        for place, device in enumerate(members):
            np.testing.assert_allclose(
                found[device], logits[place], rtol=1e-4, atol=1e-5
            )
            jax.tree.map(
                lambda ours, whole, device=device: np.testing.assert_allclose(
                    ours[device], whole, rtol=1e-5, atol=1e-6
                ),
                statistics,
                moved["batch_stats"],
            )


def test_what_is_no_module_is_refused():
    for wrong in (_Plain, lambda images: images, None):
        with pytest.raises(TypeError, match=r"no flax\.linen\.Module"):
            networks.from_flax(wrong)
