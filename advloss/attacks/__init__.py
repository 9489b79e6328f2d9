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
for the nearest image that fools.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from advloss.attacks import carlini as _carlini_l2
from advloss.attacks import carlini_l0 as _carlini_l0
from advloss.attacks import carlini_linf as _carlini_linf
from advloss.attacks import direct
from advloss.attacks import fmn as _fmn
from advloss.attacks import lbfgs as _lbfgs
from advloss.attacks import pgd as _pgd
from advloss.attacks.base import NORMS, Round, example_keys
from advloss.losses import OBJECTIVES
from advloss.registry import Setting, boolean, choice, number, positive, whole
from advloss.types import AttackResult

__all__ = ["ATTACKS", "NORMS", "SUITES", "Attack", "Round", "example_keys", "suite"]

fgsm, pgd, noise = map(direct.attack, (_pgd.fgsm, _pgd.pgd, _pgd.noise))
pgd_l2 = functools.partial(pgd, norm="l2")
multi_targeted = direct.attack(_pgd.multi_targeted)
multi_targeted_l2 = functools.partial(multi_targeted, norm="l2")
lbfgs = direct.attack(_lbfgs.lbfgs)
carlini_l2 = direct.attack(_carlini_l2.carlini_l2)
carlini_linf = direct.attack(_carlini_linf.carlini_linf)
carlini_l0 = direct.attack(_carlini_l0.carlini_l0)
ddn, fmn = map(direct.attack, (_fmn.ddn, _fmn.fmn))
fmn_l2, fmn_l1 = (functools.partial(fmn, norm=norm) for norm in ("l2", "l1"))

FIXED_EPSILON, MINIMUM_NORM = "fixed-epsilon", "minimum-norm"
# The largest radii: in l-inf the farthest corner of [0, 1]^n is 1 away.
_FARTHEST = {"linf": 1, "l2": 100, "l1": 10_000, "l0": 10_000}


class Attack(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: the attack.
        title: its name in tables.
        norm: of its radius and distances: "linf", "l2", "l1" or "l0".
        kind: `FIXED_EPSILON` or `MINIMUM_NORM`.
        settings: keys of `config.evaluate.<name>`. A minimum-norm attack has an
            "epsilon" that its function does not take: within it an image counts as
            fooled. "objective" and "objective_scale" become the function's objective.
        training: the settings with which it trains, where others than its defaults.
        targeted: it climbs towards classes, so that an objective of the true one alone
            misleads it.
        rounds: (settings, classes) -> the parts between which what is fooled may leave.
    """

    function: Callable[..., AttackResult]
    title: str
    norm: str
    kind: str
    settings: Mapping[str, Setting]
    training: Mapping[str, Any] = {}
    targeted: bool = False
    rounds: Callable[[Mapping[str, Any], int], Sequence[Round]] = lambda *_: [Round()]


def _objective(default: str = "training") -> dict[str, Setting]:
    return {
        "objective": Setting(
            default,
            choice(OBJECTIVES),
            "what it climbs: training (the network's own loss), margin, or a loss",
        ),
        "objective_scale": Setting(
            1.0, positive(), "by which the logits are multiplied first"
        ),
    }


def _epsilon(default: float, norm: str) -> dict[str, Setting]:
    return {
        "epsilon": Setting(
            default,
            number(0, _FARTHEST[norm]),
            f"the radius in {norm}, in units of pixel value"
            if norm != "l0"
            else "the radius in pixels",
            swept=True,
        )
    }


def _steps(step_size: float, steps: int, norm: str) -> dict[str, Setting]:
    return {
        "step_size": Setting(
            step_size,
            number(0, _FARTHEST[norm]),
            f"the length of a step in {norm}",
            swept=True,
        ),
        "steps": Setting(steps, whole(), "iterations"),
    }


_RANDOM_START = {
    "random_start": Setting(True, boolean(), "start at a random point of the ball")
}
_RESTARTS = {
    "restarts": Setting(1, whole(1), "starts, of which each example's best counts")
}


def _ball(norm: str, epsilon: float, step_size: float) -> dict[str, Setting]:
    return {
        **_epsilon(epsilon, norm),
        **_steps(step_size, 100, norm),
        **_RANDOM_START,
    }


def _training(epsilon: float) -> dict[str, Any]:
    """Five steps of half the radius: what trains needs no more."""
    return {"steps": 5, "step_size": epsilon / 2}


def _carlini(
    norm: str, epsilon: float, initial_constant: float, **settings: Setting
) -> dict[str, Setting]:
    return {
        **_epsilon(epsilon, norm),
        "confidence": Setting(
            0.0, number(0, 1e6), "by how much, in logits, the wrong class must lead"
        ),
        "learning_rate": Setting(1e-2, positive(), "Adam's"),
        "initial_constant": Setting(
            initial_constant, positive(), "the first weight of the margin"
        ),
        **settings,
    }


def _adaptive(norm: str, epsilon: float, **settings: Setting) -> dict[str, Setting]:
    return {
        **_epsilon(epsilon, norm),
        "steps": Setting(100, whole(), "iterations"),
        "step_size": Setting(1.0, positive(), "the length of the first step in l2"),
        "gamma": Setting(
            0.05, number(0, 1), "by which share the radius changes in a step"
        ),
        **settings,
    }


ATTACKS: Mapping[str, Attack] = {
    "fgsm": Attack(
        fgsm,
        "FGSM",
        "linf",
        FIXED_EPSILON,
        {
            **_objective(),
            **_epsilon(0.3, "linf"),
            "random_start": _RANDOM_START["random_start"]._replace(default=False),
        },
    ),
    "pgd": Attack(
        pgd,
        "PGD",
        "linf",
        FIXED_EPSILON,
        {**_objective(), **_ball("linf", 0.3, 0.01), **_RESTARTS},
        _training(0.3),
        rounds=_pgd.pgd_rounds,
    ),
    "pgd_l2": Attack(
        pgd_l2,
        "PGD l2",
        "l2",
        FIXED_EPSILON,
        {**_objective(), **_ball("l2", 2.0, 0.1), **_RESTARTS},
        _training(2.0),
        rounds=_pgd.pgd_rounds,
    ),
    "multi_targeted": Attack(
        multi_targeted,
        "multi-targeted PGD",
        "linf",
        FIXED_EPSILON,
        {**_objective("margin"), **_ball("linf", 0.3, 0.01)},
        _training(0.3),
        targeted=True,
        rounds=_pgd.multi_targeted_rounds,
    ),
    "multi_targeted_l2": Attack(
        multi_targeted_l2,
        "multi-targeted PGD l2",
        "l2",
        FIXED_EPSILON,
        {**_objective("margin"), **_ball("l2", 2.0, 0.1)},
        _training(2.0),
        targeted=True,
        rounds=_pgd.multi_targeted_rounds,
    ),
    "noise": Attack(
        noise,
        "noise",
        "linf",
        FIXED_EPSILON,
        {
            **_objective(),
            **_epsilon(0.3, "linf"),
            "draws": Setting(1, whole(1), "random changes, of which the worst counts"),
        },
        rounds=_pgd.noise_rounds,
    ),
    "lbfgs": Attack(
        lbfgs,
        "L-BFGS",
        "l2",
        MINIMUM_NORM,
        {
            **_objective(),
            **_epsilon(2.0, "l2"),
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
        _carlini(
            "l2",
            2.0,
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
        _carlini(
            "linf",
            0.3,
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
        _carlini(
            "l0",
            25.0,
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
        _adaptive(
            "l2", 2.0, initial_norm=Setting(1.0, positive(), "the first radius in l2")
        ),
    ),
    "fmn": Attack(fmn, "FMN", "linf", MINIMUM_NORM, _adaptive("linf", 0.3)),
    "fmn_l2": Attack(fmn_l2, "FMN l2", "l2", MINIMUM_NORM, _adaptive("l2", 2.0)),
    "fmn_l1": Attack(fmn_l1, "FMN l1", "l1", MINIMUM_NORM, _adaptive("l1", 10.0)),
}

# Attacks that belong together, by norm; an attack's own name is a suite of one.
SUITES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "paper": {"linf": ("pgd",), "l2": ("pgd_l2",)},
    "strong": {
        "linf": ("pgd", "multi_targeted"),
        "l2": ("pgd_l2", "multi_targeted_l2"),
    },
}


def suite(name: str, norm: str = "linf") -> tuple[str, ...]:
    """The attacks of a suite in a norm, or the one attack of that name.

    Raises:
        KeyError: no suite and no attack of that name, or no suite in that norm.
    """
    return (name,) if name in ATTACKS else SUITES[name][norm]
