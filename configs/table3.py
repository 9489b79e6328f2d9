"""Table III: images made against one network, shown to another.

    python -m experiments.study --config=configs/table3.py:short --workdir=runs/short

Budgets (paper, short, smoke) are those of configs/paper.py.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config(budget: str = "paper") -> ConfigDict:
    """The study at a budget. Raises ValueError where there is none of that name."""
    return paper.study(("table3",), budget)
