"""Keys of the config: what is known of each, and those that no registry declares."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from advloss.data.augment import AUGMENTATIONS
from advloss.errors import InputError, shown
from advloss.optimisers import OPTIMISERS, SCHEDULES
from advloss.registry import (
    Setting,
    Valid,
    boolean,
    choice,
    choices,
    each_once,
    number,
    positive,
    shares,
    whole,
)


class Key(NamedTuple):
    """A key of the config.

    Attributes:
        default: its value where nothing is said; None of one that is `optional`.
        valid: which values it takes; of an optional key the first entry's that has it,
            the chosen entry's own are held to.
        help: one line.
        swept: runs that differ in it alone are trained as one program.
        optional: unset it takes the default of the loss, defence, network or attack
            that is chosen, and stays unset where that does not have it.
    """

    default: Any
    valid: Valid
    help: str
    swept: bool = False
    optional: bool = False


def join(*parts: Mapping[str, Setting | Key]) -> dict[str, Setting | Key]:
    """The keys of a section; one that several declare is one where they agree.

    Raises:
        InputError: they don't: one key would have two meanings.
    """
    found: dict[str, Setting | Key] = {}
    for part in parts:
        for key, value in part.items():
            old = found.setdefault(key, value)
            if type(old) is not type(value) or (old.default, old.valid.kind) != (
                value.default,
                value.valid.kind,
            ):
                raise InputError(
                    f"the setting {key} is there already, with another meaning: rename "
                    "the one that was entered last"
                )
    return found


def shared(entries: Mapping[str, Mapping[str, Setting]]) -> dict[str, Key]:
    """The settings of all entries that share a section; each is optional.

    Raises:
        InputError: a setting is of several types.
    """
    of_key: dict[str, dict[str, Setting]] = {}
    for name, settings in entries.items():
        for key, setting in settings.items():
            of_key.setdefault(key, {})[name] = setting
    return {key: _merge(key, settings) for key, settings in of_key.items()}


def _merge(key: str, settings: Mapping[str, Setting]) -> Key:
    first = next(iter(settings.values()))
    if {setting.valid.kind for setting in settings.values()} != {first.valid.kind}:
        each = ", ".join(
            f"{name}: {s.valid.kind.__name__}" for name, s in settings.items()
        )
        raise InputError(f"the setting {key} is of several types ({each}): rename one")
    told: dict[str, list[str]] = {}
    for name, setting in settings.items():
        told.setdefault(setting.help, []).append(f"{name} ({setting.default})")
    text = "; ".join(f"{', '.join(names)}: {one}" for one, names in told.items())
    swept = all(setting.swept for setting in settings.values())
    valid, ranges = first.valid, {s.valid.text: None for s in settings.values()}
    if len(ranges) > 1:  # A choice lists its names itself.
        valid = Valid(valid.kind, valid.accepts, ", or ".join(ranges))
    return Key(None, valid, text, swept, optional=True)


def titles(text: str, entries: Mapping[str, Any]) -> str:
    """A line of help that lists a registry's entries with their titles.

    Raises InputError as `check_entries`.
    """
    check_entries(entries)
    return f"{text}: " + ", ".join(f"{k} ({e.title})" for k, e in entries.items())


def check_entries(entries: Mapping[str, Any]) -> None:
    """Raises InputError where something else was entered than the first entry is."""
    kind = type(next(iter(entries.values())))
    for name, entry in entries.items():
        if not isinstance(entry, kind):
            raise InputError(
                f"{name}={shown(entry)} was entered where each is an entry, "
                f"{kind.__module__}.{kind.__name__}: enter one"
            )


NAME = Valid(
    str,
    lambda value: bool(
        re.fullmatch(r"(?!\.)[ -.0-\[\]-~]{1,40}", value) and value.strip()
    ),
    r"1 to 40 printable ASCII characters without / and \, the first of them no dot, "
    "and not only spaces",
)
_BELOW_ONE = number(0, 1, below=True)
_AT_LEAST_ZERO = number(0, math.inf)
GUARDED = 100  # Images that are held out where training attacks by a single step.


def run() -> dict[str, Setting | Key]:
    """The keys that stand in no section."""
    return {
        "name": Key(
            None,
            NAME,
            "a short text that names the run in reports; unset: its loss and defence, "
            "such as lmcl_trades",
            optional=True,
        ),
        "seed": Setting(
            0,
            whole(),
            "seed of initialisation, order of examples and random starts",
            swept=True,
        ),
    }


def word(entries: Mapping[str, Any], key: str) -> str:
    """An entry in a run's name: its title where that is a word, else its key."""
    title = entries[key].title if key in entries else key
    return title.lower() if title.isascii() and title.isalnum() else key


def training() -> dict[str, Setting]:
    """The keys of `config.train`, but for its attack."""
    return {
        "steps": Setting(600, whole(1), "updates in all"),
        "examples": Setting(
            0,
            whole(),
            "the first so many training images, of those not held out; 0: all",
        ),
        "batch_size": Setting(50, whole(1), "images an update, over all devices"),
        "learning_rate": Setting(3e-3, positive(), "at its highest", swept=True),
        "schedule": Setting(
            "cosine",
            choice(SCHEDULES),
            "how the learning rate goes on to the last step",
        ),
        "milestones": Setting(
            (0.5, 0.75),
            shares(),
            "shares of training; piecewise: where the rate falls to a tenth; "
            "one_cycle: the first is where it is highest",
        ),
        "optimiser": Setting("adam", choice(OPTIMISERS), "what applies gradients"),
        "momentum": Setting(0.9, _BELOW_ONE, "SGD's; Adam's decay of the first moment"),
        "weight_decay": Setting(0.0, _AT_LEAST_ZERO, "per unit of learning rate"),
        "clip_norm": Setting(
            0.0, _AT_LEAST_ZERO, "longer gradients (l2) are shortened; 0: never"
        ),
        "average": Setting(
            0.0,
            _BELOW_ONE,
            "decay of the moving average of the weights, which is then what is "
            "evaluated; 0: none",
        ),
        "keep": Setting(
            "last",
            choice(("last", "best")),
            "which weights are evaluated: the last, or those that did best on held-out "
            "images, see train.validation",
        ),
        "patience": Setting(
            0,
            whole(),
            "validations without a better one after which training ends, with "
            "train.keep=best; 0: it does not",
        ),
        "chunk_steps": Setting(
            50, whole(1), "updates in one compiled program; metrics follow each"
        ),
        "checkpoint_every": Setting(
            100, whole(1), "updates between checkpoints, a multiple of chunk_steps"
        ),
    }


WARMUP = {
    "warmup": Setting(
        0.3,
        number(0, 1),
        "share of training over which radius and step size grow from 0",
    )
}


def augment() -> dict[str, Setting | Key]:
    """The keys of `config.train.augment`."""
    text = titles(
        "what happens to training images before they are attacked, in this order",
        AUGMENTATIONS,
    )
    own = shared({name: entry.settings for name, entry in AUGMENTATIONS.items()})
    return join({"names": Setting((), each_once(AUGMENTATIONS), text)}, own)


def validation() -> dict[str, Setting | Key]:
    """The keys of `config.train.validation`."""
    return {
        "examples": Key(
            None,
            whole(),
            "training images that are held out: accuracy on them, natural and under "
            f"PGD, is logged; unset: {GUARDED} where training attacks by a single "
            "step, else 0",
            optional=True,
        ),
        "every": Setting(
            200, whole(1), "updates between two validations, at a chunk's end"
        ),
        "steps": Setting(
            20, whole(1), "of the PGD that attacks them, in train.attack's radius"
        ),
    }


def evaluation(attacks: Iterable[str]) -> dict[str, Setting]:
    """The keys of `config.evaluate`, but for the attacks' own. `attacks`: names."""
    return {
        "attacks": Setting(
            ("pgd", "fast", "fmn"),
            choices(attacks),
            "attacks, set by the sections of their names, or suites of them",
        ),
        "batch_size": Setting(200, whole(1), "images at a time, over all devices"),
        "examples": Setting(0, whole(), "the first so many test images; 0: all"),
        "seed": Setting(0, whole(), "seed of the attacks' random starts"),
        "survivors_only": Setting(
            False,
            boolean(),
            "what is fooled once is attacked no further: the same worst case, sooner",
        ),
    }
