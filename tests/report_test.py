"""The report of runs: numbers in every form, damaged runs, text that is escaped."""

import csv
import json
import os
import re
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from made_runs import make_run, measure
from matplotlib import colors
from matplotlib import figure as drawn

from advloss import config as configs
from advloss import report
from advloss.config import titles
from advloss.errors import InputError
from advloss.evaluation import measured
from advloss.report import figures, style, tables, training_log
from advloss.report.figures import ATTACK, NATURAL, WORST, Series
from advloss.report.section import Block, Figure, Section
from advloss.runtime import checkpoints, files


def _write(workdirs, folder, *, drawn=True, **more):
    """Without `drawn` no figure is saved, which takes most of the time."""
    sections = report.sections_of_runs(workdirs)
    if not drawn:
        sections = [section._replace(figures=()) for section in sections]
    return report.write("Some runs", sections, folder, **more)


@pytest.fixture
def workdirs(tmp_path):
    return [
        make_run(tmp_path / "a", "first", accuracy=0.6),
        make_run(tmp_path / "b", "waiting", attacks=()),
        tmp_path / "missing",
    ]


class _Collector(HTMLParser):
    def __init__(self, content):
        super().__init__()
        self.tags, self.sources, self.text = [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href")]

    def handle_data(self, text):
        self.text.append(text)


def _sections(workdirs):
    return {each.title: each for each in report.sections_of_runs(workdirs)}


def _page(folder):
    return _Collector((folder / "report.html").read_text("utf-8"))


def _numbers(folder):
    with (folder / "numbers.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    return lines, json.loads((folder / "numbers.json").read_text("utf-8"))


def test_the_terminal_table_fits_80_columns(workdirs, tmp_path):
    text = _write(workdirs, tmp_path / "report", drawn=False)
    table = text.split("Report:")[0]
    assert max(map(len, table.splitlines())) <= 80
    numbers = r"95.0 ± \S+ +55.0 ± \S+ +60.0 ± \S+"
    assert re.search(rf"first +{numbers} +softmax +PGD-5 ε=0.3 +0\n", table)
    assert "over 20 test images" in table
    assert re.search(r"waiting +not evaluated yet", table)
    assert re.search(r"missing +no such run", text)


def test_csv_and_json_hold_the_tables_numbers_unrounded(workdirs, tmp_path):
    _write(workdirs, tmp_path / "report", drawn=False)
    lines, objects = _numbers(tmp_path / "report")
    assert len(lines) == len(objects)
    for line, found in zip(lines, objects, strict=True):
        for key in ("accuracy", "low95", "high95", "images", "seed"):
            assert (float(line[key]) if line[key] else None) == found.get(key)
    pgd = "PGD-100 ε=0.3"
    names = ["natural", "worst linf ε=0.3", pgd, f"{pgd}, worst iterate"]
    first = [found for found in objects if found["network"] == "first"]
    assert [found["measure"] for found in first] == names
    assert [found["accuracy"] for found in first] == [0.95, 0.55, 0.6, 0.55]
    assert json.loads(lines[2]["settings"])["step_size"] == 0.01
    unfinished = [line["status"] for line in lines[4:]]
    assert unfinished == ["not evaluated yet", "no such run"]
    cells = _sections(workdirs[:1])["Accuracy"].table[1][2:-2]
    for text, found in zip(cells, first[:3], strict=True):
        shown = [100 * found[key] for key in ("accuracy", "low95", "high95")]
        assert text == "{:.1f} [{:.1f}, {:.1f}]".format(*shown)


def test_the_page_needs_no_other_file(workdirs, tmp_path):
    folder = tmp_path / "report"
    _write(workdirs, folder)
    found = _page(folder)
    # Accuracies, against epsilon, training, one gallery.
    assert found.tags.count("img") == 4
    assert all(s.startswith(("data:image/png;base64,", "#")) for s in found.sources)
    assert "60.0 [38.7, 78.1]" in found.text
    markdown = (folder / "report.md").read_text("utf-8")
    pictures = re.findall(r"\]\(([^)]+)\)", markdown)
    drawn = ["accuracy", "epsilon_linf", "training", "gallery_0"]
    assert pictures == [f"{name}.png" for name in drawn]
    for picture in pictures:
        assert (folder / picture).stat().st_size > 1000
        assert (folder / picture).with_suffix(".svg").exists()


def test_the_same_report_has_the_same_pictures(workdirs, tmp_path):
    for name in ("one", "two"):
        _write(workdirs, tmp_path / name)
    for picture in ("accuracy.svg", "training.png"):
        content = [(tmp_path / name / picture).read_bytes() for name in ("one", "two")]
        assert content[0] == content[1]


HOSTILE = (
    "<script>alert(1)<script>",
    '"><img src=x onerror=alert(1)>',
    "a $x$ ^{1}_{0} $",
    "_hidden_|cell|*bold*`code`",
    "{{ 7 * 7 }} {% raw %}",
    "&amp; &lt;",
)


@pytest.mark.parametrize("name", [*HOSTILE, "long " * 7 + "name", "x" * 40])
def test_names_are_text_and_not_markup(tmp_path, name):
    name = name[:40]
    text = _write([make_run(tmp_path / "a", name)], tmp_path / "report")
    found = _page(tmp_path / "report")
    assert found.tags.count("script") == 1  # The page's own.
    assert found.tags.count("img") == 4
    assert any(" ".join(name.split()) in " ".join(part.split()) for part in found.text)
    markdown = (tmp_path / "report" / "report.md").read_text("utf-8")
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    header, _, cells = (re.split(r"(?<!\\)\|", line) for line in rows[:3])
    assert len(cells) == len(header)
    assert not re.search(r"(?<!\\)<", markdown.split("```")[0])
    assert max(map(len, text.split("Report:")[0].splitlines())) <= 80


FOLDERS = ("é ε 漢字 🙂", "a\nb\x1b[31m", "\udcff", "$", "x" * 200)


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_of_any_name(tmp_path, name):
    """Of a run that can't be read, the folder's name stands in the report."""
    workdir = tmp_path / name
    text = _write([workdir], tmp_path / "report")
    assert "no such run" in text
    assert "\x1b" not in text
    text.split("Report:")[0].encode("utf-8")
    assert "no such run" in (tmp_path / "report" / "report.html").read_text("utf-8")


def test_any_text_can_be_drawn(tmp_path):
    names = ["漢字 🙂", "$", "$x^$", "_", r"\$", "a" * 300, "b " * 200, "\udcff\n\t"]
    value = (50.0, 40.0, 60.0)
    every = [Series(name, ATTACK, [value] * len(names)) for name in names]
    drawing = figures.accuracy(names, every)
    style.save(drawing, tmp_path / "drawn")
    assert len(drawing.legends[0].get_texts()) == len(names)
    assert (tmp_path / "drawn.svg").exists()


def test_other_settings_are_other_columns(tmp_path):
    """PGD-10 is no PGD-100, and PGD in smaller steps is another PGD-100."""
    workdirs = [
        make_run(tmp_path / "ten", "ten", changes={"evaluate.pgd.steps": 10}),
        make_run(tmp_path / "hundred", "hundred"),
        make_run(tmp_path / "slow", "slow", changes={"evaluate.pgd.step_size": 0.001}),
    ]
    header, *cells = _sections(workdirs)["Accuracy"].table
    assert header[4:-2] == [
        "PGD-10 ε=0.3 step_size=0.01 %",
        "PGD-100 ε=0.3 step_size=0.01 %",
        "PGD-100 ε=0.3 step_size=0.001 %",
    ]
    for i, row in enumerate(cells):
        assert [j for j in range(3) if row[4 + j] != "-"] == [i]


def test_other_numbers_of_images_are_said(tmp_path):
    workdirs = [make_run(tmp_path / "few", "few"), make_run(tmp_path / "many", "many")]
    settings = configs.default().evaluate.pgd.to_dict()
    measure(workdirs[1], "pgd", settings, 30, np.arange(50) % 10)
    section = _sections(workdirs)["Accuracy"]
    assert [row[2] for row in section.table] == ["images", "20", "50"]
    assert "over test images" in section.notes[0]
    assert any("Not measured alike" in note for note in section.notes)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"labels": np.arange(20) % 9}, r"a: 20 images of digest .*; b: 20 images of"),
        ({"seed": 1}, r"a: 20 .* evaluate.seed=0; b: 20 images .* evaluate.seed=1"),
    ],
)
def test_rows_that_were_not_measured_alike_are_named(tmp_path, more, said):
    workdirs = [make_run(tmp_path / "a", "a"), make_run(tmp_path / "b", "b")]
    (path,) = workdirs[1].glob("evaluation/pgd-*")
    path.unlink()
    settings = configs.default().evaluate.pgd.to_dict()
    measure(workdirs[1], "pgd", settings, 10, **more)
    runs = [({"seed": seed}, workdir) for seed, workdir in enumerate(workdirs)]
    for section in (_sections(workdirs)["Accuracy"], report.sections_of_sweep(runs)[0]):
        (note,) = (note for note in section.notes if "Not measured alike" in note)
        assert re.search(said, note)
    assert "Not measured alike" not in str(_sections(workdirs[:1])["Accuracy"].notes)


def test_worst_cases_of_other_attacks_are_named(tmp_path):
    """PGD alone beside PGD with another attack of the ball, and unions of these."""
    workdirs = [
        make_run(tmp_path / "a", "a", attacks=("pgd", "pgd_l2")),
        make_run(tmp_path / "b", "b", attacks=("pgd", "fab", "pgd_l2")),
        make_run(tmp_path / "c", "c", attacks=("pgd_l2", "pgd")),
    ]
    runs = [({"seed": seed}, workdir) for seed, workdir in enumerate(workdirs)]
    for section in (_sections(workdirs)["Accuracy"], report.sections_of_sweep(runs)[0]):
        worst, union = (note for note in section.notes if "different attacks" in note)
        assert re.search(
            r"worst linf ε=0.3” .*: a, c: PGD\S+ ε=0.3; b: PGD.*FAB", worst
        )
        assert re.search(r"“union.*: a, c: PGD[^;]*; b: PGD.*FAB", union)
    alike = [workdirs[0], workdirs[2]]
    assert "different attacks" not in str(_sections(alike)["Accuracy"].notes)


def test_results_that_are_not_shown_are_counted(tmp_path):
    workdir, settings = make_run(tmp_path / "a", "a"), configs.default().evaluate.pgd
    measure(workdir, "pgd", settings.to_dict(), 4, np.arange(5))
    (note,) = report.load_row(workdir).notes
    assert note == "1 result of other examples, seeds or modes is not shown"
    measure(workdir, "pgd", settings.to_dict(), 3, seed=1)
    said = " ".join(_sections([workdir])["Accuracy"].notes)
    assert "a: 2 results of other examples, seeds or modes are not shown" in said


@pytest.mark.parametrize(
    ("asked", "accuracy"),
    [
        ({}, 0.5),  # The oldest, and what was measured in another way since.
        ({"seed": 1}, 0.15),
        ({"seed": 2}, 0.15),  # None: the newest.
        ({"examples": 5}, 0.8),
        ({"examples": 7}, 0.8),
        ({"examples": 100}, 0.5),
        ({"examples": 3}, 0.15),
    ],
)
def test_a_study_shows_the_results_that_it_asks_for(tmp_path, asked, accuracy):
    workdir, settings = make_run(tmp_path / "a", "a"), configs.default().evaluate.pgd
    measure(workdir, "pgd", settings.to_dict(), 4, np.arange(5))
    measure(workdir, "pgd", settings.to_dict(), 3, seed=1)
    expected = report.load_row(workdir).config
    expected.evaluate.update(asked)
    row = report.load_row(workdir, expected=expected)
    assert row.summary.attacks[0].final.accuracy == accuracy
    lacking = asked in ({"seed": 2}, {"examples": 3})
    said = r"was not measured; shown are 20 images with evaluate.seed=1 "
    assert bool(re.search(said, " ".join(row.notes))) == lacking


@pytest.mark.parametrize("asked", [0, 30])
def test_some_test_images_are_not_all(tmp_path, monkeypatch, asked):
    """What of all images is measured, the data's digest in the checkpoint says."""
    workdir = make_run(tmp_path / "a", "a")
    expected = report.load_row(workdir).config
    expected.evaluate.examples = asked
    own = report.load_row(workdir).measured[0].identity["data"]
    for every, lacking in ((own, False), ("0" * 128, True)):
        origin = checkpoints.Origin(expected.to_dict(), {"test": every})
        monkeypatch.setattr(checkpoints, "load_origin", lambda _, origin=origin: origin)
        notes = " ".join(report.load_row(workdir, expected=expected).notes)
        assert ("was not measured; shown are 20 images" in notes) == lacking


def test_attacks_that_were_asked_for_and_not_measured_are_named(tmp_path):
    workdir = make_run(tmp_path / "a", "a")
    expected = report.load_row(workdir).config
    for asked, said in (
        (("pgd",), ""), (("pgd", "fgsm"), "fgsm"),
        (("pgd", "fast"), "fast's apgd_margin, fast's apgd_t_margin"),
    ):  # fmt: skip
        expected.evaluate.attacks = asked
        notes = report.load_row(workdir, expected=expected).notes
        told = f"not measured as its config asks for: {said}"
        assert [*notes] == ([told] if said else [])
    expected.evaluate.attacks, expected.evaluate.pgd.steps = ("pgd",), 7
    (note,) = report.load_row(workdir, expected=expected).notes
    assert note == "not measured as its config asks for: pgd"


@pytest.mark.parametrize("attacks", [(), ("pgd",)])
def test_an_interrupted_evaluation_is_said(tmp_path, attacks):
    """Its worst case would be taken for that of all attacks."""
    workdir = make_run(tmp_path / "a", "a", attacks=attacks)
    folder = workdir / "evaluation"
    (folder / "fmn-0123456789ab.0123456789ab.parts").mkdir(parents=True)
    for path in folder.glob("pgd-*.npz"):  # Done, but not yet tidied up.
        (folder / f"{path.stem}.0123456789ab.parts").mkdir()
    row = report.load_row(workdir)
    (note,) = row.notes
    assert "was interrupted: fmn-0123456789ab is not finished" in note
    assert row.status == ("" if attacks else "not evaluated yet")


def test_what_may_not_be_read_is_not_said_to_be_damaged(tmp_path, monkeypatch):
    workdir, refused = make_run(tmp_path / "a", "a"), []
    allowed, read = os.access, Path.read_text

    def access(path, mode):
        return Path(path).name not in refused and allowed(path, mode)

    def read_text(path, *arguments, **more):
        if path.name in refused:
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **more)

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(Path, "iterdir", _refusing(Path.iterdir, refused))
    for name in ("config.json", "evaluation"):
        refused[:] = [name]
        row = report.load_row(workdir)
        assert row.status == f"can't be read: {name}"
        assert "can't be read: Permission denied" in row.notes[0]
        assert "damaged" not in " ".join(row.notes)


def _refusing(function, refused):
    def call(path):
        if path.name in refused:
            raise PermissionError(13, "Permission denied")
        return function(path)

    return call


def test_no_two_rows_have_the_same_label(tmp_path, monkeypatch):
    monkeypatch.chdir(make_run(tmp_path / "b", "a", changes={"seed": 1}))
    others = [
        make_run(tmp_path / "c", "a"), make_run(tmp_path / "d", "a, seed 1"),
    ]  # fmt: skip
    cells = [row[0] for row in _sections([".", *others])["Accuracy"].table[1:]]
    assert cells == ["a (.)", "a, seed 0", f"a, seed 1 ({others[1]})"]
    cells = [row[0] for row in _sections([".", "."])["Accuracy"].table[1:]]
    assert len(set(cells)) == 2
    (tmp_path / "b" / "config.json").unlink()
    assert report.load_row(".").name == "b"


def test_whom_only_survivors_were_attacked_of(tmp_path):
    workdirs = [make_run(tmp_path / n, n, attacks=()) for n in ("a", "b")]
    pgd = configs.default().evaluate.pgd.to_dict()
    measure(workdirs[0], "pgd", pgd, 10)
    measure(workdirs[1], "pgd", pgd, 10, after=())
    note = _sections(workdirs)["Accuracy"].notes[0]
    assert "Attacks on b were shown only" in note
    assert "Attacks were shown only" in _sections(workdirs[1:])["Accuracy"].notes[0]


def test_survivors_of_others_are_another_column(tmp_path):
    """PGD before noise, and PGD after noise, of the same settings."""
    workdir, settings = make_run(tmp_path / "a", "a", attacks=()), configs.default()
    pgd, noise = (settings.evaluate[name].to_dict() for name in ("pgd", "noise"))
    first = measure(workdir, "pgd", pgd, 10, after=())
    measure(workdir, "noise", noise, 9, after=(first,))
    header, cells = _sections([workdir])["Accuracy"].table
    assert header[4:-2] == ["PGD-100 ε=0.3 %", "noise ε=0.3 %"]
    first = measure(workdir, "noise", noise, 18, after=())
    measure(workdir, "pgd", pgd, 8, after=(first,))
    sections = _sections([workdir])
    header, cells = sections["Accuracy"].table
    left = {
        title: cell.split(" ")[0] for title, cell in zip(header, cells, strict=True)
    }
    expected = {
        "PGD-100 ε=0.3 after nothing %": "50.0",
        "noise ε=0.3 after PGD-100 ε=0.3 %": "45.0",
        "noise ε=0.3 after nothing %": "90.0",
        "PGD-100 ε=0.3 after noise ε=0.3 %": "40.0",
    }
    assert {title: left[title] for title in header[4:-2]} == expected
    titles_of_rows = [row[1] for row in sections["Attack by attack"].table[2:6]]
    assert [f"{title} %" for title in titles_of_rows] == list(expected)


def _measure_fast(workdir, correct, **changes):
    """The suite `fast`, whose last attack leaves so many of 20 images."""
    settings, paths = configs.default().evaluate, ()
    for name, more in (("apgd_margin", 2), ("apgd_t_margin", 0)):
        own = {**settings[name].to_dict(), **changes}
        kept = {"survivors_only": False, "suite": "fast"}
        paths += (measure(workdir, name, own, correct + more, after=paths[:1], **kept),)
    return paths


def test_a_suite_of_one_number_is_one_column(tmp_path):
    workdir = make_run(tmp_path / "a", "a")
    _measure_fast(workdir, 8)
    sections = _sections([workdir])
    header, cells = sections["Accuracy"].table
    assert header[2:-2] == [
        "natural %", "worst linf ε=0.3 %", "PGD-100 ε=0.3 %", "fast ε=0.3 %"
    ]  # fmt: skip
    # Of its last attack, the worst iterate: the first image is never right.
    assert [cell.split(" ")[0] for cell in cells[2:-2]] == [
        "95.0",
        "35.0",
        "50.0",
        "35.0",
    ]
    rows = sections["Attack by attack"].table
    assert [row[1] for row in rows[3:5]] == [
        "fast: APGD margin-25 ε=0.3", "fast: APGD-T margin-100 ε=0.3"
    ]  # fmt: skip
    # Every number of the table is a record, once.
    (record,) = (
        r for r in sections["Accuracy"].records if r["measure"] == header[5][:-2]
    )
    assert record["accuracy"] == 0.35
    assert "shown only" not in sections["Accuracy"].notes[0]
    commands = sections["How each network was made"].blocks[0].text
    assert "--config.evaluate.attacks=pgd,fast --" in commands
    # With other settings it is another column, and both say which they are.
    _measure_fast(workdir, 6, steps=10)
    header, _ = _sections([workdir])["Accuracy"].table
    long = "fast ε=0.3 (APGD margin-10 ε=0.3, APGD-T margin-10 ε=0.3) %"
    assert len(header) == 9 and header[-3] == long
    # Half of it is no number of the suite.
    other = make_run(tmp_path / "b", "b")
    _measure_fast(other, 8)[0].unlink()
    header, _ = _sections([other])["Accuracy"].table
    said = "b: the suite fast was not measured to its end, only apgd_t_margin: it has"
    assert said in " ".join(_sections([other])["Accuracy"].notes)
    assert "to its end" not in " ".join(_sections([workdir])["Accuracy"].notes)
    assert not any("fast" in title for title in header)


def test_commands_measure_all_that_is_shown(tmp_path):
    """An attack of several settings takes several, and a suite its own attacks'."""
    workdir = make_run(tmp_path / "a", "a")
    settings = configs.default().evaluate.pgd.to_dict()
    measure(workdir, "pgd", {**settings, "steps": 7}, 9)
    first, _ = _measure_fast(workdir, 8)
    last = {**configs.default().evaluate.apgd_t_margin.to_dict(), "steps": 9}
    suite = {"survivors_only": False, "suite": "fast"}
    measure(workdir, "apgd_t_margin", last, 7, after=(first,), **suite)
    sections = _sections([workdir])
    _, *commands = sections["How each network was made"].blocks[0].text.splitlines()
    asked = [
        sorted(re.findall(r"evaluate\.((?:attacks|\w+\.steps)=\S+)", command))
        for command in commands
    ]
    assert asked == [
        ["attacks=pgd,fast"],
        ["attacks=pgd", "pgd.steps=7"],
        ["apgd_t_margin.steps=9", "attacks=fast"],
    ]


@pytest.mark.parametrize(("one", "other"), [(0.3, 0.30001), (8 / 255, 0.0313726)])
def test_values_that_are_nearly_the_same_have_titles_of_their_own(tmp_path, one, other):
    settings = configs.default().evaluate.pgd.to_dict()
    workdir = make_run(tmp_path / "a", "a", attacks=())
    for i, epsilon in enumerate((one, other)):
        measure(workdir, "pgd", {**settings, "epsilon": epsilon}, 10 + i)
    header, _ = _sections([workdir])["Accuracy"].table
    assert len(set(header)) == len(header) == 10  # The union is one.
    changes = [{"loss.name": "lmcl", "loss.margin": value} for value in (one, other)]
    runs = [
        (own, make_run(tmp_path / f"{i}", f"{i}", changes=own))
        for i, own in enumerate(changes)
    ]
    cells = [row[1] for row in report.sections_of_sweep(runs)[0].table[1:]]
    assert len(set(cells)) == 2
    cells = [row[-2] for row in _sections([w for _, w in runs])["Accuracy"].table[1:]]
    assert len(set(cells)) == 2


def test_the_worst_case_is_one_of_a_threat_model(tmp_path):
    workdir = make_run(tmp_path / "a", "a", attacks=("pgd", "pgd_l2", "noise"))
    header, cells = _sections([workdir])["Accuracy"].table
    left = [cell.split(" ")[0] for cell in cells[2:6]]
    assert header[2:6] == [
        "natural %",
        "worst linf ε=0.3 %",
        "worst l2 ε=2 %",
        "union of threat models %",
    ]
    assert left == ["95.0", "45.0", "50.0", "45.0"]
    alone = make_run(tmp_path / "b", "b", attacks=("pgd", "noise"))
    assert not any(
        "union" in title for title in _sections([alone])["Accuracy"].table[0]
    )


def test_several_radii_make_a_curve(tmp_path):
    workdir = make_run(tmp_path / "a", "a", attacks=("pgd", "carlini_l2"))
    settings = configs.default().evaluate.pgd.to_dict()
    measure(workdir, "pgd", {**settings, "epsilon": 8 / 255}, 15)
    section = _sections([workdir])["Accuracy against ε"]
    assert [figure.name for figure in section.figures] == ["epsilon_linf", "epsilon_l2"]
    (line,) = section.figures[0].drawing.axes[0].lines
    np.testing.assert_allclose(line.get_xdata(), [0, 8 / 255, 0.3])
    np.testing.assert_allclose(line.get_ydata(), [95, 70, 45])
    (line,) = section.figures[1].drawing.axes[0].lines
    # Of 19 images that are right, all are fooled in the end.
    np.testing.assert_allclose(line.get_ydata(), np.arange(95, -1, -5))
    header, cells = _sections([workdir])["Accuracy"].table
    left = dict(zip(header, (cell.split(" ")[0] for cell in cells), strict=True))
    assert left["worst linf ε=8/255 %"] == "70.0"
    assert left["worst linf ε=0.3 %"] == "45.0"


def test_a_single_radius_is_a_point_and_no_curve(tmp_path):
    """Beside the natural accuracy, or the curve of a minimum-norm attack."""
    workdir = make_run(tmp_path / "a", "a")
    whole = make_run(tmp_path / "b", "b", attacks=("pgd", "fmn"))
    section = _sections([workdir, whole])["Accuracy against ε"]
    axes = section.figures[0].drawing.axes[0]
    points, other, curve = axes.lines
    np.testing.assert_allclose(points.get_xdata(), [0, 0.3])
    np.testing.assert_allclose(points.get_ydata(), [95, 45])
    np.testing.assert_allclose(other.get_xdata(), [0.3])
    assert [line.get_linestyle() for line in (points, other)] == ["None", "None"]
    # One network, one colour.
    assert points.get_color() != other.get_color() == curve.get_color()
    # To where nothing stands: 20 images lie at distances 0 to 1.9.
    assert axes.get_xlim() == (0, pytest.approx(1.9))
    assert curve.get_ydata()[-1] == 0
    (note,) = section.notes
    assert note.startswith("a: in linf single radii alone are known.")
    (block,) = section.blocks
    assert "--config.evaluate.attacks=fmn " in block.text


def test_a_curve_that_ends_above_zero_goes_on(tmp_path):
    far = np.where(np.arange(20) < 10, 0.1 + np.arange(20) / 100, np.inf)
    workdir = make_run(tmp_path / "a", "a", attacks=())
    settings = configs.default().evaluate.fmn.to_dict()
    measure(workdir, "fmn", settings, 10, distance=far.astype(np.float32))
    near = make_run(tmp_path / "b", "b", attacks=("fmn",))
    section = _sections([workdir, near])["Accuracy against ε"]
    curve = section.figures[0].drawing.axes[0].lines[0]
    assert curve.get_xdata()[-1] == pytest.approx(1.9)
    assert list(curve.get_ydata()[-2:]) == [45, 45] and section.notes == []


def test_many_networks_have_several_figures_of_curves(tmp_path):
    workdirs = [make_run(tmp_path / f"{i}", f"{i}") for i in range(9)]
    figures = _sections(workdirs)["Accuracy against ε"].figures
    assert [len(f.drawing.axes[0].lines) for f in figures] == [8, 1]


def test_distances_of_survivors_make_no_curve_and_no_median(tmp_path):
    """They are of the first image within epsilon, which need not be the nearest."""
    workdir = make_run(tmp_path / "a", "a", attacks=())
    settings = configs.default().evaluate.fab_t.to_dict()
    measure(workdir, "fab_t", settings, 10, after=())
    section = _sections([workdir])["Accuracy against ε"]
    (points,) = section.figures[0].drawing.axes[0].lines
    np.testing.assert_allclose(points.get_xdata(), [0, 0.3])
    assert "survivors_only=False" in section.blocks[0].text
    text = report.terminal_attack_table(report.load_row(workdir))
    assert re.search(r"FAB-T-100 ε=0.3 +50.0 ± \S+ +45.0 ± \S+ +100 ", text)


def test_the_attacks_of_one_run(tmp_path):
    workdir = make_run(tmp_path / "a", "first")
    settings = configs.default().evaluate.carlini_l2.to_dict()
    far = np.full(20, np.inf, np.float32)
    blind = np.arange(20) < 7
    measure(workdir, "carlini_l2", settings, 19, distance=far, zero_gradient=blind)
    text = report.terminal_attack_table(report.load_row(workdir))
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("first: softmax, trained against PGD-5 ε=0.3\n")
    assert re.search(r"PGD-100 ε=0.3 +50.0 ± \S+ +45.0 ± \S+ +100 ", text)
    assert re.search(r"CW-1000 l2 ε=2 +95.0 ± \S+ +90.0 ± \S+ +inf +100 ", text)
    assert "carlini_l2 met no gradient at 7 of 20 images" in " ".join(text.split())
    waiting = make_run(tmp_path / "b", "b", attacks=())
    text = report.terminal_attack_table(report.load_row(waiting))
    assert text == "b: not evaluated yet"


@pytest.mark.parametrize(
    ("attack", "advised"), [("lbfgs", True), ("carlini_l2", False), ("fmn", False)]
)
def test_another_objective_is_advised_where_there_is_one(tmp_path, attack, advised):
    workdir = make_run(tmp_path / "a", "a", attacks=())
    settings = configs.default().evaluate[attack].to_dict()
    measure(workdir, attack, settings, 10, zero_gradient=np.arange(20) < 7)
    text = report.terminal_attack_table(report.load_row(workdir))
    said = "".join(text.split())
    assert f"{attack}metnogradientat7of20images" in said
    assert (f"--config.evaluate.{attack}.objective=margin" in said) == advised


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"defence.name": "natural"}, "nothing"),
        ({"train.attack.steps": 40}, "PGD-40 ε=0.3"),
        ({"defence.name": "trades"}, "TRADES (β=6), PGD-5 ε=0.3"),
        ({"defence.attack": "fgsm"}, "FGSM ε=0.3"),
        ({"train.attack.epsilon": 8 / 255}, "PGD-5 ε=8/255"),
        (
            {"train.attack.objective": "margin"},
            "PGD-5 ε=0.3 objective=margin",
        ),
        (
            {"defence.name": "natural", "defence.temperature": 20.0},
            "natural training (T=20)",
        ),
        (
            {"defence.name": "distillation", "defence.teacher": "runs/teacher"},
            "defensive distillation (T=100)",
        ),
        (
            {
                "defence.name": "distillation",
                "defence.teacher": "runs/teacher",
                "defence.label_smoothing": 0.1,
            },
            "defensive distillation (T=100), label smoothing 0.1",
        ),
        (
            {"defence.awp": 0.005, "defence.label_smoothing": 0.1},
            "PGD-5 ε=0.3, AWP 0.005, label smoothing 0.1",
        ),
        (
            {"defence.name": "free", "defence.attack": "fgsm"},
            "free adversarial training (replays=4), FGSM ε=0.3",
        ),
    ],
)
def test_what_a_network_was_trained_against(changes, title):
    config = configs.default()
    for key, value in changes.items():
        configs.put(config, key, value)
    assert titles.defence_title(configs.resolve(config)) == title


def test_losses_are_titled_with_their_settings():
    config = configs.default()
    config.loss.name, config.loss.margin = "lmcl", 0.25
    assert titles.loss_title(configs.resolve(config)) == "LMCL (s=10, m=0.25)"


def _break(path, content):
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")


DEEP = "[" * 100_000
DAMAGED = (
    ("config.json", "{}", "damaged: config.json"),
    ("config.json", "\x00", "damaged: config.json"),
    ("config.json", "null", "damaged: config.json"),
    ("config.json", DEEP, "damaged: config.json"),
    ("config.json", b"\xff\xfe", "damaged: config.json"),
    ("config.json", '{"name": 3}', "damaged: config.json"),
    ("config.json", None, "damaged: config.json is missing"),
    ("environment.json", "]", "60.0"),
    ("environment.json", DEEP, "60.0"),
    ("environment.json", '{"python": {"a": [null, 1e999]}}', "60.0"),
    ("metrics.jsonl", "[1]\n{}\n\xff", "60.0"),
    ("metrics.jsonl", '{"step": "1", "loss": null, "accuracy": []}\n', "60.0"),
    ("metrics.jsonl", '{"step": 1, "loss": NaN, "accuracy": 0.5}\n', "60.0"),
    ("metrics.jsonl", f'{{"step": 1, "loss": 1, "accuracy": {10**400}}}\n', "60.0"),
    ("metrics.jsonl", '{"step": 1, "loss": -1e300, "accuracy": 1e300}\n', "60.0"),
    ("metrics.jsonl", DEEP, "60.0"),
    ("metrics.jsonl", None, "60.0"),
    ("evaluation/*.npz", b"PK", "not evaluated yet|damaged"),
    ("evaluation/*.npz", b"", "not evaluated yet|damaged"),
    ("evaluation/*.npz", None, "not evaluated yet"),
)


@pytest.mark.parametrize(("file", "content", "status"), DAMAGED)
def test_damaged_files_leave_a_row(tmp_path, file, content, status):
    workdirs = [make_run(tmp_path / n, n, accuracy=0.6) for n in ("first", "whole")]
    (path,) = workdirs[0].glob(file)
    _break(path, content)
    text = _write(workdirs, tmp_path / "report", drawn="metrics" in file)
    first = "first" if "config" not in file else workdirs[0].name
    assert re.search(rf"^{first} .*({status})", text, re.MULTILINE)
    assert re.search(r"^whole +95.0 ± \S+ +55.0 ", text, re.MULTILINE)
    json.loads((tmp_path / "report" / "numbers.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 5), ("loss.name", "hinge"), ("train.steps", 700)],
)
def test_a_config_that_is_not_the_networks_is_said(tmp_path, key, value):
    """The checkpoint holds what it was trained by; how to evaluate may change."""
    workdir = make_run(tmp_path / "a", "a")

    def edit(key, value):
        config = configs.load_config(workdir)
        configs.put(config, key, value)
        text = configs.to_json(configs.resolve(config))
        files.write_text(workdir / "config.json", text)

    edit("evaluate.batch_size", 7)
    edit("data.dir", "elsewhere")
    edit("name", "b")
    assert report.load_row(workdir).status == ""
    edit(key, value)
    row = report.load_row(workdir)
    assert row.status == "damaged: config.json or checkpoint"
    assert (row.config, row.summary) == (None, None)
    (note,) = row.notes
    assert re.search(rf"a/config.json is not .*{key}: .* there, {value!r} here", note)


def test_how_long_a_run_was_trained_is_the_checkpoints_word(tmp_path):
    workdir = make_run(tmp_path / "a", "a", attacks=(), changes={"train.steps": 601})
    (workdir / "metrics.jsonl").write_text("]\n")
    row = report.load_row(workdir)
    assert row.status == "trained for 600 of 601 steps"
    assert any("1 of 1 lines are damaged" in note for note in row.notes)


@pytest.mark.parametrize(
    "more",
    [
        {"seed": "0"}, {"seed": -1}, {"examples": True}, {"survivors_only": 1},
        {"step": 1.5}, {"data": None}, {"parameters": 3}, {"before": []},
        {"survivors_only": True}, {"suite": "fast"}, {"suite": "none", "before": []},
    ],
)  # fmt: skip
def test_a_result_of_another_kind_of_identity_is_left_out(tmp_path, more):
    workdir = make_run(tmp_path / "a", "a", attacks=())
    measure(workdir, "pgd", configs.default().evaluate.pgd.to_dict(), 10, **more)
    row = report.load_row(workdir)
    assert row.status == "damaged: evaluation"
    assert any("its identity has" in note for note in row.notes)


def test_what_is_left_out_is_named(tmp_path):
    workdir = make_run(tmp_path / "a", "a", attacks=("pgd", "noise"))
    (path,) = workdir.glob("evaluation/noise-*.npz")
    path.write_bytes(b"PK")
    (environment,) = workdir.glob("environment.json")
    environment.write_text("]")
    said = " ".join(_write([workdir], tmp_path / "report", drawn=False).split())
    assert path.name in said
    assert "environment.json is damaged" in said


def test_images_in_colour(tmp_path, monkeypatch):
    workdir = make_run(tmp_path / "a", "a")
    images = measured.Images(*np.zeros((2, 20, 8, 8, 3), np.float32))
    monkeypatch.setattr("advloss.evaluation.results.load_images", lambda _: images)
    assert _sections([workdir])["Attacked images"].figures


def test_figures_of_an_earlier_report_do_not_stay(tmp_path):
    workdirs = [make_run(tmp_path / name, name) for name in ("one", "two")]
    folder = tmp_path / "report"
    _write(workdirs, folder)
    (folder / "mine.png").write_bytes(b"kept")
    _write(workdirs[:1], folder, overwrite=True)
    names = {path.name for path in folder.glob("*.png")}
    kept = ("accuracy", "epsilon_linf", "training", "gallery_0", "mine")
    assert names == {f"{name}.png" for name in kept}
    assert not (folder / "gallery_1.svg").exists()


OTHERS = (
    "report.md", "report.html", "numbers.csv", "numbers.json", "accuracy.png",
    "training.svg", "report.md.tmp",
)  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_report_overwrites_nothing_but_a_report(tmp_path, name):
    workdirs = [make_run(tmp_path / "run", "a")]
    folder = tmp_path / "mine"
    folder.mkdir()
    own = {folder / name: b"precious", folder / "photo.png": b"a picture"}
    if name == "report.md":
        own[folder / name] = b"![my photo](photo.png)\n"
    for path, content in own.items():
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"mine/{re.escape(name)} is there, and no "):
        _write(workdirs, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == own


def test_an_interrupted_report_goes_on(tmp_path, monkeypatch):
    workdirs = [make_run(tmp_path / name, name) for name in ("one", "two")]
    folder = tmp_path / "report"
    _write(workdirs[:1], folder)
    original = files.write_text

    def interrupted(path, text):
        if path.name == "report.md":
            path.with_name("report.md.tmp").write_text("half")
            raise KeyboardInterrupt
        original(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_text", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _write(workdirs, folder)
    assert (folder / "gallery_1.png").exists()
    (folder / "mine.png").write_bytes(b"kept")
    _write(workdirs[:1], folder)
    assert {path.name for path in folder.iterdir()} == {
        ".report.json", "report.html", "report.md", "numbers.csv", "numbers.json",
        *(f"{n}{e}" for n in ("accuracy", "epsilon_linf", "training", "gallery_0")
          for e in (".png", ".svg")),
        "mine.png",
    }  # fmt: skip


@pytest.mark.parametrize(
    "content", ["]", "[]", "{}", '{"files": [3]}', '{"files": ["../run/config.json"]}']
)
def test_a_damaged_list_of_files_deletes_nothing(tmp_path, content):
    workdir = make_run(tmp_path / "run", "a")
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / ".report.json").write_text(content)
    with pytest.raises(InputError, match=r"\.report\.json is damaged"):
        _write([workdir], tmp_path / "report", drawn=False)
    assert (workdir / "config.json").exists()
    assert len(list((tmp_path / "report").iterdir())) == 1


def test_the_page_says_how_to_make_it_again(tmp_path):
    changes = {"evaluate.pgd.restarts": 3}
    workdir = make_run(tmp_path / "my runs", "first")
    settings = configs.load_config(workdir).evaluate.pgd.to_dict() | {"restarts": 3}
    for path in workdir.glob("evaluation/*"):
        path.unlink()
    measure(workdir, "pgd", settings, 10)
    command = f"advloss report --runs='{workdir}'"
    _write(
        [workdir], tmp_path / "report", command=command, notes=["A note."], drawn=False
    )
    text = "".join(_page(tmp_path / "report").text)
    where = f"'--workdir={workdir}'"
    assert command in text
    assert "A note." in text
    assert re.search(rf"train {re.escape(where)}.* --config.name=first\n", text)
    (line,) = re.findall(rf"evaluate {re.escape(where)}.*", text)
    assert "--config.evaluate.examples=20" in line
    assert f"--config.{next(iter(changes))}=3" in line
    markdown = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert f"```\n{command}\n```" in markdown


def test_a_report_of_nothing_but_missing_runs(tmp_path):
    assert "no such run" in _write([tmp_path / "x"], tmp_path / "report")
    assert (tmp_path / "report" / "report.html").exists()


def test_rows_of_one_name_can_be_told_apart(tmp_path):
    workdirs = [
        make_run(tmp_path / "a", "same"),
        make_run(tmp_path / "b", "same", changes={"seed": 1}),
        make_run(tmp_path / "c", "same", changes={"seed": 1}),
    ]
    labels = [row[0] for row in _sections(workdirs)["Accuracy"].table[1:]]
    assert labels[0] == "same, seed 0"
    assert labels[1] == f"same ({workdirs[1]})"
    assert len(set(labels)) == 3


def test_an_appendix_is_tables_and_curves(workdirs, tmp_path):
    sections = report.sections_of_runs(workdirs, appendix=True)
    drawn = [section.title for section in sections if section.figures]
    assert drawn == ["Accuracy against ε"]
    text = report.write("Appendix", sections, tmp_path / "report")
    assert text == f"Report: {tmp_path / 'report' / 'report.html'}"


@pytest.mark.parametrize("attacks", [2, 12])
@pytest.mark.parametrize("runs", [1, 7])
def test_no_legend_is_cut(attacks, runs):
    value = (60.0, 50.0, 70.0)
    every = [
        Series("natural", NATURAL, [value] * runs),
        Series("worst linf ε=0.3", WORST, [value] * runs),
        *(
            Series(
                f"multi-targeted PGD-100 l2 ε=0.{i} draws={i}", ATTACK, [value] * runs
            )
            for i in range(attacks)
        ),
    ]
    names = [f"network number {i} of a long name" for i in range(runs)]
    places = list(range(runs))
    cells = [Series(s.title, s.role, [([60.0], value)] * runs) for s in every]
    curves = [
        training_log.Training(s.title, [1, 2], [10.0, 20.0], [2.0, 1.0]) for s in every
    ]
    for drawing in (
        figures.accuracy(names, every),
        figures.swept("loss.margin", places, cells),
        training_log.drawing(curves),
        figures.against_epsilon(
            [figures.Curve(s.title, [0, 1], [90, 10]) for s in every], "linf"
        ),
    ):
        assert len(drawing.legends[0].get_texts()) == len(every)
        _check_inside(drawing)


def _check_inside(drawing):
    """The legend lies in the figure, under the axes."""
    drawing.draw_without_rendering()
    (legend,) = drawing.legends
    box, whole = legend.get_window_extent(), drawing.bbox
    assert box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1
    assert box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1
    for axes in drawing.axes:
        assert box.y1 <= axes.get_tightbbox().y0 + 1
        assert axes.get_window_extent().height > 50


def test_natural_and_worst_always_look_the_same():
    value = (60.0, 50.0, 70.0)
    seen = []
    for attacks in (1, 9):
        every = [
            *(Series(f"attack {i}", ATTACK, [value]) for i in range(attacks)),
            Series("natural", NATURAL, [value]),
            Series("worst", WORST, [value]),
        ]
        bars = figures.accuracy(["a"], every).axes[0].patches
        assert len(bars) == 2
        assert bars[0].get_y() < bars[1].get_y() < bars[0].get_y() + 1.2
        seen.append([(bar.get_facecolor(), bar.get_hatch()) for bar in bars])
    assert seen[0] == seen[1]
    colours = {colour for colour, _ in seen[0]}
    attacks = {colors.to_rgba(style.look(i).colour) for i in range(12)}
    assert len(colours) == 2 and colours.isdisjoint(attacks)


MARKUP = ("- a", "# a", "1. a", "12) a", "===", "[a](b)", "> a")


@pytest.mark.parametrize("text", MARKUP)
def test_markdown_shows_text_as_it_is(tmp_path, text):
    markdown_it = pytest.importorskip("markdown_it")
    report.write(text, [Section(text, [[text, "b"], ["1", text]], [text])], tmp_path)
    content = (tmp_path / "report.md").read_text("utf-8")
    shown = markdown_it.MarkdownIt("commonmark").enable("table").parse(content)
    texts = [
        "".join(part.content for part in token.children)
        for token in shown
        if token.type == "inline"
    ]
    assert texts == [text, text, text, "b", "1", text, text]
    assert {"bullet_list_open", "ordered_list_open", "blockquote_open"}.isdisjoint(
        token.type for token in shown
    )


def test_sections_of_any_kind_are_written(tmp_path):
    drawing = training_log.drawing([training_log.Training("a", [1], [2.0], [3.0])])
    sections = [
        Section("One", [["a", "b"], ["1", "x"], ["across"]], records=[{"a": np.inf}]),
        Section("Two", figures=[Figure("same/../name", drawing, "first")]),
        Section("Three", figures=[Figure("same/../name", drawing, "second")]),
        Section("Four", blocks=[Block("how", "cd /\n`ls`\n</code><script>")]),
        Section("Five", records=[{"b": np.float32(0.5), "c": {"d": [np.nan]}}]),
        Section("Six", records=[{"e": "ε"}]),
    ]
    text = report.write("<Any>", sections, tmp_path)
    assert re.search(r"^across$", text, re.MULTILINE)
    lines, objects = _numbers(tmp_path)
    assert objects == [{"a": "inf"}, {"b": 0.5, "c": {"d": [None]}}, {"e": "ε"}]
    assert lines[0] == {"a": "inf", "b": "", "c": "", "e": ""}
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "same____name.png",
        "same____name_2.png",
    }
    assert _page(tmp_path).tags.count("script") == 1
    assert "<Any>" in _page(tmp_path).text


def test_all_files_are_utf8(workdirs, tmp_path):
    _write(workdirs, tmp_path / "report", drawn=False)
    for name in ("report.html", "report.md", "numbers.csv"):
        assert "ε" in (tmp_path / "report" / name).read_text("utf-8")
    measures = [found.get("measure") for found in _numbers(tmp_path / "report")[1]]
    assert "worst linf ε=0.3" in measures


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_a_table_of_any_width_fits_the_terminal(count):
    header = ["name", *(f"column {i} objective=margin" for i in range(count))]
    table = [header, ["a" * 50, *["1.0 ± 0.5"] * count], ["b", "a status " * 20]]
    text = tables.aligned(table)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("1.0 ± 0.5") == count
    assert " ".join(text.split()).count("a status") == 20


def test_earlier_files_stay_where_the_new_cannot_be_written(workdirs, tmp_path):
    folder = tmp_path / "report"
    folder.write_text("a file")
    with pytest.raises(OSError):
        _write(workdirs, folder)
    assert folder.read_text() == "a file"


def test_saved_configs_of_earlier_versions_are_said(tmp_path):
    workdir = make_run(tmp_path / "a", "a")
    values = files.read_json(workdir / "config.json")
    del values["train"]["momentum"]
    files.write_json(workdir / "config.json", values)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = report.load_row(workdir)
    assert row.summary and any("momentum" in note for note in row.notes)


def test_a_figure_that_is_not_finished_leaves_the_one_before(tmp_path, monkeypatch):
    style.save(style.new(1.0), tmp_path / "a")
    before = (tmp_path / "a.png").read_bytes()

    def cut_short(self, file, **_):
        (file.write if hasattr(file, "write") else Path(file).write_bytes)(b"half")
        raise OSError("full")

    monkeypatch.setattr(drawn.Figure, "savefig", cut_short)
    with pytest.raises(OSError, match="full"):
        style.save(style.new(1.0), tmp_path / "a")
    assert (tmp_path / "a.png").read_bytes() == before


def test_no_matplotlibrc_changes_a_figure(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True")
    done = subprocess.run(
        [sys.executable, "-c", "import matplotlib, advloss.report.style\n"
         "print(matplotlib.rcParams['text.usetex'])"],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "False\n", done.stderr


def test_a_report_of_other_runs_is_replaced_only_on_purpose(tmp_path):
    """One that is of more runs replaces it; and runs may move with their report."""
    one, two, three = (make_run(tmp_path / "all" / n, n) for n in ("one", "two", "3"))
    folder = tmp_path / "all" / "report"
    _write([one], folder, drawn=False)
    _write([one, two], folder, drawn=False)
    before = (folder / "report.html").read_bytes()
    for others in ([two], [one, three], []):
        with pytest.raises(InputError, match=r"report of other runs \(.*overwrite"):
            _write(others, folder, drawn=False)
    assert (folder / "report.html").read_bytes() == before
    report.check_runs(folder, [three, two, one])
    with pytest.raises(InputError, match=r"other runs \(\.\./one, \.\./two, seen from"):
        report.check_runs(folder, [three])
    moved = (tmp_path / "all").rename(tmp_path / "moved")
    _write([moved / "two", moved / "one"], moved / "report", drawn=False)
    _write([moved / "3"], moved / "report", drawn=False, overwrite=True)
    report.check_runs(moved / "report", [moved / "3"])


def test_runs_of_several_seeds_have_their_mean(tmp_path):
    """0, 2 and 4 of 20 images more than 8: the mean is 50 %."""
    runs = [
        make_run(tmp_path / f"s{i}", "s", accuracy=0.4 + i / 10, changes={"seed": i})
        for i in range(3)
    ]
    runs += [
        make_run(tmp_path / f"h{i}", "h", changes={"seed": i, "loss.name": "hinge"})
        for i in range(2)
    ]
    runs += [make_run(tmp_path / "lone", "lone", changes={"loss.name": "lmcl"})]
    section = _sections(runs)["Means over seeds"]
    header, *rows = section.table
    assert header[:3] == ["network", "seeds", "natural %"]
    assert [row[:2] for row in rows] == [["s", "3"], ["h", "2"]]
    place = header.index("PGD-100 ε=0.3 %")
    # Student's interval over 40, 50, 60 is 50 ± 24.8; Wilson's over 10 of 20 ± 20.1.
    assert rows[0][place] == "50.0 [18.1, 81.9]"
    assert rows[1][place] == "50.0 (50.0, 50.0)"
    (record,) = (
        r for r in section.records if r["network"] == "s" and r["measure"][:3] == "PGD"
    )
    assert record["accuracy"] == pytest.approx(0.5) and record["seeds"] == 3
    assert "Means over seeds" not in _sections(runs[4:])


def test_means_of_one_name_are_not_called_by_a_seed(tmp_path):
    """A mean is of no seed: trainings of one name are told apart by their folders."""
    runs = []
    for margin, seed in ((0.1, 0), (0.1, 1), (0.2, 1), (0.2, 2)):
        changes = {"loss.name": "lmcl", "loss.margin": margin, "seed": seed}
        runs.append(make_run(tmp_path / f"{margin}-{seed}", "lmcl", changes=changes))
    _, *rows = _sections(runs)["Means over seeds"].table
    assert [row[0] for row in rows] == [
        f"lmcl ({tmp_path / first}, ...)" for first in ("0.1-0", "0.2-1")
    ]


def test_a_seed_that_is_there_twice_counts_once(tmp_path):
    runs = [
        make_run(tmp_path / name, "s", accuracy=accuracy, changes={"seed": seed})
        for name, accuracy, seed in (("a", 0.2, 0), ("b", 0.8, 0), ("c", 0.4, 1))
    ]
    section = _sections(runs)["Means over seeds"]
    header, row = section.table
    assert row[header.index("PGD-100 ε=0.3 %")] == "30.0 (20.0, 40.0)"
    (note,) = section.notes[1:]
    assert note == f"Of s, seed 0, {runs[0]} counts; not {runs[1]}."


@pytest.mark.parametrize("changes", [{"train.steps": 700}, {"loss.margin": 0.2}])
def test_other_trainings_and_other_images_are_not_averaged(tmp_path, changes):
    kinds = {"loss.name": "lmcl"}
    one = make_run(tmp_path / "one", "a", changes=kinds)
    other = make_run(tmp_path / "other", "a", changes={**kinds, **changes, "seed": 1})
    more = make_run(
        tmp_path / "more", "a", changes={**kinds, "seed": 2}, labels=np.arange(30) % 10
    )
    assert "Means over seeds" not in _sections([one, other, more])


@pytest.mark.parametrize(
    ("places", "title"),
    [
        (("short/a", "short/b"), "short: a, b"),
        (("short/a", "long/a"), "short/a, long/a"),
    ],
)
def test_titles_tell_studies_apart(tmp_path, monkeypatch, places, title):
    from advloss.cli import flags
    from advloss.cli import report as command

    made = []
    monkeypatch.setattr(command.report, "sections_of_runs", lambda runs: [])
    monkeypatch.setattr(
        command.report, "write", lambda title, *_, **__: made.append(title)
    )
    runs = ",".join(str(tmp_path / place) for place in places)
    arguments = [f"--runs={runs}", f"--workdir={tmp_path / 'report'}"]
    command.main(flags.parse(command.FLAGS, ["advloss", "report"], arguments))
    assert made == [title]


@pytest.mark.parametrize("other", ["train", "teacher"])
def test_trainings_on_other_images_or_by_another_teacher_are_not_averaged(
    tmp_path, other
):
    """Of which a config says where they lie alone."""
    taught = {"defence.name": "distillation", "defence.teacher": "teacher"}
    runs = []
    for seed in range(3):
        run = make_run(tmp_path / f"{seed}", "a", changes={**taught, "seed": seed})
        noted = {"train": "a", "test": "b", "teacher": "c"}
        noted[other] = "d" if seed == 2 else noted[other]
        files.write_json(run / "data.json", noted)
        runs.append(run)
    _, row = _sections(runs)["Means over seeds"].table
    assert row[:2] == ["a", "2"]
