"""Strict settings and shared data for all tests."""

import hashlib
import itertools
import os
import tempfile
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

# What most tests take longest for is to compile: these emitters need half of the time.
# With another XLA_FLAGS, also an empty one, the default ones are tested, and where
# later versions of XLA have no others.
if jax.__version_info__ < (0, 11):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")
# Before JAX is first used: devices to spread batches over.
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Many tests run the same programs: compiled once a session, for the workers that it is
# spread over, and for launchers, too.
if "ADVLOSS_TEST_CACHE" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="advloss-compiled-")
    os.environ["ADVLOSS_TEST_CACHE"] = _cache.name
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["ADVLOSS_TEST_CACHE"]
jax.config.update("jax_compilation_cache_dir", os.environ["ADVLOSS_TEST_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)

pytest.register_assert_rewrite("made_launches")
ROOT = Path(__file__).parents[1]
# The four official MNIST files, for tests that need the whole of it.
MNIST_DIR = Path(os.environ.get("ADVLOSS_MNIST_DIR", ROOT / "../shared/data/mnist"))


# These files take longest: begun first, no other waits for them at the end.
LONGEST = (
    "hosts", "attacks", "direct", "defences", "soak", "docs", "examples", "results",
    "stack", "launchers", "diagnosis", "networks", "run", "study", "diagnosis_controls",
    "autoattack", "bad_files",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """The longest files first; within a file, and of the others, as they were."""
    places = {f"{name}_test.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def not_asked_to_end(monkeypatch):
    """What one test asks of the process, the next does not hear."""
    from advloss.runtime import signals

    monkeypatch.setattr(signals, "_asked", threading.Event())


_BEGUN = itertools.count()


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """A process can hold only so many compiled programs.

    To count them takes as long as many a test; eight tests make less than half of them.
    Within a test they stay: compiled again as `compiled_quickly` asks, what an earlier
    test had compiled otherwise would give other bits to the second of two runs.
    """
    from advloss.runtime import compiled

    make_room = compiled.make_room
    if next(_BEGUN) % 8 == 0:
        make_room()
    monkeypatch.setattr(compiled, "make_room", lambda: None)
    return make_room


@pytest.fixture
def compiled_quickly():
    """Small networks: to optimise programs takes longer than to run them.

    What fixtures of a whole file compute is optimised, and may differ in its last bits.
    """
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def one_device(monkeypatch):
    """Where a call names none: a program for several takes longer to compile."""
    from advloss.runtime import devices

    monkeypatch.setattr(devices, "all_devices", lambda: jax.devices()[:1])


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with MNIST's idx files; the test is skipped where it is missing."""
    if not (MNIST_DIR / "train-images-idx3-ubyte.gz").exists():
        pytest.skip(f"{MNIST_DIR} has no MNIST files; set ADVLOSS_MNIST_DIR")
    return MNIST_DIR.resolve()


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory) -> Path:
    """Real digits of 8x8 pixels as idx files, 400 to train and 110 to test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    folder = tmp_path_factory.mktemp("digits")
    write_idx(folder / "train-images-idx3-ubyte", images[:400])
    write_idx(folder / "train-labels-idx1-ubyte", digits.target[:400])
    write_idx(folder / "t10k-images-idx3-ubyte", images[400:510])
    write_idx(folder / "t10k-labels-idx1-ubyte", digits.target[400:510])
    return folder


def write_idx(path: Path, array: np.ndarray) -> None:
    """An idx file of unsigned bytes: 0, 0, the type 8, the axes, sizes, content."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def stop_after(monkeypatch, saves: int) -> None:
    """The process as it were ends right after so many checkpoints."""
    from advloss.runtime import checkpoints

    original, done = checkpoints.save, []

    def save(*arguments):
        original(*arguments)
        done.append(1)
        if len(done) == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", save)


def whole_and_cut(config, tmp_path, monkeypatch, devices) -> tuple:
    """The saved states of a run, and of one that ended at a checkpoint and went on.

    They lie in the folders "whole" and "cut".
    """
    from advloss.training import run

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run.train_runs([config], [whole], devices)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run.train_runs([config], [cut], devices)
    run.train_runs([config], [cut], devices)
    return tuple(saved_state(config, folder) for folder in (whole, cut))


def saved_state(config, workdir):
    """The state at a run's newest checkpoint, by its fields' names."""
    from advloss.runtime import checkpoints
    from advloss.training import workdir as folders

    with checkpoints.open_folder(workdir) as manager:
        return folders.restore(manager, config)


def to_evaluate(workdir, **changes):
    """A run's config, with keys of its evaluation changed; `__` stands for a dot."""
    from advloss import config as configs

    config = configs.load_config(workdir)
    for key, value in changes.items():
        configs.put(config, f"evaluate.{key.replace('__', '.')}", value)
    return configs.resolve(config)


def bits(tree) -> list[str]:
    """Of every array of a tree; short, as pytest compares what differs for minutes."""
    arrays = map(np.asarray, jax.tree.leaves(tree))
    return [hashlib.sha256(array.tobytes()).hexdigest()[:16] for array in arrays]


def small(digits_dir):
    """The config of a run of seconds: 8x8 digits, a few steps of PGD-2 on a network
    without convolutions, which take long to compile."""
    from advloss import config as configs

    config = configs.default()
    config.model.name = "mlp"
    config.data.source = "idx"
    config.data.dir = str(digits_dir)
    config.train.steps = 8
    config.train.batch_size = 20
    config.train.chunk_steps = 2
    config.train.checkpoint_every = 4
    config.train.attack.steps = 2
    config.evaluate.attacks = ("pgd",)
    config.evaluate.batch_size = 40
    config.evaluate.pgd.steps = 3
    return config


@pytest.fixture
def small_config(digits_dir):
    """As `small` gives it, to be changed."""
    return small(digits_dir)


@pytest.fixture
def dataset(small_config):
    """That of `small`."""
    from advloss import data

    return data.load(**small_config.data)


@pytest.fixture(scope="session")
def trained(digits_dir, tmp_path_factory) -> Path:
    """A finished and evaluated run; to be copied before it is changed."""
    from advloss import config as configs
    from advloss.evaluation.run import evaluate_run
    from advloss.training.run import train_runs

    config = configs.default()
    config.name = "trained"
    config.model.name = "mlp"
    config.loss.name = "lmcl"
    config.data.source, config.data.dir = "idx", str(digits_dir)
    config.train.steps = config.train.checkpoint_every = 60
    config.train.chunk_steps, config.train.batch_size = 20, 20
    config.train.attack.steps, config.train.attack.epsilon = 2, 0.1
    config.evaluate.attacks = ("pgd",)
    config.evaluate.batch_size = 55
    config.evaluate.pgd.epsilon, config.evaluate.pgd.steps = 0.1, 10
    config = configs.resolve(config)
    workdir = tmp_path_factory.mktemp("runs") / "trained"
    train_runs([config], [workdir], jax.devices()[:1])
    evaluate_run(config, workdir, jax.devices()[:1])
    return workdir
