"""The report as one self-contained HTML page, and as Markdown."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from advloss import config as configs
from advloss.report.figures import Drawn
from advloss.report.tables import Row, markdown_table, text_table

_TITLE = "Robustness report"
_NOTE = (
    "Accuracy on the test images in per cent, with the 95 % interval over the choice "
    "of test images (Wilson). The number after an attack's name is its steps. Without "
    "a further word it is the accuracy at the attack's last iterate; “worst” counts an "
    "example as lost if the natural image or any iterate is misclassified. Each row is "
    "one seed: differences of a few points may be chance."
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid #ccc; text-align: left;
         white-space: nowrap; }
td.status { color: #8a3b00; white-space: normal; }
figure { margin: 1rem 0 2rem; } img { max-width: 100%; height: auto; }
figcaption, .note { color: #555; font-size: .9rem; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .85rem; }
"""


def markdown(rows: Sequence[Row], drawn: Sequence[Drawn]) -> str:
    """The table and the figures, which lie beside it as files."""
    parts = [f"# {_TITLE}", markdown_table(rows), _NOTE]
    parts += [f"![{item.caption}]({item.png.name})\n\n{item.caption}" for item in drawn]
    return "\n\n".join(parts) + "\n"


def html(
    rows: Sequence[Row], drawn: Sequence[Drawn], environments: dict[str, dict]
) -> str:
    """One page that needs no other file.

    Args:
        rows: the runs.
        drawn: figures, put into the page.
        environments: of each run by its name: versions and devices.
    """
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_TITLE}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{_TITLE}</h1>
<p class="note">Written by advloss on {date}.</p>
<div class="scroll">{_table(rows)}</div>
<p class="note">{escape(_NOTE)}</p>
{"".join(map(_figure, drawn))}
<h2>How each network was made</h2>
{"".join(_details(row, environments.get(row.name, {})) for row in rows)}
</body>
</html>
"""


def _table(rows: Sequence[Row]) -> str:
    header, *body = text_table(rows, "{a:.1f} [{low:.1f}, {high:.1f}]")
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    for row, cells in zip(rows, body, strict=True):
        if row.status:
            known, span = cells[:3], len(header) - 3
            last = f'<td class="status" colspan="{span}">{escape(row.status)}</td>'
        else:
            known, last = cells, ""
        shown = "".join(f"<td>{escape(cell)}</td>" for cell in known)
        lines.append(f"<tr>{shown}{last}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _figure(item: Drawn) -> str:
    content = base64.b64encode(item.png.read_bytes()).decode()
    caption = escape(item.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{content}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _details(row: Row, environment: dict) -> str:
    if row.config is None:
        return ""
    command = f"python -m experiments.evaluate --workdir={row.workdir}"
    made_by = json.dumps(environment, indent=2)
    text = f"{command}\n\n{configs.to_json(row.config)}\n{made_by}"
    return (
        f"<details><summary>{escape(row.name)}</summary>"
        f"<pre>{escape(text)}</pre></details>\n"
    )
