"""How fast a residual network trains against PGD, beside PyTorch, and in what memory.

    make bench-resnet                                   # ResNet-18: work for a GPU
    make bench-resnet FLAGS="--network=resnet8 --batch=32 --steps=2"     # for a CPU

Prints a Markdown table: a training step by `advloss`, by PyTorch's eager mode and by
torch.compile, on the same number of images of 32x32 pixels, with the same precision on
both sides (PyTorch's own in convolutions on a GPU is tensorfloat32; its bfloat16 is
autocast's). They take turns; a ratio is taken within a turn, and the table has the
median and the range. On a GPU comes first the memory that ours needs at its most, by
the number of steps of PGD: it must not grow with them.
"""

import os
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
import torch
import torch_attacks
from absl import app, flags
from ml_collections import ConfigDict
from torch_networks import TorchResidual

from advloss import config as configs
from advloss.config import build
from advloss.training import stack, step
from advloss.types import Dataset, Split
from configs import cifar10

_NETWORK = flags.DEFINE_enum(
    "network", "preact_resnet18", ("preact_resnet18", "resnet8"), "Which is trained."
)
_BATCH = flags.DEFINE_integer("batch", 128, "Images of a step.", lower_bound=2)
_STEPS = flags.DEFINE_integer("steps", 10, "Of PGD.", lower_bound=1)
_CHUNK = flags.DEFINE_integer("chunk", 5, "Training steps that are timed together.")
_TURNS = flags.DEFINE_integer("turns", 5, "How often each is timed.", lower_bound=1)
_PRECISIONS = flags.DEFINE_list(
    "precisions", "float32,tensorfloat32,bfloat16", "What is compared, one by one."
)
_MEMORY = flags.DEFINE_list("memory", "2,10,40", "Steps of PGD to take the memory of.")
_EPSILON, _STEP_SIZE, _RATE = 8 / 255, 2 / 255, 0.01


def _config(precision: str, steps: int) -> ConfigDict:
    config = cifar10.get_config("pgd")
    config.model.name, config.model.precision = _NETWORK.value, precision
    config.train.batch_size, config.train.steps = _BATCH.value, 10**6
    config.train.chunk_steps = config.train.checkpoint_every = _CHUNK.value
    config.train.schedule, config.train.learning_rate = "constant", _RATE
    config.train.keep, config.train.validation.examples = "last", 0
    config.train.augment.names = ()
    config.train.attack.steps = steps
    return configs.resolve(config)


def _images() -> Dataset:
    """Noise: what a step takes does not depend on what is seen."""
    rng, count = np.random.default_rng(0), 4 * _BATCH.value
    images = rng.random((count, 32, 32, 3), np.float32)
    split = Split(images, rng.integers(0, 10, count).astype(np.int32))
    return Dataset(split, split, num_classes=10)


def ours(config: ConfigDict, dataset: Dataset) -> Callable[[], None]:
    """A chunk of training steps on all devices."""
    network = build.network(config)
    devices = jax.local_devices()
    chunks: Iterator[tuple] = stack.run(
        [config],
        network,
        dataset,
        [step.init(config, network, dataset.train)],
        where=stack.layout(1, _BATCH.value, devices),
    )

    def call() -> None:
        _, (metrics,) = next(chunks)
        if not np.isfinite(metrics["loss"]).all():
            raise FloatingPointError("our loss is not finite")

    return call


def theirs(dataset: Dataset, precision: str, compiled: bool) -> Callable[[], None]:
    """The same of PyTorch: frozen statistics under attack, moving ones in training."""
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    normalised = torch.tensor([cifar10.MEAN, cifar10.STD], device=place)
    # With channels last, cuDNN need not turn the axes around.
    network = TorchResidual(_NETWORK.value, normalised)
    network = network.to(place, memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.parameters(), _RATE, momentum=0.9, weight_decay=5e-4
    )
    forward = torch.compile(network) if compiled else network
    images = torch.from_numpy(dataset.train.images[: _BATCH.value])
    x = images.permute(0, 3, 1, 2).to(place, memory_format=torch.channels_last)
    y = torch.from_numpy(dataset.train.labels[: _BATCH.value]).long().to(place)

    def logits(images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(
            place.type, torch.bfloat16, enabled=precision == "bfloat16"
        ):
            return forward(images).float()

    def one_step() -> torch.Tensor:
        network.eval()
        adversary = torch_attacks.pgd(
            logits, torch_attacks.random_start(x, _EPSILON), x, y,
            epsilon=_EPSILON, step_size=_STEP_SIZE, steps=_STEPS.value,
        )  # fmt: skip
        network.train()
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(logits(adversary), y)
        loss.backward()
        optimiser.step()
        return loss.detach()

    def call() -> None:
        losses = [one_step() for _ in range(_CHUNK.value)]
        if not np.isfinite(float(losses[-1])):  # Waits for the device, too.
            raise FloatingPointError("PyTorch's loss is not finite")

    return call


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) / _CHUNK.value


def compare(dataset: Dataset, precision: str) -> None:
    """Prints a row for each package."""
    for unit in (torch.backends.cudnn, torch.backends.cuda.matmul):
        unit.allow_tf32 = precision == "tensorfloat32"
    calls = {
        "advloss": ours(_config(precision, _STEPS.value), dataset),
        "PyTorch": theirs(dataset, precision, False),
        "PyTorch, torch.compile": theirs(dataset, precision, True),
    }
    first = {name: _seconds(call) * _CHUNK.value for name, call in calls.items()}
    for call in calls.values():
        call()
    turns = [[_seconds(call) for call in calls.values()] for _ in range(_TURNS.value)]
    for name, taken in zip(calls, np.transpose(turns), strict=True):
        ratios = taken / np.transpose(turns)[0]
        print(
            f"| {precision} | {name} | {1e3 * np.median(taken):.1f} | "
            f"{first[name]:.0f} | {np.median(ratios):.2f} "
            f"[{ratios.min():.2f}, {ratios.max():.2f}] |",
            flush=True,
        )


def memory(dataset: Dataset, precision: str) -> None:
    """Prints the most memory of a training step so far, by the steps of PGD."""
    for steps in map(int, _MEMORY.value):
        ours(_config(precision, steps), dataset)()
        peak = jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
        print(f"PGD-{steps}, {precision}: {peak / 2**30:.2f} GiB at most so far")


def main(_: list[str]) -> None:
    cores = len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", cores)
    device, dataset = jax.local_devices()[0], _images()
    print(
        f"{_NETWORK.value}, batch {_BATCH.value}, PGD-{_STEPS.value}, "
        f"{device.device_kind}, {cores} cores; JAX {jax.__version__}, "
        f"PyTorch {torch.__version__}\n"
    )
    # Before anything else is on the device.
    if device.memory_stats():
        memory(dataset, _PRECISIONS.value[0])
    print("\n| precision | package | ms a step | first call, s | times ours |")
    print("|---|---|---|---|---|")
    for precision in _PRECISIONS.value:
        compare(dataset, precision)


if __name__ == "__main__":
    app.run(main)
