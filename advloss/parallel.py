"""Devices and hosts, and the only place that names `jax.pmap`.

A batch is split over the devices of all hosts, one equal share each; parameters,
optimiser state and data are the same on all of them and have no device axis, neither
going in nor coming out. `jax.pmap` does not check that results without a device axis
are equal on all devices: what a mapped function returns there must have passed through
`lax.pmean` or `lax.all_gather`, and a test holds two devices equal to one.

On several hosts every process runs the same program on the same values, and `devices`
names those of all of them. What only one may do, such as writing, is done where
`is_first()`; what is decided from files is decided `from_first`, and `wait_for_all`
holds the others back until it is written.
"""

import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from advloss.errors import InputError, line
from advloss.types import PyTree

AXIS = "devices"
# A host that is silent for so long is given up, and with it the run.
_SILENCE_SECONDS = 60
_CONNECT_SECONDS = 120


def connect(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> None:
    """Makes this process one of several; to be called before JAX is first used.

    Args:
        coordinator: host and port of process 0, the same for all.
        count: how many processes there are.
        index: which one this is, from 0.
        What is None is taken from the cluster that started them: SLURM, Open MPI,
        Kubernetes, TPU pods.

    Raises:
        InputError: there is no such cluster, or the others can't be reached in time.
    """
    if coordinator:  # JAX would end the process, with a page of its own.
        _reach(coordinator, wait=bool(index))
    # It would take SIGTERM from us, see `stopping`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            initialization_timeout=_CONNECT_SECONDS,
            heartbeat_timeout_seconds=_SILENCE_SECONDS,
            shutdown_timeout_seconds=_SILENCE_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        how = f"--coordinator={coordinator}" if coordinator else "--distributed"
        raise InputError(
            f"{how}: the processes can't be joined: {line(error)}"
        ) from error


def _reach(coordinator: str, *, wait: bool) -> None:
    """Looks for process 0's host, and can wait until it is there itself.

    Raises InputError where there is no such host, or process 0 does not come.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            socket.getaddrinfo(host, int(port))
            if wait:
                socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline or isinstance(error, socket.gaierror):
                raise InputError(
                    f"--coordinator={coordinator} can't be reached ({error}): use "
                    "the host of process 0, as all processes see it, and a free port"
                ) from error
        time.sleep(0.2)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def from_first(value: Any) -> Any:
    """What the first process holds, for all; anything that JSON can hold."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = multihost_utils.broadcast_one_to_all(np.resize(text, size))
    return json.loads(np.asarray(text).tobytes())


def any_of_all(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def wait_for_all() -> None:
    """Every process waits until the last is here."""
    any_of_all(False)


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


def map_ranks(
    function: Callable[..., PyTree], devices: Sequence[jax.Device]
) -> Callable[..., PyTree]:
    """`function(rank, state, *arguments)` on every device, under the axis name `AXIS`.

    The arguments are the same on every device, and so must the result be. Call the
    returned function positionally, without the rank; the state's memory is reused for
    the result: the caller must not look at it again.
    """
    ranks = _own(devices)
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

    State and rows are `spread`, and so is the result; `shared` has no axis of devices.
    Call the returned function positionally; the state's memory is reused.
    """
    return jax.pmap(
        function, AXIS, in_axes=(0, None, 0), devices=devices, donate_argnums=0
    )


def gather(tree: PyTree) -> PyTree:
    """Copies what is `spread` to the host, all of it to every one."""
    if jax.process_count() == 1:
        return jax.tree.map(np.array, tree)
    return multihost_utils.process_allgather(jax.device_get(tree), tiled=True)


def map_examples(
    function: Callable[..., PyTree], devices: Sequence[jax.Device]
) -> Callable[..., PyTree]:
    """`function(shared, batch)` with the batch's leading axis split over the devices.

    Every host gives the whole batch; what comes back has its leading axis again, and
    is whole on every host too.
    """

    def part(shared: PyTree, batch: PyTree) -> PyTree:
        result = function(shared, batch)
        return jax.lax.all_gather(result, AXIS, tiled=True)

    mapped = jax.pmap(part, AXIS, in_axes=(None, 0), out_axes=None, devices=devices)
    own = _own(devices)

    def split(x):
        return x.reshape((len(devices), -1, *x.shape[1:]))[own]

    return lambda shared, batch: mapped(shared, jax.tree.map(split, batch))
