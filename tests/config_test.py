"""Configs: what is refused, with the key, the value and what is valid in one line."""

import functools
import shlex
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from ml_collections import ConfigDict, FrozenConfigDict

from advloss import config as configs
from advloss import losses
from advloss.attacks import ATTACKS, MINIMUM_NORM, TRAINING_ONLY, example_keys
from advloss.cli import configfile, flags
from advloss.config import build
from advloss.data import SOURCES
from advloss.defences import DEFENCES
from advloss.errors import InputError
from advloss.losses import LOSSES, lmcl_margin_bound
from advloss.networks import ACTIVATIONS, NETWORKS
from advloss.registry import Setting, positive
from configs import default

NAN, INF = float("nan"), float("inf")
WRONG = [
    ("seed", -1),
    ("seed", 2**31),
    ("loss.name", "softmax"),
    ("loss.margin", 0.3),  # softmax_cross_entropy has none.
    ("loss.scale", 10.0),
    ("data.source", "mnist"),
    ("data.num_classes", 1),
    ("model.name", "resnet"),
    ("model.name", "nets:build:more"),
    ("model.depth", 28),  # table1 has none.
    ("model.std", (1.0,)),
    ("model.init", "zeros"),
    ("train.steps", 0),
    ("train.steps", 2**31),
    ("train.batch_size", 0),
    ("train.batch_size", -50),
    ("train.learning_rate", 0.0),
    ("train.learning_rate", -1e-3),
    ("train.learning_rate", NAN),
    ("train.learning_rate", INF),
    ("train.learning_rate", 1e-50),  # 0 and infinite in float32.
    ("train.learning_rate", 1e300),
    ("train.momentum", 1 - 1e-9),
    ("train.attack.epsilon", 1e-320),
    ("train.schedule", "linear"),
    ("train.chunk_steps", 0),
    ("train.checkpoint_every", 0),
    ("train.checkpoint_every", 75),  # Not a multiple of chunk_steps = 50.
    ("defence.name", "none"),
    ("defence.beta", 6.0),  # adversarial training has none.
    ("defence.attack", "carlini_l2"),  # No fixed epsilon.
    ("model.activation", "tanh"),
    ("model.ceiling", 1.0),  # relu has none.
    ("train.optimiser", "lbfgs"),
    ("train.momentum", 1.0),
    ("train.weight_decay", -1e-4),
    ("train.clip_norm", INF),
    ("train.average", 1.0),
    ("train.milestones", (0.75, 0.5)),
    ("train.milestones", (0.5, "late")),
    ("train.milestones", (0.5, None)),
    ("train.attack.draws", 2),  # pgd has none.
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
    ("evaluate.attacks", ("pgd", {})),
    ("evaluate.survivors_only", "yes"),
    ("name", ""),
    ("name", "réseau"),
    ("name", "two\nlines"),
    ("name", 41 * "x"),
    ("name", "   "),
    ("name", "a/b"),
    ("name", "a\\b"),
    ("name", ".hidden"),
    # Of another type:
    ("name", 3),
    ("seed", True),
    ("train.steps", 100.0),
    ("train.steps", "100"),
    ("train.learning_rate", "fast"),
    ("train.attack.random_start", 1),
    ("train.learning_rate", {1, 2}),
    ("train.steps", -(10**100)),
    ("loss.name", ("hinge",)),
    ("evaluate.pgd.steps", None),
]
WRONG_IN_ATTACKS = [
    ("pgd", "restarts", 0),
    ("pgd_l2", "epsilon", 1001.0),
    ("fgsm", "objective_scale", 0.0),
    ("noise", "draws", 0),
    ("lbfgs", "initial_constant", 0.0),
    ("lbfgs", "search_steps", -1),
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
    config.evaluate.attacks = ("multi_targeted",)  # It may be asked for later.
    with pytest.raises(
        InputError, match=f"config.evaluate.{attack}.{key}={value!r} is"
    ):
        configs.resolve(config)


def test_choices_that_entries_share_are_listed_as_names():
    """Of one letter each, where the text of a choice was taken for its names."""
    for key, entry in configs.keys().items():
        listed = entry.valid.text.partition("one of ")[2]
        assert all(len(name) > 1 for name in listed.split(", ") if listed), key
    assert configs.keys()["train.attack.loss"].valid.text == "one of dlr, margin"


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


def test_every_setting_of_a_registry_is_a_key():
    known = configs.keys()
    train = [a for a in ATTACKS.values() if a.kind != MINIMUM_NORM]
    sections = {
        "loss": LOSSES.values(),
        "defence": DEFENCES.values(),
        "model": [*NETWORKS.values(), *ACTIVATIONS.values()],
        "train.attack": train,
    }
    for section, entries in sections.items():
        for entry in entries:
            for key, setting in entry.settings.items():
                declared = known[f"{section}.{key}"]
                assert declared.optional
                assert declared.valid.kind is setting.valid.kind
                assert setting.help in declared.help
    for name, attack in ATTACKS.items():
        own = {k for k in known if k.startswith(f"evaluate.{name}.")}
        measures = attack.kind != TRAINING_ONLY
        assert own == {f"evaluate.{name}.{key}" for key in attack.settings if measures}
    for source in SOURCES.values():
        for key, setting in source.settings.items():
            assert known[f"data.{key}"].default == setting.default
    assert all(key.help and "\n" not in key.help for key in known.values())
    assert dict(configs.flatten(configs.default())).keys() == known.keys()


def test_every_default_is_valid():
    every = tuple(n for n, a in ATTACKS.items() if a.kind != TRAINING_ONLY)
    for name, defence in DEFENCES.items():
        for attack in (n for n, a in ATTACKS.items() if a.kind != MINIMUM_NORM):
            own = defence.own_objective
            if own and ATTACKS[attack].targeted:
                continue
            if defence.only and attack not in defence.only:
                continue
            config = default.get_config()
            config.defence.name, config.defence.attack = name, attack
            config.evaluate.attacks = every
            resolved = configs.resolve(config)
            for key, setting in ATTACKS[attack].settings.items():
                usual = ATTACKS[attack].training.get(key, setting.default)
                if own and key == "random_start":
                    usual = True
                assert resolved.train.attack[key] == usual
            # As a work directory's is when it is read again.
            assert configs.resolve(resolved) == resolved


def test_a_new_entry_needs_no_other_place(monkeypatch):
    """A loss with a setting of its own, entered where losses are entered."""
    setting = Setting(2.0, positive(), "focus on what is hard", swept=True)
    entry = LOSSES["softmax_cross_entropy"]._replace(settings={"gamma": setting})
    monkeypatch.setitem(LOSSES, "focal", entry)
    config = configs.default()
    config.loss.name = "focal"
    assert configs.resolve(config).loss.gamma == 2.0
    assert "loss.gamma" in configs.swept()
    config.loss.gamma = -1.0
    with pytest.raises(InputError, match=r"config.loss.gamma=-1.0 is not valid"):
        configs.resolve(config)


def test_one_key_has_one_meaning(monkeypatch):
    setting = Setting("lecun", positive(), "another meaning of init")
    entry = ACTIVATIONS["relu"]._replace(settings={"init": setting})
    monkeypatch.setitem(ACTIVATIONS, "odd", entry)
    with pytest.raises(ValueError, match="setting init is there already, with"):
        configs.keys()


def test_what_a_sweep_may_vary():
    assert set(configs.swept()) == {
        "seed",
        "loss.margin",
        "loss.scale",
        "defence.beta",
        "defence.temperature",
        "train.learning_rate",
        "train.attack.epsilon",
        "train.attack.step_size",
    }


@pytest.mark.parametrize(
    ("key", "value", "new"),
    [
        ("train.attack.name", "none", "defence.name=natural"),
        ("train.attack.name", "pgd", "defence.name=adversarial defence.attack=pgd"),
        ("evaluate.fgs.epsilon", 0.1, "evaluate.fgsm.epsilon"),
        ("evaluate.penalty.steps", 3, "evaluate.lbfgs.steps"),
        ("evaluate.worst_only", True, "evaluate.survivors_only"),
        ("model.init", "challenge", "'madry'"),
        ("evaluate.pgd.objective", "lead", "'margin'"),
        ("train.attack.objective", "lead", "'margin'"),
        ("evaluate.attacks", ("pgd", "fgs"), "'fgsm'"),
        ("evaluate.attacks", ("penalty",), "'lbfgs'"),
    ],
)
def test_what_version_0_1_called_otherwise(key, value, new):
    config = _copy(default.get_config())
    *path, last = key.split(".")
    section = config
    for part in path:
        if part not in section:
            section[part] = ConfigDict()
        section = section[part]
    section[last] = value
    with pytest.raises(InputError) as caught:
        configs.resolve(config)
    message = str(caught.value)
    assert message.startswith(f"config.{key}={value!r} is ")
    assert f"use {new}" in message
    assert "\n" not in message


def test_suites_stand_for_their_attacks():
    config = default.get_config()
    config.evaluate.attacks = ("strong", "noise", "pgd", "strong_l2")
    assert configs.resolve(config).evaluate.attacks == (
        "pgd", "multi_targeted", "noise", "pgd_l2", "multi_targeted_l2",
    )  # fmt: skip
    # Those of one number stay: their attacks are shown survivors.
    config.evaluate.attacks = ("pgd", "fast", "autoattack_l2")
    resolved = configs.resolve(config)
    assert resolved.evaluate.attacks == ("pgd", "fast", "autoattack_l2")
    assert configs.resolve(resolved) == resolved
    # Their attacks get what there is of so few classes.
    config.data.num_classes = 3
    assert configs.resolve(config).evaluate.apgd_t_l2.loss == "margin"


@pytest.mark.parametrize(
    "name", [n for n, each in ATTACKS.items() if each.kind != MINIMUM_NORM]
)
def test_every_attack_within_a_radius_can_train(name):
    config = configs.default()
    config.defence.attack = name
    config = configs.resolve(config)
    attack = build.training_attack(config, losses.softmax_cross_entropy)
    swept = {k for k, each in ATTACKS[name].settings.items() if each.swept}
    numbers = {key: config.train.attack[key] for key in swept}
    images = jnp.zeros((2, 4, 4, 1))

    def classifier(images):
        return images.reshape(2, 16)[:, :10]

    keys = example_keys(jax.random.key(0), jnp.arange(2))
    call = functools.partial(attack, classifier, **numbers)
    found = jax.eval_shape(call, keys, images, jnp.zeros(2, jnp.int32))
    assert found.images.shape == images.shape


def test_the_range_of_a_key_is_that_of_every_entry():
    epsilon = configs.keys()["train.attack.epsilon"]
    assert epsilon.valid.text == "a number in [0, 1], or a number in [0, 100]"


def test_an_unset_training_attack_takes_its_own_defaults():
    config = default.get_config()
    config.defence.attack = "fgsm"
    attack = configs.resolve(config).train.attack
    assert (attack.epsilon, attack.steps, attack.random_start) == (0.3, None, False)
    config.train.attack.steps = 3
    with pytest.raises(InputError, match=r"attack.steps=3 .* unset, as fgsm has no st"):
        configs.resolve(config)


def test_milestones_are_needed_where_they_are_used():
    config = default.get_config()
    config.train.milestones = ()
    configs.resolve(config)
    config.train.schedule = "piecewise"
    with pytest.raises(InputError, match=r"config.train.milestones=\(\) is not valid"):
        configs.resolve(config)


def test_odd_configs():
    config = default.get_config()
    usual = configs.resolve(config).to_dict()
    assert configs.resolve(FrozenConfigDict(config)).to_dict() == usual
    config.lock()
    assert configs.resolve(config).to_dict() == usual
    config = _copy(config)
    config.evaluate.attacks = ["pgd", "fast", "fmn"]
    config.train.learning_rate = np.float64(3e-3)
    config.train.steps = np.int64(600)
    assert configs.resolve(config).to_dict() == usual
    config.train.itself = config
    with pytest.raises(InputError, match=r"config.train.itself contains itself"):
        configs.resolve(config)


@pytest.mark.parametrize(
    "given", [[0.5], (np.float32(0.5),), np.array([0.5]), jnp.array([0.5])]
)
def test_tuples_may_be_lists_or_arrays(given):
    config = default.get_config()
    config.model.name = "resnet8"
    configs.put(config, "model.mean", given)
    found = configs.resolve(config).model.mean
    assert found == (0.5,) and type(found[0]) is float


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.mean", 0.5, "=0.5 is not valid: use finite numbers, .*, as a tuple$"),
        (
            "train.augment.names",
            "crop",
            "='crop' is not valid: .*cutout.*, as a tuple$",
        ),
    ],
)
def test_a_single_value_is_told_to_be_no_tuple(key, value, said):
    config = default.get_config()
    config.model.name = "resnet8"
    configs.put(config, key, value)
    with pytest.raises(InputError, match=f"^config.{key}{said}"):
        configs.resolve(config)


def test_names_may_be_joined_by_commas():
    """As the command line gives them: --config.evaluate.attacks=pgd,fgsm."""
    config = default.get_config()
    config.evaluate.attacks = ("pgd, fgsm", "noise")
    assert configs.resolve(config).evaluate.attacks == ("pgd", "fgsm", "noise")


def test_whole_numbers_serve_as_floats():
    config = _copy(default.get_config())
    config.train.learning_rate = 1
    rate = configs.resolve(config).train.learning_rate
    assert (rate, type(rate)) == (1.0, float)


def test_zero_has_no_sign():
    """Else an attack within -0.0 would be measured beside the same within 0.0."""
    config = _copy(default.get_config())
    config.evaluate.pgd.epsilon = -0.0
    assert str(configs.resolve(config).evaluate.pgd.epsilon) == "0.0"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "it's mine", "evaluate.attacks": ("pgd", "fgsm")},
        {"train.milestones": (0.1, 0.9), "train.attack.steps": 7},
        {"defence.attack": "pgd_l2", "train.attack.epsilon": 0.3},
        {"defence.attack": "fgsm", "model.activation": "bounded_relu"},
        {"loss.name": "hinge", "loss.margin": 1.0, "evaluate.survivors_only": True},
    ],
)
def test_the_command_line_gives_the_same_config_back(changes, monkeypatch):
    config = default.get_config()
    for key, value in changes.items():
        _set(config, key, value)
    config = configs.resolve(config)
    words = shlex.split(configs.command_line("train", config, "runs/a b"))
    assert words[:4] == ["python", "-m", "experiments.train", "--workdir=runs/a b"]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    said = flags.split(("config",), words[4:])
    assert not said.words
    again = configfile.load(said.flags["config"])
    configfile.assign(again, said.keys)
    assert configs.resolve(again).to_dict() == config.to_dict()


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
        "multiplier": None,
        "scale": None,
    }
    config.loss.name = "lmcl"
    assert configs.resolve(config).loss.to_dict() == {
        "name": "lmcl",
        "margin": 0.3,
        "multiplier": None,
        "scale": 10.0,
    }
    assert config.loss.margin is None


@pytest.mark.parametrize(
    ("loss", "defence", "name"),
    [
        ("softmax_cross_entropy", "adversarial", "softmax"),
        ("softmax_cross_entropy", "natural", "softmax_natural"),
        ("lmcl", "trades", "lmcl_trades"),
        ("he", "free", "he_free"),
    ],
)
def test_a_run_without_a_name_is_called_by_loss_and_defence(loss, defence, name):
    config = _copy(default.get_config())
    assert config.name is None
    config.loss.name, config.defence.name = loss, defence
    config.defence.attack = "fgsm" if defence == "free" else "pgd"
    resolved = configs.resolve(config)
    assert resolved.name == name
    assert "--config.name" not in configs.command_line("train", resolved, "w")
    config.name = "mine"
    assert configs.resolve(config).name == "mine"


def test_a_run_of_ones_own_loss_needs_a_name_where_the_losses_is_none(monkeypatch):
    config = _copy(default.get_config())
    config.loss.name = "a/b"
    monkeypatch.setitem(LOSSES, "a/b", LOSSES["hinge"]._replace(title="A, B"))
    with pytest.raises(InputError, match=r"config.name='a/b' is not valid: use 1 to"):
        configs.resolve(config)
