"""All that a diagnosis tries on a network; checks say what comes of it."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from advloss import losses
from advloss.attacks import ATTACKS
from advloss.attacks.kept import kept
from advloss.evaluation import examples
from advloss.evaluation.diagnosis import watch
from advloss.evaluation.diagnosis.binarization import Found
from advloss.evaluation.diagnosis.climbs import Climb, step_size
from advloss.evaluation.diagnosis.indicators import NOISE
from advloss.evaluation.diagnosis.subject import Subject
from advloss.evaluation.programs import Adversary, Target
from advloss.types import Classifier, PyTree, Split

SCALES = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Factors of the logits under cross-entropy."""

QUERIES = 500  # Of Square.
_STARTS = 2  # Beside the first.
SWEPT = 40  # Steps of what is compared with each other: objectives, scales.
_SHORT = 20  # Of each radius.
_RADII = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # Of epsilon.
_RANKS = (2, 3, 4)  # Of the classes that are aimed at.
PARTS = 9
"""How often `try_all` tells that it goes on."""


class Tried(NamedTuple):
    """What was found; `[n]` bool says who is fooled unless something else is said.

    Attributes:
        steps: of the attack whose number is judged.
        trace: that attack, with twice its steps.
        logits: `[n, classes]` of the natural images.
        again: the same, asked for in another order.
        holds: the trace's worst images fool where they are asked for afterwards.
        line: see `watch.line`.
        near: see `watch.around`, at the noise of an indicator.
        noise: the worst of some random changes within epsilon.
        starts: from each further random start.
        objectives: by each objective, the attack's own ("training") first.
        scales: by cross-entropy at each factor of the logits.
        towards: towards the most likely wrong classes.
        square: by Square.
        radii: growing.
        within: `[radii, n]` within each.
        transferred: by images made against other networks, for each of them.
        planted: see `watch.plant`.
    """

    steps: int
    trace: Climb
    logits: np.ndarray
    again: np.ndarray
    holds: np.ndarray
    line: Mapping[str, np.ndarray]
    near: Mapping[str, np.ndarray]
    noise: np.ndarray
    starts: Sequence[np.ndarray]
    objectives: Mapping[str, np.ndarray]
    scales: Mapping[float, np.ndarray]
    towards: np.ndarray
    square: np.ndarray
    radii: np.ndarray
    within: np.ndarray
    transferred: Sequence[np.ndarray]
    planted: Found

    @property
    def number(self) -> np.ndarray:
        """Who is fooled by the attack whose number is judged."""
        return self.trace.success[:, : self.steps + 1].any(axis=1)

    def gradients(self, epsilon: float) -> np.ndarray:
        """Who is fooled within epsilon by some attack that follows gradients."""
        return np.any(
            [
                self.trace.fooled,
                self.line["success"].any(axis=1),
                self.towards,
                *self.starts,
                *self.objectives.values(),
                *self.scales.values(),
                *self.within[self.radii <= epsilon],
            ],
            axis=0,
        )

    def worst(self, epsilon: float) -> np.ndarray:
        """Who is fooled within epsilon by any attack."""
        found = [self.gradients(epsilon), self.noise, self.square, *self.transferred]
        return np.any(found, axis=0)


def try_all(
    subject: Subject,
    others: Sequence[Subject],
    epsilon: float,
    steps: int,
    length: float | None,
    told: Callable[[int], Any],
) -> Tried:
    """Every attack of a diagnosis.

    Args:
        subject: the network and its images.
        others: surrogates on the same images.
        epsilon: the radius.
        steps: of the attack whose number is judged.
        length: of its steps; None for the usual one.
        told: called with 1 after each of `PARTS`.

    Raises:
        InputError: a network's logits are not finite.
    """
    first = watch.logits(subject, subject.images)
    again = watch.logits(subject, subject.images[::-1])[::-1]
    told(1)
    # Twice the steps at the length of once: the first half is the attack itself.
    usual = step_size(epsilon, steps) if length is None else length
    own = {"epsilon": epsilon, "length": usual}
    trace = watch.climb(subject, steps=2 * steps, **own)
    told(1)
    attacked = watch.logits(subject, trace.images)
    number = trace.success[:, : steps + 1].any(axis=1)
    starts, left = [], ~number
    for start in range(1, 1 + _STARTS):
        found = watch.climb(
            subject, steps=steps, start=start, stop=True, among=left, **own
        ).fooled
        starts.append(found)
        left = left & ~found
    told(1)
    swept = functools.partial(
        watch.climb, subject, epsilon=epsilon, steps=SWEPT, stop=True
    )
    objectives = {name: swept(objective=name).fooled for name in _objectives(subject)}
    told(1)
    scales = {
        scale: objectives["softmax_cross_entropy"]
        if scale == 1 and "softmax_cross_entropy" in objectives
        else swept(objective="softmax_cross_entropy", scale=scale).fooled
        for scale in SCALES
    }
    told(1)
    towards = np.zeros(len(subject.labels), bool)
    for rank in _RANKS[: subject.classes - 1]:
        found = swept(objective="towards", rank=rank, among=~towards)
        towards |= found.fooled
    told(1)
    radii, within = _against_epsilon(subject, epsilon)
    told(1)
    near, noise = (
        watch.around(subject, NOISE, "linf"),
        watch.around(subject, epsilon, subject.norm)["success"],
    )
    line, planted = watch.line(subject, epsilon), watch.plant(subject, epsilon)
    told(1)
    square = _square(subject, epsilon)
    transferred = [_transferred(subject, other, epsilon) for other in others]
    told(1)
    return Tried(
        steps=steps,
        trace=trace,
        logits=first,
        again=again,
        holds=attacked.argmax(axis=1) != subject.labels,
        line=line,
        near=near,
        noise=noise,
        starts=starts,
        objectives=objectives,
        scales=scales,
        towards=towards,
        square=square,
        radii=radii,
        within=within,
        transferred=transferred,
        planted=planted,
    )


def _objectives(subject: Subject) -> list[str]:
    """What is climbed in turn; what is the training loss itself is not repeated."""
    names = ["softmax_cross_entropy", "margin"]
    names += ["dlr"] * (subject.classes >= losses.DLR_CLASSES)
    return ["training", *(name for name in names if name != subject.training[0])]


def _against_epsilon(subject: Subject, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Growing radii, the last of which holds every image; who is fooled within each."""
    farthest = subject.farthest
    radii = [share * epsilon for share in _RADII if share * epsilon < farthest]
    found = [
        watch.climb(subject, epsilon=radius, steps=_SHORT, stop=True).fooled
        for radius in radii
    ]
    found.append(watch.climb(subject, epsilon=farthest, steps=SWEPT, stop=True).fooled)
    return np.array([*radii, farthest]), np.array(found)


def _square(subject: Subject, epsilon: float) -> np.ndarray:
    name = "square" if subject.norm == "linf" else f"square_{subject.norm}"
    entry = ATTACKS[name]
    values = {key: setting.default for key, setting in entry.settings.items()}
    values |= {"epsilon": epsilon, "queries": QUERIES}
    outcome = examples.attack(
        Target(subject.classifier_of, subject.variables),
        Adversary(
            _search(subject.classifier_of, name),
            entry,
            values,
            {"epsilon": np.float32(epsilon)},
        ),
        Split(subject.images, subject.labels),
        seed=subject.seed,
        batch_size=subject.batch_size,
        devices=subject.devices,
        survivors=subject.right,
        natural=np.where(subject.right, subject.labels, -1),
    )
    return subject.right & ~outcome.worst_correct


@kept
def _search(classifier_of: Callable[[PyTree], Classifier], name: str) -> Callable:
    return functools.partial(ATTACKS[name].function, objective=losses.margin)


def _transferred(subject: Subject, other: Subject, epsilon: float) -> np.ndarray:
    """Who is fooled by images that were made against another network."""
    made = watch.climb(
        other, epsilon=epsilon, steps=SWEPT, objective="softmax_cross_entropy"
    )
    predicted = watch.logits(subject, made.images).argmax(axis=1)
    return subject.right & (predicted != subject.labels)
