"""Trains, attacks and compares every combination of some values.

    python -m experiments.sweep --config=configs/lmcl_sweep.py --workdir=runs/margins

An interrupted sweep goes on when the same command is given again; --report_only shows
what there is without training.
"""

import shlex
import sys
from pathlib import Path

from absl import flags

from advloss import report, study, variants
from advloss.errors import InputError
from experiments import launcher

CONFIG = launcher.define_config()
_REPORT_ONLY = flags.DEFINE_bool("report_only", False, "Train and attack nothing.")


def main() -> None:
    config, folder = launcher.loaded(CONFIG), Path(launcher.WORKDIR.value)
    if "sweep" not in config:
        raise InputError("--config is no sweep: use one such as configs/lmcl_sweep.py")
    text = config.sweep
    with config.unlocked():
        del config.sweep
    found = variants.expand(config, text)
    sizes = {size for v in found for size in launcher.batch_sizes(v.config)}
    devices = launcher.devices(*sizes)
    if not _REPORT_ONLY.value:
        study.run([variant.config for variant in found], folder, devices)
    command = shlex.join(["python", "-m", "experiments.sweep", *sys.argv[1:]])
    launcher.show(lambda: report.write_sweep(found, folder, command=command))


if __name__ == "__main__":
    launcher.run(main)
