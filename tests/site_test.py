"""The site's pages that are made from the library; `make docs` builds the rest."""

import importlib
import pkgutil
import types

import pytest
from conftest import ROOT

import advloss
from advloss.registry import Setting, positive


@pytest.fixture
def site(monkeypatch):
    """The modules in docs/ that make pages."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    names = ("pages", "docstrings")
    return types.SimpleNamespace(**{n: importlib.import_module(n) for n in names})


def test_a_registry_has_a_page_with_all_that_its_entries_say(site):
    for name, registry in site.pages.REGISTRIES.items():
        page = site.pages.registry_page(registry)
        for key, entry in registry.entries.items():
            assert f"## `{key}`" in page, (name, key)
            for setting, said in getattr(entry, "settings", {}).items():
                row = f"| `{setting}` | `{said.default!r}` |"
                assert row in page, (name, key, setting)
                text = site.docstrings.markdown(said.help)
                assert "|" in text or text in page, (name, key, setting)
        assert f"reference/registries/{name}" in _text("registries.md")


def test_every_registry_has_a_page(site):
    """Dicts whose entries have titles, wherever they are in the library."""
    shown = [id(registry.entries) for registry in site.pages.REGISTRIES.values()]
    for found in pkgutil.walk_packages(advloss.__path__, "advloss."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if name.isupper() and not name.startswith("_") and type(value) is dict:
                kinds = {type(entry) for entry in value.values()} - {str}
                titled = any(hasattr(kind, "title") for kind in kinds)
                assert not titled or id(value) in shown, (found.name, name)


def test_an_entry_needs_no_word_in_the_pages(site):
    """A loss that is entered anywhere appears with its docstring and its settings."""

    def own(logits, labels, *, margin):
        """Own | loss: `a_b * c`, of x_*.

        More of it.
        """

    settings = {"margin": Setting(0.5, positive(), "`a|b` or c|d", swept=True)}
    entries = {"own_loss": advloss.losses.Loss(own, "own", "linear", settings)}
    registry = site.pages.Registry("Losses", entries, "loss.name")
    assert site.pages.registry_page(registry).splitlines()[-10:] == [
        "(own-loss)=",
        "## `own_loss`",
        "",
        r"Own \| loss: `a_b * c`, of x\_\*.",
        "",
        "- head: `linear`",
        "",
        "| `config.loss` | default | valid | what it is | swept |",
        "| --- | --- | --- | --- | --- |",
        r"| `margin` | `0.5` | a finite number > 0 | `a\|b` or c\|d | yes |",
    ]


def test_public_names_are_on_a_page_of_the_api(site):
    shown = {
        id(getattr(importlib.import_module(module), name))
        for room, parts in site.pages.MODULES.items()
        for module in (room, *(f"{room}.{part}" for part in parts))
        for name in site.pages.public(module)
    }
    for room in site.pages.MODULES:
        page = room.removeprefix("advloss.")
        assert f"reference/api/{page}\n" in _text("api.md"), room
    for found in pkgutil.walk_packages(advloss.__path__, "advloss."):
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            # Registries and constants are no functions or classes.
            assert id(value) in shown or not callable(value), (found.name, name)


def test_pages_that_are_no_more_go(site, tmp_path):
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "gone.md").write_text("# Gone\n", encoding="utf-8")
    site.pages.write(tmp_path)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.md")}
    assert found == {
        *(f"registries/{name}.md" for name in site.pages.REGISTRIES),
        *(f"api/{name.removeprefix('advloss.')}.md" for name in site.pages.MODULES),
    }


def test_docstrings_become_what_sphinx_reads(site):
    lines = [
        "A loss of `x_*`, |x| and *args, name_.",
        "",
        "    loss(x, *y)",
        "",
        "    more",
        "After it.",
        "",
        "Args:",
        "    x: `[n]` of",
        "        two lines.",
    ]
    assert site.docstrings.restructured(lines) == [
        r"A loss of ``x_*``, \|x\| and \*args, name\_.",
        "",
        ".. code-block:: text",
        "",
        "    loss(x, *y)",
        "",
        "    more",
        "After it.",
        "",
        "Args:",
        "    x: ``[n]`` of",
        "        two lines.",
    ]


def _text(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")
