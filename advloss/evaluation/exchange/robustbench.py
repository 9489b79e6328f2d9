"""RobustBench's file of a model, as its model_info/DATASET/THREAT/MODEL.json.

Accuracies are in per cent, as text or as numbers; a radius may be a fraction, "8/255".
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from advloss.attacks import checks
from advloss.config import texts
from advloss.errors import InputError, shown
from advloss.runtime import files

THREATS = {"linf": "Linf", "l2": "L2"}
"""RobustBench's names of threat models, by norm; it has no others of a norm."""


class ModelInfo(NamedTuple):
    """What RobustBench keeps of a model.

    Attributes:
        name: the title of the paper.
        dataset: such as "cifar10".
        eps: the radius of the threat model, in units of pixel value; None where it is
            no ball, as of corruptions.
        clean_acc: the accuracy without an attack, in per cent, as all that follow.
        reported: what the authors report.
        autoattack_acc: under the standard AutoAttack.
        external: the lowest that an evaluation of somebody else found.
        corruptions_acc: the mean over corruptions.
        architecture: of the network.
        authors, venue, link: of the paper.
        footnote: any text.
        additional_data: whether it was trained on more than the data set's images.
        number_forward_passes: that one prediction takes.
        others: all other keys, as they are.
    """

    name: str
    dataset: str
    eps: float | None
    clean_acc: float
    reported: float | None = None
    autoattack_acc: float | None = None
    external: float | None = None
    corruptions_acc: float | None = None
    architecture: str = ""
    authors: str = ""
    venue: str = ""
    link: str = ""
    footnote: str = ""
    additional_data: bool = False
    number_forward_passes: int = 1
    others: Mapping[str, Any] = {}


_ORDER = (
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset",
    "venue", "architecture", "eps", "clean_acc", "reported", "corruptions_acc",
    "autoattack_acc", "external", "footnote",
)  # fmt: skip
_REQUIRED = ("name", "dataset", "clean_acc")
_ACCURACIES = ("clean_acc", "reported", "corruptions_acc", "autoattack_acc", "external")
_VALID = {
    **dict.fromkeys(_ACCURACIES, "a number from 0 to 100, in per cent"),
    "eps": "a number >= 0 or a fraction, such as 8/255",
    "additional_data": "true or false",
    "number_forward_passes": "a whole number from 1",
}


def read_robustbench(path: str | Path) -> ModelInfo:
    """The file of a model.

    Raises:
        InputError: it is missing, damaged or no file of a model, or a value is
            senseless; the message names the key and the value.
    """
    path = files.as_path("path", path, "file")
    content = files.read_json(path)
    if content is None:
        raise InputError(f"{path} is missing: name a JSON file of RobustBench's form")
    for key in _REQUIRED:
        if content.get(key) is None:
            raise InputError(f"{path} has no {key}: it is no file of a model")
    found: dict[str, Any] = {"eps": None}
    for key in _ORDER:
        value = content.get(key)
        if value is None or (value == "" and key in _VALID and key not in _REQUIRED):
            continue
        try:
            found[key] = _read(key, value)
        except (TypeError, ValueError, OverflowError):
            raise _invalid(path, key, value) from None
    others = {key: value for key, value in content.items() if key not in _ORDER}
    return ModelInfo(**found, others=others)


def write_robustbench(path: str | Path, info: ModelInfo) -> None:
    """Writes the file whole or not at all; but for eps, what is None is left out.

    Accuracies are text, rounded to two digits after the point, as in RobustBench.

    Raises:
        InputError: a value is none that `read_robustbench` takes, or `others` has a key
            of the file's own; nothing was written.
        OSError: it can't be written.
    """
    path = files.as_path("path", path, "file")
    if not isinstance(info, ModelInfo):
        raise InputError(f"info={shown(info)} is not valid: use a ModelInfo")
    known: dict[str, Any] = {}
    for key in _ORDER:
        value = getattr(info, key)
        if key in _REQUIRED or value is not None:
            try:
                known[key] = _read(key, checks.plain(value))
            except (TypeError, ValueError, OverflowError):
                raise _invalid(path, key, value) from None
    _check_others(info.others)
    for key in _ACCURACIES:
        if key in known:
            known[key] = str(round(known[key], 2))
    known["eps"] = radius_text(known["eps"]) if "eps" in known else None
    files.write_json(path, {**known, **info.others})


def _check_others(others: Any) -> None:
    """Raises InputError where they are no further keys of a file of JSON."""
    try:
        own = sorted(others.keys() & {*_ORDER})
        json.dumps(dict(others))
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"others={shown(others)} is not valid: use a dict of what JSON holds"
        ) from None
    if own:
        raise InputError(
            f"others={', '.join(own)} is not valid: give it as {own[0]}=..."
        )


def radius_text(radius: float) -> str:
    """A radius as RobustBench writes it: "0.3", "8/255"."""
    short, levels = f"{radius:.4g}", round(255 * radius)
    if float(short) != radius and levels / 255 == radius:
        return f"{levels}/255"
    return short if float(short) == radius else repr(radius)


def _invalid(path: Path, key: str, value: Any) -> InputError:
    valid = _VALID.get(key, "a text")
    return InputError(f"{path}: {key}={shown(value)} is not valid: use {valid}")


def _read(key: str, value: Any) -> Any:
    """Raises TypeError or ValueError where it is not valid."""
    if key in _ACCURACIES or key == "eps":
        number = texts.read(float, value) if isinstance(value, str) else value
        most = math.inf if key == "eps" else 100
        if isinstance(number, bool) or not 0 <= number <= most or math.isinf(number):
            raise ValueError(value)
        return float(number)
    kind = {"additional_data": bool, "number_forward_passes": int}.get(key, str)
    if type(value) is not kind or (kind is int and value < 1):
        raise ValueError(value)
    return value
