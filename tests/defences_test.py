"""The seam: every defence in one table, and what the step around it promises.

A new defence joins `CASES`. Three of the table are made here: one that remembers, one
that reads a frozen teacher, and a network with statistics of batches.
"""

import json
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import bits, saved_state, whole_and_cut

from advloss import config as configs
from advloss import data, losses, networks
from advloss.attacks import base as attacks
from advloss.cli import idle
from advloss.config import build
from advloss.defences import DEFENCES, Entry, awp, base
from advloss.defences.mart import boost
from advloss.defences.trades import divergence
from advloss.errors import InputError
from advloss.networks import NETWORKS
from advloss.networks.layers import Architecture
from advloss.runtime import checkpoints, files
from advloss.training import run, stack, step
from advloss.training import workdir as folders
from advloss.types import Batch

pytestmark = pytest.mark.usefixtures("compiled_quickly")
# Keys of the config, by case; the defence's name stands before the colon.
CASES = {
    "natural": {},
    "adversarial": {},
    "adversarial:fgsm": {"defence.attack": "fgsm"},
    "adversarial:restarts": {"train.attack.restarts": 2},
    "adversarial:l2": {"defence.attack": "pgd_l2"},
    "adversarial:normalised": {"model.name": "normalised"},
    "adversarial:resnet8": {"model.name": "resnet8"},
    "adversarial:sgd": {
        "train.optimiser": "sgd",
        "train.learning_rate": 0.05,
        "train.weight_decay": 1e-3,
        "train.clip_norm": 1.0,
        "train.schedule": "one_cycle",
        "train.average": 0.9,
    },
    "adversarial:awp": {"defence.awp": 0.02, "defence.label_smoothing": 0.1},
    "trades": {},
    "trades:awp": {"defence.awp": 0.02, "model.name": "normalised"},
    "mart": {},
    "alp": {},
    "free": {"defence.attack": "fgsm", "defence.replays": 3},
    "atta": {
        "train.attack.steps": 1,
        "defence.reset": 2,
        "train.validation.examples": 0,
    },
    "distillation": {"defence.temperature": 5.0},
    "trades:normalised": {"model.name": "normalised", "train.average": 0.99},
    "remembers": {},
}
each_case = pytest.mark.parametrize("case", CASES)
# These differ from "adversarial" in what a device does by itself alone.
_ALIKE = ("adversarial:fgsm", "adversarial:restarts", "adversarial:l2")
each_program = pytest.mark.parametrize("case", [c for c in CASES if c not in _ALIKE])


class Normalised(Architecture):
    """A dense network with batch normalisation."""

    layers = ("fc1", "fc2")

    @nn.compact
    def __call__(self, images, *, train=False, axis=None):
        found = {}
        x = nn.Dense(32, name="dense")(images.reshape(len(images), -1))
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            axis_name=axis and axis.name,
            axis_index_groups=axis and axis.groups,
            name="norm",
        )(x)
        found["fc1"] = self.activation(x)
        found["fc2"] = self.logits(found["fc1"], "fc2")
        return found


def remembers(forward, variables, batch, key, hyper, frozen, memory, *, loss, attack):
    """One step of PGD from where the example's last one ended, kept in 8 bits."""
    start = memory["change"].astype(jnp.float32) / 127 * hyper["attack"]["epsilon"]
    found = attack(
        base.frozen_classifier(forward, variables),
        attacks.example_keys(key, batch.indices),
        batch.images,
        batch.labels,
        start=jnp.clip(batch.images + start, 0, 1),
        **hyper["attack"],
    )
    logits, _, variables = forward(variables, found.images, True)
    value = loss(logits, batch.labels, **hyper["loss"]).mean()
    scale = jnp.maximum(hyper["attack"]["epsilon"], 1e-6)
    change = jnp.round((found.images - batch.images) / scale * 127)
    memory = {
        "change": jnp.clip(change, -127, 127).astype(jnp.int8),
        "visits": memory["visits"] + 1,
    }
    metrics = {"loss": value, "accuracy": base.accuracy(logits, batch.labels)}
    return value, (variables, memory, metrics)


def _nothing_yet(split):
    return {
        "change": jnp.zeros(split.images.shape, jnp.int8),
        "visits": jnp.zeros(len(split.labels), jnp.int32),
    }


@pytest.fixture(autouse=True)
def entries(monkeypatch):
    monkeypatch.setitem(NETWORKS, "normalised", networks.Entry(Normalised, "BN"))
    entry = Entry(remembers, "remembers", memory=_nothing_yet)
    monkeypatch.setitem(DEFENCES, "remembers", entry)


@pytest.fixture
def config(small_config):
    small_config.train.attack.epsilon = 0.1
    return small_config


@pytest.fixture
def dataset(small_config):
    return data.load(**small_config.data)


def _config(config, case, **changes):
    name, _, _ = case.partition(":")
    values = {"defence.name": name, **CASES[case], **changes}
    attack = values.get("defence.attack", "pgd")
    if attack == "fgsm":
        values["train.attack.steps"] = None
    for key, value in values.items():
        configs.put(config, key, value)
    if name == "remembers":
        config.train.attack.random_start = False
    return configs.resolve(config)


def _train(config, dataset, devices=1, frozen=None):
    network = build.network(config)
    state = step.init(config, network, dataset.train)
    where = stack.layout(1, config.train.batch_size, jax.devices()[:devices])
    found = []
    for fetch, (metrics,) in stack.run(
        [config], network, dataset, [state], where=where, frozen=[frozen]
    ):
        (state,) = fetch()
        found.append(metrics)
    # Validations are fewer than steps.
    return state, {k: np.concatenate([own[k] for own in found]) for k in found[0]}


def test_every_defence_has_a_case():
    assert {case.partition(":")[0] for case in CASES} == set(DEFENCES)


def _teacher(config, dataset, case):
    """What the case's defence reads: a network that was trained a little."""
    if not DEFENCES[case.partition(":")[0]].teacher:
        return None
    own = config.copy_and_resolve_references()
    steps = {"train.steps": 80, "train.chunk_steps": 20, "train.checkpoint_every": 80}
    state, _ = _train(_config(own, "natural", **steps), dataset)
    return state.variables


@each_case
def test_it_learns(config, dataset, case):
    steps = {"train.steps": 80, "train.chunk_steps": 20, "train.checkpoint_every": 80}
    steps["train.validation.examples"] = 0
    frozen = _teacher(config, dataset, case)
    _, metrics = _train(_config(config, case, **steps), dataset, frozen=frozen)
    assert {"loss", "accuracy", "learning_rate", "epsilon"} <= set(metrics)
    assert metrics["accuracy"][-20:].mean() > metrics["accuracy"][:20].mean() + 0.15
    assert metrics["loss"][-20:].mean() < metrics["loss"][:20].mean()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_it_learns_with_every_loss(config, dataset, name):
    steps = {"train.steps": 80, "train.chunk_steps": 20, "train.checkpoint_every": 80}
    changes = {**steps, "loss.name": name, "train.attack.steps": 1}
    _, metrics = _train(_config(config, "adversarial", **changes), dataset)
    assert metrics["accuracy"][-20:].mean() > metrics["accuracy"][:20].mean() + 0.15
    assert metrics["loss"][-20:].mean() < metrics["loss"][:20].mean()


@each_program
def test_1_2_and_4_devices_are_one_large_batch(config, dataset, case):
    # With SGD: Adam would make a learning rate's difference of a rounding error.
    changes = {"train.optimiser": "sgd", "train.learning_rate": 0.02}
    frozen = _teacher(config, dataset, case)
    config = _config(config, case, **{**changes, "train.steps": 2})
    one, *several = (_train(config, dataset, n, frozen)[0] for n in (1, 2, 4))
    for state in several:
        # What is kept in 8 bits may round to the next one.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                a, b, rtol=2e-3, atol=1 if a.dtype == np.int8 else 2e-5
            ),
            one,
            state,
        )


@each_program
def test_an_interrupted_run_goes_on_with_the_same_bits(
    config, tmp_path, monkeypatch, case
):
    config = _config(config, case)
    whole, cut = whole_and_cut(config, tmp_path, monkeypatch, jax.devices()[:2])
    assert bits(whole) == bits(cut)
    assert int(whole["step"]) == 8


def test_what_is_swept_is_traced(config, dataset):
    """TRADES at two weights is one program."""
    config = _config(config, "trades")
    assert "defence.beta" in configs.swept()
    network = build.network(config)
    train_step, traces = step.make_train_step(config, network), []

    @jax.jit
    def counted(*arguments):
        traces.append(1)
        return train_step(*arguments)

    state = step.init(config, network, dataset.train)
    images, labels = (jnp.asarray(array[:4]) for array in dataset.train)
    losses = []
    for beta in (0.0, 6.0):
        hyper = {**build.hyperparameters(config), "defence": {"beta": beta}}
        batch = Batch(images, labels, jnp.arange(4))
        _, metrics = counted(state, batch, jax.random.key(0), hyper, None)
        expected = metrics["natural_loss"] + beta * metrics["divergence"]
        np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
        losses.append(float(metrics["loss"]))
    assert len(traces) == 1
    assert losses[0] < losses[1]


def test_trades_attacks_the_divergence_and_not_the_loss(config, dataset):
    """Its attacked images are farther in prediction than those of the loss's attack."""
    steps = {"train.attack.steps": 10, "train.attack.step_size": 0.02}
    config = _config(config, "trades", **steps)
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


def _outcome(config, dataset, count=16, **changes):
    """A defence's outcome on a batch, and all that led to it."""
    network = build.network(config)
    state = step.init(config, network, dataset.train)
    images, labels = (jnp.asarray(array[:count]) for array in dataset.train)
    batch = Batch(images, labels, jnp.arange(count))
    rows = jax.tree.map(lambda kept: kept[:count], state.memory)
    hyper = {**build.hyperparameters(config), **changes}

    def forward(variables, images, train):
        return network.apply(variables, images, train=train)

    rest = jax.random.key(1), hyper, None, rows
    return build.defence(config), forward, state.variables, batch, rest


def test_mart_is_what_its_paper_says(config, dataset):
    """Eq. 11 in its textbook form, on images that its attack leaves as they are."""
    config = _config(config, "mart")
    defend, *given, (key, hyper, *rest) = _outcome(config, dataset)
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
    config = _config(config, "free")
    defend, forward, variables, batch, rest = _outcome(config, dataset)

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
    state, _ = _train(_config(config, "free", **steps), dataset)
    moved = np.abs(state.memory["change"]).max(axis=(1, 2, 3)) > 0
    assert moved.all()
    halfway = {**steps, "train.steps": 30}
    halfway |= {"train.chunk_steps": 6, "train.checkpoint_every": 30}
    state, _ = _train(_config(config, "free", **halfway), dataset)
    moved = np.abs(state.memory["change"]).max(axis=(1, 2, 3)) > 0
    assert moved.sum() == 200


def test_atta_goes_on_where_it_was_and_starts_anew(config, dataset):
    """Steps of a tenth of the radius add up, until an example is reset."""
    steps = {"train.steps": 60, "train.chunk_steps": 20, "train.checkpoint_every": 60}
    length = {"train.attack.step_size": 0.01, "train.attack.warmup": 0.0}
    config = _config(config, "atta", **{**steps, **length, "defence.reset": 3})
    state, _ = _train(config, dataset)
    np.testing.assert_array_equal(state.memory["visits"], 3)
    defend, forward, variables, batch, rest = _outcome(config, dataset)
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
    config = _config(config, "adversarial")
    defend, forward, variables, batch, rest = _outcome(config, dataset)
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


def test_an_attack_that_a_defence_cannot_use_is_refused(config):
    for case, key, value, said in (
        ("free", "defence.attack", "pgd", r"defence.attack='pgd' .*use one of fgsm wi"),
        ("atta", "defence.attack", "fgsm", r"defence.attack='fgsm' .*use one of pgd w"),
        (
            "free",
            "train.attack.random_start",
            True,
            r"start=True .*use False wi",
        ),
        (
            "atta",
            "train.attack.restarts",
            2,
            r"restarts=2 .*use 1 with defence.name",
        ),
    ):
        with pytest.raises(InputError, match=said):
            _config(config.copy_and_resolve_references(), case, **{key: value})


def test_divergence_by_hand():
    first, second = jnp.log(jnp.array([[0.5, 0.5]])), jnp.log(jnp.array([[0.9, 0.1]]))
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    np.testing.assert_allclose(divergence(first, second), [expected], rtol=1e-6)
    np.testing.assert_allclose(divergence(first, first), [0.0], atol=1e-7)


def test_statistics_of_batches_move_in_training_alone(config, dataset):
    config = _config(config, "adversarial:normalised", **{"train.steps": 2})
    network = build.network(config)
    before = step.init(config, network, dataset.train).variables["batch_stats"]
    state, _ = _train(config, dataset, 2)
    after = state.variables["batch_stats"]
    assert all(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )
    images = jnp.asarray(dataset.test.images[:8])
    _, _, same = network.apply(state.variables, images)
    assert bits(same) == bits(state.variables)
    # An attack sees them as they are: one image's logits don't depend on the others.
    alone = network.apply(state.variables, images[:1])[0]
    together = network.apply(state.variables, images)[0]
    np.testing.assert_allclose(alone[0], together[0], rtol=1e-5, atol=1e-6)


def test_the_memory_is_each_example_s_own(config, dataset):
    """400 examples, 20 a step: after 30 steps, each was visited once or twice."""
    steps = {"train.steps": 30, "train.chunk_steps": 5, "train.checkpoint_every": 30}
    config = _config(config, "remembers", **steps)
    for devices in (1, 4):
        state, _ = _train(config, dataset, devices)
        visits = np.asarray(state.memory["visits"])
        assert visits.sum() == 600
        assert set(visits) == {1, 2}
        assert np.abs(state.memory["change"]).max(axis=(1, 2, 3)).min() > 0


def test_an_example_twice_in_a_batch_is_remembered_once(config, dataset):
    """A batch across two epochs may hold one twice; its last row counts."""
    kept = {"rows": jnp.zeros((5, 2))}
    rows = {"rows": jnp.arange(8.0).reshape(4, 2)}
    found = step._remember(kept, jnp.array([3, 1, 3, 0]), rows, None)["rows"]
    np.testing.assert_array_equal(found, [[6, 7], [2, 3], [0, 0], [4, 5], [0, 0]])


def test_a_frozen_teacher_is_read_and_not_changed(config, dataset, monkeypatch):
    def imitates(
        forward, variables, batch, key, hyper, frozen, memory, *, loss, attack
    ):
        """The student's logits go to those of a teacher."""
        teacher, _, _ = forward(frozen, batch.images, False)
        logits, _, variables = forward(variables, batch.images, True)
        value = jnp.square(logits - teacher).mean()
        metrics = {"loss": value, "accuracy": base.accuracy(logits, batch.labels)}
        return value, (variables, memory, metrics)

    entry = Entry(imitates, "imitation", attacks=False)
    monkeypatch.setitem(DEFENCES, "imitates", entry)
    monkeypatch.setitem(CASES, "imitates", {})
    steps = {"train.steps": 60, "train.chunk_steps": 20, "train.checkpoint_every": 60}
    config = _config(config, "imitates", **steps)
    teacher = build.network(config).init(jax.random.key(7), (8, 8, 1))
    before = bits(teacher)
    _, metrics = _train(config, dataset, 2, frozen=teacher)
    assert metrics["loss"][-1] < metrics["loss"][0] / 10
    assert bits(teacher) == before


def test_distillation_by_hand(config, dataset):
    """Cross-entropy with the teacher's softmax at T: its gradient is p - q over T."""
    config = _config(config, "distillation")
    defend, forward, variables, batch, (key, hyper, _, rows) = _outcome(config, dataset)
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


def test_a_teacher_is_trained_first_and_stays_the_same(config, tmp_path):
    """At the same temperature; its digest is the student's, wherever it lies."""
    config = _config(config, "distillation")
    devices, student = jax.devices()[:1], tmp_path / "student"
    run.train_runs([config], [student], devices)
    teacher = folders.load_run(student / "teacher")
    assert teacher.config.defence.name == "natural"
    assert teacher.config.defence.temperature == 5.0
    assert teacher.config.name == f"{config.name} teacher"
    noted = json.loads((student / "data.json").read_text())
    assert noted["teacher"] == files.digest(teacher.variables)
    # Another student of the same teacher, named.
    other = config.copy_and_resolve_references()
    other.defence.teacher, other.seed = str(tmp_path / "moved"), 1
    (student / "teacher").rename(tmp_path / "moved")
    run.train_runs([other], [tmp_path / "other"], devices)
    assert not (tmp_path / "other" / "teacher").exists()
    # Without its teacher's folder, the student's own command would make it anew.
    again = config.copy_and_resolve_references()
    again.defence.teacher = str(tmp_path / "moved")
    run.train_runs([again], [student], devices)
    run.train_runs([config], [student], devices)
    # The network of another training is refused.
    again.defence.teacher = str(tmp_path / "other")
    with pytest.raises(
        InputError, match=r"config.defence.teacher=.*: the teacher is no"
    ):
        run.train_runs([again], [student], devices)
    again.defence.teacher = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"defence.teacher=.*nowhere holds no run"):
        run.train_runs([again], [student], devices)
    other.model.name, other.defence.teacher = "mlp", str(tmp_path / "moved")
    other = configs.resolve(other)
    if teacher.config.model.name != "mlp":
        with pytest.raises(InputError, match=r"a network of another form: teacher and"):
            run.train_runs([other], [tmp_path / "third"], devices)
    # Another function of the same parameters.
    other = again.copy_and_resolve_references()
    other.model.activation = "bounded_relu"
    other.defence.teacher = str(tmp_path / "moved")
    with pytest.raises(
        InputError, match=r"has config.model.activation='relu', and the run 'bounded"
    ):
        run.train_runs([configs.resolve(other)], [tmp_path / "third"], devices)
    assert not (tmp_path / "third").exists()
    with pytest.raises(
        InputError, match=r"loss.name='hinge' .*use one of softmax_cros"
    ):
        _config(config, "distillation", **{"loss.name": "hinge"})


def test_the_moving_average_is_what_is_evaluated(config, tmp_path):
    import advloss

    config = _config(config, "adversarial:sgd")
    run.train_runs([config], [tmp_path / "run"], jax.devices()[:1])
    saved = saved_state(config, tmp_path / "run")
    loaded = advloss.load_run(tmp_path / "run")
    assert bits(loaded.variables) == bits(saved["average"])
    assert bits(saved["average"]) != bits(saved["variables"])


def test_natural_training_is_told_no_attack(config):
    config = _config(config, "natural")
    assert build.hyperparameters(config)["attack"] == {}
    with pytest.raises(TypeError, match="does not attack"):
        build.training_attack(config, build.objective(config))()


def test_a_run_holds_its_folder_while_its_teacher_is_trained(config, tmp_path):
    other = _config(config.copy_and_resolve_references(), "natural")
    config = _config(config, "distillation")
    devices, workdir = jax.devices()[:1], tmp_path / "run"
    found = []

    def save(*arguments):
        with pytest.raises(InputError) as refused:
            run.train_runs([other], [workdir], devices)
        found.append(str(refused.value))
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", save)
        with pytest.raises(KeyboardInterrupt):
            run.train_runs([config], [workdir], devices)
    assert "belongs to another config: defence.name: 'distillation'" in found[0]
    run.train_runs([config], [workdir], devices)
    assert (workdir / "teacher").exists()


def test_a_folder_named_teacher_is_only_a_student_s_own(config, tmp_path):
    (tmp_path / "run" / "teacher").mkdir(parents=True)
    (tmp_path / "run" / "teacher" / "thesis.tex").write_text("precious")
    for case in ("natural", "distillation"):
        own = _config(config.copy_and_resolve_references(), case)
        with pytest.raises(InputError, match=r"is not empty and holds no run"):
            run.train_runs([own], [tmp_path / "run"], jax.devices()[:1])


def test_another_teacher_of_its_own_is_told(config, tmp_path):
    """On another number of devices gradients are added in another order."""
    config, workdir = _config(config, "distillation"), tmp_path / "run"
    run.train_runs([config], [workdir], jax.devices()[:1])
    (workdir / "teacher").rename(tmp_path / "kept")
    with pytest.raises(InputError, match=r"run/teacher is not the one .*put that back"):
        run.train_runs([config], [workdir], jax.devices()[:2])
    (workdir / "teacher").rename(tmp_path / "anew")
    run.train_runs([config], [workdir], jax.devices()[:1])


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("~/x", r"config.defence.teacher=~/x is not valid: write out what ~"),
        ("gs://x/y", r"config.defence.teacher=.* use a folder of this machine"),
        ("z" * 4000, r"config.defence.teacher=z.* use a path of at most"),
    ],
)
def test_a_teacher_is_a_folder(config, tmp_path, teacher, said):
    config = _config(config, "distillation", **{"defence.teacher": teacher})
    with pytest.raises(InputError, match=said):
        run.train_runs([config], [tmp_path / "run"], jax.devices()[:1])
    assert not (tmp_path / "run").exists()


def test_a_key_that_changes_nothing_in_training_is_said(config):
    natural, against = (
        _config(config.copy_and_resolve_references(), case)
        for case in ("natural", "adversarial")
    )
    student = _config(config.copy_and_resolve_references(), "distillation")
    for run_of, key, said in (
        (natural, "train.attack.steps", "name=natural attacks no batch"),
        (natural, "defence.attack", "name=natural attacks no batch"),
        (student, "train.attack.warmup", "name=distillation attacks no batch"),
        (against, "train.validation.every", "train.validation.examples=0"),
    ):
        with pytest.warns(UserWarning, match=f"config.{key} changes nothing: .*{said}"):
            idle.warn([run_of], [key])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        idle.warn([natural, against], ["train.attack.steps", "seed"])
        idle.warn([student], ["defence.label_smoothing", "defence.awp"])


def _own(change):
    """A defence that gives what `change` makes of a right outcome."""

    def own(forward, variables, batch, key, hyper, frozen, memory, *, loss, attack):
        logits, _, variables = forward(variables, batch.images, True)
        value = loss(logits, batch.labels, **hyper["loss"]).mean()
        metrics = {"loss": value, "accuracy": base.accuracy(logits, batch.labels)}
        return change(value, variables, memory, metrics)

    return own


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v, a, m, t: (v, (a, t)), r"gives no \(loss, \(variables, memory, metr"),
        (lambda v, a, m, t: v, r"gives no \(loss, "),
        (lambda v, a, m, t: (v, (a, m, {"loss": v})), "gives no metrics loss and accu"),
        (lambda v, a, m, t: (v, (a, m, None)), "gives no metrics loss and accuracy"),
        (lambda v, a, m, t: (v[None], (a, m, t)), "gives the loss that is no scalar"),
        (lambda v, a, m, t: (v > 0, (a, m, t)), "gives a loss that is no float"),
        (lambda v, a, m, t: (v, (a, m, {**t, "x": "a"})), "gives x that is no scalar"),
        (
            lambda v, a, m, t: (v, (a, m, {**t, "epsilon": v})),
            "gives a metric epsilon, as training itself does: rename it",
        ),
        (lambda v, a, m, t: (v, ({}, m, t)), "gives variables without batch_stats"),
        (lambda v, a, m, t: (v, (None, m, t)), "gives no variables"),
        (lambda v, a, m, t: (v, (a, {}, t)), "gives a memory of another form"),
        (lambda v, a, m, t: 1 / 0, r"the defence fails \(ZeroDivisionError: division"),
    ],
)
def test_a_defence_of_one_s_own_is_held_to_the_seam(
    config, dataset, monkeypatch, change, said
):
    entry = Entry(_own(change), "own", attacks=False, memory=_nothing_yet)
    monkeypatch.setitem(DEFENCES, "own", entry)
    config.defence.name, config.model.name = "own", "normalised"
    with pytest.raises(InputError, match=rf"config.defence.name='own'.*{said}"):
        _train(configs.resolve(config), dataset)


@pytest.mark.parametrize("shape", [(), (3,), (3, 0)])
def test_a_memory_is_of_every_example(config, dataset, monkeypatch, shape):
    entry = Entry(
        _own(lambda v, a, m, t: (v, (a, m, t))),
        "own",
        attacks=False,
        memory=lambda split: {"kept": jnp.zeros(shape)},
    )
    monkeypatch.setitem(DEFENCES, "own", entry)
    config.defence.name = "own"
    with pytest.raises(InputError, match=r"its memory holds an array .* use .examp"):
        _train(configs.resolve(config), dataset)


def test_a_memory_that_fails_is_one_line(config, dataset, monkeypatch):
    entry = Entry(_own(lambda *given: given), "own", memory=lambda split: 1 / 0)
    monkeypatch.setitem(DEFENCES, "own", entry)
    config.defence.name = "own"
    with pytest.raises(InputError, match=r"'own': the defence fails \(ZeroDivisionEr"):
        _train(configs.resolve(config), dataset)


def test_what_a_defence_holds_is_a_setting(config, monkeypatch):
    entry = Entry(_own(lambda *given: given), "own", held={"nix": 1})
    monkeypatch.setitem(DEFENCES, "own", entry)
    config.defence.name = "own"
    with pytest.raises(InputError, match="own holds nix, which is a setting of no att"):
        configs.resolve(config)


@pytest.mark.parametrize("within", [jax.jit, jax.checkpoint])
def test_perturbed_weights_want_the_attack_outside(
    config, dataset, monkeypatch, within
):
    def own(forward, variables, batch, key, hyper, frozen, memory, *, loss, attack):
        def images(natural):
            return attack(
                base.frozen_classifier(forward, variables),
                attacks.example_keys(key, batch.indices),
                natural,
                batch.labels,
                **hyper["attack"],
            ).images

        logits, _, variables = forward(variables, within(images)(batch.images), True)
        value = loss(logits, batch.labels, **hyper["loss"]).mean()
        metrics = {"loss": value, "accuracy": base.accuracy(logits, batch.labels)}
        return value, (variables, memory, metrics)

    monkeypatch.setitem(DEFENCES, "own", Entry(own, "own"))
    config.defence.name, config.defence.awp = "own", 0.01
    with pytest.raises(
        InputError, match=r"defence.awp is not valid .* call it outside"
    ):
        _train(configs.resolve(config), dataset)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_weights_are_perturbed_whatever_the_size_of_the_gradient(size):
    weights = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    gradient = jnp.array([[0.0, 0.6], [0.8, 0.0]])
    np.testing.assert_allclose(
        awp._step(0.1, weights, size * gradient), 0.5 * gradient, rtol=1e-5
    )


def test_distillation_heeds_smoothing(config, dataset):
    """Its targets are the teacher's, softened: q' = (1 - s) q + s / classes."""
    config = _config(config, "distillation", **{"defence.label_smoothing": 0.3})
    defend, forward, variables, batch, (key, hyper, _, rows) = _outcome(config, dataset)
    teacher = build.network(config).init(jax.random.key(7), (8, 8, 1))
    value, _ = defend(forward, variables, batch, key, hyper, teacher, rows)
    p, q = (
        np.asarray(jax.nn.softmax(forward(tree, batch.images, False)[0] / 5.0))
        for tree in (teacher, variables)
    )
    p = 0.7 * p + 0.3 / p.shape[1]
    np.testing.assert_allclose(value, -(p * np.log(q)).sum(-1).mean(), rtol=1e-5)
