"""The architecture as docs/architecture.md draws it, measured from the sources.

Which room may import which is a contract in pyproject.toml that `make lint` checks.
"""

import ast
import functools
from pathlib import Path

from conftest import ROOT

FLOORS = 10  # A file stands on the floor above the highest file that it imports.
_FACE = 40  # Lines of a package's __init__ that only hands on what others define.


@functools.cache
def _sources() -> dict[str, Path]:
    """Every module of the library and the launchers by its dotted name."""
    found = {}
    for package in ("advloss", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join(parts)] = path
    return found


@functools.cache
def _tree(name: str) -> ast.Module:
    return ast.parse(_sources()[name].read_text(encoding="utf-8"))


@functools.cache
def _imports(name: str) -> frozenset[str]:
    """The modules of ours that a module imports as its file is read."""
    found = set()
    for node in _tree(name).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in _sources() else node.module)
    return frozenset(found & set(_sources()) - {name})


def _is_face(name: str) -> bool:
    """Whether it is a package's file that defines nothing."""
    path = _sources()[name]
    defines = ast.FunctionDef | ast.ClassDef
    return (
        path.name == "__init__.py"
        and len(path.read_text(encoding="utf-8").splitlines()) < _FACE
        and not any(isinstance(node, defines) for node in _tree(name).body)
    )


@functools.cache
def _floor(name: str) -> int:
    below = max((_floor(other) for other in _imports(name)), default=0)
    return below if _is_face(name) else below + 1


def test_nothing_stands_higher_than_the_tenth_floor():
    floors = {name: _floor(name) for name in _sources()}
    assert {n: f for n, f in floors.items() if f > FLOORS} == {}


def _names(name: str) -> set[str]:
    """Every dotted name of two parts that a module mentions, as jax.pmap."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(_tree(name))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def test_one_file_names_pmap():
    named = {name for name in _sources() if "jax.pmap" in _names(name)}
    assert named == {"advloss.runtime.devices"}


def test_launchers_are_a_few_lines():
    for name, path in _sources().items():
        if name.startswith("experiments."):
            assert len(path.read_text(encoding="utf-8").splitlines()) < 10, name


def test_no_file_is_longer_than_some_300_lines():
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in _sources().items()
    }
    assert {n: count for n, count in lines.items() if count > 310} == {}
