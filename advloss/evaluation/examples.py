"""Attacks on any number of examples, each as if it were alone.

    outcome = examples.attack(target, adversary, split, seed=0, batch_size=200, ...)
    outcome.correct.mean()          # under the final iterate, as the paper
    outcome.worst_correct.mean()    # under the worst of all iterates

Every number comes from per-example results. A result depends neither on the batch nor
on the devices, since an example's random key is made from its place in the split.

Where only the survivors matter, an example that was fooled once is attacked no further:
the attack comes in rounds (`Attack.rounds`), and between them those that are left move
together into fewer batches. Who is left at the end is the same as without rounds.
"""

import time
from collections.abc import Sequence

import jax
import numpy as np

from advloss.attacks import MINIMUM_NORM
from advloss.attacks.base import KEYS, Round
from advloss.errors import InputError
from advloss.evaluation.batches import Finished
from advloss.evaluation.mapped import Mapped, Progress, no_progress
from advloss.evaluation.outcome import Outcome, is_beyond
from advloss.evaluation.programs import (
    Adversary,
    Target,
    attack_round,
    is_within,
    logits_of,
    look,
)
from advloss.types import Batch, Split

_CLOSE = 0.01  # Of the range of the logits.
# Of the images: where a network jumps, a rounding may change what it says.
_ROUNDED = 0.05


def first(split: Split, count: int) -> Split:
    """The first `count` examples; all of them where count is 0."""
    return Split(*(array[: count or None] for array in split))


def predict(
    target: Target,
    images: np.ndarray,
    *,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> np.ndarray:
    """The most likely class of each image, `[n]` int32.

    Raises:
        InputError: the network's logits are not finite, or the devices do not divide
            the batch.
    """
    seen = _look(target, images, batch_size, devices)
    _check_finite(seen["finite"], "images")
    return seen["prediction"]


def _look(
    target: Target, images: np.ndarray, size: int, devices: Sequence[jax.Device]
) -> dict[str, np.ndarray]:
    function = look(target.classifier_of)
    run = Mapped(function, target.variables, size, devices, len(images))
    return run(np.asarray(images))


def check_alone(
    target: Target,
    images: np.ndarray,
    *,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> None:
    """The first image must have the same logits among others and as each of its copies.

    Raises:
        InputError: it has not.
    """
    among = images[:batch_size]
    copies = np.repeat(among[:1], len(among), axis=0)
    ends, again = (
        _look(target, each, batch_size, devices)["ends"] for each in (among, copies)
    )
    # What is not finite is told where all images are looked at.
    if np.abs(again - ends[0]).max() > _CLOSE * np.ptp(ends[0]):
        raise InputError(
            "the classifier gives the first image other logits in another batch, or at "
            "another place in it: it must judge each image by itself, always alike, as "
            "with running averages of batch norm and without dropout"
        )


def _check_finite(finite: np.ndarray, which: str) -> None:
    if not finite.all():
        raise InputError(
            f"the network's logits are not finite for {int((~finite).sum())} of "
            f"{len(finite)} {which}: such a network is neither robust nor fooled; "
            "mend it, or leave these images out"
        )


def _check_given(
    adversary: Adversary, found: dict[str, np.ndarray], chosen: np.ndarray
) -> None:
    """Raises InputError where an attack gave what it is not allowed to give."""
    title, norm = adversary.entry.title, adversary.entry.norm
    if (bad := np.flatnonzero(~found["in_box"])).size:
        raise InputError(
            f"the attack {title} gives images with values outside [0, 1], the first "
            f"for example {chosen[bad[0]]}: clip them"
        )
    if adversary.entry.kind == MINIMUM_NORM:
        limit, called = found["distance"], "the distance that it gives"
    else:
        epsilon = {**adversary.settings, **adversary.traced}["epsilon"]
        limit, called = np.full(len(chosen), epsilon), "epsilon"
    if (bad := np.flatnonzero(is_beyond(found["farthest"], limit))).size:
        first = bad[0]
        raise InputError(
            f"the attack {title} moves example {chosen[first]} by "
            f"{found['farthest'][first]:g} in {norm}, {called} is {limit[first]:g}: "
            "project it"
        )
    bad = np.flatnonzero(found["denied"])
    if len(bad) > _ROUNDED * len(chosen):
        first = bad[0]
        raise InputError(
            f"the attack {title} says that example {chosen[first]} is "
            f"{'fooled' if found['success'][first] else 'not fooled'}, the network "
            "says otherwise of its image: set success where the label is not the most "
            "likely class; or is the network random?"
        )


def attack(
    target: Target,
    adversary: Adversary,
    split: Split,
    *,
    seed: int,
    batch_size: int,
    devices: Sequence[jax.Device],
    survivors: np.ndarray | None = None,
    natural: np.ndarray | None = None,
    progress: Progress = no_progress,
    finished: Finished | None = None,
) -> Outcome:
    """Attacks a split in full batches.

    Args:
        target: the network.
        adversary: the attack.
        split: any number of examples.
        seed: of the attack's random draws.
        batch_size: examples at a time, over all devices.
        devices: they share every batch.
        survivors: `[n]` bool, which examples are still to be attacked; those that are
            classified wrongly are not. By default all are attacked in full.
        natural: the predictions for the split's images, where they are known.
        progress: is told, batch by batch, how many examples have just been decided; 0
            too.
        finished: keeps each batch, so that an interrupted attack can go on.

    Raises:
        InputError: the network's logits are not finite, or the devices do not divide
            the batch.
    """
    started = time.perf_counter()
    how = {"batch_size": batch_size, "devices": devices}
    if natural is None:
        natural = predict(target, split.images, **how)
    right = natural == np.asarray(split.labels)
    attacked = np.ones_like(right) if survivors is None else survivors & right
    rounds: Sequence[Round] = [Round()]
    if survivors is not None:
        logits = logits_of(target, (batch_size, *split.images.shape[1:]))
        rounds = adversary.entry.rounds(adversary.settings, logits.shape[-1])
        if not rounds:
            raise InputError(
                f"the attack {adversary.entry.title} has no rounds: give at least one"
            )
    state = finished.load("state") if finished else None
    if state is None:
        state = _before(split, natural, attacked, right)
    if waiting := int((~attacked | state["worst_success"]).sum()):
        progress(waiting)
    for number in range(int(state["rounds"]), len(rounds)):
        last = number == len(rounds) - 1
        chosen = np.flatnonzero(attacked & ~state["worst_success"])
        if not len(chosen):
            break
        part = rounds[number]
        numbers = {**adversary.traced, **part.numbers}
        run = Mapped(
            attack_round(target, adversary, part, stop=survivors is not None),
            (target.variables, jax.random.key(seed, impl=KEYS), numbers),
            batch_size,
            devices,
            len(right),
            progress if last else lambda count: progress(0),
        )
        name = f"{number}-"
        found = run(_arrays(split, state, chosen), finished, name)
        _check_given(adversary, found, chosen)
        _update(state, chosen, found, adversary)
        if not last:
            progress(int(state["worst_success"][chosen].sum()))
            if finished:
                finished.save("state", **state)
                finished.discard(name)
    _check_finite(state["finite"], "attacked images")
    return _outcome(
        state,
        natural,
        right if survivors is None else attacked,
        full=survivors is None,
        seconds=time.perf_counter() - started + (finished.earlier if finished else 0),
    )


def _before(
    split: Split, natural: np.ndarray, attacked: np.ndarray, right: np.ndarray
) -> dict[str, np.ndarray]:
    """What the rounds so far have found, before the first."""
    count = len(natural)
    distance = np.where(attacked, np.inf, np.where(right, np.nan, 0.0))
    return {
        "rounds": np.zeros((), np.int64),
        "images": np.array(split.images),
        "attacked": natural.copy(),
        "success": np.zeros(count, bool),
        "worst_success": np.zeros(count, bool),
        "distance": distance.astype(np.float32),
        "zero_gradient": np.zeros(count, bool),
        "backward_passes": np.zeros(count, np.int32),
        "forward_passes": np.zeros(count, np.int32),
        "finite": np.ones(count, bool),
    }


def _arrays(split: Split, state: dict[str, np.ndarray], chosen: np.ndarray) -> tuple:
    images, labels = (np.asarray(array)[chosen] for array in split)
    return Batch(images, labels, chosen.astype(np.int32)), state["images"][chosen]


def _update(
    state: dict[str, np.ndarray],
    chosen: np.ndarray,
    found: dict[str, np.ndarray],
    adversary: Adversary,
) -> None:
    """Enters what a round has found of the chosen examples."""
    taken = np.ones(len(chosen), bool)
    if adversary.entry.kind == MINIMUM_NORM:
        # A later round may find what is further away, or nothing.
        taken = found["distance"] <= state["distance"][chosen]
        within = is_within(found["distance"], adversary.settings["epsilon"])
        for name in ("success", "worst_success"):
            found[name] = found[name] & within
    for name in ("images", "attacked", "success", "worst_success", "distance"):
        state[name][chosen[taken]] = found[name][taken]
    state["finite"][chosen] &= found["finite"]
    # A round without gradients says nothing of them.
    unseen = state["backward_passes"][chosen] == 0
    before = state["zero_gradient"][chosen]
    now = found["zero_gradient"] & (unseen | before)
    looked = found["backward_passes"] > 0
    state["zero_gradient"][chosen] = np.where(looked, now, before)
    for name in ("backward_passes", "forward_passes"):
        state[name][chosen] += found[name]
    state["rounds"] = state["rounds"] + 1


def _outcome(
    state: dict[str, np.ndarray],
    natural: np.ndarray,
    eligible: np.ndarray,
    *,
    full: bool,
    seconds: float,
) -> Outcome:
    worst_correct = eligible & ~state["worst_success"]
    names = ("attacked", "images", "distance", "backward_passes", "forward_passes")
    return Outcome(
        natural=natural,
        correct=~state["success"] if full else worst_correct,
        worst_correct=worst_correct,
        zero_gradient=state["zero_gradient"] & (full | worst_correct),
        seconds=seconds,
        **{name: state[name] for name in names},
    )
