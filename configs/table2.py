"""Table II: how well each loss defends; a row of it, or the whole with several seeds.

    python -m experiments.train --config=configs/table2.py:hinge --workdir=runs/hinge
    python -m experiments.evaluate --workdir=runs/hinge
    python -m experiments.study --config=configs/table2.py:short --workdir=runs/short

Rows, by the paper's own protocol, and what the paper prints for them (PGD-100 accuracy
/ natural accuracy, %):

    hinge        64.97 / 91.04      lmcl_m0.3    91.95 / 98.04
    softmax      88.98 / 97.73      lmcl_m0.5    90.53 / 97.28
    lmcl_m0.1    89.93 / 98.28      lmcl_m1.11   90.25 / 97.66

100,000 updates of 50 images against PGD-40 are 1.2e16 floating-point operations:
minutes on a data-centre GPU, days on a laptop. The data are MNIST, whole, through TFDS;
from a folder of idx files instead: --config.data.source=idx --config.data.dir=FOLDER.
Budgets of the whole table (paper, short, smoke) are those of configs/paper.py.
"""

from ml_collections import ConfigDict

from configs import paper

ROWS = paper.PARTS["table2"]


def get_config(row_or_budget: str = "lmcl_m0.3") -> ConfigDict:
    """The config of one row of Table II, or of the whole table at a budget.

    Raises:
        ValueError: no row and no budget of that name.
    """
    if row_or_budget in paper.BUDGETS:
        return paper.study(("table2",), row_or_budget)
    if row_or_budget not in ROWS:
        raise ValueError(
            f"configs/table2.py:{row_or_budget}: use one of {(*ROWS, *paper.BUDGETS)}"
        )
    config = paper.network(row_or_budget, "paper")
    config.evaluate.attacks = ("pgd", "fast", "fmn")
    return config
