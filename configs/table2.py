"""Table II: how well each loss defends, by the paper's own protocol.

    python -m experiments.train --config=configs/table2.py:hinge --workdir=runs/hinge
    python -m experiments.evaluate --workdir=runs/hinge

Rows, and what the paper prints for them (PGD-100 accuracy / natural accuracy, %):

    hinge        64.97 / 91.04      lmcl_m0.3    91.95 / 98.04
    softmax      88.98 / 97.73      lmcl_m0.5    90.53 / 97.28
    lmcl_m0.1    89.93 / 98.28      lmcl_m1.11   90.25 / 97.66

100,000 updates of 50 images against PGD-40 are 1.2e16 floating-point operations:
minutes on a data-centre GPU, days on a laptop. The data are MNIST, whole, through TFDS;
from a folder of idx files instead: --config.data.source=idx --config.data.dir=FOLDER.
"""

from ml_collections import ConfigDict

from configs import default

_LOSSES = {
    "hinge": ("hinge", 1.0),
    "softmax": ("softmax_cross_entropy", None),
    "lmcl_m0.1": ("lmcl", 0.1),
    "lmcl_m0.3": ("lmcl", 0.3),
    "lmcl_m0.5": ("lmcl", 0.5),
    "lmcl_m1.11": ("lmcl", 1.11),
}
ROWS = tuple(_LOSSES)


def get_config(row: str = "lmcl_m0.3") -> ConfigDict:
    """The config of one row of Table II.

    Raises:
        ValueError: no row of that name.
    """
    if row not in _LOSSES:
        raise ValueError(f"configs/table2.py:{row}: use one of {ROWS}")
    config = default.get_config()
    config.name = row
    config.loss.name, config.loss.margin = _LOSSES[row]
    config.data.source = "tfds"
    config.model.init = "challenge"
    config.train.steps = 100_000
    config.train.learning_rate = 1e-4
    config.train.schedule = "constant"
    config.train.chunk_steps = 200
    config.train.checkpoint_every = 2_000
    config.train.attack.step_size = 0.01
    config.train.attack.steps = 40
    config.train.attack.warmup = 0.0
    return config
