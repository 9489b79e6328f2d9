"""Commands as a user runs them: the whole way, signals, streams, errors as one line.

Wrong input of all kinds is in bad_input_test.py and bad_files_test.py.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from conftest import ROOT

from advloss.cli import configfile, flags, launch, main, members, study, train
from advloss.config import schema, trees
from advloss.errors import InputError
from advloss.evaluation import results
from configs import paper


def _start(name, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)],
        cwd=ROOT,
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=options.pop("stderr", subprocess.PIPE),
        encoding="utf-8",
        **options,
    )


def _launch(name, *arguments, **options):
    process = _start(name, *arguments, **options)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _small(digits_dir, workdir):
    return [
        f"--workdir={workdir}",
        "--config=configs/quickstart.py:lmcl",
        "--config.data.source=idx",
        f"--config.data.dir={digits_dir}",
        "--config.model.name=mlp",
        "--config.train.steps=4",
        "--config.train.chunk_steps=2",
        "--config.train.checkpoint_every=2",
        "--config.train.attack.steps=1",
        "--config.evaluate.attacks=pgd",
        "--config.evaluate.pgd.steps=2",
        "--config.loss.margin=1/4",
    ]


@pytest.mark.slow
def test_train_and_evaluate(digits_dir, tmp_path):
    run = tmp_path / "lmcl[m=0.25]"
    trained = _launch("train", *_small(digits_dir, run))
    assert trained.returncode == 0, trained.stderr
    assert "100%" in trained.stderr
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    chosen = {key: value for key, value in config["loss"].items() if value is not None}
    assert chosen == {"name": "lmcl", "margin": 0.25, "scale": 10.0}
    evaluated = _launch(
        "evaluate",
        f"--workdir={run}",
        "--config.evaluate.pgd.steps=3",
        "--config.evaluate.examples=50",
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert (
        "LMCL (s=10, m=0.25), trained against ATTA (reset=100), P" in evaluated.stdout
    )
    assert "PGD-3 ε=0.3" in evaluated.stdout
    (measured,) = results.load(run)
    assert len(measured.labels) == 50


def test_a_study_of_no_network(tmp_path, monkeypatch, capsys):
    """Table I takes none; the launcher and its report do the rest."""
    monkeypatch.setattr(flags, "devices", lambda *_: jax.devices()[:1])
    monkeypatch.setattr(flags, "end_on_signals", lambda: None)
    arguments = ["--config=configs/table1.py:smoke", f"--workdir={tmp_path}"]
    study.main(flags.parse(study.FLAGS, ["advloss", "study"], arguments))
    assert "3,274,634" in capsys.readouterr().out
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.slow
def test_a_sweep_is_trained_compared_and_left_alone(digits_dir, tmp_path):
    command = [
        "sweep",
        *(f for f in _small(digits_dir, tmp_path / "s") if "margin" not in f),
        "--config.train.batch_size=20",
        "--config.evaluate.batch_size=40",
        "--config.sweep=loss.margin=0.1,0.5 seed=0,1",
    ]
    command[2] = "--config=configs/lmcl_sweep.py"
    first = _launch(*command)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.replace(str(tmp_path), "").splitlines()  # However long.
    assert max(map(len, lines)) <= 80
    folders = sorted(p.name for p in (tmp_path / "s").iterdir())
    assert folders == [
        f"lmcl_margin{margin}-seed{seed}" for margin in (0.1, 0.5) for seed in range(2)
    ] + ["report"]
    text = (tmp_path / "s" / "report" / "numbers.json").read_text(encoding="utf-8")
    natural = [
        r["accuracy"]
        for r in json.loads(text)
        if r.get("measure") == "natural" and "loss.margin" in r
    ]
    assert len(natural) == 4
    assert list((tmp_path / "s" / "report").glob("*.png"))

    def written():
        paths = (tmp_path / "s" / folders[0]).rglob("*.npz")
        return {path: path.stat().st_mtime_ns for path in paths}

    before = written()
    again = _launch(*command)
    assert again.stdout == first.stdout
    assert written() == before


def test_of_a_study_networks_are_texts():
    config = paper.study(("table2",), "smoke")
    config.networks = ("plain", "wide loss.name=lmcl loss.margin=0.5 train.steps=40")
    config.seeds = 2
    found = members.networks(config, ("table2",))
    names = [(c.name, c.seed, c.loss.margin, c.train.steps) for c in found]
    assert names == [
        ("plain", 0, None, 20), ("wide", 0, 0.5, 40),
        ("plain", 1, None, 20), ("wide", 1, 0.5, 40),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        ({"train.steps": ["100"]}, 100),
        ({"train.steps": ["1e3"]}, 1000),
        ({"train.steps": ["600/2"]}, 300),
        ({"train.attack.epsilon": ["8/255"]}, 8 / 255),
        ({"train.learning_rate": ["1"]}, 1.0),
        ({"evaluate.survivors_only": ["True"]}, True),
        ({"evaluate.attacks": ["pgd,noise"]}, ("pgd", "noise")),
        ({"evaluate.attacks": ["pgd", "noise"]}, ("pgd", "noise")),
        ({"evaluate.attacks": ["('pgd', 'noise')"]}, ("pgd", "noise")),
        ({"train.milestones": ["(0.25, 0.5)"]}, (0.25, 0.5)),
        ({"train.milestones": ["0.25,0.5"]}, (0.25, 0.5)),
        ({"train.milestones": ["(1/4, 1/2)"]}, (0.25, 0.5)),
        ({"train.milestones": ["[]"]}, ()),
        ({"loss.margin": ["None"]}, None),
        ({"data.dir": ["None"]}, "None"),
        ({"name": ["None"]}, None),
        ({"data.dir": ["a=b,c"]}, "a=b,c"),
    ],
)
def test_texts_become_values(texts, value):
    config = schema.default()
    configfile.assign(config, texts)
    found = dict(trees.flatten(config))[next(iter(texts))]
    assert found == value
    assert type(found) is type(value)


def test_flags_keys_and_words_are_told_apart():
    said = flags.split(
        ("workdir", "config", "report_only", "distributed"),
        [
            "--workdir=x", "--config", "a.py:b", "--config.seed", "-1", "word",
            "-config.name=c=d", "--config.evaluate.attacks=pgd", "--report_only",
            "--config.evaluate.survivors_only", "--noconfig.evaluate.pgd.random_start",
            "--nodistributed", "--config.evaluate.attacks", "noise", "--", "-",
        ]
    )  # fmt: skip
    assert said.words == ["word", "--", "-"]
    assert said.flags == {
        "workdir": "x", "config": "a.py:b", "report_only": "true",
        "distributed": "false",
    }  # fmt: skip
    assert said.keys == {
        "seed": ["-1"],
        "name": ["c=d"],
        "evaluate.attacks": ["pgd", "noise"],
        "evaluate.survivors_only": ["true"],
        "evaluate.pgd.random_start": ["false"],
    }


@pytest.mark.parametrize("command", list(main.COMMANDS))
def test_every_command_tells_its_flags(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main.run(command, ["advloss", command], ["--help"])
    assert ended.value.code is None
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "advloss keys" in said or "--config=" not in said
    assert f"advloss {command} --flag=value" in said or command == "keys"


def test_help_needs_no_docstrings(monkeypatch, capsys):
    """Python -OO leaves them out."""
    monkeypatch.setattr(train, "__doc__", None)
    with pytest.raises(SystemExit) as ended:
        main.run("train", ["advloss", "train"], ["--help"])
    assert ended.value.code is None
    assert capsys.readouterr().out.startswith("advloss train --flag=value")


def _keys(capsys, *words):
    with pytest.raises(SystemExit):
        main.run("keys", ["advloss", "keys"], words)
    return capsys.readouterr().out


def test_keys_are_listed_with_all_that_is_known(capsys):
    said = _keys(capsys)
    assert max(map(len, said.splitlines())) <= 80
    for key in dict(schema.keys()):
        assert f"  {key.split('.')[-1]} = " in said
    few = _keys(capsys, "learning_rate", "highest")
    assert few.split("\n")[1:3] == ["config.train", "  learning_rate = 0.003"]
    assert "a finite number > 0; may be swept" in few


def _main(*arguments):
    code = "from advloss.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_console_script_lists_commands():
    for arguments in ([], ["--help"]):
        done = _main(*arguments)
        assert (done.returncode, done.stderr) == (0, "")
        for name, text in main.COMMANDS.items():
            assert re.search(rf"^ +{name} +{re.escape(text)}$", done.stdout, re.M)
    done = _main("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: 'trian' is not a command: use one of {', '.join(main.COMMANDS)}\n"
    )


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("UNAVAILABLE: Connection reset by peer", True),
        ("INTERNAL: Gloo all-reduce failed", True),
        ("DEADLINE_EXCEEDED: Barrier timed out", True),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes", False),
        ("INTERNAL: NCCL operation failed: out of memory", False),
        ("can't read /data/connection/barrier", False),
    ],
)
def test_only_a_lost_connection_means_that_another_host_ended(text, alone, monkeypatch):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    error = OSError("a checkpoint can't be written")
    error.__cause__ = jax.errors.JaxRuntimeError(text)
    said = ("another process of this run" in launch.explained(error)) == alone
    assert said
    assert launch._is_alone(error.__cause__) == alone


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8"),
        jax.errors.JaxRuntimeError("INTERNAL: CUDA: out of memory"),
    ],
)
def test_out_of_memory_names_what_to_lower(error):
    said = launch.explained(error, schema.default())
    assert said.startswith(
        "out of memory: lower config.train.batch_size=50 or "
        "config.evaluate.batch_size=200; where one image is too much, config.data."
    )
    assert "smaller network than config.model.name='table1' (" in said
    assert "\n" not in said


def test_what_is_no_users_error_is_shown_as_it_is():
    with pytest.raises(ZeroDivisionError):
        launch.explained(ZeroDivisionError())
    assert launch.explained(InputError("as it is")) == "as it is"


def _until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_imports_ends_in_one_line(tmp_path, number):
    """The imported module never ends, as far as a test can wait."""
    started = tmp_path / "started"
    (tmp_path / "jax.py").write_text(
        f"import time\nopen({str(started)!r}, 'w').close()\ntry:\n    time.sleep(100)\n"
        "except BaseException:\n    pass\n"  # As an import may swallow it.
    )
    process = _start(
        "train", env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""}
    )
    _until(started.exists)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert (out, err) == ("", "interrupted: the same command continues\n")


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["closed", "full", "pipe"])
def test_a_training_does_not_need_its_log(digits_dir, tmp_path, broken):
    words = [sys.executable, "-m", "experiments.train"]
    words += _small(digits_dir, tmp_path / "run")
    end = {"closed": "2>&-", "full": "2>/dev/full", "pipe": "2>&1 | head -c 1"}[broken]
    script = f'"$@" {end}'
    if broken == "pipe":
        script = f"set -o pipefail; {script}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "checkpoints" / "4").exists()


def _printed_to(end, *words):
    return subprocess.run(
        ["bash", "-c", f'"$@" {end}', "bash", sys.executable, "-c",
         "from advloss.cli.main import main; main()", *words],
        cwd=ROOT, capture_output=True,
    )  # fmt: skip


def test_output_that_is_lost_is_told():
    lost = b"error: standard output can't be written: No space"
    for words in (["keys", "epsilon"], ["--help"], ["--version"]):
        done = _printed_to(">/dev/full", *words)
        assert done.returncode == 1
        assert done.stderr.startswith(lost)
        for end in (">&-", "| head -c 1", "<&-"):
            assert _printed_to(end, *words).stderr == b""


def test_without_a_home_no_program_is_kept(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    set_to = {}
    monkeypatch.setattr(jax.config, "update", set_to.__setitem__)
    monkeypatch.setattr(launch.Path, "home", home)
    for name in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    launch._keep_compiled_programs()
    assert "jax_compilation_cache_dir" not in set_to


@pytest.mark.parametrize(
    "environment",
    [
        # What ends matplotlib and tqdm, or makes them talk.
        {"PYTHONIOENCODING": "latin-1", "MPLBACKEND": "x", "TQDM_MININTERVAL": "x"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_terminals_get_what_they_can_show(environment, tmp_path, trained):
    fonts = {"MPLCONFIGDIR": str(tmp_path / "fonts")}  # None are known there.
    done = subprocess.run(
        [sys.executable, "-m", "experiments.report", f"--runs={trained}",
         f"--workdir={tmp_path}"],
        cwd=ROOT, capture_output=True, env={**os.environ, **environment, **fonts},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?=0.1" in done.stdout
    assert "ε=0.1" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_every_target_of_make_has_a_recipe():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = text.split(".PHONY:")[1].partition("\n\n")[0]
    named = phony.replace("\\\n", " ").split()
    told = re.findall(r"^# make ([\w-]+)  ", text, flags=re.MULTILINE)
    assert set(told) == set(named)
    done = subprocess.run(
        ["make", "--dry-run", *named], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_beside_the_user_shadows_no_module(tmp_path):
    """The folder of a command is searched last."""
    (tmp_path / "random.py").write_text("raise AttributeError('mine')")
    done = subprocess.run(
        [Path(sys.executable).parent / "advloss", "keys", "seed"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_no_memory_for_a_device_is_said(monkeypatch):
    def none():
        raise RuntimeError("Unable to initialize backend 'cpu': std::bad_alloc")

    monkeypatch.setattr(jax, "local_device_count", none)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    monkeypatch.setattr(flags, "pin_jax", lambda: None)
    given = flags.parse(flags.DEVICES, ["advloss", "x"], [])
    with pytest.raises(MemoryError, match="bad_alloc"):
        flags.devices(given)
