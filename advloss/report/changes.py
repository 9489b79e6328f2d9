"""Figures 1 to 4: what an attack moves in a network."""

from collections.abc import Callable, Sequence

import numpy as np

from advloss import study
from advloss.errors import InputError
from advloss.report import drawings
from advloss.report.figures import Sketch
from advloss.report.section import (
    ATTACK,
    NOISE,
    Groups,
    Section,
    finished,
    missing,
)


def _changes(groups: Groups, name: str, attack: str) -> dict[str, np.ndarray] | None:
    """Of the first seed that has them, so that a distribution is one network's."""
    for row in finished(groups, name).values():
        try:
            return study.load_changes(row.workdir, attack)
        except InputError:
            continue
    return None


def figure(
    part: str,
    title: str,
    shown: Sequence[tuple[str, str]],
    draw: Callable[..., Sketch | None],
    key: str,
) -> Callable[[Groups], Section]:
    """A figure of changes: `shown` are networks with attacks."""

    def section(groups: Groups) -> Section:
        found = {pair: _changes(groups, *pair) for pair in shown}
        there = {pair: changes for pair, changes in found.items() if changes}
        sketch = draw(there)
        records = [
            {"part": part, "network": name, "attack": attack, "what": what, **spread}
            for (name, attack), changes in there.items()
            for what, values in changes.items()
            if what.startswith(key)
            for spread in [_spread(values)]
        ]
        names = list(dict.fromkeys(name for name, _ in shown))
        notes = missing(groups, names)
        sketches = {part: sketch} if sketch else {}
        return Section(title, [], notes, sketches, records)

    return section


def _spread(values: np.ndarray) -> dict[str, float]:
    quartiles = np.percentile(values, [5, 25, 50, 75, 95])
    names = ("p5", "p25", "median", "p75", "p95")
    return {
        "mean": float(np.mean(values)),
        **dict(zip(names, map(float, quartiles), strict=True)),
    }


_RANK = (drawings.ranks, "rank_change")
_LAYER = (drawings.layers, "layer_")


def _pairs(*names: str) -> list[tuple[str, str]]:
    return [(name, attack) for name in names for attack in (ATTACK, NOISE)]


FIGURES = {
    "figure1": figure(
        "figure1",
        "Figure 1: change in rank of the natural prediction",
        _pairs("undefended", "softmax"),
        *_RANK,
    ),
    "figure2": figure(
        "figure2",
        "Figure 2: change of every layer",
        [("undefended", ATTACK), ("undefended", NOISE), ("softmax", ATTACK)],
        *_LAYER,
    ),
    "figure3": figure(
        "figure3",
        "Figure 3: change of every layer, LMCL and softmax",
        [("softmax", ATTACK), ("lmcl_m0.3", ATTACK)],
        *_LAYER,
    ),
    "figure4": figure(
        "figure4",
        "Figure 4: change in rank, LMCL and softmax",
        _pairs("softmax", "lmcl_m0.3"),
        *_RANK,
    ),
}
