"""The report: numbers in every form, missing runs, text that must be escaped."""

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from advloss import config as configs
from advloss import report
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
    attack = {"settings": config.evaluate.pgd.to_dict(), "final": cell, "worst": cell}
    results = {
        "step": 600,
        "examples": 20,
        "natural": {**cell, "accuracy": 0.975},
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
    assert re.search(r"first .*softmax .*PGD-5 .*97.5 ± 4.0 .*61.5 ± 4.0", table)
    assert re.search(r"waiting .*not evaluated yet", table)
    assert re.search(r"missing .*no such run", text)


def test_csv_holds_every_number_unrounded(workdirs, tmp_path):
    report.write(workdirs, tmp_path / "report")
    with (tmp_path / "report" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = [row for row in rows if row["network"] == "first"]
    assert [row["measure"] for row in first] == ["natural", "PGD-100", "PGD-100 worst"]
    assert float(first[1]["accuracy"]) == 0.615
    assert [row["status"] for row in rows[3:4]] == ["not evaluated yet"]


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
    name = '<script>alert(1)</script>|&"'
    workdir = _make_run(tmp_path / "a", name)
    report.write([workdir], tmp_path / "report")
    content = (tmp_path / "report" / "report.html").read_text()
    assert "<b>" not in content
    page = _Collector()
    page.feed(content)
    assert any(name in text for text in page.text)
    assert "b" not in page.tags


def test_other_settings_are_other_columns(tmp_path):
    """PGD-10 is no PGD-100, though the one name begins with the other."""
    workdirs = [_make_run(tmp_path / name, name) for name in ("ten", "hundred")]
    path = workdirs[0] / "evaluation.json"
    results = json.loads(path.read_text())
    results["attacks"]["pgd"]["settings"]["steps"] = 10
    path.write_text(json.dumps(results))
    rows = [report.load_row(workdir) for workdir in workdirs]
    lines = report.terminal_table(rows).splitlines()
    assert lines[2].split()[-2:] == ["-", "-"]
    assert "-  " in lines[3]


def test_a_damaged_gallery_leaves_the_table(tmp_path):
    workdir = _make_run(tmp_path / "a", "first")
    (workdir / "evaluation" / "pgd.npz").write_bytes(b"PK")
    assert "50.0" in report.write([workdir], tmp_path / "report")


def test_a_report_of_nothing_but_missing_runs(tmp_path):
    text = report.write([tmp_path / "x"], tmp_path / "report")
    assert "no such run" in text
    assert (tmp_path / "report" / "report.html").exists()
