"""The parts of a study's report: each table and figure of the paper as a Section.

A part is a function of the study's runs; `PARTS` names them. Where runs are missing or
not finished, it shows what there is and says what is not.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from advloss import models, statistics, study
from advloss.errors import InputError
from advloss.report import changes, drawings, published
from advloss.report.rows import Row
from advloss.report.section import (
    ATTACK,
    NOISE,
    Groups,
    Section,
    finished,
    interval,
    missing,
)

_DEFENDERS = ("hinge", "softmax", "lmcl_m0.3")
_BLACK_BOX = ("undefended", "mlp")


def _accuracy(row: Row, attack: str | None) -> float:
    """In per cent; natural where no attack is named."""
    found = row.results
    cell = found["natural"] if attack is None else found["attacks"][attack]["final"]
    return 100 * cell["accuracy"]


def _values(groups: Groups, name: str, attack: str | None) -> dict[int, float]:
    rows = finished(groups, name)
    return {
        seed: _accuracy(row, attack)
        for seed, row in rows.items()
        if attack is None or attack in row.results["attacks"]
    }


def _beside(values: Mapping[int, float], printed: float) -> str:
    """Ours minus the paper's; starred where the paper's is outside our interval."""
    if not values:
        return "-"
    mean, low, high = statistics.accuracy_interval(list(values.values()))
    star = " *" if printed < low or printed > high else ""
    return f"{mean - printed:+.1f}{star}"


def _records(part: str, groups: Groups, names: Sequence[str]) -> list[dict]:
    return [
        {
            "part": part,
            "network": name,
            "seed": seed,
            "measure": attack or "natural",
            "accuracy": value / 100,
        }
        for name in names
        for attack in (None, ATTACK, NOISE)
        for seed, value in _values(groups, name, attack).items()
    ]


def table1(groups: Groups) -> Section:
    """Units, shapes and parameters of the network, from the network itself."""
    network = models.build("table1", head="linear", num_classes=10, init="lecun")
    params = jax.eval_shape(
        lambda key: network.init(key, (28, 28, 1)), jax.random.key(0)
    )
    images = jax.ShapeDtypeStruct((1, 28, 28, 1), np.float32)
    _, layers = jax.eval_shape(network.apply, params, images)
    table = [["layer", "units", "input shape", "output shape", "parameters"]]
    records, shape, total = [], images.shape[1:], 0
    for name in network.layers:
        weights = params.get(name, {})
        count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(weights))
        flat = name.startswith("fc")
        taken = (int(np.prod(shape)),) if flat else shape
        given = layers[name].shape[1:]
        units = "" if not weights else str(weights["kernel"].shape[-1])
        if name.startswith("conv"):
            units += " (5 x 5)"
        shapes = [" x ".join(map(str, s)) for s in (taken, given)]
        table.append([name, units, *shapes, f"{count:,}" if count else ""])
        records.append({"part": "table1", "layer": name, "parameters": count})
        shape, total = given, total + count
    table.append(["in all", "", "", "", f"{total:,}"])
    note = "With the cosine head of LMCL the last layer has no bias: ten less."
    return Section("Table I: the network", table, [note], {}, records)


def section3(groups: Groups) -> Section:
    """Undefended and defended: natural, under attack, under noise."""
    names = ("undefended", "softmax")
    table = [
        ["network", "natural %", "attacked %", "noise %", "paper: natural, attacked"]
    ]
    for name in names:
        measured = [
            interval(_values(groups, name, a).values()) for a in (None, ATTACK, NOISE)
        ]
        attacked, natural = published.ACCURACY[name]
        table.append([name, *measured, f"{natural}, {attacked}"])
    notes = ["Noise is uniform in the same ball, one draw.", *missing(groups, names)]
    records = _records("section3", groups, names)
    return Section("Section III: attack and noise", table, notes, {}, records)


def table2(groups: Groups) -> Section:
    """Accuracy of every loss, with intervals over seeds, beside the paper's."""
    names = [name for name in published.ACCURACY if name != "undefended"]
    table = [["loss", "seeds", "attacked %", "paper", "Δ", "natural %", "paper", "Δ"]]
    for name in names:
        attacked, natural = (_values(groups, name, a) for a in (ATTACK, None))
        cells = []
        for ours, printed in zip(
            (attacked, natural), published.ACCURACY[name], strict=True
        ):
            cells += [interval(ours.values()), f"{printed:.2f}", _beside(ours, printed)]
        table.append([name, str(len(attacked)), *cells])
    notes = [
        "Mean over seeds with Student's 95 % interval. Δ is ours minus the paper's "
        "single number; * where that lies outside our interval.",
        *_verdicts(groups, names),
        *missing(groups, names),
    ]
    title = "Table II: how well each loss defends"
    sketch = drawings.losses(
        {name: _values(groups, name, ATTACK) for name in names},
        {name: published.ACCURACY[name][0] for name in names},
    )
    sketches = {"table2": sketch} if sketch else {}
    return Section(title, table, notes, sketches, _records("table2", groups, names))


def _verdicts(groups: Groups, names: Sequence[str]) -> list[str]:
    """Which losses differ from softmax by more than seeds explain."""
    sentences = []
    for attack, what in ((ATTACK, "Under attack"), (None, "On natural images")):
        values = {name: _values(groups, name, attack) for name in names}
        if not values["softmax"]:
            continue
        found = statistics.compare({n: v for n, v in values.items() if v}, "softmax")
        tested = [d for d in found if not np.isnan(d.p)]
        if not tested:
            sentences.append(f"{what}: too few seeds for a test of the differences.")
            continue
        listed = "; ".join(
            f"{d.name} {d.mean.mean:+.1f} [{d.mean.low:+.1f}, {d.mean.high:+.1f}], "
            f"p = {d.p:.2g}{' (more than seeds explain)' if d.p < 0.05 else ''}"
            for d in tested
        )
        sentences.append(
            f"{what}, against softmax (paired t-test over {tested[0].seeds} seeds, "
            f"Holm's correction): {listed}."
        )
    return sentences


def _transfer(groups: Groups, attacker: str, defender: str) -> dict[int, float]:
    """Per cent correct by seed; attacker and defender have the same seed."""
    ours, theirs = finished(groups, attacker), finished(groups, defender)
    found = {}
    for seed in sorted(ours.keys() & theirs.keys()):
        try:
            correct = study.transfer(ours[seed].workdir, theirs[seed].workdir, ATTACK)
        except InputError:
            continue  # Damaged; the table shows what is left.
        found[seed] = 100 * float(correct.mean())
    return found


def table3(groups: Groups) -> Section:
    """Attacker by defender, with averages, and black-box attackers below."""
    table = [["attack / defence", *_DEFENDERS, "attack average"]]
    matrix, records = [], []
    for attacker in (*_DEFENDERS, *_BLACK_BOX):
        cells = {d: _transfer(groups, attacker, d) for d in _DEFENDERS}
        records += [
            {
                "part": "table3",
                "attacker": attacker,
                "defender": defender,
                "seed": seed,
                "accuracy": value / 100,
            }
            for defender, values in cells.items()
            for seed, value in values.items()
        ]
        means = [np.mean(list(v.values())) if v else np.nan for v in cells.values()]
        printed = published.TRANSFER.get(attacker)
        texts = [
            f"{_percent(mean)} ({printed[d]})" if printed else _percent(mean)
            for d, mean in zip(_DEFENDERS, means, strict=True)
        ]
        if attacker not in _BLACK_BOX:
            matrix.append(means)
        average = _percent(np.mean(means))
        if printed:
            average += f" ({np.mean(list(printed.values())):.2f})"
        table.append([attacker, *texts, average])
    averages = np.mean(matrix, axis=0)
    below = [
        f"{_percent(mean)} ({_printed_average(d):.2f})"
        for d, mean in zip(_DEFENDERS, averages, strict=True)
    ]
    table.insert(1 + len(_DEFENDERS), ["defence average", *below, ""])
    notes = [
        "Accuracy in % of the column's network on images made against the row's, mean "
        "over pairs of one seed; the paper's in brackets. A row's high average means "
        "that its images harm others little, a column's that the network withstands. "
        "Below the averages: black-box attackers that no defender saw, an undefended "
        "network of the same architecture and a dense one (mlp).",
        *missing(groups, (*_DEFENDERS, *_BLACK_BOX)),
    ]
    sketch = drawings.heat_map(np.array(matrix), _DEFENDERS)
    sketches = {} if sketch is None else {"table3": sketch}
    return Section("Table III: transfer", table, notes, sketches, records)


def _printed_average(defender: str) -> float:
    return float(np.mean([row[defender] for row in published.TRANSFER.values()]))


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}"


PARTS: Mapping[str, Callable[[Groups], Section]] = {
    "table1": table1,
    "section3": section3,
    "table2": table2,
    "table3": table3,
    **changes.FIGURES,
}
