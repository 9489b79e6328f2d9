"""How near a minimum-norm attack comes to the best distances that are known.

optimality([0.2, 0.4, inf], best=[0.1, 0.4, 0.3])     # 0.5: of 0.4 * 3 - 0.8, half
"""

import numpy as np
from numpy.typing import ArrayLike

from advloss.attacks import checks
from advloss.errors import InputError


def optimality(distances: ArrayLike, best: ArrayLike, *, joined: bool = False) -> float:
    r"""The share of the area between two curves that an attack covers.

    The curves are accuracies against epsilon. Above lies the line of the accuracy
    :math:`\rho` without an attack, below the curve :math:`\rho^*` that the best known
    distances leave; the attack's own, :math:`\rho_a`, runs between them:

    .. math::

        \frac{\int_0^{\epsilon_0} (\rho - \rho_a(\epsilon)) \, d\epsilon}
             {\int_0^{\epsilon_0} (\rho - \rho^*(\epsilon)) \, d\epsilon}
        = \frac{\sum_i \max(0, \epsilon_0 - d_i)}{\sum_i \max(0, \epsilon_0 - d^*_i)}

    over the images that are classified correctly, where :math:`\epsilon_0` is the
    largest finite best distance. It is 1 where every distance is the best one, 0 where
    nothing was found within :math:`\epsilon_0`.

    Args:
        distances: `[n]`, of the attack, in units of its norm; inf where it found
            nothing, 0 where the natural image is classified wrongly.
        best: `[n]`, the best known of the same images; 0 and inf as in `distances`.
        joined: sum as AttackBench's script does, whose curves are straight lines
            between the distances that occur. It is another number where images are
            few, and one above 0 for an attack that finds nothing.

    Returns:
        The share, above 1 where the attack is nearer than the best known; nan where
        there is no area: no best distance is finite and above 0, or, unless joined,
        all are equal.

    Raises:
        InputError: they are not as many, or some are negative or nan.

    See "AttackBench: Evaluating Gradient-based Attacks for Adversarial Examples" by
    Cinà et al., 2025: local optimality.
    """
    own, best = _checked("distances", distances), _checked("best", best)
    if own.shape != best.shape:
        raise InputError(
            f"distances={own.shape} and best={best.shape} are not of the same images: "
            "give as many of one as of the other"
        )
    right, reach = best > 0, float(best[np.isfinite(best)].max(initial=0.0))
    if joined:
        line = reach * np.mean(right)
        parts = [line - _under_lines(np.minimum(each, reach)) for each in (own, best)]
    else:
        parts = [np.maximum(reach - each[right], 0).sum() for each in (own, best)]
    covered, coverable = map(float, parts)
    return covered / coverable if coverable > 1e-12 * reach else float("nan")


def _checked(name: str, values: ArrayLike) -> np.ndarray:
    array = checks.as_array(values, name)
    if not checks.is_of_numbers(array):
        raise InputError(f"{name} are {array.dtype}: use numbers, one for each image")
    array = array.astype(np.float64)
    if array.ndim != 1 or not len(array) or not (array >= 0).all():
        raise InputError(
            f"{name} of shape {array.shape} is not valid: use one distance >= 0 for "
            "each image, inf where nothing was found"
        )
    return array


def _under_lines(distances: np.ndarray) -> float:
    """The area under the points of the accuracy, joined."""
    places, counts = np.unique(distances, return_counts=True)
    return float(np.trapezoid(1 - np.cumsum(counts) / len(distances), places))
