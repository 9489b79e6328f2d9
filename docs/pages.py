"""Pages made from the library: one for each registry, and the public names of modules.

They are written anew whenever the site is built. An entry of a registry has its section
without a word here; a new registry or a new module needs a line in the lists below.
"""

import ast
import functools
import importlib
import inspect
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from docstrings import markdown

import advloss
from advloss import attacks, data, defences, losses, networks, optimisers
from advloss.data import augment


class Registry(NamedTuple):
    """A registry: its title, its entries, and how a config chooses one of them."""

    title: str
    entries: Mapping[str, Any]
    chosen_by: str


REGISTRIES = {
    "losses": Registry("Losses", losses.LOSSES, "loss.name"),
    "attacks": Registry("Attacks", attacks.ATTACKS, "evaluate.attacks"),
    "suites": Registry("Suites of attacks", attacks.SUITES, "evaluate.attacks"),
    "defences": Registry("Defences", defences.DEFENCES, "defence.name"),
    "networks": Registry("Networks", networks.NETWORKS, "model.name"),
    "activations": Registry("Activations", networks.ACTIVATIONS, "model.activation"),
    "sources": Registry("Sources of data", data.SOURCES, "data.source"),
    "augmentations": Registry(
        "Augmentations", augment.AUGMENTATIONS, "train.augment.names"
    ),
    "optimisers": Registry("Optimisers", optimisers.OPTIMISERS, "train.optimiser"),
    "schedules": Registry("Schedules", optimisers.SCHEDULES, "train.schedule"),
}
# What a page of the API describes, beside the module of its own name.
MODULES = {
    "advloss": [],
    "advloss.losses": [],
    "advloss.attacks": [],
    "advloss.defences": ["base"],
    "advloss.networks": ["layers"],
    "advloss.data": ["augment"],
    "advloss.optimisers": [],
    "advloss.evaluation": [
        "diagnosis",
        "curve",
        "results",
        "changes",
        "transfer",
        "statistics",
        "optimality",
        "exchange",
    ],
    "advloss.config": [],
    "advloss.report": [],
    "advloss.registry": [],
    "advloss.types": [],
}
_SIMPLE = bool, int, str, tuple  # Of an entry's fields, what is said in a word.


def write(folder: Path) -> None:
    """Writes all pages into folder/registries and folder/api, and removes old ones."""
    made = {
        f"registries/{name}.md": registry_page(registry)
        for name, registry in REGISTRIES.items()
    }
    made |= {
        f"api/{name.removeprefix('advloss.')}.md": api_page(name) for name in MODULES
    }
    for old in folder.glob("*/*.md"):
        old.unlink()
    for name, text in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def registry_page(registry: Registry) -> str:
    """A registry's entries: titles, what they are, settings."""
    section, _, last = registry.chosen_by.rpartition(".")
    several = last in ("attacks", "names")
    lines = [
        f"# {registry.title}",
        "",
        f"`--config.{registry.chosen_by}=NAME{',NAME' if several else ''}`",
        *_kind(registry),
        "",
        *_rows(("name", "title"), ("---", "---")),
    ]
    for name, entry in registry.entries.items():
        link = f"[`{name}`](#{_anchor(name)})"
        lines += _rows((link, markdown(_title(entry))))
    for name, entry in registry.entries.items():
        keys = f"{section}.{name}" if last == "attacks" else section
        if getattr(entry, "kind", None) == attacks.TRAINING_ONLY:
            keys = "train.attack"
        lines += ["", f"({_anchor(name)})=", f"## `{name}`", "", *_entry(entry, keys)]
    return "\n".join(lines) + "\n"


def _kind(registry: Registry) -> list[str]:
    """What its entries are, where they are more than functions."""
    kind = type(next(iter(registry.entries.values())))
    if not hasattr(kind, "_fields"):
        return []
    named = f"{kind.__module__}.{kind.__qualname__}"
    return ["", f"{{py:class}}`{named}` says what an entry's fields mean."]


def _anchor(name: str) -> str:
    return name.replace("_", "-")


def _title(entry: Any) -> str:
    """The title, or of a function alone what it is."""
    return getattr(entry, "title", "") or _summary(entry)


def _entry(entry: Any, keys: str) -> list[str]:
    """What an entry says of itself, and of its settings, keys of a section."""
    fields = entry._asdict() if hasattr(entry, "_asdict") else {"function": entry}
    lines = []
    for value in fields.values():
        if callable(value) and (text := _summary(value)):
            lines += [markdown(text), ""]
            break
    settings = fields.get("settings", {})
    usual = {"title": fields.get("title"), **getattr(entry, "_field_defaults", {})}
    bound = getattr(fields.get("function"), "keywords", {})  # Of a functools.partial.
    said = {
        key: value
        for key, value in {**fields, **bound}.items()
        if isinstance(value, _SIMPLE) and key not in settings
        if key not in usual or value != usual[key]
    }
    lines += [f"- {key.replace('_', ' ')}: {_value(v)}" for key, v in said.items()]
    if settings:
        heads = (f"`config.{keys}`", "default", "valid", "what it is", "swept")
        lines += ["", *_rows(heads, ("---",) * len(heads))]
        for key, setting in settings.items():
            valid, text = markdown(setting.valid.text), markdown(setting.help)
            swept = "yes" if setting.swept else ""
            cells = (f"`{key}`", f"`{setting.default!r}`", valid, text, swept)
            lines += _rows(cells)
    return lines


def _rows(*rows: tuple[str, ...]) -> list[str]:
    """Rows of a table; a bar ends a cell, of code, too, unless it is escaped."""
    escaped = ([re.sub(r"(?<!\\)\|", r"\|", cell) for cell in row] for row in rows)
    return [f"| {' | '.join(row)} |" for row in escaped]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    values = value if isinstance(value, tuple) else (value,)
    return ", ".join(f"`{each}`" for each in values)


def _summary(thing: Any) -> str:
    """The first paragraph of a docstring, of the function that others stand for."""
    while isinstance(thing, functools.partial):
        thing = thing.func
    text = inspect.getdoc(inspect.unwrap(thing)) or ""
    return " ".join(text.split("\n\n")[0].split())


def api_page(name: str) -> str:
    """The public names of a module and some of its own, for sphinx's autodoc."""
    lines = [f"# `{name}`"]
    for module in (name, *(f"{name}.{each}" for each in MODULES[name])):
        if module != name:
            lines += ["", f"## `{module}`"]
        lines += ["", "```{eval-rst}", f".. automodule:: {module}"]
        if names := public(module):
            lines.append(f"   :members: {', '.join(names)}")
        lines.append("```")
    return "\n".join(lines) + "\n"


def public(module: str) -> list[str]:
    """What a module shows: `__all__`, what it defines, and what its registries name.

    Registries have pages of their own, and what `advloss` itself shows stands there.
    """
    found = importlib.import_module(module)
    names = [*getattr(found, "__all__", ()), *_defined(found)]
    entered = {
        id(entry.function)
        for registry in REGISTRIES.values()
        for entry in registry.entries.values()
        if hasattr(entry, "function")
    }
    names = [*names, *(n for n, value in vars(found).items() if id(value) in entered)]
    first = [] if found is advloss else [getattr(advloss, n) for n in advloss.__all__]
    return [
        name
        for name in dict.fromkeys(names)
        if callable(value := getattr(found, name)) and value not in first
    ]


def _defined(module: Any) -> list[str]:
    """Functions and classes of a module, and what has a docstring below it."""
    lines = ast.parse(inspect.getsource(module)).body
    told = {
        ast.unparse(line.targets[0])
        for line, after in itertools.pairwise(lines)
        if isinstance(line, ast.Assign) and isinstance(after, ast.Expr)
    }
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (getattr(value, "__module__", "") == module.__name__ or name in told)
    ]
