"""Networks by what they were trained with: accuracies, cost, what PGD hides."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from advloss.config import titles
from advloss.report import figures, seeds
from advloss.report.figures import ATTACK, NATURAL, WORST, Series
from advloss.report.section import Figure, Section
from advloss.report.seeds import Accuracies
from advloss.training import cost

if TYPE_CHECKING:
    from advloss.report.rows import Row
    from advloss.report.study import Study

REFERENCE = "pgd"  # The network that the others are compared with, where there is one.
_MASKED = 10.0  # Points that PGD leaves and other attacks don't.
_ROUNDING = 1e-9
_SAME = 1.1  # Times the lowest cost: all networks had the same budget.
_MADE = ("loss", "trained against")
_TITLES = (titles.loss_title, titles.defence_title)
_HOW = (
    "Attacked: by PGD; fast: the suite of that name, see docs/attacks.md; worst: no "
    "iterate of any attack in PGD's ball fools. hidden: points that PGD leaves and the "
    f"worst case doesn't; from {_MASKED:g} on (*) the defence masks its gradients, and "
    "PGD's number says nothing. Gradients are of single images, in millions, those of "
    "attacks and of updates; a validation's are not among them. Seconds are those of "
    "training, on the devices that trained; runs that trained together share them."
)


def section(runs: "Study") -> Section:
    """Every network of a study, in its order."""
    names = tuple(runs.groups)
    measured = {name: runs.accuracies(name) for name in names}
    numbers = ["natural %", "attacked %", "fast %", "worst %", "hidden", "gradients M"]
    table = [["network", *numbers, "seconds", "updates", "seeds", *_MADE]]
    short, records, costs = [["network", *numbers]], [], []
    for name in names:
        finished, found = list(runs.finished(name).values()), measured[name]
        if not finished:
            status = next(iter(runs.groups[name].values())).status
            table.append([name, status])
            short.append([name, status])
            continue
        updates, gradients = _cost(finished)
        costs.append(gradients)
        rest = [_hidden(found), f"{gradients:.3g}"]
        last = [_seconds(finished), f"{updates:,.0f}", str(len(found.natural))]
        titled = [title(finished[0].config) for title in _TITLES]
        numbers = [found.text(each) for each in found[:4]]
        table.append([name, *numbers, *rest, *last, *titled])
        short.append([name, *map(_mean_alone, found[:4]), *rest])
        records += _records(name, found, runs)
    notes = [seeds.NOTE, _HOW, *_verdict(runs, measured), *runs.remarks(names)]
    notes[:0] = _budget(costs)
    title, drawn = "Defences", _figures(measured)
    return Section(title, table, notes, drawn, records, terminal=short)


def _budget(costs: Sequence[float]) -> list[str]:
    """A sentence on what the networks cost, in millions of gradients."""
    if not costs:
        return []
    low, high = min(costs), max(costs)
    if high <= _SAME * low:
        return [f"All took {high:.3g} million gradients of an image, within 10 %."]
    return [f"They took from {low:.3g} to {high:.3g} million gradients of an image."]


def _cost(finished: Sequence["Row"]) -> tuple[float, float]:
    """Updates, and the gradients of images that they took in millions: means."""
    config = finished[0].config
    # Some may have ended early.
    updates = _mean([row.measured[0].identity["step"] for row in finished])
    images = updates * config.train.batch_size
    return updates, cost.of_update(config).backward * images / 1e6


def _seconds(finished: Sequence["Row"]) -> str:
    known = [row.seconds for row in finished if row.seconds]
    return f"{_mean(known):,.0f}" if known else "-"


def _mean_alone(values: Mapping[int, float]) -> str:
    return f"{_mean(list(values.values())):.1f}" if values else "-"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _hidden(found: Accuracies) -> str:
    both = found.attacked.keys() & found.worst.keys()
    if not both:
        return "-"
    points = _mean([found.attacked[seed] - found.worst[seed] for seed in both])
    return f"{points:.1f}{' *' if points > _MASKED - _ROUNDING else ''}"


def _figures(measured: Mapping[str, Accuracies]) -> list[Figure]:
    there = {name: found for name, found in measured.items() if found.natural}
    if not there:
        return []

    def series(title: str, role: str, place: int) -> Series:
        return Series(
            title, role, [_cell(each, each[place]) for each in there.values()]
        )

    shown = [
        series("natural", NATURAL, 0),
        series("worst", WORST, 3),
        series("attacked", ATTACK, 1),
    ]
    caption = (
        "Accuracy on natural images, under PGD, and in the worst case, by what a "
        "network was trained with: means over seeds, with 95 % intervals where there "
        f"are at least {seeds.FEWEST}. Where the point lies far beyond the second bar, "
        "PGD flatters."
    )
    drawing = figures.accuracy(list(there), shown)
    return [Figure("defences", drawing, caption)]


def _cell(found: Accuracies, values: Mapping[int, float]) -> tuple[float, ...] | None:
    if not values:
        return None
    cell = seeds.interval(list(values.values()), found.images)
    return tuple(cell.mean if math.isnan(end) else end for end in cell)


def _records(name: str, found: Accuracies, runs: "Study") -> list[dict[str, Any]]:
    measures = zip(("natural", "pgd", "fast", "worst"), found[:4], strict=True)
    return [
        {
            "part": "defences",
            "network": name,
            "seed": seed,
            "measure": measure,
            "accuracy": value / 100,
            "seconds": runs.groups[name][seed].seconds,
        }
        for measure, values in measures
        for seed, value in values.items()
    ]


def _verdict(runs: "Study", measured: Mapping[str, Accuracies]) -> list[str]:
    if REFERENCE not in measured:
        return []
    if not runs.alike(tuple(measured), worst=True):
        return ["Not all were measured alike: differences are not tested."]
    worst = {name: found.worst for name, found in measured.items()}
    return seeds.verdict("In the worst case", worst, REFERENCE)
