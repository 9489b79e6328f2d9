"""What a report says of a run: its row, and the columns that rows share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from advloss import results, runs
from advloss.errors import InputError
from advloss.losses import LOSSES

_TITLES = {
    "pgd": "PGD",
    "pgd_l2": "PGD l2",
    "fgs": "FGS",
    "multi_targeted": "PGD, each target",
    "carlini_l2": "CW l2",
    "carlini_linf": "CW linf",
    "carlini_l0": "CW l0",
}
# Settings that belong to a title unless they have these values.
_USUAL = {"objective": "training", "objective_scale": 1.0, "restarts": 1, "draws": 1}
_SHORT = {"step_size": "step", "objective_scale": "scale"}


class Row(NamedTuple):
    """One run in a table.

    Attributes:
        workdir: where it is.
        name: what its config calls it, or its folder's name where there is no config.
        config: None where it could not be read.
        environment: versions and devices of its training, {} where unknown.
        results: what `results.evaluate_run` wrote, or None.
        status: "" for a finished run, or what is missing.
    """

    workdir: Path
    name: str
    config: ConfigDict | None
    environment: dict
    results: dict | None
    status: str


class Column(NamedTuple):
    """An accuracy that rows may have.

    Attributes:
        title: its name, with the settings that matter.
        path: where it stands in a row's results.
        settings: of the attack that it belongs to, or None.
    """

    title: str
    path: tuple[str, ...]
    settings: Mapping[str, Any] | None = None

    def of(self, row: Row) -> dict | None:
        """The row's accuracy with its interval, or None where it was not measured."""
        cell = row.results
        for part in self.path:
            if part == "final" and cell and cell["settings"] != self.settings:
                return None
            cell = (cell or {}).get(part)
        return cell


def load_row(workdir: str | Path) -> Row:
    """A run's row, also where the run is missing, unfinished or damaged."""
    workdir = Path(workdir)
    try:
        config = runs.load_config(workdir)
    except InputError:
        status = "no such run"
        if workdir.exists():
            known = (workdir / "config.json").exists()
            status = "damaged: config.json" if known else "the folder holds no run"
        return Row(workdir, workdir.name, None, {}, None, status)
    try:
        environment = runs.load_environment(workdir) or {}
    except InputError:
        environment = {"damaged": "environment.json"}
    try:
        measured = results.load_results(workdir)
        if measured:
            results.measured_config(config, measured)  # To be shown as a command.
        status = "" if measured else "not evaluated yet"
    except InputError:
        measured, status = None, "damaged: evaluation.json"
    return Row(workdir, config.name, config, environment, measured, status)


def describe_loss(config: ConfigDict) -> str:
    """The loss with its hyperparameters, such as "lmcl (s=10, m=0.3)"."""
    symbols = {"scale": "s", "margin": "m"}
    settings = ", ".join(
        f"{symbols.get(key, key)}={config.loss[key]:g}"
        for key in sorted(LOSSES[config.loss.name].defaults, reverse=True)
    )
    name = config.loss.name.replace("softmax_cross_entropy", "softmax")
    return f"{name} ({settings})" if settings else name


def describe_attack(
    name: str, settings: Mapping[str, Any], extra: Sequence[str] = ()
) -> str:
    """An attack with the settings that matter most, such as "PGD-100 ε=0.3".

    Args:
        name: its key in the registry.
        settings: of the attack.
        extra: further settings to be named.
    """
    title = _TITLES.get(name, name)
    if "steps" in settings:
        title += f"-{settings['steps']}"
    words = [title, f"ε={settings['epsilon']:g}"]
    for key, usual in _USUAL.items():
        if settings.get(key, usual) != usual:
            words.append(f"{_SHORT.get(key, key)}={settings[key]}")
    words += [f"{_SHORT.get(key, key)}={settings[key]}" for key in extra]
    return " ".join(words)


def describe_adversary(config: ConfigDict) -> str:
    """What a network was trained against, such as "PGD-40 ε=0.3", or "nothing"."""
    attack = config.train.attack
    return "nothing" if attack.name == "none" else describe_attack(attack.name, attack)


def attack_columns(rows: Sequence[Row]) -> list[Column]:
    """A column for each attack and each of its settings that any row has."""
    found: list[tuple[str, dict]] = []
    for row in rows:
        for name, attack in (row.results or {}).get("attacks", {}).items():
            if (name, attack["settings"]) not in found:
                found.append((name, attack["settings"]))
    columns = []
    for name, settings in found:
        others = [other for same, other in found if same == name]
        # "PGD-100" twice would hide that they are two different attacks.
        extra = [
            key
            for key in settings
            if key not in ("steps", "epsilon", *_USUAL)
            and any(other.get(key) != settings[key] for other in others)
        ]
        title = describe_attack(name, settings, extra)
        columns.append(Column(title, ("attacks", name, "final"), settings))
    return columns


def columns(rows: Sequence[Row]) -> list[Column]:
    """The accuracies that any of the rows has; the worst case last."""
    attacks = attack_columns(rows)
    worst = [Column("worst", ("worst_of_all",))] if attacks else []
    return [Column("natural", ("natural",)), *attacks, *worst]
