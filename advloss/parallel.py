"""Devices, and the only place that names `jax.pmap`.

A batch is split over the devices, one equal share each; parameters, optimiser state and
data are the same on all of them and have no device axis, neither going in nor coming
out. `jax.pmap` does not check that results without a device axis are equal on all
devices: what a mapped function returns there must have passed through `lax.pmean`, and
a test holds two devices equal to one.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from advloss.errors import InputError
from advloss.types import PyTree

AXIS = "devices"


def share(key: str, batch_size: int, devices: Sequence[jax.Device]) -> int:
    """Each device's part of a batch.

    Raises:
        InputError: the devices do not divide the batch; names the config's key.
    """
    if batch_size % len(devices):
        raise InputError(
            f"config.{key}={batch_size} is not valid: use a multiple of the "
            f"{len(devices)} devices, or fewer --devices"
        )
    return batch_size // len(devices)


def replicate(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """The tree on every device, once, so that no later call has to copy it there."""
    return _put(tree, devices, jax.sharding.PartitionSpec())


def spread(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """The leading axis, as long as there are devices, one row on each."""
    return _put(tree, devices, jax.sharding.PartitionSpec(AXIS))


def _put(
    tree: PyTree, devices: Sequence[jax.Device], spec: jax.sharding.PartitionSpec
) -> PyTree:
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, spec))


def map_ranks(
    function: Callable[..., PyTree], devices: Sequence[jax.Device]
) -> Callable[..., PyTree]:
    """`function(rank, state, *arguments)` on every device, under the axis name `AXIS`.

    The arguments are the same on every device, and so must the result be. Call the
    returned function positionally, without the rank; the state's memory is reused for
    the result: the caller must not look at it again.
    """
    ranks = jnp.arange(len(devices))
    mapped = jax.pmap(
        lambda rank, state, arguments: function(rank, state, *arguments),
        AXIS,
        in_axes=(0, None, None),
        out_axes=None,
        devices=devices,
        donate_argnums=1,
    )
    return lambda state, *arguments: mapped(ranks, state, arguments)


def map_rows(
    function: Callable[..., PyTree], devices: Sequence[jax.Device]
) -> Callable[..., PyTree]:
    """`function(state, shared, rows)` on every device, each on its own part.

    State and rows have a leading axis of devices, `shared` has not. Call the returned
    function positionally; the state's memory is reused for the result.
    """
    return jax.pmap(
        function, AXIS, in_axes=(0, None, 0), devices=devices, donate_argnums=0
    )


def map_examples(
    function: Callable[..., PyTree], devices: Sequence[jax.Device]
) -> Callable[..., PyTree]:
    """`function(shared, batch)` with the batch's leading axis split over the devices.

    What it returns has the batch's leading axis again.
    """
    mapped = jax.pmap(function, AXIS, in_axes=(None, 0), devices=devices)

    def call(shared: PyTree, batch: PyTree) -> PyTree:
        return jax.tree.map(_merge, mapped(shared, jax.tree.map(_split, batch)))

    def _split(x):
        return x.reshape((len(devices), -1, *x.shape[1:]))

    def _merge(x):
        return x.reshape((-1, *x.shape[2:]))

    return call
