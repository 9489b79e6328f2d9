"""The files of others: RobustBench's of a model, AttackBench's of an attack.

    info = exchange.read_robustbench("model_info/cifar10/Linf/Wong2020Fast.json")
    info.autoattack_acc     # in %
    best = exchange.read_best(["mnist-linf-NAME-128.json"], "linf")    # by hash

`advloss export` writes them of a run (`report.exports`).
"""

from advloss.evaluation.exchange.attackbench import Attacked, hashes, read_best
from advloss.evaluation.exchange.robustbench import (
    ModelInfo,
    read_robustbench,
    write_robustbench,
)

__all__ = [
    "Attacked",
    "ModelInfo",
    "hashes",
    "read_best",
    "read_robustbench",
    "write_robustbench",
]
