"""The configs in configs/: valid, and the protocols that they say they are."""

import importlib

import numpy as np
import pytest

from advloss import config as configs
from advloss import optimisers
from advloss.cli import members
from configs import (
    cifar10,
    default,
    fashion_mnist,
    lmcl_sweep,
    paper,
    quickstart,
    recipe,
    table2,
)


@pytest.mark.parametrize("module", ["default", "quickstart", "table2", "cifar10"])
def test_every_config_is_valid_and_has_the_default_keys(module):
    module = importlib.import_module(f"configs.{module}")
    names = getattr(module, "ROWS", getattr(module, "VARIANTS", None))
    keys = set(dict(configs.flatten(default.get_config())))
    for arguments in [(name,) for name in names] if names else [()]:
        config = configs.resolve(module.get_config(*arguments))
        assert set(dict(configs.flatten(config))) == keys


@pytest.mark.parametrize(
    ("row", "loss", "margin"),
    [
        ("hinge", "hinge", 1.0),
        ("softmax", "softmax_cross_entropy", None),
        ("lmcl_m0.1", "lmcl", 0.1),
        ("lmcl_m0.3", "lmcl", 0.3),
        ("lmcl_m0.5", "lmcl", 0.5),
        ("lmcl_m1.11", "lmcl", 1.11),
    ],
)
def test_table_2_is_the_papers_protocol(row, loss, margin):
    config = configs.resolve(table2.get_config(row))
    assert (config.loss.name, config.loss.margin) == (loss, margin)
    assert config.loss.scale == (10 if loss == "lmcl" else None)
    train, attack, pgd = config.train, config.train.attack, config.evaluate.pgd
    assert (train.steps, train.batch_size, train.learning_rate) == (100_000, 50, 1e-4)
    assert (attack.steps, attack.step_size, attack.epsilon) == (40, 0.01, 0.3)
    assert (pgd.steps, pgd.step_size, pgd.epsilon) == (100, 0.01, 0.3)
    assert config.data.source == "tfds"


def _cifar10(row):
    """The config of a row, but for its network."""
    config = cifar10.get_config(row)
    config.model = default.get_config().model
    return configs.resolve(config)


@pytest.mark.parametrize(
    ("row", "key", "value"),
    [
        ("pgd", "defence.name", "adversarial"),
        ("trades", "defence.beta", 6.0),
        ("mart", "defence.beta", 5.0),
        ("awp", "defence.awp", 0.01),
        ("he", "loss.margin", 0.2),
        ("hinge", "loss.name", "hinge"),
        ("lmcl", "loss.scale", 10.0),
    ],
)
def test_cifar10_is_the_literatures_protocol(row, key, value):
    config = _cifar10(row)
    assert dict(configs.flatten(config))[key] == value
    assert config.name == row
    train, attack = config.train, config.train.attack
    assert (train.batch_size, train.learning_rate, train.momentum) == (128, 0.1, 0.9)
    assert (train.optimiser, train.weight_decay) == ("sgd", 5e-4)
    assert (train.augment.names, train.augment.padding) == (("crop", "flip"), 4)
    assert (attack.steps, attack.warmup, attack.random_start) == (10, 0, True)
    assert (attack.epsilon, attack.step_size) == (8 / 255, 2 / 255)
    assert config.evaluate.attacks == ("pgd", "fast", "autoattack")
    assert (config.evaluate.pgd.steps, config.evaluate.pgd.step_size) == (20, 2 / 255)
    assert (config.evaluate.fmn.step_size, config.evaluate.pgd_l2.epsilon) == (1, 2)
    for name in ("pgd", "apgd", "apgd_t", "apgd_margin", "fab_t", "square", "fmn"):
        assert config.evaluate[name].epsilon == 8 / 255
    assert config.evaluate.fab.radius == 8 / 255
    # The rate falls at the epochs 100 and 105 of 110.
    epoch = 50_000 / 128
    factor = optimisers.SCHEDULES[train.schedule](train.steps, train.milestones)
    for at, expected in ((99.9, 1.0), (100.1, 0.1), (104.9, 0.1), (105.1, 0.01)):
        np.testing.assert_allclose(factor(int(at * epoch)), expected, rtol=1e-5)
    assert abs(train.steps - 110 * epoch) < 1


def test_cifar10_on_a_laptop_trains_by_one_step():
    config = _cifar10("laptop")
    assert config.defence.attack == "n_fgsm"
    assert config.train.attack.epsilon == 8 / 255
    assert config.train.validation.examples > 0
    assert config.train.steps * config.train.batch_size <= 10 * 50_000


@pytest.mark.parametrize("module", [cifar10, quickstart, recipe, table2])
def test_unknown_variants_are_refused(module):
    with pytest.raises(ValueError, match=r"softmaxx: use one of .*'(softmax|pgd)'"):
        module.get_config("softmaxx")


@pytest.mark.parametrize("budget", paper.BUDGETS)
def test_studies_name_the_networks_that_they_take(budget):
    for name in paper.PARTS:
        config = paper.study((name,), budget)
        assert [text.split()[0] for text in config.networks] == [
            n for n in paper.NETWORKS if n in paper.PARTS[name]
        ]
        assert config.parts == (name,)
        assert config.budget.startswith(budget)
    everything = paper.get_config(budget)
    assert len(everything.networks) == len(paper.NETWORKS)
    for name in paper.NETWORKS:
        configs.resolve(paper.network(name, budget))


def test_every_figure_and_table_has_a_config():
    for name in paper.PARTS.keys() - {"section3"}:
        module = importlib.import_module(f"configs.{name}")
        assert module.get_config("smoke").parts == (name,)
        assert f"configs/{name}.py" in module.__doc__


def test_the_undefended_networks_train_naturally():
    for config in (quickstart.get_config("undefended"), paper.network("mlp", "short")):
        assert configs.resolve(config).defence.name == "natural"
    assert quickstart.get_config("undefended").train.steps == 400


@pytest.mark.parametrize("name", paper.NETWORKS)
def test_the_recipe_is_the_laptops_for_longer(name):
    given, studied = (
        dict(configs.flatten(config))
        for config in (recipe.get_config(name), paper.network(name, "laptop"))
    )
    changed = {key for key, value in given.items() if studied[key] != value}
    assert changed == {
        "train.steps", "train.checkpoint_every", "train.keep",
        "train.validation.examples", "train.validation.every",
    }  # fmt: skip
    configs.resolve(recipe.get_config(name))
    assert given["train.steps"] == 16_000
    assert studied["train.steps"] == 6_500


def test_fashion_mnist_is_table_2_within_a_smaller_radius():
    config = fashion_mnist.get_config()
    assert config.parts == ("table2",)
    assert config.data.name == "fashion_mnist"
    assert (config.seeds, config.evaluate.examples) == (3, 1_000)
    assert config.train.attack.epsilon == config.evaluate.pgd.epsilon == 0.1
    assert config.evaluate.apgd_margin.epsilon == config.evaluate.square.epsilon == 0.1
    assert config.evaluate.pgd_l2.epsilon != 0.1
    for network in members.networks(config, config.parts):
        assert network.train.attack.step_size == 0.05


def test_the_quickstart_trains_as_it_did():
    """The numbers that README.md tells were made with these."""
    config = configs.resolve(quickstart.get_config("softmax"))
    train = config.train
    assert (config.defence.name, config.defence.reset) == ("atta", 100)
    assert {key: train[key] for key in ("steps", "batch_size", "learning_rate")} == {
        "steps": 1_200,
        "batch_size": 50,
        "learning_rate": 4e-3,
    }
    assert (train.schedule, train.optimiser, train.momentum) == ("cosine", "adam", 0.9)
    assert (train.weight_decay, train.clip_norm, train.average) == (0, 0, 0)
    attack = train.attack
    assert (attack.epsilon, attack.step_size, attack.steps) == (0.3, 0.15, 2)
    assert (attack.restarts, attack.warmup) == (1, 0.3)


def test_the_sweep_has_its_text():
    assert lmcl_sweep.get_config("quick").sweep.startswith("loss.margin=")
    with pytest.raises(ValueError, match="use one of quick, short, paper"):
        lmcl_sweep.get_config("smoke")
