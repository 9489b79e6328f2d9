"""Stopping at the first success: the same examples stand, at less expense."""

import json
import shutil

import jax
import numpy as np
import pytest

from advloss import compaction, evaluate, report, results, runs
from advloss import config as configs


def _config(workdir, **changes):
    config = runs.load_config(workdir)
    with config.unlocked():
        config.update_from_flattened_dict(
            {f"evaluate.{key.replace('__', '.')}": v for key, v in changes.items()}
        )
    return configs.resolve(config)


@pytest.mark.parametrize(
    "changes",
    [
        {"pgd__steps": 25},
        {"pgd__steps": 12, "pgd__restarts": 3, "batch_size": 20},
        {"pgd__steps": 4, "pgd__random_start": False},
    ],
)
def test_pgd_in_rounds_leaves_the_same_examples(trained, changes):
    config = _config(trained, worst_only=True, **changes)
    run = runs.load_run(trained)
    test = runs.load_data(config).test
    whole, short = (
        attack(config, "pgd", run.params, test, *rest, devices=jax.devices()[:1])
        for attack, rest in (
            (evaluate.attack_split, ()),
            (compaction.attack_standing, (np.ones(len(test.labels), bool),)),
        )
    )
    assert 0.2 < whole.worst_correct.mean() < 0.95
    np.testing.assert_array_equal(short.worst_correct, whole.worst_correct)
    np.testing.assert_array_equal(short.natural, whole.natural)
    assert short.gradients < whole.gradients
    # What is fooled is shown: an image in the ball, with a wrong prediction.
    lost = ~short.worst_correct
    assert (short.attacked[lost] != test.labels[lost]).all()
    change = np.abs(short.images - test.images).max(axis=(1, 2, 3))
    assert change.max() <= config.evaluate.pgd.epsilon + 1e-6
    np.testing.assert_allclose(short.distance, change, atol=1e-6)


@pytest.mark.parametrize("name", ["fgs", "multi_targeted", "penalty"])
def test_other_attacks_take_on_who_stands(trained, name):
    """Their own examples are the same as alone; the others are left in peace."""
    config = _config(trained, worst_only=True)
    with config.unlocked():
        for key in ("steps", "search_steps"):
            if key in config.evaluate[name]:
                config.evaluate[name][key] = 3
    run = runs.load_run(trained)
    test = runs.load_data(config).test
    standing = np.arange(len(test.labels)) % 2 == 0
    how = {"devices": jax.devices()[:1]}
    whole = evaluate.attack_split(config, name, run.params, test, **how)
    short = compaction.attack_standing(config, name, run.params, test, standing, **how)
    np.testing.assert_array_equal(short.worst_correct, whole.worst_correct & standing)
    np.testing.assert_array_equal(short.images[~standing], test.images[~standing])


def test_a_suite_stops_spending_and_ends_at_the_same_worst_case(trained, tmp_path):
    attacks = {"attacks": ("noise", "pgd", "multi_targeted"), "pgd__steps": 30}
    found = {}
    for worst_only in (False, True):
        workdir = shutil.copytree(trained, tmp_path / str(worst_only))
        config = _config(trained, **attacks, worst_only=worst_only)
        with config.unlocked():
            config.evaluate.multi_targeted.steps = 5
        found[worst_only] = results.evaluate_run(config, workdir, jax.devices()[:1])
    assert found[True]["worst_of_all"] == found[False]["worst_of_all"]
    assert found[True]["natural"] == found[False]["natural"]
    shares = [
        found[True]["attacks"][n]["worst"]["accuracy"] for n in attacks["attacks"]
    ]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == found[True]["worst_of_all"]["accuracy"]
    text = report.terminal_attack_table(report.load_row(workdir))
    assert "Attacks stopped where an image was fooled" in text
    # A later attack built on an earlier one, so another earlier one undoes it.
    with config.unlocked():
        config.evaluate.attacks, config.evaluate.pgd.steps = ("pgd",), 1
    results.evaluate_run(config, workdir, jax.devices()[:1])
    left = json.loads((workdir / "evaluation.json").read_text())["attacks"]
    assert list(left) == ["noise", "pgd"]
