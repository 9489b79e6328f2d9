"""Tables and pictures of finished runs; the only place that imports matplotlib.

    print(report.write(["runs/softmax", "runs/lmcl"], "runs/report"))

writes into the second folder `report.html` (one self-contained page), `report.md`,
`results.csv`, and every figure as PNG and SVG; what it returns is for the terminal.
"""

from collections.abc import Sequence
from pathlib import Path

from advloss.report import figures, page, tables
from advloss.report.rows import Row, load_row
from advloss.report.study import write_study
from advloss.report.sweep import write_sweep
from advloss.report.tables import terminal_attack_table, terminal_table

__all__ = [
    "Row",
    "load_row",
    "terminal_attack_table",
    "terminal_table",
    "write",
    "write_study",
    "write_sweep",
]


def write(workdirs: Sequence[str | Path], folder: str | Path) -> str:
    """Writes the report of some runs, in the order given.

    A run that is missing, unfinished or damaged is a row that says so.

    Args:
        workdirs: the runs.
        folder: made if need be; earlier reports there are replaced.

    Returns:
        The table and the page's path, for a terminal of 80 columns.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("gallery_*.*"):
        stale.unlink()
    rows = [load_row(workdir) for workdir in workdirs]
    sketches = {
        "accuracy": figures.accuracy(rows),
        "training": figures.training(rows),
        **{f"gallery_{i}": figures.gallery(row) for i, row in enumerate(rows)},
    }
    drawn = [
        figures.save(sketch, folder / name)
        for name, sketch in sketches.items()
        if sketch is not None
    ]
    (folder / "results.csv").write_text(tables.csv_table(rows))
    (folder / "report.md").write_text(page.markdown(rows, drawn))
    (folder / "report.html").write_text(page.html(rows, drawn))
    return f"{terminal_table(rows)}\n\nReport: {folder / 'report.html'}"
