"""Trains, attacks and compares many networks: those of a study, or of a sweep.

    advloss study --config=configs/paper.py:short --workdir=runs/short
    advloss sweep --config=configs/lmcl_sweep.py --workdir=runs/margins

An interrupted one goes on when the same command is given again; --report_only
shows what there is without training. Studies in one folder share networks.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from advloss import report
from advloss.cli import flags, idle, members
from advloss.config.schema import run_name
from advloss.config.titles import value_text
from advloss.config.trees import flatten
from advloss.errors import DivergedError, Stopped
from advloss.evaluation.look import write_changes
from advloss.evaluation.run import evaluate_run
from advloss.runtime import checkpoints, files, signals
from advloss.runtime.devices import share
from advloss.training import stack
from advloss.training import workdir as folders
from advloss.training.run import named_teacher, train_runs

FLAGS = ("config", "workdir", "report_only", "overwrite", *flags.DEVICES)
RESUMES = True


def main(given: flags.Given) -> None:
    """Runs the study or the sweep of --config in --workdir, and writes its report.

    Raises:
        InputError: the config is neither, or a key is not valid; else as `run`.
        DivergedError: a run's loss is no longer finite; the others are in the report.
    """
    config = given.config
    if members.is_sweep(config):
        variants = members.variants(config)
        runs = [variant.config for variant in variants]
        own = [*variants[0].values]
    else:
        runs = members.networks(config, tuple(report.PARTS))
        own = members.own_keys(config)
    idle.warn_of_replaced(given.keys, own)
    idle.warn(runs, [*given.keys, *own])
    idle.warn_in_evaluation(runs, [*given.keys, *own])
    files.check_folder("--workdir", given.workdir / "report")  # Not after hours.
    workdirs = [workdir_of(run, given.workdir) for run in runs]
    if not given.flags.overwrite:
        report.check_runs(given.workdir / "report", workdirs)
    devices = flags.devices(given, *(s for c in runs for s in flags.batch_sizes(c)))
    diverged = []
    if not given.flags.report_only:
        diverged = run(runs, given.workdir, devices)

    def write() -> str:
        if members.is_sweep(config):
            name = config.name or run_name(config.loss.name, config.defence.name)
            title, notes = f"{name}: {config.sweep}", []
            values = (variant.values for variant in variants)
            pairs = list(zip(values, workdirs, strict=True))
            own = report.sections_of_sweep(pairs, runs)
        else:
            title = f"{given.flags.config}: {', '.join(config.parts)}"
            notes = [_budget(config.budget, given)]
            own = report.sections_of_paper(config.parts, workdirs, runs)
        return report.write(
            title,
            [*own, *report.sections_of_runs(workdirs, runs, appendix=True)],
            given.workdir / "report",
            notes=notes,
            command=given.line,
            overwrite=given.flags.overwrite,
        )

    flags.show(write)
    if diverged:
        raise diverged[0]


def _budget(said: str, given: flags.Given) -> str:
    """The study's word for it, and what the command line made of it."""
    others = [key for key in given.keys if not key.startswith(("data.", "seeds"))]
    values = dict(flatten(given.config))
    changed = ", ".join(f"{key}={value_text(values[key])}" for key in others)
    return f"{said}; changed by the command: {changed}" if changed else said


def workdir_of(config: ConfigDict, folder: str | Path) -> Path:
    """Where a run of the study is kept."""
    return Path(folder) / f"{config.name}-seed{config.seed}"


def run(
    runs: Sequence[ConfigDict], folder: str | Path, devices: Sequence[jax.Device]
) -> list[DivergedError]:
    """Trains, attacks and looks into every run that is not finished.

    Runs of one program are trained together, see `stack.plan`. Those whose loss is no
    longer finite hold up no other: what is to be said of them is returned.

    Raises:
        InputError: the devices don't divide a batch, or a run's folder or data can't be
            used; nothing was trained then.
        InputError: as `train_runs` and `evaluate_run`.
        Stopped: the process was asked to end; all is saved.
    """
    stacks = stack.plan(runs, devices)
    for together in stacks:  # Now, rather than after hours.
        if len(together) == 1:
            share("train.batch_size", together[0].train.batch_size, devices)
        for config in together:
            share("evaluate.batch_size", config.evaluate.batch_size, devices)
            workdir = files.check_folder("--workdir", workdir_of(config, folder))
            folders.check_owner(workdir, config)
    _check_data(stacks, folder)
    diverged = []
    for together in stacks:
        workdirs = [workdir_of(config, folder) for config in together]
        try:
            train_runs(together, workdirs, devices)
        except DivergedError as error:
            diverged.append(error)
        for config, workdir in zip(together, workdirs, strict=True):
            if signals.requested():
                raise Stopped("stopped between two networks")
            if config.train.steps not in checkpoints.steps(workdir):
                continue
            measured = evaluate_run(config, workdir, devices)
            write_changes(config, workdir, measured, devices)
    return diverged


def _check_data(stacks: Sequence[Sequence[ConfigDict]], folder: str | Path) -> None:
    """Data of several sources, and teachers that are named, must be there.

    A teacher may be one of the networks that are trained before its student.
    """
    sources = {str(config.data): config for together in stacks for config in together}
    before: set[Path] = set()
    needed: dict[tuple[str, ...], ConfigDict] = {}
    for together in stacks:
        for config in together:
            named = config.defence.teacher
            if named and Path(named).resolve() not in before:
                needed[named, str(config.model), str(config.data)] = config
        before |= {workdir_of(config, folder).resolve() for config in together}
    if len(sources) == 1 and not needed:
        return
    for key, config in sources.items():
        dataset = folders.load_data(config)
        for student in needed.values():
            if str(student.data) == key:
                named_teacher(student, dataset)
