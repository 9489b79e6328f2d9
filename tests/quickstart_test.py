"""The quickstart on digits of 8x8 pixels, with networks of seconds."""

import threading

import jax
import pytest
from absl import flags
from absl.testing import flagsaver

from advloss import checkpoints, results, stopping
from advloss.errors import DivergedError
from configs import quickstart
from experiments import launcher
from experiments import quickstart as launched


@pytest.fixture
def folder(small_config, tmp_path, monkeypatch):
    """`main` runs there, its configs made small."""

    def small(name):
        config = small_config.copy_and_resolve_references()
        own = quickstart_config(name)
        config.name, config.loss = own.name, own.loss
        config.train.attack.name = own.train.attack.name
        return config

    quickstart_config = quickstart.get_config
    monkeypatch.setattr(quickstart, "get_config", small)
    monkeypatch.setattr(launcher, "devices", lambda *sizes: jax.devices()[:2])
    monkeypatch.setattr(stopping, "_asked", threading.Event())
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(workdir=str(tmp_path)):
        yield tmp_path


def test_three_networks_are_trained_attacked_and_compared(folder, capsys):
    launched.main()
    assert (folder / "report.html").exists()
    said = capsys.readouterr().out
    for name in quickstart.VARIANTS:
        assert name in said
        assert results.load_results(folder / name)["examples"] == 110
        assert checkpoints.steps(folder / name) == [4, 8]


def test_where_one_of_two_fails_the_other_saves_and_ends(
    folder, small_config, monkeypatch
):
    made = quickstart.get_config

    def failing(name):
        config = made(name)
        config.train.steps = 10**6 if name == "undefended" else 8
        if name == "lmcl":
            config.train.learning_rate = 1e30
        return config

    monkeypatch.setattr(quickstart, "get_config", failing)
    with pytest.raises(DivergedError, match=r"learning_rate=1e\+30"):
        launched.main()
    (step,) = checkpoints.steps(folder / "undefended")[-1:]
    assert 0 < step < 10**6
