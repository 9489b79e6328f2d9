"""What every attack left of a network, and what it cost: rows, records, curves.

Each function takes the summaries of runs with their labels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from advloss.attacks import ATTACKS, MINIMUM_NORM
from advloss.config import titles
from advloss.evaluation.results import AttackSummary, Measured, Summary
from advloss.report import tables
from advloss.report.figures import LINES, POINTS, STEPS, Curve
from advloss.report.section import Block

_HEADER = (
    "network",
    "attack",
    "accuracy %",
    "worst iterate %",
    "median distance",
    "backward passes",
    "forward passes",
    "zero gradient",
    "seconds",
)
# Of each norm, an attack that finds near images with few gradients.
_NEAREST = ("fmn", "fmn_l2", "fmn_l1", "carlini_l0")
NOTE = (
    "The accuracy is that at an attack's last iterate; passes are means per image; "
    "seconds include compilation. A median distance is that of the nearest image that "
    "fools, inf where fewer than half of the images were fooled; of survivors alone it "
    "is not known. An attack that stands behind its suite's name was shown only what "
    "those before it in the suite had left."
)


def naming(summaries: Sequence[Summary]) -> Callable[[AttackSummary], str]:
    """From an attack to its title, unlike the others' in these summaries."""
    known = titles.attack_titles(
        each.attack for summary in summaries for each in summary.attacks
    )
    return lambda wanted: next(t for attack, t in known if attack == wanted.attack)


def table(labelled: Sequence[tuple[str, Summary]], form: str) -> list[list[str]]:
    """Header, and a row for each attack on each run: what it left, what it cost."""
    found, named = [list(_HEADER)], naming([summary for _, summary in labelled])
    blank = [""] * 5
    for label, summary in labelled:
        natural = tables.percent(summary.natural, form)
        found.append([label, "none (natural)", natural, natural, *blank])
        for each in summary.attacks:
            measured = each.measured
            found.append(
                [
                    label,
                    named(each),
                    tables.percent(each.final, form),
                    tables.percent(each.worst, form),
                    tables.median(each.median_distance),
                    f"{np.mean(measured.backward_passes):.4g}",
                    f"{np.mean(measured.forward_passes):.4g}",
                    str(int(measured.zero_gradient.sum())),
                    f"{measured.seconds:.0f}",
                ]
            )
        for threat in summary.worst:
            what = titles.worst_title(threat.norm, threat.epsilon)
            left = tables.percent(threat.proportion, form)
            found.append([label, what, "", left, *blank])
        if summary.union:
            left = tables.percent(summary.union, form)
            found.append([label, titles.UNION, "", left, *blank])
    return found


def records(
    summary: Summary, named: Callable[[AttackSummary], str]
) -> list[dict[str, Any]]:
    """Every number of every attack, at its last iterate and at the worst one."""
    found = []
    for each in summary.attacks:
        measured, median = each.measured, each.median_distance
        what = {
            "measure": named(each),
            "attack": measured.attack,
            "settings": measured.settings,
        }
        cost = {
            "backward_passes": float(np.mean(measured.backward_passes)),
            "forward_passes": float(np.mean(measured.forward_passes)),
            "zero_gradient": int(measured.zero_gradient.sum()),
            "seconds": measured.seconds,
        }
        distance = {} if median is None else {"median_distance": median}
        found.append({**what, **tables.proportion(each.final), **distance, **cost})
        what["measure"] += ", worst iterate"
        found.append({**what, **tables.proportion(each.worst)})
    return found


def warnings(label: str, summary: Summary) -> list[str]:
    """A sentence for each attack that had nothing to follow, or is half a suite."""
    whole = [(s.name, *attack) for s in summary.suites for attack in s.attacks]
    halves: dict[str, list[str]] = {}
    for name, settings, _, suite in (each.attack for each in summary.attacks):
        if suite and (suite, name, settings) not in whole:
            halves.setdefault(suite, []).append(name)
    return [
        *(
            f"{label}: the suite {suite} was not measured to its end, only "
            f"{', '.join(names)}: it has no number"
            for suite, names in halves.items()
        ),
        *_blind(label, summary),
    ]


def _blind(label: str, summary: Summary) -> list[str]:
    return [
        f"{label}: {measured.attack} met no gradient at {blind} of "
        f"{len(measured.labels)} images; where an objective is flat, robustness is not "
        f"shown{_advice(measured)}"
        for measured, *_ in summary.attacks
        if (blind := int(measured.zero_gradient.sum()))
    ]


def _advice(measured: Measured) -> str:
    if measured.settings.get("objective", "margin") == "margin":
        return ""
    return f": try --config.evaluate.{measured.attack}.objective=margin"


def curves(label: str, summary: Summary, norm: str) -> list[Curve]:
    """Accuracies against epsilon in a norm, as far as they are known.

    Of every minimum-norm attack, what it leaves within each radius; and the worst case
    at every radius that was attacked, joined where there are several. A single one is a
    point: beside that without an attack, or where a fixed-epsilon attack was there,
    beside the curve of a minimum-norm one.
    """
    found, named = [], naming([summary])
    for each in summary.attacks:
        measured, attack = each.measured, ATTACKS[each.measured.attack]
        # Of survivors, not all distances are known, nor are they the nearest.
        if measured.whole and attack.norm == norm and attack.kind == MINIMUM_NORM:
            found.append(_within(f"{label}, {named(each)}", measured))
    threats = [threat for threat in summary.worst if threat.norm == norm]
    kinds = {ATTACKS[name].kind for threat in threats for name in threat.attacks}
    if len(threats) > 1 or (threats and (not found or kinds != {MINIMUM_NORM})):
        left = {t.epsilon: t.proportion.accuracy for t in threats}
        if len(threats) > 1 or not found:
            left[0.0] = summary.natural.accuracy
        radii = sorted(left)
        points = [100 * left[radius] for radius in radii]
        form = LINES if len(threats) > 1 else POINTS
        found.insert(0, Curve(f"{label}, worst", radii, points, form))
    return [curve._replace(network=label) for curve in found]


def _within(title: str, measured: Measured) -> Curve:
    correct = measured.natural == measured.labels
    fooled = np.sort(measured.distance[correct & np.isfinite(measured.distance)])
    left = correct.sum() - np.arange(len(fooled) + 1)
    percents = 100 * left / len(correct)
    return Curve(title, [0.0, *fooled.tolist()], percents, STEPS)


def without_curve(
    known: Sequence[tuple[str, Sequence[Curve]]], norm: str
) -> tuple[list[str], list[Block]]:
    """How the whole curve is had, of networks of which only points are known.

    Args:
        known: labels and `curves` in the norm.
        norm: of them.

    Returns:
        A sentence and a command, or nothing.
    """
    names = [
        label for label, curves in known if STEPS not in {each.form for each in curves}
    ]
    if not names:
        return [], []
    whose = "Every network" if len(names) == len(known) else ", ".join(names)
    attack = next(name for name in _NEAREST if ATTACKS[name].norm == norm)
    command = (
        f"advloss evaluate --workdir=RUN --config.evaluate.attacks={attack} "
        "--config.evaluate.survivors_only=False"
    )
    note = (
        f"{whose}: in {norm} single radii alone are known. One minimum-norm attack "
        "gives the whole curve of a network, by the command below."
    )
    return [note], [Block(f"The whole curve in {norm} of the run in RUN", command)]
