"""Results of what is one's own, which may be another thing under its name by now."""

import contextlib
import functools
import shutil
import sys
import types
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import small, to_evaluate

from advloss import config as configs
from advloss import losses
from advloss.attacks import ATTACKS, Round
from advloss.errors import InputError
from advloss.evaluation import results
from advloss.evaluation.run import evaluate_run
from advloss.runtime import environment
from advloss.training.run import train_runs

pytestmark = pytest.mark.usefixtures("compiled_quickly")
_NOISE, _PGD = ATTACKS["noise"], ATTACKS["pgd"]


@pytest.fixture
def workdir(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def _evaluate(workdir, **changes):
    config = to_evaluate(workdir, **changes)
    (found,) = evaluate_run(config, workdir, jax.devices()[:1])
    return found


def _shown(workdir):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return results.load(workdir)


def _files(workdir, attack):
    return [*(workdir / results.FOLDER).glob(f"{attack}-*")]


def _moved(by):
    """An attack of one's own, that adds the same to every pixel."""

    def moved(classifier, keys, images, labels, *, epsilon, **others):
        changed = jnp.clip(images + by * epsilon, 0, 1)
        given = classifier, keys, images, labels
        found = _NOISE.function(*given, epsilon=epsilon, **others)
        distance = jnp.abs(changed - images).max(axis=(1, 2, 3))
        return found._replace(images=changed, worst_images=changed, distance=distance)

    moved.__module__ = "mine"
    return moved


def test_an_attack_of_one_s_own_that_was_changed_is_measured_again(
    workdir, monkeypatch
):
    """Its name and its settings are what they were; its first result stays."""
    for by in (0.5, 0.5, 1.0, 0.5):
        entry = _NOISE._replace(function=_moved(by))
        monkeypatch.setitem(ATTACKS, "noise", entry)
        found = _evaluate(
            workdir, attacks=("noise",), noise__epsilon=0.1, noise__draws=1
        )
        np.testing.assert_allclose(found.distance.max(), 0.1 * by, atol=1e-6)
        (shown,) = [m for m in _shown(workdir) if m.attack == "noise"]
        assert shown.identity == found.identity
    assert len(_files(workdir, "noise")) == 2
    with pytest.warns(UserWarning, match="left out: what noise found before code of"):
        results.load(workdir)


def _slower(by, **changes):
    """The library's PGD in disguise, with shorter steps."""

    @functools.wraps(_PGD.function)
    def attack(*given, step_size, **settings):
        return _PGD.function(*given, step_size=by * step_size, **settings)

    return _PGD._replace(function=attack, **changes)


@pytest.mark.parametrize(
    "second",
    [
        _slower(0.5),
        _slower(0.9, rounds=lambda *_: [Round({"random_start": False})]),
    ],
    ids=["function", "rounds"],
)
def test_what_wraps_an_attack_of_the_library_is_one_s_own(workdir, monkeypatch, second):
    for entry in (_slower(0.9), _slower(0.9), second):
        monkeypatch.setitem(ATTACKS, "pgd", entry)
        _evaluate(workdir, pgd__steps=2)
    assert len(_files(workdir, "pgd")) == 3  # One is `trained`'s.


def test_what_an_attack_left_before_it_was_changed_counts_nowhere(workdir, monkeypatch):
    for by in (0.5, 0.5, 1.0):
        entry = _NOISE._replace(function=_moved(by))
        monkeypatch.setitem(ATTACKS, "noise", entry)
        config = to_evaluate(
            workdir, attacks=("noise", "fgsm"), survivors_only=True, noise__epsilon=0.1,
            fgsm__epsilon=0.1,
        )  # fmt: skip
        made = evaluate_run(config, workdir, jax.devices()[:1])
    (group, _) = results.groups(_shown(workdir))
    assert {each.path for each in group} == {each.path for each in made}


def test_a_loss_of_one_s_own_that_was_changed_is_climbed_again(workdir, monkeypatch):
    for scale in (1.0, 1.0, -1.0):

        def mine(logits, labels, *, margin, scale=scale):
            return scale * losses.hinge(logits, labels, margin=margin)

        mine.__module__ = "mine"
        entry = losses.LOSSES["hinge"]._replace(function=mine)
        monkeypatch.setitem(losses.LOSSES, "hinge", entry)
        _evaluate(workdir, pgd__objective="hinge", pgd__steps=2)
    assert len(_files(workdir, "pgd")) == 3  # One is `trained`'s.


def _signed(sign):
    class Own(nn.Module):
        num_classes: int

        @nn.compact
        def __call__(self, images):
            # Of a number of Python: JAX calls its type weak, till it is saved.
            scale = self.param("scale", lambda key: jnp.asarray(1.0))
            flat = images.reshape(len(images), -1)
            return sign * scale * nn.Dense(self.num_classes)(flat)

    return Own


@pytest.fixture
def module(monkeypatch):
    """In which a config finds a network of one's own, mine:Own."""
    found = types.ModuleType("mine")
    monkeypatch.setitem(sys.modules, "mine", found)
    return found


@pytest.fixture
def train_own(module, digits_dir, tmp_path):
    """Trains a run of such a network, and returns its folder."""

    def train(network):
        module.Own = network
        config = small(digits_dir)
        config.model.name = "mine:Own"
        config.train.steps = config.train.checkpoint_every = 2
        train_runs([configs.resolve(config)], [tmp_path / "own"], jax.devices()[:1])
        return tmp_path / "own"

    return train


def test_a_network_of_one_s_own_that_was_changed_is_attacked_again(train_own, module):
    workdir, found = train_own(_signed(1)), []
    for sign in (1, 1, -1, 1):
        module.Own = _signed(sign)
        told = pytest.warns(UserWarning, match="computes something else than what")
        with told if sign < 0 else contextlib.nullcontext():
            found.append(_evaluate(workdir))
        (shown,) = _shown(workdir)
        assert shown.path == found[-1].path
    assert found[0].path == found[1].path == found[3].path != found[2].path
    assert (found[0].natural != found[2].natural).any()


def test_what_other_versions_traced_is_shown(train_own, module, monkeypatch):
    """It can't be compared with what was traced now."""
    workdir = train_own(_signed(1))
    with monkeypatch.context() as patch:
        patch.setattr(environment, "_PACKAGES", ("numpy",))
        first = _evaluate(workdir)
    module.Own = _signed(-1)
    with pytest.warns(UserWarning, match="computes something else than what"):
        second = _evaluate(workdir)
    groups = results.groups(results.load(workdir))
    assert [[m.path for m in group] for group in groups] == [
        [second.path], [first.path]
    ]  # fmt: skip


def test_a_network_of_one_s_own_that_looks_at_its_batch_is_refused(train_own):
    class Normalised(nn.Module):
        num_classes: int

        @nn.compact
        def __call__(self, images):
            flat = images.reshape(len(images), -1)
            return nn.Dense(self.num_classes)(flat - flat.mean(axis=0, keepdims=True))

    workdir = train_own(Normalised)
    with pytest.raises(InputError, match="it must judge each image by itself"):
        _evaluate(workdir)
