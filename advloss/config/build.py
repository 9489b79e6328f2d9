"""From a config to the pure functions that it names.

Every function here takes a resolved config. What a sweep may vary is not bound: it
comes in `hyperparameters`, as numbers that compiled programs take as arrays.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from advloss import losses, networks
from advloss.attacks import ATTACKS, MINIMUM_NORM, fingerprint
from advloss.defences import DEFENCES, outcomes
from advloss.networks import Network
from advloss.registry import Setting, is_own
from advloss.types import (
    Array,
    AttackResult,
    Batch,
    Classifier,
    Objective,
    PyTree,
)

Hyper = dict[str, Any]

_KEPT = 32  # Functions that are the same objects when they are asked for again.


def _given(section: ConfigDict, settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The values that a section has for an entry's settings."""
    return {key: section[key] for key in settings}


def _split(
    section: ConfigDict, settings: Mapping[str, Setting]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those values that are bound, and those that stay arguments."""
    values = _given(section, settings)
    swept = {key: values.pop(key) for key in settings if settings[key].swept}
    return values, swept


def network(config: ConfigDict) -> Network:
    """The network, with the head that the loss asks for.

    One of the library's is the same object for the same settings: what is compiled for
    it serves every run. One's own is made anew: it may be another by now.
    """
    given, parts = _of_network(config)
    if not networks.of_library(parts):
        return networks.build_own(config.model.name, **given)
    return _network(config.model.name, parts, tuple(given.items()))


def is_library_s(config: ConfigDict) -> bool:
    """Whether nothing of the network is one's own, which may be another elsewhere."""
    return networks.of_library(_of_network(config)[1])


def _of_network(config: ConfigDict) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """What `networks.build` takes beside the name, and what stands behind it."""
    model = config.model
    given = {
        "head": losses.LOSSES[config.loss.name].head,
        "num_classes": config.data.num_classes,
        "init": model.init,
        "precision": model.precision,
        "activation": model.activation,
        **_given(model, networks.settings_of(model.name, model.activation)),
    }
    return given, networks.parts(model.name, **given)


@functools.lru_cache(_KEPT)
def _network(
    name: str, _: tuple[Any, ...], given: tuple[tuple[str, Any], ...]
) -> Network:
    return networks.build(name, **dict(given))


def classifier_of(config: ConfigDict) -> Callable[[PyTree], Classifier]:
    """Variables -> (images -> logits) of the network: the same object for the same."""
    return _classifier_of(network(config))


@functools.lru_cache(_KEPT)
def _classifier_of(made: Network) -> Callable[[PyTree], Classifier]:
    return functools.partial(networks.classifier, made)


def loss(config: ConfigDict) -> Callable[..., Array]:
    """`(logits, labels, **hyper["loss"]) -> [batch]`."""
    entry = losses.LOSSES[config.loss.name]
    bound, _ = _split(config.loss, entry.settings)
    return functools.partial(entry.function, **bound)


def objective(config: ConfigDict) -> Objective:
    """The training loss with all its numbers, as an attack climbs it."""
    entry = losses.LOSSES[config.loss.name]
    return losses.climb(config.loss.name, _given(config.loss, entry.settings))


def hyperparameters(config: ConfigDict) -> Hyper:
    """The numbers that enter the compiled step as arrays, by what takes them."""
    defence = DEFENCES[config.defence.name]
    attack = ATTACKS[config.defence.attack].settings if defence.attacks else {}
    return {
        "learning_rate": config.train.learning_rate,
        "loss": _split(config.loss, losses.LOSSES[config.loss.name].settings)[1],
        "attack": _split(config.train.attack, attack)[1],
        "defence": _split(config.defence, defence.settings)[1],
    }


def defence(config: ConfigDict) -> Callable[..., tuple]:
    """The seam: `(forward, variables, batch, key, hyper, frozen, memory)`.

    The loss, the training attack and what is not swept are bound. `through` may be
    given: a function of the attack, whose result takes its place. It raises InputError
    where a defence of one's own fails, or gives something else than `base.Defence`.
    """
    entry = DEFENCES[config.defence.name]
    bound, _ = _split(config.defence, entry.settings)
    own, climbed = loss(config), losses.LOSSES[config.loss.name].climbed

    def defend(
        forward: Callable[..., tuple],
        variables: PyTree,
        batch: Batch,
        key: Array,
        hyper: Hyper,
        frozen: PyTree,
        memory: PyTree,
        through: Callable[[Callable], Callable] = lambda attack: attack,
    ) -> tuple:
        numbers = {key: hyper[key] for key in ("loss", "attack", "defence")}
        objective = functools.partial(own, **{**hyper["loss"], **climbed})
        with outcomes.told(config.defence.name, entry.function):
            found = entry.function(
                forward, variables, batch, key, numbers, frozen, memory,
                loss=losses.smoothed(own, config.defence.label_smoothing),
                attack=through(training_attack(config, objective)),
                **bound,
            )  # fmt: skip
        return outcomes.checked(config.defence.name, found, variables, memory)

    return defend


def replays(config: ConfigDict) -> int:
    """How many updates in a row are made on one batch."""
    return config.defence.replays or 1


def training_attack(
    config: ConfigDict, training: Objective
) -> Callable[..., AttackResult]:
    """The attack `train.attack`, what is not swept bound, as a defence takes it.

    Args:
        config: resolved.
        training: the objective that "training" stands for.
    """
    entry, section = ATTACKS[config.defence.attack], config.train.attack
    if not DEFENCES[config.defence.name].attacks:
        return _no_attack
    bound, _ = _split(section, entry.settings)
    return bind_attack(config.defence.attack, bound, training)


def _no_attack(*_: Any, **__: Any) -> AttackResult:
    raise TypeError("this defence's entry says that it does not attack its batches")


def evaluation_attack(
    config: ConfigDict, name: str, image_shape: tuple[int, ...] = (8, 8, 1)
) -> Callable[..., AttackResult]:
    """The attack `evaluate.<name>`, its settings bound, and its own loss as training.

    It is the same object for the same settings, so that it is compiled once, as long as
    what is entered under these names stays, and computes the same.

    Returns:
        `(classifier, keys, images, labels, **changes) -> AttackResult`.

    Raises:
        InputError: an attack or a loss of one's own fails for such images.
    """
    given, entry = _of_attack(config, name), ATTACKS[name]
    programs = b"".join(part.program for part in _looks(config, name, image_shape))
    return _bound_once(name, (entry.function, entry.kind, programs), *given)


def own_attack(config: ConfigDict, name: str, image_shape: tuple[int, ...]) -> bytes:
    """What the attack `evaluate.<name>` and the loss that it climbs are.

    Empty where they are the library's; else a digest, the same in every process, and
    another where what is entered under their names is another.

    Raises:
        InputError: one of one's own fails for such images.
    """
    own = b"".join(part.lasting for part in _looks(config, name, image_shape))
    if not is_own(ATTACKS, name):
        return own
    entry, classes = ATTACKS[name], config.data.num_classes
    rounds = entry.rounds(config.evaluate[name].to_dict(), classes)
    return own + repr((entry.norm, entry.kind, rounds)).encode()


def _looks(
    config: ConfigDict, name: str, image_shape: tuple[int, ...]
) -> Iterator[fingerprint.Look]:
    """What is one's own in an attack of the evaluation."""
    _, climbed = given = _of_attack(config, name)
    classes = config.data.num_classes
    if is_own(ATTACKS, name):
        yield fingerprint.look_at_attack(
            _bound(name, *given), (1, *image_shape), classes
        )
    loss = _climbed_name(config, config.evaluate[name].get("objective"))
    if climbed and is_own(losses.LOSSES, loss):
        yield fingerprint.look_at_objective(_loss_of(climbed), classes + 1, classes)


def _of_attack(
    config: ConfigDict, name: str
) -> tuple[tuple[tuple[str, Any], ...], tuple[Any, ...]]:
    """The settings of `evaluate.<name>` as items, and what `_climbed` says."""
    settings = config.evaluate[name].to_dict()
    return tuple(settings.items()), _climbed(config, settings.get("objective"))


def _climbed(config: ConfigDict, objective: str | None) -> tuple[Any, ...]:
    """The loss that an attack climbs, and its numbers as items; () where it does not.

    As they are entered now; "training" is the config's.
    """
    name = _climbed_name(config, objective)
    if name not in losses.LOSSES:
        return ()
    entry = losses.LOSSES[name]
    own = _given(config.loss, entry.settings) if objective == "training" else {}
    numbers = {**losses.defaults(name), **own, **entry.climbed}
    return entry.function, *numbers.items()


def _climbed_name(config: ConfigDict, objective: str | None) -> str:
    """The name of the loss that an objective is; "" of none."""
    return config.loss.name if objective == "training" else objective or ""


@functools.lru_cache(_KEPT)
def _bound_once(
    name: str,
    _: tuple[Any, ...],
    settings: tuple[tuple[str, Any], ...],
    climbed: tuple[Any, ...],
) -> Callable[..., AttackResult]:
    return _bound(name, settings, climbed)


def _bound(
    name: str, settings: tuple[tuple[str, Any], ...], climbed: tuple[Any, ...]
) -> Callable[..., AttackResult]:
    # An attack that climbs no loss has no use for one.
    training = _loss_of(climbed) if climbed else losses.margin
    return bind_attack(name, dict(settings), training)


def _loss_of(climbed: tuple[Any, ...]) -> Objective:
    return functools.partial(climbed[0], **dict(climbed[1:]))


def bind_attack(
    name: str, settings: Mapping[str, Any], training: Objective
) -> Callable[..., AttackResult]:
    """An attack with the settings of its entry bound.

    Args:
        name: a key of `ATTACKS`.
        settings: values of its settings.
        training: the objective that "training" stands for.
    """
    bound = dict(settings)
    if ATTACKS[name].kind == MINIMUM_NORM:
        del bound["epsilon"]  # By which its result is judged.
    if "objective" in bound:
        bound["objective"] = losses.objective(
            bound["objective"], training, bound.pop("objective_scale")
        )
    return functools.partial(ATTACKS[name].function, **bound)
