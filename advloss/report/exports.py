"""A run in the forms of others: RobustBench's and AttackBench's.

print(export("runs/lmcl", "exported", best=["mnist-linf-lmcl-200.json"]))

exported/
  model_info/mnist/Linf/lmcl.json           RobustBench's, one for a threat model
  attackbench/mnist-linf-lmcl-200.json      the nearest images' distances, by hash
  attackbench/mnist/linf/lmcl/pgd-0123456789ab/
    info.json, config.json, images.npz      AttackBench's, and the images
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from advloss.attacks import ATTACKS, MINIMUM_NORM
from advloss.errors import InputError
from advloss.evaluation import examples, exchange, results
from advloss.evaluation.exchange import attackbench
from advloss.evaluation.exchange.attackbench import Attacked
from advloss.evaluation.exchange.robustbench import THREATS, ModelInfo, radius_text
from advloss.evaluation.measured import Measured
from advloss.evaluation.optimality import optimality
from advloss.report import attacks, made, model_info, own, rows, tables
from advloss.report.model_info import About
from advloss.report.rows import Row
from advloss.runtime import files
from advloss.training import workdir as workdirs
from advloss.types import Split

_FILES = ("info.json", "config.json", "images.npz")
_NOTE = (
    "Optimality is the share of the area between the natural accuracy and the curve of "
    "the best known distances that an attack covers (AttackBench's local optimality): "
    "1 where it finds every nearest image. The best known are those of --best and of "
    "this run's own attacks."
)


class _Attack(NamedTuple):
    """One attack.

    Attributes:
        measured: its result.
        shown: `[n]` bool, which images its files hold: those that it was shown, and
            those that are misclassified anyway.
        attacked: what is exported of these.
        optimality: of it, and the joined one; or None.
    """

    measured: Measured
    shown: np.ndarray
    attacked: Attacked
    optimality: tuple[float, float] | None = None


def export(
    workdir: str | Path,
    folder: str | Path,
    about: About | None = None,
    best: Sequence[str | Path] = (),
    *,
    config: ConfigDict | None = None,
) -> str:
    """Writes a run's results and attacked images for others.

    Args:
        workdir: of an evaluated run; of its results those of the most images.
        folder: made if need be; an earlier export there is replaced, nothing else.
        about: what the run doesn't know.
        best: files of best distances, see `exchange.read_best`. With them the
            optimality of every minimum-norm attack is computed.
        config: names the data; by default the run's own.

    Returns:
        What was written, for a terminal of 80 columns.

    Raises:
        InputError: the run is not evaluated, its test images are not there, a file in
            `best` can't be used, or one that no export wrote is in the way; nothing was
            written.
        OSError: a file can't be written.
    """
    folder, about, row = Path(folder), about or About(), rows.load_row(workdir)
    if row.config is None or row.summary is None:
        raise InputError(
            f"--workdir={workdir} can't be exported: {row.status}; "
            "`advloss evaluate` attacks a trained network"
        )
    name = re.sub(r"[^\w-]", "_", row.name, flags=re.ASCII)
    data = model_info.dataset(row.config, about)
    infos = _model_infos(row, name, about)
    test = _test_images(row, config or row.config)
    found, notes = _attacks(row, test, best)
    places, nearest = {}, {}
    for each in found:
        norm, result = each.measured.norm, each.measured.path.stem
        places[f"attackbench/{data}/{norm}/{name}/{result}"] = each
        batch = row.config.evaluate.batch_size
        nearest[f"attackbench/{data}-{norm}-{name}-{batch}.json"] = norm
    listed = [f"{place}/{file}" for place in places for file in _FILES]
    with own.replacing(folder, [*infos, *nearest, *listed], "export"):
        for path, info in infos.items():
            exchange.write_robustbench(folder / path, info)
        for path, norm in nearest.items():
            inside = [each.attacked for each in found if each.attacked.norm == norm]
            text = attackbench.best_json(attackbench.nearest(inside))
            files.write_text(folder / path, text)
        for place, each in places.items():
            _write(folder / place, each, row, data, test)
    return _terminal(row, folder, infos, found, [*row.notes, *notes])


def _model_infos(row: Row, name: str, about: About) -> dict[str, ModelInfo]:
    """By path; with the radius in its name where there are several in a norm."""
    threats = [each for each in row.summary.worst if each.norm in THREATS]
    found = {}
    for threat in threats:
        info = model_info.model_info(row, threat, about)
        several = [each.norm for each in threats].count(threat.norm) > 1
        radius = re.sub(r"\W", "_", radius_text(threat.epsilon))
        own_name = f"{name}_eps{radius}" if several else name
        folder = f"model_info/{info.dataset}/{THREATS[threat.norm]}"
        found[f"{folder}/{own_name}.json"] = info
    return found


def _test_images(row: Row, config: ConfigDict) -> Split:
    """Those that were attacked. Raises InputError where the config's are others."""
    identity = row.measured[0].identity
    test = examples.first(workdirs.load_data(config).test, identity["examples"])
    if files.digest(tuple(test)) != identity["data"]:
        raise InputError(
            f"config.data.source={config.data.source!r}: its first {row.images} test "
            f"images are not those that {row.workdir} was attacked on; name those with "
            "--config.data"
        )
    return test


def _attacks(
    row: Row, test: Split, best: Sequence[str | Path]
) -> tuple[list[_Attack], list[str]]:
    """What is exported of each attack, and sentences on what is not."""
    keys, notes = exchange.hashes(test.images), []
    found = []
    for measured in row.measured:
        # Survivors alone were attacked; the others say nothing of this attack.
        shown = ~np.isnan(measured.distance)
        if shown.any():
            attacked = _attacked(measured, test, keys, shown)
            found.append(_Attack(measured, shown, attacked))
        if not shown.all():
            left = shown & (measured.natural == measured.labels)
            notes.append(
                f"{measured.path.stem} was shown {left.sum():,} of {row.images:,} "
                "images, those that earlier attacks had left: its files hold these, "
                f"and {(shown & ~left).sum():,} that are misclassified without an "
                "attack."
            )
    several = _best(found, best)
    notes += [
        f"No optimality in {norm}: --best has no distances in that norm."
        for norm in sorted({each.measured.norm for each in found} - {*several})
        if best
    ]
    if several and not any(_is_minimum_norm(each.measured) for each in found):
        notes.append(
            "No optimality: it is one of minimum-norm attacks, and none was shown all "
            "images."
        )
    return [_with_optimality(each, several) for each in found], notes


def _with_optimality(
    each: _Attack, several: Mapping[str, Mapping[str, float]]
) -> _Attack:
    nearest = several.get(each.measured.norm)
    if not nearest or not _is_minimum_norm(each.measured):
        return each
    own, best = each.attacked.found, [nearest[key] for key in each.attacked.hashes]
    both = optimality(own, best), optimality(own, best, joined=True)
    return each._replace(optimality=both)


def _is_minimum_norm(measured: Measured) -> bool:
    """It looked for the nearest image of each, and not only of survivors."""
    return measured.whole and ATTACKS[measured.attack].kind == MINIMUM_NORM


def _best(
    found: Sequence[_Attack], best: Sequence[str | Path]
) -> dict[str, dict[str, float]]:
    """By norm, as far as the files have it: the best distances, theirs or ours."""
    several = {}
    for norm in {each.measured.norm: None for each in found}:
        given = exchange.read_best(best, norm)
        if not given:
            continue
        inside = [each.attacked for each in found if each.attacked.norm == norm]
        ours = attackbench.nearest(inside)
        if not given.keys() & ours.keys():
            raise InputError(
                f"--best={','.join(map(str, best))}: none of its {len(given):,} images "
                f"in {norm} is one that the run was attacked on; use distances of the "
                "same network on the same images"
            )
        several[norm] = {
            key: min(value, given.get(key, math.inf)) for key, value in ours.items()
        }
    return several


def _attacked(
    measured: Measured, test: Split, keys: Sequence[str], shown: np.ndarray
) -> Attacked:
    images = results.load_images(measured).attacked[shown]
    return Attacked(
        norm=measured.norm,
        hashes=[key for key, is_shown in zip(keys, shown, strict=True) if is_shown],
        labels=measured.labels[shown],
        right=(measured.natural == measured.labels)[shown],
        success=(measured.attacked != measured.labels)[shown],
        distances=attackbench.distances(images, test.images[shown]),
        backward_passes=measured.backward_passes[shown],
        forward_passes=measured.forward_passes[shown],
        seconds=measured.seconds,
    )


def _write(folder: Path, each: _Attack, row: Row, data: str, test: Split) -> None:
    """One attack's files, as AttackBench lays them out, and its images."""
    more = {}
    if each.optimality:
        shares = [None if math.isnan(share) else share for share in each.optimality]
        more = dict(zip(("optimality", "optimality_joined"), shares, strict=True))
    info, measured = each.attacked.info(**more), each.measured
    said = {
        "seed": measured.identity["seed"],
        "dataset": {
            "batch_size": row.config.evaluate.batch_size,
            "num_samples": len(each.attacked.hashes),
        },
        "model": {"dataset": data, "name": row.name},
        "attack": {
            "name": measured.attack,
            "threat_model": measured.norm,
            **measured.settings,
        },
    }
    files.write_text(folder / "info.json", json.dumps(info) + "\n")
    files.write_json(folder / "config.json", said)
    images = results.load_images(measured).attacked[each.shown]
    arrays = each.attacked.arrays(images, test.images[each.shown])
    files.write_arrays(folder / "images.npz", arrays)


def _terminal(
    row: Row,
    folder: Path,
    infos: Mapping[str, ModelInfo],
    found: Sequence[_Attack],
    notes: Sequence[str],
) -> str:
    of_attack = {each.measured.path: each.optimality for each in found}
    is_known = any(of_attack.values())
    named = attacks.naming([row.summary])
    table = [["attack", "accuracy %", "median distance", *["optimality"] * is_known]]
    for each in row.summary.attacks:
        share = of_attack.get(each.measured.path)
        cells = [named(each), tables.percent(each.final, tables.SHORT)]
        cells.append(tables.median(each.median_distance))
        table.append([*cells, *[_share_text(share)] * is_known])
    sentences = [*([_NOTE] if is_known else []), *notes]
    parts = [tables.aligned(table), tables.filled(sentences)]
    for threat in row.summary.worst:
        if sentence := model_info.missing(row, threat):
            lines = [tables.filled([sentence])]
            if threat.norm in THREATS:
                classes = row.config.data.num_classes
                name, suite = model_info.suite(threat, classes)
                line = made.evaluation(
                    row.workdir, row.config, row.measured[0].identity, [name], suite
                )
                lines.append(tables.shown_text(line))
            parts.append("\n".join(lines))
    written = [f"{folder / path}: {_told(info)}" for path, info in infos.items()]
    written.append(
        f"{folder / 'attackbench'}: images and info.json of {len(found)} attacks"
    )
    return "\n\n".join(filter(None, [*parts, tables.filled(written)]))


def _share_text(share: tuple[float, float] | None) -> str:
    if share is None:
        return ""
    return "-" if math.isnan(share[0]) else f"{share[0]:.3f}"


def _told(info: ModelInfo) -> str:
    keys = ("clean_acc", "autoattack_acc", "external")
    values = {key: getattr(info, key) for key in keys}
    return ", ".join(f"{k} {v:.2f}" for k, v in values.items() if v is not None)
