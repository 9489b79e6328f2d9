"""Pages as a browser lays them out: nothing wider than the window, no image missing."""

import json
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from made_runs import make_run

from advloss import report
from advloss.attacks import ATTACKS, TRAINING_ONLY

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_WIDTH = 1100  # Of the window, in pixels.
# What the browser saw goes into the title, which it prints with the rest.
_LOOK = """<script>
addEventListener("load", () => {
  const page = document.documentElement, sticky = [];
  for (const box of document.querySelectorAll(".scroll")) {
    box.scrollLeft = box.scrollWidth;
    const cell = box.querySelector("td").getBoundingClientRect();
    sticky.push(cell.left - box.getBoundingClientRect().left);
  }
  document.title = JSON.stringify({
    window: innerWidth, page: page.scrollWidth, sticky: sticky,
    images: [...document.images].map(image => image.naturalWidth),
    beyond: [...document.images].map(image => image.getBoundingClientRect().right),
  });
});
</script>"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if not found:
        pytest.skip(f"there is no {_BROWSERS[0]} to open a page with")
    return found


class _Title(HTMLParser):
    """What the title says."""

    def __init__(self, content):
        super().__init__()
        self.inside, self.text = False, ""
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "title" and not self.text

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        self.text += data if self.inside else ""


def _seen(browser, page, folder):
    """What a browser sees of a page; a copy of it says it."""
    copy = folder / "copy.html"
    content = page.read_text(encoding="utf-8")
    copy.write_text(content.replace("</body>", f"{_LOOK}</body>"), encoding="utf-8")
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu",
            f"--window-size={_WIDTH},3000", f"--user-data-dir={folder / 'profile'}",
            "--dump-dom", copy.as_uri(),
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return json.loads(_Title(done.stdout).text)


@pytest.mark.parametrize("count", [2, 12])
def test_a_page_fits_the_window(browser, tmp_path, count):
    """At few attacks and at many; tables scroll, their first column stays in sight."""
    measures = [n for n, each in ATTACKS.items() if each.kind != TRAINING_ONLY]
    attacks = tuple(n for n in measures if ATTACKS[n].norm == "linf")[:count]
    assert len(attacks) == count
    runs = [
        make_run(tmp_path / f"run{i}", name, accuracy=0.2, attacks=attacks)
        for i, name in enumerate(("softmax", 40 * "x"))
    ]
    command = f"advloss report --runs={','.join(map(str, runs))}"
    sections = report.sections_of_runs(runs)
    drawn = sum(len(section.figures) for section in sections)
    report.write("Two networks", sections, tmp_path / "report", command=command)
    page = tmp_path / "report" / "report.html"
    seen = _seen(browser, page, tmp_path)
    assert seen["page"] <= seen["window"] <= _WIDTH
    assert len(seen["images"]) == drawn and min(seen["images"]) > 500
    assert max(seen["beyond"]) <= seen["window"]
    assert max(map(abs, seen["sticky"])) < 2
    assert len(seen["sticky"]) == sum(bool(section.table) for section in sections)
