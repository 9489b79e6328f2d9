"""Devices, and the only place that names `jax.pmap`.

A batch is split over the devices of all hosts, one equal share each; parameters,
optimiser state and data are the same on all of them and have no axis of devices,
neither going in nor coming out. `jax.pmap` does not check that results without that
axis are equal on all devices: what a mapped function returns there must have passed
through `lax.pmean` or `lax.all_gather`, and a test holds two devices equal to one.

`devices` names those of all hosts; what `jax.pmap` takes and returns is each host's own
part. What it compiles, JAX keeps forever: the examples of a caller's network are mapped
by a jitted `jax.shard_map` instead, which is freed with the function.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from advloss.errors import InputError
from advloss.runtime.hosts import from_first
from advloss.types import PyTree

AXIS = "devices"


def all_devices(most: int | None = None) -> list[jax.Device]:
    """The devices of all hosts, host by host, at most so many of each.

    Raises:
        InputError: a host has more devices than another, or is to use more.
    """
    found = sorted(jax.devices(), key=lambda d: (d.process_index, d.id))
    counts = set(Counter(device.process_index for device in found).values())
    if len(counts) > 1:
        raise InputError(
            f"the processes have from {min(counts)} to {max(counts)} devices: all must "
            "have as many; --devices says how many on CPUs, on GPUs "
            "CUDA_VISIBLE_DEVICES"
        )
    if (first := from_first(most)) != most:
        raise InputError(
            f"--devices={most} is not valid: process 0 was started with {first}"
        )
    (each,) = counts
    return [device for i, device in enumerate(found) if i % each < (most or each)]


def _own(devices: Sequence[jax.Device]) -> np.ndarray:
    """Which of the devices are this process's, by their places."""
    processes = np.array([device.process_index for device in devices])
    return np.flatnonzero(processes == jax.process_index())


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
    """The tree on every device, once, so that no later call has to copy it there.

    Like all that follows it names this process's own devices alone: what `jax.pmap`
    takes and returns is each host's part.
    """
    return _put(tree, devices, jax.sharding.PartitionSpec())


def everywhere(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """The tree on every device of all hosts, once, for `map_examples`."""
    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    where = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    own = [devices[i] for i in _own(devices)]

    def put(x: jax.Array) -> jax.Array:
        each = [jax.device_put(x, device) for device in own]
        return jax.make_array_from_single_device_arrays(np.shape(x), where, each)

    return jax.tree.map(put, tree)


def spread(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """The leading axis, as long as there are devices, one row on each."""
    own = _own(devices)
    return _put(
        jax.tree.map(lambda x: x[own], tree), devices, jax.sharding.PartitionSpec(AXIS)
    )


def _put(
    tree: PyTree, devices: Sequence[jax.Device], spec: jax.sharding.PartitionSpec
) -> PyTree:
    own = [devices[i] for i in _own(devices)]
    mesh = jax.sharding.Mesh(np.asarray(own), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, spec))


def map_rows(
    function: Callable[..., PyTree], devices: Sequence[jax.Device]
) -> Callable[..., PyTree]:
    """`function(state, shared, rows)` on every device, each on its own part.

    State and rows are `spread`, and so is the result; `shared` has no axis of devices.
    The function runs under the axis name `AXIS`. Call the returned function
    positionally; the state's memory is reused.
    """
    return jax.pmap(
        function, AXIS, in_axes=(0, None, 0), devices=devices, donate_argnums=0
    )


def gather(tree: PyTree, *, every: int = 1) -> PyTree:
    """Copies what is `spread` to every host; of each `every` equal rows, one.

    The copy stays when the devices' memory is used again.
    """

    def own(x: jax.Array) -> np.ndarray:
        shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start)
        return np.concatenate([np.array(shard.data) for shard in shards])

    rows, hosts = jax.tree.map(own, tree), jax.process_count()
    if hosts > 1 and any(len(x) * hosts > every for x in jax.tree.leaves(rows)):
        rows = multihost_utils.process_allgather(rows, tiled=True)
    return jax.tree.map(lambda x: x[::every], rows)


def map_examples(
    function: Callable[..., PyTree], devices: Sequence[jax.Device]
) -> Callable[..., PyTree]:
    """`function(shared, batch)` with the batch's leading axis split over the devices.

    Every host gives the whole batch, arrays of NumPy, and what is shared from
    `everywhere`; what comes back has its leading axis again, and is whole on every
    host too.
    """

    def part(shared: PyTree, batch: PyTree) -> PyTree:
        result = function(shared, batch)
        return jax.lax.all_gather(result, AXIS, tiled=True)

    mesh = jax.sharding.Mesh(np.asarray(devices), (AXIS,))
    whole, parts = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec(AXIS)
    mapped = jax.jit(
        jax.shard_map(
            part, mesh=mesh, in_specs=(whole, parts), out_specs=whole, check_vma=False
        )
    )

    def split(x: np.ndarray) -> jax.Array:
        where = jax.sharding.NamedSharding(mesh, parts)
        return jax.make_array_from_callback(x.shape, where, lambda index: x[index])

    return lambda shared, batch: mapped(shared, jax.tree.map(split, batch))
