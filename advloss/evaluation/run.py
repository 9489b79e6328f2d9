"""The evaluation of a trained run, in its work directory.

    for measured in evaluate_run(config, workdir, devices):
        print(measured.attack, measured.worst_correct.mean())

Nothing is measured twice: an attack with a finished result is not repeated, nor is a
batch of one that was interrupted. So a suite can be stopped, continued and added to.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss.attacks import ATTACKS, fingerprint
from advloss.config import build
from advloss.errors import InputError, Stopped
from advloss.evaluation import examples, measured
from advloss.evaluation.asked import attacks_of, called, settings_of
from advloss.evaluation.batches import Finished
from advloss.evaluation.measured import Measured
from advloss.evaluation.outcome import Outcome
from advloss.evaluation.programs import Adversary, Target
from advloss.runtime import devices as runtime_devices
from advloss.runtime import environment, files, hosts, lock, signals
from advloss.training import changed
from advloss.training import workdir as workdirs
from advloss.types import Split


def evaluate_run(
    config: ConfigDict, workdir: str | Path, devices: Sequence[jax.Device]
) -> list[Measured]:
    """Attacks a trained network with every attack of `evaluate.attacks`.

    The attacks of a suite with one number are each shown those that the ones before
    them in the suite have left; so are all attacks with `evaluate.survivors_only`.
    Other results in the work directory stay as they are.

    Returns:
        The results of exactly these attacks, in their order.

    Raises:
        InputError: no finished run there, or of another config or other data, or in
            use; its logits are not finite; the devices do not divide
            `evaluate.batch_size`.
        Stopped: the process was asked to end, see `runtime.signals`.
        OSError: a result can't be written.
    """
    runtime_devices.share("evaluate.batch_size", config.evaluate.batch_size, devices)
    workdir = Path(workdir)
    run, dataset = workdirs.load_run(workdir, config), workdirs.load_data(config)
    if not run.finished:
        raise InputError(
            f"--workdir={workdir} is trained for {run.step} of {config.train.steps} "
            "steps: finish it with `advloss train` first"
        )
    workdirs.check_data(config, workdir, workdirs.digests(dataset))
    test = examples.first(dataset.test, config.evaluate.examples)
    identity = _identity(config, run, test)
    target = Target(build.classifier_of(config), run.variables)
    network = identity.get(changed.NETWORK, "")
    changed.warn(workdir / workdirs.ENVIRONMENT, {changed.NETWORK: network})
    if network:
        batch_size = config.evaluate.batch_size
        examples.check_alone(
            target, test.images, batch_size=batch_size, devices=devices
        )
    with lock.hold(workdir) as check:
        made: list[Measured] = []
        for name, within in attacks_of(config):
            own = _own_identity(config, name, within, identity, test, made)
            path = measured.path_of(workdir, own)
            if hosts.from_first(_is_measured(path, test)):
                _tell(f"{config.name}: {called(name, within)} was measured before")
                if own.keys() & {"program", changed.NETWORK}:
                    measured.renew(path)
            else:
                survivors = _survivors(own, made, test)
                done = _finished(config, path, own, devices, check)
                outcome = _attack(config, own, target, test, survivors, devices, done)
                check()
                measured.write(
                    path,
                    own,
                    outcome,
                    test,
                    environment=environment.environment(devices),
                    finished=time.time(),
                )
                hosts.wait_for_all()
                done.clear()
            made.append(measured.read(path))
    return made


def _identity(config: ConfigDict, run: workdirs.Run, test: Split) -> dict[str, Any]:
    """What all attacks' numbers depend on, beside the attacks.

    Raises InputError where a host sees something else than the first.
    """
    identity = {
        "step": run.step,
        "parameters": files.digest(run.variables),
        "data": files.digest(tuple(test)),
        "examples": len(test.labels),
        "seed": config.evaluate.seed,
        "survivors_only": config.evaluate.survivors_only,
    }
    shape = test.images.shape[1:]
    if network := changed.network(config, shape, run.variables):
        identity[changed.NETWORK] = network
    if (first := hosts.from_first(identity)) != identity:
        key = next(key for key in identity if identity[key] != first[key])
        raise InputError(
            f"{key}: {identity[key]} here, {first[key]} for the first process: all "
            "must see the same --workdir and data"
        )
    return identity


def _own_identity(
    config: ConfigDict,
    name: str,
    within: str | None,
    shared: dict[str, Any],
    test: Split,
    made: Sequence[Measured],
) -> dict[str, Any]:
    """The identity of one attack's result, after those that were made before it."""
    settings = settings_of(config, name)
    own = {**shared, "attack": name, "settings": settings}
    if program := build.own_attack(config, name, test.images.shape[1:]):
        own["program"] = fingerprint.short(program)
    if within:
        own["suite"] = within
    if within or config.evaluate.survivors_only:
        own["before"] = [
            measured.digest(each.identity)
            for each in made
            if each.identity.get("suite") == within
            and (each.norm, each.epsilon) == (ATTACKS[name].norm, settings["epsilon"])
        ]
    return own


def _is_measured(path: Path, test: Split) -> bool:
    """Whether there is a whole result; warns where there is a damaged one."""
    if not hosts.is_first() or not path.exists():
        return False
    try:
        if np.array_equal(measured.read(path).labels, test.labels):
            return True
        raise InputError(f"{path} is damaged: its labels are not those of the data")
    except InputError as error:
        warnings.warn(f"measured again: {error}", stacklevel=2)
        return False


def _survivors(
    identity: dict[str, Any], made: Sequence[Measured], test: Split
) -> np.ndarray | None:
    """Whom the attacks before this one have left; None where all are attacked."""
    if "before" not in identity:
        return None
    left = np.ones(len(test.labels), bool)
    for each in made:
        if measured.digest(each.identity) in identity["before"]:
            left &= each.worst_correct
    return left


def _finished(
    config: ConfigDict,
    path: Path,
    identity: dict[str, Any],
    devices: Sequence[jax.Device],
    check: Callable[[], None],
) -> Finished:
    depends = {
        **identity,
        "batch_size": config.evaluate.batch_size,
        "environment": environment.environment(devices),
        "code": environment.code_digest(),
    }
    return Finished(path.parent, path.stem, depends, check)


def _attack(
    config: ConfigDict,
    identity: dict[str, Any],
    target: Target,
    test: Split,
    survivors: np.ndarray | None,
    devices: Sequence[jax.Device],
    finished: Finished,
) -> Outcome:
    name = identity["attack"]
    text = f"{config.name}: {called(name, identity.get('suite'))}"
    with environment.progress_bar(text, len(test.labels), "img") as bar:

        def progress(count: int) -> None:
            bar.update(count)
            if signals.requested():
                raise Stopped(f"stopped in {name}; what is finished is saved")

        settings = config.evaluate[name].to_dict()
        function = build.evaluation_attack(config, name, test.images.shape[1:])
        return examples.attack(
            target,
            Adversary(function, ATTACKS[name], settings),
            test,
            seed=config.evaluate.seed,
            batch_size=config.evaluate.batch_size,
            devices=devices,
            survivors=survivors,
            progress=progress,
            finished=finished,
        )


def _tell(line: str) -> None:
    if hosts.is_first():
        print(line, file=environment.Unbreakable())
