"""Writes tables and figures of one or more evaluated runs.

advloss report --runs=runs/softmax,runs/lmcl --workdir=runs/report
"""

from pathlib import Path

from advloss import report
from advloss.cli import flags
from advloss.errors import InputError
from advloss.runtime.files import check_folder

FLAGS = ("runs", "workdir")


def main(given: flags.Given) -> None:
    """Writes the report of --runs into --workdir.

    Raises:
        InputError: a run's path names no folder, or a run is given twice.
        OSError: a file can't be written.
    """
    runs = [check_folder("--runs", run) for run in given.flags.runs.split(",")]
    earlier: dict[Path, Path] = {}
    for run in runs:
        other = earlier.setdefault(run.resolve(), run)
        if other is not run:
            raise InputError(
                f"--runs={run} is not valid: {other} is the same run; name each once"
            )
    title = ", ".join(run.absolute().name for run in runs)
    sections = report.sections_of_runs(runs)
    print(report.write(title, sections, given.workdir, command=given.line))
