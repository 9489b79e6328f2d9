"""Rows side by side: a label for each, and what can't be compared."""

import collections
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from advloss.config import titles
from advloss.evaluation.measured import Attack, Measured

if TYPE_CHECKING:
    from advloss.report.rows import Row

Labelled = Sequence[tuple[str, "Row"]]


def labels(rows: Sequence["Row"]) -> list[str]:
    """A name for each row, unlike the others'.

    With its seed, or else its folder, where names are the same; numbered where even
    these are.
    """
    found = [row.name for row in rows]
    seeded = [f"{r.name}, seed {r.config.seed}" if r.config else r.name for r in rows]
    placed = [f"{row.name} ({row.workdir})" for row in rows]
    numbered = [f"{i + 1}: {label}" for i, label in enumerate(placed)]
    for other in (seeded, placed):
        counts = collections.Counter(found)
        found = [
            longer if counts[label] > 1 else label
            for label, longer in zip(found, other, strict=True)
        ]
    return found if len(set(found)) == len(found) else numbered


def of_one_training(found: Sequence["Row"]) -> list["Row"]:
    """Rows whose mean is taken; those of other training images count as missing.

    Args:
        found: of one network, of several seeds.
    """
    images = [row.data.get("train") if row.summary else None for row in found]
    ((most, _),) = collections.Counter(filter(None, images)).most_common(1) or [("", 0)]
    return [
        row._replace(
            measured=(),
            summary=None,
            status="was trained on other images than its other seeds",
        )
        if own not in (None, most)
        else row
        for row, own in zip(found, images, strict=True)
    ]


def unlike(labelled: Iterable[tuple[str, "Row"]]) -> list[str]:
    """Sentences on which rows were measured on what, where that is not the same."""
    known = [(label, row) for label, row in labelled if row.summary]
    return [
        *_trained_unlike(known), *_measured_unlike(known), *_attacked_unlike(known)
    ]  # fmt: skip


def noted(labelled: Iterable[tuple[str, "Row"]]) -> list[str]:
    """What is to be said of rows, each sentence once, with the rows that it is of."""
    said: dict[str, list[str]] = {}
    for label, row in labelled:
        for note in row.notes:
            said.setdefault(note, []).append(label)
    return [f"{', '.join(names)}: {note}" for note, names in said.items()]


def _trained_unlike(known: Labelled) -> list[str]:
    groups: dict[str, list[str]] = {}
    for label, row in known:
        if images := row.data.get("train"):
            groups.setdefault(images, []).append(label)
    listed = "; ".join(
        f"{', '.join(names)}: digest {images[:8]}" for images, names in groups.items()
    )
    alike = len(groups) < 2
    return [] if alike else [f"Not trained on the same images: {listed}."]


def _measured_unlike(known: Labelled) -> list[str]:
    groups: dict[tuple[str, int, int], list[str]] = {}
    for label, row in known:
        groups.setdefault(row.measured_on, []).append(label)
    listed = "; ".join(
        f"{', '.join(names)}: {count:,} images of digest {data[:8]}, "
        f"evaluate.seed={seed}"
        for (data, count, seed), names in groups.items()
    )
    alike = len(groups) < 2
    return [] if alike else [f"Not measured alike, and hardly comparable: {listed}."]


def _attacked_unlike(known: Labelled) -> list[str]:
    """A sentence for each worst case that is one of other attacks in other rows."""
    named = titles.attack_titles(_attack(m) for _, row in known for m in row.measured)
    balls = dict.fromkeys((m.norm, m.epsilon) for _, row in known for m in row.measured)
    found = []
    for ball in balls:
        inside = _names(known, named, lambda m, ball=ball: (m.norm, m.epsilon) == ball)
        found += _said(titles.worst_title(*ball), inside)
    several = [(label, row) for label, row in known if row.summary.union]
    return [*found, *_said(titles.UNION, _names(several, named, lambda m: True))]


def _attack(measured: Measured) -> Attack:
    """In a worst case it counts alike, whoever was attacked before it."""
    return Attack(measured.attack, measured.settings)


def _names(
    known: Labelled,
    named: Sequence[tuple[Attack, str]],
    chosen: Callable[[Measured], bool],
) -> dict[tuple[str, ...], list[str]]:
    """The labels of rows, by the titles of the attacks that were chosen."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for label, row in known:
        own = [_attack(m) for m in row.measured if chosen(m)]
        shown = tuple(title for attack, title in named if attack in own)
        if shown:
            groups.setdefault(shown, []).append(label)
    return groups


def _said(title: str, groups: dict[tuple[str, ...], list[str]]) -> list[str]:
    listed = "; ".join(
        f"{', '.join(rows)}: {', '.join(shown)}" for shown, rows in groups.items()
    )
    alike = len(groups) < 2
    return [] if alike else [f"“{title}” counts different attacks: {listed}."]
