"""Figure 2: how far each layer moves, with and without defence.

    python -m experiments.study --config=configs/figure2.py:short --workdir=runs/short

Expected at the budget short: every layer of the undefended network moves 1.5 to 2.6
times as far under attack as under noise; those of the defended one, attacked, move
about as far as the undefended ones under noise. On two cores each defended network and
seed takes 15 minutes at the budget short. Budgets (paper, short, smoke) are those of
configs/paper.py.
"""

from ml_collections import ConfigDict

from configs import paper


def get_config(budget: str = "paper") -> ConfigDict:
    """The study at a budget. Raises ValueError where there is none of that name."""
    return paper.study(("figure2",), budget)
