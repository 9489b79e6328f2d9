"""Writes a run as RobustBench and AttackBench keep theirs.

    advloss export --workdir=runs/lmcl --to=exported

A JSON file for each threat model, with the accuracies that were measured; and
for each attack its images, distances and hashes. With --best the terminal shows
how near each minimum-norm attack comes to the best distances that are known.
The config is the run's own; --config.data.dir=FOLDER says where its data are.
"""

from advloss import report
from advloss.cli import flags, idle
from advloss.config.trees import invalid
from advloss.errors import InputError

_ABOUT = (
    "dataset", "title", "architecture", "reported", "authors", "venue", "link",
    "additional_data",
)  # fmt: skip
FLAGS = ("workdir", "to", "best", *_ABOUT, "config")
SAVED_CONFIG = True


def main(given: flags.Given) -> None:
    """Writes the export of --workdir into --to. Raises as `report.export`."""
    values = vars(given.flags)
    about = report.About(
        **{key: values[key] for key in _ABOUT if values[key] is not None}
    )
    for key, said in given.keys.items():
        if not key.startswith("data."):
            valid = "keys of config.data alone: an export shows what was measured"
            raise invalid(key, said[-1], valid)
    best = given.flags.best.split(",") if given.flags.best is not None else ()
    if "" in best:
        raise InputError(f"--best={given.flags.best} is not valid: name files")
    folder, config = given.flags.to, given.resolved()
    idle.warn([config], given.keys)
    print(report.export(given.workdir, folder, about, best, config=config))
