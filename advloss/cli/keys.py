"""Lists the keys of a config, their defaults and what is valid.

    advloss keys            all of them
    advloss keys epsilon    those that have the word in their name or their help

A key is set on the command line of the other commands, as --config.KEY=VALUE.
One that is "unset", or None, takes the default of the loss, the attack or the
network that is chosen.
"""

import textwrap
from collections.abc import Iterator

from advloss import config as configs
from advloss.cli import flags
from advloss.config.keys import Key
from advloss.errors import InputError

FLAGS = ()
_WIDTH = 80


def main(given: flags.Given) -> None:
    """Prints the keys with all the words. Raises InputError where there are none."""
    found = {
        key: entry
        for key, entry in configs.keys().items()
        if all(_bare(word) in f"{key} {entry.help}".lower() for word in given.words)
    }
    if not found:
        words = " ".join(given.words)
        raise InputError(f"no key has {words!r} in its name or its help")
    print("\n".join(table(found)))


def _bare(word: str) -> str:
    """A word as it is looked for; a key may be given as the command line sets it."""
    return word.lower().lstrip("-").removeprefix("config.")


def table(found: dict[str, Key]) -> Iterator[str]:
    """The keys by section, in lines of 80 columns."""
    section = None
    for key, entry in found.items():
        above, _, last = key.rpartition(".")
        if above != section:
            section = above
            yield from (["", f"config.{section}"] if section else ["config"])
        default = "unset" if entry.optional else repr(entry.default)
        swept = "; may be swept in one program" if entry.swept else ""
        yield f"  {last} = {default}"
        for text in (entry.help, f"{entry.valid.text}{swept}"):
            yield from textwrap.wrap(
                text, _WIDTH, initial_indent=6 * " ", subsequent_indent=6 * " "
            )
