"""Attacks: pure functions that look for images which fool a classifier.

    keys = attacks.example_keys(key, indices)
    result = attacks.pgd(
        classifier, keys, images, labels,
        objective=losses.softmax_cross_entropy,
        epsilon=0.3, step_size=0.01, steps=100,
    )
    accuracy = 1 - result.success.mean()

Every attack is `f(classifier, keys, images, labels, *, hyperparameters) ->
AttackResult`. It works under `jit`, `vmap` and `pmap`, and an example's result does not
depend on the batch that the example is in. `ATTACKS` names them for configs.

In a ball, the worst image:

    pgd, pgd_l2       projected gradient descent, with restarts
    fgs               one step of it
    multi_targeted    PGD towards every wrong class in turn
    noise             the strongest of some random changes: the floor of every attack

Anywhere, the closest image that fools:

    penalty                                   Eq. 1, by box-constrained L-BFGS
    carlini_l2, carlini_linf, carlini_l0      Carlini and Wagner's three attacks
"""

import functools

from advloss.attacks.base import example_keys
from advloss.attacks.carlini import carlini_l2
from advloss.attacks.carlini_l0 import carlini_l0
from advloss.attacks.carlini_linf import carlini_linf
from advloss.attacks.penalty import penalty
from advloss.attacks.pgd import fgs, multi_targeted, noise, pgd

pgd_l2 = functools.partial(pgd, norm="l2")

BALL_ATTACKS = {
    "fgs": fgs,
    "multi_targeted": multi_targeted,
    "noise": noise,
    "pgd": pgd,
    "pgd_l2": pgd_l2,
}
CLOSEST_ATTACKS = {
    "carlini_l0": carlini_l0,
    "carlini_l2": carlini_l2,
    "carlini_linf": carlini_linf,
    "penalty": penalty,
}
ATTACKS = BALL_ATTACKS | CLOSEST_ATTACKS

__all__ = [
    "ATTACKS",
    "BALL_ATTACKS",
    "CLOSEST_ATTACKS",
    "carlini_l0",
    "carlini_l2",
    "carlini_linf",
    "example_keys",
    "fgs",
    "multi_targeted",
    "noise",
    "penalty",
    "pgd",
    "pgd_l2",
]
