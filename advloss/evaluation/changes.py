"""How an attack moves what a network computes: ranks of classes, outputs of layers.

    changes = layer_changes(network, variables, natural, attacked)
    changes["conv1"]                        # [n], relative to the layer's natural input
    write_changes(config, workdir, measured, devices)
    load_changes(measured[0])["rank_change"]    # of a run's own attacked images

What a change is measured against follows "Robust Loss Functions" by Vu and Tran,
Section III-A. A run's changes are kept in workdir/changes/, in files named as the
results that they belong to.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from advloss.errors import InputError
from advloss.evaluation.examples import first
from advloss.evaluation.mapped import map_split
from advloss.evaluation.measured import Measured, load_images
from advloss.networks import Network
from advloss.runtime import files, hosts
from advloss.training import workdir as workdirs
from advloss.types import Array, Batch, PyTree, Split

_FOLDER = "changes"


def rank(logits: Array, classes: Array) -> Array:
    """How many outputs are larger than that of a class: 0 where it is predicted.

    Args:
        logits: `[batch, classes]`.
        classes: `[batch]` int, one class for each example.

    Returns:
        `[batch]` int32, 0 to classes - 1. Outputs that tie are not larger.

    See "Robust Loss Functions" by Vu and Tran, Section III-A (rank(j, y)).
    """
    own = jnp.take_along_axis(logits, classes[:, None], axis=-1)
    return jnp.sum(logits > own, axis=-1, dtype=jnp.int32)


def rank_change(natural: Array, changed: Array) -> Array:
    """The rank that the natural prediction has after a change of the image.

    Args:
        natural: `[batch, classes]` logits of the natural images.
        changed: `[batch, classes]` logits of the changed ones.

    Returns:
        `[batch]` int32; 0 where the prediction stayed.

    See "Robust Loss Functions" by Vu and Tran, Figures 1 and 4.
    """
    return rank(changed, jnp.argmax(natural, axis=-1))


def layer_changes(
    network: Network, variables: PyTree, natural: Array, changed: Array
) -> dict[str, Array]:
    """`||y' - y||_2 / ||x||_2` of every layer: x its natural input, y its output.

    Args:
        network: from `networks.build`.
        variables: its whole flax tree.
        natural: `[batch, height, width, channels]` images.
        changed: the same images after a change.

    Returns:
        Of every layer by name `[batch]`; inf or nan where a natural input is zero.

    See "Robust Loss Functions" by Vu and Tran, Section III-A, Figures 2 and 3.
    """
    _, before, _ = network.apply(variables, natural)
    _, after, _ = network.apply(variables, changed)
    inputs = [natural, *(before[name] for name in network.layers[:-1])]
    return {
        name: _length(after[name] - before[name]) / _length(x)
        for name, x in zip(network.layers, inputs, strict=True)
    }


def _length(values: Array) -> Array:
    return jnp.linalg.norm(values.reshape(len(values), -1), axis=-1)


def write_changes(
    config: ConfigDict,
    workdir: str | Path,
    measured: Sequence[Measured],
    devices: Sequence[jax.Device],
) -> None:
    """Looks into a run with the images of its results, where that was not done yet.

    Args:
        config: what led to the results.
        workdir: of the run.
        measured: from `run.evaluate_run` with the same config and work directory.
        devices: they share every batch.

    Raises:
        InputError: the run or its data can't be read, the results are of other images,
            or the devices do not divide `evaluate.batch_size`.
        OSError: a file can't be written.
    """
    missing = [each for each in measured if not hosts.from_first(_is_there(each))]
    if not missing:
        return
    run, dataset = workdirs.load_run(workdir, config), workdirs.load_data(config)
    natural = first(dataset.test, config.evaluate.examples)
    for each in missing:
        if each.identity["data"] != files.digest(tuple(natural)):
            raise InputError(f"{each.path} is of other images than the config's")
        changes = _changes(config, run, natural, each, devices)
        files.write_arrays(_path(each), changes)
    hosts.wait_for_all()


def _changes(
    config: ConfigDict,
    run: workdirs.Run,
    natural: Split,
    measured: Measured,
    devices: Sequence[jax.Device],
) -> dict[str, np.ndarray]:
    attacked, network = load_images(measured).attacked, run.network
    channels = attacked.shape[-1]

    def measure(variables: PyTree, batch: Batch) -> tuple:
        # Both images of an example travel as channels of one.
        images = batch.images[..., :channels], batch.images[..., channels:]
        logits = [network.apply(variables, x)[0] for x in images]
        return rank_change(*logits), layer_changes(network, variables, *images)

    moved, layers = map_split(
        measure,
        run.variables,
        Split(np.concatenate([natural.images, attacked], axis=-1), natural.labels),
        batch_size=config.evaluate.batch_size,
        devices=devices,
    )
    # In the network's order, which a dict of arrays under jit forgets.
    ordered = {f"layer_{name}": layers[name] for name in network.layers}
    return {"rank_change": moved, **ordered}


def _path(measured: Measured) -> Path:
    return measured.workdir / _FOLDER / measured.path.name


def _is_there(measured: Measured) -> bool:
    try:
        load_changes(measured)
    except InputError:
        return False
    return True


def load_changes(measured: Measured) -> dict[str, np.ndarray]:
    """What an attack moved in a run's network, per example.

    Returns:
        "rank_change" `[n]`, and of each layer "layer_NAME" `[n]`, see `layer_changes`.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = _path(measured)
    arrays = files.read_arrays(path)
    count = (len(measured.labels),)
    layers = [name for name in arrays if name.startswith("layer_")]
    if list(arrays) != ["rank_change", *layers] or any(
        array.shape != count or array.dtype.kind not in "fiu"
        for array in arrays.values()
    ):
        raise InputError(f"{path} is damaged: it holds no changes of {count[0]} images")
    return arrays
