"""The paper's tables and figures: trains, attacks and shows what is missing.

    python -m experiments.study --config=configs/paper.py:short --workdir=runs/short

An interrupted study goes on when the same command is given again; --report_only shows
what there is without training.
"""

import shlex
import sys
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from advloss import config as configs
from advloss import report, study
from advloss.errors import InputError
from configs import paper
from experiments import launcher

CONFIG = launcher.define_config()
_REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Train and attack nothing.")


def networks(config: ConfigDict) -> list[ConfigDict]:
    """A resolved config for every network and seed of a study.

    Raises:
        InputError: a key is not valid, or the config is no study.
    """
    if not {"budget", "seeds", "parts"} <= set(config.keys()):
        raise InputError("--config is no study: use configs/paper.py or a part of it")
    if config.seeds < 1:
        raise InputError(f"config.seeds={config.seeds} is not valid: use at least 1")
    for part in config.parts:
        if part not in paper.PARTS:
            raise InputError(
                f"config.parts={config.parts!r} is not valid: use some of "
                f"{', '.join(paper.PARTS)}"
            )
    usual = dict(configs.flatten(paper.study((), config.budget)))
    changed = {k: v for k, v in configs.flatten(config) if v != usual[k]}
    for key in ("budget", "seeds", "parts"):
        changed.pop(key, None)
    names = [
        n for n in paper.NETWORKS if any(n in paper.PARTS[p] for p in config.parts)
    ]
    found = []
    # Seed by seed: after the first round every table has all its rows.
    for seed in range(config.seeds):
        for name in names:
            network = paper.network(name, config.budget)
            network.update_from_flattened_dict({**changed, "seed": seed})
            found.append(configs.resolve(network))
    return found


def main() -> None:
    config, folder = launcher.loaded(CONFIG), Path(launcher.WORKDIR.value)
    runs = networks(config)
    sizes = {size for run in runs for size in launcher.batch_sizes(run)}
    devices = launcher.devices(*sizes)
    if not _REPORT_ONLY.value:
        study.run(runs, folder, devices)
    launcher.show(
        lambda: report.write_study(
            config.parts,
            [study.workdir_of(run, folder) for run in runs],
            folder / "report",
            budget=config.budget,
            command=shlex.join(["python", "-m", "experiments.study", *sys.argv[1:]]),
        )
    )


if __name__ == "__main__":
    launcher.run(main)
