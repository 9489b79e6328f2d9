"""What a defence asks of its loss, its images and its training attack."""

from collections.abc import Mapping

from ml_collections import ConfigDict

from advloss.attacks.entry import Attack
from advloss.config.trees import invalid
from advloss.defences.entry import Entry
from advloss.errors import InputError


def hold(config: ConfigDict, defence: Entry, attacks: Mapping[str, Attack]) -> None:
    """Loss, images and attack must be such that the defence can use them.

    What the defence says itself is filled in.

    Args:
        config: whose `defence.attack` and `train.attack` are looked at.
        defence: the entry of `defence.name`.
        attacks: those that can train.

    Raises:
        InputError: the loss or the attack is another, or a setting of it, or images
            are moved and the defence's memory knows nothing of that.
    """
    which = f"with defence.name={config.defence.name}"
    if config.train.augment.names and defence.memory and not defence.moved:
        reason = f"() {which}: what it keeps of an image fits none that was moved"
        raise invalid("train.augment.names", config.train.augment.names, reason)
    if defence.losses and config.loss.name not in defence.losses:
        reason = f"one of {', '.join(defence.losses)} {which}"
        raise invalid("loss.name", config.loss.name, reason)
    names = defence.only or tuple(attacks)
    if defence.own_objective:
        names = [name for name in names if not attacks[name].targeted]
    if defence.attacks and config.defence.attack not in names:
        reason = f"one of {', '.join(names)} {which}"
        raise invalid("defence.attack", config.defence.attack, reason)
    for key, value in defence.held.items():
        if key not in config.train.attack:
            raise InputError(
                f"the defence {config.defence.name} holds {key}, which is a setting of "
                "no attack"
            )
        if config.train.attack[key] not in (None, value):
            reason = f"{value!r} {which}"
            raise invalid(f"train.attack.{key}", config.train.attack[key], reason)
        config.train.attack[key] = value
    if defence.own_objective:
        _leave_objective(config, attacks[config.defence.attack])


def _leave_objective(config: ConfigDict, entry: Attack) -> None:
    """What must hold where the defence gives its attack an objective.

    A config that was resolved before has the attack's own default.
    """
    defence, attack, own = config.defence.name, config.train.attack, entry.trains_with
    for key, usual in (("objective", "training"), ("objective_scale", 1.0)):
        filled = own[key].default if key in own else None
        if attack[key] not in (None, usual, filled):
            reason = f"unset, as {defence} has an objective of its own"
            raise invalid(f"train.attack.{key}", attack[key], reason)
    if attack.random_start is False:
        reason = f"True, as the objective of {defence} is flat at the natural image"
        raise invalid("train.attack.random_start", False, reason)
    if "random_start" in entry.settings:
        attack.random_start = True
