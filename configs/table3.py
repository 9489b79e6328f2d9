"""Table III: images made against one network, shown to another.

    python -m experiments.study --config=configs/table3.py:short --workdir=runs/short

Expected at the budget short, defence averages over three seeds in per cent: hinge 80.8,
softmax 84.6, LMCL m = 0.3 85.5; the paper prints 78.65, 93.59, 94.20. On two cores each
defended network and seed takes 15 minutes at the budget short. Budgets (paper, short,
smoke) are those of configs/paper.py.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config(budget: str = "paper") -> ConfigDict:
    """The study at a budget. Raises ValueError where there is none of that name."""
    return paper.study(("table3",), budget)
