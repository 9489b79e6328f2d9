"""How sphinx builds the site: `make docs`, into docs/_build/html.

Nothing is downloaded. Pages of the registries and of the API are made from the library
(`pages.py`), notebooks are executed, and a warning ends the build with an error.
"""

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]
# What notebooks compile serves the other ones, and the next build.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(DOCS / "_build" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import docstrings  # noqa: E402
import pages  # noqa: E402

import advloss  # noqa: E402

project = "advloss"
author = "The advloss developers"
version = release = advloss.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"advloss {release}"
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "navbar_persistent": [],  # The sidebar has a field to search in.
}
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # Seconds a cell.
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_type_aliases = {"Array": "Array", "PyTree": "PyTree"}
napoleon_use_ivar = True  # `Attributes:` of a class, beside its members.

_LINK = re.compile(r"\]\((?!\w+:|#)([^)]+)\)")


def _as_seen_from_docs(app, path, docname, content):
    """Links of files above docs/ that a page includes, such as README.md."""

    def link(found):
        target = found[1].removeprefix("docs/")
        there = (DOCS / target.partition("#")[0]).exists()
        return f"]({target if there else f'../{target}'})"

    if path.parent.parts and path.parts[0] == "..":
        content[0] = _LINK.sub(link, content[0])


def setup(app):
    pages.write(DOCS / "reference")
    app.connect("include-read", _as_seen_from_docs)
    # Before napoleon, which reads what is then reStructuredText.
    app.connect("autodoc-process-docstring", docstrings.process, priority=400)
    app.connect("autodoc-skip-member", docstrings.skip)
