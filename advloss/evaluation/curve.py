"""Several attacks at several radii, each on whom those before it have left."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from advloss.attacks import ATTACKS, MINIMUM_NORM
from advloss.evaluation.outcome import Outcome
from advloss.evaluation.programs import is_within


@dataclasses.dataclass(frozen=True, eq=False)
class AttackRow:
    """What one attack did.

    Attributes:
        name: its key in `attacks.ATTACKS`.
        robust_accuracy: `[epsilons]`, what it and those before it left.
        zero_gradient: `[n]` bool, at some epsilon nothing was found, and there was no
            gradient to follow: this says nothing of robustness.
        backward_passes: `[n]` int, gradients computed for each example, at all
            epsilons together,
        forward_passes: `[n]` int, and evaluations without one.
        seconds: wall-clock time, compilation included.
    """

    name: str
    robust_accuracy: np.ndarray
    zero_gradient: np.ndarray
    backward_passes: np.ndarray
    forward_passes: np.ndarray
    seconds: float


def curve(
    names: Sequence[str],
    epsilons: np.ndarray,
    right: np.ndarray,
    run: Callable[[str, float, np.ndarray], Outcome],
) -> tuple[np.ndarray, list[AttackRow]]:
    """Who is left at each radius, and what each attack did.

    An example that is fooled within a radius is fooled within a larger one too: it
    counts there and is not attacked again.

    Args:
        names: the attacks, in their order.
        epsilons: `[epsilons]`, growing.
        right: `[n]` bool, which natural images are classified correctly.
        run: (attack, epsilon, survivors `[n]`) -> what the attack did to them.

    Returns:
        `[epsilons, n]` bool, and a row for each attack.
    """
    robust = np.tile(right, (len(epsilons), 1))
    left = np.zeros((len(names), len(epsilons)))
    outcomes: dict[str, list[Outcome]] = {name: [] for name in names}
    for i, epsilon in enumerate(epsilons):
        for j, name in enumerate(names):
            nearest = ATTACKS[name].kind == MINIMUM_NORM
            # The nearest images are the same for every epsilon.
            if robust[i].any() and not (nearest and outcomes[name]):
                outcome = run(name, float(epsilon), robust[i].copy())
                outcomes[name].append(outcome)
                fooled = robust[i] & ~outcome.worst_correct
                for k in range(i, len(epsilons)):
                    if nearest:
                        fooled = is_within(outcome.distance, epsilons[k])
                    robust[k] &= ~fooled
            left[j, i] = robust[i].mean()
    none = np.zeros(len(right), np.int32)
    return robust, [
        AttackRow(
            name=name,
            robust_accuracy=left[j],
            zero_gradient=sum((each.zero_gradient for each in found), none) > 0,
            backward_passes=sum((each.backward_passes for each in found), none),
            forward_passes=sum((each.forward_passes for each in found), none),
            seconds=sum(each.seconds for each in found),
        )
        for j, (name, found) in enumerate(outcomes.items())
    ]
