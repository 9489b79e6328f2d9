"""From a config to functions: equal settings give the same objects, compiled once."""

import jax
import pytest

from advloss import attacks, losses, networks
from advloss import config as configs
from advloss.attacks.base import Round
from advloss.config import build
from advloss.evaluation import programs


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
