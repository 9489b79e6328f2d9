"""Programs of a batch on the examples of a subject: what they saw, on the host.

    seen = climb(subject, epsilon=0.3, steps=100)
    seen.loss        # [n, 101], the objective at the start and after each step
    seen.success     # [n, 101] bool, the iterate fools the network

Every function raises InputError where the network's logits are not finite.
"""

import numpy as np

from advloss.evaluation.diagnosis import binarization, climbs, looks
from advloss.evaluation.diagnosis.binarization import Found
from advloss.evaluation.diagnosis.climbs import Climb
from advloss.evaluation.diagnosis.subject import Subject


def climb(
    subject: Subject,
    *,
    epsilon: float,
    steps: int,
    length: float | None = None,
    objective: str = "training",
    scale: float = 1.0,
    rank: int = 2,
    start: int = 0,
    stop: bool = False,
    among: np.ndarray | None = None,
) -> Climb:
    """PGD from a random start, watched.

    Args:
        subject: the network and its images.
        epsilon: the radius, in the subject's norm.
        steps: at least 1.
        length: of a step; by default `climbs.step_size`.
        objective: one of `climbs.OBJECTIVES`.
        scale: the logits are multiplied by it before the objective.
        rank: of the class that "towards" climbs to, 2 for the most likely wrong one.
        start: the number of the random start.
        stop: an example that was fooled is attacked no further.
        among: `[n]` bool, whom it is run on; by default all that are right.
    """
    count = len(subject.labels)
    among = subject.right if among is None else among & subject.right
    places, current = np.flatnonzero(among), subject.images.copy()
    seen = Climb(
        loss=np.full((count, steps + 1), np.nan, np.float32),
        success=np.zeros((count, steps + 1), bool),
        flat=np.zeros((count, steps), bool),
        images=subject.images.copy(),
    )
    program = climbs.program(
        subject.classifier_of, subject.norm, subject.classes, *subject.training
    )
    length = climbs.step_size(epsilon, steps) if length is None else length
    numbers = {
        "choice": np.int32(climbs.OBJECTIVES.index(objective)),
        "epsilon": np.float32(epsilon),
        "step_size": np.float32(length),
        "scale": np.float32(scale),
        "rank": np.int32(rank),
        "start": np.int32(start),
    }
    for done in range(0, steps, climbs.CHUNK):
        part = min(climbs.CHUNK, steps - done)
        if stop:
            places = places[~seen.fooled[places]]
        if not len(places):
            break
        numbers |= {"first": np.bool_(done == 0), "steps": np.int32(part)}
        found = subject.run(program, numbers, places, current[places])
        current[places] = found["images"]
        new = ~seen.fooled[places]
        seen.images[places[new]] = found["worst_images"][new]
        for name in ("loss", "success"):
            rows = np.concatenate(
                [found[name][:, :part], found[f"last_{name}"][:, None]], axis=1
            )
            getattr(seen, name)[places, done : done + part + 1] = rows
        seen.flat[places, done : done + part] = found["flat"][:, :part]
    return seen


def logits(subject: Subject, images: np.ndarray) -> np.ndarray:
    """`[n, classes]` the network's logits for images in the place of its own.

    Raises:
        InputError: they are not finite.
    """
    places = np.arange(len(images))
    program = looks.logits(subject.classifier_of)
    return subject.run(program, {}, places, images)["logits"]


def line(subject: Subject, epsilon: float) -> dict[str, np.ndarray]:
    """One step along the gradient of the training objective, at every tenth of it.

    Returns:
        "success" `[n, 10]` bool, the image at `looks.SHARES` of the step fools; "flat"
        `[n]` bool, the objective's gradient at the natural image is zero; "flat_margin"
        `[n]`, the margin's is. False where the natural image is wrong already.
    """
    count = len(subject.labels)
    found = {
        "success": np.zeros((count, len(looks.SHARES)), bool),
        "flat": np.zeros(count, bool),
        "flat_margin": np.zeros(count, bool),
    }
    places = np.flatnonzero(subject.right)
    program = looks.line(subject.classifier_of, subject.norm, *subject.training)
    seen = subject.run(program, {"epsilon": np.float32(epsilon)}, places)
    for name, array in found.items():
        array[places] = seen[name]
    return found


def around(subject: Subject, radius: float, norm: str) -> dict[str, np.ndarray]:
    """The network at 100 random points around each image, uniform in the ball.

    Returns:
        "change" `[n]`, the mean of |M(x + u) - M(x)| / |M(x)|, M the margin; nan where
        the natural image is wrong; "success" `[n]` bool, some point fools.
    """
    count = len(subject.labels)
    found = {"change": np.full(count, np.nan), "success": np.zeros(count, bool)}
    places = np.flatnonzero(subject.right)
    program = looks.around(subject.classifier_of, norm)
    seen = subject.run(program, {"radius": np.float32(radius)}, places)
    for name, array in found.items():
        array[places] = seen[name]
    return found


def plant(subject: Subject, epsilon: float, images: int = 50) -> Found:
    """Plants a region near each of the first images that are right, and attacks it."""
    places = np.flatnonzero(subject.right)[:images]
    program = binarization.program(subject.classifier_of, subject.norm)
    numbers = {"epsilon": np.float32(epsilon)}
    return Found(**subject.run(program, numbers, places))
