"""`advloss COMMAND ...`, and what `python -m experiments.COMMAND` starts.

Nothing that takes time is imported before `terminal.prepare`: a Ctrl-C in the seconds
that JAX takes to be imported ends the process in one line.
"""

import importlib
import os
import re
import sys
from collections.abc import Sequence

import advloss
from advloss.cli import terminal
from advloss.errors import line

# Each is the work of the module of its name; a sweep is a study of another config.
COMMANDS = {
    "train": "trains one network",
    "evaluate": "attacks a trained network and prints its accuracies",
    "diagnose": "checks whether a network's accuracy under attack can be trusted",
    "report": "writes tables and figures of one or more evaluated runs",
    "export": "writes a run's numbers and images as RobustBench and AttackBench do",
    "study": "trains, attacks and compares many networks",
    "sweep": "trains, attacks and compares every combination of some values",
    "quickstart": "trains, attacks and compares three small networks",
    "keys": "lists the keys of a config, their defaults and what is valid",
}


def main() -> None:
    """The console script."""
    here = _prepare()
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)  # Config files import each other from there.
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("--help", "-h", "help", "--version"):
        print(advloss.__version__ if command == "--version" else overview())
        end()
    if command not in COMMANDS:
        listed = ", ".join(COMMANDS)
        terminal.fail(f"{command!r} is not a command: use one of {listed}")
    run(command, ["advloss", command], arguments)


def _prepare() -> str:
    """The terminal, and the folder that the process is in."""
    terminal.prepare()
    try:
        return os.getcwd()
    except OSError as error:
        terminal.fail(
            f"the folder that this command was given in is gone ({error.strerror}): "
            "go to one that is there"
        )


def launch(command: str) -> None:
    """What a file in experiments/ starts: the command of that name."""
    _prepare()
    run(command, ["python", "-m", f"experiments.{command}"], sys.argv[1:])


def run(command: str, program: Sequence[str], arguments: Sequence[str]) -> None:
    """Runs a command to the end of the process; signals and streams are prepared."""
    name = "study" if command == "sweep" else command
    try:
        launcher = importlib.import_module("advloss.cli.launch")
        module = importlib.import_module(f"advloss.cli.{name}")
    except Exception as error:
        said = line(error)
        quoted = re.split("['\"]", said)[1::2]
        told = "".join(f", {k}={v}" for k, v in os.environ.items() if v in quoted)
        terminal.fail(f"a library can't be imported: {said}{told}")
    launcher.run(module, program, arguments)
    end()


def end() -> None:
    """Ends the process, with an error where its output was lost."""
    if reason := terminal.lost_output():
        terminal.say(f"error: standard output can't be written: {reason}")
        sys.exit(1)
    sys.exit()


def overview() -> str:
    """What there is to be run, in 80 columns."""
    lines = [f"    {name:<12}{text}" for name, text in COMMANDS.items()]
    return f"""advloss {advloss.__version__}: do losses make networks robust?

    advloss COMMAND --flag=value ...

{chr(10).join(lines)}

`advloss COMMAND --help` lists a command's flags, `advloss keys` the keys of a config,
which are set as --config.KEY=VALUE."""
