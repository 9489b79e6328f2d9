"""A defence of one's own is held to the seam, and each to what it can use."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from made_defences import Normalised, configure, nothing_yet, train

from advloss import config as configs
from advloss import networks
from advloss.attacks import base as attacks
from advloss.cli import idle
from advloss.defences import DEFENCES, Entry, base
from advloss.errors import InputError
from advloss.networks import NETWORKS

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture
def config(small_config):
    small_config.train.attack.epsilon = 0.1
    return small_config


@pytest.fixture
def normalised(monkeypatch):
    """The name of a network with statistics of batches."""
    monkeypatch.setitem(NETWORKS, "normalised", networks.Entry(Normalised, "BN"))
    return "normalised"


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
    config, dataset, monkeypatch, normalised, change, said
):
    entry = Entry(_own(change), "own", attacks=False, memory=nothing_yet)
    monkeypatch.setitem(DEFENCES, "own", entry)
    config.defence.name, config.model.name = "own", normalised
    with pytest.raises(InputError, match=rf"config.defence.name='own'.*{said}"):
        train(configs.resolve(config), dataset)


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
        train(configs.resolve(config), dataset)


def test_a_memory_that_fails_is_one_line(config, dataset, monkeypatch):
    entry = Entry(_own(lambda *given: given), "own", memory=lambda split: 1 / 0)
    monkeypatch.setitem(DEFENCES, "own", entry)
    config.defence.name = "own"
    with pytest.raises(InputError, match=r"'own': the defence fails \(ZeroDivisionEr"):
        train(configs.resolve(config), dataset)


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
        train(configs.resolve(config), dataset)


def test_an_attack_that_a_defence_cannot_use_is_refused(config):
    fgsm, one_step = {"defence.attack": "fgsm"}, {"train.attack.steps": 1}
    for name, own, key, value, said in (
        ("free", {}, "defence.attack", "pgd", r"attack='pgd' .*use one of fgsm wi"),
        ("atta", one_step, "defence.attack", "fgsm", r"'fgsm' .*use one of pgd w"),
        ("free", fgsm, "train.attack.random_start", True, r"=True .*use False wi"),
        ("atta", one_step, "train.attack.restarts", 2, r"=2 .*use 1 with defence.name"),
    ):
        with pytest.raises(InputError, match=said):
            configure(config.copy_and_resolve_references(), name, **{**own, key: value})


def test_a_key_that_changes_nothing_in_training_is_said(config):
    natural, against = (
        configure(config.copy_and_resolve_references(), name)
        for name in ("natural", "adversarial")
    )
    student = configure(config.copy_and_resolve_references(), "distillation")
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
