"""What a caller of `evaluate` gave, checked: one clear error for each mistake."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advloss import networks
from advloss.attacks import ATTACKS, NORMS, SUITES, TRAINING_ONLY, checks, suite
from advloss.attacks.fingerprint import look
from advloss.attacks.given import blamed, count_classes
from advloss.attacks.kept import kept, stand_in
from advloss.errors import InputError, line, shown
from advloss.evaluation.programs import Target, logits_of
from advloss.losses import OBJECTIVES
from advloss.registry import Valid
from advloss.runtime import devices as runtime_devices
from advloss.types import Classifier, PyTree


def check_data(
    classifier: Any, images: Any, labels: Any
) -> tuple[Target, np.ndarray, np.ndarray, int]:
    """The network, images float32, labels int32, which fit together; the classes.

    Args:
        classifier: from `network_in`. What is compiled goes with it: it is to be held.

    Raises:
        InputError: they do not.
    """
    images = checks.check_images(images)
    target = _target(classifier, images[:1])
    with blamed(
        f"the classifier fails for images of shape {images.shape}: it must be a JAX "
        "function of images [batch, height, width, channels]"
    ):
        logits = logits_of(target, images.shape)
    classes = count_classes(logits, len(images))
    return target, images, checks.check_labels(labels, len(images), classes), classes


def network_in(classifier: Any) -> Any:
    """What is attacked of what a caller gave: a function, or a module with variables.

    Raises:
        InputError: it is none.
    """
    if isinstance(classifier, tuple) and len(classifier) == 2:
        return classifier
    if not callable(classifier):  # What `fit` and `load_run` give has one.
        classifier = getattr(classifier, "classifier", classifier)
    if not callable(classifier):
        raise InputError(
            f"classifier={shown(classifier)} is not valid: use a function of images, "
            "or a flax module with its variables, (module, variables)"
        )
    return classifier


def _target(classifier: Any, images: np.ndarray) -> Target:
    if not isinstance(classifier, tuple):
        seen = look(classifier, images)
        return Target(_constant(stand_in(classifier, seen.arrays), seen.program), {})
    module, variables = classifier
    checks.check_outside("evaluate", variables)
    try:
        network = networks.from_flax(module)
    except TypeError as error:
        raise InputError(
            f"classifier=({type(module).__name__}, ...) is not valid: use a flax "
            f"module with its variables: {line(error)}"
        ) from error
    seen = look(lambda x, v: networks.classifier(network, v)(x), images, variables)
    return Target(_of_module(module, seen.program), variables)


@kept
def _constant(classifier: Classifier, program: bytes) -> Callable[[PyTree], Classifier]:
    return lambda _: classifier


def _of_module(module: Any, program: bytes) -> Callable[[PyTree], Classifier]:
    """The same function for equal modules of one program; without a hash, a new one."""
    try:
        return _of_hashable(module, program)
    except TypeError as error:
        if "hash" not in str(error):
            raise
        return _of_hashable.__wrapped__(module, program)


@functools.lru_cache(maxsize=16)
def _of_hashable(module: Any, program: bytes) -> Callable[[PyTree], Classifier]:
    return functools.partial(networks.classifier, networks.from_flax(module))


def attack_names(attacks: str | Iterable[str], norm: str) -> list[str]:
    """The attacks, each once, suites taken apart.

    Raises:
        InputError: a name is unknown, or an attack is of another norm.
    """
    norms = sorted({*NORMS, "l0"})
    if norm not in norms:
        valid = f"one of {', '.join(norms)}"
        raise InputError(f"norm={shown(norm)} is not valid: use {valid}")
    if isinstance(attacks, Mapping):
        raise InputError(
            f"attacks={shown(attacks)} is not valid: use a list of names, and settings "
            "as arguments of their own, such as steps=20"
        )
    given = [attacks] if isinstance(attacks, str) else attacks
    known = [
        name
        for name, entry in ATTACKS.items()
        if entry.norm == norm and entry.kind != TRAINING_ONLY
    ]
    ending = "" if norm == "linf" else f"_{norm}"
    suites = [name.removesuffix(ending) for name, s in SUITES.items() if s.norm == norm]
    found: list[str] = []
    try:
        for name in given:
            if name not in (*suites, *known):
                raise KeyError(name)
            found += suite(name, norm)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"attacks={shown(attacks)} is not valid in {norm}: use some of "
            f"{', '.join([*suites, *known])}"
        ) from error
    if not found:
        raise InputError(f"attacks={shown(attacks)} is not valid: use at least one")
    if strange := [name for name in found if name not in known]:
        raise InputError(
            f"attacks={shown(attacks)} names {strange[0]}, which measures nothing in "
            f"{norm}: mend the suite that has it"
        )
    return list(dict.fromkeys(found))


def check_settings(names: Sequence[str], settings: Mapping[str, Any]) -> None:
    """Holds the settings to the attacks'.

    Raises:
        InputError: no attack has one of that name, or the value is not valid.
    """
    own: dict[str, dict[str, Valid]] = {}
    for name in names:
        for key, setting in ATTACKS[name].settings.items():
            if key not in ("epsilon", "objective"):
                own.setdefault(key, {})[name] = setting.valid
    for key, value in settings.items():
        if key not in own:
            raise InputError(
                f"{key}={shown(value)} is no setting of {', '.join(names)}: use one of "
                f"{', '.join(sorted(own))}"
            )
        for name, valid in own[key].items():
            kinds = (int, float) if valid.kind is float else (valid.kind,)
            if type(value) not in kinds or not valid.accepts(value):
                raise InputError(
                    f"{key}={shown(value)} is not valid: use {valid.instead_of(value)}"
                    + (f", as {name} asks" if len(own[key]) > 1 else "")
                )


def check_objective(objective: Any) -> None:
    """Raises InputError where it is none."""
    names = [name for name in OBJECTIVES if name != "training"]
    if objective is None or callable(objective):
        return
    if isinstance(objective, str) and objective in names:
        return
    raise InputError(
        f"objective={shown(objective)} is not valid: use one of {', '.join(names)}, or "
        "a function (logits, labels) -> [batch]"
    )


def check_climbed(objective: Any, names: Sequence[str]) -> None:
    """Raises InputError where there is an objective, and no attack that climbs one."""
    climb = any("objective" in ATTACKS[name].settings for name in names)
    if objective is not None and not climb:
        raise InputError(
            f"objective={shown(objective)} changes nothing: {', '.join(names)} has no "
            "objective; leave it out"
        )


def epsilons(epsilon: Any, names: Sequence[str], *, several: bool = True) -> np.ndarray:
    """The radii, `[epsilons]`, as they were given; of one alone where not several.

    Raises:
        InputError: there is none, or one is not valid for these attacks.
    """
    try:
        radii = np.asarray(epsilon)
    except ValueError:
        radii = np.asarray(None)
    if jnp.issubdtype(radii.dtype, jnp.floating):  # Also those that JAX has alone.
        radii = radii.astype(np.float64)
    given = epsilon if isinstance(epsilon, list | tuple) else [epsilon]
    truths = any(isinstance(each, bool | np.bool_) for each in given)
    entries = [ATTACKS[name].settings.get("epsilon") for name in names]
    if None in entries:
        name = names[entries.index(None)]
        raise InputError(
            f"attacks={name} is not valid: give its entry the setting epsilon"
        )
    valid, *others = (entry.valid for entry in entries if entry)
    known = radii.dtype.kind in "iuf" and not truths and not np.ma.is_masked(epsilon)
    if not known or radii.ndim > 1 or not radii.size:
        raise InputError(
            f"epsilon={shown(epsilon)} is not valid: use {valid.text}"
            + (", or several" if several else "")
        )
    radii = np.atleast_1d(radii).astype(np.float64)
    for radius, each in itertools.product(radii.tolist(), (valid, *others)):
        if not each.accepts(radius):
            raise InputError(
                f"epsilon={radius:.15g} is not valid: use {each.instead_of(radius)}"
            )
    return radii


def batch_size(given: int | None, usual: int, devices: int) -> int:
    """The number of examples at a time, a multiple of the devices.

    Raises:
        InputError: what was given is not.
    """
    if given is None:
        return -(-usual // devices) * devices
    if type(given) is not int or not 1 <= given < 2**31 or given % devices:
        raise InputError(
            f"batch_size={shown(given)} is not valid: use a multiple of the {devices} "
            f"devices, below {2**31}"
        )
    return given


def check_seed(seed: Any) -> None:
    """Raises InputError where it is none."""
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise InputError(
            f"seed={shown(seed)} is not valid: use a whole number from 0 to {2**31 - 1}"
        )


def check_devices(devices: Any) -> list[jax.Device]:
    """The devices, each once; by default all. Raises InputError where they are none."""
    if devices is None:
        return runtime_devices.all_devices()
    found = list(devices) if isinstance(devices, Iterable) else [devices]
    known = all(isinstance(device, jax.Device) for device in found)
    if not known or not found or len(set(found)) < len(found):
        raise InputError(
            f"devices={shown(devices)} is not valid: use a list of some of "
            "jax.devices(), each once"
        )
    return found
