"""Configs: what is refused, with the key, the value and what is valid in one line."""

import importlib
import json
import shlex

import pytest
from absl import flags
from conftest import ROOT
from ml_collections import ConfigDict, config_flags

from advloss import config as configs
from advloss.errors import InputError
from advloss.losses import lmcl_margin_bound
from configs import default, quickstart, table2

NAN, INF = float("nan"), float("inf")
WRONG = [
    ("seed", -1),
    ("loss.name", "softmax"),
    ("loss.margin", 0.3),  # softmax_cross_entropy has none.
    ("loss.scale", 10.0),
    ("data.source", "mnist"),
    ("data.num_classes", 1),
    ("model.name", "resnet"),
    ("model.init", "zeros"),
    ("train.steps", 0),
    ("train.steps", 2**31),
    ("train.batch_size", 0),
    ("train.batch_size", -50),
    ("train.learning_rate", 0.0),
    ("train.learning_rate", -1e-3),
    ("train.learning_rate", NAN),
    ("train.learning_rate", INF),
    ("train.schedule", "linear"),
    ("train.chunk_steps", 0),
    ("train.checkpoint_every", 0),
    ("train.checkpoint_every", 75),  # Not a multiple of chunk_steps = 50.
    ("train.attack.name", "fgsm"),
    ("train.attack.objective", "own"),
    ("train.attack.epsilon", -0.1),
    ("train.attack.epsilon", 1.5),
    ("train.attack.epsilon", NAN),
    ("train.attack.step_size", -0.01),
    ("train.attack.step_size", INF),
    ("train.attack.steps", -1),
    ("train.attack.warmup", 1.1),
    ("train.attack.warmup", -0.1),
    ("evaluate.batch_size", 0),
    ("evaluate.examples", -1),
    ("evaluate.attacks", ("pgd", "bim")),
    ("evaluate.pgd.objective", "ce"),
    ("evaluate.pgd.epsilon", 30.0),
    ("evaluate.pgd.step_size", NAN),
    ("evaluate.pgd.steps", -1),
    ("evaluate.seed", -1),
    ("evaluate.attacks", ()),
    ("evaluate.attacks", "pgd"),
    ("evaluate.attacks", ("pgd", 3)),
    ("name", ""),
    ("name", "réseau"),
    ("name", "two\nlines"),
    ("name", 41 * "x"),
    # Of another type:
    ("name", 3),
    ("seed", True),
    ("train.steps", 100.0),
    ("train.steps", "100"),
    ("train.learning_rate", "fast"),
    ("train.attack.random_start", 1),
    ("evaluate.pgd.steps", None),
]
WRONG_IN_ATTACKS = [
    ("pgd", "restarts", 0),
    ("pgd_l2", "epsilon", 101.0),
    ("fgs", "objective_scale", 0.0),
    ("noise", "draws", 0),
    ("penalty", "initial_constant", 0.0),
    ("penalty", "search_steps", -1),
    ("carlini_l2", "learning_rate", INF),
    ("carlini_l2", "confidence", -1.0),
    ("carlini_linf", "decay", 1.5),
    ("carlini_linf", "rounds", -2),
    ("carlini_l0", "share", -0.1),
]


def _set(config, key, value):
    *path, last = key.split(".")
    for part in path:
        config = config[part]
    config[last] = value


def _copy(config):
    """The same values, with none of the types that a ConfigDict would insist on."""
    return ConfigDict(
        {k: _copy(v) if isinstance(v, ConfigDict) else v for k, v in config.items()},
        type_safe=False,
    )


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_wrong_values_are_named(key, value):
    config = _copy(default.get_config())
    _set(config, key, value)
    with pytest.raises(InputError) as caught:
        configs.resolve(config)
    message = str(caught.value)
    assert f"config.{key}={value!r} is not valid: use " in message
    assert "\n" not in message


@pytest.mark.parametrize(("attack", "key", "value"), WRONG_IN_ATTACKS)
def test_wrong_settings_of_attacks(attack, key, value):
    config = default.get_config()
    config.evaluate[attack][key] = value
    config.evaluate.attacks = ("multi_targeted",)
    configs.resolve(config)  # Not asked for, not checked.
    config.evaluate.attacks = ("multi_targeted", attack)
    with pytest.raises(
        InputError, match=f"config.evaluate.{attack}.{key}={value!r} is"
    ):
        configs.resolve(config)


def test_keys_are_those_of_the_default():
    config = default.get_config()
    config.train.learning_rat = 0.1
    with pytest.raises(
        InputError, match=r"config.train.learning_rat=0.1 .* train.learning_rate"
    ):
        configs.resolve(config)
    config = default.get_config()
    del config.train.attack
    with pytest.raises(InputError, match=r"config.train.attack.\w+ is missing"):
        configs.resolve(config)
    with pytest.raises(InputError, match=r"the config is a dict"):
        configs.resolve(default.get_config().to_dict())


def test_names_may_be_joined_by_commas():
    """As the command line gives them: --config.evaluate.attacks=pgd,fgs."""
    config = default.get_config()
    config.evaluate.attacks = ("pgd, fgs", "noise")
    assert configs.resolve(config).evaluate.attacks == ("pgd", "fgs", "noise")


def test_whole_numbers_serve_as_floats():
    config = _copy(default.get_config())
    config.train.learning_rate = 1
    rate = configs.resolve(config).train.learning_rate
    assert (rate, type(rate)) == (1.0, float)


@pytest.mark.filterwarnings("ignore:the load_module")  # ml_collections calls it.
def test_the_command_line_gives_the_same_config_back(monkeypatch):
    config = configs.resolve(quickstart.get_config("lmcl"))
    config.name = "it's mine"
    config.evaluate.attacks = ("pgd", "fgs")
    words = shlex.split(configs.command_line("train", config, "runs/a b"))
    assert words[:4] == ["python", "-m", "experiments.train", "--workdir=runs/a b"]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", words[2:3] + words[4:])  # Read by ml_collections.
    values(words[2:3] + words[4:])
    assert dict(configs.flatten(values.config)) == dict(configs.flatten(config))


@pytest.mark.parametrize(
    ("loss", "key", "value"),
    [
        ("lmcl", "margin", 1.12),
        ("lmcl", "margin", 0.0),
        ("lmcl", "margin", NAN),
        ("lmcl", "scale", -1.0),
        ("lmcl", "scale", INF),
        ("hinge", "margin", -1.0),
        ("hinge", "scale", 10.0),
    ],
)
def test_wrong_hyperparameters_of_losses(loss, key, value):
    config = default.get_config()
    config.loss.name = loss
    config.loss[key] = value
    with pytest.raises(InputError, match=f"config.loss.{key}={value!r} is not valid"):
        configs.resolve(config)


def test_the_margin_bound_follows_the_classes():
    config = default.get_config()
    config.loss.name = "lmcl"
    config.loss.margin = 1.2
    with pytest.raises(InputError, match=r"\(0, 1.111\] for lmcl"):
        configs.resolve(config)
    config.data.num_classes = 3
    assert configs.resolve(config).loss.margin == 1.2 < lmcl_margin_bound(3)


def test_losses_fill_in_their_defaults():
    config = default.get_config()
    assert configs.resolve(config).loss.to_dict() == {
        "name": "softmax_cross_entropy",
        "margin": None,
        "scale": None,
    }
    config.loss.name = "lmcl"
    assert configs.resolve(config).loss.to_dict() == {
        "name": "lmcl",
        "margin": 0.3,
        "scale": 10.0,
    }
    assert config.loss.margin is None


@pytest.mark.parametrize("module", ["default", "quickstart", "table2"])
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


@pytest.mark.parametrize("module", [quickstart, table2])
def test_unknown_variants_are_refused(module):
    with pytest.raises(ValueError, match=r"softmaxx: use one of .*'softmax'"):
        module.get_config("softmaxx")


def test_json_gives_the_same_config_back():
    config = configs.resolve(quickstart.get_config("lmcl"))
    again = configs.from_dict(json.loads(configs.to_json(config)))
    assert dict(configs.flatten(again)) == dict(configs.flatten(config))
    assert configs.training_differences(config, again) == []


def test_differences_that_matter_to_training():
    first = configs.resolve(quickstart.get_config("lmcl"))
    second = configs.resolve(quickstart.get_config("lmcl"))
    second.evaluate.pgd.steps = 7
    second.name = "other"
    assert configs.training_differences(first, second) == []
    second.loss.margin = 0.5
    assert configs.training_differences(first, second) == [
        "loss.margin: 0.3 there, 0.5 here"
    ]
