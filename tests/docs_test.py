"""The documents: their Python runs, their commands are valid, what they name is there.

Fenced blocks of Python run in order, those of one file in one namespace; a comment
`<!-- not run: why -->` before a block leaves it out. Commands of the shell are read as
they would be when given, config and all, and end there: most train for minutes.
docs/keys.md is written by

    python tests/docs_test.py
"""

import functools
import importlib
import inspect
import re
import shlex
import sys
import textwrap
import types
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from conftest import ROOT, write_idx

import advloss
from advloss import attacks, config, data, defences, losses, networks
from advloss.cli import flags, main
from advloss.types import Split

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
KEYS = ROOT / "docs" / "keys.md"
WIDTH = 90  # Columns of what is no table and no link.
# Registries that guides enter something into; they are as before afterwards.
REGISTRIES = (
    losses.LOSSES, attacks.ATTACKS, attacks.SUITES, defences.DEFENCES,
    networks.NETWORKS, networks.ACTIVATIONS, data.SOURCES,
)  # fmt: skip
# Keys of studies and sweeps, beside those that every config has.
STUDY = {"sweep", "networks", "seeds", "parts", "budget"}

each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=[path.name for path in DOCUMENTS]
)


class Block(NamedTuple):
    """A fenced block: its language, its first line's number, why it is not run."""

    language: str
    line: int
    text: str
    skipped: str | None


@functools.cache
def _blocks(path: Path) -> tuple[Block, ...]:
    found, before, opened = [], "", None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if opened is None and (fence := re.fullmatch(r"```(\w*)", line)):
            skipped = re.fullmatch(r"<!-- not run: (.+) -->", before)
            opened = fence[1], number + 1, [], skipped and skipped[1]
        elif opened is not None and line == "```":
            language, first, lines, skipped = opened
            found.append(Block(language, first, "\n".join(lines), skipped))
            opened = None
        elif opened is not None:
            opened[2].append(line)
        before = line.strip() or before
    assert opened is None, f"{path}: a block is not closed"
    return tuple(found)


def _python(path: Path) -> list[Block]:
    return [b for b in _blocks(path) if b.language == "python" and not b.skipped]


def _commands(path: Path) -> list[list[str]]:
    """The words of every command in the shell blocks."""
    text = "\n".join(b.text for b in _blocks(path) if b.language == "sh")
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _given(path: Path) -> list[list[str]]:
    """The words after `advloss` of its commands, but for those that leave some out."""
    return [
        words[1:]
        for words in _commands(path)
        if words[0] == "advloss" and "--config=..." not in words
    ]


@pytest.fixture
def as_before():
    """Every registry is afterwards what it was."""
    kept = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, kept, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.fixture
def small(as_before, one_device, monkeypatch, tmp_path):
    """The same calls at toy sizes: few images, few steps, a network without
    convolutions, one device. In a folder of its own."""
    monkeypatch.chdir(tmp_path)
    defaults = inspect.unwrap(advloss.fit).__kwdefaults__
    monkeypatch.setitem(defaults, "steps", 2)
    monkeypatch.setitem(defaults, "batch_size", 8)
    monkeypatch.setitem(defaults, "devices", jax.devices()[:1])
    networks.NETWORKS["table1"] = networks.NETWORKS["mlp"]
    digits = data.SOURCES["mnist_5k"]

    def some():  # The middle of every image, each third pixel: 8x8.
        return tuple(
            Split(images[:24, 2:26:3, 2:26:3], labels[:24])
            for images, labels in digits.function()
        )

    data.SOURCES["mnist_5k"] = digits._replace(function=some)
    for name, entry in attacks.ATTACKS.items():
        few = {
            key: setting._replace(default=2) if key == "steps" else setting
            for key, setting in entry.settings.items()
        }
        attacks.ATTACKS[name] = entry._replace(settings=few)
    folder = tmp_path / "mnist"  # As guides call a folder of idx files.
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part in ("train", "t10k"):
        images = rng.integers(0, 256, (40, 28, 28))
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(40) % 10)


@pytest.mark.parametrize(
    "path",
    [path for path in DOCUMENTS if _python(path) or _given(path)],
    ids=lambda path: path.name,
)
def test_the_code_runs(path, small, compiled_quickly, monkeypatch):
    """And commands are valid after it: what a guide enters, they may name."""
    module = types.ModuleType(path.stem.replace("-", "_").lower())
    monkeypatch.setitem(sys.modules, module.__name__, module)  # Flax looks there.
    for block in _python(path):
        # A traceback has the document's own lines.
        text = "\n" * (block.line - 1) + block.text
        exec(compile(text, str(path), "exec"), module.__dict__)
    monkeypatch.chdir(ROOT)
    for command, *arguments in _given(path):
        _give(command, arguments)


def _give(command: str, arguments: list[str]) -> None:
    """What a command does before its work. Raises InputError."""
    name = "study" if command == "sweep" else command
    module = importlib.import_module(f"advloss.cli.{name}")
    if getattr(module, "SAVED_CONFIG", False):  # Of the run, which is not there.
        arguments = ["--config=configs/default.py", *arguments]
    given = flags.parse(module.FLAGS, ["advloss", command], arguments)
    if given.config is not None and name != "study":  # They have keys of their own.
        given.resolved()


@each_document
def test_commands_are_there(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    named = re.findall(r"`make ([\w-]+)`", path.read_text(encoding="utf-8"))
    assert [target for target in named if target not in targets] == []
    for words in _commands(path):
        for word, after in zip(words, [*words[1:], ""], strict=True):
            if word == "make":
                assert after in targets, words
            if word == "advloss" and words[0] == "advloss":
                assert after in main.COMMANDS, words
            if word.endswith("slurm.sh"):
                assert after in main.COMMANDS, words
            if word.startswith("--config="):
                file = word.removeprefix("--config=").partition(":")[0]
                assert file == "..." or (ROOT / file).exists(), words


@each_document
def test_keys_are_there(path):
    text = path.read_text(encoding="utf-8")
    known = {*config.keys(), *STUDY}
    named = re.findall(r"--config\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)", text)
    assert [key for key in named if key not in known] == []
    for words in _commands(path):
        for word in words:
            if word.startswith("--config.sweep="):
                axes = word.removeprefix("--config.sweep=").split()
                assert {axis.partition("=")[0] for axis in axes} <= known, words


@each_document
def test_files_and_modules_are_there(path):
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"(?:advloss|configs|tests|benchmarks|docs)/[\w./-]*\w", text)
    named = [name for name in named if "/_build/" not in name]  # `make docs` makes it.
    assert [name for name in named if not (ROOT / name).exists()] == []
    tests = set(re.findall(r"\b\w+_test\.py\b", text))
    assert [name for name in tests if not (ROOT / "tests" / name).exists()] == []
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    linked = re.findall(r"\]\(([^)#:]+)\)", prose)
    assert [name for name in linked if not (path.parent / name).exists()] == []
    for name in re.findall(r"experiments\.(\w+)", text):
        assert (ROOT / "experiments" / f"{name}.py").exists(), name


@each_document
def test_lines_are_short(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    prose = [line for line in lines if not line.startswith("|") and "](" not in line]
    assert [line for line in prose if len(line) > WIDTH] == []


_ABOUT_KEYS = """# Keys of a config

Made from the registries by `python tests/docs_test.py`. `advloss keys` lists the same
in a terminal, `advloss keys WORD` those with that word. On a command line,
`--config.KEY=VALUE` sets a key.

A key that is *unset* takes the default of the loss, defence, network or attack that is
chosen; set where that does not have it, it is refused. Runs that differ in *swept* keys
alone are trained as one program.
"""


def page_of_keys() -> str:
    """docs/keys.md: every key with its default, its help and what is valid."""
    lines, section = _ABOUT_KEYS.splitlines(), None
    for key, entry in config.keys().items():
        above, _, last = key.rpartition(".")
        if above != section:
            section = above
            lines += ["", f"## config.{section}" if section else "## config", ""]
        default = "unset" if entry.optional else f"`{entry.default!r}`"
        swept = ", swept" if entry.swept else ""
        text = f"{entry.help}. Valid: {entry.valid.text}.".replace("\\", "\\\\")
        wrapped = textwrap.wrap(
            # A line must not begin with ">", which would quote it.
            re.sub(" (>=?) ", "\xa0\\1\xa0", f"- `{last}` = {default}{swept}: {text}"),
            WIDTH,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [line.replace("\xa0", " ") for line in wrapped]
    return "\n".join(lines) + "\n"


def test_the_keys_are_those_of_the_registries():
    """Where they are not: python tests/docs_test.py"""
    assert KEYS.read_text(encoding="utf-8") == page_of_keys()


if __name__ == "__main__":
    KEYS.write_text(page_of_keys(), encoding="utf-8")
