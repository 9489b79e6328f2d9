"""Metrics: lines and events, and the tail that an interrupted run leaves."""

import errno
import json
import os
import warnings

import pytest

from advloss.errors import InputError
from advloss.runtime import metrics


def _write(workdir, start, steps):
    with metrics.Writer(workdir, step=start) as writer:
        for step in steps:
            writer.write(step, {"loss": 1.0 / step, "accuracy": 0.5})


def test_rows_after_the_checkpoint_are_replaced(tmp_path):
    _write(tmp_path, 0, [10, 20, 30])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # A kill in the middle of a line.
    _write(tmp_path, 20, [30, 40])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20, 30, 40]


def test_no_file_no_rows(tmp_path):
    assert metrics.read(tmp_path) == []


def test_tensorboard_reads_the_events(tmp_path):
    _write(tmp_path, 0, [10, 20, 30])
    _write(tmp_path, 20, [30, 40])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing import event_accumulator

        events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
        events.Reload()
    scalars = events.Scalars("train/loss")
    assert [event.step for event in scalars] == [10, 20, 30, 40]
    assert scalars[0].value == pytest.approx(0.1)


def test_any_scalars_are_kept_by_name(tmp_path):
    with metrics.Writer(tmp_path, step=0) as writer:
        writer.write(1, {"loss": 0.5, "accuracy": 1.0, "natural_accuracy": 0.25})
    (row,) = metrics.read(tmp_path)
    assert row == {"step": 1, "loss": 0.5, "accuracy": 1.0, "natural_accuracy": 0.25}


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", "3", "null", "{}", '{"step": 2, "loss": 1.0}',
        '{"step": 2, "loss": null, "accuracy": 0.5}',
        '{"step": 2, "loss": "low", "accuracy": 0.5}',
        '{"step": 2.5, "loss": 1.0, "accuracy": 0.5}',
        '{"step": 2, "loss": 1.0, "accuracy": [0.5]}',
        "[" * 100_000, "9" * 5_000, "\0", "\xff", "",
    ],
)  # fmt: skip
def test_damaged_rows_are_left_out_and_counted(tmp_path, line):
    _write(tmp_path, 0, [1])
    with (tmp_path / "metrics.jsonl").open("a", encoding="latin-1") as file:
        file.write(line + '\n{"step": 3, "loss": 1.0, "accuracy": 0.5}\n')
    with pytest.warns(UserWarning, match=r"metrics.jsonl: 1 of 3 lines are damaged"):
        assert [row["step"] for row in metrics.read(tmp_path)] == [1, 3]
    with pytest.warns(UserWarning, match=r"metrics.jsonl: 1 of 3 lines are damaged"):
        _write(tmp_path, 3, [4])
    assert [row["step"] for row in metrics.read(tmp_path)] == [1, 3, 4]


@pytest.mark.parametrize("left", ["\0" * 50, '{"step": 2, "lo' + "\0" * 9, "PK"])
def test_an_end_that_no_kill_leaves_is_damaged(tmp_path, left):
    """Zeros, say, of a machine that lost its power."""
    _write(tmp_path, 0, [1])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(left)
    with pytest.warns(UserWarning, match=r"metrics.jsonl: 1 of 2 lines are damaged"):
        assert [row["step"] for row in metrics.read(tmp_path)] == [1]


def test_a_pipe_for_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(InputError, match=r"metrics.jsonl is damaged: it is not a reg"):
        metrics.read(tmp_path)


class _Full:
    """A file on a disk that is full."""

    def write(self, *_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_event = flush = close = write


@pytest.mark.parametrize("broken", ["_lines", "_events"])
def test_a_full_disk_is_told_once_and_ends_nothing(tmp_path, broken):
    with metrics.Writer(tmp_path, step=0) as writer:
        writer.write(1, {"loss": 1.0, "accuracy": 0.5})
        getattr(writer, broken).close()
        setattr(writer, broken, _Full())
        with pytest.warns(UserWarning, match=r"No space left .* goes on") as told:
            for step in range(2, 30):
                writer.write(step, {"loss": 1.0, "accuracy": 0.5})
    assert len(told) == 1
    # The other file has all rows.
    if broken == "_events":
        assert len(metrics.read(tmp_path)) == 29
    else:
        assert [row["step"] for row in metrics.read(tmp_path)] == [1]


def test_a_file_that_is_removed_is_told(tmp_path):
    with metrics.Writer(tmp_path, step=0) as writer:
        (tmp_path / "metrics.jsonl").unlink()
        with pytest.warns(UserWarning, match=r"metrics.jsonl was removed.*goes on"):
            writer.write(1, {"loss": 1.0, "accuracy": 0.5})


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard"])
def test_files_that_can_not_be_made_end_nothing(tmp_path, name):
    if name == "tensorboard":
        (tmp_path / name).write_text("")
    else:
        (tmp_path / name).mkdir()
    with pytest.warns(UserWarning, match="the training goes on") as told:
        _write(tmp_path, 0, [10, 20])
    assert len(told) == 1
    assert (len(metrics.read(tmp_path)) if name == "tensorboard" else 2) == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
def test_the_real_full_device(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    with metrics.Writer(tmp_path, step=0) as writer:
        os.dup2(os.open("/dev/full", os.O_WRONLY), writer._lines.fileno())
        with pytest.warns(UserWarning, match="No space left"):
            writer.write(1, {"loss": 1.0, "accuracy": 0.5})
        writer.write(2, {"loss": 1.0, "accuracy": 0.5})


def test_another_host_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("advloss.runtime.hosts.is_first", lambda: False)
    _write(tmp_path, 0, [10])
    assert not list(tmp_path.iterdir())
