"""A run's work directory, and how it is read again.

workdir/
  config.json       the whole config, defaults filled in
  environment.json  versions and devices that it was last trained on
  metrics.jsonl     training metrics; also in tensorboard/
  checkpoints/      parameters, optimiser's moments, step, config

`fit` trains it there; what attacks find is kept beside it by `results`.
"""

import functools
import hashlib
import platform
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from advloss import checkpoints, data, files, models, parallel, train
from advloss import config as configs
from advloss.errors import InputError
from advloss.types import Array, Dataset, PyTree

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
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
    path = Path(workdir) / CONFIG
    values = files.read_json(path)
    if values is None:
        raise InputError(
            f"--workdir={workdir} holds no run: {path} is missing; train one there "
            "first, with experiments.train"
        )
    try:
        return configs.resolve(configs.from_saved(values, path))
    except InputError as error:
        raise InputError(f"{path} is damaged or of another version: {error}") from error


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
    if not checkpoints.steps(workdir):
        raise InputError(f"--workdir={workdir} has no checkpoint: train a run there")
    with checkpoints.open_folder(workdir) as manager:
        state = checkpoints.restore(manager, config)
    params = state["params"]
    classifier = jax.jit(models.classifier(train.network_of(config), params))
    return Run(config, params, classifier, int(state["step"]))


def load_environment(workdir: str | Path) -> dict | None:
    """Versions and devices of a training, or None. Raises InputError if damaged."""
    return files.read_json(Path(workdir) / ENVIRONMENT)


def environment(devices: Sequence[jax.Device]) -> dict:
    """Versions and devices, to be saved with a run."""
    return {
        "revision": _revision(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
    }


@functools.cache
def _revision() -> str:
    """The commit of this code, "+" where files differ from it; "" outside of git."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(
            command, cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


@functools.cache
def code_digest() -> str:
    """Of this package's sources: what is not committed has no revision."""
    here = Path(__file__).parent
    sources = sorted(here.rglob("*.py"))
    digests = [hashlib.blake2b(path.read_bytes()).digest() for path in sources]
    return hashlib.blake2b(b"".join(digests)).hexdigest()


def progress_bar(text: str, total: int, unit: str, done: int = 0) -> tqdm:
    """A bar on standard error with rate and remaining time, 80 columns wide."""
    return tqdm(
        desc=f"{text:<20.20}",
        total=total,
        initial=done,
        unit=unit,
        ncols=80,
        disable=not parallel.is_first(),
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}{postfix}]",
    )
