"""The seam: every defence in one table, and what the step around it promises.

A new defence joins `CASES`. Three of the table are made here: one that remembers, one
that reads a frozen teacher, and a network with statistics of batches.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import bits, saved_state, whole_and_cut
from made_defences import Normalised, configure, nothing_yet, train

from advloss import config as configs
from advloss import losses, networks
from advloss.attacks import base as attacks
from advloss.config import build
from advloss.defences import DEFENCES, Entry, base
from advloss.networks import NETWORKS
from advloss.training import run, step
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
    "remembers": {"train.attack.random_start": False},
}
# These differ from "adversarial" in what a device does by itself alone, ...
_ALIKE = ("adversarial:fgsm", "adversarial:restarts", "adversarial:l2")
# ... these share with others what "trades:normalised" and "trades:awp" share, ...
_SHARED_ALIKE = ("adversarial:normalised", "adversarial:awp")
# ... and these keep nothing from step to step that another case does not keep.
_KEPT_ALIKE = (
    "natural", "trades", "mart", "alp", "adversarial:resnet8", "trades:awp",
)  # fmt: skip


def _each(*without):
    return pytest.mark.parametrize("case", [c for c in CASES if c not in without])


@pytest.fixture
def config(small_config):
    small_config.train.attack.epsilon = 0.1
    return small_config


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


@pytest.fixture(autouse=True)
def entries(monkeypatch):
    monkeypatch.setitem(NETWORKS, "normalised", networks.Entry(Normalised, "BN"))
    entry = Entry(remembers, "remembers", memory=nothing_yet)
    monkeypatch.setitem(DEFENCES, "remembers", entry)


def test_every_defence_has_a_case():
    assert {case.partition(":")[0] for case in CASES} == set(DEFENCES)


def _config(config, case, **changes):
    name, _, _ = case.partition(":")
    return configure(config, name, **{**CASES[case], **changes})


def _teacher(config, dataset, case):
    """What the case's defence reads: a network that was trained a little."""
    if not DEFENCES[case.partition(":")[0]].teacher:
        return None
    own = config.copy_and_resolve_references()
    steps = {"train.steps": 80, "train.chunk_steps": 20, "train.checkpoint_every": 80}
    state, _ = train(_config(own, "natural", **steps), dataset)
    return state.variables


@_each()
def test_it_learns(config, dataset, case):
    steps = {"train.steps": 80, "train.chunk_steps": 20, "train.checkpoint_every": 80}
    steps["train.validation.examples"] = 0
    frozen = _teacher(config, dataset, case)
    _, metrics = train(_config(config, case, **steps), dataset, frozen=frozen)
    assert {"loss", "accuracy", "learning_rate", "epsilon"} <= set(metrics)
    assert metrics["accuracy"][-20:].mean() > metrics["accuracy"][:20].mean() + 0.15
    assert metrics["loss"][-20:].mean() < metrics["loss"][:20].mean()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_it_learns_with_every_loss(config, dataset, name):
    steps = {"train.steps": 80, "train.chunk_steps": 20, "train.checkpoint_every": 80}
    changes = {**steps, "loss.name": name, "train.attack.steps": 1}
    _, metrics = train(_config(config, "adversarial", **changes), dataset)
    assert metrics["accuracy"][-20:].mean() > metrics["accuracy"][:20].mean() + 0.15
    assert metrics["loss"][-20:].mean() < metrics["loss"][:20].mean()


@_each(*_ALIKE, *_SHARED_ALIKE)
def test_1_2_and_4_devices_are_one_large_batch(config, dataset, case):
    """2 where they share gradients alone, statistics of batches, or a memory, too."""
    # With SGD: Adam would make a learning rate's difference of a rounding error.
    changes = {"train.optimiser": "sgd", "train.learning_rate": 0.02}
    frozen = _teacher(config, dataset, case)
    config = _config(config, case, **{**changes, "train.steps": 2})
    two = case in ("adversarial", "trades:normalised", "remembers")
    counts = (1, 2, 4) if two else (1, 4)
    one, *several = (train(config, dataset, n, frozen)[0] for n in counts)
    for state in several:
        # What is kept in 8 bits may round to the next one.
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(
                a, b, rtol=2e-3, atol=1 if a.dtype == np.int8 else 2e-5
            ),
            one,
            state,
        )


@_each(*_ALIKE, *_SHARED_ALIKE, *_KEPT_ALIKE)
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


def test_statistics_of_batches_move_in_training_alone(config, dataset):
    config = _config(config, "adversarial:normalised", **{"train.steps": 2})
    network = build.network(config)
    before = step.init(config, network, dataset.train).variables["batch_stats"]
    state, _ = train(config, dataset, 2)
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
        state, _ = train(config, dataset, devices)
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
    _, metrics = train(config, dataset, 2, frozen=teacher)
    assert metrics["loss"][-1] < metrics["loss"][0] / 10
    assert bits(teacher) == before


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
