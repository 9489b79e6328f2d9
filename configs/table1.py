"""Table I: the network, its shapes and its parameters.

    python -m experiments.study --config=configs/table1.py:short --workdir=runs/short

Nothing is trained for it: seconds at any budget. Budgets (paper, short, smoke) are
those of configs/paper.py.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config(budget: str = "paper") -> ConfigDict:
    """The study at a budget. Raises ValueError where there is none of that name."""
    return paper.study(("table1",), budget)
