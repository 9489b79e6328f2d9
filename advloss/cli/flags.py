"""A command's flags, and what they stand for: a config, a work directory, devices.

given = flags.parse(("config", "workdir", *flags.DEVICES), program, arguments)
config = given.resolved()
devices = flags.devices(given, config.train.batch_size)
"""

import os
import shlex
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from advloss import config as configs
from advloss.cli import configfile
from advloss.cli.terminal import end_on_signals
from advloss.config.saved import load_config
from advloss.errors import InputError, line
from advloss.runtime import hosts
from advloss.runtime.devices import all_devices
from advloss.runtime.files import check_folder

# The flags of commands that compute.
DEVICES = (
    "devices", "distributed", "coordinator", "process_count", "process_index"
)  # fmt: skip
_MOST_DEVICES = 1024  # Virtual ones of a CPU; a slip of the hand would fill its memory.


def _define(values: flags.FlagValues, names: Sequence[str]) -> None:
    """Defines the flags of these names; "config" is read by `configfile`."""

    def whole(name: str, text: str, low: int, high: int | None = None) -> None:
        flags.DEFINE_integer(name, None, text, low, high, flag_values=values)

    define: dict[str, Callable[[], Any]] = {
        "workdir": lambda: flags.DEFINE_string(
            "workdir", None, "FOLDER of the run, the study or the report.",
            flag_values=values,
        ),
        "runs": lambda: flags.DEFINE_list(
            "runs", None, "Work directories of the runs, in order: FOLDER,FOLDER.",
            flag_values=values,
        ),
        "report_only": lambda: flags.DEFINE_bool(
            "report_only", False, "Train and attack nothing.", flag_values=values
        ),
        "devices": lambda: whole(
            "devices",
            "How many devices of this machine share each batch: by default all GPUs or "
            "TPUs; on a CPU, virtual devices, one a core, as far as they divide the "
            "batches.",
            1, _MOST_DEVICES,
        ),
        "distributed": lambda: flags.DEFINE_bool(
            "distributed", False,
            "One of several processes, as SLURM, Open MPI, Kubernetes or a TPU pod "
            "started them: each batch is shared by the devices of all.",
            flag_values=values,
        ),
        "coordinator": lambda: flags.DEFINE_string(
            "coordinator", None,
            "HOST:PORT of process 0, where no such cluster tells it.",
            flag_values=values,
        ),
        "process_count": lambda: whole(
            "process_count", "How many processes, with --coordinator.", 1
        ),
        "process_index": lambda: whole(
            "process_index", "Which of them this is, from 0.", 0
        ),
    }  # fmt: skip
    for name in names:
        if name != "config":
            define[name]()


class Given(NamedTuple):
    """What a command was started with.

    Attributes:
        flags: those that it has, by name as attributes.
        config: as its file and --config.KEY=VALUE have it, or None.
        words: what is no flag, of a command that takes words.
        line: the shell's line that starts it so.
    """

    flags: flags.FlagValues
    config: ConfigDict | None
    words: Sequence[str]
    line: str

    @property
    def workdir(self) -> Path:
        """The folder of --workdir."""
        return Path(self.flags.workdir)

    def resolved(self) -> ConfigDict:
        """The config, checked. Raises InputError where a value is not valid."""
        return configs.resolve(self.config)


def parse(
    names: Sequence[str],
    program: Sequence[str],
    arguments: Sequence[str],
    *,
    required: Sequence[str] = (),
    saved_config: bool = False,
    takes_words: bool = False,
) -> Given:
    """What the arguments say.

    Args:
        names: the flags that the command has.
        program: the words before the arguments.
        arguments: the words of the command line after the command.
        required: of the flags, those without which it can't run.
        saved_config: whether --config is by default the one in --workdir.
        takes_words: whether there may be arguments that are no flags.

    Raises:
        InputError: a flag or a config is missing or not valid.
    """
    said, rest = configfile.split(arguments)
    if "config" not in names and (said.file is not None or said.changes):
        raise InputError("--config is not a flag of this command: --help lists them")
    values = flags.FlagValues()
    _define(values, names)
    try:
        words = values([" ".join(program), *rest])[1:]
    except flags.Error as error:
        raise InputError(line(error)) from error
    if words and not takes_words:
        raise InputError(f"{words[0]!r} is not a flag: flags begin with --")
    for name in required:
        given = said.file if name == "config" else values[name].value
        if not given or not any(given):
            raise InputError(f"--{name} is missing")
    if "workdir" in names and values["workdir"].value:
        check_folder("--workdir", values["workdir"].value)
    config = None
    if "config" in names:
        if said.file is None and saved_config:
            config = load_config(values["workdir"].value)
        else:
            config = configfile.load(said.file)
        configfile.assign(config, said.changes)
    return Given(values, config, words, shlex.join([*program, *arguments]))


def usage(names: Sequence[str], program: Sequence[str]) -> str:
    """The flags of a command, in 80 columns."""
    values = flags.FlagValues()
    _define(values, names)
    own = {
        name: values[name].help
        for name in names
        if name not in DEVICES and name != "config"
    }
    if "config" in names:
        own["config"] = (
            "FILE.py, or FILE.py:ARGUMENT: a Python file whose get_config([ARGUMENT]) "
            "returns the config, such as configs/default.py."
        )
        own["config.KEY"] = (
            "A key of the config, in the place of the file's value. `advloss keys` "
            "lists all keys, `advloss keys WORD` those with that word."
        )
    own.update({name: values[name].help for name in names if name in DEVICES})
    blocks = []
    for name, text in own.items():
        wrapped = textwrap.wrap(text, 74)
        blocks.append("\n      ".join([f"  --{name}=", *wrapped]))
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
    jax.config.update("jax_num_cpu_devices", asked or max(dividing, default=1))
    _join_hosts(given.flags)
    try:
        found = jax.local_device_count()
    except RuntimeError as error:
        platforms = os.environ.get("JAX_PLATFORMS")
        named = f"JAX_PLATFORMS={platforms}: " if platforms else ""
        raise InputError(f"{named}JAX has no devices: {line(error)}") from error
    if asked and asked > found:
        raise InputError(f"--devices={asked} is not valid: there are {found}")
    return all_devices(asked)


def _join_hosts(values: flags.FlagValues) -> None:
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
    host, _, port = values.coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16):
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
