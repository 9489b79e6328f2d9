"""Attacks: pure functions that look for images which fool a classifier.

    keys = attacks.example_keys(key, indices)
    result = attacks.pgd(
        classifier, keys, images, labels,
        objective=losses.softmax_cross_entropy,
        epsilon=0.3, step_size=0.01, steps=100,
    )
    accuracy = 1 - result.success.mean()

Every attack is `f(classifier, keys, images, labels, *, settings) -> AttackResult`. It
works under `jit`, `vmap` and `pmap`; called directly, its input is checked and its
program compiled once (`direct.attack`). An example's result does not depend on the
batch that the example is in. `ATTACKS` names them for configs.

A fixed-epsilon attack looks for the worst image within a radius, a minimum-norm attack
for the nearest image that fools. One that leaves the ball can train, and measures
nothing.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from advloss.attacks import apgd as _apgd
from advloss.attacks import carlini as _carlini_l2
from advloss.attacks import carlini_l0 as _carlini_l0
from advloss.attacks import carlini_linf as _carlini_linf
from advloss.attacks import direct
from advloss.attacks import fab as _fab
from advloss.attacks import fgsm as _fgsm
from advloss.attacks import fmn as _fmn
from advloss.attacks import lbfgs as _lbfgs
from advloss.attacks import pgd as _pgd
from advloss.attacks import settings as _set
from advloss.attacks import square as _square
from advloss.attacks.base import NORMS, Round, example_keys
from advloss.attacks.entry import (
    FIXED_EPSILON,
    MINIMUM_NORM,
    TRAINING_ONLY,
    Attack,
    Suite,
    in_both,
    suite_in_both,
)
from advloss.losses import DLR_CLASSES, TARGETED_DLR_CLASSES
from advloss.registry import Setting, number, positive, shipped, whole
from advloss.types import AttackResult

__all__ = [
    "ATTACKS", "FIXED_EPSILON", "MINIMUM_NORM", "NORMS", "SUITES", "TRAINING_ONLY",
    "Attack", "Round", "Suite", "example_keys", "for_classes", "suite",
]  # fmt: skip

pgd, noise = (direct.attack(each) for each in (_pgd.pgd, _pgd.noise))
fgsm, fgsm_rs, n_fgsm = (
    direct.attack(each) for each in (_fgsm.fgsm, _fgsm.fgsm_rs, _fgsm.n_fgsm)
)
multi_targeted = direct.attack(_pgd.multi_targeted)
apgd, apgd_t = (direct.attack(each) for each in (_apgd.apgd, _apgd.apgd_t))
fab, fab_t = (direct.attack(each) for each in (_fab.fab, _fab.fab_t))
square = direct.attack(_square.square)
pgd_l2, multi_targeted_l2, apgd_l2, apgd_t_l2, square_l2 = (
    functools.partial(each, norm="l2")
    for each in (pgd, multi_targeted, apgd, apgd_t, square)
)
fab_l2, fab_t_l2 = (
    functools.partial(each, norm="l2", radius=2.0) for each in (fab, fab_t)
)
lbfgs = direct.attack(_lbfgs.lbfgs)
carlini_l2 = direct.attack(_carlini_l2.carlini_l2)
carlini_linf = direct.attack(_carlini_linf.carlini_linf)
carlini_l0 = direct.attack(_carlini_l0.carlini_l0)
ddn, fmn = (direct.attack(each, step_size=positive()) for each in (_fmn.ddn, _fmn.fmn))
fmn_l2, fmn_l1 = (functools.partial(fmn, norm=norm) for norm in ("l2", "l1"))


def _apgd_of(
    name: str, title: str, objective: str, restarts: int = 1, steps: int = 100
) -> dict[str, Attack]:
    bound = {"restarts": restarts, "steps": steps}
    return in_both(
        name,
        tuple(functools.partial(each, **bound) for each in (apgd, apgd_l2)),
        title,
        lambda norm: {
            **_set.objective(objective),
            **_set.epsilon(norm),
            **_set.steps(steps),
            **_set.restarts(restarts),
        },
        lambda norm: {"steps": 10, "restarts": 1},
        rounds=_apgd.apgd_rounds,
    )


def _apgd_t_of(name: str, title: str, loss: str, classes: int) -> dict[str, Attack]:
    bound = {"loss": loss, "target_classes": classes}
    return in_both(
        name,
        tuple(functools.partial(each, **bound) for each in (apgd_t, apgd_t_l2)),
        title,
        lambda norm: {
            **_set.epsilon(norm),
            **_set.steps(100),
            **_set.targeted_loss(loss),
            **_set.target_classes(classes),
        },
        lambda norm: {"steps": 10},
        targeted=True,
        rounds=_apgd.apgd_t_rounds,
    )


def _in_linf(
    function: Callable[..., AttackResult],
    title: str,
    kind: str = FIXED_EPSILON,
    rounds: Callable[..., Sequence[Round]] = lambda *_: [Round()],
    **own: Setting,
) -> Attack:
    settings = {**_set.objective(), **_set.epsilon("linf"), **own}
    return Attack(function, title, "linf", kind, settings, rounds=rounds)


ATTACKS: Mapping[str, Attack] = {
    "fgsm": _in_linf(
        fgsm, "FGSM", random_start=_set.random_start(False)["random_start"]
    ),
    "fgsm_rs": _in_linf(fgsm_rs, "FGSM-RS", reach=_set.of_epsilon(1.25, "the step")),
    "n_fgsm": _in_linf(
        n_fgsm,
        "N-FGSM",
        TRAINING_ONLY,
        spread=_set.of_epsilon(2.0, "the noise"),
        reach=_set.of_epsilon(1.0, "the step"),
    ),
    "noise": _in_linf(
        noise,
        "noise",
        rounds=_pgd.noise_rounds,
        draws=Setting(1, whole(1), "random changes, of which the worst counts"),
    ),
    **in_both(
        "pgd",
        (pgd, pgd_l2),
        "PGD",
        lambda norm: {**_set.objective(), **_set.ball(norm), **_set.restarts()},
        _set.training,
        rounds=_pgd.pgd_rounds,
    ),
    **in_both(
        "multi_targeted",
        (multi_targeted, multi_targeted_l2),
        "multi-targeted PGD",
        lambda norm: {**_set.objective("margin"), **_set.ball(norm)},
        _set.training,
        targeted=True,
        rounds=_pgd.multi_targeted_rounds,
    ),
    **_apgd_of("apgd", "APGD", "softmax_cross_entropy"),
    **_apgd_of("apgd_ce", "APGD CE", "softmax_cross_entropy", restarts=5),
    **_apgd_of("apgd_dlr", "APGD DLR", "dlr", restarts=5),
    **_apgd_of("apgd_margin", "APGD margin", "margin", steps=25),
    **_apgd_t_of("apgd_t", "APGD-T", "dlr", 9),
    **_apgd_t_of("apgd_t_margin", "APGD-T margin", "margin", 4),
    **in_both(
        "square",
        (square, square_l2),
        "Square",
        _set.square,
        lambda norm: {"queries": 50},
        rounds=_square.square_rounds,
    ),
    **in_both(
        "fab",
        tuple(functools.partial(each, restarts=5) for each in (fab, fab_l2)),
        "FAB",
        lambda norm: {**_set.fab(norm), **_set.restarts(5)},
        kind=MINIMUM_NORM,
        rounds=_fab.fab_rounds,
    ),
    **in_both(
        "fab_t",
        (fab_t, fab_t_l2),
        "FAB-T",
        lambda norm: {**_set.fab(norm), **_set.restarts(), **_set.target_classes()},
        kind=MINIMUM_NORM,
        rounds=_fab.fab_rounds,
    ),
    "lbfgs": Attack(
        lbfgs,
        "L-BFGS",
        "l2",
        MINIMUM_NORM,
        {
            **_set.objective(),
            **_set.epsilon("l2"),
            "initial_constant": Setting(1.0, positive(), "the first constant"),
            "search_steps": Setting(9, whole(), "constants that are tried"),
            "steps": Setting(50, whole(), "evaluations for each constant"),
        },
    ),
    "carlini_l2": Attack(
        carlini_l2,
        "CW l2",
        "l2",
        MINIMUM_NORM,
        _set.carlini(
            "l2",
            1e-3,
            binary_search_steps=Setting(9, whole(), "weights that are tried"),
            steps=Setting(1000, whole(), "iterations for each weight"),
        ),
    ),
    "carlini_linf": Attack(
        carlini_linf,
        "CW linf",
        "linf",
        MINIMUM_NORM,
        _set.carlini(
            "linf",
            0.1,
            initial_threshold=Setting(
                1.0, number(0, 1), "tau, the change of a pixel that costs nothing"
            ),
            decay=Setting(0.9, number(0, 1), "tau's factor after a success"),
            rounds=Setting(40, whole(), "thresholds that are tried"),
            steps=Setting(50, whole(), "iterations in each round"),
        ),
    ),
    "carlini_l0": Attack(
        carlini_l0,
        "CW l0",
        "l0",
        MINIMUM_NORM,
        _set.carlini(
            "l0",
            0.1,
            rounds=Setting(20, whole(), "rounds of the l2 attack"),
            share=Setting(0.3, number(0, 1), "of the pixels dropped in a round"),
            binary_search_steps=Setting(3, whole(), "weights tried in a round"),
            steps=Setting(200, whole(), "iterations for each weight"),
        ),
    ),
    "ddn": Attack(
        ddn,
        "DDN",
        "l2",
        MINIMUM_NORM,
        _set.adaptive(
            "l2", initial_norm=Setting(1.0, positive(), "the first radius in l2")
        ),
    ),
    "fmn": Attack(fmn, "FMN", "linf", MINIMUM_NORM, _set.adaptive("linf")),
    "fmn_l2": Attack(fmn_l2, "FMN l2", "l2", MINIMUM_NORM, _set.adaptive("l2")),
    "fmn_l1": Attack(fmn_l1, "FMN l1", "l1", MINIMUM_NORM, _set.adaptive("l1")),
}
shipped(ATTACKS)


SUITES: Mapping[str, Suite] = {
    **suite_in_both("paper", "the paper's", "pgd"),
    **suite_in_both("strong", "strong", "pgd", "multi_targeted"),
    **suite_in_both(
        "fast", "fast", "apgd_margin", "apgd_t_margin", survivors_only=True
    ),
    **suite_in_both(
        "autoattack",
        "AutoAttack",
        *("apgd", "apgd_t", "fab_t", "square"),
        survivors_only=True,
    ),
    **suite_in_both(
        "autoattack_plus",
        "AutoAttack+",
        *("apgd_ce", "apgd_dlr", "fab", "square", "apgd_t", "fab_t"),
        survivors_only=True,
    ),
}


def suite(name: str, norm: str = "linf") -> tuple[str, ...]:
    """The attacks of a suite in a norm, or the one attack of that name.

    Raises:
        KeyError: no suite and no attack of that name, or no suite in that norm.
    """
    if name in ATTACKS:
        return (name,)
    return SUITES[name if norm == "linf" else f"{name}_{norm}"].attacks


def for_classes(settings: Mapping[str, Any], classes: int) -> dict[str, str]:
    """What settings must be instead with so few classes: the margin for DLR."""
    least = {"objective": DLR_CLASSES, "loss": TARGETED_DLR_CLASSES}
    return {
        key: "margin"
        for key, needed in least.items()
        if settings.get(key) == "dlr" and classes < needed
    }
