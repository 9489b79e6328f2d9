"""The config's keys, made from the registries, and what their values may be.

    config = schema.default()                 # an ml_collections.ConfigDict
    config.loss.name = "lmcl"
    config = schema.resolve(config)           # defaults filled in, values checked

A setting of a loss, an attack, a defence, a network, an activation or a data source is
declared in its registry alone. Where several entries share a section, as losses share
`config.loss`, a key is unset (None) until `resolve` fills in the chosen entry's
default; set though the chosen entry lacks it, it is refused.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from advloss import imported, networks
from advloss.attacks import (
    ATTACKS,
    MINIMUM_NORM,
    SUITES,
    TRAINING_ONLY,
    Attack,
    for_classes,
    suite,
)
from advloss.config.checks import check, conform
from advloss.config.keys import (
    GUARDED,
    NAME,
    WARMUP,
    Key,
    augment,
    check_entries,
    evaluation,
    join,
    run,
    shared,
    titles,
    training,
    validation,
    word,
)
from advloss.config.training_attack import hold
from advloss.config.trees import get, invalid, put, put_all
from advloss.data import SOURCES
from advloss.data.augment import settings_of
from advloss.defences import DEFENCES
from advloss.errors import InputError
from advloss.losses import LOSSES
from advloss.networks import ACTIVATIONS, INITIALISERS, NETWORKS, PRECISIONS, own
from advloss.registry import Setting, choice, number, whole


def keys() -> dict[str, Key]:
    """Every key there is, in the config's order.

    Raises:
        InputError: two registries declare one key, or one of several types, or what was
            entered in one is no entry.
    """
    check_entries(ATTACKS)
    trains = {name: attack.trains_with for name, attack in _training().items()}
    measuring = {n: a for n, a in ATTACKS.items() if a.kind != TRAINING_ONLY}
    sections = {
        "": run(),
        "loss.": join(_loss(), _shared(LOSSES)),
        "defence.": join(_defence(), _shared(DEFENCES)),
        "data.": join(_data(), *(source.settings for source in SOURCES.values())),
        "model.": join(_model(), _shared({**NETWORKS, **ACTIVATIONS})),
        "train.": training(),
        "train.attack.": join(shared(trains), WARMUP),
        "train.augment.": augment(),
        "train.validation.": validation(),
        "evaluate.": evaluation([*measuring, *SUITES]),
        **{f"evaluate.{name}.": attack.settings for name, attack in measuring.items()},
    }
    return {
        section + key: value if isinstance(value, Key) else Key(*value)
        for section, settings in sections.items()
        for key, value in settings.items()
    }


def _loss() -> dict[str, Setting]:
    text = titles("what the network is trained with", LOSSES)
    return {"name": Setting("softmax_cross_entropy", choice(LOSSES), text)}


def _defence() -> dict[str, Setting]:
    text = titles("how a batch becomes a training loss", DEFENCES)
    return {
        "name": Setting("adversarial", choice(DEFENCES), text),
        "attack": Setting(
            "pgd",
            choice(_training()),
            "what a defence attacks its batches with, set by train.attack",
        ),
        "label_smoothing": Setting(
            0.0,
            number(0, 1, below=True),
            "the share of the training loss that all classes have alike; 0: none",
        ),
        "awp": Setting(
            0.0,
            number(0, 1),
            "how far weights are moved towards a higher loss before each update, in "
            "units of each kernel's length; 0: not",
        ),
    }


def _data() -> dict[str, Setting]:
    text = titles("where images come from", SOURCES)
    return {
        "source": Setting("mnist_5k", imported.or_own(SOURCES), text),
        "num_classes": Setting(10, whole(2), "labels are 0 ... num_classes - 1"),
    }


def _model() -> dict[str, Setting]:
    activations = titles("of every hidden layer", ACTIVATIONS)
    names, usual = imported.or_own(NETWORKS), own.USUAL
    return {
        "name": Setting("table1", names, titles("the network", NETWORKS)),
        "init": Setting(
            usual["init"],
            choice(INITIALISERS),
            "lecun: variance kept from layer to layer; madry: deviation and biases 0.1",
        ),
        "precision": Setting(
            usual["precision"],
            choice(PRECISIONS),
            "of products, but for the last layer's; the lower ones are faster on GPUs",
        ),
        "activation": Setting(usual["activation"], choice(ACTIVATIONS), activations),
    }


def _shared(registry: Mapping[str, Any]) -> dict[str, Key]:
    return shared({name: entry.settings for name, entry in registry.items()})


def _training() -> dict[str, Attack]:
    return {name: a for name, a in ATTACKS.items() if a.kind != MINIMUM_NORM}


def default() -> ConfigDict:
    """A config of every key with its default; change values, never add keys."""
    config = ConfigDict()
    for key, entry in keys().items():
        *path, last = key.split(".")
        section = config
        for part in path:
            if part not in section:
                section[part] = ConfigDict()
            section = section[part]
        section[last] = (
            placeholder(entry.valid.kind) if entry.optional else entry.default
        )
    return config


def run_name(loss: str, defence: str) -> str:
    """What a run is called where nothing is said: "lmcl", or "lmcl_trades"."""
    name = word(LOSSES, loss)
    return name if defence == "adversarial" else f"{name}_{word(DEFENCES, defence)}"


def swept() -> tuple[str, ...]:
    """The keys in which runs of one compiled program may differ."""
    return tuple(
        key
        for key, entry in keys().items()
        if entry.swept and not key.startswith("evaluate.")  # After it, and apart.
    )


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy with the chosen entries' defaults filled in and every value checked.

    Raises:
        InputError: a key is missing, unknown or of version 0.1, a value is not valid,
            or a setting is set that the chosen loss, defence, network or attack does
            not have. The message names the key, the value and what is valid.
    """
    known = keys()
    values, config = conform(config, known), default()
    put_all(config, values)
    chosen = _chosen(config, known)
    hold(config, DEFENCES[config.defence.name], _training())
    for key, entry in known.items():
        if entry.optional:
            _fill(config, key, chosen)
        else:
            check(config, key, entry.valid)
    _check_together(config)
    _name_attacks(config)
    return config


def _name_attacks(config: ConfigDict) -> None:
    """Each attack once; suites of one number stay, the others are their attacks."""
    named = [
        name if name in SUITES and SUITES[name].survivors_only else suite(name)
        for name in config.evaluate.attacks
    ]
    flat = (n for each in named for n in ([each] if isinstance(each, str) else each))
    config.evaluate.attacks = tuple(dict.fromkeys(flat))
    used = (name for each in config.evaluate.attacks for name in suite(each))
    for section in (config.train.attack, *map(config.evaluate.get, used)):
        section.update(for_classes(section, config.data.num_classes))


def _chosen(
    config: ConfigDict, known: Mapping[str, Key]
) -> dict[str, dict[str, Setting]]:
    """The settings of the chosen entries, by section, with the defaults they get."""
    for key in _CHOICES:
        check(config, key, known[key].valid)
    name = run_name(config.loss.name, config.defence.name)
    return {
        "": {"name": Setting(name, NAME, "")},
        "loss": LOSSES[config.loss.name].settings,
        "defence": DEFENCES[config.defence.name].settings,
        "model": networks.settings_of(config.model.name, config.model.activation),
        "train.attack": ATTACKS[config.defence.attack].trains_with,
        "train.augment": settings_of(config.train.augment.names),
        "train.validation": {"examples": _held_out(config)},
    }


def _held_out(config: ConfigDict) -> Setting:
    """How many images, where it is not said: a single step may overfit at a stroke."""
    attack, defence = ATTACKS[config.defence.attack], DEFENCES[config.defence.name]
    climbs = defence.attacks and attack.climbs and attack.norm in ("linf", "l2")
    if "steps" in attack.settings:
        climbs &= config.train.attack.steps == 1
    return Setting(GUARDED if climbs else 0, whole(), "")


# What chooses the settings of each section that entries share.
_CHOICES = {
    "loss.name": "loss",
    "defence.name": "defence",
    "defence.attack": "train.attack",
    "model.name": "model",
    "model.activation": "model",
    "train.augment.names": "train.augment",
}


def _fill(
    config: ConfigDict, key: str, chosen: Mapping[str, Mapping[str, Setting]]
) -> None:
    section, _, last = key.rpartition(".")
    value, setting = get(config, key), chosen[section].get(last)
    if setting is None and value is not None:
        of = {n: get(config, n) for n, s in _CHOICES.items() if s == section}
        of = [f"{n}={v}" if isinstance(v, tuple) else v for n, v in of.items()]
        raise invalid(key, value, f"unset, as {' with '.join(of)} has no {last}")
    if setting is not None and value is None:
        put(config, key, setting.default)
    if setting is not None:
        check(config, key, setting.valid)


def _check_together(config: ConfigDict) -> None:
    """What keys must have of each other."""
    train, classes = config.train, config.data.num_classes
    if train.checkpoint_every % train.chunk_steps:
        raise invalid(
            "train.checkpoint_every",
            train.checkpoint_every,
            f"a multiple of train.chunk_steps={train.chunk_steps}",
        )
    if train.steps * train.batch_size >= 2**31:
        raise invalid(
            "train.steps",
            train.steps,
            f"less than 2**31 images with train.batch_size={train.batch_size}",
        )
    if train.schedule in ("one_cycle", "piecewise") and not train.milestones:
        raise invalid(
            "train.milestones", (), f"at least one for train.schedule={train.schedule}"
        )
    if train.keep == "best" and not train.validation.examples:
        valid = "last, or best with train.validation.examples of at least 1"
        raise invalid("train.keep", train.keep, valid)
    if train.patience and train.keep != "best":
        raise invalid("train.patience", train.patience, "0 without train.keep=best")
    for key, bound in LOSSES[config.loss.name].bounds.items():
        if key not in LOSSES[config.loss.name].settings:
            raise InputError(
                f"the loss {config.loss.name} has a bound of {key}, which is no "
                "setting of it"
            )
        highest = bound(classes)
        if config.loss[key] > highest:
            raise invalid(
                f"loss.{key}",
                config.loss[key],
                f"a number in (0, {highest:.4g}] for {config.loss.name} with "
                f"data.num_classes={classes}",
            )
