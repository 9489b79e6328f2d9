"""One network of the paper by the strongest recipe: minutes on a laptop.

    advloss train --config=configs/recipe.py:lmcl_m0.3 --workdir=runs/lmcl

trains it by budget `laptop` of configs/paper.py: ATTA with two steps, a million
gradients of an image, some 4 minutes on two cores. docs/recipe.md says how the recipe
was found, what it reaches, and that six times as many updates do not make it stronger.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config(network: str = "softmax") -> ConfigDict:
    """The config of a network of `paper.NETWORKS`.

    Raises:
        ValueError: there is none of that name.
    """
    return paper.network(network, "laptop")
