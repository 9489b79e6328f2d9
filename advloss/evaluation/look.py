"""Looks into a trained run with the images of its results: what did an attack move?"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss.errors import InputError
from advloss.evaluation import changes, examples
from advloss.evaluation.mapped import map_split
from advloss.evaluation.measured import Measured, load_images
from advloss.networks import Network
from advloss.runtime import files, hosts, lock
from advloss.training import workdir as workdirs
from advloss.types import Batch, PyTree, Split


def write_changes(
    config: ConfigDict,
    workdir: str | Path,
    results: Sequence[Measured],
    devices: Sequence[jax.Device],
) -> None:
    """Looks into a run with the images of its results, where that was not done yet.

    Args:
        config: what led to the results.
        workdir: of the run.
        results: from `evaluate_run` with the same config and work directory.
        devices: they share every batch.

    Raises:
        InputError: the run or its data can't be read, the results are of other images,
            the run is in use or was moved, or the devices do not divide
            `evaluate.batch_size`.
        OSError: a file can't be written.
    """
    missing = [
        each
        for each in results
        if each.whole  # Of survivors, natural images stand beside attacked ones.
        and not hosts.from_first(hosts.is_first() and changes.is_there(each))
    ]
    if not missing:
        return
    run, dataset = workdirs.load_run(workdir, config), workdirs.load_data(config)
    natural = examples.first(dataset.test, config.evaluate.examples)
    for each in missing:
        if each.identity["data"] != files.digest(tuple(natural)):
            raise InputError(f"{each.path} is of other images than the config's")
    with lock.hold(Path(workdir)) as check:
        for each in missing:
            arrays = _changes(config, run, natural, each, devices)
            check()
            changes.save_changes(each, arrays)
    hosts.wait_for_all()


def _changes(
    config: ConfigDict,
    run: workdirs.Run,
    natural: Split,
    result: Measured,
    devices: Sequence[jax.Device],
) -> dict[str, np.ndarray]:
    attacked, network = load_images(result).attacked, run.network
    moved, layers = map_split(
        _measure(network, attacked.shape[-1]),
        run.variables,
        Split(np.concatenate([natural.images, attacked], axis=-1), natural.labels),
        batch_size=config.evaluate.batch_size,
        devices=devices,
    )
    # In the network's order, which a dict of arrays under jit forgets.
    ordered = {f"layer_{name}": layers[name] for name in network.layers}
    return {"rank_change": moved, **ordered}


@functools.lru_cache(16)
def _measure(network: Network, channels: int) -> Callable[[PyTree, Batch], tuple]:
    """Of both images of an example, which travel as channels of one."""

    def measure(variables: PyTree, batch: Batch) -> tuple:
        images = batch.images[..., :channels], batch.images[..., channels:]
        logits = [network.apply(variables, x)[0] for x in images]
        return changes.rank_change(*logits), changes.layer_changes(
            network, variables, *images
        )

    return measure
