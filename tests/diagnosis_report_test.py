"""The command that diagnoses a run, and the page that it writes."""

import json
import shutil

import jax
import numpy as np
import pytest

from advloss import report
from advloss.cli import diagnose as command
from advloss.cli import flags
from advloss.errors import InputError
from advloss.evaluation.diagnosis import Diagnosis
from advloss.evaluation.diagnosis.check import at_most, not_run
from advloss.runtime import signals


def _given(workdir, *more):
    arguments = [f"--workdir={workdir}", *more]
    program = ["advloss", "diagnose"]
    return flags.parse(command.FLAGS, program, arguments, saved_config=True)


@pytest.fixture
def here(monkeypatch):
    """The devices of this process; its signals stay as they are."""
    monkeypatch.setattr(flags, "devices", lambda *_: jax.devices()[:1])
    monkeypatch.setattr(flags, "end_on_signals", lambda: None)


@pytest.fixture
def made():
    right = np.arange(20) < 18
    checks = (
        at_most("a | b", 0.3, 0.1, "it is *bad*", "Somebody 2020"),
        at_most("fine", 0.0, 0.1, "it is bad", "us"),
        not_run("absent", "there is <nothing>", "it is bad", "us"),
    )
    return Diagnosis(
        norm="linf",
        epsilon=0.3,
        attack="PGD-2",
        natural=right,
        standing=np.arange(20) < 10,
        robust=np.arange(20) < 5,
        attacks={"PGD-2": 0.5, "Square": 0.25},
        checks=checks,
        by_epsilon=np.array([[0.0, 0.1, 0.3, 1.0], [0.9, 0.8, 0.5, 0.0]]),
        by_steps=np.array([[0, 1, 2, 3, 4], [0.9, 0.7, 0.5, 0.45, 0.4]]),
        seconds=1.0,
    )


def test_the_page_has_every_check_curve_and_attack(made, tmp_path):
    sections = report.sections_of_diagnosis(made)
    said = report.write("Diagnosis", sections, tmp_path / "d")
    assert said == f"Report: {tmp_path / 'd' / 'report.html'}"
    text = (tmp_path / "d" / "report.md").read_text("utf-8").replace("\\", "")
    page = (tmp_path / "d" / "report.html").read_text("utf-8")
    for content in (text, page):
        assert "can NOT be trusted: 1 of 2 checks fail" in content
        assert "Somebody 2020" in content
        assert "30.0 %" in content
        assert "not run" in content
    assert "there is &lt;nothing&gt;" in page
    numbers = json.loads((tmp_path / "d" / "numbers.json").read_text("utf-8"))
    parts = [each["part"] for each in numbers]
    assert {part: parts.count(part) for part in set(parts)} == {
        "check": 3, "epsilon": 4, "steps": 5, "attack": 4,
    }  # fmt: skip
    assert numbers[0]["figure"] == 0.3
    assert numbers[0]["passed"] is False
    assert numbers[2]["passed"] is None
    assert (tmp_path / "d" / "epsilon.png").exists()
    assert (tmp_path / "d" / "steps.svg").exists()


@pytest.mark.usefixtures("compiled_quickly")
def test_a_run_is_diagnosed_in_its_folder(here, trained, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    command.main(
        _given(
            run, f"--surrogates={trained}", "--config.evaluate.examples=40",
            "--config.evaluate.pgd.steps=4",
        )
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "Diagnosis of trained" in said
    assert "40 images, linf, epsilon 0.1" in said
    assert "PGD-4 on the training loss" in said
    assert "transfer finds more than gradients" in said
    assert "give surrogates" not in said
    assert f"Report: {run / 'diagnosis' / 'report.html'}" in said
    lines = said.split("Report:")[0].splitlines()
    assert max(map(len, lines)) <= 80
    numbers = json.loads((run / "diagnosis" / "numbers.json").read_text("utf-8"))
    named = {each["attack"] for each in numbers if each["part"] == "attack"}
    # Of a cosine head, cross-entropy on the cosines at every scale.
    for scale in ("0.1", "10", "100", "1000"):
        assert f"PGD-40 on cross-entropy of {scale} z" in named
    assert "PGD-40 on softmax_cross_entropy" in named
    assert "transfer from surrogate 0" in named
    # The run itself is as it was.
    assert (run / "config.json").read_bytes() == (trained / "config.json").read_bytes()
    assert not signals.requested()


def test_what_can_not_be_diagnosed_is_one_line(here, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    with pytest.raises(InputError, match="--surrogates="):
        command.main(_given(run, "--surrogates=,"))
    with pytest.raises(InputError, match="nothing"):
        command.main(_given(run, f"--surrogates={tmp_path / 'nothing'}"))
    with pytest.raises(InputError, match="another config"):
        command.main(_given(run, "--config.train.steps=99"))
