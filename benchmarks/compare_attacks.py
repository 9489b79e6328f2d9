"""Our attacks against those of other packages, on the same networks and digits.

    make compare-attacks RUNS=runs/quickstart/undefended,runs/quickstart/softmax

Attacks the first test digits that each network classifies correctly, with foolbox,
torchattacks and adv-lib from their own packages, and prints a table in Markdown: robust
accuracy for attacks in a ball, the median distance for those that look for the closest
image. The budget, gradients for each image, is the peer's own count, and ours is no
larger. Every package uses all cores. Attacks that no other package has are in the table
alone.

Ends with an error where a robust accuracy is more than 1 point from a peer's, or a
median distance more than 1.02 times a peer's.
"""

import functools
import sys
import time
import types
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from absl import app, flags
from torch_networks import TorchTable1, to_numpy, to_torch

import advloss
from advloss import config as configs
from advloss import networks
from advloss.attacks import ATTACKS
from advloss.config import build
from advloss.evaluation import examples, programs
from advloss.training.workdir import load_data
from advloss.types import Split

_RUNS = flags.DEFINE_list("runs", None, "Work directories.", required=True)
_DIGITS = flags.DEFINE_integer("digits", 200, "How many test images.")
_ONLY = flags.DEFINE_list("only", [], "Attacks to be compared; all by default.")
_SEARCH, _STEPS = 5, 200  # Constants of the l2 attacks, and iterations for each.


class Peers:
    """A network as other packages take it, counting the calls with a gradient."""

    def __init__(self, run: advloss.Run, split: Split):
        cosine = run.config.loss.name == "lmcl"
        self.network = TorchTable1(run.variables, cosine=cosine).eval()
        self.run, self.split = run, split
        self.x, self.y = to_torch(split.images), torch.from_numpy(split.labels).long()
        theirs, ours = self.network(self.x).numpy(), run.classifier(split.images)
        np.testing.assert_allclose(theirs, ours, atol=1e-5 * np.abs(ours).max())
        self.calls = 0

    def torch_model(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += torch.is_grad_enabled() * len(x)
        return self.network(x)

    def foolbox_model(self):
        import foolbox

        def counting(x):
            self.calls += isinstance(x, jax.core.Tracer) * len(x)
            return self.run.classifier(x)

        return foolbox.JAXModel(counting, bounds=(0, 1))


def _foolbox(make: Callable) -> Callable[[Peers, float | None], np.ndarray]:
    def attack(peers: Peers, epsilon: float | None) -> np.ndarray:
        import eagerpy
        import foolbox

        x, y = (eagerpy.astensor(jnp.asarray(a)) for a in peers.split)
        found = make(foolbox.attacks)(peers.foolbox_model(), x, y, epsilons=epsilon)
        return np.asarray(found[0 if epsilon is None else 1].raw)

    return attack


def _torchattacks(make: Callable) -> Callable[[Peers, float | None], np.ndarray]:
    def attack(peers: Peers, epsilon: float | None) -> np.ndarray:
        import torchattacks

        class Model(torch.nn.Module):
            def forward(self, x):
                return peers.torch_model(x)

        model = Model()
        model.weight = peers.network.conv1.weight  # From which it takes the device.
        return to_numpy(make(torchattacks, model)(peers.x, peers.y))

    return attack


def _adv_lib(name: str, **settings) -> Callable[[Peers, float | None], np.ndarray]:
    def attack(peers: Peers, epsilon: float | None) -> np.ndarray:
        # Imported, and not used here.
        sys.modules.setdefault("visdom", types.SimpleNamespace(Visdom=None))
        from adv_lib.attacks import carlini_wagner

        function = getattr(carlini_wagner, name)
        return to_numpy(function(peers.torch_model, peers.x, peers.y, **settings))

    return attack


class Comparison(NamedTuple):
    """Our attack with its settings, and the same attack of peers.

    `budget` sets ours to at most so many gradients.
    """

    norm: str
    settings: dict
    peers: dict[str, Callable]
    epsilon: float | None = None
    budget: Callable[[int], dict] = lambda gradients: {}

    def holds(self, ours: np.ndarray, theirs: np.ndarray) -> bool:
        """Whether our distances are as good as a peer's."""
        if self.epsilon is None:
            return bool(np.median(ours) <= 1.02 * np.median(theirs))
        robust = [np.isinf(distance).mean() for distance in (ours, theirs)]
        return bool(abs(robust[0] - robust[1]) <= 0.01 + 1e-9)


_CE = {"objective": "softmax_cross_entropy"}
_PGD = {**_CE, "steps": 100}
COMPARISONS = {
    "pgd": Comparison(
        "linf",
        {**_PGD, "epsilon": 0.3, "step_size": 0.01},
        {
            "foolbox": _foolbox(lambda a: a.LinfPGD(abs_stepsize=0.01, steps=100)),
            "torchattacks": _torchattacks(
                lambda t, m: t.PGD(m, eps=0.3, alpha=0.01, steps=100)
            ),
        },
        epsilon=0.3,
    ),
    "pgd_l2": Comparison(
        "l2",
        {**_PGD, "epsilon": 2.0, "step_size": 0.1},
        {
            "foolbox": _foolbox(lambda a: a.L2PGD(abs_stepsize=0.1, steps=100)),
            "torchattacks": _torchattacks(
                lambda t, m: t.PGDL2(m, eps=2.0, alpha=0.1, steps=100)
            ),
        },
        epsilon=2.0,
    ),
    "carlini_l2": Comparison(
        "l2",
        {"binary_search_steps": _SEARCH, "steps": _STEPS},
        {
            "foolbox": _foolbox(
                # With `abort_early` it would stop before its budget is spent.
                lambda a: a.L2CarliniWagnerAttack(
                    binary_search_steps=_SEARCH, steps=_STEPS, abort_early=False
                )
            ),
            "adv-lib": _adv_lib(
                "carlini_wagner_l2",
                binary_search_steps=_SEARCH,
                max_iterations=_STEPS,
                abort_early=False,
            ),
            # One constant, so all iterations for it.
            "torchattacks": _torchattacks(
                lambda t, m: t.CW(m, c=1, steps=_SEARCH * _STEPS, lr=0.01)
            ),
        },
    ),
    "carlini_linf": Comparison(
        "linf",
        {"steps": 50},
        {
            "adv-lib": _adv_lib(
                "carlini_wagner_linf", max_iterations=50, initial_const=0.1
            )
        },
        budget=lambda gradients: {"rounds": gradients // 50},
    ),
    "ddn": Comparison("l2", {}, {"foolbox": _foolbox(lambda a: a.DDNAttack())}),
    "fmn": Comparison("linf", {}, {"foolbox": _foolbox(lambda a: a.LInfFMNAttack())}),
    "fmn_l2": Comparison("l2", {}, {"foolbox": _foolbox(lambda a: a.L2FMNAttack())}),
    "fmn_l1": Comparison("l1", {}, {"foolbox": _foolbox(lambda a: a.L1FMNAttack())}),
    "fgsm": Comparison("linf", {**_CE, "epsilon": 0.3}, {}, epsilon=0.3),
    "noise": Comparison("linf", {**_CE, "epsilon": 0.3}, {}, epsilon=0.3),
    "multi_targeted": Comparison(
        "linf",
        {"steps": 40, "epsilon": 0.3, "step_size": 0.02},
        {},
        epsilon=0.3,
    ),
    "lbfgs": Comparison("l2", {}, {}),
    "carlini_l0": Comparison(
        "l0",
        {"rounds": 10, "binary_search_steps": 2, "steps": 50, "learning_rate": 0.1},
        {},
    ),
}


def _digits(run: advloss.Run) -> Split:
    """The first test images that are classified correctly."""
    test = load_data(run.config).test
    right = np.argmax(run.classifier(test.images), -1) == test.labels
    chosen = np.flatnonzero(right)[: _DIGITS.value]
    return Split(test.images[chosen], test.labels[chosen])


def _judge(peers: Peers, images: np.ndarray, norm: str) -> np.ndarray:
    """`[n]` distances, inf where the image does not fool; the same for everyone."""
    change = (images - peers.split.images).reshape(len(images), -1)
    orders = {"linf": np.inf, "l2": 2, "l1": 1, "l0": 0}
    distance = np.linalg.norm(change, orders[norm], axis=1)
    fooled = np.argmax(peers.run.classifier(images), -1) != peers.split.labels
    assert images.min() > -1e-5
    assert images.max() < 1 + 1e-5
    return np.where(fooled, distance, np.inf)


def _ours(peers: Peers, name: str, comparison: Comparison, budget: int) -> tuple:
    config = peers.run.config.copy_and_resolve_references()
    config.evaluate[name].update(comparison.settings)
    config.evaluate[name].update(comparison.budget(budget))
    config.evaluate.batch_size = 100
    config = configs.resolve(config)
    target = programs.Target(
        functools.partial(networks.classifier, peers.run.network), peers.run.variables
    )
    attack = build.evaluation_attack(config, name)
    outcome = examples.attack(
        target,
        programs.Adversary(attack, ATTACKS[name], config.evaluate[name].to_dict()),
        peers.split,
        seed=config.evaluate.seed,
        batch_size=config.evaluate.batch_size,
        devices=jax.local_devices(),
    )
    return outcome.images, int(outcome.backward_passes.max()), outcome.seconds


def _row(
    peers: Peers, name: str, who: str, comparison: Comparison, found: tuple
) -> np.ndarray:
    """Prints a line of the table; returns the distances."""
    images, gradients, seconds = found
    distance = _judge(peers, images, comparison.norm)
    if comparison.epsilon is not None:
        beyond = distance[np.isfinite(distance)].max(initial=0)
        assert beyond <= comparison.epsilon * (1 + 1e-5), (who, beyond)
        result = f"{np.isinf(distance).mean():.1%} robust"
    else:
        result = f"median {np.median(distance):.4f}"
    cells = [peers.run.config.name, name, who, result, gradients, f"{seconds:.0f}"]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return distance


def _compare(peers: Peers, name: str) -> list[str]:
    """Every package's attack of that name; what does not hold, as sentences."""
    comparison, budget, theirs = COMPARISONS[name], 0, {}
    for who, attack in comparison.peers.items():
        peers.calls, started = 0, time.perf_counter()
        images = attack(peers, comparison.epsilon)
        seconds = time.perf_counter() - started
        budget = peers.calls // len(peers.y)
        found = images, budget, seconds
        theirs[who] = _row(peers, name, who, comparison, found)
    found = _ours(peers, name, comparison, budget)
    ours = _row(peers, name, "advloss", comparison, found)
    return [
        f"{peers.run.config.name}: {name} is weaker than {who}'s"
        for who, distance in theirs.items()
        if not comparison.holds(ours, distance)
    ]


def main(_) -> None:
    jax.config.update("jax_num_cpu_devices", torch.get_num_threads())
    print("| network | attack | package | result | gradients | seconds |")
    print("|---|---|---|---|---|---|")
    broken = []
    for workdir in _RUNS.value:
        run = advloss.load_run(workdir)
        peers = Peers(run, _digits(run))
        for name in _ONLY.value or COMPARISONS:
            broken += _compare(peers, name)
    if broken:
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    app.run(main)
