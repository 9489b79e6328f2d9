"""A trained network, wherever it is: in a folder, in the package, on the hub.

trained = load("runs/trades")           # what Trained.save wrote, or a run
trained = load("mnist-softmax")         # of the package
trained = load("hf://owner/name")
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from advloss import config as configs
from advloss.config import titles
from advloss.data import SOURCES
from advloss.errors import InputError, shown
from advloss.evaluation import results
from advloss.evaluation.statistics import Proportion
from advloss.runtime import files, hub
from advloss.training import changed, trained, workdir
from advloss.training.trained import Trained

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def load(folder: str | Path, module: Any = None) -> Trained:
    """A trained network: one that was saved, a run's, the package's, or the hub's.

    Args:
        folder: that `Trained.save` wrote, or a run's work directory; or the name of a
            network that comes with the package; or "hf://owner/name", of a repository
            on the Hugging Face Hub, at a branch, a tag or a commit where it ends in
            "@revision".
        module: the flax module, of one's own; not needed for the library's networks.

    Returns:
        The network. Of a run its newest checkpoint, with its accuracies as `facts`; its
        data are read, for the shape of an image.

    Raises:
        InputError: nothing or something else is there, it is damaged, or the module is
            missing; or the data of a run are not where its config says.
    """
    place = _place(folder)
    foreign = isinstance(folder, str) and folder.startswith(hub.PREFIX)
    saved = (place / configs.NETWORK).exists() or not (place / configs.CONFIG).exists()
    if saved or foreign:
        return trained.load(place, module, imports=not foreign)
    return _of_run(place, module)


def _place(folder: str | Path) -> Path:
    """Where it lies. Raises InputError where a name is of two things or of nothing."""
    if isinstance(folder, str) and folder.startswith(hub.PREFIX):
        return hub.fetch(folder, trained.FILES)
    place = files.as_path("folder", folder)
    packaged = sorted(path.name for path in PRETRAINED.glob("*") if path.is_dir())
    is_name = folder == place.name
    if not place.exists() and not (is_name and folder in packaged):
        listed = ", ".join(packaged) or "there are none"
        raise InputError(
            f"{place} is not there: name a folder, hf://owner/name, or a network of "
            f"the package ({listed})"
        )
    if place.exists() and is_name and folder in packaged:
        raise InputError(
            f"{place} is a folder, and a network of the package: use ./{place} for the "
            "folder, and another working directory for the network"
        )
    return place if place.exists() else PRETRAINED / place


def _of_run(folder: Path, module: Any) -> Trained:
    run = workdir.load_run(folder)
    name = run.config.model.name
    if module not in (None, name):
        raise InputError(
            f"module={shown(module)} is not valid: leave it out, {folder} is a run of "
            f"the network {name}"
        )
    shape = workdir.load_data(run.config).train.images.shape[1:]
    network = changed.network(run.config, shape, run.variables)
    changed.warn(folder / workdir.ENVIRONMENT, {changed.NETWORK: network})
    facts = {
        "data": _data(run.config),
        "updates": f"{run.step:,}" if run.finished else f"{run.step:,}, not finished",
        **_made_with(folder),
        **_accuracies(folder),
    }
    return trained.trained(
        run.network, run.variables, run.config, {}, name, shape, facts
    )


def _data(config: ConfigDict) -> str:
    """The source, and which of its data; where they lie says nothing of them."""
    source = config.data.source
    named = source in SOURCES and "name" in SOURCES[source].settings
    return f"{source} {config.data.name}" if named else source


def _made_with(folder: Path) -> dict[str, str]:
    """The commit of the code that trained it, where that is known."""
    noted = files.read_json(folder / workdir.ENVIRONMENT) or {}
    revision = noted.get("revision")
    return {"commit": str(revision)} if revision else {}


def _accuracies(folder: Path) -> dict[str, str]:
    """What a run's results say, at the last iterate and in the worst case."""
    measured = results.chosen(results.load(folder))
    if not measured:
        return {}
    summary = results.summarise(measured)
    named = titles.attack_titles(each.attack for each in summary.attacks)
    found = {"natural accuracy": summary.natural}
    for each, (attack, title) in zip(summary.attacks, named, strict=True):
        if not attack.suite:
            found[title] = each.final
    suites = titles.suite_titles(summary.suites)
    for suite, (_, title) in zip(summary.suites, suites, strict=True):
        found[title] = suite.proportion
    for threat in summary.worst:
        found[titles.worst_title(threat.norm, threat.epsilon)] = threat.proportion
    count = f"{len(measured[0].labels):,} test images"
    return {key: f"{_percent(value)} of {count}" for key, value in found.items()}


def _percent(share: Proportion) -> str:
    middle, low, high = (100 * value for value in share)
    return f"{middle:.1f} % [{low:.1f}, {high:.1f}]"
