"""The report of a study: the paper's tables and figures, each beside ours.

print(report.write_study(parts, workdirs, folder, budget="short", command="..."))
"""

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path

from advloss.report import figures, page, tables
from advloss.report.parts import PARTS
from advloss.report.rows import Row, load_row
from advloss.report.section import Section

_BUDGETS = {
    "paper": "The paper's protocol: 100,000 updates against PGD-40.",
    "short": "Not the paper's protocol but a short one: 2,000 updates against PGD-7. "
    "Compare losses with each other, not with the paper's numbers.",
    "smoke": "A smoke test of a few updates: its numbers mean nothing.",
}


def write_study(
    parts: Sequence[str],
    workdirs: Sequence[str | Path],
    folder: str | Path,
    *,
    budget: str,
    command: str,
) -> str:
    """Writes `report.html`, `report.md`, `numbers.csv`, `numbers.json` and figures.

    Args:
        parts: names in `parts.PARTS`, in the order to be shown.
        workdirs: of all runs of the study, finished or not.
        folder: made if need be; an earlier report there is replaced.
        budget: what the runs were trained with.
        command: makes the report again.

    Returns:
        The tables and the page's path, for a terminal.
    """
    rows = [load_row(workdir) for workdir in workdirs]
    # By their folders' names, which tell seeds apart.
    rows = [row._replace(name=row.workdir.name) for row in rows]
    sections = [PARTS[part](_grouped(rows)) for part in parts]
    notes = [_BUDGETS[budget], f"Made by: {command}"]
    shown = write_sections(sections, rows, Path(folder), notes)
    return "\n\n".join([*shown[:-1], notes[0], shown[-1]])


def write_sections(
    sections: Sequence[Section],
    rows: Sequence[Row],
    folder: Path,
    notes: Sequence[str],
) -> list[str]:
    """Writes the files of a report that is made of sections.

    Args:
        sections: in their order.
        rows: of all runs.
        folder: made if need be.
        notes: sentences that hold for all sections.

    Returns:
        The tables, and a line with the page's path, for a terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [
        [figures.save(sketch, folder / name) for name, sketch in s.sketches.items()]
        for s in sections
    ]
    records = [record for section in sections for record in section.records]
    (folder / "numbers.json").write_text(json.dumps(records, indent=1) + "\n")
    (folder / "numbers.csv").write_text(_csv(records))
    made = list(zip(sections, drawn, strict=True))
    (folder / "report.md").write_text(page.study_markdown(made, rows, notes))
    (folder / "report.html").write_text(page.study_html(made, rows, notes))
    shown = [_terminal(section) for section in sections if section.table]
    return [*shown, f"Report: {folder / 'report.html'}"]


def _grouped(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
    """By name and seed; of a run without a config both are in its folder's name."""
    groups: dict[str, dict[int, Row]] = {}
    for row in rows:
        name, _, seed = row.workdir.name.rpartition("-seed")
        groups.setdefault(name, {})[int(seed)] = row
    return groups


def _csv(records: Sequence[dict]) -> str:
    out = io.StringIO()
    keys = dict.fromkeys(key for record in records for key in record)
    writer = csv.DictWriter(out, keys, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


def _terminal(section: Section) -> str:
    notes = [textwrap.fill(note, 80) for note in section.notes]
    table = tables.aligned(section.table, section.table[1:])
    return "\n".join([section.title, "", table, "", *notes])
