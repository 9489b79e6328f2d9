"""Tables and figures of runs, of sweeps and of the paper: one kind of report.

    sections = report.sections_of_runs(["runs/softmax", "runs/lmcl"])
    print(report.write("Softmax and LMCL", sections, "runs/report"))

A report is a list of sections, each a table or figures with notes. `write` makes of any
such list a page, Markdown, CSV, JSON and pictures. Lists can be joined: the sections of
a sweep or a study, then those of its runs with `appendix=True`.
"""

from advloss.report.diagnosis import sections_of_diagnosis
from advloss.report.exports import export
from advloss.report.model_info import About
from advloss.report.own import check_runs
from advloss.report.page import write
from advloss.report.paper import PARTS, Part, sections_of_paper
from advloss.report.rows import Row, load_row
from advloss.report.runs import sections_of_runs, terminal_attack_table
from advloss.report.section import Block, Figure, Section
from advloss.report.sweeps import sections_of_sweep

__all__ = [
    "PARTS", "About", "Block", "Figure", "Part", "Row", "Section", "check_runs",
    "export", "load_row", "sections_of_diagnosis", "sections_of_paper",
    "sections_of_runs", "sections_of_sweep", "terminal_attack_table", "write",
]  # fmt: skip
