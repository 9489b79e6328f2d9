"""Figure 3: how far each layer moves, LMCL against softmax.

    python -m experiments.study --config=configs/figure3.py:short --workdir=runs/short

On two cores each defended network and seed takes 15 minutes at the budget short.
Budgets (paper, short, smoke) are those of configs/paper.py.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config(budget: str = "paper") -> ConfigDict:
    """The study at a budget. Raises ValueError where there is none of that name."""
    return paper.study(("figure3",), budget)
