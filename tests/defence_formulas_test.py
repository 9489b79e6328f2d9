"""Each defence against its definition: the paper's formula, worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_defences import configure, outcome, train

from advloss import losses
from advloss.attacks import base as attacks
from advloss.config import build
from advloss.defences import awp, base
from advloss.defences.mart import boost
from advloss.defences.trades import divergence
from advloss.types import Batch

pytestmark = pytest.mark.usefixtures("compiled_quickly")
FREE = {"defence.attack": "fgsm", "defence.replays": 3}
SOFT = {"defence.temperature": 5.0}


@pytest.fixture
def config(small_config):
    small_config.train.attack.epsilon = 0.1
    return small_config


def test_trades_attacks_the_divergence_and_not_the_loss(config, dataset):
    """Its attacked images are farther in prediction than those of the loss's attack."""
    steps = {"train.attack.steps": 10, "train.attack.step_size": 0.02}
    config = configure(config, "trades", **steps)
    network = build.network(config)
    variables = network.init(jax.random.key(0), dataset.train.images.shape[1:])
    images, labels = (jnp.asarray(array[:64]) for array in dataset.train)
    seen = {}

    def forward(variables, images, train):
        found = network.apply(variables, images, train=train)
        seen["last"] = images if train else seen.get("last")
        return found

    def farthest(objective):
        own = build.training_attack(config, build.objective(config))
        found = own(
            base.frozen_classifier(forward, variables),
            attacks.example_keys(jax.random.key(1), jnp.arange(64)),
            images,
            labels,
            **({"objective": objective} if objective else {}),
            **build.hyperparameters(config)["attack"],
        )
        natural, moved = (
            network.apply(variables, x)[0] for x in (images, found.images)
        )
        return float(divergence(natural, moved).mean())

    here, *_ = network.apply(variables, images)
    by_divergence = farthest(lambda logits, _: divergence(here, logits))
    assert by_divergence > farthest(None)
    batch, hyper = Batch(images, labels, jnp.arange(64)), build.hyperparameters(config)
    _, (_, _, metrics) = build.defence(config)(
        forward, variables, batch, jax.random.key(1), hyper, None, {}
    )
    np.testing.assert_allclose(metrics["divergence"], by_divergence, rtol=1e-4)


def test_boost_by_hand():
    """Of probabilities 0.2, 0.5 and 0.3, the likeliest wrong one: -log(1 - p)."""
    logits = jnp.log(jnp.array([[0.2, 0.5, 0.3]] * 3))
    found = boost(logits, jnp.array([0, 1, 2]))
    np.testing.assert_allclose(found, -np.log([0.5, 0.7, 0.5]), rtol=1e-6)
    sure = jnp.array([[200.0, 0.0, 0.0]])  # 1 - p is 0 in float32; its logarithm not.
    np.testing.assert_allclose(
        boost(sure, jnp.array([1])), [200 - np.log(2)], rtol=1e-6
    )


def test_divergence_by_hand():
    first, second = jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.9, 0.1]]))
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    np.testing.assert_allclose(divergence(first, second), [expected], rtol=1e-6)
    np.testing.assert_allclose(divergence(first, first), [0.0], atol=1e-7)


def test_mart_is_what_its_paper_says(config, dataset):
    """Eq. 11 in its textbook form, on images that its attack leaves as they are."""
    config = configure(config, "mart")
    defend, *given, (key, hyper, *rest) = outcome(config, dataset)
    zero = {name: 0.0 for name in hyper["attack"]}
    own, beta = {"attack": zero, "defence": {"beta": 5.0}}, 5.0
    _, (_, _, metrics) = defend(*given, key, {**hyper, **own}, *rest)
    forward, variables, batch = given
    p = jax.nn.softmax(forward(variables, batch.images, False)[0])
    rows = jnp.arange(len(batch.labels))
    wrong = p.at[rows, batch.labels].set(0).max(axis=-1)
    expected = -jnp.log(p[rows, batch.labels]) - jnp.log(1 - wrong)
    np.testing.assert_allclose(metrics["loss"], expected.mean(), rtol=1e-4)
    _, (_, _, metrics) = defend(*given, key, hyper, *rest)
    total = metrics["boosted_loss"] + beta * metrics["divergence"]
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
    assert metrics["divergence"] > 0


def test_free_training_is_fgsm_a_replay_late(config, dataset):
    """The gradient of one pass: by weights at x + d, and d moves by its sign."""
    config = configure(config, "free", **FREE)
    defend, forward, variables, batch, rest = outcome(config, dataset)

    def value(params):
        return defend(forward, {**variables, "params": params}, batch, *rest)

    gradient, (_, memory, metrics) = jax.grad(value, has_aux=True)(variables["params"])

    def plain(params, images):
        logits = forward({**variables, "params": params}, images, True)[0]
        return losses.softmax_cross_entropy(logits, batch.labels).mean()

    expected, by_image = jax.grad(plain, (0, 1))(variables["params"], batch.images)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        gradient,
        expected,
    )
    moved = jnp.clip(batch.images + 0.1 * jnp.sign(by_image), 0, 1)
    changes = np.asarray(memory["change"]) / 127 * 0.1
    np.testing.assert_allclose(changes, moved - batch.images, atol=0.5 * 0.1 / 127)
    np.testing.assert_allclose(
        metrics["loss"], plain(variables["params"], batch.images), rtol=1e-5
    )


def test_a_batch_is_replayed(config, dataset):
    """400 examples, 20 a batch, 3 updates each: 60 updates are an epoch."""
    steps = {"train.steps": 60, "train.chunk_steps": 20, "train.checkpoint_every": 60}
    state, _ = train(configure(config, "free", **FREE, **steps), dataset)
    moved = np.abs(state.memory["change"]).max(axis=(1, 2, 3)) > 0
    assert moved.all()
    halfway = {**steps, "train.steps": 30}
    halfway |= {"train.chunk_steps": 6, "train.checkpoint_every": 30}
    state, _ = train(configure(config, "free", **FREE, **halfway), dataset)
    moved = np.abs(state.memory["change"]).max(axis=(1, 2, 3)) > 0
    assert moved.sum() == 200


def test_atta_goes_on_where_it_was_and_starts_anew(config, dataset):
    """Steps of a tenth of the radius add up, until an example is reset."""
    steps = {"train.steps": 60, "train.chunk_steps": 20, "train.checkpoint_every": 60}
    length = {"train.attack.step_size": 0.01, "train.attack.warmup": 0.0}
    how = {"train.attack.steps": 1, "train.validation.examples": 0, **length}
    config = configure(config, "atta", **{"defence.reset": 3, **how, **steps})
    state, _ = train(config, dataset)
    np.testing.assert_array_equal(state.memory["visits"], 3)
    defend, forward, variables, batch, rest = outcome(config, dataset)
    found = []
    for visits, change in ((1, 127), (3, 127), (0, 0)):
        kept = {
            "change": jnp.full(batch.images.shape, change, jnp.int8),
            "visits": jnp.full(16, visits),
        }
        _, (_, memory, _) = defend(forward, variables, batch, *rest[:-1], kept)
        np.testing.assert_array_equal(memory["visits"], visits + 1)
        found.append(np.asarray(memory["change"]))
    free = np.asarray(batch.images) < 0.85  # There is room above.
    assert (found[0][free] >= 127 - 13).all()
    np.testing.assert_array_equal(found[1], found[2])  # Both drawn by the same key.
    assert (np.abs(found[2]) < 100).mean() > 0.3


def test_perturbed_weights_are_where_the_loss_is_higher(config, dataset):
    """By gamma of each kernel's length along its gradient; attacked once."""
    config = configure(config, "adversarial")
    defend, forward, variables, batch, rest = outcome(config, dataset)
    calls, gamma = [], 0.05

    def counted(*given, through=lambda attack: attack):
        def counting(attack):
            def call(*arguments, **settings):
                calls.append(1)
                return attack(*arguments, **settings)

            return through(call)

        return defend(*given, through=counting)

    worst = awp.perturbed(counted, gamma, lambda tree: tree)

    def value(params, defend):
        return defend(forward, {**variables, "params": params}, batch, *rest)

    params = variables["params"]
    gradient, _ = jax.grad(value, has_aux=True)(params, defend)
    found, (renewed, _, _) = value(params, worst)
    assert len(calls) == 1
    jax.tree.map(np.testing.assert_array_equal, renewed["params"], params)
    moved = jax.tree.map(
        lambda w, g: (
            w + gamma * jnp.linalg.norm(w) * g / jnp.linalg.norm(g) if w.ndim > 1 else w
        ),
        params,
        gradient,
    )
    attacked = build.training_attack(config, build.objective(config))(
        base.frozen_classifier(forward, variables),
        attacks.example_keys(rest[0], batch.indices),
        batch.images,
        batch.labels,
        **rest[1]["attack"],
    ).images

    def plain(params):
        logits = forward({**variables, "params": params}, attacked, True)[0]
        return losses.softmax_cross_entropy(logits, batch.labels).mean()

    np.testing.assert_allclose(found, plain(moved), rtol=1e-4)
    assert found > 1.05 * plain(params)
    by_weights = jax.grad(lambda p: value(p, worst)[0])(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-5),
        by_weights,
        jax.grad(plain)(moved),
    )


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_weights_are_perturbed_whatever_the_size_of_the_gradient(size):
    weights = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    gradient = jnp.array([[0.0, 0.6], [0.8, 0.0]])
    np.testing.assert_allclose(
        awp._step(0.1, weights, size * gradient), 0.5 * gradient, rtol=1e-5
    )


def test_distillation_by_hand(config, dataset):
    """Cross-entropy with the teacher's softmax at T: its gradient is p - q over T."""
    config = configure(config, "distillation", **SOFT)
    defend, forward, variables, batch, (key, hyper, _, rows) = outcome(config, dataset)
    teacher = build.network(config).init(jax.random.key(7), (8, 8, 1))
    value, (_, _, metrics) = defend(
        forward, variables, batch, key, hyper, teacher, rows
    )
    p, q = (
        np.asarray(jax.nn.softmax(forward(tree, batch.images, False)[0] / 5.0))
        for tree in (teacher, variables)
    )
    np.testing.assert_allclose(value, -(p * np.log(q)).sum(-1).mean(), rtol=1e-5)
    sure = (p.argmax(-1) == np.asarray(batch.labels)).mean()
    assert metrics["teacher_accuracy"] == pytest.approx(sure)


def test_distillation_heeds_smoothing(config, dataset):
    """Its targets are the teacher's, softened: q' = (1 - s) q + s / classes."""
    smooth = {"defence.label_smoothing": 0.3}
    config = configure(config, "distillation", **SOFT, **smooth)
    defend, forward, variables, batch, (key, hyper, _, rows) = outcome(config, dataset)
    teacher = build.network(config).init(jax.random.key(7), (8, 8, 1))
    value, _ = defend(forward, variables, batch, key, hyper, teacher, rows)
    p, q = (
        np.asarray(jax.nn.softmax(forward(tree, batch.images, False)[0] / 5.0))
        for tree in (teacher, variables)
    )
    p = 0.7 * p + 0.3 / p.shape[1]
    np.testing.assert_allclose(value, -(p * np.log(q)).sum(-1).mean(), rtol=1e-5)
