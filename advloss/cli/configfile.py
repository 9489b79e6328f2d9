"""--config=FILE.py:ARGUMENT and --config.KEY=VALUE: a config as a command line says it.

A config file is Python and may raise anything: what it raises is told as its own error,
with the line.
"""

import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from advloss.cli import terminal
from advloss.config import texts
from advloss.config.keys import Key
from advloss.config.schema import keys
from advloss.config.trees import get, invalid, put, unknown_key
from advloss.errors import InputError, line
from advloss.registry import Valid
from advloss.runtime.files import check_regular

# A file in Python, or what is none up to the first colon, and an argument.
_NAMED = re.compile(r"(.+?\.py(?=:|$)|[^:]*)(:?)(.*)", re.DOTALL)


def load(file: str | None) -> ConfigDict:
    """The config of a file, as "FILE.py" or "FILE.py:ARGUMENT".

    Raises:
        InputError: there is no such file, or it fails, or returns something else.
    """
    if not file:
        raise InputError("--config is missing: name a file such as configs/default.py")
    # A path may have colons of its own.
    path, colon, argument = _NAMED.fullmatch(file).groups()
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
        with contextlib.chdir("."):  # Back from wherever it goes.
            spec.loader.exec_module(module)
            if not callable(make := getattr(module, "get_config", None)):
                raise InputError(
                    f"--config={file} has no function get_config: use a file such as "
                    "configs/default.py"
                )
            config = make(*([argument] if colon else []))
    except InputError:
        raise
    except BaseException as error:  # A signal ends the process without one.
        raise InputError(f"--config={file}: {_told(error, path)}") from error
    finally:
        terminal.mend()
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"--config={file}: get_config returned a {type(config).__name__}: it must "
            "return an ml_collections.ConfigDict, as configs/default.py does"
        )
    return _thawed(config, file)


def _thawed(config: ConfigDict, file: str) -> ConfigDict:
    """A copy that can be changed, whatever was locked or frozen."""
    try:
        return ConfigDict(config if type(config) is ConfigDict else config.to_dict())
    except RecursionError as error:
        raise InputError(f"--config={file}: the config contains itself") from error
    except Exception as error:  # Keys may be anything, and so may its class.
        raise InputError(
            f"--config={file}: the config can't be read: {line(error)}"
        ) from error


def _told(error: BaseException, path: str) -> str:
    """An error of somebody's code, with the last line of the file that led to it."""
    # The text of a KeyError is the repr of what it says.
    is_repr = isinstance(error, KeyError) and error.args
    text = line(Exception(error.args[0]) if is_repr else error)
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == path or Path(frame.filename) == Path(path).absolute()
    ]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {text}{where}"


def assign(config: ConfigDict, changes: Mapping[str, Sequence[str]]) -> None:
    """Sets keys of a config to what texts say; its own keep their types.

    Args:
        config: it is changed.
        changes: keys with their texts, of which a tuple alone can have several.

    Raises:
        InputError: there is no such key, it is given twice, or a text says nothing of
            its type.
    """
    known = keys()
    for key, said in changes.items():
        try:
            old = get(config, key)
        except (KeyError, ValueError):
            raise unknown_key(key, said[-1], known) from None
        if isinstance(old, ConfigDict):
            inner = (name for name in known if name.startswith(f"{key}."))
            valid = f"keys of this section, such as config.{next(inner, f'{key}.KEY')}"
            raise invalid(key, said[-1], valid)
        kind = type(old)
        named = _KINDS.get(kind, f"a {kind.__name__}")
        own = Key(old, Valid(kind, lambda value: True, named), "")
        value, *more = (texts.value(key, text, known.get(key, own)) for text in said)
        for other in more:
            if not isinstance(value, tuple):
                raise InputError(
                    f"config.{key} is given twice, as {said[0]!r} and {said[1]!r}"
                )
            value += other
        put(config, key, value)


# Of a study's own keys, say.
_KINDS = {bool: "True or False", int: "a whole number", float: "a number"}
