"""The quickstart on digits of 8x8 pixels, with networks of seconds."""

import threading

import jax
import pytest

from advloss.cli import configfile, flags
from advloss.cli import quickstart as launched
from advloss.errors import DivergedError
from advloss.evaluation import results
from advloss.runtime import checkpoints, signals
from configs import quickstart


@pytest.fixture
def folder(small_config, tmp_path, monkeypatch):
    """`main` runs there, its configs made small."""

    def small(file):
        config = small_config.copy_and_resolve_references()
        own = quickstart.get_config(file.removeprefix("configs/quickstart.py:"))
        config.name, config.loss, config.defence = own.name, own.loss, own.defence
        return config

    monkeypatch.setattr(configfile, "load", small)
    monkeypatch.setattr(flags, "devices", lambda given, *sizes: jax.devices()[:2])
    monkeypatch.setattr(flags, "end_on_signals", lambda: None)
    monkeypatch.setattr(signals, "_asked", threading.Event())
    return tmp_path


def _main(folder):
    arguments = [f"--workdir={folder}"]
    launched.main(flags.parse(launched.FLAGS, ["advloss", "quickstart"], arguments))


def test_it_takes_the_configs_of_that_name():
    assert launched.NETWORKS == quickstart.VARIANTS


def test_three_networks_are_trained_attacked_and_compared(folder, capsys):
    _main(folder)
    assert (folder / "report.html").exists()
    said = capsys.readouterr().out
    for name in quickstart.VARIANTS:
        assert name in said
        (measured,) = results.load(folder / name)
        assert len(measured.labels) == 110
        assert checkpoints.steps(folder / name) == [4, 8]


def test_where_one_of_two_fails_the_other_saves_and_ends(folder, monkeypatch):
    made = configfile.load

    def failing(file):
        config = made(file)
        config.train.steps = 10**6 if file.endswith("undefended") else 8
        if file.endswith("lmcl"):
            config.train.learning_rate = 1e30
        return config

    monkeypatch.setattr(configfile, "load", failing)
    with pytest.raises(DivergedError, match=r"learning_rate=1e\+30"):
        _main(folder)
    (step,) = checkpoints.steps(folder / "undefended")[-1:]
    assert 0 < step < 10**6
