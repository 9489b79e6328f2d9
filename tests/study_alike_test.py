"""What a study or a sweep compares is alike, or it says so."""

import numpy as np
import pytest
from made_runs import make_run, measure

from advloss import attacks, report
from advloss import config as configs
from advloss.report import published
from advloss.report.study import of_rows
from advloss.runtime import files

FAST = attacks.SUITES["fast"].attacks


def _suite(workdir, left, **changes):
    """A result of `fast` that leaves so many of the images."""
    before = []
    for name in FAST:
        settings = configs.default().evaluate[name].to_dict() | changes
        path = measure(
            workdir, name, settings, left, after=tuple(before), suite="fast",
            survivors_only=False,
        )  # fmt: skip
        before.append(path)


def _runs(folder, names=("pgd", "lmcl"), count=3, **more):
    return [
        make_run(
            folder / f"{name}-seed{seed}",
            name,
            accuracy=0.5 + 0.05 * seed + 0.1 * (name == "lmcl") * seed,
            changes={"seed": seed, "loss.name": "lmcl"},
            **more,
        )
        for name in names
        for seed in range(count)
    ]


def test_the_suite_that_is_asked_for_is_shown(tmp_path):
    """Whatever was measured of it before, with fewer steps."""
    workdirs = _runs(tmp_path, names=("pgd",))
    for workdir in workdirs:
        _suite(workdir, 16, steps=1)
    for workdir in workdirs[:2]:
        _suite(workdir, 8)
    rows = [report.load_row(workdir) for workdir in workdirs]
    found = of_rows(rows)
    assert found.accuracies("pgd").fast == {0: 35.0, 1: 35.0}
    (note,) = [n for n in found.remarks(["pgd"]) if n.startswith("Left out")]
    assert "pgd, seed 2: fast of other settings" in note


@pytest.mark.parametrize("kind", ["study", "sweep"])
def test_seeds_of_other_training_images_are_no_seeds(tmp_path, kind):
    workdirs = _runs(tmp_path, names=("softmax",))
    for workdir, images in zip(workdirs, "aab", strict=True):
        files.write_json(workdir / "data.json", {"train": images, "test": "t"})
    if kind == "study":
        (section,) = report.sections_of_paper(["table2"], workdirs)
        row = next(row for row in section.table if row[0] == "softmax")
        assert row[1] == "2"
    else:
        pairs = [({"seed": seed}, workdir) for seed, workdir in enumerate(workdirs)]
        (section,) = report.sections_of_sweep(pairs)
        assert section.table[1][0] == "2"
        assert [r.get("status") for r in section.records if "status" in r]
    said = "was trained on other images than its other seeds"
    assert any("seed2" in note or "seed 2" in note for note in section.notes)
    assert any(said in note for note in section.notes)


@pytest.mark.parametrize("digest", [3, ["a"], {"b": None}])
def test_a_digest_that_is_none_is_none(tmp_path, digest):
    workdirs = _runs(tmp_path, names=("softmax",), count=2)
    for workdir in workdirs:
        files.write_json(workdir / "data.json", {"train": digest, "test": "t"})
    (section,) = report.sections_of_paper(["table2"], workdirs)
    assert next(row[1] for row in section.table if row[0] == "softmax") == "2"
    assert report.sections_of_runs(workdirs)


def test_networks_of_other_training_images_are_not_tested(tmp_path):
    workdirs = _runs(tmp_path, names=("softmax", "hinge"))
    for workdir in workdirs:
        images = workdir.name[0]
        files.write_json(workdir / "data.json", {"train": images, "test": "t"})
    (section,) = report.sections_of_paper(["table2"], workdirs)
    assert any(note.startswith("Not trained on the same") for note in section.notes)
    assert not any("paired t-test" in note for note in section.notes)


@pytest.mark.parametrize("more", [False, True])
def test_worst_cases_of_other_attacks_are_not_tested(tmp_path, more):
    workdirs = _runs(tmp_path)
    settings = configs.default().evaluate.square.to_dict()
    for workdir in workdirs if more else workdirs[:3]:
        measure(workdir, "square", settings, 19)
    (section,) = report.sections_of_paper(["defences"], workdirs)
    said = any("paired t-test" in note for note in section.notes)
    assert said == more


def test_the_note_on_noise_is_of_the_noise_that_is_shown(tmp_path):
    workdir = make_run(tmp_path / "softmax-seed0", "softmax")
    settings = configs.default().evaluate.noise.to_dict()
    measure(workdir, "noise", settings | {"epsilon": 0.9, "draws": 30}, 5)
    (section,) = report.sections_of_paper(["section3"], [workdir])
    expected = "Noise is uniform in another ball, ε=0.9, the worst of 30 draws."
    assert expected in section.notes


def test_more_lines_than_can_be_told_apart_are_said(tmp_path):
    runs = [
        ({"loss.scale": scale, "loss.margin": margin}, tmp_path / f"{scale}{margin}")
        for scale in range(9)
        for margin in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    ]
    make_run(runs[0][1], "lmcl")
    (section,) = report.sections_of_sweep(runs)
    assert not section.figures
    said = "No figure: against loss.margin it would have 9 lines"
    assert any(note.startswith(said) for note in section.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss.name": "hinge"}, "softmax was trained with loss.name=hinge"),
        ({"train.examples": 100}, "softmax was trained with train.examples=100"),
        ({"model.activation": "bounded_relu"}, "the activation is bounded_relu"),
        ({"evaluate.pgd.objective": "hinge"}, "PGD had other settings"),
        ({"evaluate.pgd.step_size": 1e-5}, "PGD had other settings"),
    ],
)
def test_the_papers_numbers_stand_beside_what_they_are_of(changes, said):
    config = configs.default()
    config.data.source, config.data.name, config.name = "tfds", "mnist", "softmax"
    usual = config.copy_and_resolve_references()
    for key, value in changes.items():
        configs.put(config, key, value)
    for each, expected in ((usual, ""), (config, said)):
        each = configs.resolve(each)
        shown = [(each, each.evaluate.pgd.to_dict(), np.zeros(5, int))]
        assert expected in "".join(published.left_out(shown))
        assert bool(published.left_out(shown)) == bool(expected)
