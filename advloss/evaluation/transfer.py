"""Black-box transfer: images made against one network, shown to another.

transfer(made, own, classifier).mean()      # the accuracy of own's network
"""

import jax.numpy as jnp
import numpy as np

from advloss.errors import InputError
from advloss.evaluation.measured import Measured, load_images
from advloss.types import Classifier

_BATCH = 500


def transfer(made: Measured, own: Measured, classifier: Classifier) -> np.ndarray:
    """Whether a network still classifies images that were made against another.

    Args:
        made: the result whose attacked images are shown,
        own: to the network of this one, from the same attack on the same test images.
            They may be the same.
        classifier: the network of the latter.

    Returns:
        `[n]` bool, correct.

    Raises:
        InputError: the results are of different test images, or images can't be read.

    See "Robust Loss Functions" by Vu and Tran, Table III.
    """
    if made.identity["data"] != own.identity["data"]:
        raise InputError(
            f"{made.workdir} and {own.workdir} were attacked on different test images: "
            "evaluate both on the same data and number of examples"
        )
    if made.path == own.path:
        return own.correct
    return _predict(classifier, load_images(made).attacked) == own.labels


def _predict(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), _BATCH)
    parts = [images[start : start + _BATCH] for start in starts]
    return np.concatenate([jnp.argmax(classifier(part), axis=-1) for part in parts])
