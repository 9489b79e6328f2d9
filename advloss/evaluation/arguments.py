"""What a caller of `evaluate` gave, checked: one clear error for each mistake."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from advloss import networks
from advloss.attacks import ATTACKS, SUITES, suite
from advloss.attacks.direct import check_images, fingerprint
from advloss.errors import InputError, line
from advloss.evaluation.programs import Target, logits_of
from advloss.losses import OBJECTIVES
from advloss.types import Classifier, PyTree


def check_data(
    classifier: Any, images: Any, labels: Any
) -> tuple[Target, np.ndarray, np.ndarray]:
    """The network, images float32 and labels int32, which fit together.

    Raises:
        InputError: they do not.
    """
    images = np.asarray(images)
    check_images(images)
    images = images.astype(np.float32)
    target = _target(classifier, images[:1].shape)
    classes = _count_classes(target, images.shape)
    return target, images, _check_labels(labels, len(images), classes)


def _target(classifier: Any, shape: tuple[int, ...]) -> Target:
    if isinstance(classifier, tuple) and len(classifier) == 2:
        module, variables = classifier
        try:
            return Target(_cached(_of_module, module), variables)
        except TypeError as error:
            raise InputError(
                f"classifier=({type(module).__name__}, ...) is not valid: use a flax "
                f"module with its variables: {line(error)}"
            ) from error
    if not callable(classifier):  # What `fit` and `load_run` give has one.
        classifier = getattr(classifier, "classifier", classifier)
    if not callable(classifier):
        raise InputError(
            f"classifier={classifier!r:.80} is not valid: use a function of images, or "
            "a flax module with its variables, (module, variables)"
        )
    return Target(_cached(_constant, classifier, _look(classifier, shape)), {})


def _look(classifier: Classifier, shape: tuple[int, ...]) -> bytes:
    """The classifier's program and weights, which may change behind its object."""
    try:
        return fingerprint(classifier, np.zeros(shape, np.float32))[0]
    except Exception:  # Whatever its author wrote; `_count_classes` says it.
        return b""


def _cached(make: Callable, *given: Any) -> Callable[[PyTree], Classifier]:
    """The same function for the same object, so that it is compiled once."""
    try:
        return make(*given)
    except TypeError as error:
        if "hash" not in str(error):
            raise
        return make.__wrapped__(*given)


@functools.lru_cache(maxsize=16)
def _of_module(module: Any) -> Callable[[PyTree], Classifier]:
    return functools.partial(networks.classifier, networks.from_flax(module))


@functools.lru_cache(maxsize=16)
def _constant(classifier: Classifier, look: bytes) -> Callable[[PyTree], Classifier]:
    return lambda _: classifier


def _count_classes(target: Target, shape: tuple[int, ...]) -> int:
    """How many logits there are. Raises InputError where there are none."""
    try:
        logits = logits_of(target, shape)
    except Exception as error:  # Whatever its author wrote.
        raise InputError(
            f"the classifier fails for images of shape {shape}: it must be a JAX "
            "function of images [batch, height, width, channels] "
            f"({type(error).__name__}: {line(error)})"
        ) from error
    shown = f"{getattr(logits, 'dtype', type(logits).__name__)} "
    shown += str(getattr(logits, "shape", ""))
    if not (
        isinstance(logits, jax.ShapeDtypeStruct)
        and len(logits.shape) == 2
        and logits.shape[0] == shape[0]
        and logits.shape[1] > 1
        and np.issubdtype(logits.dtype, np.floating)
    ):
        raise InputError(
            f"the classifier gives {shown.strip()} for {shape[0]} images: it must give "
            f"logits, float [{shape[0]}, classes] of at least 2 classes"
        )
    return logits.shape[1]


def _check_labels(labels: Any, count: int, classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise InputError(
            f"labels are {labels.dtype}: use whole numbers from 0 to {classes - 1}"
        )
    if labels.shape != (count,):
        raise InputError(
            f"labels have shape {labels.shape}: use ({count},), one label an image"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        raise InputError(
            f"labels[{bad[0]}]={labels[bad[0]]} is no class: use 0 to {classes - 1}, "
            f"as the classifier gives {classes} logits"
        )
    return labels.astype(np.int32)


def attack_names(attacks: str | Iterable[str], norm: str) -> list[str]:
    """The attacks, each once, suites taken apart.

    Raises:
        InputError: a name is unknown, or an attack is of another norm.
    """
    norms = sorted({entry.norm for entry in ATTACKS.values()})
    if norm not in norms:
        raise InputError(f"norm={norm!r} is not valid: use one of {', '.join(norms)}")
    given = [attacks] if isinstance(attacks, str) else attacks
    known = [name for name, entry in ATTACKS.items() if entry.norm == norm]
    suites = [name for name, by_norm in SUITES.items() if norm in by_norm]
    found: list[str] = []
    try:
        for name in given:
            if name not in (*suites, *known):
                raise KeyError(name)
            found += suite(name, norm)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"attacks={attacks!r} is not valid in {norm}: use some of "
            f"{', '.join([*suites, *known])}"
        ) from error
    if not found:
        raise InputError(f"attacks={attacks!r} is not valid: use at least one")
    return list(dict.fromkeys(found))


def check_settings(names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Holds the settings to the attacks'.

    Raises:
        InputError: no attack has one of that name, or the value is not valid.
    """
    own = {
        key: setting
        for name in names
        for key, setting in ATTACKS[name].settings.items()
        if key not in ("epsilon", "objective")
    }
    for key, value in settings.items():
        if key not in own:
            raise InputError(
                f"{key}={value!r} is no setting of {', '.join(names)}: use one of "
                f"{', '.join(sorted(own))}"
            )
        valid = own[key].valid
        kinds = (int, float) if valid.kind is float else (valid.kind,)
        if type(value) not in kinds or not valid.accepts(value):
            raise InputError(f"{key}={value!r} is not valid: use {valid.text}")


def check_objective(objective: Any) -> None:
    """Raises InputError where it is none."""
    names = [name for name in OBJECTIVES if name != "training"]
    if objective is None or callable(objective) or objective in names:
        return
    raise InputError(
        f"objective={objective!r:.80} is not valid: use one of {', '.join(names)}, or "
        "a function (logits, labels) -> [batch]"
    )


def epsilons(epsilon: Any, names: Sequence[str]) -> np.ndarray:
    """The radii, `[epsilons]`, as they were given.

    Raises:
        InputError: there is none, or one is not valid for these attacks.
    """
    try:
        radii = np.asarray(epsilon)
    except ValueError:
        radii = np.asarray(None)
    valid = ATTACKS[names[0]].settings["epsilon"].valid
    if radii.dtype.kind not in "iuf" or radii.ndim > 1 or not radii.size:
        raise InputError(
            f"epsilon={epsilon!r:.80} is not valid: use {valid.text}, or several"
        )
    radii = np.atleast_1d(radii).astype(np.float64)
    for radius in radii:
        if not valid.accepts(float(radius)):
            raise InputError(f"epsilon={radius:g} is not valid: use {valid.text}")
    return radii


def batch_size(given: int | None, usual: int, devices: int) -> int:
    """The number of examples at a time, a multiple of the devices.

    Raises:
        InputError: what was given is not.
    """
    if given is None:
        return -(-usual // devices) * devices
    if type(given) is not int or given < 1 or given % devices:
        raise InputError(
            f"batch_size={given!r} is not valid: use a multiple of the {devices} "
            "devices"
        )
    return given


def check_seed(seed: Any) -> None:
    """Raises InputError where it is none."""
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise InputError(
            f"seed={seed!r} is not valid: use a whole number from 0 to {2**31 - 1}"
        )
