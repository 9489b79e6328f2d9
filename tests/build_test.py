"""From a config to functions: equal settings give the same objects, compiled once."""

import flax.linen as nn
import jax
import pytest

from advloss import attacks, losses, networks
from advloss import config as configs
from advloss.attacks.base import Round
from advloss.config import build
from advloss.evaluation import programs
from advloss.registry import Setting, number


def _config(**changes):
    config = configs.default()
    config.update_from_flattened_dict(changes)
    return configs.resolve(config)


def _round(config, name):
    """What is compiled for the first round of an attack."""
    adversary = programs.Adversary(
        build.evaluation_attack(config, name), attacks.ATTACKS[name], {}
    )
    target = programs.Target(build.classifier_of(config), {})
    return programs.attack_round(target, adversary, Round(), stop=True)


def test_networks_of_equal_settings_share_what_is_compiled():
    first, second = _config(seed=0), _config(seed=1)
    assert build.network(first) is build.network(second)
    for name in ("pgd", "apgd_t_margin", "fmn"):
        assert _round(first, name) is _round(second, name)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.init": "madry"},
        {"model.activation": "bounded_relu"},
        {"loss.name": "lmcl"},
    ],
)
def test_another_network_is_another_program(changes):
    first, second = _config(), _config(**changes)
    assert build.network(first) is not build.network(second)
    assert _round(first, "pgd") is not _round(second, "pgd")


def test_a_margin_matters_where_the_loss_is_climbed_alone():
    first, second = (
        _config(**{"loss.name": "lmcl", "loss.margin": m}) for m in (0.1, 0.3)
    )
    assert build.network(first) is build.network(second)
    assert _round(first, "pgd") is not _round(second, "pgd")
    assert _round(first, "apgd_t_margin") is _round(second, "apgd_t_margin")


def test_settings_matter():
    first, second = _config(), _config(**{"evaluate.pgd.steps": 3})
    assert _round(first, "pgd") is not _round(second, "pgd")
    assert _round(first, "fmn") is _round(second, "fmn")


def test_what_is_registered_anew_is_taken(monkeypatch):
    """A loss, an attack or a network of the same name may be another one by now."""
    config = _config()
    before = _round(config, "pgd")

    def zero(logits, labels):
        return 0.0 * logits[:, 0]

    entry = losses.LOSSES["softmax_cross_entropy"]
    changed = {**losses.LOSSES, "softmax_cross_entropy": entry._replace(function=zero)}
    with monkeypatch.context() as patched:
        patched.setattr(losses, "LOSSES", changed)
        after = build.evaluation_attack(config, "pgd").keywords["objective"]
        assert float(after(jax.numpy.ones((1, 3)), jax.numpy.zeros(1, int))[0]) == 0.0
        named = _config(**{"evaluate.pgd.objective": "softmax_cross_entropy"})
        after = build.evaluation_attack(named, "pgd").keywords["objective"]
        assert float(after(jax.numpy.ones((1, 3)), jax.numpy.zeros(1, int))[0]) == 0.0
    assert _round(config, "pgd") is before

    class Twice(networks.NETWORKS["mlp"].module):
        pass

    entry = networks.NETWORKS["mlp"]
    dense = _config(**{"model.name": "mlp"})
    old = build.network(dense)
    monkeypatch.setitem(networks.NETWORKS, "mlp", entry._replace(module=Twice))
    assert build.network(dense) is not old

    pgd = attacks.ATTACKS["pgd"]

    def other(*given, **settings):
        return pgd.function(*given, **settings)

    monkeypatch.setitem(attacks.ATTACKS, "pgd", pgd._replace(function=other))
    assert build.evaluation_attack(config, "pgd").func is other


class _Skew(nn.Module):
    """A head of one's own."""

    num_classes: int

    @nn.compact
    def __call__(self, x):
        return 5.0 + nn.Dense(self.num_classes, name="fc3")(x)


def _skew(num_classes, init, name):
    return _Skew(num_classes, name=name)


@pytest.mark.parametrize(
    ("registry", "key", "first", "second"),
    [
        (
            networks.ACTIVATIONS, "model.activation",
            networks.ACTIVATIONS["relu"]._replace(function=jax.nn.relu),
            networks.ACTIVATIONS["relu"]._replace(function=jax.numpy.tanh),
        ),
        (
            networks.INITIALISERS, "model.init",
            networks.INITIALISERS["lecun"], networks.INITIALISERS["madry"],
        ),
        (
            networks.PRECISIONS, "model.precision",
            networks.PRECISIONS["float32"], networks.PRECISIONS["bfloat16"],
        ),
        (networks.HEADS, None, networks.HEADS["linear"], _skew),
    ],
)  # fmt: skip
def test_what_a_network_is_made_of_is_taken_as_it_is_now(
    monkeypatch, registry, key, first, second
):
    """Another part under the same name is another network."""
    entry = losses.LOSSES["softmax_cross_entropy"]._replace(head="mine")
    if key is None:
        monkeypatch.setitem(losses.LOSSES, "softmax_cross_entropy", entry)
    found = []
    for part in (first, second):
        monkeypatch.setitem(registry, "mine", part)
        config = _config(**{"model.name": "mlp", **({key: "mine"} if key else {})})
        network = build.network(config)
        variables = network.init(jax.random.key(0), (4, 4, 1))
        images = jax.random.uniform(jax.random.key(1), (2, 4, 4, 1))
        found.append(network.apply(variables, images)[0])
    assert not jax.numpy.array_equal(*found)


def test_a_part_of_one_s_own_is_never_kept(monkeypatch):
    """What it computes may hang on what its author changes behind it."""
    held = {"sign": 1.0}

    class Signed(networks.NETWORKS["mlp"].module):
        @nn.compact
        def __call__(self, images, *, train=False, axis=None):
            found = super().__call__(images, train=train, axis=axis)
            return {**found, "fc3": held["sign"] * found["fc3"]}

    entry = networks.NETWORKS["mlp"]
    monkeypatch.setitem(networks.NETWORKS, "signed", entry._replace(module=Signed))
    config = _config(**{"model.name": "signed"})
    assert build.network(config) is not build.network(config)
    assert not build.is_library_s(config)
    assert build.is_library_s(_config(**{"model.name": "mlp"}))


def test_a_loss_that_is_entered_anew_is_climbed_with_its_own_numbers(monkeypatch):
    """Though its function is the same: others by default, or as it is climbed."""

    def mine(logits, labels, *, sign):
        return sign * losses.margin(logits, labels)

    def entry(default, **climbed):
        valid = Setting(default, number(-9, 9), "a sign")
        return losses.Loss(mine, "mine", "linear", {"sign": valid}, climbed=climbed)

    rounds = []
    for chosen in (entry(1.0), entry(-1.0), entry(1.0, sign=-1.0), entry(1.0)):
        monkeypatch.setitem(losses.LOSSES, "mine", chosen)
        named = _config(**{"evaluate.pgd.objective": "mine"})
        rounds.append(_round(named, "pgd"))
    assert rounds[0] is rounds[3]
    assert rounds[0] is not rounds[1] and rounds[0] is not rounds[2]


@pytest.mark.parametrize("what", ["loss", "attack"])
def test_what_changed_behind_an_entry_is_another_program(monkeypatch, what):
    held = {"sign": 1.0}

    def loss(logits, labels):
        return held["sign"] * losses.margin(logits, labels)

    def attack(*given, epsilon, **settings):
        return attacks.pgd(*given, epsilon=held["sign"] * epsilon, **settings)

    pgd = attacks.ATTACKS["pgd"]
    monkeypatch.setitem(losses.LOSSES, "mine", losses.Loss(loss, "mine", "linear"))
    monkeypatch.setitem(attacks.ATTACKS, "mine", pgd._replace(function=attack))
    name = "pgd" if what == "loss" else "mine"
    rounds = []
    for held["sign"] in (1.0, 0.5, 1.0):
        rounds.append(_round(_config(**{f"evaluate.{name}.objective": "mine"}), name))
    assert rounds[0] is not rounds[1]
    assert rounds[0] is rounds[2]
