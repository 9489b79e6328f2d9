"""Whether a run's own code is what it began with."""

import contextlib
import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from advloss.attacks import ATTACKS, direct
from advloss.config import build
from advloss.defences import DEFENCES
from advloss.errors import InputError
from advloss.losses import LOSSES
from advloss.runtime import files
from advloss.training import step
from advloss.types import Batch, Dataset, PyTree

PROGRAM = "program"


def program(config: ConfigDict, frozen: PyTree, dataset: Dataset) -> str:
    """The digest of an update's program, as JAX traces it, the same in every process.

    Empty where the network, the loss, the attack and the defence are the library's.

    Args:
        config: resolved.
        frozen: what the defence reads and never changes.
        dataset: what is trained on.
    """
    functions = (
        LOSSES[config.loss.name].function,
        DEFENCES[config.defence.name].function,
        ATTACKS[config.defence.attack].function,
    )
    homes = {getattr(f, "__module__", "").split(".")[0] for f in functions}
    if build.is_library_s(config) and homes <= {"advloss", "functools"}:
        return ""
    network, split = build.network(config), dataset.train
    update = step.make_train_step(config, network)
    state = jax.eval_shape(lambda: step.init(config, network, split))
    size = config.train.batch_size
    shapes = [(split.images.shape[1:], jnp.float32), ((), jnp.int32), ((), jnp.int32)]
    batch = Batch(*(jax.ShapeDtypeStruct((size, *s), kind) for s, kind in shapes))
    key = jax.eval_shape(lambda: step.keys(0).attack)
    numbers = build.hyperparameters(config)
    found = direct.fingerprint(update, state, batch, key, numbers, frozen)
    return hashlib.blake2b(found.lasting).hexdigest()[:12]


def warn(path: Path, made_with: Mapping[str, Any]) -> None:
    """Warns where another program trained a run till now.

    Args:
        path: of the file in its work directory that says what trained it last.
        made_with: what does so now, with the `PROGRAM`. What another version of JAX
            traced can't be compared.
    """
    before: Any = None
    with contextlib.suppress(InputError):  # The report tells of a damaged one.
        before = files.read_json(path)
    known = before if isinstance(before, dict) else {}
    now, alike = made_with[PROGRAM], known.get("packages") == made_with["packages"]
    if not alike or known.get(PROGRAM, now) == now:
        return
    warnings.warn(
        f"--workdir={path.parent}: a network, loss, attack or defence of your own "
        "computes something else than what trained this run so far: use another "
        "--workdir to train anew",
        stacklevel=2,
    )
