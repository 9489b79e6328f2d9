"""Attacks of one step: FGSM, and what single-step training makes of it."""

from typing import Any

import jax.numpy as jnp

from advloss.attacks import base
from advloss.attacks.pgd import pgd
from advloss.errors import InputError, shown
from advloss.types import Array, AttackResult, Classifier


def fgsm(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    epsilon: Array | float,
    random_start: bool = False,
    **settings: Any,
) -> AttackResult:
    """Fast gradient sign method: one step of PGD, as long as the ball's radius.

    Arguments and result are those of `pgd`, without `step_size` and `steps`.

    See "Explaining and Harnessing Adversarial Examples" by Goodfellow et al., and
    "Robust Loss Functions" by Vu and Tran, Section II-B3 (FGS, there targeted).
    """
    radius: dict[str, Any] = {"epsilon": epsilon, "step_size": epsilon, "steps": 1}
    how = {"random_start": random_start, **radius}
    return pgd(classifier, keys, images, labels, **how, **settings)


def fgsm_rs(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    epsilon: Array | float,
    reach: Array | float = 1.25,
    **settings: Any,
) -> AttackResult:
    """FGSM from a random start: one step of `reach * epsilon`, projected.

    Further arguments and the result are those of `pgd`, without `step_size`, `steps`
    and `random_start`.

    See "Fast is better than free: Revisiting adversarial training" by Wong et al.,
    Algorithm 3.
    """
    step: dict[str, Any] = {
        "step_size": reach * epsilon,
        "steps": 1,
        "random_start": True,
    }
    return pgd(classifier, keys, images, labels, epsilon=epsilon, **step, **settings)


def n_fgsm(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    epsilon: Array | float,
    spread: Array | float = 2.0,
    reach: Array | float = 1.0,
    **settings: Any,
) -> AttackResult:
    """Noisy FGSM: one step of `reach * epsilon` from noise of `spread * epsilon`.

    It is not projected onto the ball: images lie within `(spread + reach) * epsilon`.
    So it trains, and measures nothing. Further arguments and the result are those of
    `pgd` in l-inf, without `step_size`, `steps`, `start` and `random_start`; it starts
    once.

    Raises:
        InputError: a norm or restarts are given: it has neither.

    See "Make Some Noise: Reliable and Efficient Single-Step Adversarial Training" by de
    Jorge et al., Algorithm 1; images stay in [0, 1] here.
    """
    if taken := sorted(settings.keys() & {"norm", "restart", "restarts"}):
        raise InputError(
            f"{taken[0]}={shown(settings[taken[0]])} is no setting of n_fgsm, which "
            "starts once, in linf: leave it out"
        )
    base.check_arguments(keys, images, labels)
    noise = base.NORMS["linf"].draw(keys, images, spread * epsilon)
    return pgd(
        classifier,
        keys,
        images,
        labels,
        epsilon=(spread + reach) * epsilon,
        step_size=reach * epsilon,
        steps=1,
        start=jnp.clip(images + noise, 0.0, 1.0),
        random_start=False,
        **settings,
    )
