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

    pgd                            the worst image within epsilon
    carlini_l2, _linf, _l0         the nearest image that fools; see `carlini`
"""

from advloss.attacks.base import example_keys
from advloss.attacks.carlini import carlini_l2
from advloss.attacks.carlini_l0 import carlini_l0
from advloss.attacks.carlini_linf import carlini_linf
from advloss.attacks.pgd import pgd

ATTACKS = {
    "carlini_l0": carlini_l0,
    "carlini_l2": carlini_l2,
    "carlini_linf": carlini_linf,
    "pgd": pgd,
}

__all__ = [
    "ATTACKS",
    "carlini_l0",
    "carlini_l2",
    "carlini_linf",
    "example_keys",
    "pgd",
]
