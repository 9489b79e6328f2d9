"""`advloss.evaluate` compiles a network once, sees what changed, and keeps nothing."""

import gc
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_linear import (
    COUNT,
    QUICK,
    WEIGHTS,
    Module,
    linear,
    linear_images,
    linear_labels,
)

import advloss
from advloss import losses
from advloss.errors import InputError
from advloss.evaluation import front

pytestmark = pytest.mark.usefixtures("compiled_quickly", "one_device")


@pytest.fixture(scope="module")
def images():
    return linear_images()


@pytest.fixture(scope="module")
def labels(images):
    return linear_labels(images)


def test_a_network_is_compiled_once(images, labels):
    traced = []

    def classifier(x):
        # Of one image alone every call looks at the network anew.
        traced.extend([x.shape] * (isinstance(x, jax.core.Tracer) and len(x) > 1))
        return linear(x)

    how = {**QUICK, "attacks": "strong", "batch_size": 20}
    front.evaluate(classifier, images, labels, epsilon=0.01, **how)
    once = len(traced)
    assert once > 0
    # A curve of other radii, other values, another seed; the batches are as large.
    front.evaluate(classifier, images, labels, epsilon=[0.02, 0.03], **how)
    front.evaluate(classifier, images**2, labels, epsilon=0.02, seed=3, **how)
    assert len(traced) == once


def _held_networks():
    """Somebody's networks in a few guises, and their weights."""

    class Network:
        def __init__(self):
            self.weights = jnp.asarray(WEIGHTS + 0)

        def __call__(self, images):
            return (images - 0.5).reshape(len(images), -1) @ self.weights

        def logits(self, images):
            return self(images)

    made = [Network() for _ in range(4)]
    first, second, third, fourth = made
    module = Module(), {"params": {"Dense_0": {"kernel": fourth.weights}}}
    return [first, second.logits, jax.jit(third.__call__), module], made


def test_a_network_is_not_kept(images, labels):
    """Neither by what was compiled for it nor by JAX: a loop over many ends."""

    def attack():
        networks, owners = _held_networks()
        for network in networks:
            for objective in ("margin", lambda logits, _: logits[:, 0]):
                front.evaluate(
                    network, images, labels, objective=objective, attacks="fgsm",
                    progress=False, devices=jax.devices()[:2],
                )  # fmt: skip
        return [weakref.ref(owner.weights) for owner in owners]

    held = attack()
    gc.collect()
    assert [weights() is None for weights in held] == [True] * 4


def test_a_method_is_compiled_once(images, labels):
    """Though every look at it gives a new object."""

    class Network:
        traced = 0

        def logits(self, images):
            self.traced += len(images) > 1
            return linear(images)

    network, counts = Network(), []
    for _ in range(2):
        front.evaluate(network.logits, images, labels, attacks="fgsm", progress=False)
        counts.append(network.traced)
    assert counts[0] == counts[1] > 0


def test_an_objective_of_a_loss_that_was_entered_later(images, labels, monkeypatch):
    """Its name is an objective; entered anew, it is another."""
    found = []
    for sign in (1.0, -1.0):
        loss = losses.Loss(lambda *given, s=sign: s * losses.margin(*given), "x", "y")
        monkeypatch.setitem(losses.LOSSES, "mine", loss)
        how = {**QUICK, "attacks": "fgsm", "epsilon": 0.03, "objective": "mine"}
        del how["steps"]
        found.append(front.evaluate(linear, images, labels, **how).robust_accuracy)
    assert found[0] < found[1]
    monkeypatch.delitem(losses.LOSSES, "mine")
    with pytest.raises(InputError, match="objective='mine' is not valid: use one of"):
        front.evaluate(linear, images, labels, objective="mine", **QUICK)


def test_what_changed_behind_equal_objects_is_seen(images, labels, monkeypatch):
    """A module's own variable, a loss's, an equal classifier; and no hash is needed."""
    held = {"sign": 1.0}

    class Signed(nn.Module):
        @nn.compact
        def __call__(self, images):
            return held["sign"] * Module(name="own")(images)

    class Equal:
        def __init__(self, sign):
            self.sign = sign

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 0

        def __call__(self, images):
            return self.sign * linear(images)

    class Objective:
        __hash__ = None

        def __call__(self, logits, labels):
            return held["sign"] * losses.margin(logits, labels)

    def loss(logits, labels):
        return held["sign"] * losses.margin(logits, labels)

    monkeypatch.setitem(losses.LOSSES, "mine", losses.Loss(loss, "mine", "linear"))
    variables = {"params": {"own": {"Dense_0": {"kernel": WEIGHTS}}}}
    objective, equal = Objective(), {sign: Equal(sign) for sign in (1.0, -1.0)}
    found = {1.0: [], -1.0: []}
    for held["sign"], rows in found.items():
        for classifier, chosen in (
            ((Signed(), variables), "margin"),
            (equal[held["sign"]], "margin"),
            (linear, "mine"),
            (linear, objective),
        ):
            how = {"epsilon": 0.03, "attacks": "fgsm", "objective": chosen}
            made = front.evaluate(classifier, images, labels, progress=False, **how)
            rows.append(made.robust_accuracy[0])
    assert found[1.0] == [found[1.0][0]] * 4
    changed = np.array(found[-1.0]) - found[1.0]
    assert (changed[:2] < 0).all()
    assert (changed[2:] > 0).all()


def test_weights_that_changed_behind_the_same_function_are_seen():
    """As in a notebook, where a function reads a variable that is trained on."""
    held = {"sign": 1.0}
    images = np.random.default_rng(0).uniform(0.2, 0.8, (6, 2, 2, 1))
    images = images.astype(np.float32)
    labels = (images.sum(axis=(1, 2, 3)) > 2).astype(np.int32)

    def classifier(images):
        logit = held["sign"] * (images.sum(axis=(1, 2, 3)) - 2)
        return jnp.stack([-logit, logit], axis=-1)

    found = []
    for held["sign"] in (1.0, -1.0):
        result = advloss.evaluate(
            classifier, images, labels, epsilon=0.0, attacks="fgsm", progress=False
        )
        found.append(result.natural_accuracy)
    assert found == [1.0, 0.0]


def test_a_threshold_that_changed_behind_the_same_function_is_seen():
    held = {"threshold": 0.60}
    images = np.full((4, 2, 2, 1), 0.62, np.float32)

    def classifier(images):
        above = images.mean(axis=(1, 2, 3)) - held["threshold"]
        return jax.nn.sigmoid(1e4 * jnp.stack([above, -above], axis=-1))

    found = []
    for held["threshold"] in (0.60, 0.64):
        result = advloss.evaluate(
            classifier, images, np.zeros(4, int), attacks="noise", progress=False
        )
        found.append(result.natural_accuracy)
    assert found == [1.0, 0.0]


def test_an_attack_that_is_entered_anew_is_run(images, labels, monkeypatch):
    from advloss.attacks import ATTACKS, Round, direct, example_keys, pgd, settings

    monkeypatch.setitem(ATTACKS, "mine", ATTACKS["noise"]._replace(settings={}))
    with pytest.raises(InputError, match=r"attacks=mine .* the setting epsilon"):
        front.evaluate(linear, images, labels, attacks="mine", progress=False)
    length = ATTACKS["pgd"].settings["step_size"]
    known = {"step_size": length, **settings.epsilon("linf")}
    held, left = {"length": 0.0}, []

    def mine(*batch, epsilon, step_size, objective=losses.margin):
        length = held["length"] * step_size  # A variable of the function's own.
        how = {"steps": 1, "random_start": False, "objective": objective}
        return pgd.__wrapped__(*batch, epsilon=epsilon, step_size=length, **how)

    entry = ATTACKS["noise"]._replace(function=direct.attack(mine), settings=known)
    monkeypatch.setitem(ATTACKS, "mine", entry._replace(rounds=lambda *_: [Round()]))
    how = {"attacks": "mine", "epsilon": 0.1, "step_size": 0.1, "progress": False}
    keys = example_keys(jax.random.key(0), jnp.arange(COUNT))
    for held["length"] in (0.0, 1.0):
        left.append(front.evaluate(linear, images, labels, **how).robust_accuracy[0])
        alone = entry.function(linear, keys, images, labels, epsilon=0.1, step_size=0.1)
        left.append(1 - alone.success.mean())
    assert left[:2] == pytest.approx([0.9, 0.9])
    assert max(left[2:]) < 0.5
    natural = []
    for name in ("noise", "fgsm"):
        monkeypatch.setitem(ATTACKS, "mine", ATTACKS[name])
        found = front.evaluate(
            linear, images, labels, epsilon=0.05, attacks="mine", progress=False
        )
        natural.append(found.backward_passes.sum())
    assert natural[0] == 0 < natural[1]
