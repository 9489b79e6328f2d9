"""The front door, for those who have a network and arrays.

result = advloss.evaluate(classifier, images, labels, epsilon=0.3)
diagnosis = advloss.diagnose(classifier, images, labels, epsilon=0.3)
trained = advloss.fit(module, images, labels, defence="trades", epsilon=0.3)
trained.classifier(images)      # -> logits
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss import config as configs
from advloss.attacks import ATTACKS, checks
from advloss.attacks.fingerprint import look_at_objective
from advloss.config import build, idle
from advloss.data import augment
from advloss.defences import DEFENCES
from advloss.errors import InputError, shown
from advloss.evaluation.arguments import check_devices
from advloss.evaluation.diagnosis import Diagnosis, diagnose
from advloss.evaluation.front import Result, evaluate
from advloss.evaluation.loaded import load
from advloss.networks import Network
from advloss.runtime import environment
from advloss.training import guards, preflight, stack, step, teacher, validation
from advloss.training.trained import Trained, network_of, trained
from advloss.types import Dataset, PyTree, Split, TrainState

__all__ = ["Diagnosis", "Result", "Trained", "diagnose", "evaluate", "fit", "load"]

_ENOUGH = 1_000  # Of fewer images none are held out unless it is asked for.


@jax.disable_jit(False)  # Whatever holds outside: its programs are compiled.
def fit(
    module: Any,
    images: Any,
    labels: Any,
    *,
    defence: str = "adversarial",
    loss: str = "softmax_cross_entropy",
    attack: str = "pgd",
    epsilon: float = 0.3,
    steps: int = 600,
    batch_size: int = 50,
    learning_rate: float = 1e-3,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    frozen: PyTree = None,
    progress: bool = True,
    devices: Sequence[jax.Device] | None = None,
) -> Trained:
    """Trains a network with a defence.

    Args:
        module: a flax module, images -> logits; or the name of a network of the
            library, such as "table1", or of one's own, PACKAGE.MODULE:NAME. A loss with
            a cosine head asks a module of one's own for cosines.
        images: `[n, height, width, channels]` float in [0, 1]. Of 1,000 or more, 100
            are held out where the attack is a single step: a training that loses its
            robustness is warned of (`train.validation`).
        labels: `[n]` int, from 0.
        defence: a name in `defences.DEFENCES`.
        loss: a name in `losses.LOSSES`.
        attack: what the defence attacks with, a fixed-epsilon attack's name.
        epsilon: its radius, in units of pixel value; a step is half as long unless
            `config` says otherwise.
        steps: updates in all.
        batch_size: images in each, over all devices together.
        learning_rate: at the start; it falls along a cosine.
        seed: of initialisation, order of examples and random starts.
        config: any other keys with their values, such as {"loss.margin": 0.2,
            "train.optimiser": "sgd"}; they win over the arguments above.
        frozen: what the defence reads and never changes, such as a teacher's variables.
        progress: whether a bar is shown on standard error.
        devices: they share every batch; by default as many as divide it.

    Returns:
        The trained network.

    Raises:
        InputError: an argument or a key is not valid; the message names it.
        DivergedError: the loss is no longer finite.
    """
    checks.check_outside("fit", images, labels)
    if not isinstance(config, Mapping | None):
        raise InputError(
            f"config={shown(config)} is not valid: use a dict of keys with values, "
            'such as {"loss.margin": 0.2}'
        )
    images = checks.check_images(images)
    config = {key: checks.plain(value) for key, value in (config or {}).items()}
    _check_heeded(module, config)
    split = Split(images, checks.check_labels(labels, len(images)))
    keys = {
        "name": "fit",
        "seed": seed,
        "loss.name": loss,
        "defence.name": defence,
        "defence.attack": attack,
        "data.num_classes": max(2, int(split.labels.max()) + 1),
        "train.steps": steps,
        "train.batch_size": batch_size,
        "train.learning_rate": learning_rate,
        "train.chunk_steps": min(50, steps) if type(steps) is int else steps,
        "train.checkpoint_every": min(50, steps) if type(steps) is int else steps,
        **({} if len(images) >= _ENOUGH else {"train.validation.examples": 0}),
        **_radius(
            config.get("defence.name", defence),
            config.get("defence.attack", attack),
            # Of the radius that holds, a step is half as long.
            checks.plain(config.get("train.attack.epsilon", epsilon)),
        ),
        **({"model.name": module} if isinstance(module, str) else {}),
        **config,
    }
    settings = _config({key: checks.plain(value) for key, value in keys.items()})
    _check_idle(settings, config)
    if (most := int(split.labels.max())) >= settings.data.num_classes:
        raise InputError(
            f"config.data.num_classes={settings.data.num_classes} is not valid: use at "
            f"least {most + 1}, as labels go up to {most}"
        )
    look_at_objective(build.objective(settings), 2, settings.data.num_classes)
    augment.check(settings.train.augment, images.shape[1:])
    network, name = network_of(module, settings)
    chosen = jax.local_devices() if devices is None else check_devices(devices)
    chosen = _dividing(chosen, settings.train.batch_size)
    dataset = Dataset(split, split, settings.data.num_classes)
    if isinstance(module, str):
        preflight.check_images(dataset, settings, network)
    else:
        preflight.check_module(network, split, settings.data.num_classes)
    shape = split.images.shape[1:]
    teacher.check_frozen(frozen, settings, network, shape)
    own = not isinstance(module, str)
    with jax.numpy_dtype_promotion("standard"):  # Whatever holds outside.
        found = _train(network, dataset, settings, own, frozen, progress, chosen)
    state, metrics = found
    variables = validation.evaluated(state._asdict(), settings.train)
    facts = {"data": f"{len(split.labels):,} images that were given to advloss.fit"}
    return trained(network, variables, settings, metrics, name, shape, facts)


def _train(
    network: Network,
    dataset: Dataset,
    settings: ConfigDict,
    own: bool,
    frozen: PyTree,
    progress: bool,
    devices: Sequence[jax.Device],
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """The state after the last step, and the metrics of every step."""
    split, loss = dataset.train, settings.loss.name
    state = step.init(settings, network, split)
    if own:
        preflight.check_logits(network, state.variables, split, loss)
    where = stack.layout(1, settings.train.batch_size, devices)
    chunks = stack.run(
        [settings], network, dataset, [state], where=where, frozen=[frozen]
    )
    done, rows, broke = 0, [], False
    with environment.progress_bar(
        f"{settings.defence.name}", settings.train.steps, "step", shown=progress
    ) as bar:
        for fetch, (metrics,) in chunks:
            guards.check_finite(metrics, done, settings)
            done += len(metrics["loss"])
            rows.append(metrics)
            bar.update(len(metrics["loss"]))
            broke = broke or guards.warn_of_loss(metrics, done, settings)
            ends = validation.ends_early(metrics, settings)
            if ends or done == settings.train.steps:
                (state,) = fetch()
                break
    guards.check_state(state, settings)
    if own:
        preflight.check_logits(network, state.variables, split, loss)
    return state, _joined(rows)


def _joined(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The metrics of all chunks; validations are fewer than steps."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {k: np.concatenate([row[k] for row in rows if k in row]) for k in keys}


def _check_heeded(module: Any, config: Mapping[str, Any]) -> None:
    """Raises InputError for a key that says nothing of this training."""
    for key in map(str, config):
        if key == "model.name" or (
            key.startswith("model.") and not isinstance(module, str)
        ):
            raise InputError(
                f"config.{key}={shown(config[key])} is not valid: the network is the "
                "module that is given"
            )
        if key.startswith("data.") and key != "data.num_classes":
            raise InputError(
                f"config.{key}={shown(config[key])} is not valid: the data are the "
                "images and labels that are given"
            )
        if key.startswith("evaluate."):
            raise InputError(
                f"config.{key}={shown(config[key])} is not valid: fit attacks no test "
                "images; give it to advloss.evaluate"
            )


def _check_idle(settings: ConfigDict, config: Mapping[str, Any]) -> None:
    """Raises InputError for a key that changes nothing beside the others."""
    for key in config:
        if why := idle.reason(settings, key):
            raise InputError(
                f"config.{key}={shown(config[key])} changes nothing: {why}; leave it "
                "out"
            )


def _radius(defence: str, attack: str, epsilon: float) -> dict[str, Any]:
    """The keys of the training attack's radius, where it has one."""
    names = isinstance(defence, str) and isinstance(attack, str)
    known = names and defence in DEFENCES and attack in ATTACKS
    if not (known and DEFENCES[defence].attacks):
        return {}
    found = {"epsilon": epsilon}
    if isinstance(epsilon, int | float) and not isinstance(epsilon, bool):
        found["step_size"] = epsilon / 2
    settings = ATTACKS[attack].settings
    return {f"train.attack.{k}": v for k, v in found.items() if k in settings}


def _config(values: Mapping[str, Any]) -> ConfigDict:
    config = configs.default()
    known = dict(configs.flatten(config))
    for key, value in values.items():
        if key not in known:
            raise configs.unknown_key(str(key), value, known)
        configs.put(config, key, value)
    return configs.resolve(config)


def _dividing(devices: Sequence[jax.Device], size: int) -> Sequence[jax.Device]:
    count = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    return devices[:count]
