"""What must hold before a run is trained, and while it is."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss import config as configs
from advloss.errors import DamagedError, DivergedError, InputError
from advloss.networks import NETWORKS
from advloss.runtime import checkpoints, lock
from advloss.training import workdir as folders
from advloss.types import Dataset, TrainState


def check_owner(workdir: Path, config: ConfigDict) -> None:
    """A folder must be the run's own, or hold nothing.

    Raises:
        InputError: it holds something else, which is left as it is.
    """
    if (workdir / configs.CONFIG).exists():
        saved = configs.load_config(workdir)
        differences = configs.training_differences(saved, config)
        if differences:
            raise InputError(
                f"--workdir={workdir} belongs to another config: "
                f"{'; '.join(differences)}; use its config or another --workdir"
            )
    elif workdir.exists() and (not workdir.is_dir() or _holds_anything(workdir)):
        raise InputError(
            f"--workdir={workdir} is not empty and holds no run: use a new folder, or "
            "a run's own to continue it"
        )


def _holds_anything(workdir: Path) -> bool:
    return any(path.name != lock.NAME for path in workdir.iterdir())


def check_checkpoints(workdir: Path, config: ConfigDict) -> None:
    """The newest must be whole and the config's; a damaged one gives way to the next.

    What a kill or a failing disk has damaged is no reason to lose what is good; it is
    put aside, with a warning.

    Raises:
        InputError: it belongs to another config.
    """
    while saved := checkpoints.steps(workdir):
        with checkpoints.open_folder(workdir) as manager:
            try:
                folders.restore(manager, config)
                return
            except DamagedError as error:
                found = error.found
        checkpoints.put_aside(workdir, saved[-1])
        warnings.warn(
            f"{found}: it was put into {workdir / 'damaged'}, going on from step "
            f"{saved[-2] if len(saved) > 1 else 0}",
            stacklevel=2,
        )


def check_images(dataset: Dataset, config: ConfigDict) -> None:
    """The network must fit the images. Raises InputError."""
    height, width = dataset.train.images.shape[1:3]
    divisor = NETWORKS[config.model.name].module.divisor
    if height % divisor or width % divisor or not height or not width:
        raise InputError(
            f"the images are {height}x{width}: config.model.name={config.model.name!r} "
            f"needs height and width that are multiples of {divisor}"
        )


def check_state(state: TrainState, config: ConfigDict) -> None:
    """The last update too must be finite, before it is kept. Raises DivergedError."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
        raise DivergedError(
            f"the parameters are no longer finite after step {int(state.step)} of "
            f"{config.train.steps} (config.train.learning_rate="
            f"{config.train.learning_rate:g}): use a smaller learning rate"
        )


def check_finite(
    chunk: Mapping[str, np.ndarray], done: int, config: ConfigDict
) -> None:
    """The losses of the steps after `done` must be finite. Raises DivergedError."""
    bad = np.flatnonzero(~np.isfinite(chunk["loss"]))
    if bad.size:
        at = int(bad[0])
        natural = config.defence.name == "natural"
        or_warmup = "" if natural else " or a longer config.train.attack.warmup"
        raise DivergedError(
            f"the loss became {float(chunk['loss'][at])} at step {done + at + 1} of "
            f"{config.train.steps} (config.loss.name={config.loss.name!r}, "
            f"config.train.learning_rate={config.train.learning_rate:g}): use a "
            f"smaller learning rate{or_warmup}"
        )
