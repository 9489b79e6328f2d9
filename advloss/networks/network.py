"""A network's two pure functions, and how a flax module gives them."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import InvalidRngError

from advloss.errors import InputError
from advloss.types import Array, Axis, Classifier, PyTree

# By other names than `train`, modules of one's own are told what they are to do.
_MODES = ("deterministic", "inference", "is_training", "training")


class Network(NamedTuple):
    """A network's two pure functions.

    Attributes:
        init: (key, image_shape) -> variables; image_shape is (height, width,
            channels).
        apply: (variables, images, *, train=False, axis=None) -> logits
            `[batch, classes]`, the activations of every layer by name, each
            `[batch, ...]`, and the variables, in which `train` renews the statistics
            of batches, over the devices of the axis.
        layers: the names of the layers in their order: each but the first takes what
            the one before it gives.
    """

    init: Callable[[Array, tuple[int, int, int]], PyTree]
    apply: Callable[..., tuple[Array, dict[str, Array], PyTree]]
    layers: tuple[str, ...]


def from_flax(module: nn.Module) -> Network:
    """Any flax module, images -> logits, as a network.

    Where its `__call__` takes `train` it is told whether it is trained, and where it
    takes `axis` (`types.Axis` or None), over which devices statistics are averaged. One
    that returns a dict gives activations by name, the logits as "logits" or last.

    Raises:
        TypeError: `module` is no flax module.
        InputError: as it is called: it draws random numbers, as dropout does; as it is
            trained: it keeps statistics, or would be told by another name than `train`
            that it is.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"{module!r} is no flax.linen.Module")
    parameters = inspect.signature(type(module).__call__).parameters
    taken = tuple(name for name in ("train", "axis", *_MODES) if name in parameters)
    return as_network(module, taken, ())


def as_network(
    module: nn.Module, taken: tuple[str, ...], layers: tuple[str, ...]
) -> Network:
    """A flax module as pure functions.

    Args:
        module: images -> logits, or activations by name.
        taken: by which names its `__call__` is told how it is used.
        layers: the names of its layers in their order.
    """

    @functools.partial(jax.jit, static_argnums=1)  # As one program, not twenty.
    def initialise(key: Array, image_shape: tuple[int, int, int]) -> PyTree:
        usual = {"train": False, "axis": None}
        modes: dict[str, Any] = {name: usual[name] for name in usual if name in taken}
        return dict(module.init(key, jnp.zeros((1, *image_shape)), **modes))

    def apply(
        variables: PyTree,
        images: Array,
        *,
        train: bool = False,
        axis: Axis | None = None,
    ) -> tuple[Array, dict[str, Array], PyTree]:
        chex.assert_rank(images, 4)
        chex.assert_type(images, float)
        asked = {"train": train, "axis": axis}
        modes: dict[str, Any] = {name: asked[name] for name in asked if name in taken}
        if train and "train" not in taken:
            _check_untold(taken, variables)
        # What training renews: all but what gradients change.
        renewed = [name for name in variables if name != "params"] if train else []
        try:
            found, changed = module.apply(variables, images, mutable=renewed, **modes)
        except InvalidRngError as error:
            raise InputError(
                "the network draws random numbers as it runs, as dropout does: use one "
                "that is a function of images alone"
            ) from error
        found = found if isinstance(found, dict) else {"logits": found}
        _check_arrays(found)
        found = {name: _as_float32(value) for name, value in found.items()}
        last = "logits" if "logits" in found else list(found)[-1]
        return found[last], found, {**variables, **changed}

    return Network(initialise, apply, layers)


def _check_arrays(found: dict[str, Array]) -> None:
    """A module's activations must be arrays. Raises TypeError."""
    others = {type(x).__name__ for x in found.values() if not hasattr(x, "dtype")}
    if others or not found:
        raise TypeError(
            f"the network gives {', '.join(sorted(others)) or 'an empty dict'}: it "
            "must give logits, or a dict of arrays by name, the logits last"
        )


def _as_float32(value: Array) -> Array:
    """Floats as float32; what is none, logits must not be, stays what it is."""
    floats = jnp.issubdtype(value.dtype, jnp.floating)
    return value.astype(jnp.float32) if floats else value


def _check_untold(taken: tuple[str, ...], variables: PyTree) -> None:
    """What is not told that it is trained must not need to be. Raises InputError."""
    kept = ", ".join(name for name in variables if name != "params")
    asks = ", ".join(name for name in taken if name in _MODES)
    if kept or asks:
        reason = f"asks for {asks}" if asks else f"keeps {kept}"
        raise InputError(
            f"the network {reason}, but its __call__ takes no `train`: it would never "
            "be told that it is trained; use __call__(self, images, train=False)"
        )


def classifier(network: Network, variables: PyTree) -> Classifier:
    """What an attack sees of a network: images -> logits.

    It raises InputError for images that are no batch, or no floats.
    """

    def classify(images: Array) -> Array:
        shape, dtype = jnp.shape(images), jnp.result_type(images)
        if len(shape) != 4 or not jnp.issubdtype(dtype, jnp.floating):
            raise InputError(
                f"images are {dtype} {shape}: use floats in [0, 1], [batch, height, "
                "width, channels]"
            )
        return network.apply(variables, images)[0]

    return classify


def predictor(network: Network, variables: PyTree) -> Callable[[Array], Array]:
    """Images -> the most likely class of each, `[batch]`."""
    return lambda images: jnp.argmax(network.apply(variables, images)[0], axis=-1)
