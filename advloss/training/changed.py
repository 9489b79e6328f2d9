"""Whether a run's own code is what it began with."""

import contextlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss import networks, optimisers
from advloss.attacks import ATTACKS, fingerprint
from advloss.config import build
from advloss.data.augment import AUGMENTATIONS
from advloss.defences import DEFENCES
from advloss.errors import InputError
from advloss.losses import LOSSES
from advloss.registry import is_own
from advloss.runtime import environment, files
from advloss.training import step, validation
from advloss.types import Array, Dataset, PyTree

PROGRAMS, NETWORK = "programs", "network"


def digests(config: ConfigDict, frozen: PyTree, dataset: Dataset) -> dict[str, Any]:
    """Of what trains a run now, by their keys in its environment.json.

    Arguments as of `program`.
    """
    own = network(config, dataset.train.images.shape[1:])
    return {PROGRAMS: [program(config, frozen, dataset)], NETWORK: own}


def program(config: ConfigDict, frozen: PyTree, dataset: Dataset) -> str:
    """The digest of an update's program, as JAX traces it, the same in every process.

    Empty where all that it is made of is the library's.

    Args:
        config: resolved.
        frozen: what the defence reads and never changes.
        dataset: what is trained on.
    """
    settings = config.train
    parts = [
        (LOSSES, config.loss.name),
        (DEFENCES, config.defence.name),
        (ATTACKS, config.defence.attack),
        (optimisers.OPTIMISERS, settings.optimiser),
        (optimisers.SCHEDULES, settings.schedule),
        *((AUGMENTATIONS, name) for name in settings.augment.names),
    ]
    if build.is_library_s(config) and not any(is_own(*part) for part in parts):
        return ""
    network, split = build.network(config), dataset.train
    found = fingerprint.look_at(
        step.make_chunk(config, network, steps=1),
        0,
        step.init(config, network, split),
        validation.parts(split, config),
        jax.eval_shape(lambda: step.keys(0)),
        build.hyperparameters(config),
        frozen,
    )
    return fingerprint.short(found.lasting)


def network(
    config: ConfigDict, image_shape: tuple[int, ...], variables: PyTree = None
) -> str:
    """The digest of a network of one's own, as `program`; empty of the library's.

    Args:
        config: resolved.
        image_shape: of what it is trained on.
        variables: by default those that it begins with.
    """
    if build.is_library_s(config):
        return ""
    made = build.network(config)
    if variables is None:
        variables = jax.eval_shape(lambda: made.init(jax.random.key(0), image_shape))
    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    # As they are kept, whatever they were made from.
    variables = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype), variables
    )

    def logits(images: Array, variables: PyTree) -> Array:
        return networks.classifier(made, variables)(images)

    return fingerprint.short(fingerprint.look(logits, image, variables).lasting)


def noted(path: Path, own: Mapping[str, Any]) -> dict[str, Any]:
    """What trains a run now, and the programs that have done so till now.

    What other versions of packages traced can't be compared, and is forgotten.

    Args:
        path: of the file in its work directory that says what trained it last.
        own: `digests`.
    """
    programs, mine = _before(path).get(PROGRAMS, []), own[PROGRAMS]
    return {**own, PROGRAMS: [*(p for p in programs if p not in mine), *mine]}


def warn(path: Path, own: Mapping[str, Any]) -> None:
    """Warns where a run's own code is not, or was not always, what it is now.

    Args:
        path: as `noted`.
        own: of `digests`; without `PROGRAMS` the last one is taken for today's.
    """
    before = _before(path)
    programs = before.get(PROGRAMS, [])
    others = set(programs) - {*own.get(PROGRAMS, programs[-1:])}
    if others or before.get(NETWORK, own[NETWORK]) != own[NETWORK]:
        warnings.warn(
            f"--workdir={path.parent}: a network, loss, attack, defence or "
            "augmentation of your own computes something else than what trained this "
            "run, or a part of it: use another --workdir to train anew",
            stacklevel=2,
        )


def _before(path: Path) -> dict[str, Any]:
    """What is noted there by the same versions; {} where nothing is."""
    found: Any = None
    with contextlib.suppress(InputError):  # The report tells of a damaged one.
        found = files.read_json(path)
    known = found if isinstance(found, dict) else {}
    programs = known.get(PROGRAMS, [])
    whole = isinstance(programs, list) and all(isinstance(p, str) for p in programs)
    alike = known.get("packages") == environment.environment(())["packages"]
    return known if whole and alike else {}
