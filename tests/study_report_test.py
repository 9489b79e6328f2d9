"""The reports of sweeps and of the paper: what is missing is said, numbers add up."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from made_runs import make_run, measure, move

from advloss import report
from advloss.errors import InputError
from advloss.evaluation import results
from advloss.report import paper, published, rows, seeds
from advloss.runtime import files

NETWORKS = {
    "undefended": {"defence.name": "natural"},
    "softmax": {},
    "hinge": {"loss.name": "hinge"},
    "lmcl_m0.3": {"loss.name": "lmcl"},
}
MNIST = np.array([*published._MNIST, 0, 6, 6, 5])


def _study(folder, count=2, **more):
    """Networks of some seeds; softmax leaves 60 %, and 5 % more for each seed."""
    return [
        make_run(
            folder / f"{name}-seed{seed}",
            name,
            accuracy=0.6 + 0.05 * seed,
            attacks=("pgd", "noise"),
            changes={**changes, "seed": seed},
            **more,
        )
        for seed in range(count)
        for name, changes in NETWORKS.items()
    ]


@pytest.fixture
def fake_networks(monkeypatch):
    """Networks that take every image for a 3."""
    monkeypatch.setattr(
        paper, "_classifier", lambda *_: lambda x: np.eye(10)[[3] * len(x)]
    )


def _write(parts, workdirs, folder, **more):
    sections = report.sections_of_paper(parts, workdirs)
    return report.write("A study", sections, folder, **more)


def test_every_part_is_shown(fake_networks, tmp_path):
    workdirs = _study(tmp_path / "study")
    for workdir in workdirs:
        for attack in ("pgd", "noise"):
            move(workdir, attack)
    text = _write(tuple(report.PARTS), workdirs, tmp_path)
    assert re.search(r"conv2 +64 \(5 x 5\) +14 x 14 x 32 +14 x 14 x 64 +51,264", text)
    assert re.search(r"in all +3,274,634", text)
    for name in (
        "table2",
        "table3",
        "figure1",
        "figure2",
        "figure3",
        "figure4",
        "defences",
    ):
        assert (tmp_path / f"{name}.png").stat().st_size > 1000
        assert (tmp_path / f"{name}.svg").exists()
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<img ") == 7
    records = json.loads((tmp_path / "numbers.json").read_text("utf-8"))
    values = [
        100 * record["accuracy"]
        for record in records
        if (record["part"], record.get("network"), record.get("measure"))
        == ("table2", "softmax", "pgd")
    ]
    assert values == [60.0, 65.0]
    with (tmp_path / "numbers.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(records)


def test_transfer_is_in_the_table(fake_networks, tmp_path):
    workdirs = _study(tmp_path / "study")
    (section,) = report.sections_of_paper(["table3"], workdirs)
    rows = {row[0]: row[1:] for row in section.table}
    # Against itself the mean of 60 and 65 %; against others all are taken for a 3.
    assert rows["softmax"] == ["10.0", "62.5", "10.0", "27.5"]
    assert rows["defence average"] == ["27.5", "27.5", "27.5", ""]
    assert rows["undefended"] == ["10.0", "10.0", "10.0", "10.0"]
    assert rows["mlp"] == ["-", "-", "-", "-"]
    order = [row[0] for row in section.table[1:]]
    assert order == [
        "hinge", "softmax", "lmcl_m0.3", "defence average", "undefended", "mlp",
    ]  # fmt: skip
    assert "Missing: mlp: not part of this study." in section.notes


def test_missing_and_half_finished_runs_are_said(fake_networks, tmp_path):
    workdirs = _study(tmp_path / "study")
    missing = tmp_path / "study" / "softmax-seed2"
    waiting = make_run(
        tmp_path / "study" / "lmcl_m0.3-seed2", "lmcl_m0.3",
        attacks=(), changes={"seed": 2},
    )  # fmt: skip
    for workdir in workdirs:
        move(workdir, "pgd").write_bytes(b"PK")
    text = _write(report.PARTS, [*workdirs, missing, waiting], tmp_path / "report")
    said = " ".join(text.split())
    lacking = "softmax, seed 2: no such run; lmcl_m0.3, seed 2: not evaluated yet"
    assert re.search(rf"Missing: .*{re.escape(lacking)}[.;] ", said)
    page = (tmp_path / "report" / "report.html").read_text("utf-8")
    assert re.search(r"softmax: \S+changes/pgd-\w+\.npz is missing or damaged", page)


@pytest.mark.parametrize("name", ["nothing", "nothing-seed3", "x-seed" + "9" * 50])
def test_a_report_of_nothing(tmp_path, name):
    text = _write(tuple(report.PARTS), [tmp_path / name], tmp_path / "report")
    assert "softmax: not part of this study" in " ".join(text.split())
    assert (tmp_path / "report" / "report.html").exists()


def test_an_unknown_part_is_refused():
    with pytest.raises(InputError, match="'table9' is not valid: use some of table1"):
        report.sections_of_paper(["table9"], [])


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("ranks", {"rank": 10}),
        ("layers", {"conv1": np.full(20, np.nan)}),
        ("layers", {"conv1": np.array([np.inf] * 19 + [1.0])}),
        ("layers", {"a" * 300 + "$": np.ones(20)}),
    ],
)
def test_changes_of_any_kind(tmp_path, kind, more):
    workdirs = _study(tmp_path, count=1)
    for workdir in workdirs:
        move(workdir, "pgd", **more)
        move(workdir, "noise", **more)
    part = "figure1" if kind == "ranks" else "figure2"
    (section,) = report.sections_of_paper([part], workdirs)
    seen = not (more.get("rank") == 10 or np.isnan(more.get("conv1", [0])).any())
    assert bool(section.figures) == seen
    assert any("changes hold no" in note for note in section.notes) != seen
    report.write("Changes", [section], tmp_path / "report")


def test_the_papers_numbers_stand_beside_its_own_network_and_data(tmp_path):
    workdirs = _study(tmp_path, labels=MNIST)
    (section,) = report.sections_of_paper(["table2"], workdirs)
    assert section.table[0].count("paper") == 2
    (row,) = (row for row in section.table if row[0] == "softmax")
    assert row[3] == "97.73" and row[6] == "88.98"
    (section,) = report.sections_of_paper(["section3"], workdirs)
    assert section.table[1][-2:] == ["99.13", "0.27"]


@pytest.mark.parametrize(
    ("labels", "changes", "reason"),
    [
        (MNIST[::-1], {}, "the data are not the whole of MNIST (mnist_5k)"),
        (MNIST[:15], {}, "the data are not the whole of MNIST (mnist_5k)"),
        (MNIST, {"model.name": "mlp"}, "the network is mlp, not table1"),
        (MNIST, {"evaluate.pgd.steps": 5}, "PGD had other settings than the paper's"),
        (
            MNIST,
            {"defence.name": "mart"},
            "softmax was trained with defence.name=mart",
        ),
        (MNIST, {"defence.awp": 0.01}, "softmax was trained with defence.awp=0.01"),
        (MNIST, {"defence.attack": "fgsm"}, "trained with defence.attack=fgsm"),
        (MNIST, {"defence.name": "natural"}, "trained with defence.name=natural"),
    ],
)
def test_they_are_left_out_beside_others(tmp_path, labels, changes, reason):
    workdirs = [make_run(tmp_path / "a", "softmax", changes=changes, labels=labels)]
    for part in ("section3", "table2", "table3"):
        (section,) = report.sections_of_paper([part], workdirs)
        assert any(reason in note for note in section.notes)
        shown = json.dumps(section.table)
        assert "88.98" not in shown and "paper" not in shown


def _seeds(*values):
    return dict(enumerate(values))


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        # Equal differences, also where float64 rounds them otherwise.
        (
            {"softmax": _seeds(50, 60.1, 70, 80), "a": _seeds(52.3, 62.4, 72.3, 82.3)},
            ["X, against softmax: a +2.3 at each of 4 seeds: no spread between seeds, "
             "so no test."],
        ),
        (
            {"softmax": _seeds(*range(6)), "a": _seeds(2, 3, 5),
             "b": _seeds(1, 3, 4, 5, 7, 9)},
            ["a +2.3 .* over 3 seeds, p = 0.02 .*; b .* over 6 seeds, p = 0.0053 "],
        ),
        # A group of two seeds changes nothing for the others, and is named.
        (
            {"softmax": _seeds(0, 1, 2), "a": _seeds(2, 3, 5), "b": _seeds(1, 9)},
            ["a .* p = 0.02 ", "X: too few seeds for a test of b."],
        ),
        ({"softmax": _seeds(1, 2), "a": {}}, []),
        ({"softmax": {}, "a": _seeds(1, 2)}, []),
    ],
)  # fmt: skip
def test_what_seeds_say(groups, said):
    found = seeds.verdict("X", groups, "softmax")
    assert len(found) == len(said)
    for sentence, wanted in zip(found, said, strict=True):
        assert re.search(wanted.replace("+", r"\+"), sentence), sentence


def test_losses_are_compared_over_three_seeds(tmp_path):
    workdirs = _study(tmp_path, count=3)
    path = workdirs[1] / "evaluation"
    settings = report.load_row(workdirs[1]).config.evaluate.pgd.to_dict()
    for file in path.glob("pgd-*"):
        file.unlink()
    measure(workdirs[1], "pgd", settings, 10)  # Softmax, seed 0.
    (section,) = report.sections_of_paper(["table2"], workdirs)
    said = " ".join(section.notes)
    assert "paired t-test" in said and "over 3 seeds, p = " in said
    few = [w for w in workdirs if not w.name.endswith("2")]
    (section,) = report.sections_of_paper(["table2"], few)
    assert any("too few seeds for a test" in note for note in section.notes)


@pytest.mark.parametrize("change", ["images", "seed", "epsilon"])
def test_what_was_not_measured_alike_is_not_compared(tmp_path, change):
    workdirs = _study(tmp_path, count=3)
    settings = report.load_row(workdirs[1]).config.evaluate.pgd.to_dict()
    for path in workdirs[1].glob("evaluation/*"):  # Softmax, seed 0.
        path.unlink()
    if change == "epsilon":
        settings["epsilon"] = 0.1
    more = {"images": {"labels": np.arange(20) % 9}, "seed": {"seed": 1}}
    measure(workdirs[1], "pgd", settings, 12, **more.get(change, {}))
    (section,) = report.sections_of_paper(["table2"], workdirs)
    said = " ".join(section.notes)
    assert "paired t-test" not in said and "differences are not tested" in said
    named = re.search(r"Not measured alike.*; softmax, seed 0: 20 images", said)
    assert bool(named) == (change != "epsilon")


def _results(workdir, attack="pgd"):
    return list(workdir.glob(f"evaluation/{attack}-*"))


def _of(section, name):
    return next(row for row in section.table if row[0] == name)


@pytest.mark.parametrize("part", ["section3", "table3", "figure1"])
def test_differing_attacks_are_not_averaged(fake_networks, tmp_path, part):
    """Seed 0 of softmax was attacked at another radius than two seeds and the rest."""
    workdirs = _study(tmp_path, count=3)
    settings = report.load_row(workdirs[1]).config.evaluate.pgd.to_dict()
    (path,) = _results(workdirs[1])
    path.unlink()
    measure(workdirs[1], "pgd", {**settings, "epsilon": 0.05}, 19)
    for workdir in workdirs:
        move(workdir, "pgd")
    (section,) = report.sections_of_paper([part], workdirs)
    (note,) = (note for note in section.notes if "Left out" in note)
    assert "softmax, seed 0: PGD-100 ε=0.05." in note
    if part == "section3":
        assert _of(section, "softmax")[3] == "67.5 (65.0, 70.0)"
    if part == "table3":
        assert _of(section, "softmax")[2] == "67.5"


def test_what_most_runs_are_asked_for_is_shown(tmp_path):
    """Also where some have newer results of another attack beside it."""
    workdirs = _study(tmp_path, count=3)
    settings = report.load_row(workdirs[1]).config.evaluate.pgd.to_dict()
    for workdir in workdirs:
        measure(workdir, "pgd", {**settings, "epsilon": 0.05}, 19)
    (section,) = report.sections_of_paper(["section3"], workdirs)
    assert _of(section, "softmax")[3].startswith("65.0 [")
    assert not any("Left out" in note for note in section.notes)


def test_results_of_survivors_are_not_shown_to_others(fake_networks, tmp_path):
    """They hold natural images where an earlier attack had fooled."""
    workdirs = _study(tmp_path, count=1)
    for workdir in workdirs:
        config = report.load_row(workdir).config
        for path in workdir.glob("evaluation/*"):
            path.unlink()
        first = measure(workdir, "pgd", config.evaluate.pgd.to_dict(), 10, after=())
        noise = config.evaluate.noise.to_dict()
        measure(workdir, "noise", noise, 9, after=(first,))
        for attack in ("pgd", "noise"):
            move(workdir, attack)
    for part in ("table3", "figure1"):
        (section,) = report.sections_of_paper([part], workdirs)
        said = " ".join(section.notes)
        assert "softmax, seed 0: PGD-100 ε=0.3 on survivors" in said
        assert not section.figures
    # The accuracy under the first attack is that of all images; noise came after it.
    (section,) = report.sections_of_paper(["section3"], workdirs)
    assert _of(section, "softmax")[3:5] == ["50.0", "-"]
    assert "softmax, seed 0: noise ε=0.3 on survivors" in " ".join(section.notes)


def _moved(folder):
    """A study of which the network of softmax lies in hinge's folder as well."""
    workdirs = _study(folder, count=2)
    configs = [report.load_row(workdir).config for workdir in workdirs]
    softmax, hinge = workdirs[1:3]
    shutil.rmtree(hinge)
    shutil.copytree(softmax, hinge)
    return workdirs, configs


def test_a_studys_folder_with_another_network_is_said(tmp_path):
    workdirs, configs = _moved(tmp_path)
    (section,) = report.sections_of_paper(["table2"], workdirs, configs)
    assert _of(section, "softmax")[1] == "2" and _of(section, "hinge")[1] == "1"
    said = " ".join(section.notes)
    assert "hinge, seed 0: damaged: holds another run" in said
    appendix = report.sections_of_runs(workdirs, configs, appendix=True)[0]
    assert "loss.name: 'softmax_cross_entropy' there, 'hinge' here" in (
        " ".join(appendix.notes)
    )
    with pytest.raises(
        InputError, match=r"hinge-seed0 and .* are both softmax, seed 0"
    ):
        report.sections_of_paper(["table2"], workdirs)


def test_a_name_is_a_label(tmp_path):
    """A network of the same training, by another name and from another folder."""
    workdirs = _study(tmp_path, count=1)
    configs = [report.load_row(workdir).config for workdir in workdirs]
    configs[1].name, configs[1].data.dir = "lmcl_m0.1", "elsewhere"
    (section,) = report.sections_of_paper(["table2"], workdirs, configs)
    assert _of(section, "softmax")[1] == "0" and _of(section, "lmcl_m0.1")[1] == "1"


@pytest.mark.parametrize("other", ["margin", "seed"])
def test_a_sweeps_folder_with_another_network_is_said(tmp_path, other):
    runs = _sweep(tmp_path)
    configs = [report.load_row(workdir).config for _, workdir in runs]
    (_, kept), (_, lost) = runs[0], runs[1 if other == "margin" else 3]
    shutil.rmtree(lost)
    shutil.copytree(kept, lost)
    (section,) = report.sections_of_sweep(runs, configs)
    assert f"{lost.name}: damaged: holds another run." in section.notes
    counts = [row[1] for row in section.table[1:]]
    assert counts == (["2", "1", "2"] if other == "margin" else ["1", "2", "2"])
    status = [r["status"] for r in section.records if "status" in r]
    assert status == ["damaged: holds another run"]


def test_a_sweep_says_what_its_config_asks_for_and_is_not_there(tmp_path):
    """Each sentence once, with the runs that it is of."""
    runs = _sweep(tmp_path)
    configs = [report.load_row(workdir).config for _, workdir in runs]
    for config in configs:
        config.evaluate.attacks = ("pgd", "fgsm")
    (section,) = report.sections_of_sweep(runs, configs)
    names = ", ".join(workdir.name for _, workdir in runs)
    told = f"{names}: not measured as its config asks for: fgsm"
    assert [note for note in section.notes if "asks for" in note] == [told]


def test_a_cell_of_fewer_seeds_says_so(tmp_path):
    runs = _sweep(tmp_path, values=(0.1,), count=4)
    for own, workdir in runs:
        settings = report.load_row(workdir).config.evaluate.noise.to_dict()
        if own["seed"] == 0:
            measure(workdir, "noise", settings, 16)
        for path in _results(workdir) if own["seed"] == 3 else ():
            path.unlink()
            measure(workdir, "noise", {**settings, "epsilon": 0.1}, 18)
    (section,) = report.sections_of_sweep(runs)
    cells = dict(zip(*section.table, strict=True))
    assert cells["seeds"] == "4"
    assert cells["noise ε=0.3 %"] == "80.0 (1 seed)"
    assert re.fullmatch(r"55.0 \[.*\] \(3 seeds\)", cells["PGD-100 ε=0.3 %"])


@pytest.mark.parametrize("count", [1, 2])
def test_no_interval_over_fewer_than_three_seeds(count):
    values = [58.0, 60.0][:count]
    text = seeds.text(values, 50, count)
    assert text == ("58.0" if count == 1 else "59.0 (58.0, 60.0)")
    assert np.isnan(seeds.interval(values, 50).low)


def test_intervals_combine_seeds_and_images():
    """Equal seeds over 50 images are no certainty; many images leave the seeds'."""
    same = seeds.interval([58.0] * 3, 50)
    assert same.low < 45 and same.high > 70
    few, many = (seeds.interval([55.0, 58.0, 61.0], n) for n in (50, 10**7))
    assert few.low < many.low < 55 and few.high > many.high > 61
    assert many.mean - many.low == pytest.approx(4.3027 * 3 / 3**0.5, rel=1e-3)
    full = seeds.interval([100.0] * 3, 50)
    assert full.low < 95 and full.high == 100


def _sweep(folder, key="loss.margin", values=(0.1, 0.3, 0.5), count=2):
    """Margins, of which the largest seed's is not evaluated."""
    runs = []
    for seed in range(count):
        for i, value in enumerate(values):
            workdir = make_run(
                folder / f"{i}-seed{seed}",
                f"lmcl_{i}",
                accuracy=0.5 + 0.1 * i + 0.05 * seed,
                changes={"loss.name": "lmcl", "seed": seed, key: value},
            )
            runs.append(({key: value, "seed": seed}, workdir))
    return runs


def test_a_sweep_over_seeds(tmp_path):
    runs = _sweep(tmp_path / "sweep")
    runs.append(({"loss.margin": 0.5, "seed": 2}, tmp_path / "gone"))
    sections = report.sections_of_sweep(runs)
    appendix = report.sections_of_runs([w for _, w in runs], appendix=True)
    text = report.write("A sweep", [*sections, *appendix], tmp_path, command="again")
    assert max(map(len, text.split("Report:")[0].splitlines())) <= 80
    (section,) = sections
    assert section.table[0][:5] == [
        "loss.margin", "seeds", "natural %", "worst linf ε=0.3 %", "PGD-100 ε=0.3 %",
    ]  # fmt: skip
    first = [row[:2] for row in section.table[1:]]
    assert first == [["0.1", "2"], ["0.3", "2"], ["0.5", "2"]]
    assert section.table[1][4] == "52.5 (50.0, 55.0)"
    assert "gone: no such run." in section.notes
    assert section.figures[0].drawing.axes[0].get_xlabel() == "loss.margin"
    records = [r for r in section.records if r.get("measure") == "PGD-100 ε=0.3"]
    assert [r["accuracy"] for r in records] == [0.5, 0.6, 0.7, 0.55, 0.65, 0.75]
    assert records[0]["loss.margin"] == 0.1 and records[0]["seed"] == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Every network" in page and "How each network was made" in page


def test_a_sweep_over_two_keys_has_a_line_for_each_choice_of_one(tmp_path):
    """The worst case alone is drawn, against the key of most values."""
    runs = []
    for scale in (5.0, 10.0):
        for own, workdir in _sweep(tmp_path / str(scale), count=3):
            runs.append(({"loss.scale": scale, **own}, workdir))
    (section,) = report.sections_of_sweep(runs[:-1])
    (figure,) = section.figures
    (axes,) = figure.drawing.axes
    assert axes.get_xlabel() == "loss.margin"
    (legend,) = figure.drawing.legends
    titles = [text.get_text() for text in legend.get_texts()]
    assert titles == ["loss.scale=5", "loss.scale=10"]
    worst = section.table[0].index("worst linf ε=0.3 %")
    means = [float(row[worst].split()[0]) for row in section.table[1:]]
    drawn = [bars.lines[0] for bars in axes.containers]
    np.testing.assert_allclose(np.concatenate([d.get_ydata() for d in drawn]), means)
    assert len({d.get_color() for d in drawn}) == 2


@pytest.mark.parametrize(
    "values",
    [
        {"train.milestones": (0.5, 0.75), "loss.name": "hinge"},
        {"data.dir": "<b>$|"},
        {"model.precision": None, "x": [1, {"y": 2}]},
        {},
    ],
)
def test_a_sweep_of_any_values(tmp_path, values):
    workdirs = [make_run(tmp_path / str(seed), "a") for seed in (0, 1)]
    runs = [({**values, "seed": seed}, w) for seed, w in enumerate(workdirs)]
    sections = report.sections_of_sweep(runs)
    report.write("Any", sections, tmp_path / "report")
    assert len(sections[0].table) == 2
    assert "<b>" not in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_a_sweep_that_has_not_begun(tmp_path):
    runs = [({"loss.margin": m}, tmp_path / str(m)) for m in (0.1, 0.3)]
    text = report.write("None", report.sections_of_sweep(runs), tmp_path / "report")
    assert "0.1: no such run." in text
    assert (tmp_path / "report" / "report.html").exists()


def test_table_1_is_of_the_papers_network():
    """Whatever the networks of the study are."""
    (section,) = report.sections_of_paper(("table1",), [])
    assert section.title == "Table I: the paper's network"


def test_a_student_of_another_teacher_is_another_run(tmp_path):
    """In the folder of a network whose teacher is told apart by its place alone."""
    students = []
    for name, share in (("a", 0.5), ("b", 0.6)):
        teacher = make_run(tmp_path / f"teacher_{name}", name, accuracy=share)
        taught = {"defence.name": "distillation", "defence.teacher": str(teacher)}
        student = make_run(tmp_path / name, name, changes=taught)
        digest = results.network_digest(teacher)
        noted = {"train": "x", "test": "x", "teacher": digest}
        files.write_json(student / "data.json", noted)
        students.append(rows.load_row(student).config)
    first, second = students
    assert rows.load_row(tmp_path / "a", expected=first).summary
    row = rows.load_row(tmp_path / "a", expected=second)
    assert row.status == "damaged: holds another run"
    assert "defence.teacher: " in row.notes[0]
    # The same teacher may lie elsewhere.
    shutil.copytree(tmp_path / "teacher_a", tmp_path / "moved")
    first.defence.teacher = str(tmp_path / "moved")
    assert rows.load_row(tmp_path / "a", expected=first).summary
