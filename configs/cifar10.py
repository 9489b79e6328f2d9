"""CIFAR-10 in l-inf, epsilon 8/255: a row by the literature's protocol, or a small one.

    python -m experiments.train --config=configs/cifar10.py:trades --workdir=runs/trades
    python -m experiments.evaluate --workdir=runs/trades

Rows are pgd, trades, mart, awp, he, hinge and lmcl: PreActResNet-18 against PGD-10 with
steps of 2/255 from a random start, random crops and flips, 110 epochs of 50,000 images
at batch 128, SGD with momentum 0.9 and weight decay 5e-4, learning rate 0.1 and a tenth
of that from the epochs 100 and 105 on: "Bag of Tricks for Adversarial Training" by Pang
et al. (2021). Of 1,000 training images that are held out, PGD-20 chooses the weights,
since the last ones overfit ("Overfitting in adversarially robust deep learning" by Rice
et al., 2020). That is 1.4e17 floating-point operations: work for a GPU. Attacks are
PGD-20, the suite `fast` and AutoAttack, on all 10,000 test images.

None of these rows has been trained yet. Published, natural / AutoAttack in per cent, on
other networks but for the first, as RobustBench lists them or (*) their authors' code:

    FGSM-RS, PreActResNet-18   83.34 / 43.21      AT-AWP, WRN-34-10*   85.36 / 53.97
    PGD, WRN-34-20             85.34 / 53.42      MART-AWP, WRN-34-10* 84.43 / 54.23
    TRADES, WRN-34-10          84.92 / 53.08      HE, WRN-34-20        85.14 / 53.74

WRN-34-10 is --config.model.name=wide_resnet --config.model.depth=34.

    advloss train --config=configs/cifar10.py:laptop --workdir=runs/laptop \\
        --config.data.source=npz --config.data.file=cifar10.npz

trains a small residual network on two cores: 10 epochs against N-FGSM, one step an
update, with held-out images to see whether it overfits catastrophically. Softmax keeps
52.9 % natural, 27.6 % under `fast` (docs/results.md).

The data come through TFDS, or from an npz file as above (docs/add-your-data.md).
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from advloss import config as configs
from advloss.attacks import ATTACKS

EPSILON, STEP_SIZE = 8 / 255, 2 / 255
# Means and deviations of the training images' channels.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
# What sets each row apart. Weights of TRADES and MART are the defaults, their authors'.
ROWS: Mapping[str, Mapping[str, Any]] = {
    "pgd": {},
    "trades": {"defence.name": "trades"},
    "mart": {"defence.name": "mart"},
    "awp": {"defence.awp": 0.01},
    "he": {"loss.name": "he"},
    "hinge": {"loss.name": "hinge"},
    "lmcl": {"loss.name": "lmcl"},
    "laptop": {"defence.attack": "n_fgsm"},
}


def get_config(row: str = "pgd") -> ConfigDict:
    """The config of one row. Raises ValueError where there is none of that name."""
    if row not in ROWS:
        raise ValueError(f"configs/cifar10.py:{row}: use one of {tuple(ROWS)}")
    config = configs.default()
    config.name = row
    config.data.source, config.data.name = "tfds", "cifar10"
    config.model.mean, config.model.std = MEAN, STD
    config.update_from_flattened_dict(dict(ROWS[row]))
    _train(config)
    if row == "laptop":
        _train_on_a_laptop(config)
    _evaluate(config)
    return config


def _train(config: ConfigDict) -> None:
    config.model.name = "preact_resnet18"
    train = config.train
    train.batch_size = 128
    train.steps = 110 * 50_000 // train.batch_size
    train.optimiser, train.momentum, train.weight_decay = "sgd", 0.9, 5e-4
    train.learning_rate, train.schedule = 0.1, "piecewise"
    train.milestones = (100 / 110, 105 / 110)
    train.augment.names = ("crop", "flip")
    train.chunk_steps, train.checkpoint_every = 200, 2_000
    train.keep = "best"
    train.validation.examples, train.validation.every = 1_000, 400
    train.attack.epsilon, train.attack.warmup = EPSILON, 0.0
    if config.defence.attack == "pgd":
        train.attack.step_size, train.attack.steps = STEP_SIZE, 10


def _train_on_a_laptop(config: ConfigDict) -> None:
    config.model.name = "resnet8"
    train = config.train
    train.steps = 10 * 50_000 // train.batch_size
    train.schedule, train.milestones = "one_cycle", (0.3,)
    train.augment.names = ("flip",)
    train.chunk_steps, train.checkpoint_every = 50, 200
    train.validation.examples = 500
    config.evaluate.examples = 1_000


def _evaluate(config: ConfigDict) -> None:
    attacks = ("pgd", "fast")
    config.evaluate.attacks = attacks + ("autoattack",) * (config.name != "laptop")
    evaluate_within(config, EPSILON)
    for name in ("pgd", "multi_targeted"):
        config.evaluate[name].step_size = STEP_SIZE
    config.evaluate.pgd.steps = 20


def evaluate_within(config: ConfigDict, epsilon: float) -> None:
    """Sets the radius of every attack in l-inf."""
    for name, attack in ATTACKS.items():
        section = config.evaluate.get(name, {})
        for key in {"epsilon", "radius"} & set(section):
            if attack.norm == "linf":
                section[key] = epsilon
