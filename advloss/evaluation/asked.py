"""The attacks that a config asks for, and those of them that were not measured.

attacks_of(config)              # [("pgd", None), ("apgd_margin", "fast"), ...]
lacking(config, measured)       # ["fast's apgd_t_margin"]
"""

import json
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from advloss.attacks import SUITES, suite
from advloss.evaluation.measured import Measured


def attacks_of(config: ConfigDict) -> list[tuple[str, str | None]]:
    """The attacks of `evaluate.attacks`, each with the suite of one number it is in.

    With `evaluate.survivors_only` all attacks are one sequence, each in it once.
    """
    apart = not config.evaluate.survivors_only
    pairs = [
        (name, each if apart and each in SUITES else None)
        for each in config.evaluate.attacks
        for name in suite(each)
    ]
    return list(dict.fromkeys(pairs))


def lacking(config: ConfigDict, found: Sequence[Measured]) -> list[str]:
    """The attacks that a config asks for and that none of the results is of."""
    there = [(each.attack, each.suite, each.settings) for each in found]
    return [
        called(name, within)
        for name, within in attacks_of(config)
        if (name, within, settings_of(config, name)) not in there
    ]


def settings_of(config: ConfigDict, name: str) -> dict[str, Any]:
    """An attack's settings as a result holds them."""
    return json.loads(json.dumps(config.evaluate[name].to_dict()))


def called(name: str, within: str | None) -> str:
    return f"{within}'s {name}" if within else name
