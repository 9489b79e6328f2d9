"""The flags there are: of each its default, what is valid, and a line of help."""

import re

from advloss.registry import Setting, Valid, boolean, number, text, whole

FLAGS = {
    "workdir": Setting(None, text(), "FOLDER of the run, the study or the report."),
    "runs": Setting(
        None, text(), "Work directories of the runs, in order: FOLDER,FOLDER."
    ),
    "to": Setting(None, text(), "FOLDER that is written; an export there is replaced."),
    "best": Setting(
        None,
        text(),
        "Best known distances, FILE,FILE: info.json of AttackBench, its compiled "
        "{hash: distance}, or images.npz of an export.",
    ),
    "dataset": Setting(
        None,
        Valid(
            str,
            lambda value: bool(re.fullmatch(r"[a-z0-9_-]{1,40}", value)),
            "1 to 40 of a-z, 0-9, _ and -, such as mnist",
        ),
        "RobustBench's name of the data, where the source doesn't say it.",
    ),
    "title": Setting(None, text(), "Of the paper; by default the run's name."),
    "architecture": Setting(None, text(), "By default the network's title."),
    "reported": Setting(
        None,
        number(0, 100),
        "The robust accuracy that is claimed, in %: by default the lowest under the "
        "last iterate of one attack on all images.",
    ),
    "authors": Setting(None, text(), "Of the paper."),
    "venue": Setting(None, text(), "Of the paper, such as ICLR 2020."),
    "link": Setting(None, text(), "To the paper."),
    "additional_data": Setting(
        None, boolean(), "It was trained on more than the data set's images."
    ),
    "surrogates": Setting(
        None,
        text(),
        "Work directories of other runs, whose attacked images are shown to this one: "
        "FOLDER,FOLDER.",
    ),
    "overwrite": Setting(
        False, boolean(), "Replace a report of other runs that is in the folder."
    ),
    "report_only": Setting(False, boolean(), "Train and attack nothing."),
    "config": Setting(
        None,
        text(),
        "FILE.py, or FILE.py:ARGUMENT: a Python file whose get_config([ARGUMENT]) "
        "returns the config, such as configs/default.py.",
    ),
    "devices": Setting(
        None,
        whole(1, 1024),  # Virtual ones take memory; more are a slip of the hand.
        "How many devices of this machine share each batch: by default all GPUs or "
        "TPUs; on a CPU, virtual devices, one a core, as far as they divide the "
        "batches.",
    ),
    "distributed": Setting(
        False,
        boolean(),
        "One of several processes, as SLURM, Open MPI, Kubernetes or a TPU pod "
        "started them: each batch is shared by the devices of all.",
    ),
    "coordinator": Setting(
        None, text(), "HOST:PORT of process 0, where no such cluster tells it."
    ),
    "process_count": Setting(None, whole(1), "How many processes, with --coordinator."),
    "process_index": Setting(None, whole(), "Which of them this is, from 0."),
}
