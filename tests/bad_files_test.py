"""Wrong files: configs and data are refused in one line, and nothing is touched."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_idx
from made_launches import TRAIN, assert_refused, in_a_child, in_this_process

_DEFAULT = """import ml_collections
from advloss import config
def get_config(x):
    c = config.default()
"""


# A config file's text, and its own error; the argument "x" is given.
CONFIG_FILES = {
    "a bug": ("raise RuntimeError('a\\nbug')\n", r"RuntimeError: a bug \(line 1\)"),
    "a syntax error": ("def get_config(:\n", r"SyntaxError: "),
    "a missing import": ("import nowhere\n", r"ModuleNotFoundError: No module named"),
    "no function": ("config = 1\n", r"no function get_config"),
    "nothing": ("", r"no function get_config"),
    "no argument": (
        "def get_config(): return 1\n",
        r"TypeError: get_config\(\) takes 0",
    ),
    "a KeyError": ("def get_config(x): return {}[x]\n", r"KeyError: x \(line 1\)"),
    "a ValueError": (
        "def get_config(x):\n    raise ValueError(f'{x}: use y')\n",
        r"ValueError: x: use y \(line 2\)",
    ),
    "an attribute": (
        _DEFAULT + "    c.lock()\n    c.train.stps = 5\n    return c\n",
        r"stps.*\(line 6\)",
    ),
    "a dict": ("def get_config(x): return {'seed': 1}\n", r"returned a dict: "),
    "None": ("def get_config(x): pass\n", r"returned a NoneType: .*ConfigDict"),
    "an exit": ("raise SystemExit(0)\n", r"SystemExit: 0"),
    "going elsewhere": ("import os\nos.chdir('/')\n1 / 0\n", r"ZeroDivision.*line 3"),
    "a Ctrl-C": ("raise KeyboardInterrupt\n", r"KeyboardInterrupt.*\(line 1\)"),
    "any exception": ("raise BaseException('x')\n", r"BaseException: x \(line 1\)"),
    "a StopIteration": ("def get_config(x): next(iter(()))\n", r"StopIteration"),
    "a group": ("raise ExceptionGroup('x', [OSError('y')])\n", r"ExceptionGroup: x"),
    "a line of its own": ("raise OSError('a\\x85b\\u2028c')\n", r"OSError: a"),
    "no text": (
        "class Odd(Exception):\n    def __str__(self): return 1 / 0\nraise Odd\n",
        r"Odd: Odd \(line 3\)",
    ),
    "a generator": ("def get_config(x): yield x\n", r"returned a generator: "),
    "a class": ("class get_config: __init__ = lambda *_: None\n", r"returned a get_c"),
    "odd values": (
        _DEFAULT + "    with c.ignore_type(): c.seed = object()\n    return c\n",
        r"config.seed=<object object at \w+> is not valid",
    ),
    "a repr that fails": (
        "class Odd:\n    def __repr__(self): return 1 / 0\n"
        + _DEFAULT
        + "    with c.ignore_type(): c.seed = Odd()\n    return c\n",
        r"config.seed=a Odd \(\w+\) is not valid",
    ),
    "a reference to nothing": (
        _DEFAULT
        + "    c.data.dir = ml_collections.config_dict.required_placeholder(str)\n"
        + "    return c\n",
        r"can't be read: ",
    ),
    "a recursion": ("def get_config(x): return get_config(x)\n", r"RecursionError: "),
    "itself": (
        _DEFAULT + "    c.data.me = c\n    return c\n",
        r"contains itself|data.me",
    ),
    "bytes": ("\udcff\udcfe", r"SyntaxError: "),
    "a null": ("x = '\0'\n", r"SyntaxError: |ValueError: "),
    "frozen": (
        _DEFAULT + "    c.seed = -1\n    return ml_collections.FrozenConfigDict(c)\n",
        r"config.seed=-1 is not valid",
    ),
    "another key": (
        _DEFAULT + "    c.data.x = 1\n    return c\n",
        r"config.data.x=1 is not a key",
    ),
    "a key that is no text": (
        _DEFAULT + "    with c.unlocked(): c[3] = 1\n    return c\n",
        r"config.py:x: the config can't be read: '<' not supported",
    ),
    "a key with dots": (
        "import ml_collections\n"
        "def get_config(x):\n"
        "    c = ml_collections.ConfigDict(allow_dotted_keys=True)\n"
        "    c['train.steps'] = 1\n    return c\n",
        r"config.py:x: the config can't be read: .*dots in field names",
    ),
    "a config that fails": (
        "import ml_collections\n"
        "class Odd(ml_collections.ConfigDict):\n"
        "    def to_dict(self): raise OSError('gone')\n"
        "def get_config(x): return Odd()\n",
        r"config.py:x: the config can't be read: gone",
    ),
    "a missing key": (
        _DEFAULT + "    del c.data.dir\n    return c\n",
        r"config.data.dir is missing",
    ),
}


# What leaves no stream to say it on.
CLOSING_FILES = {
    "stderr is closed": "import sys\nsys.stderr.close()\nraise OSError('x')\n",
    "stderr is gone": "import sys\nsys.stderr = None\nraise OSError('x')\n",
    "both are closed": (
        "import sys\nsys.stderr.close(), sys.stdout.close()\nraise OSError('x')\n"
    ),
}


FILE_CASES = {
    "other things in the work directory": r"not empty and holds no run",
    "a config that is no JSON": r"config.json is damaged",
    "a config of unknown keys": r"config.json is damaged or of another version",
    "a config that is a pipe": r"config.json is damaged",
    "no data folder": r"config.data.dir",
    "no labels": r"train-labels",
    "a wrong magic number": r"magic number 0x\w+ is wrong",
    "a header that promises too much": r"promises \d+ bytes",
    "images that are cut short": r"truncated",
    "labels out of range": r"label",
    "fewer labels than images": r"labels",
    "no pixels": r"idx|images|empty",
}


@pytest.fixture
def run(monkeypatch, capfd):
    return in_this_process(monkeypatch, capfd)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return in_a_child(tmp_path_factory)


@pytest.mark.parametrize("case", list(CONFIG_FILES))
def test_a_wrong_config_file(run, tmp_path, case):
    text, said = CONFIG_FILES[case]
    path = tmp_path / "config.py"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    arguments = [f"--config={path}:x", f"--workdir={tmp_path / 'run'}"]
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    try:
        assert_refused(run, ["train", *arguments], said, tmp_path)
        assert Path.cwd() == ROOT
    finally:
        sys.dont_write_bytecode = kept


@pytest.mark.parametrize("case", list(CLOSING_FILES))
def test_a_config_file_that_closes_a_stream(start, tmp_path, case):
    (tmp_path / "config.py").write_text(CLOSING_FILES[case])
    arguments = [f"--config={tmp_path}/config.py", f"--workdir={tmp_path / 'run'}"]
    assert_refused(start, ["train", *arguments], r"OSError: x \(line 3\)", tmp_path)


def test_a_config_file_that_uses_jax(start, tmp_path):
    default = (ROOT / "configs/default.py").read_text()
    (tmp_path / "config.py").write_text(f"{default}\nimport jax\njax.devices()\n")
    arguments = [f"--config={tmp_path}/config.py", f"--workdir={tmp_path / 'run'}"]
    said = r"--config=.*config.py uses JAX before .*: use numpy"
    assert_refused(start, ["train", *arguments], said, tmp_path)


@pytest.mark.parametrize("argument", ["", ":x", ":x.py:y"])
def test_a_config_file_of_a_path_with_colons(run, tmp_path, argument):
    (tmp_path / "a:b").mkdir()
    text = "def get_config(x=None): raise ValueError(f'given {x}')\n"
    (tmp_path / "a:b/c.py").write_text(text)
    arguments = ["train", f"--config={tmp_path}/a:b/c.py{argument}", "--workdir=W"]
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    try:
        said = f"ValueError: given {argument[1:] or None} \\(line 1\\)"
        assert_refused(run, arguments, said, tmp_path)
    finally:
        sys.dont_write_bytecode = kept


def test_a_pipe_as_a_config_file_is_not_waited_for(run, tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    arguments = ["train", f"--config={tmp_path}/pipe.py", f"--workdir={tmp_path}/run"]
    assert_refused(run, arguments, r"pipe.py can't be read", tmp_path)


@pytest.mark.parametrize("case", list(FILE_CASES))
def test_a_wrong_file(start, tmp_path, case):
    workdir, folder = tmp_path / "run", tmp_path / "data"
    rng = np.random.default_rng(0)
    folder.mkdir()
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = rng.integers(0, 255, (count, 8, 8))
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count) % 10)
    images, labels = (
        folder / f"train-{name}-ubyte" for name in ("images-idx3", "labels-idx1")
    )
    content = images.read_bytes()
    if case.startswith("other things"):
        workdir.mkdir()
        (workdir / "thesis.tex").write_text("precious")
    elif case == "a config that is a pipe":
        workdir.mkdir()
        os.mkfifo(workdir / "config.json")
    elif case.startswith("a config"):
        workdir.mkdir()
        text = "{" if "JSON" in case else '{"nmae": "x"}'
        (workdir / "config.json").write_text(text)
    elif case == "no data folder":
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    elif case == "no labels":
        labels.unlink()
    elif case == "a wrong magic number":
        images.write_bytes(b"\x00\x00\x0d" + content[3:])
    elif case == "a header that promises too much":
        images.write_bytes(content[:4] + b"\xff" * 12 + content[16:])
    elif case == "images that are cut short":
        images.write_bytes(content[:-7])
    elif case == "labels out of range":
        write_idx(labels, np.full(20, 200))
    elif case == "fewer labels than images":
        write_idx(labels, np.arange(19) % 10)
    elif case == "no pixels":
        write_idx(images, np.zeros((20, 0, 0)))
    arguments = [
        *TRAIN, f"--workdir={workdir}", "--config.data.source=idx",
        f"--config.data.dir={folder}", "--config.train.batch_size=10",
    ]  # fmt: skip
    assert_refused(start, arguments, FILE_CASES[case], tmp_path)
