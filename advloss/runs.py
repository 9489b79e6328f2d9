"""A run and its work directory: train it, load it again.

workdir/
  config.json       the whole config, defaults filled in
  environment.json  versions and devices that it was last trained on
  metrics.jsonl     training metrics; also in tensorboard/
  checkpoints/      parameters, optimiser's moments, step, config

What attacks find is kept beside it by `results`.
"""

import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from advloss import checkpoints, data, files, metrics, models, parallel, train
from advloss import config as configs
from advloss.errors import DivergedError, InputError
from advloss.types import Array, Dataset, PyTree, TrainState

_CONFIG = "config.json"
_ENVIRONMENT = "environment.json"
_PACKAGES = ("advloss", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Run(NamedTuple):
    """A trained network, loaded from its work directory.

    Attributes:
        config: as it was trained and evaluated.
        params: the network's parameters.
        classifier: jitted and pure: images `[batch, height, width, channels]` in
            [0, 1] -> scores `[batch, classes]`.
        step: the updates that it was trained for: of an interrupted run, those of its
            newest checkpoint.
    """

    config: ConfigDict
    params: PyTree
    classifier: Callable[[Array], Array]
    step: int


def load_data(config: ConfigDict) -> Dataset:
    """The data set that a config names. Raises InputError as `data.load` does."""
    return data.load(**config.data)


def load_config(workdir: str | Path) -> ConfigDict:
    """The config saved in a work directory.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(workdir) / _CONFIG
    values = files.read_json(path)
    if values is None:
        raise InputError(
            f"--workdir={workdir} holds no run: {path} is missing; train one there "
            "first, with experiments.train"
        )
    try:
        return configs.resolve(configs.from_dict(values))
    except InputError as error:
        raise InputError(f"{path} is damaged or of another version: {error}") from error


def train_run(
    config: ConfigDict, workdir: str | Path, devices: Sequence[jax.Device]
) -> TrainState:
    """Trains a network, or goes on where its work directory stopped.

    Args:
        config: resolved, see `config.resolve`.
        workdir: made if need be; metrics and checkpoints go there.
        devices: they share every batch.

    Raises:
        InputError: the data can't be read, the devices don't divide the batch, or the
            work directory is another config's or is damaged.
        DivergedError: the loss is no longer finite; the message names the step.
    """
    workdir, total = Path(workdir), config.train.steps
    parallel.share("train.batch_size", config.train.batch_size, devices)
    _check_owner(workdir, config)
    dataset = load_data(config)
    _check_images(dataset, config)
    state = train.init(config, dataset.train.images.shape[1:])
    if not (workdir / _CONFIG).exists():  # Marks the folder as a run's.
        files.write_text(workdir / _CONFIG, configs.to_json(config))
    with checkpoints.open_folder(workdir) as manager:
        if manager.latest_step() is not None:
            state = checkpoints.restore(manager, config, state)
        done = int(state.step)
        if done == total:
            return state
        # Where the data lie may have changed since.
        files.write_text(workdir / _CONFIG, configs.to_json(config))
        files.write_json(workdir / _ENVIRONMENT, environment(devices))
        with (
            metrics.Writer(workdir, step=done) as writer,
            progress_bar(config.name, total, "step", done=done) as bar,
        ):
            started = time.perf_counter()
            chunks = train.run(config, dataset, state, devices=devices)
            for state, chunk in chunks:
                _check_finite(chunk, done, config)
                seconds = time.perf_counter() - started
                row = {k: float(np.mean(v)) for k, v in chunk._asdict().items()}
                row["steps_per_second"] = len(chunk.loss) / seconds
                bar.set_postfix_str(f"loss {row['loss']:.3f} acc {row['accuracy']:.1%}")
                bar.update(len(chunk.loss))
                done += len(chunk.loss)
                writer.write(done, row)
                if done % config.train.checkpoint_every == 0 or done == total:
                    _check_state(state, config)
                    checkpoints.save(manager, state, config)
                started = time.perf_counter()
    return state


def _check_owner(workdir: Path, config: ConfigDict) -> None:
    if (workdir / _CONFIG).exists():
        differences = configs.training_differences(load_config(workdir), config)
        if differences:
            raise InputError(
                f"--workdir={workdir} belongs to another config: "
                f"{'; '.join(differences)}; use its config or another --workdir"
            )
    elif workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(
            f"--workdir={workdir} is not empty and holds no run: use a new folder, or "
            "a run's own to continue it"
        )


def _check_images(dataset: Dataset, config: ConfigDict) -> None:
    height, width = dataset.train.images.shape[1:3]
    divisor = models.MODELS[config.model.name].divisor
    if height % divisor or width % divisor or not height or not width:
        raise InputError(
            f"the images are {height}x{width}: config.model.name={config.model.name!r} "
            f"needs height and width that are multiples of {divisor}"
        )


def _check_state(state: TrainState, config: ConfigDict) -> None:
    """The last update too must be finite, before it is kept."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
        raise DivergedError(
            f"the parameters are no longer finite after step {int(state.step)} of "
            f"{config.train.steps} (config.train.learning_rate="
            f"{config.train.learning_rate:g}): use a smaller learning rate"
        )


def _check_finite(chunk: train.Metrics, done: int, config: ConfigDict) -> None:
    bad = np.flatnonzero(~np.isfinite(chunk.loss))
    if bad.size:
        at = int(bad[0])
        natural = config.train.attack.name == "none"
        or_warmup = "" if natural else " or a longer config.train.attack.warmup"
        raise DivergedError(
            f"the loss became {float(chunk.loss[at])} at step {done + at + 1} of "
            f"{config.train.steps} (config.loss.name={config.loss.name!r}, "
            f"config.train.learning_rate={config.train.learning_rate:g}): use a "
            f"smaller learning rate{or_warmup}"
        )


def load_run(workdir: str | Path, config: ConfigDict | None = None) -> Run:
    """A trained network from its work directory.

    Args:
        workdir: where it was trained.
        config: what it must have been trained with; by default what it was.

    Raises:
        InputError: no run or no checkpoint there, a damaged one, or another config's.
    """
    workdir = Path(workdir)
    if config is None:
        config = load_config(workdir)
    if not checkpoints.exists(workdir):
        raise InputError(f"--workdir={workdir} has no checkpoint: train a run there")
    with checkpoints.open_folder(workdir) as manager:
        state = checkpoints.restore(manager, config)
    params = state["params"]
    classifier = jax.jit(models.classifier(train.network_of(config), params))
    return Run(config, params, classifier, int(state["step"]))


def load_environment(workdir: str | Path) -> dict | None:
    """Versions and devices of a training, or None. Raises InputError if damaged."""
    return files.read_json(Path(workdir) / _ENVIRONMENT)


def environment(devices: Sequence[jax.Device]) -> dict:
    """Versions and devices, to be saved with a run."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
    }


def progress_bar(text: str, total: int, unit: str, done: int = 0) -> tqdm:
    """A bar on standard error with rate and remaining time, 80 columns wide."""
    return tqdm(
        desc=f"{text:<20.20}",
        total=total,
        initial=done,
        unit=unit,
        ncols=80,
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}{postfix}]",
    )
