"""How fast PGD and adversarial training are, beside other packages and the machine.

    make bench

Prints a Markdown table. Every package attacks or trains the same network of Table I
with the same weights on the same images, one after the other in turns, so that a slow
minute of the machine hits all. A ratio is taken within a turn; the table has the median
and the range over all turns. What is compiled is called once before; that call has its
own column. The floor is the work, as floating-point operations, at the best rate of a
plain matrix product, which takes its turn as well.

On a GPU everything runs there, with PyTorch's own choice of kernels.
"""

import functools
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_attacks
from absl import app, flags
from ml_collections import ConfigDict
from torch_networks import TorchTable1, to_torch

from advloss import config as configs
from advloss import networks
from advloss.attacks import ATTACKS
from advloss.attacks.base import Round
from advloss.config import build
from advloss.evaluation import programs
from advloss.evaluation.mapped import Mapped
from advloss.runtime import devices as on_devices
from advloss.training import stack, step
from advloss.training.workdir import load_data
from advloss.types import Batch, Classifier, PyTree, TrainState

_TURNS = flags.DEFINE_integer("turns", 7, "How often each is timed.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 40, "Of PGD, in attacks and in training.")
_CHUNK = flags.DEFINE_integer("chunk", 5, "Training steps that are timed together.")
_EPSILON, _STEP_SIZE = 0.3, 0.01
FORWARD = 2 * (28 * 28 * 25 * 32 + 14 * 14 * 25 * 32 * 64 + 3136 * 1024 + 1024 * 10)


class Work(NamedTuple):
    """The same work done by several packages.

    Attributes:
        name: what it is.
        flops: floating-point operations of one call.
        calls: how to do it, by package; ours is called "advloss". Each returns when
            it is done.
    """

    name: str
    flops: float
    calls: Mapping[str, Callable[[], None]]


class Subject:
    """The network in JAX and PyTorch, and the images."""

    def __init__(self, devices: list[jax.Device]):
        self.devices = devices
        self.cuda = torch.cuda.is_available() and devices[0].platform != "cpu"
        self.place = torch.device("cuda" if self.cuda else "cpu")
        self.config = _config(_STEPS.value)
        self.dataset = load_data(self.config)
        self.network = build.network(self.config)
        self.variables = self.state(self.config).variables
        self.torch = TorchTable1(self.variables, cosine=False).to(self.place)

    def state(self, config: ConfigDict) -> TrainState:
        return step.init(config, self.network, self.dataset.train)

    def batch(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.asarray(array[:size]) for array in self.dataset.test)

    def torch_batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = self.batch(size)
        labels = torch.from_numpy(labels).long()
        return to_torch(images).to(self.place), labels.to(self.place)

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def _config(steps: int, seed: int = 0) -> ConfigDict:
    config = configs.default()
    config.seed = seed
    config.train.schedule = "constant"
    config.train.steps = 10**6
    config.train.chunk_steps = config.train.checkpoint_every = _CHUNK.value
    config.train.attack.warmup = 0.0
    config.train.attack.steps = config.evaluate.pgd.steps = steps
    config.train.attack.step_size = config.evaluate.pgd.step_size = _STEP_SIZE
    return configs.resolve(config)


def attack(subject: Subject, size: int) -> Work:
    """PGD of a batch."""
    steps, (images, labels) = _STEPS.value, subject.batch(size)

    def classifier_of(variables: PyTree) -> Classifier:
        return networks.classifier(subject.network, variables)

    ours = programs.attack_round(
        programs.Target(classifier_of, subject.variables),
        programs.Adversary(
            build.evaluation_attack(subject.config, "pgd"),
            ATTACKS["pgd"],
            subject.config.evaluate.pgd.to_dict(),
        ),
        Round(),
        stop=False,
    )
    shared = subject.variables, jax.random.key(0), {}
    mapped = Mapped(ours, shared, size, subject.devices, most=size)
    batch = Batch(images, labels, np.arange(size, dtype=np.int32))
    x, y = subject.torch_batch(size)
    calls = {"advloss": lambda: mapped((batch, images))}

    def torchattacks() -> None:
        import torchattacks

        peer = torchattacks.PGD(
            subject.torch, eps=_EPSILON, alpha=_STEP_SIZE, steps=steps
        )
        peer(x, y)
        subject.wait()

    def foolbox(model, *arrays) -> None:
        import foolbox

        peer = foolbox.attacks.LinfPGD(abs_stepsize=_STEP_SIZE, steps=steps)
        _, found, _ = peer(model, *arrays, epsilons=_EPSILON)
        jax.block_until_ready(found.raw)
        subject.wait()

    import eagerpy
    import foolbox as package

    bounds = {"bounds": (0, 1)}
    torch_model = package.PyTorchModel(subject.torch.eval(), **bounds)
    classifier = jax.jit(classifier_of(subject.variables))
    jax_model = package.JAXModel(classifier, **bounds)
    torch_arrays = tuple(map(eagerpy.astensor, (x, y)))
    jax_arrays = tuple(eagerpy.astensor(jnp.asarray(a)) for a in (images, labels))
    calls |= {
        "torchattacks": torchattacks,
        "foolbox, PyTorch": functools.partial(foolbox, torch_model, *torch_arrays),
        "foolbox, JAX": functools.partial(foolbox, jax_model, *jax_arrays),
    }
    return Work(f"PGD-{steps}, batch {size}", 2 * FORWARD * size * steps, calls)


def training(subject: Subject) -> Work:
    """Adversarial training steps, several at once: of one run, and of runs together."""
    chunk, settings = _CHUNK.value, subject.config.train
    size, steps = settings.batch_size, settings.attack.steps
    count = stack.ROWS[subject.devices[0].platform] * len(subject.devices)

    def chunks(seeds: range) -> Iterator[tuple]:
        members = [_config(steps, seed) for seed in seeds]
        return stack.run(
            members,
            subject.network,
            subject.dataset,
            list(map(subject.state, members)),
            where=stack.layout(len(members), size, subject.devices),
        )

    alone, together = chunks(range(1)), chunks(range(count))
    calls = {
        "advloss": lambda: next(alone)[1],
        f"advloss, {count} runs together": lambda: next(together)[1],
    }
    for name, compiled in (("PyTorch", False), ("PyTorch, torch.compile", True)):
        calls[name] = _torch_training(subject, size, steps, chunk, compiled)
    flops = (2 * steps + 3) * FORWARD * size * chunk
    return Work(f"training against PGD-{steps}, batch {size}", flops, calls)


def _torch_training(
    subject: Subject, size: int, steps: int, chunk: int, compiled: bool
) -> Callable[[], None]:
    network = TorchTable1(subject.variables, cosine=False).to(subject.place)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
    entropy = torch.nn.functional.cross_entropy
    forward = torch.compile(network) if compiled else network
    x, y = subject.torch_batch(size)

    def call() -> None:
        for _ in range(chunk):
            adversary = torch_attacks.pgd(
                forward, torch_attacks.random_start(x, _EPSILON), x, y,
                epsilon=_EPSILON, step_size=_STEP_SIZE, steps=steps,
            )  # fmt: skip
            optimiser.zero_grad()
            entropy(forward(adversary), y).backward()
            optimiser.step()
        subject.wait()

    return call


def product(devices: list[jax.Device]) -> tuple[float, Callable[[], None]]:
    """A matrix product on all devices: its operations, and how to do it."""
    size = 1024 if devices[0].platform == "cpu" else 8192
    repeat = 10

    def multiply(state: jax.Array, _, matrix: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, repeat, lambda _, x: x @ matrix, state)

    mapped = on_devices.map_rows(multiply, devices)
    rows = jnp.tile(jnp.eye(size), (len(devices), 1, 1))
    state, matrix = (on_devices.spread(rows, devices) for _ in range(2))
    held = [state]

    def call() -> None:
        held[0] = jax.block_until_ready(mapped(held[0], None, matrix))

    return 2 * size**3 * repeat * len(devices), call


def measure(
    work: Work, devices: list[jax.Device], turns: int, rates: list[float]
) -> list[list[str]]:
    """A row of the table for each package.

    Args:
        work: what is to be done.
        devices: for the matrix product.
        turns: how often each is timed.
        rates: of matrix products so far, in operations a second; more are added.
    """
    floor_flops, floor = product(devices)
    calls = {**work.calls, "floor": floor}
    first = {name: _seconds(call) for name, call in calls.items()}
    for call in calls.values():
        call()
    times = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            times[name].append(_seconds(call))
    seconds = {name: np.array(values) for name, values in times.items()}
    for name in seconds:
        if name.endswith("together"):  # So many runs' work in one call.
            seconds[name] /= int(name.split()[1])
    rates.extend(floor_flops / seconds.pop("floor"))
    floor_seconds = work.flops / max(rates)
    rows = []
    for name, values in seconds.items():
        ratios = values / seconds["advloss"]
        share = floor_seconds / np.median(values)
        rows.append(
            [
                work.name,
                name,
                f"{1e3 * np.median(values):.0f}",
                f"{first[name] - np.median(times[name]):.1f}",
                f"{np.median(ratios):.2f} [{ratios.min():.2f}, {ratios.max():.2f}]",
                f"{share:.2f}",
            ]
        )
    return rows


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main(_) -> None:
    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", cores)
    devices = jax.local_devices()
    subject = Subject(devices)
    works = [attack(subject, 50), attack(subject, 500), training(subject)]
    print(
        f"{len(devices)} x {devices[0].device_kind}, {cores} cores, "
        f"{platform.machine()}; JAX {jax.__version__}, PyTorch {torch.__version__}; "
        f"{_TURNS.value} turns. ms: median; of training, for {_CHUNK.value} steps.\n"
    )
    print("| work | package | ms | first call, s | times ours | share of the floor |")
    print("|---|---|---|---|---|---|")
    rates: list[float] = []
    for work in works:
        for row in measure(work, devices, _TURNS.value, rates):
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\nMatrix product: {max(rates) / 1e9:.0f} GFLOP/s.")


if __name__ == "__main__":
    app.run(main)
