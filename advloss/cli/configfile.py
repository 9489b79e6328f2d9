"""--config=FILE.py:ARGUMENT and --config.KEY=VALUE: a config as a command line says it.

A config file is Python and may raise anything: what it raises is told as its own error,
with the line.
"""

import ast
import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from advloss.config.schema import keys
from advloss.config.trees import get, invalid, put, unknown_key
from advloss.errors import InputError, line
from advloss.runtime.files import check_regular


class Said(NamedTuple):
    """What a command line says of the config.

    Attributes:
        file: the last --config, or None.
        changes: keys, each with its texts, in order.
    """

    file: str | None
    changes: dict[str, list[str]]


_FLAG = re.compile(r"--?(no)?config(?:\.([^=]*))?(?:=(.*))?", re.DOTALL)


def split(arguments: Sequence[str]) -> tuple[Said, list[str]]:
    """What is said of the config, and the other arguments.

    Raises:
        InputError: a flag has no value.
    """
    file, changes, rest = None, {}, []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        found = _FLAG.fullmatch(word)
        if not found:
            rest.append(word)
            continue
        no, key, text = found.groups()
        if no:  # As of absl's flags: --noconfig.KEY.
            text = "false"
        elif text is None and waiting and not waiting[0].startswith("--"):
            text = waiting.pop(0)
        if text is None and key is None:
            raise InputError("--config is missing: name a file")
        if key is None:
            file = text
        else:
            changes.setdefault(key, []).append("true" if text is None else text)
    return Said(file, changes), rest


def load(file: str | None) -> ConfigDict:
    """The config of a file, as "FILE.py" or "FILE.py:ARGUMENT".

    Raises:
        InputError: there is no such file, or it fails, or returns something else.
    """
    if not file:
        raise InputError("--config is missing: name a file such as configs/default.py")
    path, colon, argument = file.partition(":")
    try:
        check_regular(Path(path))
        Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--config={file} can't be read: {reason}") from error
    try:
        spec = importlib.util.spec_from_file_location("config_file", path)
        if spec is None:
            raise InputError(f"--config={file} is not valid: use a file in Python, .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        if not callable(make := getattr(module, "get_config", None)):
            raise InputError(
                f"--config={file} has no function get_config: use a file such as "
                "configs/default.py"
            )
        config = make(*([argument] if colon else []))
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"--config={file}: {_told(error, path)}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"--config={file}: get_config returned a {type(config).__name__}: it must "
            "return an ml_collections.ConfigDict, as configs/default.py does"
        )
    return _thawed(config, file)


def _thawed(config: ConfigDict, file: str) -> ConfigDict:
    """A copy that can be changed, whatever was locked or frozen."""
    try:
        return ConfigDict(config.to_dict() if _is_frozen(config) else config)
    except RecursionError as error:
        raise InputError(f"--config={file}: the config contains itself") from error


def _is_frozen(config: ConfigDict) -> bool:
    return type(config) is not ConfigDict


def _told(error: BaseException, path: str) -> str:
    """An error of somebody's code, with the last line of the file that led to it."""
    # The text of a KeyError is the repr of what it says.
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = line(Exception(text))
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path or Path(frame.filename) == Path(path).absolute()
    ]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {text}{where}"


def assign(config: ConfigDict, changes: Mapping[str, Sequence[str]]) -> None:
    """Sets keys of a config to what texts say.

    Raises:
        InputError: there is no such key, or a text says nothing of its type.
    """
    known = keys()
    for key, texts in changes.items():
        try:
            old = get(config, key)
        except (KeyError, ValueError):
            raise unknown_key(key, texts[-1], known) from None
        if isinstance(old, ConfigDict):
            inner = (name for name in known if name.startswith(f"{key}."))
            raise InputError(
                f"config.{key}={texts[-1]!r} is not valid: it is a section, set its "
                f"keys, such as config.{next(inner, f'{key}.KEY')}"
            )
        kind = known[key].valid.kind if key in known else type(old)
        if kind is tuple:
            value = tuple(item for text in texts for item in _items(text))
        elif texts[-1] == "None" and key in known and known[key].optional:
            value = None
        else:
            value = _value(key, kind, texts[-1], known)
        put(config, key, value)


def _value(key: str, kind: type, text: str, known: Mapping[str, Any]) -> Any:
    """What a text says, of that type."""
    try:
        return _READ.get(kind, str)(text)
    except (ValueError, ZeroDivisionError, OverflowError, KeyError):
        valid = known[key].valid.text if key in known else f"a {kind.__name__}"
        raise invalid(key, text, valid) from None


def number(text: str) -> float:
    """A number, also as a fraction: 8/255. Raises ValueError, ZeroDivisionError."""
    above, slash, below = text.partition("/")
    return float(above) / float(below) if slash else float(text)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        if not (value := float(text)).is_integer():
            raise
        return int(value)  # 1e5.


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


_READ = {bool: _truth, int: _whole, float: number, str: str}


def _items(text: str) -> tuple:
    """a,b and (0.5, 0.75) and ("a b", "c")."""
    with contextlib.suppress(
        ValueError, SyntaxError, TypeError, MemoryError, RecursionError
    ):
        found = ast.literal_eval(text)
        if isinstance(found, tuple | list):
            return tuple(found)
    return tuple(_item(part.strip()) for part in text.split(","))


def _item(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return float(text)
    return text
