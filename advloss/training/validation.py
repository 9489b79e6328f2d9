"""Accuracy on training images that are held out, natural and under PGD.

No step trains on them, and they are no test images: by what is left of them the best
weights can be chosen (`train.keep`), a training ended (`train.patience`), and one that
has lost its robustness be seen (`guards.lost`).
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from advloss import losses, networks
from advloss.attacks import ATTACKS
from advloss.attacks.base import example_keys
from advloss.defences import DEFENCES
from advloss.errors import InputError
from advloss.networks import Network
from advloss.types import Array, AttackResult, Axis, PyTree, Split

_REACH = 2.5  # Times the radius: how far all steps of the attack go together.


class Parts(NamedTuple):
    """A training split: what is trained on, and what is held out."""

    train: Split
    held_out: Split


def parts(split: Split, config: ConfigDict) -> Parts:
    """Both parts, in the split's order; what is held out is the same for every seed.

    Of what is not held out, the first `train.examples` are trained on.

    Raises:
        InputError: more than half of the images would be held out, or fewer are left
            than are asked for.
    """
    total, count = len(split.labels), config.train.validation.examples
    if 2 * count > total:
        raise InputError(
            f"config.train.validation.examples={count} is not valid: use at most half "
            f"of the {total} training images, or 0 (where training attacks by a single "
            "step it is not 0 by itself)"
        )
    wanted = config.train.examples or total - count
    if wanted > total - count:
        raise InputError(
            f"config.train.examples={wanted} is not valid: use at most {total - count} "
            f"of {total} training images with train.validation.examples={count}, or 0 "
            "for all"
        )
    held_out = np.zeros(total, bool)
    held_out[np.random.default_rng(0).permutation(total)[:count]] = True
    if held_out.any() or wanted < total:
        trained = Split(*(x[~held_out][:wanted] for x in split))
        return Parts(trained, Split(*(x[held_out] for x in split)))
    return Parts(split, Split(split.images[:0], split.labels[:0]))


def is_due(config: ConfigDict, before: int, after: int) -> bool:
    """Whether a chunk between two steps ends with a validation; the last one does."""
    settings = config.train.validation
    passed = after // settings.every > before // settings.every
    return settings.examples > 0 and (passed or after == config.train.steps)


def nothing_yet(config: ConfigDict, variables: PyTree) -> PyTree:
    """The best before any validation; {} where there is none to come.

    "ended" is the step at which a training ended early, whose state is kept as that of
    the last step; 0 of others.
    """
    if not config.train.validation.examples:
        return {}
    return {
        "variables": jax.tree.map(jnp.array, variables),
        "robust": jnp.full((), -1.0, jnp.float32),
        "step": jnp.zeros((), jnp.int32),
        "waited": jnp.zeros((), jnp.int32),
        "ended": jnp.zeros((), jnp.int32),
    }


def evaluated(state: Mapping[str, Any], settings: Mapping[str, Any]) -> PyTree:
    """The variables of a state that its run is evaluated with.

    Args:
        state: a `TrainState`'s fields by name.
        settings: `config.train`. Without a validation yet the best are the last.
    """
    if settings.get("keep") == "best" and int(state["best"]["step"]):
        return state["best"]["variables"]
    return state["average" if settings.get("average") else "variables"]


def updates(state: Mapping[str, Any]) -> int:
    """How many updates led to a state."""
    return int(state.get("best", {}).get("ended", 0)) or int(state["step"])


def ends_early(metrics: Mapping[str, np.ndarray], config: ConfigDict) -> bool:
    """Whether a chunk's metrics say that the patience has run out."""
    waited, patience = metrics.get("validations_since_best"), config.train.patience
    return waited is not None and 0 < patience <= waited[0]


def make_validation(
    config: ConfigDict, network: Network, shares: int, axis: Axis | None
) -> Callable[..., tuple[PyTree, dict[str, Array]]]:
    """The pure validation of a run.

    PGD in the norm and the radius of the training attack climbs the margin, the same
    for every loss. A defence that attacks nothing is judged by its natural accuracy,
    and has no "validation_robust".

    Args:
        config: resolved.
        network: what is trained.
        shares: equal parts of a batch, of which each device of the axis takes one.
        axis: of these devices.

    Returns:
        `validate(rank, best, variables, step, held_out, key, epsilon) -> (best,
        metrics)`; metrics are `[1]`: accuracies "validation_accuracy" and
        "validation_robust", "best_robust" with its "best_step", and
        "validations_since_best".

    Raises:
        InputError: there is no PGD in the norm of the training attack.
    """
    batch_size, patience = config.train.batch_size, config.train.patience
    attack = _attack(config) if DEFENCES[config.defence.name].attacks else None
    warmup_steps = config.train.attack.warmup * config.train.steps if attack else 0

    def look(
        variables: PyTree, held_out: Split, key: Array, epsilon: Array, places: Array
    ) -> Array:
        """`[2]`: how many of these places are right, and stay right under attack."""
        chosen = jnp.minimum(places, len(held_out.labels) - 1)
        images, labels = held_out.images[chosen], held_out.labels[chosen]
        classifier = networks.classifier(network, variables)
        natural = jnp.argmax(classifier(images), axis=-1) == labels
        robust = natural
        if attack:
            keys = example_keys(key, chosen)
            found = attack(classifier, keys, images, labels, epsilon=epsilon)
            robust &= ~found.worst_success
        there = places < len(held_out.labels)
        return jnp.sum(jnp.stack([natural, robust]) & there[None], axis=-1)

    def validate(
        rank: Array | int,
        best: PyTree,
        variables: PyTree,
        step: Array,
        held_out: Split,
        key: Array,
        epsilon: Array,
    ) -> tuple[PyTree, dict[str, Array]]:
        count = len(held_out.labels)
        filled = -(-count // batch_size) * batch_size
        places = jnp.arange(filled).reshape(-1, shares, batch_size // shares)[:, rank]
        one = functools.partial(look, variables, held_out, key, epsilon)
        right = jnp.sum(jax.lax.map(one, places), axis=0).astype(jnp.float32)
        if axis is not None:
            right = jnp.round(axis.mean(right) * shares)
        natural, robust = right / count
        waits = step >= warmup_steps  # Till then images are attacked more and more.
        best = renewed(best, variables, step, robust, waits, patience)
        metrics = {
            "validation_accuracy": natural,
            **({"validation_robust": robust} if attack else {}),
            "best_robust": best["robust"],
            "best_step": best["step"],
            "validations_since_best": best["waited"],
        }
        return best, {k: jnp.float32(value)[None] for k, value in metrics.items()}

    return validate


def _attack(config: ConfigDict) -> Callable[..., AttackResult]:
    of_norm = {ATTACKS[name].norm: name for name in ("pgd", "pgd_l2")}
    norm, settings = ATTACKS[config.defence.attack].norm, config.train.validation
    if norm not in of_norm:
        raise InputError(
            f"config.train.validation.examples={settings.examples} is not valid: use 0 "
            f"with config.defence.attack={config.defence.attack!r}, as there is no PGD "
            f"in {norm}"
        )
    pgd, steps = ATTACKS[of_norm[norm]].function, settings.steps

    def attack(*given: Any, epsilon: Array) -> AttackResult:
        return pgd(
            *given,
            objective=losses.margin,
            epsilon=epsilon,
            step_size=_REACH / steps * epsilon,
            steps=steps,
            random_start=True,
        )

    return attack


def renewed(
    best: PyTree,
    variables: PyTree,
    step: Array,
    robust: Array,
    waits: Array,
    patience: int,
) -> PyTree:
    """The best, this step's or what it was; after the patience it stays."""
    better = robust > best["robust"]
    if patience:
        better &= best["waited"] < patience
    waited = best["waited"] + waits
    now = {"variables": variables, "robust": robust, "step": step, "waited": 0}
    now["ended"] = best["ended"]
    then = {**best, "waited": waited}
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), now, then)
