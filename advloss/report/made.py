"""How a network was made: commands, config and environments, to be copied."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from advloss.config import saved
from advloss.errors import line
from advloss.evaluation.results import Measured
from advloss.report.section import Block


def blocks(
    label: str,
    workdir: Path,
    config: ConfigDict,
    environment: Mapping[str, Any],
    measured: Sequence[Measured],
) -> list[Block]:
    """Of one run: its commands, its config, and what it was made with."""
    commands = [saved.command_line("train", config, workdir)]
    if measured:
        commands.append(_evaluation(workdir, config, measured))
    made = {"trained": environment} | {m.path.name: m.environment for m in measured}
    return [
        Block(f"{label}: commands", "\n".join(commands)),
        Block(f"{label}: config", saved.to_json(config).rstrip()),
        Block(f"{label}: environment", json.dumps(made, indent=2)),
    ]


def _evaluation(workdir: Path, config: ConfigDict, measured: Sequence[Measured]) -> str:
    """The command that measures what is shown."""
    asked = config.copy_and_resolve_references()
    identity = measured[0].identity
    try:
        asked.evaluate.examples = identity["examples"]
        asked.evaluate.seed = identity["seed"]
        asked.evaluate.survivors_only = identity["survivors_only"]
        asked.evaluate.attacks = tuple(
            dict.fromkeys(m.suite or m.attack for m in measured)
        )
        for each in measured:
            asked.evaluate[each.attack].update(each.settings)
        return saved.command_line("evaluate", asked, workdir, base=config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return f"# The evaluation was of other keys than there are now: {line(error)}"
