"""Table II on Fashion-MNIST: the paper's losses on clothes, within 0.1.

    python -m experiments.study --config=configs/fashion_mnist.py --workdir=runs/fashion

trains the six rows at budget `laptop` of configs/paper.py, three seeds each, attacks
the first 1,000 test images, and writes the table. A step of the training attack is half
of the radius, as on digits. `configs/fashion_mnist.py:smoke` sees that it works.
"""

from ml_collections import ConfigDict

from configs import paper
from configs.cifar10 import evaluate_within

EPSILON = 0.1


def get_config(budget: str = "laptop") -> ConfigDict:
    """The study at a budget, a key of `paper.BUDGETS`.

    Raises:
        ValueError: no budget of that name.
    """
    config = paper.study(("table2",), budget)
    config.data.source, config.data.name = "tfds", "fashion_mnist"
    config.seeds = min(config.seeds, 3)
    config.train.attack.epsilon = EPSILON
    config.train.attack.step_size = EPSILON / 2
    config.evaluate.examples = min(config.evaluate.examples or 1_000, 1_000)
    evaluate_within(config, EPSILON)
    config.evaluate.pgd.step_size = EPSILON / 30
    return config
