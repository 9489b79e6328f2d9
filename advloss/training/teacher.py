"""The teacher that a defence reads: a trained network of the same architecture."""

from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss.config import build, schema
from advloss.defences import DEFENCES
from advloss.errors import InputError
from advloss.networks import Network
from advloss.types import PyTree

FOLDER = "teacher"  # Of a run's own, within its work directory.
_MOST = 32  # Characters of a run's name that its teacher's begins with.
_OF_TRAINING = ("init", "precision")  # Of config.model: the network is the same.


def reads(config: ConfigDict) -> bool:
    """Whether the run's defence reads a teacher."""
    return DEFENCES[config.defence.name].teacher


def is_own(config: ConfigDict) -> bool:
    """Whether the teacher is trained with the run, within its work directory."""
    return reads(config) and not config.defence.teacher


def config_of(config: ConfigDict) -> ConfigDict:
    """The config of a run's own teacher: the same, trained on the labels."""
    teacher = config.copy_and_resolve_references()
    teacher.name = f"{config.name[:_MOST]} teacher"
    teacher.defence.name, teacher.defence.teacher = "natural", None
    return schema.resolve(teacher)


def check_form(
    variables: PyTree,
    theirs: ConfigDict,
    config: ConfigDict,
    image_shape: tuple[int, ...],
) -> None:
    """A teacher's network must be the student's, by which its variables are read.

    Args:
        variables: the teacher's.
        theirs: its config.
        config: the student's.
        image_shape: (height, width, channels).

    Raises:
        InputError: its variables have other shapes, or a key of `config.model` that
            shapes don't show is another.
    """
    said = f"config.defence.teacher={config.defence.teacher!r}"
    must = "teacher and student must be of one architecture"
    if not _fits(variables, build.network(config), image_shape):
        raise InputError(f"{said} holds a network of another form: {must}")
    for key, value in theirs.model.items():
        if key not in _OF_TRAINING and value != config.model[key]:
            raise InputError(
                f"{said} has config.model.{key}={value!r}, and the run "
                f"{config.model[key]!r}: {must}"
            )


def another(config: ConfigDict, workdir: Path) -> str:
    """What is said where a run began with another teacher."""
    began = f"is not the one that --workdir={workdir} began with:"
    if is_own(config):
        return (
            f"the teacher in {workdir / FOLDER} {began} put that back; if it was "
            "trained anew, delete it and use as many devices as then"
        )
    named = f"config.defence.teacher={config.defence.teacher!r}: the teacher"
    return f"{named} {began} use that, or another --workdir"


def check_frozen(
    frozen: PyTree, config: ConfigDict, network: Network, image_shape: tuple[int, ...]
) -> None:
    """What the caller gave for the defence to read. Raises InputError."""
    for leaf in jax.tree.leaves(frozen):
        if not isinstance(leaf, int | float | np.generic | np.ndarray | jax.Array):
            raise InputError(
                f"frozen holds a {type(leaf).__name__}: use arrays, such as "
                "trained.variables"
            )
    if not reads(config):
        # A defence of one's own may read it without saying so.
        ours = DEFENCES[config.defence.name].function.__module__.startswith("advloss.")
        if frozen is not None and ours:
            raise InputError(
                f"frozen is not valid with defence={config.defence.name!r}, which "
                "reads nothing: leave it out"
            )
        return
    if config.defence.get("teacher"):
        raise InputError(
            f"config.defence.teacher={config.defence.teacher!r} is not valid here: "
            "give the teacher's variables as frozen, and no folder"
        )
    if frozen is None or not _fits(frozen, network, image_shape):
        raise InputError(
            f"frozen={'None' if frozen is None else 'a tree of another form'} is not "
            f"valid with defence={config.defence.name!r}: give the variables of a "
            "teacher of the module's own architecture, such as trained.variables"
        )
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(frozen)):
        raise InputError("frozen holds values that are not finite: use another teacher")


def _fits(variables: PyTree, network: Network, image_shape: tuple[int, ...]) -> bool:
    own = jax.eval_shape(lambda key: network.init(key, image_shape), jax.random.key(0))
    return _shapes(variables) == _shapes(own)


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
