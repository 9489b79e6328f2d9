"""`advloss.fit`: a network of one's own, or of the library, from arrays."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import advloss
from advloss import config as configs
from advloss import data, losses
from advloss.errors import DivergedError, InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")


class Own(nn.Module):
    """Somebody's network: it knows nothing of this library."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Dense(32)(images.reshape(len(images), -1)))
        return nn.Dense(10)(x)


@pytest.fixture(scope="module")
def digits(digits_dir):
    return data.load("idx", dir=str(digits_dir))


def _fit(module, split, **changes):
    arguments = {"steps": 60, "batch_size": 20, "epsilon": 0.05, "progress": False}
    arguments |= {"devices": jax.devices()[:1], **changes}
    return advloss.fit(module, *split, **arguments)


def test_a_module_of_one_s_own_is_trained_saved_and_loaded(digits, tmp_path):
    changes = {"steps": 120, "learning_rate": 0.01, "config": {"defence.beta": 2}}
    trained = _fit(Own(), digits.train, defence="trades", **changes)
    assert trained.config.defence.beta == 2
    assert trained.config.train.attack.step_size == 0.025
    assert trained.metrics["loss"].shape == (120,)
    logits = trained.classifier(digits.test.images)
    assert (np.argmax(logits, -1) == digits.test.labels).mean() > 0.7
    trained.save(tmp_path / "own")
    again = advloss.load(tmp_path / "own", Own())
    np.testing.assert_array_equal(again.classifier(digits.test.images), logits)
    with pytest.raises(InputError, match="holds a Own of one's own: give it as module"):
        advloss.load(tmp_path / "own")


def test_a_network_of_the_library_is_loaded_by_its_folder(digits, tmp_path):
    trained = _fit("mlp", digits.train, loss="lmcl", steps=5)
    logits = trained.classifier(digits.test.images)
    assert np.abs(logits).max() <= 1 + 1e-6  # Cosines.
    trained.save(tmp_path / "mlp")
    again = advloss.load(tmp_path / "mlp")
    np.testing.assert_array_equal(again.classifier(digits.test.images), logits)
    assert again.config == trained.config


def test_it_is_the_training_of_a_config(digits, digits_dir, tmp_path):
    """The same keys in a work directory give the same bits."""
    from advloss.training.run import train_runs

    steps = {"train.chunk_steps": 5, "train.checkpoint_every": 5}
    trained = _fit("mlp", digits.train, steps=10, config=steps)
    config = trained.config.copy_and_resolve_references()
    configs.put(config, "data.source", "idx")
    configs.put(config, "data.dir", str(digits_dir))
    train_runs([config], [tmp_path / "run"], jax.devices()[:1])
    loaded = advloss.load_run(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, trained.variables, loaded.variables)


def test_robust_training_is_robust(digits):
    images, labels = (array[:60] for array in digits.test)
    robust = {}
    for defence in ("natural", "adversarial"):
        trained = _fit(Own(), digits.train, defence=defence, epsilon=0.1, steps=200)
        found = advloss.evaluate(
            trained,
            images,
            labels,
            epsilon=0.1,
            attacks="pgd",
            steps=20,
            progress=False,
        )
        robust[defence] = found.robust_accuracy[0]
    assert robust["adversarial"] > robust["natural"] + 0.1


class Large(nn.Module):
    """Its logits are no cosines from the start."""

    @nn.compact
    def __call__(self, images):
        return 100 * nn.Dense(3)(images.reshape(len(images), -1))


_IMAGES = np.full((8, 4, 4, 1), 0.5, np.float32)
_LABELS = np.arange(8) % 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": _IMAGES * 255}, r"images lie in \[127.5, 127.5\]"),
        ({"images": _IMAGES * np.nan}, "values of images are not finite"),
        ({"images": _IMAGES[..., 0]}, r"images have shape \(8, 4, 4\)"),
        ({"images": (_IMAGES * 255).astype(np.uint8)}, "images are uint8"),
        ({"images": _IMAGES[:0], "labels": _LABELS[:0]}, r"images have shape \(0,"),
        ({"labels": _LABELS[:5]}, r"labels have shape \(5,\): use \(8,\), one an"),
        ({"labels": np.eye(3)[_LABELS]}, r"labels are float64: .* labels.argmax\(-1\)"),
        ({"devices": []}, r"devices=\[\] is not valid: use a list of some of jax.dev"),
        ({"labels": _LABELS - 1}, r"labels\[0\]=-1 is no class: use 0 and more"),
        ({"labels": _LABELS / 2}, "labels are float64"),
        ({"module": "tabel1"}, r"config.model.name='tabel1' is not valid.*table1"),
        ({"module": len}, "module=.* is not valid: use a flax.linen module"),
        ({"module": "table1", "images": _IMAGES[:, :3]}, "3x4.*multiples of 4"),
        ({"defence": "trade"}, r"config.defence.name='trade'.*trades"),
        ({"loss": "hing"}, r"config.loss.name='hing'.*hinge"),
        ({"attack": "carlini_l2"}, r"config.defence.attack='carlini_l2'.*pgd"),
        ({"epsilon": -0.1}, r"config.train.attack.epsilon=-0.1 is not valid"),
        ({"epsilon": float("nan")}, r"config.train.attack.epsilon=nan is not valid"),
        ({"epsilon": "0.3"}, r"config.train.attack.epsilon='0.3' is not valid"),
        ({"steps": 0}, r"config.train.steps=0 is not valid"),
        ({"steps": 1.5}, r"config.train.steps=1.5 is not valid"),
        ({"batch_size": 0}, r"config.train.batch_size=0 is not valid"),
        ({"learning_rate": 10**400}, r"train.learning_rate=1\d+.* is not valid: use a"),
        ({"learning_rate": True}, r"config.train.learning_rate=True is not valid"),
        ({"epsilon": True}, r"train.attack.epsilon=True is not valid: use a number"),
        ({"config": {"train.attack.step_size": True}}, r"step_size=True is not valid"),
        ({"config": {"defence.beta": True}, "defence": "mart"}, "beta=True is not val"),
        ({"config": {"model.precision": "bfloat16"}}, r"model.precision=.* the netwo"),
        (
            {"config": {"model.name": "table1"}, "module": "mlp"},
            r"config.model.name='table1' is not valid: the network is the module",
        ),
        ({"config": {"data.source": "idx"}}, "data.source='idx' is not valid: the d"),
        ({"frozen": "runs/teacher"}, "frozen holds a str: use arrays, such as trained"),
        ({"defence": "distillation"}, "frozen=None is not valid with defence='distil"),
        ({"loss": "mmc"}, r"config.loss.name='mmc' takes -\|\|z - mu\|\|\^2 / 2"),
        ({"loss": "he", "module": Large()}, "loss.name='he' takes cosines, from"),
        ({"loss": "arcface", "steps": 300, "learning_rate": 0.1}, "takes cosines"),
        ({"attack": ["pgd"]}, r"config.defence.attack=\['pgd'\] is not valid"),
        ({"learning_rate": 0.0}, r"config.train.learning_rate=0.0 is not valid"),
        ({"config": {"defence.gamma": 1}}, r"config.defence.gamma=1 is not a key"),
        ({"config": {3: 1}}, r"config.3=1 is not a key"),
        ({"config": "train.steps=3"}, r"config='train.steps=3' is not valid: use a d"),
        ({"config": {"data.num_classes": 2}}, r"num_classes=2 .* at least 3, as lab"),
        ({"config": {"defence.beta": 1}}, r"defence.beta=1.*adversarial has no beta"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_line(changes, message):
    arguments = {"images": _IMAGES, "labels": _LABELS, "module": Own(), **changes}
    arguments = {"steps": 2, "batch_size": 4, "progress": False, **arguments}
    with pytest.raises(InputError, match=message) as error:
        advloss.fit(
            arguments.pop("module"),
            arguments.pop("images"),
            arguments.pop("labels"),
            **arguments,
        )
    assert "\n" not in str(error.value)


def test_a_loss_that_is_no_longer_finite_is_said(digits):
    with pytest.raises(DivergedError, match="learning_rate=1e"):
        _fit(Own(), digits.train, learning_rate=1e30, steps=10)


class Forgetful(nn.Module):
    """It keeps statistics, and can't be told that it is trained."""

    @nn.compact
    def __call__(self, images):
        x = nn.Dense(10)(images.reshape(len(images), -1))
        return nn.BatchNorm(use_running_average=True)(x)


class Narrow(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(2)(images.reshape(len(images), -1))


class Random(nn.Module):
    """Dropout, and `train` as it should be."""

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Dropout(0.5, deterministic=not train)(images)
        return nn.Dense(3)(x.reshape(len(x), -1))


class Untold(nn.Module):
    """Its mode has another name: it would be as in evaluation, and say nothing."""

    @nn.compact
    def __call__(self, images, deterministic=True):
        x = nn.Dropout(0.5, deterministic=deterministic)(images)
        return nn.Dense(3)(x.reshape(len(x), -1))


class Nested(nn.Module):
    @nn.compact
    def __call__(self, images):
        return Own()(images), images


class Fixed(nn.Module):
    @nn.compact
    def __call__(self, images):
        return images.reshape(len(images), -1)


class Rounded(nn.Module):
    """Whole numbers: nothing could be learned from them, without a word."""

    @nn.compact
    def __call__(self, images):
        logits = nn.Dense(3)(images.reshape(len(images), -1))
        return logits.round().astype(int)


class Whole(nn.Module):
    @nn.compact
    def __call__(self, images):
        shift = self.param("shift", lambda _: np.zeros((), np.int32))
        return nn.Dense(3)(images.reshape(len(images), -1)) + shift


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Rounded(), r"the module gives int32 \(2, 3\) .*it must give logits"),
        (Fixed(), "the module's params are none: use a module with params"),
        (Whole(), "the module's params are float32, int32: use .* all of them floats"),
        (Forgetful(), "keeps batch_stats, but its __call__ takes no `train`"),
        (Random(), "the network draws random numbers as it runs, as dropout does"),
        (Untold(), r"asks for deterministic, .*use __call__\(self, images, train="),
        (Narrow(), r"gives float32 \(2, 2\).*at least 3 classes as the labels say"),
        (Nested(), "the module fails for images .*it must give logits"),
    ],
)
def test_modules_that_can_t_be_trained(module, message):
    with pytest.raises(InputError, match=message):
        advloss.fit(module, _IMAGES, _LABELS, steps=2, batch_size=4, progress=False)


def test_a_step_is_half_as_long_as_the_radius_of_any_number():
    for epsilon in (0.05, np.float32(0.05), 1):
        trained = _fit(
            Own(), (_IMAGES, _LABELS), epsilon=epsilon, steps=1, batch_size=4
        )
        settings = trained.config.train.attack
        assert settings.step_size == settings.epsilon / 2 == float(epsilon) / 2


def test_a_run_is_not_overwritten(trained, tmp_path):
    import shutil

    workdir = shutil.copytree(trained, tmp_path / "run")
    before = (workdir / "config.json").read_bytes()
    own = _fit(Own(), (_IMAGES, _LABELS), steps=1, batch_size=4)
    with pytest.raises(InputError, match=r"holds no network .*: use another folder"):
        own.save(workdir)
    assert (workdir / "config.json").read_bytes() == before


@pytest.mark.parametrize("folder", [None, 3, "", b"x"])
def test_what_is_no_folder_is_told(folder):
    for load in (advloss.load, advloss.load_run):
        with pytest.raises(InputError, match=r"=.* is not valid: name a folder"):
            load(folder)
    own = _fit(Own(), (_IMAGES, _LABELS), steps=1, batch_size=4)
    with pytest.raises(InputError, match=r"folder=.* is not valid: name a folder"):
        own.save(folder)


def test_other_things_are_not_overwritten(tmp_path):
    """An earlier save is; what it left half done is told."""
    own = _fit(Own(), (_IMAGES, _LABELS), steps=1, batch_size=4)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.json").write_text('{"layers": 3}')
    with pytest.raises(InputError, match=r"mine holds no network that Trained\.save"):
        own.save(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["model.json"]
    own.save(tmp_path / "own")
    before = (tmp_path / "own" / "model.safetensors").read_bytes()
    other = _fit(Own(), (_IMAGES, _LABELS), steps=1, batch_size=4, seed=1)
    other.save(tmp_path / "own")
    advloss.load(tmp_path / "own", Own())
    (tmp_path / "own" / "model.safetensors").write_bytes(before)
    with pytest.raises(InputError, match="own was not saved whole, or was changed"):
        advloss.load(tmp_path / "own", Own())


def test_images_of_other_floats_are_the_same_images(tmp_path):
    """Halves and doubles are converted; what is saved is float32."""
    near = np.linspace(0, 1, 128).reshape(8, 4, 4, 1).astype(np.float16)
    weights = [
        _fit(Own(), (near.astype(dtype), _LABELS), steps=1, batch_size=4).variables
        for dtype in (np.float16, np.float64)
    ]
    jax.tree.map(np.testing.assert_array_equal, *weights)


def test_within_a_traced_function_it_is_refused():
    with pytest.raises(InputError, match="fit was called within a function that JAX"):
        jax.jit(lambda images: _fit(Own(), (images, _LABELS), batch_size=4))(_IMAGES)


def test_the_arrays_of_another_network_are_refused(tmp_path):
    own = _fit(Own(), (_IMAGES, _LABELS), steps=1, batch_size=4)
    own.save(tmp_path / "own")
    with pytest.raises(InputError, match="holds the arrays of another network"):
        advloss.load(tmp_path / "own", Narrow())
    (tmp_path / "own" / "model.safetensors").write_text("{}")
    with pytest.raises(InputError, match=r"model.safetensors is missing or damaged"):
        advloss.load(tmp_path / "own", Own())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": "multi_targeted"}, r"defence.attack='multi_targeted'.*trades"),
        ({"config": {"train.attack.objective": "margin"}}, "objective of its own"),
        ({"config": {"train.attack.objective_scale": 10.0}}, "objective of its own"),
        ({"config": {"train.attack.random_start": False}}, "flat at the natural image"),
    ],
)
def test_what_would_mislead_trades_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        _fit(Own(), (_IMAGES, _LABELS), defence="trades", batch_size=4, **changes)


def test_trades_starts_at_random_whatever_the_attack():
    arguments = {"defence": "trades", "attack": "fgsm", "steps": 1, "batch_size": 4}
    assert _fit(Own(), (_IMAGES, _LABELS), **arguments).config.train.attack.random_start


def test_a_radius_among_the_keys_has_its_step():
    trained = _fit(
        Own(),
        (_IMAGES, _LABELS),
        steps=1,
        batch_size=4,
        config={"train.attack.epsilon": 0.1},
    )
    assert trained.config.train.attack.step_size == 0.05


class Counting(nn.Module):
    """It counts its batches, in whole numbers, beside the params."""

    @nn.compact
    def __call__(self, images, train=False):
        count = self.variable("counts", "batches", lambda: np.zeros((), np.int32))
        if train:
            count.value += 1
        return nn.Dense(3)(images.reshape(len(images), -1))


@pytest.mark.parametrize("devices", [1, 2])
def test_whole_numbers_beside_the_params_stay_whole(devices):
    trained = _fit(
        Counting(),
        (_IMAGES, _LABELS),
        steps=3,
        batch_size=4,
        defence="natural",
        devices=jax.devices()[:devices],
    )
    assert trained.variables["counts"]["batches"].dtype == np.int32
    assert trained.variables["counts"]["batches"] == 3


class Halves(nn.Module):
    @nn.compact
    def __call__(self, images):
        dense = nn.Dense(3, param_dtype=jnp.bfloat16, dtype=jnp.bfloat16)
        return dense(images.reshape(len(images), -1))


def test_bfloat16_is_saved_and_loaded(tmp_path):
    trained = _fit(Halves(), (_IMAGES, _LABELS), steps=2, batch_size=4)
    trained.save(tmp_path / "own")
    loaded = advloss.load(tmp_path / "own", Halves())
    jax.tree.map(np.testing.assert_array_equal, trained.variables, loaded.variables)
    assert loaded.variables["params"]["Dense_0"]["kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        trained.classifier(_IMAGES), loaded.classifier(_IMAGES)
    )


class Scaled(nn.Module):
    scale: float = 1.0

    @nn.compact
    def __call__(self, images):
        return self.scale * nn.Dense(3)(images.reshape(len(images), -1))


def test_a_module_that_computes_something_else_is_not_loaded(tmp_path):
    trained = _fit(Scaled(2.0), (_IMAGES, _LABELS), steps=1, batch_size=4)
    trained.save(tmp_path / "own")
    advloss.load(tmp_path / "own", Scaled(2.0))
    for other in (Scaled(), Scaled(-2.0)):
        with pytest.raises(InputError, match=r"module=.* computes something else than"):
            advloss.load(tmp_path / "own", other)


def test_a_module_of_one_s_own_may_have_a_name_of_the_library(tmp_path):
    module = type("mlp", (Own,), {})
    _fit(module(), (_IMAGES, _LABELS), steps=1, batch_size=4).save(tmp_path / "own")
    for given in (None, "mlp"):
        with pytest.raises(
            InputError, match=r"own holds a api_fit_test.mlp of one's own: give it"
        ):
            advloss.load(tmp_path / "own", given)
    advloss.load(tmp_path / "own", module())


def test_a_file_is_no_folder_of_a_network(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file: name the folder"):
        advloss.load(tmp_path / "file")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda logits, _: logits.mean(), r"the objective gives float32 \(\) for 2"),
        (lambda logits, _: 1 / 0, r"the objective fails for logits \(2, 3\)"),
        (lambda logits, _: (logits, 1), r"the objective gives tuple for 2"),
    ],
)
def test_a_loss_of_one_s_own_is_held_to_what_losses_give(
    function, message, monkeypatch
):
    entry = losses.Loss(function, "own", "linear")
    monkeypatch.setitem(losses.LOSSES, "own", entry)
    with pytest.raises(InputError, match=message):
        _fit(Own(), (_IMAGES, _LABELS), loss="own", batch_size=4)
    how = {"objective": "own", "steps": 2, "progress": False}
    with pytest.raises(InputError, match=message[:22]):
        advloss.diagnose(
            lambda x: x.reshape(len(x), -1)[:, :3], _IMAGES, _LABELS, **how
        )


def _small(module=None, **changes):
    how = {"steps": 2, "batch_size": 4, "attack": "fgsm", **changes}
    return _fit(module or Own(), (_IMAGES, _LABELS), **how)


def test_numbers_of_jax_are_numbers_among_the_keys():
    given = {"defence.replays": jnp.int32(2), "defence.label_smoothing": jnp.float32(0)}
    trained = _small(defence="free", config=given)
    assert trained.config.defence.replays == 2


def test_radius_and_step_are_of_the_attack_that_holds():
    named = {"defence.attack": "pgd"}
    section = _small(config=named, epsilon=0.1).config.train.attack
    assert (section.epsilon, section.step_size) == (0.1, 0.05)
    section = _small(
        defence="natural", epsilon=0.1, config={"defence.name": "adversarial"}
    ).config.train.attack
    assert section.epsilon == 0.1
    fgsm = _small(attack="pgd", config={"defence.attack": "fgsm"})
    assert fgsm.config.train.attack.step_size is None


def _without_a_bias(tree):
    return {"params": {"Dense_0": tree["params"]["Dense_0"]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda teacher: teacher, "frozen holds a Trained: use arrays, such as"),
        (lambda teacher: teacher.variables["params"], "a tree of another form .* such"),
        (lambda teacher: _without_a_bias(teacher.variables), "a tree of another form"),
        (
            lambda teacher: {},
            "frozen=a tree of another form is not valid with defence=",
        ),
        (lambda teacher: 0, "frozen=a tree of another form is not valid"),
        (
            lambda teacher: jax.tree.map(lambda x: x * np.nan, teacher.variables),
            "frozen holds values that are not finite",
        ),
    ],
)
def test_what_is_no_teacher_is_one_line(change, message):
    teacher = _small(defence="natural", steps=1)
    with pytest.raises(InputError, match=message):
        _small(defence="distillation", frozen=change(teacher))


def test_a_teacher_is_named_once():
    teacher = _small(defence="natural", steps=1).variables
    with pytest.raises(InputError, match=r"defence.teacher='runs/a' is not valid here"):
        _small(
            defence="distillation", frozen=teacher, config={"defence.teacher": "runs/a"}
        )


@pytest.mark.parametrize("mode", ["enable_x64", "strict"])
def test_modes_of_jax_train_the_same(mode):
    expected = _small("mlp", loss="sphereface")
    context = (
        jax.enable_x64(True)
        if mode == "enable_x64"
        else jax.numpy_dtype_promotion("strict")
    )
    with context:
        found = _small("mlp", loss="sphereface")
    for one, other in zip(
        jax.tree.leaves(found.variables),
        jax.tree.leaves(expected.variables),
        strict=True,
    ):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_trained_by_every_defence_that_takes_gradients_itself():
    trained = _small(Halves(), defence="free")
    assert trained.variables["params"]["Dense_0"]["kernel"].dtype == jnp.bfloat16


class Weighted(nn.Module):
    """A layer of flax whose names have a slash; and one of one's own."""

    @nn.compact
    def __call__(self, images):
        x = nn.WeightNorm(nn.Dense(8))(images.reshape(len(images), -1))
        return nn.Dense(3, name="a/b%2Fc")(x)


def test_names_with_a_slash_are_saved_and_loaded(tmp_path):
    trained = _small(Weighted())
    trained.save(tmp_path / "own")
    loaded = advloss.load(tmp_path / "own", Weighted())
    jax.tree.map(np.testing.assert_array_equal, trained.variables, loaded.variables)


def test_another_name_or_another_function_is_told(tmp_path):
    _small("mlp").save(tmp_path / "own")
    with pytest.raises(InputError, match=r"module='table1' is not what .* it is mlp"):
        advloss.load(tmp_path / "own", "table1")
    with pytest.raises(InputError, match=r"own holds a network .* use advloss.load"):
        advloss.load_run(tmp_path / "own")


def test_a_head_that_there_is_not_is_one_line(monkeypatch):
    entry = losses.Loss(losses.softmax_cross_entropy, "own", "nix")
    monkeypatch.setitem(losses.LOSSES, "own", entry)
    with pytest.raises(InputError, match="head 'nix': use one of linear, cosine, cen"):
        _small("mlp", loss="own")


def test_a_bound_of_no_setting_is_one_line(monkeypatch):
    entry = losses.Loss(
        losses.softmax_cross_entropy, "own", "linear", bounds={"q": lambda classes: 1}
    )
    monkeypatch.setitem(losses.LOSSES, "own", entry)
    with pytest.raises(InputError, match="the loss own has a bound of q, which is no"):
        _small(loss="own")
