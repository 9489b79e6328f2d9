"""Reading what may be damaged: a report says so, and goes on."""

import warnings
from collections.abc import Callable
from typing import Any

from advloss.errors import InputError, line


def guarded(
    what: str, function: Callable[..., Any], *arguments: Any
) -> tuple[Any, list[str]]:
    """What a function reads, or None; and sentences on what it warned of or refused.

    Args:
        what: names what is read, should it be damaged in a way of its own.
        function: reads it.
        arguments: of the function.
    """
    found, problems = None, []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = function(*arguments)
        except InputError as error:
            problems = [str(error)]
        except OSError as error:
            problems = [f"{what} can't be read: {error.strerror or error}"]
        except Exception as error:  # A damaged file may hold anything.
            problems = [f"{what} is damaged: {type(error).__name__}: {line(error)}"]
    return found, [*(str(warning.message) for warning in caught), *problems]
