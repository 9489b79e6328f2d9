"""Held-out images: who sees them, what they say, and what is done about it."""

import functools
import json
import types

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import stop_after
from made_runs import make_run

import advloss
from advloss import attacks, config, data, losses, networks
from advloss.cli import flags, train
from advloss.config import build
from advloss.defences import outcomes
from advloss.errors import InputError
from advloss.evaluation import results
from advloss.evaluation.run import evaluate_run
from advloss.report import rows
from advloss.runtime import checkpoints, files, metrics
from advloss.training import guards, run, stack, step, validation
from advloss.training import workdir as folders
from advloss.types import Split

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture
def watched(small_config):
    """A run of 8 steps that looks at 50 held-out images after every second."""
    small_config.train.update({"keep": "best"})
    small_config.train.validation.update({"examples": 50, "every": 2, "steps": 3})
    return small_config


@pytest.fixture
def dataset(small_config):
    return data.load(**small_config.data)


def _resolved(watched, **changes):
    changed = watched.copy_and_resolve_references()
    for key, value in changes.items():
        config.put(changed, key.replace("__", "."), value)
    return config.resolve(changed)


def _chunks(members, dataset, devices=1):
    """Every chunk's states and metrics, of runs that are trained together."""
    network = build.network(members[0])
    states = [step.init(member, network, dataset.train) for member in members]
    devices = jax.devices()[:devices]
    where = stack.layout(len(members), members[0].train.batch_size, devices)
    trained = stack.run(members, network, dataset, states, where=where)
    return [(fetch(), own) for fetch, own in trained]


def test_a_split_is_parted_once_for_all_seeds(watched, dataset):
    first, other = (
        validation.parts(dataset.train, _resolved(watched, seed=seed))
        for seed in (0, 5)
    )
    np.testing.assert_array_equal(first.held_out.images, other.held_out.images)
    assert len(first.held_out.labels) == 50 and len(first.train.labels) == 350
    assert len(np.unique(first.held_out.labels)) == 10  # Drawn, not the last.
    both = np.concatenate([part.images for part in first])
    assert sorted(x.tobytes() for x in both) == sorted(
        x.tobytes() for x in dataset.train.images
    )


def test_more_than_half_is_not_held_out(watched, dataset):
    settings = _resolved(watched, train__validation__examples=201)
    with pytest.raises(InputError, match=r"examples=201 .* at most half of the 400"):
        validation.parts(dataset.train, settings)


def test_a_run_can_train_on_the_first_images_alone(watched, dataset):
    whole = validation.parts(dataset.train, _resolved(watched))
    few = validation.parts(dataset.train, _resolved(watched, train__examples=30))
    assert np.array_equal(few.train.images, whole.train.images[:30])
    assert np.array_equal(few.train.labels, whole.train.labels[:30])
    assert np.array_equal(few.held_out.images, whole.held_out.images)
    watched.train.update({"keep": "last", "examples": 30})
    watched.train.validation.examples = 0
    all_of_them = validation.parts(dataset.train, _resolved(watched))
    assert np.array_equal(all_of_them.train.images, dataset.train.images[:30])
    assert len(all_of_them.held_out.labels) == 0


def test_a_run_on_the_first_images_knows_no_others(watched, dataset):
    """To train on the first 30 is what it is to have no others."""
    few = _chunks([_resolved(watched, train__examples=30)], dataset)[-1][0][0]
    cut = Split(*(x[:30] for x in validation.parts(dataset.train, watched).train))
    watched.train.update({"keep": "last"})
    watched.train.validation.examples = 0
    alone = _chunks([_resolved(watched)], dataset._replace(train=cut))[-1][0][0]
    # Two programs, of which one validates: they may round differently.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6)
    jax.tree.map(close, few.variables, alone.variables)


def test_more_images_than_there_are_are_refused(watched, dataset):
    count = len(dataset.train.labels) - 50
    message = rf"train.examples={count + 1} is not valid: use at most {count} of"
    with pytest.raises(InputError, match=message):
        validation.parts(dataset.train, _resolved(watched, train__examples=count + 1))


def test_nothing_is_learnt_from_them(watched, dataset):
    settings = _resolved(watched)
    held_out = np.isin(
        [x.tobytes() for x in dataset.train.images],
        [x.tobytes() for x in validation.parts(dataset.train, settings)[1].images],
    )
    blank = np.where(held_out[:, None, None, None], np.float32(1), dataset.train.images)
    other = dataset._replace(train=Split(blank, dataset.train.labels))
    first, second = (_chunks([settings], each)[-1][0][0] for each in (dataset, other))
    jax.tree.map(np.testing.assert_array_equal, first.variables, second.variables)
    assert float(first.best["robust"]) != float(second.best["robust"])


def test_the_numbers_are_those_of_pgd_by_hand(watched, dataset):
    settings = _resolved(watched)
    (state,), (found,) = _chunks([settings], dataset)[0]
    network = build.network(settings)
    classifier = networks.classifier(network, state.variables)
    images, labels = validation.parts(dataset.train, settings).held_out
    key = jax.random.fold_in(step.keys(0).init, 1)
    result = attacks.pgd(
        classifier,
        attacks.example_keys(key, np.arange(50)),
        images,
        labels,
        objective=losses.margin,
        epsilon=0.3,
        step_size=2.5 * 0.3 / 3,
        steps=3,
        random_start=True,
    )
    natural = np.argmax(classifier(images), axis=-1) == labels
    assert found["validation_accuracy"] == np.float32(natural.mean())
    robust = natural & ~np.asarray(result.worst_success)
    assert found["validation_robust"] == np.float32(robust.mean())


def test_a_defence_without_an_attack_is_judged_by_natural_images(watched, dataset):
    settings = _resolved(watched, defence__name="natural")
    for _, (found,) in _chunks([settings], dataset):
        assert "validation_robust" not in found
        assert found["best_robust"] >= found["validation_accuracy"]


@pytest.mark.parametrize("devices", [2, 4])
def test_on_several_devices_they_say_the_same(watched, dataset, devices):
    settings = _resolved(watched)
    alone, shared = (_chunks([settings], dataset, n) for n in (1, devices))
    for (_, (first,)), (_, (second,)) in zip(alone, shared, strict=True):
        for key in ("validation_accuracy", "validation_robust", "best_step"):
            np.testing.assert_array_equal(first[key], second[key])


def test_no_defence_can_have_metrics_of_these_names(watched, dataset):
    _, (found,) = _chunks([_resolved(watched)], dataset)[0]
    own = {"accuracy", "loss"}
    assert set(found) - own <= set(outcomes._OF_TRAINING)


def test_a_validation_is_due_where_a_chunk_passes_its_step(watched):
    settings = _resolved(watched, train__validation__every=3)
    ends = [validation.is_due(settings, s, s + 2) for s in (0, 2, 4, 6)]
    assert ends == [False, True, True, True]  # 3, 6, and the last step.
    settings = _resolved(watched, train__validation__examples=0, train__keep="last")
    assert not validation.is_due(settings, 6, 8)


def _renewed(values, patience=0):
    """The best step, and how long it has stood, after validations of these numbers."""
    best = validation.nothing_yet(
        advloss_config(examples=1), {"w": np.zeros(2, np.float32)}
    )
    found = []
    for i, value in enumerate(values, 1):
        weights = {"w": np.full(2, i, np.float32)}
        best = validation.renewed(best, weights, i, np.float32(value), True, patience)
        assert int(best["variables"]["w"][0]) == int(best["step"])
        found.append((int(best["step"]), int(best["waited"])))
    return found


def advloss_config(**changes):
    settings = config.default()
    settings.train.validation.update(changes)
    return config.resolve(settings)


def test_the_best_is_the_first_of_the_highest():
    assert _renewed([0.1, 0.5, 0.5, 0.4]) == [(1, 0), (2, 0), (2, 1), (2, 2)]


def test_after_the_patience_nothing_is_better():
    assert _renewed([0.5, 0.1, 0.2, 0.9], patience=2)[-1] == (1, 3)
    assert _renewed([0.5, 0.1, 0.9, 0.1], patience=2)[-1] == (3, 1)


def test_the_best_weights_are_evaluated(watched, tmp_path):
    settings = _resolved(watched, train__learning_rate=0.05)
    run.train_runs([settings], [tmp_path], jax.devices()[:1])
    kept, last = folders.load_run(tmp_path), metrics.read(tmp_path)[-1]
    network = build.network(settings)
    robust = [row["validation_robust"] for row in metrics.read(tmp_path)]
    assert last["best_robust"] == max(robust)
    chunks = _chunks([settings], data.load(**settings.data))
    (best,) = (s for (s,), _ in chunks if int(s.step) == last["best_step"])
    jax.tree.map(np.testing.assert_array_equal, kept.variables, best.variables)
    (measured,) = evaluate_run(settings, tmp_path, jax.devices()[:1])
    test = data.load(**settings.data).test
    logits = networks.classifier(network, best.variables)(test.images)
    np.testing.assert_array_equal(measured.natural, np.argmax(logits, axis=-1))
    # And a report finds what was measured of them.
    assert [each.identity for each in results.load(tmp_path)] == [measured.identity]
    assert rows.load_row(tmp_path).status == ""


def test_with_an_average_that_is_what_is_kept(watched, dataset):
    settings = _resolved(watched, train__average=0.5)
    for (state,), (found,) in _chunks([settings], dataset):
        if found["best_step"] == state.step:
            jax.tree.map(
                np.testing.assert_array_equal, state.best["variables"], state.average
            )


def test_a_continued_run_has_the_same_best(watched, tmp_path, monkeypatch):
    settings = _resolved(watched)
    run.train_runs([settings], [tmp_path / "whole"], jax.devices()[:1])
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run.train_runs([settings], [tmp_path / "parts"], jax.devices()[:1])
    run.train_runs([settings], [tmp_path / "parts"], jax.devices()[:1])
    states = [_newest(tmp_path / name) for name in ("whole", "parts")]
    jax.tree.map(np.testing.assert_array_equal, *states)


def _newest(workdir):
    with checkpoints.open_folder(workdir) as manager:
        return checkpoints.restore(manager)


@pytest.fixture
def impatient(watched):
    """A run that can't get better: it does not move."""
    changes = {"train__learning_rate": 1e-12, "train__attack__warmup": 0.0}
    return _resolved(watched, train__patience=2, **changes)


def test_a_training_without_progress_ends(impatient, tmp_path, capsys):
    run.train_runs([impatient], [tmp_path], jax.devices()[:1])
    assert [row["step"] for row in metrics.read(tmp_path)] == [2, 4, 6]
    assert "ends at step 6 of 8, after 2 validations" in capsys.readouterr().err
    # It is finished: nothing is trained again, and it can be evaluated.
    run.train_runs([impatient], [tmp_path], jax.devices()[:1])
    assert [row["step"] for row in metrics.read(tmp_path)] == [2, 4, 6]
    (measured,) = evaluate_run(impatient, tmp_path, jax.devices()[:1])
    assert measured.identity["step"] == folders.load_run(tmp_path).step == 6


def test_the_command_says_where_it_ended(impatient, tmp_path, monkeypatch, capsys):
    """Also where it is given again, and nothing is trained."""
    monkeypatch.setattr(flags, "devices", lambda *_: jax.devices()[:1])
    monkeypatch.setattr(flags, "end_on_signals", lambda: None)
    values = types.SimpleNamespace(workdir=str(tmp_path / "run"))
    given = flags.Given(values, impatient, [], "", {})
    for _ in range(2):
        train.main(given)
        said = "trained for 6 of 8 steps, where train.patience=2 ended it. To attack it"
        assert said in capsys.readouterr().out


def test_one_run_that_ends_holds_up_no_other(impatient, tmp_path):
    moves = impatient.copy_and_resolve_references()
    moves.train.learning_rate = 0.003
    both, folder = [impatient, moves], [tmp_path / "ends", tmp_path / "goes on"]
    run.train_runs(both, folder, jax.devices()[:2])
    run.train_runs([moves], [tmp_path / "alone"], jax.devices()[:1])
    assert [row["step"] for row in metrics.read(folder[0])] == [2, 4, 6]
    alone, beside = (folders.load_run(f) for f in (tmp_path / "alone", folder[1]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        alone.variables,
        beside.variables,
    )


def test_it_is_patient_while_the_attack_grows(impatient, tmp_path):
    impatient.train.attack.warmup = 1.0
    run.train_runs([impatient], [tmp_path], jax.devices()[:1])
    assert metrics.read(tmp_path)[-1]["step"] == 8


def test_nothing_grows_where_nothing_is_attacked(impatient, tmp_path):
    impatient.train.attack.warmup, impatient.defence.name = 1.0, "natural"
    run.train_runs([config.resolve(impatient)], [tmp_path], jax.devices()[:1])
    assert metrics.read(tmp_path)[-1]["step"] == 6


def test_an_attack_without_a_pgd_of_its_norm_trains_unwatched(
    small_config, dataset, monkeypatch
):
    own = attacks.ATTACKS["fgsm"]._replace(norm="l1")
    monkeypatch.setitem(attacks.ATTACKS, "own", own)
    fresh = config.default()
    small_config.train.attack.steps = None
    for key, value in config.flatten(small_config):
        config.put(fresh, key, value)
    settings = _resolved(fresh, defence__attack="own")
    assert settings.train.validation.examples == 0
    _chunks([settings], dataset)
    settings = _resolved(settings, train__validation__examples=50)
    with pytest.raises(InputError, match=r"examples=50 .* use 0 .* no PGD in l1"):
        _chunks([settings], dataset)


def test_a_checkpoint_of_before_there_was_a_best_goes_on(small_config, tmp_path):
    settings = _resolved(small_config)
    run.train_runs([settings], [tmp_path / "a"], jax.devices()[:1])
    state = step.init(
        settings, build.network(settings), data.load(**settings.data).train
    )
    early = {k: v for k, v in state._asdict().items() if k != "best"}
    with checkpoints.open_folder(tmp_path / "b", together=True) as manager:
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(jax.tree.map(np.asarray, early)),
            config=ocp.args.JsonSave({}),
            digest=ocp.args.JsonSave({"blake2b": files.digest(early)}),
        )
        manager.save(0, args=args)
        manager.wait_until_finished()
        restored = checkpoints.restore(manager, state, 0)
    jax.tree.map(np.testing.assert_array_equal, restored, state)


def test_a_saved_config_of_before_held_nothing_out(tmp_path):
    settings = config.default()
    settings.defence.attack = "fgsm"
    saved = config.resolve(settings).to_dict()
    del saved["train"]["validation"]
    found = config.from_saved(saved, tmp_path, quiet=True)
    assert found.train.validation.examples == 0


def test_fit_keeps_the_best_and_ends_too(dataset):
    images, labels = dataset.train
    keys = {
        "train.keep": "best", "train.patience": 2, "train.attack.warmup": 0.0,
        "train.validation.examples": 50, "train.validation.every": 2,
        "train.validation.steps": 2, "train.attack.steps": 2, "train.chunk_steps": 2,
        "train.learning_rate": 1e-12, "train.checkpoint_every": 2,
    }  # fmt: skip
    found = advloss.fit("mlp", images, labels, steps=20, config=keys, progress=False)
    assert len(found.metrics["loss"]) == 6
    assert len(found.metrics["validation_robust"]) == 3


@pytest.mark.parametrize(
    ("changes", "held_out"),
    [
        ({"defence.attack": "fgsm"}, 100),
        ({"defence.attack": "fgsm_rs"}, 100),
        ({"defence.attack": "n_fgsm"}, 100),
        ({"defence.name": "free", "defence.attack": "fgsm"}, 100),
        ({"train.attack.steps": 1}, 100),
        ({"defence.attack": "fgsm", "train.validation.examples": 0}, 0),
        ({}, 0),
        ({"defence.attack": "noise"}, 0),
        ({"defence.name": "natural"}, 0),
        ({"defence.name": "natural", "defence.attack": "fgsm"}, 0),
    ],
)
def test_a_single_step_is_watched(changes, held_out):
    settings = config.default()
    for key, value in changes.items():
        config.put(settings, key, value)
    assert config.resolve(settings).train.validation.examples == held_out


def test_fit_holds_nothing_out_of_few_images(dataset):
    images, labels = dataset.train
    found = advloss.fit("mlp", images, labels, attack="fgsm", steps=2, progress=False)
    assert found.config.train.validation.examples == 0


def test_what_is_kept_must_be_known(watched):
    with pytest.raises(
        InputError, match=r"train\.keep='best' .*validation\.examples of"
    ):
        _resolved(watched, train__validation__examples=0)
    with pytest.raises(InputError, match=r"train\.patience=3 .* 0 without"):
        _resolved(watched, train__keep="last", train__patience=3)


@pytest.mark.parametrize(
    ("best", "now", "trained", "broke"),
    [
        (0.8, 0.3, 0.9, True),  # Less than half of what it was.
        (0.8, 0.4, 0.9, False),
        (0.21, 0.1, 0.2, True),
        (0.15, 0.0, 0.2, False),  # It never knew more than chance.
        (0.3, 0.25, 0.9, True),  # The attack that trains finds little.
        (0.3, 0.3, 0.9, False),
    ],
)
def test_robustness_that_is_lost(best, now, trained, broke):
    settings = advloss_config(examples=100)
    row = {"best_robust": best, "validation_robust": now, "accuracy": trained}
    row |= {"step": 300, "best_step": 100}
    assert bool(guards.lost(row, settings)) is broke
    assert not guards.lost({"loss": 1.0, "step": 300, "accuracy": 1.0}, settings)


@pytest.mark.parametrize("key", ["defence.name=natural", "defence.attack=noise"])
def test_what_does_not_climb_does_not_overfit_at_a_stroke(key):
    settings = config.default()
    settings.train.validation.examples = 100
    config.put(settings, *key.split("="))
    row = {"step": 300, "best_step": 100, "best_robust": 0.1, "accuracy": 0.9}
    assert guards.lost({**row, "validation_robust": 0}, config.resolve(settings)) == ""


def test_while_the_attack_grows_its_batches_are_no_measure():
    row = {"best_robust": 0.1, "validation_robust": 0.0, "accuracy": 0.9}
    settings = advloss_config(examples=100)
    told = [
        guards.lost({**row, "step": s, "best_step": 100}, settings) for s in (179, 180)
    ]
    assert told[0] == "" and told[1].endswith(
        "0.0% are right under PGD-20, of batches 90.0% under the attack that trains"
    )


def test_a_training_that_breaks_is_warned_of_once(watched, tmp_path, monkeypatch):
    """Catastrophic overfitting takes minutes: the attack is made to succeed instead."""
    settings = _resolved(watched, train__keep="last", train__learning_rate=0.02)
    found = iter([0.6, 0.7, 0.1, 0.0])
    before = run.stack.run

    def breaks(*given, **rest):
        for fetch, (own,) in before(*given, **rest):
            made = {
                "validation_robust": next(found),
                "best_robust": 0.7,
                "best_step": 4,
                "accuracy": 0.7,
            }
            yield fetch, [{**own, **{k: np.array([v]) for k, v in made.items()}}]

    monkeypatch.setattr(run.stack, "run", breaks)
    with pytest.warns(UserWarning, match="catastrophic overfitting at step 6: of") as w:
        run.train_runs([settings], [tmp_path], jax.devices()[:1])
    assert len(w) == 1 and "train.keep=best would keep step 4" in str(w[0].message)


def test_a_report_names_the_step_where_it_broke(tmp_path):
    workdir = make_run(tmp_path, "broken", changes={"defence.attack": "fgsm"})
    logged = [(100, 0.6, 0.6), (200, 0.1, 0.6), (600, 0.0, 0.6)]
    lines = [
        {"step": s, "loss": 1.0, "accuracy": 0.9, "validation_robust": now,
         "best_robust": best, "best_step": 100, "steps_per_second": 2.0}
        for s, now, best in logged
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (workdir / "metrics.jsonl").write_text(text)
    row = rows.load_row(workdir)
    assert row.notes == (
        "catastrophic overfitting at step 200: of held-out images 10.0% are right "
        "under PGD-20, 60.0% were at step 100; train.keep=best would keep step 100",
    )
    assert row.training.held_out == [(100, 60.0), (200, 10.0), (600, 0.0)]
    assert row.seconds == 300
