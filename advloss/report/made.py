"""How a network was made: commands, config and environments, to be copied."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from advloss.config import saved
from advloss.errors import line
from advloss.evaluation.measured import Measured, digest
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
    for together in _together(measured):
        commands.append(_evaluation(workdir, config, together))
    made = {"trained": environment} | {m.path.name: m.environment for m in measured}
    return [
        Block(f"{label}: commands", "\n".join(commands)),
        Block(f"{label}: config", saved.to_json(config).rstrip()),
        Block(f"{label}: environment", json.dumps(made, indent=2)),
    ]


def _together(measured: Sequence[Measured]) -> list[list[Measured]]:
    """The results in lists that one command measures each: no attack in two ways."""
    found: list[list[Measured]] = []
    for each in measured:
        for group in found:
            if _fits(each, group):
                group.append(each)
                break
        else:
            before = each.identity.get("before", ())
            found.append([*(m for m in measured if digest(m.identity) in before), each])
    return found


def _fits(measured: Measured, group: Sequence[Measured]) -> bool:
    """Whether a command that measures a group comes to this result next."""
    same = [m.settings for m in group if m.attack == measured.attack]
    alike = all(settings == measured.settings for settings in same)
    ball = (measured.suite, measured.norm, measured.epsilon)
    inside = [m for m in group if (m.suite, m.norm, m.epsilon) == ball]
    before = [digest(m.identity) for m in inside]
    return alike and measured.identity.get("before", before) == before


def _evaluation(workdir: Path, config: ConfigDict, measured: Sequence[Measured]) -> str:
    """The command that measures what is shown."""
    names = [each.suite or each.attack for each in measured]
    attacks = [(each.attack, each.settings) for each in measured]
    return evaluation(workdir, config, measured[0].identity, names, attacks)


def evaluation(
    workdir: Path,
    config: ConfigDict,
    identity: Mapping[str, Any],
    names: Sequence[str],
    attacks: Sequence[tuple[str, Mapping[str, Any]]],
) -> str:
    """The command that measures attacks as others were.

    Args:
        workdir: of the run.
        config: its own.
        identity: of a result that they are to stand beside.
        names: what `evaluate.attacks` is to have, attacks or suites.
        attacks: with their settings.
    """
    asked = config.copy_and_resolve_references()
    try:
        asked.evaluate.examples = identity["examples"]
        asked.evaluate.seed = identity["seed"]
        asked.evaluate.survivors_only = identity["survivors_only"]
        asked.evaluate.attacks = tuple(dict.fromkeys(names))
        for name, settings in attacks:
            asked.evaluate[name].update(settings)
        return saved.command_line("evaluate", asked, workdir, base=config)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        return f"# The evaluation was of other keys than there are now: {line(error)}"
