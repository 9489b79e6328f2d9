"""Tables and pictures of one or more evaluated runs.

python -m experiments.report --runs=runs/softmax,runs/lmcl --workdir=runs/report
"""

from absl import flags

from advloss import report
from experiments import launcher

RUNS = flags.DEFINE_list("runs", None, "Work directories of the runs, in order.")


def main() -> None:
    print(report.write(RUNS.value, launcher.WORKDIR.value))


if __name__ == "__main__":
    launcher.run(main, required=("runs", "workdir"))
