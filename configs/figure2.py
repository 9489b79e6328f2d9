"""Figure 2: how far each layer moves, with and without defence.

    python -m experiments.study --config=configs/figure2.py:short --workdir=runs/short

Budgets (paper, short, smoke) are those of configs/paper.py.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config(budget: str = "paper") -> ConfigDict:
    """The study at a budget. Raises ValueError where there is none of that name."""
    return paper.study(("figure2",), budget)
