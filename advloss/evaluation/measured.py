"""What one attack did to a run: one file, named by what its numbers depend on.

workdir/evaluation/ATTACK-0123456789ab.npz holds what one attack did to each example;
the digits are the digest of its identity. A file that is there and whole is a finished
measurement; it holds a digest of all that is in it. Accuracies are not kept: they
follow from the examples.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advloss.attacks import ATTACKS, MINIMUM_NORM, SUITES
from advloss.errors import InputError
from advloss.evaluation.outcome import Outcome, is_beyond
from advloss.runtime import files
from advloss.types import Split

FOLDER = "evaluation"
GALLERY_IMAGES = 100  # Natural images that are kept, for the report's gallery.
_METADATA = "metadata"
_EXAMPLES = {
    "labels": np.integer,
    "natural": np.integer,
    "attacked": np.integer,
    "correct": np.bool_,
    "worst_correct": np.bool_,
    "zero_gradient": np.bool_,
    "distance": np.floating,
    "backward_passes": np.integer,
    "forward_passes": np.integer,
}
_IMAGES = ("natural_images", "attacked_images")
_IDENTITY = {
    "step": int,
    "parameters": str,
    "data": str,
    "examples": int,
    "seed": int,
    "survivors_only": bool,
    "attack": str,
    "settings": dict,
}


Before = tuple[tuple[str, dict[str, Any]] | str, ...]
"""Attacks by name and settings; by its digest where a result is no longer there."""


class Attack(NamedTuple):
    """What an attack was, apart from the network.

    Attributes:
        name: its key in `attacks.ATTACKS`.
        settings: all of them.
        before: where it was shown survivors alone, the attacks that had left them; else
            None.
        suite: the suite of one number that it was part of, or None.
    """

    name: str
    settings: dict[str, Any]
    before: Before | None = None
    suite: str | None = None


class Measured(NamedTuple):
    """What one attack did to a run's network; arrays `[n]`, see `examples.Outcome`.

    Attributes:
        attack: its name.
        settings: all of them.
        norm, epsilon: the threat model.
        identity: what the numbers depend on: "step" and "parameters" (digest) of the
            network, "data" (digest), "examples", "seed", "survivors_only", "attack",
            "settings"; within a suite of one number "suite", its name; of survivors
            also "before", the digests of the attacks whose survivors were attacked; of
            an attack of one's own, or a loss that it climbs, "program", and of such a
            network "network", digests of what they compute.
        environment: the versions and devices that it was measured with.
        seconds: wall-clock time, compilation included.
        finished: when, in seconds since 1970; a clock may be set before.
        path: its file.
    """

    attack: str
    settings: dict[str, Any]
    norm: str
    epsilon: float
    identity: dict[str, Any]
    environment: dict[str, Any]
    seconds: float
    finished: float
    path: Path
    labels: np.ndarray
    natural: np.ndarray
    attacked: np.ndarray
    correct: np.ndarray
    worst_correct: np.ndarray
    zero_gradient: np.ndarray
    distance: np.ndarray
    backward_passes: np.ndarray
    forward_passes: np.ndarray

    @property
    def whole(self) -> bool:
        """Every example was attacked, not survivors of other attacks alone."""
        return "before" not in self.identity

    @property
    def suite(self) -> str | None:
        """The suite of one number that it is part of."""
        return self.identity.get("suite")

    @property
    def workdir(self) -> Path:
        """The run's work directory."""
        return self.path.parents[1]

    def __repr__(self) -> str:
        return f"Measured({self.path}, {len(self.labels)} examples)"


class Images(NamedTuple):
    """Images of a result.

    Attributes:
        natural: the first `GALLERY_IMAGES` natural ones.
        attacked: all attacked ones: what was made against one network can be shown to
            another, and looked into.
    """

    natural: np.ndarray
    attacked: np.ndarray


def digest(identity: Mapping[str, Any]) -> str:
    """12 hexadecimal digits of what a result depends on."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8")).hexdigest()[:12]


def path_of(workdir: Path, identity: Mapping[str, Any]) -> Path:
    """Where the result of that identity is, or will be."""
    return workdir / FOLDER / f"{identity['attack']}-{digest(identity)}.npz"


def write(
    path: Path, identity: dict, outcome: Outcome, test: Split, **metadata: Any
) -> None:
    """Writes a result whole or not at all.

    Args:
        path: from `path_of`.
        identity: JSON.
        outcome: of the attack.
        test: the examples that were attacked.
        metadata: environment and finished, see `Measured`.

    Raises:
        OSError: it can't be written.
    """
    metadata = {"identity": identity, "seconds": round(outcome.seconds, 1), **metadata}
    text = json.dumps(metadata).encode("utf-8")
    arrays = {
        _METADATA: np.frombuffer(text, np.uint8),
        "labels": np.asarray(test.labels),
        **{name: getattr(outcome, name) for name in _EXAMPLES if name != "labels"},
        "natural_images": np.asarray(test.images[:GALLERY_IMAGES]),
        "attacked_images": outcome.images,
    }
    files.write_arrays(path, arrays)


def renew(path: Path) -> None:
    """Says of a result that it is the newest, as it was asked for again.

    Raises OSError where it can't be written.
    """
    arrays = files.read_arrays(path)
    metadata = json.loads(arrays[_METADATA].tobytes().decode("utf-8"))
    text = json.dumps({**metadata, "finished": time.time()}).encode("utf-8")
    files.write_arrays(path, {**arrays, _METADATA: np.frombuffer(text, np.uint8)})


def read(path: Path) -> Measured:
    """The result in a file, whole and held to what it claims to be.

    Raises:
        InputError: it is missing, damaged or edited, or of an earlier version.
    """
    return _read(path)[0]


def load_images(measured: Measured) -> Images:
    """The images of a result. Raises InputError as `read`."""
    return _read(measured.path)[1]


def _read(path: Path) -> tuple[Measured, Images]:
    arrays = files.read_arrays(path)
    try:
        metadata = json.loads(arrays.pop(_METADATA).tobytes().decode("utf-8"))
        identity = metadata["identity"]
        name, settings = identity["attack"], identity["settings"]
        _check_identity(identity)
        if path != path_of(path.parents[1], identity):
            raise ValueError("its name is not that of what it holds")
        images = Images(*(arrays[key] for key in _IMAGES))
        examples = {key: arrays[key] for key in _EXAMPLES}
        measured = Measured(
            attack=name,
            settings=settings,
            norm=ATTACKS[name].norm,
            epsilon=_number(settings["epsilon"]),
            identity=identity,
            environment=dict(metadata["environment"]),
            seconds=_number(metadata["seconds"]),
            finished=_number(metadata["finished"], least=-math.inf),
            path=path,
            **examples,
        )
        _check(measured, images)
    except (
        AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError,
    ) as error:  # fmt: skip
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path} is damaged: {type(error).__name__}: {reason}"
        ) from error
    return measured, images


def _number(value: Any, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    if not np.isfinite(value) or value < least:
        raise ValueError(f"{value!r} is not finite, or below {least:g}")
    return float(value)


def _check_identity(identity: Mapping[str, Any]) -> None:
    for key, kind in _IDENTITY.items():
        if type(value := identity.get(key)) is not kind:
            raise ValueError(f"its identity has {key}={value!r}, no {kind.__name__}")
        if kind is int and value < 0:
            raise ValueError(f"its identity has {key}={value}, below 0")
    before, suite = identity.get("before"), identity.get("suite")
    if suite is not None and suite not in SUITES:
        raise ValueError(f"its identity has suite={suite!r}, which is none")
    some = identity["survivors_only"] or suite is not None
    if (before is not None) != some or not all(
        isinstance(each, str) for each in before or ()
    ):
        raise ValueError(f"its identity has before={before!r}")


def _check(measured: Measured, images: Images) -> None:
    """Holds a result to itself; raises ValueError."""
    count = measured.identity["examples"]
    for name, kind in _EXAMPLES.items():
        array = getattr(measured, name)
        if not np.issubdtype(array.dtype, kind) or array.shape != (count,):
            raise ValueError(f"{name} is {array.dtype} {array.shape}, of {count}")
        if not np.issubdtype(kind, np.bool_) and (array < 0).any():
            raise ValueError(f"{name} has values below 0")
    if count < 1:
        raise ValueError("it has no examples")
    for name, array, expected in zip(
        Images._fields, images, (min(count, GALLERY_IMAGES), count), strict=True
    ):
        right = array.ndim == 4 and len(array) == expected
        if not right or not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f"{name} images are {array.dtype} {array.shape}")
        if not ((array >= 0) & (array <= 1)).all():
            raise ValueError(f"{name} images are not in [0, 1]")
    if images.natural.shape[1:] != images.attacked.shape[1:]:
        raise ValueError("natural and attacked images are of different shapes")
    fixed = ATTACKS[measured.attack].kind != MINIMUM_NORM
    attacked = measured.distance[~np.isnan(measured.distance)]
    if fixed and is_beyond(attacked, measured.epsilon).any():
        raise ValueError(f"images are further away than epsilon={measured.epsilon}")
    if (measured.worst_correct & (measured.natural != measured.labels)).any():
        raise ValueError("worst_correct where the natural image is classified wrongly")
    if (measured.worst_correct & ~measured.correct).any():
        raise ValueError("worst_correct where correct is false")
