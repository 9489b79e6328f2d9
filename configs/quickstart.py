"""Three networks on 5,000 digits: what adversarial training is for, in minutes.

    python -m experiments.quickstart --workdir=runs/quickstart

runs all of them; one alone is `--config=configs/quickstart.py:lmcl` with
`experiments.train`.
"""

from ml_collections import ConfigDict

from configs import default

VARIANTS = ("undefended", "softmax", "lmcl")


def get_config(variant: str = "lmcl") -> ConfigDict:
    """The config of one network: "undefended", "softmax" or "lmcl".

    Raises:
        ValueError: no network of that name.
    """
    if variant not in VARIANTS:
        raise ValueError(f"configs/quickstart.py:{variant}: use one of {VARIANTS}")
    config = default.get_config()
    config.name = variant
    if variant == "undefended":
        config.train.attack.name = "none"
        config.train.steps = 400
    if variant == "lmcl":
        config.loss.name = "lmcl"
        config.loss.margin = 0.3
    return config
