"""Keys that a config has and that change nothing in what is done with it."""

from ml_collections import ConfigDict

from advloss.attacks import suite
from advloss.data import SOURCES
from advloss.defences import DEFENCES

# Schedules in which the learning rate turns at `train.milestones`.
_TURNING = ("one_cycle", "piecewise")
_OF_ALL_DATA = ("data.source", "data.num_classes")


def reason(config: ConfigDict, key: str) -> str | None:
    """Why a key changes nothing in the training of a resolved config; None if it does.

    Args:
        config: all of it.
        key: dotted, one that may be set.
    """
    of_attack = key == "defence.attack" or key.startswith("train.attack.")
    if of_attack and not DEFENCES[config.defence.name].attacks:
        return f"config.defence.name={config.defence.name} attacks no batch"
    of_validation = key in ("train.validation.every", "train.validation.steps")
    if of_validation and not config.train.validation.examples:
        return "config.train.validation.examples=0"
    if key == "train.validation.steps" and not DEFENCES[config.defence.name].attacks:
        return f"config.defence.name={config.defence.name} attacks no batch"
    if key == "train.attack.restarts" and config.train.attack.random_start is False:
        return "config.train.attack.random_start=False starts at the image each time"
    schedule = config.train.schedule
    if key == "train.milestones" and schedule not in _TURNING:
        return f"config.train.schedule={schedule} has no milestones"
    if key.startswith("data.") and key not in _OF_ALL_DATA:
        source, name = config.data.source, key.removeprefix("data.")
        own = SOURCES[source].settings if source in SOURCES else {}
        return None if name in own else f"config.data.source={source} has no {name}"
    return None


def reason_in_evaluation(config: ConfigDict, key: str) -> str | None:
    """Why a key changes nothing in how a network is attacked; None if it does, or has
    no part in it."""
    asked = asked_attacks(config)
    section, *path = key.split(".")
    if section == "evaluate" and len(path) > 1 and path[0] not in asked:
        named = ",".join(config.evaluate.attacks)
        return f"{path[0]} is not in config.evaluate.attacks={named}"
    of_restarts = section == "evaluate" and path[1:] == ["restarts"]
    if of_restarts and not config.evaluate[path[0]].get("random_start", True):
        where = f"config.evaluate.{path[0]}.random_start"
        return f"{where}=False starts at the image each time"
    return None


def asked_attacks(config: ConfigDict) -> set[str]:
    """The attacks that `evaluate.attacks` names, those of its suites too."""
    return {name for each in config.evaluate.attacks for name in suite(each)}
