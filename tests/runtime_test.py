"""The operational shell: paths, files, locks, checkpoints, the progress bar."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT

from advloss import config as configs
from advloss.errors import DamagedError, InputError
from advloss.evaluation.mapped import map_split
from advloss.runtime import checkpoints, compiled, environment, files, hosts, lock
from advloss.training import run
from advloss.types import Split, TrainState

VARIABLES = {
    "params": {"dense": {"kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3)}},
    "batch_stats": {"mean": jnp.full(3, 0.1, jnp.bfloat16), "count": np.int32(7)},
}
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())
STATES = {
    "nothing but weights": TrainState(np.int32(3), VARIABLES, (), {}, {}, {}),
    "an optimiser": TrainState(
        np.int32(3), VARIABLES, OPTIMISER.init(VARIABLES["params"]), {}, {}, {}
    ),
    "everything": TrainState(
        np.int32(3),
        VARIABLES,
        OPTIMISER.init(VARIABLES["params"]),
        VARIABLES,
        {
            "delta": np.zeros((5, 2, 2, 1), np.int8),
            "none": {},
            "seen": np.ones(5, bool),
        },
        {"variables": VARIABLES, "robust": np.float32(0.5), "step": np.int32(2)},
    ),
    "no memory": TrainState(np.int32(3), VARIABLES, None, {}, None, {}),
}

ORIGIN = checkpoints.Origin({"seed": 0}, {})


def _save(workdir, state, origin=ORIGIN):
    with checkpoints.open_folder(workdir, together=True) as manager:
        checkpoints.save(manager, state, origin)


def _assert_same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
    ):
        theirs = np.asarray(theirs)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.asarray(ours).tobytes() == theirs.tobytes()


@pytest.mark.parametrize("name", STATES)
def test_a_checkpoint_gives_back_every_bit(tmp_path, name):
    state = STATES[name]
    config = {"seed": 0, "attacks": ["pgd"], "name": "ü"}
    told = checkpoints.Origin(config, {"train": "0a"})
    _save(tmp_path, state, told)
    with checkpoints.open_folder(tmp_path) as manager:
        _assert_same(checkpoints.restore(manager, state), state)
        plain = checkpoints.restore(manager)
        assert checkpoints.load_origin(manager) == told
    assert plain.keys() == set(TrainState._fields)
    _assert_same(plain["variables"], state.variables)
    _assert_same(plain["average"], state.average)
    assert files.digest(plain) == files.digest(state)


@pytest.mark.parametrize(
    "name", ["lmcl[m=0.3]", "st*ar", "q?x", "[!a]", "a b", "ü", "a%20b", "$HOME", "a:b"]
)
def test_checkpoints_are_found_in_any_folder(tmp_path, name):
    folder = files.check_folder("--workdir", tmp_path / name)
    # What the name would match as a pattern is another run.
    for other in ("lmclm", "star", "qax", "b"):
        _save(tmp_path / other, STATES["no memory"]._replace(step=np.int32(9)))
    _save(folder, STATES["everything"])
    assert checkpoints.steps(folder) == [3]
    with checkpoints.open_folder(folder) as manager:
        _assert_same(
            checkpoints.restore(manager, STATES["everything"]), STATES["everything"]
        )


def test_a_renamed_checkpoint_is_damaged(tmp_path):
    _save(tmp_path, STATES["an optimiser"])
    folder = tmp_path / "checkpoints"
    (folder / "3").rename(folder / "7")
    with (
        checkpoints.open_folder(tmp_path) as manager,
        pytest.raises(DamagedError, match=r"7 is damaged .* it holds step 3"),
    ):
        checkpoints.restore(manager)
    checkpoints.put_aside(tmp_path, 7)
    assert checkpoints.steps(tmp_path) == []
    assert (tmp_path / "damaged" / "7").is_dir()


def test_only_numbers_are_steps(tmp_path):
    folder = tmp_path / "checkpoints"
    for name in ("4", "12", "007", "x", "4.orbax", "²", "٣", "-1"):
        (folder / name).mkdir(parents=True)
    assert checkpoints.steps(tmp_path) == [4, 12]
    assert checkpoints.steps(tmp_path / "nowhere") == []


def test_a_digest_sees_names_shapes_types_and_bits():
    tree = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(6, np.float32)}
    others = [
        {"b": tree["a"], "a": tree["b"]},
        {"a": tree["a"], "c": tree["b"]},
        {"a": tree["a"].reshape(3, 2), "b": tree["b"]},
        {"a": tree["a"].view(np.int32), "b": tree["b"]},
        {"a": tree["a"], "b": -tree["b"]},
        {"a": tree["a"]},
    ]
    digests = {files.digest(each) for each in [tree, *others]}
    assert len(digests) == 7
    assert files.digest(jax.tree.map(jnp.asarray, tree)) in digests


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("a\\b", r"without \\"),
        ("runs/\udcff", "that is UTF-8"),
        ("a\nb", "control characters"),
        ("a\0b", "control characters"),
        ("\x1b[31m", "control characters"),
        ("", "name a folder"),
        ("  ", "name a folder"),
        ("/s3/bucket", "a cloud's bucket"),
        ("FILE", "FILE is not a folder"),
        ("FILE/below", "FILE is not a folder"),
        ("LINK", "LINK is a link to nothing"),
        ("LINK/below", "LINK is a link to nothing"),
        ("x" * 300, "File name too long"),
    ],
)
def test_folders_that_can_not_be_used(tmp_path, monkeypatch, folder, reason):
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("precious")
    Path("LINK").symlink_to("nowhere")
    with pytest.raises(InputError, match=f"--workdir=.* is not valid: .*{reason}") as e:
        files.check_folder("--workdir", folder)
    assert len(str(e.value).splitlines()) == 1
    str(e.value).encode("utf-8")  # Any terminal can be told.
    assert sorted(os.listdir()) == ["FILE", "LINK"]


@pytest.mark.parametrize("folder", ["new/deep", ".", "..", "a[b]*?", "日本", "a b"])
def test_folders_that_can(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    assert files.check_folder("--workdir", folder) == Path(folder)


def _python(folder, code, *options, env=(), end=""):
    """Runs code in a folder, through a shell that ends the line with `end`."""
    (folder / "code.py").write_text(code, encoding="utf-8")
    command = f"{sys.executable} {' '.join(options)} code.py {end}"
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT), **dict(env)}
    subprocess.run(["bash", "-c", command], cwd=folder, env=surroundings, check=True)


def test_text_is_utf_8_whatever_the_locale(tmp_path):
    code = r"""
from pathlib import Path
from advloss.runtime import files
files.write_text(Path("text"), "\u03b5 = 0.3 \u2192 ok \udcff")
assert files.read_text(Path("text")).startswith("\u03b5 = 0.3")
"""
    # Not in UTF-8 mode, in the locale of 1970.
    env = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    _python(tmp_path, code, "-X utf8=0", env=env)
    assert "ε = 0.3 → ok" in (tmp_path / "text").read_bytes().decode("utf-8")


def test_what_can_not_be_written_leaves_the_old(tmp_path):
    path = tmp_path / "text"
    files.write_text(path, "old")
    with pytest.raises(ZeroDivisionError):
        files._replace(path, lambda file: 1 / 0)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["text"]


def test_only_the_first_host_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "is_first", lambda: False)
    files.write_json(tmp_path / "x.json", {})
    with lock.hold(tmp_path / "run") as check:
        check()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\udcff", "9" * 9999])
def test_damaged_json(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(InputError, match=r"x.json is damaged: ") as caught:
        files.read_json(path)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is damaged: it is not a regular file"):
        files.read_json(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is missing or damaged: it is not a reg"):
        files.read_arrays(tmp_path / "pipe")


def test_a_work_directory_is_held_by_one(tmp_path):
    folder = tmp_path / "run"
    with lock.hold(folder):
        with pytest.raises(InputError) as caught, lock.hold(folder):
            pass
        assert f"--workdir={folder} is in use by process {os.getpid()} on " in str(
            caught.value
        )
    with lock.hold(folder):
        assert os.listdir(folder) == [lock.NAME]


def test_a_process_that_is_killed_leaves_no_lock(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from advloss.runtime import lock\n"
        "with lock.hold(Path('run')):\n    print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=f"in use by process {process.pid} on"),
            lock.hold(tmp_path / "run"),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with lock.hold(tmp_path / "run"):
        pass


@pytest.mark.parametrize("act", ["move", "delete", "replace"])
def test_a_folder_that_is_gone_is_noticed(tmp_path, act):
    folder = tmp_path / "run"
    with lock.hold(folder) as check:
        check()
        folder.rename(tmp_path / "elsewhere")
        if act == "replace":
            folder.mkdir()
            (folder / lock.NAME).write_text("another's")
        with pytest.raises(InputError, match="was moved or deleted while it was"):
            check()
        if act == "move":
            (tmp_path / "elsewhere").rename(folder)
            check()
            (folder / lock.NAME).unlink()
            with pytest.raises(InputError, match="lock was removed while it was in us"):
                check()


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full", "2>&1 >out | head -c 1"])
def test_the_progress_bar_ends_nothing(tmp_path, end):
    if "/dev/full" in end and not os.path.exists("/dev/full"):
        pytest.skip("Linux has /dev/full")
    code = """
import os
from advloss.runtime import environment
with environment.progress_bar("text", 10_000, "step") as bar:
    for i in range(10_000):
        bar.set_postfix_str(str(i))
        bar.update(1)
print("done", flush=True)
os._exit(0)
"""
    _python(tmp_path, code, end=end if ">out" in end else f">out {end}")
    assert (tmp_path / "out").read_text() == "done\n"


def test_an_environment_says_what_a_run_was_made_with():
    told = environment.environment(jax.devices()[:1])
    assert told["packages"]["jax"] == jax.__version__
    assert told["devices"] == ["cpu: cpu"]
    assert len(environment.code_digest()) == 128


def test_two_threads_save_at_the_same_moments(tmp_path):
    """As the quickstart's two lanes may: neither waits for the files of the other."""
    meet, failures = threading.Barrier(2), []

    def run(name):
        try:
            with checkpoints.open_folder(tmp_path / name, together=True) as manager:
                for step in range(1, 16):
                    meet.wait(30)
                    state = STATES["everything"]._replace(step=np.int32(step))
                    checkpoints.save(manager, state, ORIGIN)
        except Exception as error:
            failures.append(error)
            meet.abort()

    threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [checkpoints.steps(tmp_path / name) for name in "ab"] == [[14, 15]] * 2


def test_what_changes_numbers_is_not_left_to_the_shell(monkeypatch):
    names = [*environment._PINNED, *environment._SWITCHES]
    before = {key: jax.config.values[key] for key in names}
    try:
        for name in environment._SWITCHES:
            monkeypatch.setenv(name.upper(), "1")
            jax.config.update(name, True)
        jax.config.update("jax_default_prng_impl", "rbg")
        jax.config.update("jax_numpy_dtype_promotion", "strict")
        jax.config.update("jax_random_seed_offset", 5)
        environment.pin_jax()
        assert not any(jax.config.values[name] for name in environment._SWITCHES)
        assert jax.config.jax_default_prng_impl == "threefry2x32"
        assert jax.config.jax_random_seed_offset == 0
        assert jax.config.jax_numpy_dtype_promotion == "standard"
    finally:
        for key, value in before.items():
            jax.config.update(key, value)


def held_programs() -> int:
    """Mappings of memory, of which each compiled program takes some."""
    return Path("/proc/self/maps").read_bytes().count(b"\n")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux counts them")
@pytest.mark.parametrize("caller", ["training", "evaluation"])
def test_a_process_holds_only_so_many_programs(
    tmp_path, monkeypatch, small_config, caller, few_programs
):
    """Where they take half of the mappings that there can be, they are forgotten."""
    programs = [jax.jit(lambda x, i=i: jnp.sin(x + i)) for i in range(40)]
    for program in programs:
        program(jnp.zeros(3))
    before = held_programs()
    few, many = tmp_path / "few", tmp_path / "many"
    few.write_text(str(before))
    many.write_text(str(10 * before))

    def act(number):
        if caller == "evaluation":
            split = Split(np.zeros((2, 3), np.float32), np.zeros(2, np.int32))
            one = jax.devices()[:1]
            map_split(lambda _, b: b.labels, {}, split, batch_size=2, devices=one)
        else:
            config = configs.resolve(small_config)
            run.train_runs([config], [tmp_path / str(number)], jax.devices()[:1])
        return programs[0]._cache_size()

    monkeypatch.setattr(compiled, "make_room", few_programs)
    monkeypatch.setattr(compiled, "_MOST", many)
    assert act(0) == 1
    monkeypatch.setattr(compiled, "_MOST", few)
    assert act(1) == 0
    if caller == "evaluation":  # Of few programs since then.
        assert held_programs() < before - 40
    monkeypatch.setattr(compiled, "_MOST", tmp_path / "other systems")
    act(2)
