"""Docstrings as text for sphinx: code is in `backticks`, blocks of it are indented."""

import re

_CODE = re.compile(r"(`+[^`]+`+)")
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")


def markdown(text):
    """A docstring's text in Markdown: what is not code means nothing but itself."""
    return _outside_code(r"([*_|<\[\]\\])", text)


def restructured(lines):
    """A docstring's lines in reStructuredText, with sections as napoleon reads them."""
    found, in_section, before = [], False, ""
    in_block = False
    for line in lines:
        indented = line.startswith(" ")
        if line and not indented:
            in_section, in_block = bool(_SECTION.fullmatch(line)), False
        if indented and not in_section and not in_block and not before:
            found += [".. code-block:: text", ""]
            in_block = True
        found.append(line if in_block else _inline(line))
        before = line
    return found


def _inline(line):
    line = _outside_code(r"([*|\\]|(?<=\w)_(?!\w))", line)
    return _CODE.sub(lambda code: f"``{code[1].strip('`')}``", line)


def _outside_code(special, text):
    parts = _CODE.split(text)
    parts[::2] = [re.sub(special, r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def process(app, what, name, obj, options, lines):
    """sphinx's event "autodoc-process-docstring"."""
    lines[:] = restructured(lines)
    if what in ("attribute", "data", "property") and lines:
        # What stands before a colon on the first line, napoleon would take for a type.
        lines[:1] = [
            part.strip() for part in re.split(r"(?<=:) ", lines[0], maxsplit=1)
        ]


def skip(app, what, name, obj, skipped, options):
    """sphinx's event "autodoc-skip-member": a class tells its tuple's fields itself."""
    return True if type(obj).__name__ == "_tuplegetter" else None
