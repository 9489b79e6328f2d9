"""Whether a network's accuracy under attack can be trusted.

    diagnosis = advloss.diagnose(classifier, images, labels, epsilon=0.3)
    print(diagnosis)
    diagnosis.trusted               # no check failed
    diagnosis.robust_accuracy       # what all attacks together leave

The number that is judged is the accuracy under PGD on the training loss. Every check is
a pure function of what attacks found, in a file of its family; this one runs the
attacks. A network whose images are not fooled costs most: each takes some 900
gradients and 1,100 evaluations.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from advloss import losses
from advloss.attacks import checks
from advloss.attacks.fingerprint import look_at_objective
from advloss.errors import InputError, shown
from advloss.evaluation import arguments, examples
from advloss.evaluation.diagnosis import attempts, flags, indicators, sweeps
from advloss.evaluation.diagnosis.attempts import Tried
from advloss.evaluation.diagnosis.binarization import binarization
from advloss.evaluation.diagnosis.check import Check
from advloss.evaluation.diagnosis.subject import Subject
from advloss.evaluation.diagnosis.verdict import Diagnosis
from advloss.runtime import environment
from advloss.types import Objective

_BATCH_SIZE = 50
_NORMS = ("linf", "l2")
_MOST_STEPS = 10_000
_TRANSFER = "give surrogates=[classifier, ...], or --surrogates=FOLDER,FOLDER"


@jax.disable_jit(False)  # Whatever holds outside: its programs are compiled.
def diagnose(
    classifier: Any,
    images: Any,
    labels: Any,
    *,
    epsilon: float = 0.3,
    norm: str = "linf",
    objective: str | Objective | None = None,
    steps: int = 100,
    step_size: float | None = None,
    surrogates: Sequence[Any] = (),
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
    devices: Sequence[jax.Device] | None = None,
) -> Diagnosis:
    """Runs the experts' checks on a network.

    Args:
        classifier, images, labels, seed, batch_size, progress, devices: see `evaluate`.
            Some 100 to 200 images are enough.
        epsilon: one radius, in the norm, in units of pixel value.
        norm: "linf" or "l2".
        objective: what the attack climbs whose number is judged, the network's training
            loss: a name in `losses.OBJECTIVES` but "training", or a function (logits,
            labels) -> `[batch]`. By default softmax cross-entropy.
        steps: of that attack, PGD from a random start; at least 1.
        step_size: of it; by default all steps together go 2.5 times epsilon.
        surrogates: other networks, of the kinds that `classifier` may be; images made
            against them are shown to the network.

    Raises:
        InputError: an argument is not as above, or the network's logits are not finite,
            or no image is classified correctly; the message names the argument.
    """
    began = time.perf_counter()
    checks.check_outside("diagnose", images, labels)
    network = arguments.network_in(classifier)  # Held: its programs go with it.
    target, images, labels, classes = arguments.check_data(network, images, labels)
    epsilon, steps, length = _radii(epsilon, norm, steps, step_size)
    training = _training(objective, classes)
    seed, batch_size = checks.plain(seed), checks.plain(batch_size)
    arguments.check_seed(seed)
    devices = arguments.check_devices(devices)
    usual = min(_BATCH_SIZE, len(labels))
    how = {
        "batch_size": arguments.batch_size(batch_size, usual, len(devices)),
        "devices": devices,
    }
    right = examples.predict(target, images, **how) == labels
    if not right.any():
        raise InputError(
            f"the network classifies none of the {len(labels)} images correctly: "
            "there is nothing to attack; are these the labels of these images?"
        )
    subject = Subject(
        *target, images, labels, right, classes, norm, training, seed, **how
    )
    rivals, others = [], []  # Held, as the network is.
    for number, given in enumerate(_listed(surrogates)):
        with _named(f"surrogates[{number}]"):
            rivals.append(arguments.network_in(given))
            rival, *_ = arguments.check_data(rivals[-1], images, labels)
        others.append(subject._replace(**rival._asdict()))
    parts = attempts.PARTS
    with environment.progress_bar("diagnose", parts, "part", shown=progress) as bar:
        tried = attempts.try_all(subject, others, epsilon, steps, length, bar.update)
    worst = tried.worst(epsilon)
    return Diagnosis(
        norm=norm,
        epsilon=epsilon,
        attack=f"PGD-{steps} on {training[0]}",
        natural=right,
        standing=right & ~tried.number,
        robust=right & ~worst,
        attacks=_alone(tried, right, training[0]),
        checks=tuple(_checks(subject, tried, epsilon)),
        by_epsilon=_by_epsilon(tried, right),
        by_steps=_by_steps(tried, right),
        seconds=time.perf_counter() - began,
    )


def _listed(surrogates: Any) -> Sequence[Any]:
    if not isinstance(surrogates, list | tuple):
        raise InputError(
            f"surrogates={shown(surrogates)} is not valid: use a list of classifiers"
        )
    return surrogates


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """An error of one of several networks says of which."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _radii(
    epsilon: Any, norm: Any, steps: Any, step_size: Any
) -> tuple[float, int, float | None]:
    """The radius, the steps and their length. Raises InputError."""
    if norm not in _NORMS:
        raise InputError(
            f"norm={shown(norm)} is not valid: use one of {', '.join(_NORMS)}"
        )
    (name,) = arguments.attack_names("pgd" if norm == "linf" else f"pgd_{norm}", norm)
    radii = arguments.epsilons(epsilon, [name], several=False)
    if len(radii) != 1 or not radii[0] > 0:
        raise InputError(
            f"epsilon={shown(epsilon)} is not valid: use one radius larger than 0"
        )
    steps, step_size = checks.plain(steps), checks.plain(step_size)
    if type(steps) is not int or not 1 <= steps <= _MOST_STEPS:
        raise InputError(
            f"steps={shown(steps)} is not valid: use a whole number from 1 to "
            f"{_MOST_STEPS}"
        )
    if step_size is not None:
        arguments.check_settings([name], {"step_size": step_size})
    return float(radii[0]), steps, step_size


def _training(
    objective: str | Objective | None, classes: int
) -> tuple[str, Objective, bytes]:
    """The training loss: its name, its function, and the digest of what it holds."""
    arguments.check_objective(objective)
    objective = "softmax_cross_entropy" if objective is None else objective
    if callable(objective):
        digest = look_at_objective(objective, classes + 1, classes).program
        return "the training loss", objective, digest
    if objective in losses.LOSSES:  # As it is registered now.
        loss = losses.climb(objective, losses.defaults(objective))
        held = look_at_objective(loss, classes + 1, classes).program
        return objective, losses.LOSSES[objective].function, held
    return objective, {"margin": losses.margin, "dlr": losses.dlr}[objective], b""


def _alone(tried: Tried, right: np.ndarray, own: str) -> dict[str, float]:
    """The accuracy that each attack leaves by itself, by the attack's title."""
    steps, swept = tried.steps, attempts.SWEPT
    fooled = {
        f"PGD-{steps} on {own}": tried.number,
        f"PGD-{2 * steps} on {own}": tried.trace.fooled,
        f"PGD-{steps} from {1 + len(tried.starts)} starts": np.any(
            [tried.number, *tried.starts], axis=0
        ),
    }
    for name, found in tried.objectives.items():
        if name != "training":
            fooled[f"PGD-{swept} on {name}"] = found
    for scale, found in tried.scales.items():
        if scale != 1:
            fooled[f"PGD-{swept} on cross-entropy of {scale:g} z"] = found
    fooled |= {
        f"PGD-{swept} towards the likely classes": tried.towards,
        "FGSM": tried.line["success"][:, -1],
        "noise, worst of 100": tried.noise,
        f"Square-{attempts.QUERIES}": tried.square,
    }
    for number, found in enumerate(tried.transferred):
        fooled[f"transfer from surrogate {number}"] = found
    return {name: float((right & ~found).mean()) for name, found in fooled.items()}


def _by_epsilon(tried: Tried, right: np.ndarray) -> np.ndarray:
    """`[2, 1 + radii]` radii from 0, and the accuracy that is left within each."""
    left = [right.mean(), *(right & ~tried.within).mean(axis=1)]
    return np.array([[0.0, *tried.radii], left])


def _by_steps(tried: Tried, right: np.ndarray) -> np.ndarray:
    """`[2, looks]` steps, and the accuracy that is left after each."""
    fooled = np.logical_or.accumulate(tried.trace.success, axis=1)
    left = (right[:, None] & ~fooled).mean(axis=0)
    return np.stack([np.arange(len(left)), left])


def _checks(subject: Subject, tried: Tried, epsilon: float) -> list[Check]:
    """What every check says of what was tried."""
    right, trace = subject.right, tried.trace
    success = trace.success[right, : tried.steps + 1]
    gradients = tried.gradients(epsilon)
    transferred = np.any(tried.transferred, axis=0) if tried.transferred else None
    number = (right & ~tried.number).mean()
    robust = (right & ~tried.worst(epsilon)).mean()
    return [
        indicators.unavailable_gradients(trace.flat[right, : tried.steps]),
        indicators.unstable_predictions(tried.near["change"][right]),
        indicators.silent_success(success),
        indicators.incomplete_optimisation(
            trace.loss[right, : tried.steps + 1], success.any(axis=1)
        ),
        indicators.transfer_failure(trace.fooled[right], tried.holds[right]),
        indicators.unconstrained_failure(tried.within[-1, right]),
        binarization(tried.planted),
        flags.randomised(tried.logits, tried.again),
        flags.is_distribution(tried.logits),
        flags.zero_gradients(tried.line["flat_margin"][right]),
        flags.few_classes(subject.classes),
        flags.square_beats_gradients(tried.square, gradients),
        sweeps.noise_beats(tried.noise, tried.number),
        sweeps.transfer_beats(transferred, gradients, _TRANSFER),
        sweeps.one_step(tried.line["success"][:, -1], tried.number),
        sweeps.many_steps(tried.line["success"][:, -1], trace.fooled),
        sweeps.on_the_way(tried.line["success"]),
        sweeps.against_epsilon(tried.within),
        sweeps.against_steps(trace.success, tried.steps),
        sweeps.against_restarts(tried.number, tried.starts),
        sweeps.objectives(tried.objectives, "training"),
        sweeps.scales(tried.scales, tried.objectives["training"]),
        sweeps.all_together(number, robust, len(right)),
    ]
