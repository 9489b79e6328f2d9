"""AttackBench's files of an attack: info.json and best-known distances, by hash.

There an image's key is the SHA-512 of its float32 values, channels first.
"""

import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from advloss.attacks import checks
from advloss.errors import InputError, shown
from advloss.runtime import files

NORMS = ("linf", "l0", "l1", "l2")
_IN_NAME = re.compile(rf"(?<![a-z0-9])({'|'.join(NORMS)})(?![a-z0-9])")
_HASH = re.compile("[0-9a-f]{128}")


class Attacked(NamedTuple):
    """What an attack did to images, whatever network it was.

    Attributes:
        norm: in which it looked for near images.
        hashes: `[n]`, of the natural images.
        labels: `[n]`, the true classes.
        right: `[n]` bool, the natural image is classified correctly.
        success: `[n]` bool, the attacked one is not.
        distances: in every norm `[n]`, of the images from the natural ones, found or
            not; in l0, the number of values that differ.
        backward_passes, forward_passes: `[n]` int.
        seconds: of all.
    """

    norm: str
    hashes: Sequence[str]
    labels: np.ndarray
    right: np.ndarray
    success: np.ndarray
    distances: Mapping[str, np.ndarray]
    backward_passes: np.ndarray
    forward_passes: np.ndarray
    seconds: float

    @property
    def found(self) -> np.ndarray:
        """`[n]`, distances as optimality takes them: inf and 0 where right or not."""
        found = np.where(self.success, self.distances[self.norm], np.inf)
        return np.where(self.right, found, 0.0)

    def info(self, **more: Any) -> dict[str, Any]:
        """The object of info.json, with more keys."""
        last = {norm: values.tolist() for norm, values in self.distances.items()}
        # Nearer images than the last are not kept, but for the natural one.
        nearest = {
            norm: np.where(self.right, values, 0.0).tolist()
            for norm, values in self.distances.items()
        }
        return {
            "hashes": [*self.hashes],
            "targeted": False,
            "accuracy": float(np.mean(self.right)),
            "ori_success": (~self.right).tolist(),
            "adv_success": self.success.tolist(),
            "ASR": float(np.mean(self.success)),
            "times": [self.seconds],
            "num_forwards": self.forward_passes.tolist(),
            "num_backwards": self.backward_passes.tolist(),
            "distances": last,
            "best_optim_distances": nearest,
            "box_failures": [False] * len(self.hashes),
            "batch_failures": [],
            **more,
        }

    def arrays(self, images: np.ndarray, natural: np.ndarray) -> dict[str, np.ndarray]:
        """What a file of images holds.

        Args:
            images: `[n, height, width, channels]` in [0, 1], the attacked ones,
            natural: and the natural ones.
        """
        return {
            "images": images,
            "natural": natural,
            "labels": self.labels,
            "distances": self.distances[self.norm],
            "success": self.success,
            "right": self.right,
            "hashes": np.array(self.hashes),
            "norm": np.array(self.norm),
        }


def hashes(images: np.ndarray) -> list[str]:
    """The key of each image `[n, height, width, channels]` in [0, 1].

    Raises:
        InputError: they are no such images.
    """
    first = np.moveaxis(checks.check_images(images), -1, 1)
    return [hashlib.sha512(np.ascontiguousarray(each)).hexdigest() for each in first]


def distances(images: np.ndarray, natural: np.ndarray) -> dict[str, np.ndarray]:
    """Between images `[n, ...]` and others, in every norm, `[n]` float64."""
    change = np.asarray(images, np.float64) - natural
    change = np.abs(change).reshape(len(change), -1)
    return {
        "linf": change.max(axis=1),
        "l0": (change > 0).sum(axis=1).astype(np.float64),
        "l1": change.sum(axis=1),
        "l2": np.sqrt((change**2).sum(axis=1)),
    }


def nearest(several: Sequence[Attacked]) -> dict[str, float]:
    """The nearest image that any of the attacks found, by hash; inf where none is."""
    best: dict[str, float] = {}
    for each in several:
        for key, value in zip(each.hashes, each.found.tolist(), strict=True):
            best[key] = min(value, best.get(key, math.inf))
    return best


def read_best(paths: Sequence[str | Path], norm: str) -> dict[str, float]:
    """The best distances in a norm that files hold, by hash.

    Args:
        paths: each an info.json of AttackBench, a file {hash: distance} that it
            compiles, with the norm in its name (mnist-linf-NAME-128.json), or a file of
            images that `advloss export` wrote. Those of other norms are left out.
        norm: "linf", "l0", "l1" or "l2".

    Raises:
        InputError: a file is missing, damaged or of another form, or says no norm; or
            an argument is not as above.
    """
    if norm not in NORMS:
        raise InputError(
            f"norm={shown(norm)} is not valid: use one of {', '.join(NORMS)}"
        )
    if not isinstance(paths, list | tuple):
        raise InputError(
            f"paths={shown(paths)} is not valid: use a list of files, [FILE, FILE]"
        )
    best: dict[str, float] = {}
    for path in [files.as_path("paths", each, "file") for each in paths]:
        for key, value in _read(path, norm).items():
            best[key] = min(value, best.get(key, math.inf))
    return best


def _read(path: Path, norm: str) -> dict[str, float]:
    if path.suffix == ".npz":
        content = {k: each.tolist() for k, each in files.read_arrays(path).items()}
        if content.get("norm") not in NORMS:
            raise InputError(f"{path} is no file of images that an export wrote")
        if content["norm"] != norm:
            return {}
        content["distances"] = {norm: content.get("distances")}
        content["adv_success"] = content.get("success")
        content["ori_success"] = [not right for right in content.get("right", ())]
    else:
        content = files.read_json(path)
    if content is None:
        raise InputError(f"{path} is missing: name a file of best distances")
    if "hashes" in content:
        return _of_info(path, content, norm)
    named = _IN_NAME.findall(path.name)
    if len(set(named)) != 1:
        raise InputError(
            f"{path} holds distances by hash in a norm that its name doesn't say: name "
            "it as AttackBench does, mnist-linf-NAME-128.json"
        )
    return _checked(path, content) if named[0] == norm else {}


def _of_info(path: Path, content: Mapping[str, Any], norm: str) -> dict[str, float]:
    of_norms = content.get("best_optim_distances") or content.get("distances")
    if not isinstance(of_norms, dict):
        raise InputError(f"{path} is damaged: it has no distances by norm")
    if norm not in of_norms:
        return {}
    columns = [
        content["hashes"],
        of_norms[norm],
        content.get("ori_success"),
        content.get("adv_success"),
    ]
    lengths = {len(each) if isinstance(each, list) else -1 for each in columns}
    if len(lengths) != 1 or -1 in lengths:
        raise InputError(
            f"{path} is damaged: hashes, distances, ori_success and adv_success must "
            "be lists of one length"
        )
    found: dict[str, float] = {}
    for key, distance, wrong, fooled in zip(*columns, strict=True):
        if not isinstance(wrong, bool) or not isinstance(fooled, bool):
            raise InputError(
                f"{path} is damaged: ori_success and adv_success must be true or false"
            )
        own = 0.0 if wrong else distance if fooled else math.inf
        _checked(path, {key: own})
        found[key] = min(own, found.get(key, math.inf))  # An image may be there twice.
    return found


def _checked(path: Path, content: Mapping[Any, Any]) -> dict[str, float]:
    for key, value in content.items():
        if not isinstance(key, str) or not _HASH.fullmatch(key):
            raise InputError(
                f"{path}: {shown(key)} is no key of an image: use the 128 hexadecimal "
                "digits of its SHA-512"
            )
        number = type(value) in (int, float) and value >= 0
        if not number or (type(value) is int and value > sys.float_info.max):
            raise InputError(
                f"{path}: the distance {shown(value)} is not valid: use a number >= 0"
            )
    return dict(content)


def best_json(best: Mapping[str, float]) -> str:
    """A file {hash: distance} as AttackBench compiles it, of what was fooled."""
    finite = {key: value for key, value in best.items() if math.isfinite(value)}
    return json.dumps(finite, indent=4) + "\n"
