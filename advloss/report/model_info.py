"""RobustBench's file of a run's network, from what was measured."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from advloss import networks
from advloss.attacks import ATTACKS, SUITES, for_classes
from advloss.config import titles
from advloss.errors import InputError
from advloss.evaluation import measured as one
from advloss.evaluation.exchange.robustbench import (
    THREATS,
    ModelInfo,
    radius_text,
)
from advloss.evaluation.measured import Measured
from advloss.evaluation.results import ThreatModel

if TYPE_CHECKING:
    from advloss.report.rows import Row

# By norm, those that RobustBench knows.
_SUITES = {"linf": "autoattack", "l2": "autoattack_l2"}
# What RobustBench calls the data of a source that holds no others.
_DATASETS = {"mnist_5k": "mnist"}


class About(NamedTuple):
    """What a work directory doesn't know; see `ModelInfo`.

    Attributes:
        dataset: None for what the source of the data says.
        title: of the paper; None for the run's name.
        architecture: None for the network's title.
        reported: in per cent; None for the lowest accuracy under one attack's last
            iterate.
        authors, venue, link, additional_data: as there.
    """

    dataset: str | None = None
    title: str | None = None
    architecture: str | None = None
    reported: float | None = None
    authors: str = ""
    venue: str = ""
    link: str = ""
    additional_data: bool = False


def dataset(config: ConfigDict, about: About) -> str:
    """RobustBench's name of the data. Raises InputError where nothing tells it."""
    source = config.data.source
    name = config.data.name if source == "tfds" else _DATASETS.get(source)
    if about.dataset or name:
        return about.dataset or name.partition("/")[0].partition(":")[0]
    raise InputError(
        f"--dataset is missing: config.data.source={source!r} doesn't say which data "
        "they are; use RobustBench's name, such as mnist or cifar10"
    )


def model_info(row: "Row", threat: ThreatModel, about: About) -> ModelInfo:
    """What RobustBench keeps of the network, in one threat model.

    `reported` is by default what the strongest attack of all images leaves, at its last
    iterate; where there is none, the strongest on survivors. `external` is the worst
    case of all attacks of that norm and radius, and
    `autoattack_acc` that of the suite `autoattack` alone, None where it was not
    measured whole, with its default settings.

    Args:
        row: of an evaluated run.
        threat: one of its threat models.
        about: what the run doesn't know.

    Raises:
        InputError: nothing tells which data they are.
    """
    inside = [a for a in row.summary.attacks if _is_in(a.measured, threat)]
    every = [each for each in inside if each.measured.whole] or inside
    reported = 100 * min(each.final.accuracy for each in every)
    name = row.config.model.name
    return ModelInfo(
        name=about.title or row.config.name,
        dataset=dataset(row.config, about),
        eps=threat.epsilon,
        clean_acc=100 * row.summary.natural.accuracy,
        reported=reported if about.reported is None else about.reported,
        autoattack_acc=_autoattack(row, threat),
        external=100 * threat.proportion.accuracy,
        architecture=about.architecture or networks.title(name),
        authors=about.authors,
        venue=about.venue,
        link=about.link,
        footnote=_footnote(row, threat),
        additional_data=about.additional_data,
    )


def missing(row: "Row", threat: ThreatModel) -> str:
    """A sentence on what RobustBench asks for and the run lacks; "" for nothing."""
    radius = f"{threat.norm} ε={radius_text(threat.epsilon)}"
    if threat.norm not in THREATS:
        return f"{radius}: RobustBench has no threat model of that norm, so no file."
    if _autoattack(row, threat) is not None:
        return ""
    return (
        f"{radius}: no autoattack_acc, since not the whole suite was measured with its "
        "default settings. This measures it:"
    )


def suite(
    threat: ThreatModel, classes: int
) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """AutoAttack's name in a threat model of RobustBench's, attacks with settings."""
    name = _SUITES[threat.norm]
    attacks = SUITES[name].attacks
    return name, [(each, _usual(each, threat, classes)) for each in attacks]


def _footnote(row: "Row", threat: ThreatModel) -> str:
    told = f"{row.config.data.source}, the first {row.images:,} test images"
    return (
        f"Measured by advloss on {told}, trained with {titles.loss_title(row.config)} "
        f"against {titles.defence_title(row.config)}. external: the worst, image by "
        f"image, of {', '.join(threat.attacks)}."
    )


def _is_in(measured: Measured, threat: ThreatModel) -> bool:
    return (measured.norm, measured.epsilon) == (threat.norm, threat.epsilon)


def _usual(name: str, threat: ThreatModel, classes: int) -> dict[str, Any]:
    """An attack's default settings, as results have them, at a radius.

    Of few classes, for which there is no DLR, those with the margin.
    """
    settings: Mapping[str, Any] = {
        key: setting.default for key, setting in ATTACKS[name].settings.items()
    }
    own = {**settings, **for_classes(settings, classes), "epsilon": threat.epsilon}
    return json.loads(json.dumps(own))


def _autoattack(row: "Row", threat: ThreatModel) -> float | None:
    """The accuracy under the suite, in per cent; None where it is not whole."""
    names = SUITES[_SUITES[threat.norm]].attacks
    classes = row.config.data.num_classes
    found = [
        each
        for each in row.measured
        if each.attack in names
        and each.settings == _usual(each.attack, threat, classes)
    ]
    # Survivors of other attacks than the suite's would be fewer than its own.
    whole = False
    while not whole:
        known = {one.digest(each.identity) for each in found}
        kept = [each for each in found if known.issuperset(_before(each))]
        whole, found = len(kept) == len(found), kept
    if {each.attack for each in found} != {*names}:
        return None
    return 100 * float(np.mean(np.all([m.worst_correct for m in found], axis=0)))


def _before(measured: Measured) -> Sequence[str]:
    return measured.identity.get("before", ())
