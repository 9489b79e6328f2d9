"""One network by the strongest recipe: minutes on a laptop.

    advloss train --config=configs/recipe.py:lmcl_m0.3 --workdir=runs/lmcl

trains a network of the paper by budget `laptop` of configs/paper.py: ATTA with two steps,
a million gradients of an image in some 4 minutes on two cores. More updates make it
stronger: --config.train.steps=16000 takes 10 minutes. docs/recipe.md says how it was
found, and what it reaches.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config(network: str = "softmax") -> ConfigDict:
    """The config of a network, a key of `paper.NETWORKS`. Raises ValueError for others."""
    if network not in paper.NETWORKS:
        raise ValueError(
            f"configs/recipe.py:{network}: use one of {tuple(paper.NETWORKS)}"
        )
    return paper.network(network, "laptop")
