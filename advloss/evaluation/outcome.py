"""What one attack did to the examples of a split."""

from typing import NamedTuple

import numpy as np

_ROUNDING = 1e-3, 1e-4  # Of a sum over many pixels: relative, and absolute.


def is_beyond(distance: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    """Whether a distance is larger than a limit, by more than rounding explains."""
    relative, absolute = _ROUNDING
    return ~(distance <= limit * (1 + relative) + absolute)


class Outcome(NamedTuple):
    """What one attack did to a split; arrays `[n, ...]` on the host.

    Attributes:
        natural: the predictions for the natural images.
        attacked: the predictions for `images`.
        images: the attack's final images; of a minimum-norm attack also those further
            away than its `epsilon`. Of survivors: the first that fool, the last iterate
            where none does, and the natural image where nothing was attacked.
        correct: `images` are classified correctly: the paper's accuracy. Of a
            minimum-norm attack: no image within `epsilon` fools. Of survivors: as
            `worst_correct`.
        worst_correct: neither the natural image nor any iterate fools the network; of
            survivors, nor did an earlier attack.
        distance: of `images` from the natural ones, in the attack's norm; inf where a
            minimum-norm attack found none; nan where an example was not attacked, since
            an earlier attack had fooled it.
        zero_gradient: nothing was found, and every gradient was zero or not a number.
        backward_passes: gradients that were computed for the example,
        forward_passes: and evaluations without one.
        seconds: wall-clock time, compilation included; also of earlier processes that
            were interrupted.
    """

    natural: np.ndarray
    attacked: np.ndarray
    images: np.ndarray
    correct: np.ndarray
    worst_correct: np.ndarray
    distance: np.ndarray
    zero_gradient: np.ndarray
    backward_passes: np.ndarray
    forward_passes: np.ndarray
    seconds: float
