"""Three networks on 5,000 digits: what adversarial training is for, in minutes.

    python -m experiments.quickstart --workdir=runs/quickstart

runs all of them in 5 to 9 minutes on two cores; one alone is
`--config=configs/quickstart.py:lmcl` with `experiments.train`. On 1,000 held-out
digits, seed 0 (natural / PGD-100 / fast, %):

    undefended  98.0/0.0/0.0    softmax  97.8/83.2/79.5    lmcl  97.7/87.4/83.4
"""

from ml_collections import ConfigDict

from advloss import config as configs

VARIANTS = ("undefended", "softmax", "lmcl")


def get_config(variant: str = "lmcl") -> ConfigDict:
    """The config of one network: "undefended", "softmax" or "lmcl".

    Raises:
        ValueError: no network of that name.
    """
    if variant not in VARIANTS:
        raise ValueError(f"configs/quickstart.py:{variant}: use one of {VARIANTS}")
    config = configs.default()
    config.name = variant
    if variant == "undefended":
        config.defence.name = "natural"
        config.train.steps = 400
    else:  # The recipe of docs/recipe.md, where digits are few.
        config.defence.name = "atta"
        config.defence.reset = 100
        config.train.steps = 1_200
        config.train.learning_rate = 4e-3
        config.train.attack.steps = 2
    if variant == "lmcl":
        config.loss.name = "lmcl"
        config.loss.margin = 0.3
    return config
