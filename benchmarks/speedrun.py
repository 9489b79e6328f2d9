"""From nothing to a robust network in minutes: the recipe, and PyTorch's loop at it.

    make speedrun FLAGS="--data_dir=FOLDER"

Trains the softmax network of configs/paper.py:laptop from nothing (`--budget=smoke`:
sees that it works), and prints minutes, gradients of an image, accuracy on the test
digits, natural and under PGD-100, and what AutoAttack leaves of the first 1,000.
PyTorch then trains the same network from the same weights by the same recipe
(`--torch=False`: not). The figure shows robust accuracy, of the first 500 test digits
under PGD-20 on the margin, against the minutes of training; what is measured on the way
is no part of them, what is compiled is.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch_attacks
from absl import app, flags
from ml_collections import ConfigDict
from torch.nn.functional import cross_entropy
from torch_networks import TorchTable1, to_torch, variables_of

import advloss
from advloss import config as configs
from advloss import networks, optimisers
from advloss.config import build
from advloss.training import cost, stack, step, validation
from advloss.training.workdir import load_data
from advloss.types import Dataset, PyTree
from configs import paper

_DATA = flags.DEFINE_string("data_dir", "", "A folder with MNIST's idx files; '': TFDS")
_BUDGET = flags.DEFINE_enum("budget", "laptop", [*paper.BUDGETS], "Of the recipe.")
_FIGURE = flags.DEFINE_string("figure", "speedrun.png", "Where the figure is written.")
_TORCH = flags.DEFINE_bool("torch", True, "Whether PyTorch trains too.")
_POINTS = flags.DEFINE_integer("points", 10, "Of the curve.", lower_bound=1)
_DIGITS, _ATTACKED = 500, 1_000  # Of the curve, and of AutoAttack.


class Point(NamedTuple):
    """Of a training: how long it took so far, and what it reached."""

    minutes: float
    steps: int
    robust: float


class Watch:
    """Takes the time of training alone."""

    def __init__(self) -> None:
        self.seconds, self._since = 0.0, time.perf_counter()

    def stop(self) -> None:
        self.seconds += time.perf_counter() - self._since

    def go_on(self) -> None:
        self._since = time.perf_counter()


def recipe() -> ConfigDict:
    """The config of the network, as a run of the study has it."""
    config = paper.network("softmax", _BUDGET.value)
    config.data.update({"source": "idx", "dir": _DATA.value} if _DATA.value else {})
    return configs.resolve(config)


def ours(config: ConfigDict, dataset: Dataset) -> Iterator[tuple[int, PyTree]]:
    """After every chunk the updates so far, and the weights to be evaluated."""
    network, devices = build.network(config), jax.local_devices()
    where = stack.layout(1, config.train.batch_size, devices)
    state = step.init(config, network, dataset.train)
    chunks = stack.run([config], network, dataset, [state], where=where)
    for fetch, _ in chunks:
        (state,) = fetch()
        yield int(state.step), validation.evaluated(state._asdict(), config.train)


class TorchLoop:
    """The same recipe as an ordinary loop of PyTorch.

    Args:
        config: PGD or ATTA with softmax cross-entropy, Adam, and what goes with them.
        dataset: what is trained on.
        variables: what it begins with.
    """

    def __init__(self, config: ConfigDict, dataset: Dataset, variables: PyTree):
        self.settings, self.attack = config.train, config.train.attack
        self.network = TorchTable1(variables, cosine=False)
        for parameter in self.network.parameters():
            parameter.requires_grad_(True)
        betas = (self.settings.momentum, 0.999)
        self.optimiser = torch.optim.Adam(self.network.parameters(), 1.0, betas=betas)
        self.images = to_torch(dataset.train.images)
        self.labels = torch.from_numpy(dataset.train.labels).long()
        self.remembers = config.defence.name == "atta"
        self.carried = torch.zeros_like(self.images) if self.remembers else None
        self.seen = torch.zeros(len(self.labels), dtype=torch.bool)
        self.mean = {k: p.detach().clone() for k, p in self.network.named_parameters()}

    def chunks(self) -> Iterator[tuple[int, PyTree]]:
        """After every chunk the updates so far, and the weights to be evaluated."""
        settings = self.settings
        make = optimisers.SCHEDULES[settings.schedule]
        schedule = make(settings.steps, tuple(settings.milestones))
        rates = np.asarray(jax.vmap(schedule)(np.arange(settings.steps)))
        for done, chosen in enumerate(self._batches()):
            rate = settings.learning_rate * float(rates[done])
            self._update(self._attacked(chosen, done), self.labels[chosen], rate)
            if settings.average:
                self._average(done)
            if (done + 1) % settings.chunk_steps == 0 or done + 1 == settings.steps:
                kept = dict(self.network.named_parameters())
                yield done + 1, variables_of(self.mean if settings.average else kept)

    def _batches(self) -> Iterator[torch.Tensor]:
        """The indices of each update's batch, from shuffled epochs."""
        left, size = torch.empty(0, dtype=torch.long), self.settings.batch_size
        for _ in range(self.settings.steps):
            if len(left) < size:
                left = torch.cat([left, torch.randperm(len(self.labels))])
            chosen, left = left[:size], left[size:]
            yield chosen

    def _attacked(self, chosen: torch.Tensor, done: int) -> torch.Tensor:
        warmup = self.attack.warmup * self.settings.steps
        ramp = min(1.0, (done + 1) / warmup) if warmup else 1.0
        epsilon, step_size = ramp * self.attack.epsilon, ramp * self.attack.step_size
        x, y = self.images[chosen], self.labels[chosen]
        change = (2 * torch.rand_like(x) - 1) * epsilon
        if self.remembers:
            known = self.seen[chosen, None, None, None]
            change = torch.where(known, self.carried[chosen] * epsilon, change)
        moved = torch_attacks.pgd(
            self.network, torch.clamp(x + change, 0, 1), x, y,
            epsilon=epsilon, step_size=step_size, steps=self.attack.steps,
        )  # fmt: skip
        if self.remembers:
            self.carried[chosen], self.seen[chosen] = (moved - x) / epsilon, True
        return moved

    def _update(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> None:
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.zero_grad()
        cross_entropy(self.network(images), labels).backward()
        self.optimiser.step()

    def _average(self, done: int) -> None:
        share = min(self.settings.average, (1 + done) / (10 + done))
        for name, parameter in self.network.named_parameters():
            self.mean[name].lerp_(parameter.detach(), 1 - share)


def curve(
    config: ConfigDict, dataset: Dataset, chunks: Iterator[tuple[int, PyTree]]
) -> tuple[list[Point], PyTree]:
    """The points of a training, and what it ends with."""
    total, points, watch = config.train.steps, [], Watch()
    for done, variables in chunks:
        if done * _POINTS.value // total > len(points):
            watch.stop()
            left = robust(config, dataset, variables)
            points.append(Point(watch.seconds / 60, done, left))
            print(
                f"{points[-1].minutes:6.1f} min {done:6} updates {100 * left:5.1f} %",
                flush=True,
            )
            watch.go_on()
    return points, variables


def robust(config: ConfigDict, dataset: Dataset, variables: PyTree) -> float:
    """The share of the first test digits that PGD-20 on the margin leaves."""
    result = advloss.evaluate(
        networks.classifier(build.network(config), variables),
        *(array[:_DIGITS] for array in dataset.test),
        epsilon=config.train.attack.epsilon,
        attacks="pgd",
        objective="margin",
        steps=20,
        step_size=config.train.attack.epsilon / 8,
        progress=False,
    )
    return float(result.robust_accuracy[0])


def show(curves: dict[str, list[Point]], path: str) -> None:
    """Robust accuracy against minutes."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, points in curves.items():
        minutes = [point.minutes for point in points]
        axes.plot(minutes, [100 * point.robust for point in points], "o-", label=name)
    axes.set(xlabel="minutes of training", ylabel="robust accuracy, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main(_: list[str]) -> None:
    jax.config.update("jax_num_cpu_devices", torch.get_num_threads())
    config = recipe()
    dataset = load_data(config)
    first = step.init(config, build.network(config), dataset.train).variables
    print("advloss")
    points, variables = curve(config, dataset, ours(config, dataset))
    curves = {"advloss": points}
    if _TORCH.value:
        print("PyTorch")
        loop = TorchLoop(config, dataset, first)
        curves["PyTorch"], _ = curve(config, dataset, loop.chunks())
    show(curves, _FIGURE.value)
    images = config.train.batch_size * config.train.steps
    gradients = cost.of_update(config).backward * images
    print(f"\n{points[-1].minutes:.1f} minutes, {gradients:,} gradients of an image")
    classifier = jax.jit(networks.classifier(build.network(config), variables))
    epsilon = config.train.attack.epsilon
    for attacks, count, more in (
        ("pgd", len(dataset.test.labels), {"steps": 100, "step_size": 0.01}),
        ("autoattack", _ATTACKED, {}),
    ):
        digits = (array[:count] for array in dataset.test)
        print(
            f"\n{attacks}, {count} test digits\n",
            advloss.evaluate(
                classifier, *digits, epsilon=epsilon, attacks=attacks, **more
            ),
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
