"""The report: numbers in every form, missing runs, text that must be escaped."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from advloss import config as configs
from advloss import report
from advloss.report import tables
from configs import default


def _make_run(workdir, name, *, accuracy=0.5, evaluated=True):
    """A work directory as runs.py writes it, with numbers chosen by hand."""
    config = default.get_config()
    config.name = name
    workdir.mkdir()
    (workdir / "config.json").write_text(configs.to_json(configs.resolve(config)))
    rows = [{"step": s, "loss": 1 / s, "accuracy": s / 100} for s in (10, 20, 30)]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    if not evaluated:
        return workdir
    cell = {"accuracy": accuracy, "low": accuracy - 0.03, "high": accuracy + 0.05}
    attack = {
        "settings": config.evaluate.pgd.to_dict(),
        "final": cell,
        "worst": cell,
        "gradients": 100,
        "blind": 0,
        "seconds": 12.0,
    }
    results = {
        "step": 600,
        "examples": 20,
        "seed": 0,
        "natural": {**cell, "accuracy": 0.975},
        "worst_of_all": cell,
        "attacks": {"pgd": attack},
    }
    (workdir / "evaluation.json").write_text(json.dumps(results))
    (workdir / "evaluation").mkdir()
    labels = np.arange(20) % 10
    np.savez(
        workdir / "evaluation" / "pgd.npz",
        labels=labels,
        natural=labels,
        attacked=(labels + 1) % 10,
        natural_images=np.full((20, 8, 8, 1), 0.2, np.float32),
        attacked_images=np.full((20, 8, 8, 1), 0.5, np.float32),
    )
    return workdir


@pytest.fixture
def workdirs(tmp_path):
    return [
        _make_run(tmp_path / "a", "first", accuracy=0.615),
        _make_run(tmp_path / "b", "waiting", evaluated=False),
        tmp_path / "missing",
    ]


def test_the_terminal_table_fits_80_columns(workdirs, tmp_path):
    text = report.write(workdirs, tmp_path / "report")
    table = text.split("Report:")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert re.search(r"first .*softmax .*PGD-5 ε=0.3 .*97.5 ± 4.0 .*61.5 ± 4.0", table)
    assert "over 20 test images" in table
    assert re.search(r"waiting .*not evaluated yet", table)
    assert re.search(r"missing .*no such run", text)


def test_csv_holds_every_number_unrounded(workdirs, tmp_path):
    report.write(workdirs, tmp_path / "report")
    with (tmp_path / "report" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = [row for row in rows if row["network"] == "first"]
    pgd = "PGD-100 ε=0.3"
    measures = ["natural", pgd, f"{pgd} worst", "worst of all"]
    assert [row["measure"] for row in first] == measures
    assert float(first[1]["accuracy"]) == 0.615
    assert json.loads(first[1]["settings"])["step_size"] == 0.01
    assert [row["status"] for row in rows[4:]] == ["not evaluated yet", "no such run"]


class _Collector(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [v for k, v in attrs if k in ("src", "href")]

    def handle_data(self, text):
        self.text.append(text)


def test_the_page_needs_no_other_file(workdirs, tmp_path):
    report.write(workdirs, tmp_path / "report")
    page = _Collector()
    page.feed((tmp_path / "report" / "report.html").read_text())
    assert page.tags.count("img") == 3  # Accuracies, training, one gallery.
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "61.5 [58.5, 66.5]" in page.text
    markdown = (tmp_path / "report" / "report.md").read_text()
    for picture in re.findall(r"\]\(([^)]+)\)", markdown):
        assert (tmp_path / "report" / picture).stat().st_size > 1000
        assert (tmp_path / "report" / picture).with_suffix(".svg").exists()


def test_names_are_text_and_not_markup(tmp_path):
    name = '<script>alert(1)<script>|&*"'
    workdir = _make_run(tmp_path / "a", name)
    report.write([workdir], tmp_path / "report")
    content = (tmp_path / "report" / "report.html").read_text()
    assert "<script" not in content
    page = _Collector()
    page.feed(content)
    assert any(name in text for text in page.text)
    assert "script" not in page.tags
    markdown = (tmp_path / "report" / "report.md").read_text()
    assert r"\<script\>alert\(1\)\<script\>\|&\*" in markdown


def _change(workdir, change):
    path = workdir / "evaluation.json"
    results = json.loads(path.read_text())
    change(results)
    path.write_text(json.dumps(results))


def test_other_settings_are_other_columns(tmp_path):
    """PGD-10 is no PGD-100, and PGD in smaller steps is another PGD-100."""
    workdirs = [_make_run(tmp_path / name, name) for name in ("ten", "hundred", "slow")]
    for workdir, key, value in (
        (workdirs[0], "steps", 10),
        (workdirs[2], "step_size", 0.001),
    ):
        _change(
            workdir,
            lambda r: r["attacks"]["pgd"]["settings"].update({key: value}),  # noqa: B023
        )
    rows = [report.load_row(workdir) for workdir in workdirs]
    header, *cells = tables.text_table(rows, tables.SHORT)
    assert header[4:] == [
        "PGD-10 ε=0.3 step=0.01",
        "PGD-100 ε=0.3 step=0.01",
        "PGD-100 ε=0.3 step=0.001",
        "worst",
    ]
    for i, row in enumerate(cells):
        assert [j for j in range(3) if row[4 + j] != "-"] == [i]


def test_other_numbers_of_images_are_said(tmp_path):
    workdirs = [_make_run(tmp_path / name, name) for name in ("few", "many")]
    _change(workdirs[1], lambda r: r.update(examples=20_000))
    rows = [report.load_row(workdir) for workdir in workdirs]
    table = tables.text_table(rows, tables.SHORT)
    assert [row[3] for row in table] == ["images", "20", "20000"]
    assert "over test images" in report.terminal_table(rows)


def test_the_attacks_of_one_run(tmp_path):
    workdir = _make_run(tmp_path / "a", "first")
    closest = {
        "settings": default.get_config().evaluate.carlini_l2.to_dict(),
        "median_distance": None,
        "blind": 7,
    }
    _change(
        workdir,
        lambda r: r["attacks"].update(carlini_l2={**r["attacks"]["pgd"], **closest}),
    )
    text = report.terminal_attack_table(report.load_row(workdir))
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"PGD-100 ε=0.3 +50.0 ± 4.0 +50.0 ± 4.0 +100 +12", text)
    assert re.search(r"CW l2-1000 ε=2 +50.0 ± 4.0 +50.0 ± 4.0 +inf +100 +12", text)
    assert "carlini_l2 met no gradient at 7 of 20 images" in " ".join(text.split())


def test_a_table_that_is_too_wide_is_turned(tmp_path):
    workdirs = [_make_run(tmp_path / name, name) for name in ("one", "two")]
    for workdir in workdirs:
        for name in ("pgd_l2", "noise", "fgs"):
            settings = default.get_config().evaluate[name].to_dict()
            _change(
                workdir,
                lambda r: r["attacks"].update(
                    {name: {**r["attacks"]["pgd"], "settings": settings}}  # noqa: B023
                ),
            )
    text = report.terminal_table([report.load_row(w) for w in workdirs])
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"^network +one +two$", text, re.MULTILINE)
    assert re.search(r"^PGD l2-100 ε=2 +50.0 ± 4.0 +50.0 ± 4.0$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("file", "content", "status"),
    [
        ("config.json", "{}", "damaged: config.json"),
        ("config.json", "\x00", "damaged: config.json"),
        ("config.json", None, "the folder holds no run"),
        ("evaluation.json", "[1]", "damaged: evaluation.json"),
        ("evaluation.json", "{}", "damaged: evaluation.json"),
        ("environment.json", "]", "50.0"),
        ("metrics.jsonl", "[1]\n{}\n\xff", "50.0"),
        ("evaluation/pgd.npz", "PK", "50.0"),
    ],
)
def test_damaged_files_leave_a_row(tmp_path, file, content, status):
    workdir = _make_run(tmp_path / "a", "first")
    if content is None:
        (workdir / file).unlink()
    else:
        (workdir / file).write_text(content)
    assert status in report.write([workdir], tmp_path / "report")


def test_figures_of_an_earlier_report_do_not_stay(tmp_path):
    workdirs = [_make_run(tmp_path / name, name) for name in ("one", "two")]
    report.write(workdirs, tmp_path / "report")
    report.write(workdirs[:1], tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").glob("gallery*")}
    assert names == {"gallery_0.png", "gallery_0.svg"}


def test_the_page_says_how_to_make_it_again(tmp_path):
    workdir = _make_run(tmp_path / "my runs", "first")
    _change(workdir, lambda r: r["attacks"]["pgd"]["settings"].update(restarts=3))
    report.write([workdir], tmp_path / "report")
    page = _Collector()
    page.feed((tmp_path / "report" / "report.html").read_text())
    text = "".join(page.text)
    where = f"'--workdir={workdir}'"
    train = f"python -m experiments.train {where} --config=configs/default.py"
    assert f"{train} --config.name=first\n" in text
    evaluate = f"python -m experiments.evaluate {where}"
    assert f"{evaluate} --config.evaluate.examples=20" in text
    assert "--config.evaluate.pgd.restarts=3\n" in text


def test_a_report_of_nothing_but_missing_runs(tmp_path):
    text = report.write([tmp_path / "x"], tmp_path / "report")
    assert "no such run" in text
    assert (tmp_path / "report" / "report.html").exists()
