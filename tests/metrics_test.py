"""Metrics: lines and events, and the tail that an interrupted run leaves."""

import json
import warnings

import pytest

from advloss import metrics


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
