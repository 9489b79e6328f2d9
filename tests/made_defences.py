"""How tests configure a defence, train with it, and call it on a batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from advloss import config as configs
from advloss.config import build
from advloss.networks.layers import Architecture
from advloss.training import stack, step
from advloss.types import Batch


class Normalised(Architecture):
    """A dense network with batch normalisation."""

    layers = ("fc1", "fc2")

    @nn.compact
    def __call__(self, images, *, train=False, axis=None):
        found = {}
        x = nn.Dense(32, name="dense")(images.reshape(len(images), -1))
        x = nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            axis_name=axis and axis.name,
            axis_index_groups=axis and axis.groups,
            name="norm",
        )(x)
        found["fc1"] = self.activation(x)
        found["fc2"] = self.logits(found["fc1"], "fc2")
        return found


def nothing_yet(split):
    """What a defence that remembers its changes knows at first."""
    return {
        "change": jnp.zeros(split.images.shape, jnp.int8),
        "visits": jnp.zeros(len(split.labels), jnp.int32),
    }


def configure(config, name, **values):
    """The config, resolved, with a defence and other keys."""
    values = {"defence.name": name, **values}
    if values.get("defence.attack") == "fgsm":
        values["train.attack.steps"] = None
    for key, value in values.items():
        configs.put(config, key, value)
    return configs.resolve(config)


def train(config, dataset, devices=1, frozen=None):
    """The state at the end, and every step's metrics, of a run on so many devices."""
    network = build.network(config)
    state = step.init(config, network, dataset.train)
    where = stack.layout(1, config.train.batch_size, jax.devices()[:devices])
    found = []
    for fetch, (metrics,) in stack.run(
        [config], network, dataset, [state], where=where, frozen=[frozen]
    ):
        (state,) = fetch()
        found.append(metrics)
    # Validations are fewer than steps.
    return state, {k: np.concatenate([own[k] for own in found]) for k in found[0]}


def outcome(config, dataset, count=16, **changes):
    """A defence's outcome on a batch, and all that led to it."""
    network = build.network(config)
    state = step.init(config, network, dataset.train)
    images, labels = (jnp.asarray(array[:count]) for array in dataset.train)
    batch = Batch(images, labels, jnp.arange(count))
    rows = jax.tree.map(lambda kept: kept[:count], state.memory)
    hyper = {**build.hyperparameters(config), **changes}

    def forward(variables, images, train):
        return network.apply(variables, images, train=train)

    rest = jax.random.key(1), hyper, None, rows
    return build.defence(config), forward, state.variables, batch, rest
