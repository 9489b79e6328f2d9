"""Writes tables and figures of one or more evaluated runs.

advloss report --runs=runs/softmax,runs/lmcl --workdir=runs/report
"""

from advloss import report
from advloss.cli import flags

FLAGS = ("runs", "workdir")


def main(given: flags.Given) -> None:
    """Writes the report of --runs into --workdir.

    Raises:
        InputError: a run's path names no folder, or a run is given twice.
        OSError: a file can't be written.
    """
    runs = flags.folders("runs", given.flags.runs)
    title = ", ".join(run.absolute().name for run in runs)
    sections = report.sections_of_runs(runs)
    print(report.write(title, sections, given.workdir, command=given.line))
