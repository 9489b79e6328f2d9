"""Everything in the paper from one command, or one table or figure of it.

    python -m experiments.study --config=configs/paper.py:short --workdir=runs/short

trains what is missing in the folder, attacks it, and writes the report: Table I, the
numbers of Section III, Tables II and III, Figures 1 to 4. `configs/table2.py:short` and
its like show one of them; in the same folder they share the networks. Interrupted, it
goes on where it stopped. Budgets:

    paper   the paper's protocol: 100,000 updates of 50 images against PGD-40, MNIST,
            three seeds. Minutes a network on a data-centre GPU, days on a laptop.
    laptop  6,500 updates of ATTA with two steps, MNIST, five seeds, all test digits: a
            million gradients of an image, some 4 minutes a network on two cores, and
            stronger than the paper's (docs/recipe.md).
    short   2,000 updates against PGD-7, MNIST, three seeds, the first 1,000 test
            digits: 15 minutes a network on two cores, a night for everything. Softmax:
            98.0 % natural, 80.5 % under PGD-100 (docs/results.md has all of it).
    smoke   20 updates on 4,000 digits, one seed: minutes, to see that it works.

Any key can be set for all networks: --config.data.source=idx --config.data.dir=FOLDER
takes MNIST from files, --config.seeds=5 trains more of each.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from advloss import config as configs

# Budgets, and what a report says of them.
BUDGETS: Mapping[str, str] = {
    "paper": "paper: the paper's protocol, 100,000 updates against PGD-40",
    "laptop": "laptop: not the paper's protocol but 6,500 updates of ATTA, two steps",
    "short": "short: not the paper's protocol but 2,000 updates against PGD-7; compare "
    "losses with each other, not with the paper's numbers",
    "smoke": "smoke: a test of a few updates, its numbers mean nothing",
}
# Networks by name, and what sets them apart from the budget's softmax network.
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "undefended": {"defence.name": "natural"},
    "hinge": {"loss.name": "hinge", "loss.margin": 1.0},
    "softmax": {},
    "lmcl_m0.1": {"loss.name": "lmcl", "loss.margin": 0.1},
    "lmcl_m0.3": {"loss.name": "lmcl", "loss.margin": 0.3},
    "lmcl_m0.5": {"loss.name": "lmcl", "loss.margin": 0.5},
    "lmcl_m1.11": {"loss.name": "lmcl", "loss.margin": 1.11},
    # Of another architecture: its images are strange to the others.
    "mlp": {"defence.name": "natural", "model.name": "mlp"},
}
# What can be shown, and the networks that it takes.
PARTS: Mapping[str, tuple[str, ...]] = {
    "table1": (),
    "section3": ("undefended", "softmax"),
    "table2": tuple(n for n in NETWORKS if n not in ("undefended", "mlp")),
    "table3": ("hinge", "softmax", "lmcl_m0.3", "undefended", "mlp"),
    "figure1": ("undefended", "softmax"),
    "figure2": ("undefended", "softmax"),
    "figure3": ("softmax", "lmcl_m0.3"),
    "figure4": ("softmax", "lmcl_m0.3"),
}


def get_config(budget: str = "paper") -> ConfigDict:
    """All parts at a budget, a key of `BUDGETS`."""
    return study(tuple(PARTS), budget)


def study(parts: tuple[str, ...], budget: str) -> ConfigDict:
    """The keys that all networks share, and four of the study's own.

    Raises:
        ValueError: no budget of that name.
    """
    config = shared(budget)
    # What the report says of it.
    config.budget = BUDGETS[budget]
    # How many networks of each kind, seeds 0, 1, ...
    config.seeds = {"smoke": 1, "laptop": 5}.get(budget, 3)
    # What the report shows, of PARTS.
    config.parts = parts
    # Each network's name, and what sets it apart.
    config.networks = tuple(
        " ".join([name, *(f"{key}={value}" for key, value in changes.items())])
        for name, changes in NETWORKS.items()
        if any(name in PARTS[part] for part in parts)
    )
    return config


def shared(budget: str) -> ConfigDict:
    """The softmax network of a budget. Raises ValueError where there is none."""
    if budget not in BUDGETS:
        raise ValueError(f"{budget}: use one of {tuple(BUDGETS)}")
    config = configs.default()
    config.data.source = "tfds"
    config.evaluate.attacks = ("pgd", "noise", "fast", "fmn")
    if budget == "paper":
        config.model.init = "madry"
        config.train.steps = 100_000
        config.train.learning_rate = 1e-4
        config.train.schedule = "constant"
        config.train.chunk_steps = 200
        config.train.checkpoint_every = 2_000
        config.train.attack.step_size = 0.01
        config.train.attack.steps = 40
        config.train.attack.warmup = 0.0
    if budget == "laptop":
        config.defence.name = "atta"
        config.train.steps = 6_500
        config.train.learning_rate = 2e-3
        config.train.attack.step_size = 0.15
        config.train.attack.steps = 2
        config.train.checkpoint_every = 500
    if budget == "short":
        config.train.steps = 2_000
        config.train.learning_rate = 1e-3
        config.train.attack.step_size = 2.5 * 0.3 / 7
        config.train.attack.steps = 7
        config.evaluate.examples = 1_000
    if budget == "smoke":
        config.data.source = "mnist_5k"
        config.train.steps = config.train.checkpoint_every = 20
        config.train.chunk_steps = 10
        config.train.attack.steps = 1
        config.train.validation.examples = 0
        config.evaluate.examples = 100
        config.evaluate.batch_size = 100
        config.evaluate.pgd.steps = 5
        config.evaluate.pgd.step_size = 0.1
        for attack in ("apgd_margin", "apgd_t_margin", "fmn"):
            config.evaluate[attack].steps = 5
    return config


def network(name: str, budget: str) -> ConfigDict:
    """The config of one network at a budget.

    Raises:
        ValueError: no network or no budget of that name.
    """
    if name not in NETWORKS:
        raise ValueError(f"{name}: use one of {tuple(NETWORKS)}")
    config = shared(budget)
    config.name = name
    config.update_from_flattened_dict(dict(NETWORKS[name]))
    return config
