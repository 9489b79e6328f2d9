"""A command's flags, and what they stand for: a config, a work directory, devices.

given = flags.parse(("config", "workdir", *flags.DEVICES), program, arguments)
config = given.resolved()
devices = flags.devices(given, config.train.batch_size)
"""

import contextlib
import os
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from advloss import config as configs
from advloss.cli import configfile
from advloss.cli.known import FLAGS as _FLAGS
from advloss.cli.terminal import end_on_signals
from advloss.config import texts
from advloss.config.saved import load_config
from advloss.config.trees import shown
from advloss.errors import InputError, line
from advloss.runtime import hosts
from advloss.runtime.devices import all_devices
from advloss.runtime.environment import pin_jax
from advloss.runtime.files import check_folder

# The flags of commands that compute.
DEVICES = (
    "devices", "distributed", "coordinator", "process_count", "process_index"
)  # fmt: skip
_KEY = (
    "A key of the config, in the place of the file's value. `advloss keys` lists all "
    "keys, `advloss keys WORD` those with that word."
)


class Given(NamedTuple):
    """What a command was started with.

    Attributes:
        flags: by name as attributes; None where nothing is said.
        config: as its file and --config.KEY=VALUE have it, or None.
        words: what is no flag, of a command that takes words.
        line: the shell's line that starts it so.
        keys: of the config that are set on the command line, with what is said of each.
    """

    flags: SimpleNamespace
    config: ConfigDict | None
    words: Sequence[str]
    line: str
    keys: Mapping[str, Sequence[str]]

    @property
    def workdir(self) -> Path:
        """The folder of --workdir."""
        return Path(self.flags.workdir)

    def resolved(self) -> ConfigDict:
        """The config, checked. Raises InputError where a value is not valid."""
        return configs.resolve(self.config)

    def check_name(self) -> None:
        """Raises InputError where the run in --workdir is given another name."""
        if self.flags.config is not None:
            return
        name, saved = self.config.name, load_config(self.workdir).name
        if name != saved:
            raise InputError(
                f"config.name={name!r} is not valid: the run's name is {saved!r}"
            )


def parse(
    names: Sequence[str],
    program: Sequence[str],
    arguments: Sequence[str],
    *,
    saved_config: bool = False,
) -> Given:
    """What the arguments say.

    Args:
        names: the flags that the command has; without any it takes words.
        program: the words before the arguments.
        arguments: the words of the command line after the command.
        saved_config: whether --config is by default the one in --workdir.

    Raises:
        InputError: a flag or a config is missing or not valid.
    """
    said = split(names, arguments)
    if said.words and names:
        raise InputError(f"{said.words[0]!r} is not a flag: flags begin with --")
    for name in ("runs", "workdir", "to"):
        if name in names and not said.flags.get(name, "").strip(","):
            raise InputError(f"--{name} is missing")
    values = SimpleNamespace(**{name: flag.default for name, flag in _FLAGS.items()})
    for name, given in said.flags.items():
        setattr(values, name, _value(name, given))
    for name in ("workdir", "to"):
        if folder := getattr(values, name):
            check_folder(f"--{name}", folder)
    config = None
    if "config" in names:
        if values.config is None and saved_config:
            config = load_config(values.workdir)
        else:
            config = configfile.load(values.config)
        configfile.assign(config, said.keys)
    started = shlex.join([*program, *arguments])
    return Given(values, config, said.words, started, said.keys)


def folders(name: str, text: str) -> list[Path]:
    """The folders of --NAME=FOLDER,FOLDER. Raises InputError where one is no folder, or
    is named twice."""
    found = [check_folder(f"--{name}", folder) for folder in _listed(text)]
    earlier: dict[Path, Path] = {}
    for folder in found:
        other = earlier.setdefault(folder.resolve(), folder)
        if other is not folder:
            raise InputError(
                f"--{name}={folder} is not valid: {other} is the same run; name each "
                "once"
            )
    return found


def _listed(text: str) -> list[str]:
    """The parts between commas; one that a folder has in its name stays."""
    first, *rest = text.split(",")
    for end in range(len(rest), 0, -1):
        joined = ",".join([first, *rest[:end]])
        if Path(joined).is_dir():
            return [joined, *(_listed(",".join(rest[end:])) if rest[end:] else [])]
    return [first, *(_listed(",".join(rest)) if rest else [])]


class Said(NamedTuple):
    """What a command line says, as texts.

    Attributes:
        flags: by name.
        keys: of the config, in order; what was said of each.
        words: what is no flag.
    """

    flags: dict[str, str]
    keys: dict[str, list[str]]
    words: list[str]


def split(names: Sequence[str], arguments: Sequence[str]) -> Said:
    """Tells --NAME=TEXT, --NAME TEXT and --config.KEY=TEXT from other words.

    Switches and keys may also be --NAME, which is true, or --noNAME, false.

    Raises:
        InputError: a flag has none of these names, or is given twice.
    """
    said, waiting = Said({}, {}, []), list(arguments)
    switches = [name for name in names if _FLAGS[name].valid.kind is bool]
    while waiting:
        word = waiting.pop(0)
        if not re.match("--?[^-=]", word):
            said.words.append(word)
            continue
        name, equals, given = word.lstrip("-").partition("=")
        if not equals:
            name, given = _without_text(name, switches, waiting)
        section, dot, key = name.partition(".")
        if section not in names or (dot and section != "config"):
            listed = ", ".join(f"--{name}" for name in names) or "words"
            raise InputError(f"--{name} is not a flag of this command: use {listed}")
        if dot:
            said.keys.setdefault(key, []).append(given)
        elif name in said.flags:
            raise InputError(f"--{name} is given twice: use one of its values")
        else:
            said.flags[name] = given
    return said


def _without_text(
    name: str, switches: Sequence[str], waiting: list[str]
) -> tuple[str, str]:
    """The name and the text of a flag without "=", perhaps the next word."""
    off, is_key = name.removeprefix("no"), name.startswith("config.")
    if off != name and (off in switches or off.startswith("config.")):
        return off, "false"
    if name not in switches and waiting and not waiting[0].startswith("--"):
        return name, waiting.pop(0)
    return name, "true" if is_key or name in switches else ""


def _value(name: str, given: str) -> Any:
    valid = _FLAGS[name].valid
    with contextlib.suppress(ValueError):
        value = texts.read(valid.kind, given)
        if valid.accepts(value):
            return value
    raise InputError(f"--{name}={shown(given)} is not valid: use {valid.text}")


def usage(names: Sequence[str], program: Sequence[str]) -> str:
    """The flags of a command, in 80 columns."""
    listed = {name: _FLAGS[name].help for name in names}
    if "config" in names:
        listed["config.KEY"] = _KEY
    blocks = (
        "\n      ".join([f"  --{name}=", *textwrap.wrap(told, 74)])
        for name, told in listed.items()
    )
    return "\n".join([f"{' '.join(program)} --flag=value ...", "", *blocks])


def devices(given: Given, *batch_sizes: int) -> list[jax.Device]:
    """The devices of --devices, of all hosts. To be called before JAX is first used.

    A CPU is split into virtual devices, so that every core has its own work.

    Raises:
        InputError: there are fewer than asked for, or the hosts can't be joined, or JAX
            has no such platform.
    """
    asked = given.flags.devices
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it.
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    count = given.flags.process_count or 1
    dividing = [
        n for n in range(1, cores + 1) if all(s % (n * count) == 0 for s in batch_sizes)
    ]
    try:
        jax.config.update("jax_num_cpu_devices", asked or max(dividing, default=1))
    except RuntimeError as error:
        raise InputError(
            f"--config={given.flags.config} uses JAX before its devices are chosen: "
            "use numpy there"
        ) from error
    pin_jax()
    _join_hosts(given.flags)
    try:
        found = jax.local_device_count()
    except (RuntimeError, AssertionError) as error:
        if "alloc" in str(error):
            raise MemoryError(line(error)) from error
        asked_of = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
        given_of = [(name, os.environ.get(name)) for name in asked_of]
        named = "".join(f"{name}={value}: " for name, value in given_of if value)
        raise InputError(f"{named}JAX has no devices: {line(error)}") from error
    if asked and asked > found:
        raise InputError(f"--devices={asked} is not valid: there are {found}")
    return all_devices(asked)


def _join_hosts(values: SimpleNamespace) -> None:
    given = (values.coordinator, values.process_count, values.process_index)
    if values.distributed and given == (None, None, None):
        hosts.connect()
        return
    if None in given and any(value is not None for value in given):
        raise InputError(
            "--coordinator, --process_count and --process_index go together: give "
            "all three, or --distributed alone where a cluster tells them"
        )
    if values.coordinator is None:
        return
    port = re.fullmatch(r".+:([0-9]{1,5})", values.coordinator)
    if not (port and 0 < int(port[1]) < 2**16):
        raise InputError(
            f"--coordinator={values.coordinator} is not valid: use HOST:PORT, the port "
            f"from 1 to {2**16 - 1}"
        )
    if values.process_index >= values.process_count:
        raise InputError(
            f"--process_index={values.process_index} is not valid: use 0 to "
            f"{values.process_count - 1}"
        )
    hosts.connect(*given)


def batch_sizes(config: ConfigDict) -> set[int]:
    """The batches that the devices share."""
    return {config.train.batch_size, config.evaluate.batch_size}


def show(make: Callable[[], str]) -> None:
    """Prints what `make` returns, on the first host alone: it writes files, too.

    All that takes long is done and saved: from here on a signal ends the process.
    """
    end_on_signals()
    if hosts.is_first():
        print(make())
    hosts.wait_for_all()
