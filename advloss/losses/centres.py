"""A loss of distances from fixed centres of the classes."""

import chex

from advloss.losses.gaps import chosen
from advloss.types import Array


def mmc(logits: Array, labels: Array) -> Array:
    """Max-Mahalanobis centre loss: `||z - mu_y||^2 / 2`, z the features.

    Args:
        logits: `[..., classes]` float, `-||z - mu_j||^2 / 2`, as the head "centres"
            gives them (`networks.layers.CentresHead`): the centres are fixed.
        labels: `[...]` int, each in [0, classes).

    Returns:
        `[...]` the loss of each example, at least 0.

    See "Rethinking Softmax Cross-Entropy Loss for Adversarial Robustness" by Pang et
    al., Eq. 8.
    """
    chex.assert_type([logits, labels], [float, int])
    chex.assert_shape(labels, logits.shape[:-1])
    return -chosen(logits, labels)
