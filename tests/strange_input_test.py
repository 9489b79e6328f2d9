"""Strange input of every kind: what would be ignored is said, the rest is one line."""

import io
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT
from made_runs import make_run

import advloss
from advloss import attacks, data, losses, networks, report
from advloss import config as configs
from advloss.cli import (
    diagnose,
    evaluate,
    flags,
    idle,
    keys,
    members,
    study,
    terminal,
    train,
)
from advloss.errors import InputError
from advloss.networks import layers
from advloss.registry import Setting, whole
from advloss.report import style
from advloss.runtime import checkpoints, files

CLASSES = 3
IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, (8, 4, 4, 1)).astype(np.float32)
LABELS = np.arange(8) % CLASSES
WEIGHTS = np.random.default_rng(1).normal(size=(16, CLASSES)).astype(np.float32)


class Own(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(CLASSES)(images.reshape(len(images), -1))


def _linear(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def _fit(**changes):
    small = {"steps": 1, "batch_size": 4, "progress": False, "epsilon": 0.1}
    return advloss.fit(Own(), IMAGES, LABELS, **{**small, **changes})


def _by_place(images):
    """Each place of a batch has its own draw, as with one key for all batches."""
    noise = jax.random.normal(jax.random.key(0), (len(images), CLASSES))
    return _linear(images) + noise


def _by_number(images):
    return _linear(images).at[:, 1].add(3.0 * jnp.arange(len(images)))


@pytest.mark.parametrize("classifier", [_by_place, _by_number])
def test_evaluate_a_classifier_that_looks_at_the_place_in_the_batch(classifier):
    """The first image alone would not show it: it is always in the first place."""
    how = {"attacks": "fgsm", "epsilon": 0.01, "progress": False}
    with pytest.raises(InputError, match="or at another place in it"):
        advloss.evaluate(classifier, IMAGES, LABELS, **how)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {"evaluate.pgd.steps": 3}}, r"evaluate.pgd.steps=3 .*advloss.eval"),
        ({"config": {"train.milestones": (0.5,)}}, r"milestones=.*schedule=cosine has"),
        (
            {"config": {"train.attack.epsilon": 0.1}, "defence": "natural"},
            r"train.attack.epsilon=0.1 changes nothing: .*natural attacks no batch",
        ),
        (
            {"config": {"train.validation.every": 5}},
            r"validation.every=5 changes nothing: .*examples=0; leave it out",
        ),
        ({"frozen": {"params": np.ones(3)}}, r"frozen is not valid with defence='adv"),
        ({"seed": True}, r"config.seed=True is not valid: use a whole number"),
    ],
)
def test_fit_what_would_be_ignored(changes, message):
    with pytest.raises(InputError, match=message) as told:
        _fit(**changes)
    assert "\n" not in str(told.value)


def test_fit_numbers_of_jax_are_numbers():
    one = _fit(learning_rate=0.25, batch_size=4, seed=1)
    other = _fit(
        learning_rate=jnp.float32(0.25), batch_size=jnp.int32(4), seed=jnp.int32(1)
    )
    for left, right in zip(
        jax.tree.leaves(one.variables), jax.tree.leaves(other.variables), strict=True
    ):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], r"images are float32 \(4, 4, 1\): use floats .*\[batch, hei"),
        (lambda x: (255 * x).astype(np.uint8), r"images are uint8 \(8, 4, 4, 1\)"),
        (lambda x: x > 0.5, r"images are bool \(8, 4, 4, 1\)"),
    ],
)
def test_a_trained_classifier_says_what_it_takes(change, message):
    network = networks.from_flax(Own())
    variables = network.init(jax.random.key(0), IMAGES.shape[1:])
    classifier = networks.classifier(network, variables)
    for call in (classifier, jax.jit(classifier)):
        assert call(IMAGES.astype(np.float16)).shape == (8, CLASSES)
        with pytest.raises(InputError, match=message):
            call(change(IMAGES))


def _config(**changes):
    config = configs.default()
    for key, value in changes.items():
        configs.put(config, key.replace("__", "."), value)
    return configs.resolve(config)


@pytest.mark.parametrize(
    ("key", "changes", "said"),
    [
        ("data.file", {}, "data.file changes nothing: .*source=mnist_5k has no file"),
        ("data.dir", {"data__source": "npz"}, "data.dir .*source=npz has no dir"),
        ("data.name", {"data__source": "idx"}, "data.name .*source=idx has no name"),
        ("data.dir", {"data__source": "a.b:c"}, "data.dir .*source=a.b:c has no dir"),
        ("data.dir", {"data__source": "tfds"}, None),
        ("data.num_classes", {}, None),
        (
            "train.validation.steps",
            {"defence__name": "natural", "train__validation__examples": 10},
            "validation.steps changes nothing: .*natural attacks no batch",
        ),
        ("train.validation.steps", {"train__validation__examples": 10}, None),
        ("train.attack.restarts", {}, None),
        (
            "train.attack.restarts",
            {"defence__attack": "apgd", "train__attack__restarts": 3},
            None,
        ),
        (
            "train.attack.restarts",
            {"train__attack__random_start": False, "train__attack__restarts": 2},
            "restarts changes nothing: .*random_start=False starts at the image",
        ),
        ("train.milestones", {}, "milestones changes nothing: .*=cosine has no miles"),
        ("train.milestones", {"train__schedule": "piecewise"}, None),
        ("train.milestones", {"train__schedule": "one_cycle"}, None),
    ],
)
def test_config_a_key_that_changes_nothing_is_said(key, changes, said):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        idle.warn([_config(**changes)], [key])
    if said is None:
        assert not told
    else:
        (only,) = told
        assert only.category is UserWarning
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(only.message)


class _Ended(Exception):
    pass


def _ended(*_):
    raise _Ended


@pytest.mark.parametrize(
    ("command", "file"), [(train, "default"), (study, "lmcl_sweep"), (study, "paper")]
)
def test_config_commands_say_it(monkeypatch, tmp_path, command, file):
    """Data that are named for another source are not used."""
    monkeypatch.setattr(flags, "devices", _ended)
    config = f"--config={ROOT / 'configs' / file}.py"
    config += ":smoke" if file == "paper" else ""
    words = [config, f"--workdir={tmp_path / 'run'}", "--config.data.file=mine.npz"]
    given = flags.parse(command.FLAGS, ["advloss"], words)
    with (
        pytest.warns(UserWarning, match="config.data.file changes nothing"),
        pytest.raises(_Ended),
    ):
        command.main(given)


@pytest.mark.parametrize(
    "words",
    [
        ["--config.sweep=evaluate.pgd.epsilon=0.1,0.2"],
        ["--config.sweep=seed=0,1", "--config.evaluate.pgd.epsilon=0.1"],
    ],
)
def test_sweep_a_key_of_an_attack_that_no_run_asks_for_is_said(
    monkeypatch, tmp_path, words
):
    """Its rows would differ in a radius that nothing was attacked within."""
    monkeypatch.setattr(flags, "devices", _ended)
    file = f"--config={ROOT / 'configs' / 'lmcl_sweep.py'}"
    words += [file, f"--workdir={tmp_path / 'run'}", "--config.evaluate.attacks=noise"]
    given = flags.parse(study.FLAGS, ["advloss"], words)
    said = "evaluate.pgd.epsilon changes nothing: pgd is not in .*attacks=noise"
    with pytest.warns(UserWarning, match=said), pytest.raises(_Ended):
        study.main(given)


def test_sweep_a_key_that_every_run_sets_is_said():
    with pytest.warns(UserWarning, match="config.seed changes nothing: every run sets"):
        idle.warn_of_replaced(["seed", "train.steps"], ["seed"])
    config = configs.default()
    config.update(networks=("a train.steps=4 loss.name=lmcl", "b train.steps=2"))
    assert members.own_keys(config) == ["name", "train.steps"]


def test_evaluation_restarts_from_the_same_start_are_said():
    own = {"evaluate__pgd__random_start": False, "evaluate__pgd__restarts": 5}
    said = "pgd.restarts changes nothing: .*random_start=False starts at the image"
    with pytest.warns(UserWarning, match=said):
        idle.warn_in_evaluation([_config(**own)], ["evaluate.pgd.restarts"])


def test_study_the_budget_is_told_with_what_the_command_changed(tmp_path):
    words = [
        f"--config={ROOT / 'configs' / 'table2.py'}:paper", "--config.train.steps=20",
        "--config.seeds=1", "--config.data.source=idx", f"--workdir={tmp_path}",
    ]  # fmt: skip
    given = flags.parse(study.FLAGS, ["advloss"], words)
    said = study._budget(given.config.budget, given)
    assert said.endswith("; changed by the command: train.steps=20")
    assert "100,000 updates" in said


def test_keys_a_key_may_be_given_as_it_is_set(capsys):
    for word in ("train.steps", "config.train.steps", "--config.train.steps"):
        given = flags.Given(None, None, [word], "", {})
        keys.main(given)
        assert "updates in all" in capsys.readouterr().out


def test_paths_a_folder_with_a_comma_in_its_name(tmp_path):
    """It is one folder where it is there; other commas part folders."""
    for name in ("a", "b,c", "d,e,f"):
        (tmp_path / name).mkdir()
    text = ",".join(str(tmp_path / name) for name in ("b,c", "a", "d,e,f", "none"))
    found = flags.folders("runs", text)
    assert [path.name for path in found] == ["b,c", "a", "d,e,f", "none"]
    with pytest.raises(InputError, match="is the same run"):
        flags.folders("runs", f"{tmp_path / 'b,c'},{tmp_path / 'b,c'}")


def test_paths_rights_that_lack_are_not_a_folder_that_lacks(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(InputError) as told:
        checkpoints.steps(tmp_path)
    assert str(told.value).endswith("checkpoints can't be read: Permission denied")


@pytest.mark.parametrize("command", [evaluate, diagnose])
def test_commands_a_run_keeps_its_name(tmp_path, command):
    """Its name is what reports call it by."""
    make_run(tmp_path / "run", "mine")
    words = [f"--workdir={tmp_path / 'run'}", "--config.name=yours"]
    given = flags.parse(command.FLAGS, ["advloss"], words, saved_config=True)
    with pytest.raises(InputError, match=r"config.name='yours' .*name is 'mine'"):
        command.main(given)


def test_commands_a_surrogate_that_is_no_run_is_named_by_its_flag(
    tmp_path, monkeypatch
):
    make_run(tmp_path / "run", "mine")
    run = diagnose.workdirs.Run(configs.default(), None, {}, None, 600, True)
    found = {tmp_path / "run": run}
    load = diagnose.workdirs.load_run
    monkeypatch.setattr(
        diagnose.workdirs, "load_run", lambda path, *_: found.get(path) or load(path)
    )
    monkeypatch.setattr(flags, "devices", lambda *_: jax.devices()[:1])
    words = [f"--workdir={tmp_path / 'run'}", f"--surrogates={tmp_path / 'none'}"]
    given = flags.parse(diagnose.FLAGS, ["advloss"], words, saved_config=True)
    with pytest.raises(InputError, match=r"^--surrogates=.*none: .*holds no run"):
        diagnose.main(given)


def test_environment_no_date_of_the_shell_ends_a_figure(tmp_path, monkeypatch):
    """matplotlib reads it as it measures an SVG, whose date is left out."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(terminal.sys, name, io.StringIO())
    monkeypatch.setattr(terminal, "_mended", lambda *_: io.StringIO())
    monkeypatch.setattr(terminal, "end_on_signals", lambda: None)
    terminal.prepare()
    figure = plt.figure(layout="constrained")
    style.save(figure, tmp_path / "figure")
    plt.close(figure)
    assert (tmp_path / "figure.svg").exists()


def test_report_what_the_system_refuses_is_not_said_to_be_damaged(
    tmp_path, monkeypatch
):
    """Too many open files, say: the rights are there."""
    make_run(tmp_path / "run", "mine")

    def refuse(path):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(files, "check_regular", refuse)
    row = report.load_row(tmp_path / "run")
    assert row.status == "can't be read: config.json or checkpoint"
    assert "Too many open files" in row.notes[0]


def test_data_channels_first_are_told_what_to_do_with_the_array(tmp_path):
    images, labels = np.full((6, 3, 8, 8), 0.5, np.float32), np.arange(6)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(InputError, match=r", images\.transpose\(0, 2, 3, 1\)$"):
        data.load("npz", file=str(tmp_path / "data.npz"))


@pytest.mark.parametrize(
    ("registry", "entry", "said"),
    [
        (losses.LOSSES, losses.hinge, "mine=<function hinge.* an entry, .*losses.Loss"),
        (
            attacks.ATTACKS,
            attacks.pgd,
            r"mine=<function pgd.* an entry, .*\.Attack: en",
        ),
        (
            losses.LOSSES,
            losses.LOSSES["hinge"]._replace(
                settings={"margin": Setting(1, whole(), "")}
            ),
            r"the setting margin is of several types \(hinge: float, .*mine: int\)",
        ),
        (
            losses.LOSSES,
            losses.LOSSES["hinge"]._replace(settings={"name": Setting(1, whole(), "")}),
            "the setting name is there already, with another meaning: rename",
        ),
    ],
)
def test_registries_what_can_t_be_entered_is_said(monkeypatch, registry, entry, said):
    monkeypatch.setitem(registry, "mine", entry)
    with pytest.raises(InputError, match=said):
        _fit()


class Unnamed(layers.Architecture):
    """Somebody's network, which forgot to name its layers."""

    @nn.compact
    def __call__(self, images, *, train=False, axis=None):
        return {"fc": self.logits(images.reshape(len(images), -1), "fc")}


class Failing(Unnamed):
    layers = ("fc",)

    @nn.compact
    def __call__(self, images, *, train=False, axis=None):
        raise KeyError("fc")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Own, "TypeError: .*positional arguments"),
        (Unnamed, "NotImplementedError: Unnamed has no layers"),
        (Failing, "KeyError: 'fc'"),
    ],
)
def test_registries_a_network_that_fails_is_told(monkeypatch, module, said):
    entry = networks.NETWORKS["mlp"]._replace(module=module)
    monkeypatch.setitem(networks.NETWORKS, "mine", entry)
    with pytest.raises(InputError, match=f"config.model.name='mine' fails: {said}"):
        advloss.fit("mine", IMAGES, LABELS, steps=1, batch_size=4, progress=False)


def test_registries_a_norm_that_there_is_not(monkeypatch):
    entry = attacks.ATTACKS["pgd"]._replace(norm="linfty")
    monkeypatch.setitem(attacks.ATTACKS, "mine", entry)
    how = {"attacks": "mine", "norm": "linfty", "progress": False}
    with pytest.raises(
        InputError, match=r"norm='?linfty'? is not valid: use one of l0, l1"
    ):
        advloss.evaluate(_linear, IMAGES, LABELS, **how)
