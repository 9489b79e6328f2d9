"""What a training step of each defence costs, beside what its passes say.

    make bench-steps

For every network of configs/defences.py: the seconds of a step, over the seconds that
its passes through the network take by themselves. One pass moves the weights, as in
natural training; every other gradient is one by the image. All take turns, so that a
slow minute of the machine hits all; a ratio is taken within a turn, and the table has
the median and the range over all turns.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict

from advloss import losses, networks
from advloss.cli import members
from advloss.config import build
from advloss.training import cost, stack, step, teacher
from advloss.training.workdir import load_data
from configs import defences

_TURNS = flags.DEFINE_integer("turns", 5, "How often each is timed.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 4, "Training steps that are timed together.")
_PASSES = 12  # Passes by themselves that are timed together.


class Timed(NamedTuple):
    """Something that can be timed.

    Attributes:
        name: of a network, or of a kind of pass.
        call: does it `count` times, and returns when it is done.
        count: how often it is done in one call.
    """

    name: str
    call: Callable[[], None]
    count: int

    def seconds(self) -> float:
        """Of one."""
        started = time.perf_counter()
        self.call()
        return (time.perf_counter() - started) / self.count


def study() -> list[ConfigDict]:
    """The configs of configs/defences.py, on few digits and without validations."""
    config = defences.get_config("short")
    config.data.source, config.seeds = "mnist_5k", 1
    config.train.chunk_steps = config.train.checkpoint_every = _STEPS.value
    config.train.validation.examples = 0
    return members.networks(config, config.parts)


def training(config: ConfigDict) -> Timed:
    """A chunk of a network's training steps."""
    with config.unlocked():
        config.train.steps = 10_000 * _STEPS.value
    network, dataset = build.network(config), load_data(config)
    state = step.init(config, network, dataset.train)
    frozen = state.variables if teacher.reads(config) else None
    devices = jax.local_devices()[:1]
    where = stack.layout(1, config.train.batch_size, devices)
    chunks = stack.run(
        [config], network, dataset, [state], where=where, frozen=[frozen]
    )

    def call() -> None:
        _, (metrics,) = next(chunks)
        float(metrics["loss"][-1])

    return Timed(config.name, call, _STEPS.value)


def passes(config: ConfigDict) -> dict[str, Timed]:
    """A gradient by the image and a pass without one, each by itself in a loop."""
    network, dataset = build.network(config), load_data(config)
    variables = step.init(config, network, dataset.train).variables
    images, labels = (jnp.asarray(x[: config.train.batch_size]) for x in dataset.train)

    def loss(images: jax.Array, variables) -> jax.Array:
        logits = networks.classifier(network, variables)(images)
        return losses.softmax_cross_entropy(logits, labels).sum()

    def again(function: Callable) -> Callable[[], None]:
        def body(_, images: jax.Array) -> jax.Array:
            return images + 1e-9 * function(images)

        looped = jax.jit(lambda x: jax.lax.fori_loop(0, _PASSES, body, x))
        return lambda: jax.block_until_ready(looped(images))

    gradient = jax.grad(loss)
    return {
        "image": Timed("image", again(lambda x: gradient(x, variables)), _PASSES),
        "forward": Timed("forward", again(lambda x: loss(x, variables)), _PASSES),
    }


def main(_: list[str]) -> None:
    jax.config.update("jax_num_cpu_devices", 1)
    configs = study()
    natural = next(each for each in configs if each.name == "undefended")
    alone = {**passes(natural), "update": training(natural)}
    print("| network | gradients | others | ms a step | over its passes |")
    print("|---|---|---|---|---|", flush=True)
    for config in configs:
        backward, forward = cost.of_update(config)
        if teacher.is_own(config):
            backward -= 1  # The teacher's own updates are another run's.
        timed = training(config)
        for each in (timed, *alone.values()):
            each.call()  # Compiled.
        taken, ratios = [], []
        for _ in range(_TURNS.value):
            seconds = {name: each.seconds() for name, each in alone.items()}
            taken.append(timed.seconds())
            expected = seconds["update"] + (backward - 1) * seconds["image"]
            ratios.append(taken[-1] / (expected + forward * seconds["forward"]))
        print(
            f"| {config.name} | {backward} | {forward} | {1e3 * np.median(taken):.0f} "
            f"| {np.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}] |",
            flush=True,
        )


if __name__ == "__main__":
    app.run(main)
