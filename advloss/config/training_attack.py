"""What a defence may attack its batches with, and what it asks of that attack."""

from ml_collections import ConfigDict

from advloss.attacks import ATTACKS, MINIMUM_NORM
from advloss.config.trees import invalid
from advloss.defences import DEFENCES
from advloss.registry import Setting


def settings() -> dict[str, dict[str, Setting]]:
    """Of every attack that can train, with the defaults with which it does."""
    return {
        name: {
            key: setting._replace(default=attack.training.get(key, setting.default))
            for key, setting in attack.settings.items()
        }
        for name, attack in ATTACKS.items()
        if attack.kind != MINIMUM_NORM
    }


def hold(config: ConfigDict) -> None:
    """The attack must be one that the defence can use, as it can use it.

    What the defence says itself is filled in.

    Raises:
        InputError: the attack is another, or a setting of it.
    """
    defence = DEFENCES[config.defence.name]
    which = f"with defence.name={config.defence.name}"
    names = defence.only or settings().keys()
    if defence.own_objective:
        names = [name for name in names if not ATTACKS[name].targeted]
    if defence.attacks and config.defence.attack not in names:
        reason = f"one of {', '.join(names)} {which}"
        raise invalid("defence.attack", config.defence.attack, reason)
    for key, value in defence.held.items():
        if config.train.attack[key] not in (None, value):
            reason = f"{value!r} {which}"
            raise invalid(f"train.attack.{key}", config.train.attack[key], reason)
        config.train.attack[key] = value
    if defence.own_objective:
        _leave_objective(config)


def _leave_objective(config: ConfigDict) -> None:
    """What must hold where the defence gives its attack an objective."""
    defence, attack = config.defence.name, config.train.attack
    for key, usual in (("objective", "training"), ("objective_scale", 1.0)):
        if attack[key] not in (None, usual):
            reason = f"unset, as {defence} has an objective of its own"
            raise invalid(f"train.attack.{key}", attack[key], reason)
    if attack.random_start is False:
        reason = f"True, as the objective of {defence} is flat at the natural image"
        raise invalid("train.attack.random_start", False, reason)
    if "random_start" in ATTACKS[config.defence.attack].settings:
        attack.random_start = True
