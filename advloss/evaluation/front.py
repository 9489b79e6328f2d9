"""How robust a network is, for those who have a function and arrays.

    result = advloss.evaluate(classifier, images, labels, epsilon=[0.1, 0.2, 0.3])
    print(result)
    result.robust_accuracy      # [3]
    result.robust               # [3, n] bool, which examples are left

Every attack takes on whom those before it have left, from the smallest epsilon to the
largest: an image that is fooled within a radius is fooled within a larger one too. All
epsilons share compiled programs, and so does a later call with the same classifier.
"""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from advloss import losses
from advloss.attacks import ATTACKS, MINIMUM_NORM, checks
from advloss.attacks.fingerprint import look_at_attack, look_at_objective
from advloss.attacks.kept import in_float32, kept
from advloss.evaluation import arguments, examples
from advloss.evaluation.curve import AttackRow, curve
from advloss.evaluation.mapped import Progress, no_progress
from advloss.evaluation.outcome import Outcome
from advloss.evaluation.programs import Adversary, Target
from advloss.evaluation.statistics import Proportion, proportion
from advloss.registry import is_own
from advloss.runtime import environment
from advloss.types import AttackResult, Classifier, Objective, PyTree, Split

_BATCH_SIZE = 200


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What is left of a network's accuracy.

    Attributes:
        norm: of epsilons and attacks.
        epsilons: `[epsilons]`, as they were given.
        robust_accuracy: `[epsilons]`, the share of examples that are classified
            correctly and that no attack fools within epsilon.
        low, high: `[epsilons]`, its 95 % interval over the choice of examples.
        natural: the accuracy without an attack, with its interval.
        robust: `[epsilons, n]` bool, which examples are left.
        attacks: what each attack did, in their order.
        backward_passes: `[n]` int, gradients computed for each example,
        forward_passes: `[n]` int, and evaluations without one.
        seconds: of all attacks.
    """

    norm: str
    epsilons: np.ndarray
    robust_accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    natural: Proportion
    robust: np.ndarray
    attacks: tuple[AttackRow, ...]
    backward_passes: np.ndarray
    forward_passes: np.ndarray
    seconds: float

    @property
    def natural_accuracy(self) -> float:
        """The accuracy without an attack."""
        return self.natural.accuracy

    def __str__(self) -> str:
        count = self.robust.shape[1]
        lines = [
            f"accuracy in %, with 95 % intervals, of {count} images in {self.norm}",
            "",
            f"{'natural':<22}{_percent(*self.natural)}",
        ]
        radii = [f"{each:g}" for each in self.epsilons]
        if len({*radii}) < len({*self.epsilons.tolist()}):
            radii = [f"{each:.12g}" for each in self.epsilons]
        for radius, *each in zip(
            radii, self.robust_accuracy, self.low, self.high, strict=True
        ):
            lines.append(f"{f'epsilon {radius}':<22}{_percent(*each)}")
        heads = f"{'attack':<22}{'left':>6}{'gradients/image':>18}{'seconds':>10}"
        lines += ["", heads]
        for row in self.attacks:
            left, passes = 100 * row.robust_accuracy.min(), row.backward_passes.mean()
            lines.append(
                f"{row.name:<22}{left:>6.1f}{passes:>18.1f}{row.seconds:>10.1f}"
            )
        for row in self.attacks:
            if flat := int(row.zero_gradient.sum()):
                lines.append(
                    f"{row.name} had no gradient to follow at {flat} images: this says "
                    "nothing of them"
                )
        return "\n".join(lines)

    __repr__ = __str__


def _percent(accuracy: float, low: float, high: float) -> str:
    return f"{100 * accuracy:>6.1f} [{100 * low:.1f}, {100 * high:.1f}]"


@jax.disable_jit(False)  # Whatever holds outside: its programs are compiled.
def evaluate(
    classifier: Any,
    images: Any,
    labels: Any,
    *,
    epsilon: float | Sequence[float] = 0.3,
    attacks: str | Sequence[str] = "strong",
    norm: str = "linf",
    objective: str | Objective | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
    devices: Sequence[jax.Device] | None = None,
    **settings: Any,
) -> Result:
    """What is left of a network's accuracy under the strongest attacks there are.

    Args:
        classifier: a pure JAX function, images -> logits `[batch, classes]`; or a flax
            module with its variables, (module, variables); or what has a `classifier`.
            The same object is compiled once.
        images: `[n, height, width, channels]` float in [0, 1]; what a network needs
            beside, such as another mean, belongs into the classifier.
        labels: `[n]` int, the true classes.
        epsilon: one radius or several, in the norm, in units of pixel value (of l0, in
            pixels).
        attacks: a suite's name, an attack's, or several of them; see
            `attacks.SUITES` and `attacks.ATTACKS`.
        norm: "linf", "l2", "l1" or "l0".
        objective: what attacks climb: a name in `losses.OBJECTIVES` but "training", or
            a function (logits, labels) -> `[batch]`. By default each attack's own, and
            softmax cross-entropy where that is the unknown training loss.
        seed: of the attacks' random draws.
        batch_size: examples at a time, over all devices together.
        progress: whether a bar is shown on standard error.
        devices: they share every batch; by default all.
        **settings: of those attacks that have them, such as steps=20 or restarts=5.
            Unless it is given, step_size of fixed-epsilon attacks grows with epsilon
            and shrinks with steps: all steps together go as many times as far as
            epsilon as by default.

    Raises:
        InputError: an argument is not as above, or the network's logits are not finite;
            the message names the argument.
    """
    checks.check_outside("evaluate", images, labels)
    network = arguments.network_in(classifier)  # Held: its programs go with it.
    target, images, labels, classes = arguments.check_data(network, images, labels)
    names = arguments.attack_names(attacks, norm)
    settings = {key: checks.plain(value) for key, value in settings.items()}
    arguments.check_settings(names, settings)
    arguments.check_objective(objective)
    arguments.check_climbed(objective, names)
    shape = images.shape[1:]
    function = functools.partial(_function, target, shape, classes, objective)
    epsilons = arguments.epsilons(epsilon, names)
    seed, batch_size = checks.plain(seed), checks.plain(batch_size)
    arguments.check_seed(seed)
    devices = arguments.check_devices(devices)
    how: dict[str, Any] = {
        "batch_size": arguments.batch_size(
            batch_size, min(_BATCH_SIZE, len(labels)), len(devices)
        ),
        "devices": devices,
    }
    natural = examples.predict(target, images, **how)
    examples.check_alone(target, images, **how)

    def run(name: str, radius: float, survivors: np.ndarray) -> Outcome:
        text = f"{name} {radius:g}" if ATTACKS[name].kind != MINIMUM_NORM else name
        with _bar(progress, text, len(labels)) as told:
            return examples.attack(
                target,
                _adversary(name, radius, function, settings),
                Split(images, labels),
                seed=seed,
                survivors=survivors,
                natural=natural,
                progress=told,
                **how,
            )

    sorted_epsilons, places = np.unique(epsilons, return_inverse=True)
    robust, rows = curve(names, sorted_epsilons, natural == labels, run)
    robust = robust[places]
    rows = [
        dataclasses.replace(row, robust_accuracy=row.robust_accuracy[places])
        for row in rows
    ]
    intervals = np.array([proportion(each) for each in robust])
    backward: Any = sum(row.backward_passes for row in rows)
    forward: Any = sum(row.forward_passes for row in rows)
    return Result(
        norm=norm,
        epsilons=epsilons,
        robust_accuracy=intervals[:, 0],
        low=intervals[:, 1],
        high=intervals[:, 2],
        natural=proportion(natural == labels),
        robust=robust,
        attacks=tuple(rows),
        backward_passes=backward,
        # One more for the natural image.
        forward_passes=1 + forward,
        seconds=sum(row.seconds for row in rows),
    )


@contextlib.contextmanager
def _bar(shown: bool, text: str, total: int) -> Iterator[Progress]:
    if not shown:
        yield no_progress
        return
    with environment.progress_bar(text, total, "img") as bar:
        yield bar.update


def _adversary(
    name: str,
    epsilon: float,
    function: Callable[..., Callable[..., AttackResult]],
    given: Mapping[str, Any],
) -> Adversary:
    """The attack at a radius: the same program for every one."""
    entry = ATTACKS[name]
    values = {key: setting.default for key, setting in entry.settings.items()}
    # Of a minimum-norm attack it is of the first step, whatever the radius.
    if {"step_size", "steps"} <= values.keys() and entry.kind != MINIMUM_NORM:
        share = values["step_size"] * values["steps"] / values["epsilon"]
        share /= max(given.get("steps", values["steps"]), 1)
        values["step_size"] = min(share, 1.0) * epsilon
    values |= {key: value for key, value in given.items() if key in values}
    values["epsilon"] = epsilon
    numbers = [key for key, setting in entry.settings.items() if setting.swept]
    traced: dict[str, Any] = {key: np.float32(values[key]) for key in numbers}
    if entry.kind == MINIMUM_NORM:
        del traced["epsilon"]  # By which the result is judged.
    fixed = {key: value for key, value in values.items() if key not in numbers}
    return Adversary(function(name, fixed, traced), entry, values, traced)


def _function(
    target: Target,
    shape: tuple[int, ...],
    classes: int,
    objective: str | Objective | None,
    name: str,
    fixed: Mapping[str, Any],
    traced: Mapping[str, Any],
) -> Callable[..., AttackResult]:
    """The attack with these settings; the same object for the same functions."""
    bound, held = dict(fixed), b""
    if "objective" in bound:
        usual, scale = bound["objective"], bound.pop("objective_scale")
        usual = "softmax_cross_entropy" if usual == "training" else usual
        chosen = named = usual if objective is None else objective
        if callable(chosen):
            named = "training"
            held = look_at_objective(chosen, classes + 1, classes).program
        elif named in losses.LOSSES:  # As it is registered now.
            chosen = losses.LOSSES[named].function
            loss = losses.climb(named, losses.defaults(named))
            held = look_at_objective(loss, classes + 1, classes).program
        bound["objective"] = named, chosen, scale
    how = target.classifier_of, ATTACKS[name].function, tuple(bound.items())
    if is_own(ATTACKS, name):
        alone = functools.partial(inspect.unwrap(_bound)(*how, held), **traced)
        held += look_at_attack(alone, (1, *shape), classes).program
    return _bound(*how, held)


@kept
def _bound(
    classifier_of: Callable[[PyTree], Classifier],
    function: Callable[..., AttackResult],
    fixed: tuple[tuple[str, Any], ...],
    held: bytes,
) -> Callable[..., AttackResult]:
    bound = dict(fixed)
    if "objective" in bound:
        named, chosen, scale = bound["objective"]
        training = in_float32(chosen) if named == "training" else losses.margin
        bound["objective"] = losses.objective(named, training, scale)
    return functools.partial(function, **bound)
