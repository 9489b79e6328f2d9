"""Many runs as one study: trained and attacked where need be, then looked into.

    study.run(configs, folder, devices)
    study.transfer(attacker, defender)      # correct [n], of images made elsewhere
    study.load_changes(workdir, "pgd")      # what the attack moved, per example

folder/NAME-seedN/      a run's work directory, as `runs` and `results` write it
    changes/ATTACK.npz  ranks and layers, of the run's own attacked images

Whatever is there already is used again, so a study can be interrupted at any point, and
studies in one folder share their networks.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from advloss import (
    analysis,
    evaluate,
    files,
    fit,
    parallel,
    results,
    runs,
    stopping,
    sweep,
    train,
)
from advloss.errors import InputError, Stopped
from advloss.types import Batch, PyTree, Split

_FOLDER = "changes"


def workdir_of(config: ConfigDict, folder: str | Path) -> Path:
    """Where a run of the study is kept."""
    return Path(folder) / f"{config.name}-seed{config.seed}"


def run(
    configs: Sequence[ConfigDict], folder: str | Path, devices: Sequence[jax.Device]
) -> list[Path]:
    """Trains, attacks and looks into every run that is not finished.

    Runs of one program are trained together, see `sweep.plan`.

    Returns:
        The runs' work directories.

    Raises:
        InputError: the devices don't divide a batch; nothing was trained then.
        InputError, DivergedError: as `fit.train_stack` and `results.evaluate_run`.
    """
    stacks = sweep.plan(configs, devices)
    for stack in stacks:  # Now, rather than after hours.
        if len(stack) == 1:
            parallel.share("train.batch_size", stack[0].train.batch_size, devices)
        for config in stack:
            size = config.evaluate.batch_size
            parallel.share("evaluate.batch_size", size, devices)
    for stack in stacks:
        if stopping.requested():
            raise Stopped("stopped between two networks")
        workdirs = [workdir_of(config, folder) for config in stack]
        fit.train_stack(stack, workdirs, devices)
        for config, workdir in zip(stack, workdirs, strict=True):
            results.evaluate_run(config, workdir, devices)
            for attack in config.evaluate.attacks:
                _write_changes(config, workdir, attack, devices)
    return [workdir_of(config, folder) for config in configs]


def _write_changes(
    config: ConfigDict, workdir: Path, attack: str, devices: Sequence[jax.Device]
) -> None:
    path = workdir / _FOLDER / f"{attack}.npz"
    source = results.examples_path(workdir, attack)
    if parallel.from_first(_is_newer(path, source)):
        return
    attacked = results.load_examples(workdir, attack)["attacked_images"]
    natural = results.test_split(config)
    network = train.network_of(config)
    channels = attacked.shape[-1]

    def measure(params: PyTree, batch: Batch) -> tuple:
        # Both images of an example travel as channels of one.
        images = batch.images[..., :channels], batch.images[..., channels:]
        scores = [network.apply(params, x)[0] for x in images]
        layers = analysis.layer_changes(network, params, *images)
        return analysis.rank_change(*scores), layers

    pairs = np.concatenate([natural.images, attacked], axis=-1)
    rank_change, layers = evaluate.map_split(
        measure,
        runs.load_run(workdir, config).params,
        Split(pairs, natural.labels),
        batch_size=config.evaluate.batch_size,
        devices=devices,
    )
    # In the network's order, which a dict of arrays under jit forgets.
    ordered = {f"layer_{name}": layers[name] for name in network.layers}
    files.write_arrays(path, {"rank_change": rank_change, **ordered})


def _is_newer(path: Path, source: Path) -> bool:
    return path.exists() and path.stat().st_mtime_ns >= source.stat().st_mtime_ns


def load_changes(workdir: str | Path, attack: str) -> dict[str, np.ndarray]:
    """What an attack moved in a run's network, per example.

    Returns:
        "rank_change" `[n]`, and of each layer "layer_NAME" `[n]`, see `analysis`.

    Raises:
        InputError: the file is missing or damaged.
    """
    return files.read_arrays(Path(workdir) / _FOLDER / f"{attack}.npz")


def transfer(attacker: str | Path, defender: str | Path, attack: str) -> np.ndarray:
    """Whether a network still classifies images that were made against another.

    Args:
        attacker: work directory of the run whose attacked images are shown,
        defender: to the network of this one; they may be the same.
        attack: which of the attacker's attacks.

    Returns:
        `[n]` bool, correct; over the images that both were evaluated on.

    Raises:
        InputError: the runs were attacked on different test images.

    See "Robust Loss Functions" by Vu and Tran, Table III.
    """
    made = results.load_examples(attacker, attack)
    own = results.load_examples(defender, attack)
    if not np.array_equal(made["labels"], own["labels"]):
        raise InputError(
            f"{attacker} and {defender} were attacked on different test images: "
            "evaluate both on the same data and number of examples"
        )
    if Path(attacker) == Path(defender):
        return own["correct"]
    classifier = _load_classifier(str(defender))
    return _predict(classifier, made["attacked_images"]) == own["labels"]


@functools.lru_cache(maxsize=32)
def _load_classifier(workdir: str):
    return runs.load_run(workdir).classifier


def _predict(classifier, images: np.ndarray, size: int = 500) -> np.ndarray:
    parts = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate([jnp.argmax(classifier(part), axis=-1) for part in parts])
