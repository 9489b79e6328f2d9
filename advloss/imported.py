"""What a config names by where it lies: `my_package.my_module:name`."""

import importlib
import re
from collections.abc import Mapping
from typing import Any

from advloss.errors import InputError, line
from advloss.registry import Valid, choice

FORM = "PACKAGE.MODULE:NAME"
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_path(text: str) -> bool:
    """Whether a text has that form."""
    return bool(_PATH.fullmatch(text))


def or_own(registry: Mapping[str, Any]) -> Valid:
    """A name of a registry, or one's own by its path."""
    return choice(registry, beside=is_path, others=f"{FORM} of your own")


def named(text: str, key: str) -> Any:
    """The object `name` in a module, which is imported.

    Args:
        text: for which `is_path` holds.
        key: of the config that has the text.

    Raises:
        InputError: there is no such module or no such name in it, or the module fails
            as it is imported.
    """
    module, _, name = text.partition(":")
    where = f"config.{key}={text!r} is not valid:"
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # Whatever its author's code does.
        missing = getattr(error, "name", None) or " "
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(
            f"{missing}."
        ):
            raise InputError(
                f"{where} there is no module {missing}: use one that Python finds, in "
                "the folder of the command or installed"
            ) from error
        raise InputError(
            f"{where} the module {module} fails as it is imported "
            f"({type(error).__name__}: {line(error)})"
        ) from error
    if not hasattr(found, name):
        raise InputError(f"{where} {module} has no {name}: use a name that is in it")
    return getattr(found, name)
