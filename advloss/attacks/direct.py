"""An attack called directly: its input is checked, and its program compiled once."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advloss.attacks import base, checks, given
from advloss.attacks.fingerprint import look, look_at_attack, look_at_objective
from advloss.attacks.kept import in_float32, kept, stand_in
from advloss.errors import InputError
from advloss.registry import Valid
from advloss.types import Array, AttackResult, Classifier

# What any attack's settings may be: some hand on those of others.
_KINDS: dict[str, frozenset[Any]] = {}
# Of arrays in programs, whatever JAX's own default is.
_TYPES = {"f": np.float32, "i": np.int32}


def attack(
    function: Callable[..., AttackResult], **ranges: Valid
) -> Callable[..., AttackResult]:
    """Lets an attack be called on arrays of a notebook as within a compiled program.

    Within one (where an argument is traced, or an array that the classifier or the
    objective holds) the call is passed on, with logits in float32. Elsewhere values are
    checked, images and logits become float32, and the attack runs as one program,
    compiled once for each classifier, objective, shape and choice of static settings;
    floats and arrays are its arguments. Classifier and objective must be the same
    objects then. What they hold is part of the program: where it has changed since, the
    program is compiled anew, and where the attack is another than it was. It is kept as
    long as the classifier is.

    Args:
        function: the attack.
        **ranges: of settings that this attack takes fewer values of than others do.

    Raises:
        InputError: images that are no floats, not finite or not in [0, 1], labels or
            targets that are no classes, a target that is the label, a setting of
            another type, a number that is negative or not finite, `start` outside the
            ball, an empty batch, channels first, a classifier or an objective that
            fails or gives another shape, logits that are not finite; the message names
            the argument.
    """
    own, ours = checks.kinds(function), function.__module__.startswith("advloss.")
    _KINDS.update(own)

    @functools.wraps(function)
    def checked(
        classifier: Classifier,
        keys: Array,
        images: Array,
        labels: Any,
        **settings: Any,
    ) -> AttackResult:
        traced = functools.partial(_within, function, classifier, keys, images, labels)
        if given.is_traced((keys, images, labels, settings)):
            return traced(settings)
        seen = checks.check_images(images)
        # On the device where they are.
        images = jnp.asarray(
            images if isinstance(images, jax.Array) else seen, jnp.float32
        )
        settings = {key: checks.plain(value) for key, value in settings.items()}
        for key, value in settings.items():
            kinds = {**_KINDS, **own}.get(key, frozenset())
            checks.check_setting(key, value, kinds)
            if ours:
                checks.check_own(key, value, ranges)
            if float in kinds and value is not None:  # Whole numbers, too.
                settings[key] = np.asarray(value, np.float32)
        try:
            network = look(classifier, images)
            classes = given.count_classes(network.result, len(images))
            held = network.program
            if (objective := settings.get("objective")) is not None:
                held += look_at_objective(objective, len(images), classes).program
            if not ours:
                bound = functools.partial(function, **settings)
                held += look_at_attack(bound, images.shape, classes).program
        except given.TracedError:
            return traced(settings)
        labels = checks.check_labels(labels, len(images), classes)
        checks.check_keys(keys)
        base.check_arguments(keys, images, labels)
        settings |= checks.check_aims(settings, seen, labels, classes)
        arrays = {  # Of the host, wherever they lay: they go where the images are.
            key: np.asarray(value, _TYPES.get(jnp.result_type(value).kind))
            for key, value in settings.items()
            if isinstance(value, float | np.ndarray | jax.Array)
        }
        static = tuple((k, v) for k, v in settings.items() if k not in arrays)
        run = _program(stand_in(classifier, network.arrays), function, static, held)
        result, finite = run(keys, images, labels, arrays)
        # Within a program that is being traced, values are not known.
        if not given.is_traced(finite) and not finite.all():
            raise InputError(
                f"the classifier's logits are not finite at {int((~finite).sum())} of "
                f"{len(finite)} images: nothing can be said of its robustness"
            )
        return result

    return checked


def _within(
    function: Callable[..., AttackResult],
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    settings: dict[str, Any],
) -> AttackResult:
    """A call within a compiled program, of logits and objectives in float32."""
    if settings.get("objective") is not None:
        settings = {**settings, "objective": in_float32(settings["objective"])}
    return function(in_float32(classifier), keys, images, labels, **settings)


@kept
def _program(
    classifier: Classifier,
    function: Callable[..., Any],
    static: tuple[Any, ...],
    held: bytes,
) -> Callable[..., Any]:
    fixed = dict(static)
    if (objective := fixed.get("objective")) is not None:
        fixed["objective"] = in_float32(objective)

    def run(
        keys: Array, images: Array, labels: Array, arrays: dict[str, Any]
    ) -> tuple[Any, ...]:
        result = function(classifier, keys, images, labels, **fixed, **arrays)
        seen = classifier(images), classifier(result.images)
        return result, jnp.isfinite(jnp.stack(seen)).all(axis=(0, 2))

    return jax.jit(run)
