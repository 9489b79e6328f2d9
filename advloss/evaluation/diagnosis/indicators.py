"""The six Indicators of Attack Failure, as pure functions of what an attack saw.

See "Indicators of Attack Failure: Debugging and Improving Optimization of Adversarial
Examples" by Pintor et al. An indicator of theirs is a mean over examples; where they
name no threshold on it, or none that a few images can keep, it is ours.
"""

import numpy as np

from advloss.evaluation.diagnosis.check import Check, at_most, not_run, share

NOISE = 4 / 255
"""Half the width of the draws of `unstable_predictions`; theirs."""

_SOURCE = "Pintor 2022"
_MOVING = 0.05  # Theirs: the share of the loss's range that the last steps may add.
_LAST = 10  # Theirs: the steps that count as the last.
_UNSTABLE = 0.1  # Ours.
_SILENT = 0.05  # Ours: as many points as other attacks of the kind may differ.
_INCOMPLETE = 0.2  # Ours: of PGD-100 on robust networks it is 0 to 6 %, of PGD-20 75 %.


def unavailable_gradients(flat: np.ndarray) -> Check:
    """Examples at which the attack met a gradient that is zero or not a number.

    Args:
        flat: `[m, steps]` bool, of examples that are right; any step counts.
    """
    return at_most(
        "gradients are missing (IAF 1)",
        flat.any(axis=1).mean(),
        0.0,
        "the attack stands still where its gradient is zero: what it leaves says "
        "nothing of the network",
        _SOURCE,
    )


def unstable_predictions(change: np.ndarray) -> Check:
    """How much the network's margin changes under noise that no eye sees.

    Args:
        change: `[m]` the mean over draws of |M(x + u) - M(x)| / |M(x)|, u uniform
            within `NOISE`. Each is capped at 1. M is the margin, since a cross-entropy
            of 1e-6 changes by half where nothing happens.
    """
    return at_most(
        "predictions are unstable (IAF 2)",
        np.minimum(change, 1.0).mean(),
        _UNSTABLE,
        "the gradient at a point says nothing of the points beside it: gradient steps "
        "lead nowhere",
        _SOURCE,
    )


def silent_success(success: np.ndarray) -> Check:
    """Examples that an iterate fooled, and the last one does not.

    Args:
        success: `[m, steps + 1]` bool, of examples that are right.
    """
    found = success.any(axis=1) & ~success[:, -1]
    return at_most(
        "success is silent (IAF 3)",
        found.mean(),
        share(len(success), _SILENT),
        "the accuracy at the last iterate is too high: count the worst iterate",
        _SOURCE,
    )


def incomplete_optimisation(loss: np.ndarray, fooled: np.ndarray) -> Check:
    """Examples whose highest loss still rises over the last 10 steps.

    The loss is rescaled to [0, 1]; to rise is to rise by more than 0.05.

    Args:
        loss: `[m, steps + 1]` what was climbed, of examples that are right.
        fooled: `[m]` bool, those that the attack fooled: they do not count, since
            nothing is to be found there any more.
    """
    name = "the attack is not finished (IAF 4)"
    meaning, source = "give it more steps, or longer ones", _SOURCE
    if fooled.all():
        return not_run(name, "every image is fooled", meaning, source)
    highest = np.maximum.accumulate(loss[~fooled].astype(np.float64), axis=1)
    span = highest[:, -1] - loss[~fooled].min(axis=1)
    before = highest[:, max(highest.shape[1] - _LAST, 0)]
    moved = (highest[:, -1] - before) / np.where(span > 0, span, 1.0)
    figure = np.mean(moved > _MOVING) * np.mean(~fooled)
    return at_most(name, figure, share(len(loss), _INCOMPLETE), meaning, source)


def transfer_failure(found: np.ndarray, holds: np.ndarray) -> Check:
    """Images that fool the network that was attacked, but not the one that is judged.

    An attack that looks through a stand-in, such as a smooth copy of a network, fails
    so. Here both are the same function: the one in the attack's program, the other
    alone and in another batch.

    Args:
        found: `[m]` bool, the attack's images fool in its own program.
        holds: `[m]` bool, they fool the network that is asked for them afterwards.
    """
    name = "found images do not hold (IAF 5)"
    meaning = "the attack saw another network than the one that is judged"
    if not found.any():
        return not_run(name, "no image was fooled", meaning, _SOURCE)
    figure, limit = np.mean(~holds[found]), share(int(found.sum()), 0.0)
    return at_most(name, figure, limit, meaning, _SOURCE)


def unconstrained_failure(fooled: np.ndarray) -> Check:
    """Examples that are not fooled where every image is within reach.

    Args:
        fooled: `[m]` bool, by the attack at the largest radius.
    """
    return at_most(
        "fails without a bound (IAF 6)",
        np.mean(~fooled),
        share(len(fooled), 0.0),
        "any image may be made another class's then: an attack that fails even so is "
        "broken",
        _SOURCE,
    )
