"""The report as one self-contained HTML page, and as Markdown."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from advloss import config as configs
from advloss import results
from advloss.report import tables
from advloss.report.figures import Drawn
from advloss.report.rows import Row
from advloss.report.section import Section

_TITLE = "Robustness report"
_STUDY = "Does the loss function make a deep network robust?"
_NOTE = (
    "The interval (Wilson) is over the choice of test images. The number after an "
    "attack's name is its steps, ε the radius in which it may change an image. Below "
    "an attack's name stands the accuracy at its last iterate, as the paper counts; "
    "“worst” counts an image as lost if it or any iterate of any attack is "
    "misclassified. Differences of a few points between networks of one seed each may "
    "be chance."
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { font-size: .82rem; border-collapse: collapse;
        font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .45rem; border-bottom: 1px solid #ccc; text-align: left;
         white-space: nowrap; }
td.status { color: #8a3b00; white-space: normal; }
figure { margin: 1rem 0 2rem; } img { max-width: 100%; height: auto; }
figcaption, .note { color: #555; font-size: .9rem; }
pre { background: #f5f5f5; padding: .8rem; overflow-x: auto; font-size: .85rem; }
"""


def markdown(rows: Sequence[Row], drawn: Sequence[Drawn]) -> str:
    """The table and the figures, which lie beside it as files."""
    parts = [f"# {_TITLE}", tables.markdown_table(tables.text_table(rows, tables.LONG))]
    parts += map(tables.escape_markdown, _notes(rows))
    parts += map(_markdown_figure, drawn)
    attacks = tables.attack_table(rows, tables.LONG)
    parts += ["## Attack by attack", tables.markdown_table(attacks)]
    return "\n\n".join(parts) + "\n"


def _markdown_figure(item: Drawn) -> str:
    caption = tables.escape_markdown(item.caption)
    return f"![{caption}]({item.png.name})\n\n{caption}"


def html(rows: Sequence[Row], drawn: Sequence[Drawn]) -> str:
    """One page that needs no other file: the runs, and figures put into it."""
    return _page(
        _TITLE,
        f"""<div class="scroll">{_run_table(rows)}</div>
<p class="note">{escape(" ".join(_notes(rows)))}</p>
{"".join(map(_figure, drawn))}
{_appendix(rows)}""",
    )


def study_markdown(
    made: Sequence[tuple[Section, Sequence[Drawn]]],
    rows: Sequence[Row],
    notes: Sequence[str],
) -> str:
    """A study: its sections with their figures, then every run.

    Args:
        made: sections, each with its figures as they were saved.
        rows: the runs.
        notes: what holds for all sections.
    """
    parts = [f"# {_STUDY}", *map(tables.escape_markdown, notes)]
    for section, drawn in made:
        parts.append(f"## {tables.escape_markdown(section.title)}")
        if section.table:
            parts.append(tables.markdown_table(section.table))
        parts += map(tables.escape_markdown, section.notes)
        parts += map(_markdown_figure, drawn)
    parts += ["## Every network", tables.markdown_table(_all_runs(rows))]
    return "\n\n".join(parts) + "\n"


def study_html(
    made: Sequence[tuple[Section, Sequence[Drawn]]],
    rows: Sequence[Row],
    notes: Sequence[str],
) -> str:
    """`study_markdown` as one page that needs no other file."""
    body = [_paragraphs(notes)]
    for section, drawn in made:
        body.append(f"<h2>{escape(section.title)}</h2>")
        if section.table:
            body.append(f'<div class="scroll">{_table(section.table)}</div>')
        body.append(_paragraphs(section.notes))
        body += map(_figure, drawn)
    body.append(f'<h2>Every network</h2><div class="scroll">{_run_table(rows)}</div>')
    return _page(_STUDY, "\n".join([*body, _appendix(rows)]))


def _all_runs(rows: Sequence[Row]) -> list[list[str]]:
    return tables.text_table(rows, tables.LONG)


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(f'<p class="note">{escape(text)}</p>' for text in sentences)


def _page(title: str, body: str) -> str:
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="note">Written by advloss on {date}.</p>
{body}
</body>
</html>
"""


def _appendix(rows: Sequence[Row]) -> str:
    attacks = tables.attack_table(rows, tables.LONG)
    return f"""<h2>Attack by attack</h2>
<div class="scroll">{_table(attacks)}</div>
<h2>How each network was made</h2>
{"".join(map(_details, rows))}"""


def _notes(rows: Sequence[Row]) -> list[str]:
    return [tables.note(rows), _NOTE, *tables.warnings(rows)]


def _run_table(rows: Sequence[Row]) -> str:
    table = _all_runs(rows)
    spans = [len(table[0]) - 3 if row.status else 0 for row in rows]
    return _table(table, spans)


def _table(table: list[list[str]], status_spans: Sequence[int] = ()) -> str:
    """An HTML table; a row with a span ends in one cell so wide, its status."""
    header, *body = table
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    for i, cells in enumerate(body):
        last = ""
        if i < len(status_spans) and (span := status_spans[i]):
            first = len(cells) - span
            status, cells = cells[first], cells[:first]
            last = f'<td class="status" colspan="{span}">{escape(status)}</td>'
        shown = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr>{shown}{last}</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _figure(item: Drawn) -> str:
    content = base64.b64encode(item.png.read_bytes()).decode()
    caption = escape(item.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{content}">'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _details(row: Row) -> str:
    if row.config is None:
        return ""
    lines = [configs.command_line("train", row.config, row.workdir)]
    attacks = (row.results or {}).get("attacks", {})
    if attacks:
        measured = results.measured_config(row.config, row.results)
        lines.append(
            configs.command_line("evaluate", measured, row.workdir, base=row.config)
        )
    made = {"trained": row.environment}
    made |= {name: attack.get("environment") for name, attack in attacks.items()}
    text = "\n".join(
        [*lines, "", configs.to_json(row.config), json.dumps(made, indent=2)]
    )
    return (
        f"<details><summary>{escape(row.name)}</summary>"
        f"<pre>{escape(text)}</pre></details>\n"
    )
