"""A sweep: how runs are put together, and that each is as if it had been alone."""

import functools
import itertools
import json

import jax
import numpy as np
import pytest
from conftest import bits, saved_state, stop_after

from advloss import config as configs
from advloss import data
from advloss.config import build
from advloss.errors import DivergedError
from advloss.runtime import checkpoints, lock, metrics
from advloss.runtime import devices as on_devices
from advloss.training import run, stack, step

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def _variants(config, **axes):
    """A config for every combination of values; keys with __ for dots."""
    found = []
    for values in itertools.product(*axes.values()):
        variant = config.copy_and_resolve_references()
        for key, value in zip(axes, values, strict=True):
            variant.update_from_flattened_dict({key.replace("__", "."): value})
        found.append(configs.resolve(variant))
    return found


@pytest.fixture
def lmcl(small_config):
    small_config.loss.name = "lmcl"
    return small_config


def test_numbers_share_a_program_and_structure_does_not(lmcl):
    variants = _variants(lmcl, seed=[0, 1], loss__margin=[0.1, 0.5])
    variants += _variants(lmcl, train__attack__steps=[3], train__learning_rate=[1e-4])
    variants += _variants(lmcl, train__attack__epsilon=[0.1], train__steps=[4])
    plan = stack.plan(variants, jax.devices()[:4])
    assert plan == [variants[:4], variants[4:5], variants[5:]]
    # On a CPU a stack is no larger than the devices.
    assert stack.plan(variants[:4], jax.devices()[:3]) == [variants[:3], variants[3:4]]


@pytest.mark.parametrize("key", ["data__file", "data__dir", "data__manual_dir"])
def test_data_of_different_places_are_not_trained_on_together(lmcl, key):
    """A stack has the data of its first run."""
    variants = _variants(lmcl, seed=[0, 1], **{key: ["one", "other"]})
    one, other = (
        [v for v in variants if place in v.data.values()] for place in ("one", "other")
    )
    assert stack.plan(variants, jax.devices()[:4]) == [one, other]


def _init(config, dataset):
    return step.init(config, build.network(config), dataset.train)


def _run(members, dataset, states, devices):
    """Every chunk's states and metrics."""
    where = stack.layout(len(members), members[0].train.batch_size, devices)
    network = build.network(members[0])
    for fetch, rows in stack.run(members, network, dataset, states, where=where):
        yield fetch(), rows


def _together(members, dataset, devices):
    states = [_init(config, dataset) for config in members]
    *_, (states, _) = _run(members, dataset, states, devices)
    return states


@functools.cache
def _solo_moments(text):
    """Adam's first, of the run of a config as JSON, alone."""
    config = configs.from_dict(json.loads(text))
    dataset = data.load(**config.data)
    return _moments(_together([config], dataset, jax.devices()[:1])[0])


def _assert_as_if_alone(members, states):
    for config, state in zip(members, states, strict=True):
        alone = _solo_moments(configs.to_json(config))
        for a, b in zip(alone, _moments(state), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-6)


def _moments(state):
    """Adam's first, of a state: a sum of gradients, without its division."""
    (moments,) = (
        leaf.mu
        for leaf in jax.tree.leaves(state.opt_state, is_leaf=lambda x: hasattr(x, "mu"))
        if hasattr(leaf, "mu")
    )
    return jax.tree.leaves(moments)


@pytest.mark.parametrize(
    ("model", "rows", "count"),
    [("mlp", 1, 3), ("mlp", 3, 1), ("mlp", 2, 2), ("table1", 2, 2)],
)
def test_each_run_is_as_if_alone(lmcl, dataset, monkeypatch, model, rows, count):
    """One a device, all stacked on one, and stacks of which the last is not full."""
    monkeypatch.setitem(stack.ROWS, "cpu", rows)
    lmcl.model.name = model
    lmcl.train.steps = lmcl.train.checkpoint_every = 2
    members = _variants(lmcl, seed=[0, 1])
    members += _variants(
        lmcl,
        loss__margin=[1.1],
        loss__scale=[5.0],
        train__learning_rate=[1e-3],
        train__attack__epsilon=[0.1],
        train__attack__step_size=[0.05],
    )
    devices = jax.devices()[:count]
    assert stack.plan(members, devices) == [members]
    _assert_as_if_alone(members, _together(members, dataset, devices))


@pytest.mark.parametrize(
    ("runs", "batch", "devices", "shares", "rows", "used"),
    [
        (1, 20, 1, 1, 1, 1),
        (1, 20, 4, 4, 1, 4),
        (1, 18, 4, 2, 1, 2),  # 4 do not divide the batch.
        (2, 20, 4, 2, 1, 4),
        (3, 20, 4, 1, 1, 3),
        (3, 20, 2, 1, 2, 2),
        (5, 20, 4, 1, 2, 3),
        (4, 20, 1, 1, 4, 1),
    ],
)
def test_where_runs_lie(runs, batch, devices, shares, rows, used):
    layout = stack.layout(runs, batch, jax.devices()[:devices])
    assert layout == (jax.devices()[:used], shares, rows)


def test_two_runs_share_four_devices_by_pairs(lmcl, dataset):
    """Gradients of one run must not meet those of the other."""
    lmcl.train.steps = lmcl.train.checkpoint_every = 2
    members = _variants(lmcl, seed=[0, 1])
    _assert_as_if_alone(members, _together(members, dataset, jax.devices()[:4]))


def test_several_stacks_one_after_the_other_have_a_run_s_own_bits(lmcl, dataset):
    """One run a device: the program is the same however many there are."""
    lmcl.train.steps = lmcl.train.checkpoint_every = 2
    members = _variants(lmcl, seed=[0, 1, 2])
    three = _together(members, dataset, jax.devices()[:3])
    two = _together(members[1:], dataset, jax.devices()[:2])
    assert bits(three[1:]) == bits(two)


def _bits(config, workdir):
    return bits(saved_state(config, workdir))


@pytest.mark.parametrize("saves", [1, 2, 3, 5])
def test_an_interrupted_stack_goes_on_with_the_same_bits(
    lmcl, tmp_path, monkeypatch, saves
):
    """Also where only some of the runs had written their checkpoint."""
    members = _variants(lmcl, seed=[0, 1, 2])
    devices = jax.devices()[:3]
    folders = {
        name: [tmp_path / name / str(i) for i in range(3)] for name in ("whole", "cut")
    }
    run.train_runs(members, folders["whole"], devices)
    with monkeypatch.context() as patch:
        stop_after(patch, saves)
        with pytest.raises(KeyboardInterrupt):
            run.train_runs(members, folders["cut"], devices)
    run.train_runs(members, folders["cut"], devices)
    for config, *pair in zip(members, *folders.values(), strict=True):
        assert _bits(config, pair[0]) == _bits(config, pair[1])
        steps = [[row["step"] for row in metrics.read(folder)] for folder in pair]
        assert steps == [[2, 4, 6, 8]] * 2


def test_a_finished_stack_is_left_as_it_is_and_grows(lmcl, tmp_path):
    members = _variants(lmcl, seed=[0, 1, 2])
    folders = [tmp_path / str(i) for i in range(3)]
    devices = jax.devices()[:3]
    run.train_runs(members[:2], folders[:2], devices)
    files = (p for p in tmp_path.rglob("*") if p.is_file() and p.name != lock.NAME)
    before = {path: path.stat().st_mtime_ns for path in files}
    run.train_runs(members, folders, devices)
    after = {p: p.stat().st_mtime_ns for p in before}
    assert after == before
    assert checkpoints.steps(folders[2]) == [4, 8]


def test_a_run_that_diverges_does_not_hold_up_the_others(lmcl, tmp_path):
    members = _variants(lmcl, train__learning_rate=[3e-3, 1e30])
    folders = [tmp_path / "good", tmp_path / "bad"]
    for _ in range(2):  # Again, it says the same.
        with pytest.raises(DivergedError, match=r"learning_rate=1e\+30"):
            run.train_runs(members, folders, jax.devices()[:2])
        assert checkpoints.steps(folders[0]) == [4, 8]
        assert checkpoints.steps(folders[1]) == []


def test_states_of_one_chunk_survive_the_next(lmcl, dataset):
    """Buffers are donated: what was fetched must not be a view of them."""
    (config,) = _variants(lmcl)
    state = _init(config, dataset)
    before = jax.tree.map(np.array, state)
    list(_run([config], dataset, [state], jax.devices()[:2]))
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, state))
    members = _variants(lmcl, seed=[0, 1])
    states = [_init(c, dataset) for c in members]
    chunks = _run(members, dataset, states, jax.devices()[:2])
    first, _ = next(chunks)
    copy = jax.tree.map(np.array, first)
    list(chunks)
    jax.tree.map(np.testing.assert_array_equal, copy, first)


def test_rows_keep_their_device():
    doubled = on_devices.map_rows(
        lambda state, shared, rows: (state + shared * rows, rows), jax.devices()[:2]
    )
    state, rows = doubled(np.zeros((2, 3)), np.float32(2), np.ones((2, 3)))
    np.testing.assert_array_equal(state, 2 * np.ones((2, 3)))
    assert rows.shape == (2, 3)
