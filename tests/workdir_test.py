"""From a work directory to a network; damaged files are named."""

import json
import os
import shutil
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import advloss
from advloss import report
from advloss.errors import DamagedError, InputError
from advloss.evaluation import results
from advloss.training import workdir as folders


@pytest.mark.parametrize("how", ["truncated", "missing", "flipped"])
def test_a_damaged_checkpoint_is_named(trained, tmp_path, how):
    workdir = shutil.copytree(trained, tmp_path / "run")
    state = workdir / "checkpoints" / "60" / "state"
    largest = max((p for p in state.rglob("*") if p.is_file()), key=os.path.getsize)
    content = bytearray(largest.read_bytes())
    if how == "missing":
        largest.unlink()
    elif how == "truncated":
        largest.write_bytes(content[: len(content) // 2])
    else:
        for place in range(0, len(content), 1000):
            content[place] ^= 0xFF
        largest.write_bytes(content)
    with pytest.raises(
        InputError, match=r"checkpoints/60 is damaged.*give the command"
    ) as error:
        advloss.load_run(workdir)
    assert "\n" not in str(error.value)


def test_a_damaged_config_is_named(trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    (workdir / "config.json").write_text('{"name": ')
    with pytest.raises(InputError, match=r"config.json is damaged"):
        advloss.load_run(workdir)


def test_a_run_of_an_earlier_version_says_what_differs(trained, tmp_path):
    """A key that there was not yet has its default; one that there is no longer is
    named."""
    workdir = shutil.copytree(trained, tmp_path / "run")
    path = workdir / "config.json"
    values = json.loads(path.read_text())
    del values["model"]["precision"]
    path.write_text(json.dumps(values))
    with pytest.warns(UserWarning, match=r"earlier version.*model.precision='float32'"):
        run = advloss.load_run(workdir)
    assert run.config.model.precision == "float32"
    values["train"]["decay_of_weights"] = 0.1
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"decay_of_weights=0.1 is not a key"):
        advloss.load_run(workdir)


def test_a_checkpoint_that_goes_while_it_is_read(trained, tmp_path, monkeypatch):
    """A run that is being trained keeps its newest alone: that is read then."""
    workdir = shutil.copytree(trained, tmp_path / "run")
    restore, asked = folders.restore, []

    def restored(manager, config, *, step):
        asked.append(step)
        if step == 60:
            shutil.copytree(workdir / "checkpoints/60", workdir / "checkpoints/61")
            raise DamagedError("it is gone", "")
        return restore(manager, config, step=60)

    monkeypatch.setattr(folders, "restore", restored)
    advloss.load_run(workdir)
    assert asked == [60, 61]


def test_load_run_gives_the_network_that_was_evaluated(trained):
    run = advloss.load_run(trained)
    assert (run.step, run.config.loss.name) == (60, "lmcl")
    test = folders.load_data(run.config).test
    logits = run.classifier(jnp.asarray(test.images))
    assert np.abs(logits).max() <= 1 + 1e-6
    (pgd,) = results.load(trained)
    assert (np.argmax(logits, -1) == pgd.natural).mean() > 0.99


def test_a_saved_network_is_no_run_s_folder(trained, tmp_path):
    """Its config may be that of a run: nothing is trained into it, and it is told."""
    folder = tmp_path / "net"
    advloss.load(trained).save(folder)
    with pytest.raises(InputError, match=r"network that Trained.save wrote: use anoth"):
        folders.check_owner(folder, advloss.load_run(trained).config)
    row = report.load_row(folder)
    assert (
        row.status == "the folder holds a network that Trained.save wrote, and no run"
    )
    with pytest.raises(InputError, match="can't be exported: the folder holds a netwo"):
        report.export(folder, tmp_path / "exported")


def test_foolbox_attacks_a_loaded_run(trained):
    """A peer takes the function as it is, and finds about what our PGD found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import eagerpy
        import foolbox

        run = advloss.load_run(trained)
        test = folders.load_data(run.config).test
        model = foolbox.JAXModel(run.classifier, bounds=(0, 1))
        attack = foolbox.attacks.LinfPGD(abs_stepsize=0.01, steps=10)
        _, images, success = attack(
            model,
            eagerpy.astensor(jnp.asarray(test.images)),
            eagerpy.astensor(jnp.asarray(test.labels)),
            epsilons=0.1,
        )
    assert np.abs(images.numpy() - test.images).max() <= 0.1 + 1e-6
    theirs = 1 - success.numpy().mean()
    (pgd,) = results.load(trained)
    ours, natural = pgd.correct.mean(), (pgd.natural == pgd.labels).mean()
    assert theirs < natural - 0.03
    # Other objective (cross-entropy on cosines) and other random starts, 110 digits.
    assert abs(theirs - ours) < 0.1
