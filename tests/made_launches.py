"""Launchers that must refuse what they are given: in this process, or in a child."""

import multiprocessing
import os
import re
import runpy
import sys
import threading
import warnings
from pathlib import Path

import pytest
from conftest import ROOT

from advloss.cli import flags, launch, main
from advloss.runtime import signals

TRAIN = ("train", "--config=configs/default.py", "--devices=1")


def in_this_process(monkeypatch, capfd):
    """(arguments) -> exit status, standard error, of a launcher in this process."""
    for where, name in (
        (warnings, "showwarning"), (threading, "excepthook"), (sys, "unraisablehook"),
    ):  # fmt: skip
        monkeypatch.setattr(where, name, getattr(where, name))
    monkeypatch.setattr(signals, "listen", lambda: None)
    monkeypatch.setattr(flags, "devices", lambda *_: pytest.fail("it is not refused"))
    monkeypatch.setattr(launch, "_keep_compiled_programs", lambda: None)
    monkeypatch.chdir(ROOT)

    def call(arguments):
        command, *rest = arguments
        with pytest.raises(SystemExit) as ended:
            main.run(command, ["advloss", command], rest)
        said = capfd.readouterr()
        assert said.out == ""
        return ended.value.code, said.err

    return call


def _serve(arguments: list[str], cwd: str, output: str) -> None:
    """In the child: a launcher, with what it says in files."""
    os.chdir(cwd)
    sys.path.insert(0, str(ROOT))
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT), number)
    sys.argv = [f"experiments.{arguments[0]}", *arguments[1:]]
    runpy.run_module(f"experiments.{arguments[0]}", run_name="__main__")


def in_a_child(tmp_path_factory):
    """(arguments) -> exit status, standard error, of a launcher of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["advloss.cli.launch", "advloss.cli.study"])

    def call(arguments):
        output = tmp_path_factory.mktemp("said")
        process = context.Process(
            target=_serve, args=(list(arguments), str(ROOT), str(output))
        )
        process.start()
        process.join(120)
        return process.exitcode, (output / "stderr").read_text()

    return call


def _contents(folder: Path) -> dict:
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_refused(call, arguments, said, folder):
    """Exit status 2, one line that says it, and nothing on the disk is changed."""
    before = _contents(folder)
    status, text = call([str(a) for a in arguments])
    errors = [line for line in text.splitlines() if not line.startswith("warning: ")]
    assert status == 2, text
    assert len(errors) == 1, text
    assert errors[0].startswith("error: ")
    assert re.search(said, errors[0]), errors[0]
    assert not re.search(r"advloss\.errors|InputError", errors[0])
    assert _contents(folder) == before
