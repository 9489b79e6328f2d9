"""Does LMCL gain where digits or updates are few? Both losses, more and more digits.

    python -m experiments.sweep --config=configs/few_digits.py:600 --workdir=runs/few

trains softmax and LMCL (m = 0.3) for 600 updates against PGD-5 on the first 500, 1,000,
4,000, 15,000 and all 60,000 training digits of MNIST, five seeds each, attacks the
first 1,000 test digits, and draws the worst case against the number of digits. Another
number of updates is another config: configs/few_digits.py:300, :2400, :8000. Two cores
take some 2 minutes a network at 600, of which there are 50.
"""

from ml_collections import ConfigDict

from advloss import config as configs


def get_config(updates: str = "600") -> ConfigDict:
    """What all runs share, and the sweep as a line of text.

    Raises:
        ValueError: `updates` is no whole number from 1.
    """
    if not updates.isdecimal() or not int(updates):
        raise ValueError(f"configs/few_digits.py:{updates}: use a whole number from 1")
    config = configs.default()
    config.data.source = "tfds"
    config.train.steps = int(updates)
    config.evaluate.attacks = ("pgd", "fast")
    config.evaluate.examples = 1_000
    config.sweep = (
        "loss.name=softmax_cross_entropy,lmcl "
        "train.examples=500,1000,4000,15000,60000 seed=0,1,2,3,4"
    )
    return config
