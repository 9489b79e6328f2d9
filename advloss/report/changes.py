"""Figures 1 to 4 of the paper: what an attack moves in a network."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from advloss.errors import InputError
from advloss.report import paper_figures
from advloss.report.reading import guarded
from advloss.report.section import Figure, Section

RANKS, LAYERS = "rank_change", "layer_"
_SPREAD = ("mean", "p5", "p25", "median", "p75", "p95")
_CAPTIONS = {
    RANKS: "How many outputs are larger than that of the naturally predicted class, "
    "once the image is attacked or noisy: at 0 the prediction stays; at the highest "
    "rank the class has become the least likely. One seed.",
    LAYERS: "How far each layer's output moves, relative to the layer's natural input "
    "(l2): quartiles over test images, whiskers from 5 to 95 %. One seed.",
}

Arrays = Mapping[str, np.ndarray]
"""Of one network and attack, as `evaluation.changes.load_changes` gives them."""

Found = Mapping[tuple[str, str], Arrays]
"""Of a network's and an attack's title, what is shown."""


def _checked(arrays: Arrays, kind: str, classes: int) -> Arrays:
    """The ranks, or the layers' changes by name, without what is not finite.

    A change is not finite where a layer's natural input is zero.

    Raises:
        InputError: the arrays hold something else.
    """
    if kind == RANKS:
        ranks = arrays[RANKS]
        if ranks.dtype.kind not in "iu" or not ((ranks >= 0) & (ranks < classes)).all():
            raise InputError("its changes hold no ranks")
        return {RANKS: ranks}
    layers = {
        name.removeprefix(LAYERS): array[np.isfinite(array)].astype(np.float64)
        for name, array in arrays.items()
        if name.startswith(LAYERS)
    }
    layers = {name: values for name, values in layers.items() if len(values)}
    if not layers:
        raise InputError("its changes hold no layers")
    return layers


def section(
    part: str,
    title: str,
    candidates: Mapping[tuple[str, str], Sequence[tuple[Callable[[], Arrays], int]]],
    kind: str,
    notes: Sequence[str],
) -> Section:
    """A figure of changes, its quartiles as a table.

    Args:
        part: names the figure.
        title: of the section.
        candidates: of a network's and an attack's title, for each seed what reads its
            changes, and the number of classes. The first that can be read is shown, so
            that a distribution is one network's.
        kind: RANKS or LAYERS.
        notes: what is missing.
    """
    found, problems = {}, []
    for (network, attack), readers in candidates.items():
        for read, classes in readers:
            moved, more = guarded(network, lambda: _checked(read(), kind, classes))  # noqa: B023
            problems += [f"{network}: {each}" for each in more]
            if moved is not None:
                found[network, attack] = moved
                break
    return Section(
        title,
        _table(found),
        [*dict.fromkeys(problems), *notes],
        _figures(part, found, kind),
        _records(part, found),
        terminal=(),
    )


def _figures(name: str, found: Found, kind: str) -> list[Figure]:
    if not found:
        return []
    if kind == RANKS:
        ranks = {pair: values[RANKS] for pair, values in found.items()}
        drawing = paper_figures.ranks(ranks)
    else:
        titled = {", ".join(pair): values for pair, values in found.items()}
        drawing = paper_figures.layers(titled)
    return [Figure(name, drawing, _CAPTIONS[kind])]


def _table(found: Found) -> list[list[str]]:
    """Header, and a row of quartiles for each network, attack and layer."""
    rows = [
        [network, attack, what, *(f"{spread[key]:.3g}" for key in _SPREAD)]
        for (network, attack), values in found.items()
        for what, spread in _spreads(values).items()
    ]
    return [["network", "attack", "what", *_SPREAD], *rows] if rows else []


def _records(part: str, found: Found) -> list[dict[str, Any]]:
    """The same numbers, unrounded."""
    return [
        {"part": part, "network": network, "attack": attack, "what": what, **spread}
        for (network, attack), values in found.items()
        for what, spread in _spreads(values).items()
    ]


def _spreads(values: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    found = {}
    for name, array in values.items():
        quartiles = np.percentile(array, [5, 25, 50, 75, 95])
        numbers = [np.mean(array), *quartiles]
        what = "rank" if name == RANKS else name
        found[what] = dict(zip(_SPREAD, map(float, numbers), strict=True))
    return found
