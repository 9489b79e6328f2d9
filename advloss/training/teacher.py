"""The teacher that a defence reads: a trained network of the same architecture."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from advloss.config import build
from advloss.config.schema import resolve
from advloss.defences import DEFENCES
from advloss.errors import InputError
from advloss.types import PyTree

FOLDER = "teacher"  # Of a run's own, within its work directory.
_MOST = 32  # Characters of a run's name that its teacher's begins with.


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
    return resolve(teacher)


def check_form(
    variables: PyTree, config: ConfigDict, image_shape: tuple[int, ...]
) -> None:
    """Raises InputError where a teacher's variables are not those of the network."""
    network = build.network(config)
    own = jax.eval_shape(lambda key: network.init(key, image_shape), jax.random.key(0))
    if _shapes(variables) != _shapes(own):
        raise InputError(
            f"config.defence.teacher={config.defence.teacher!r} holds a network of "
            "another form: teacher and student must be of one architecture"
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


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}
