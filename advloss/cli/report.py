"""Writes tables and figures of one or more evaluated runs.

advloss report --runs=runs/softmax,runs/lmcl --workdir=runs/report
"""

from collections.abc import Sequence
from pathlib import Path

from advloss import report
from advloss.cli import flags

FLAGS = ("runs", "workdir", "overwrite")


def main(given: flags.Given) -> None:
    """Writes the report of --runs into --workdir.

    Raises:
        InputError: a run's path names no folder, or a run is given twice; or the folder
            holds a report of other runs.
        OSError: a file can't be written.
    """
    runs = flags.folders("runs", given.flags.runs)
    overwrite = given.flags.overwrite
    if not overwrite:
        report.check_runs(given.workdir, runs)
    sections = report.sections_of_runs(runs)
    print(
        report.write(
            _title(runs), sections, given.workdir, command=given.line,
            overwrite=overwrite,
        )
    )  # fmt: skip


def _title(runs: Sequence[Path]) -> str:
    """The runs with the folder that they lie in, which is often their study's."""
    places = [run.absolute() for run in runs]
    if len({place.parent for place in places}) == 1:
        names = ", ".join(place.name for place in places)
        return ": ".join(filter(None, [places[0].parent.name, names]))
    return ", ".join("/".join(place.parts[-2:]) for place in places)
