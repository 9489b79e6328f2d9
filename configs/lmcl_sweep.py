"""How much does LMCL's margin matter? Margins 0.1 to 1.11, times seeds.

    python -m experiments.sweep --config=configs/lmcl_sweep.py --workdir=runs/margins

trains all runs, those of one program together, attacks them, and writes a table with
intervals over seeds and a figure against the margin. Other axes and values:

    --config.sweep="loss.scale=5,10,20 seed=0,1"

Any key can be swept. Budgets, as configs/lmcl_sweep.py:BUDGET:

    quick   600 updates against PGD-5 on 4,000 digits: 2.5 minutes a run on two cores.
    short   2,000 updates against PGD-7 on MNIST: 10 minutes a run on two cores.
    paper   100,000 updates against PGD-40 on MNIST: for GPUs and TPUs.
"""

from ml_collections import ConfigDict

from advloss import config as configs
from configs import paper


def get_config(budget: str = "quick") -> ConfigDict:
    """What all runs share, and the sweep as a line of text.

    Raises:
        ValueError: no budget of that name.
    """
    if budget not in ("quick", "short", "paper"):
        raise ValueError(
            f"configs/lmcl_sweep.py:{budget}: use one of quick, short, paper"
        )
    config = configs.default() if budget == "quick" else paper.shared(budget)
    config.name = "lmcl"
    config.loss.name = "lmcl"
    config.sweep = "loss.margin=0.1,0.3,0.5,0.8,1.11 seed=0,1,2"
    return config
