"""What `advloss.fit` refuses: each in one line that names it."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from made_modules import IMAGES, LABELS, Narrow, Own, fit, fit_small

import advloss
from advloss import data, losses
from advloss.errors import DivergedError, InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def digits(digits_dir):
    return data.load("idx", dir=str(digits_dir))


class Large(nn.Module):
    """Its logits are no cosines from the start."""

    @nn.compact
    def __call__(self, images):
        return 100 * nn.Dense(3)(images.reshape(len(images), -1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES * 255}, r"images lie in \[127.5, 127.5\]"),
        ({"images": IMAGES * np.nan}, "values of images are not finite"),
        ({"images": IMAGES[..., 0]}, r"images have shape \(8, 4, 4\)"),
        ({"images": (IMAGES * 255).astype(np.uint8)}, "images are uint8"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"images have shape \(0,"),
        ({"labels": LABELS[:5]}, r"labels have shape \(5,\): use \(8,\), one an"),
        ({"labels": np.eye(3)[LABELS]}, r"labels are float64: .* labels.argmax\(-1\)"),
        ({"devices": []}, r"devices=\[\] is not valid: use a list of some of jax.dev"),
        ({"labels": LABELS - 1}, r"labels\[0\]=-1 is no class: use 0 and more"),
        ({"labels": LABELS / 2}, "labels are float64"),
        ({"module": "tabel1"}, r"config.model.name='tabel1' is not valid.*table1"),
        ({"module": len}, "module=.* is not valid: use a flax.linen module"),
        ({"module": "table1", "images": IMAGES[:, :3]}, "3x4.*multiples of 4"),
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
    arguments = {"images": IMAGES, "labels": LABELS, "module": Own(), **changes}
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
        fit(Own(), digits.train, learning_rate=1e30, steps=10)


class Forgetful(nn.Module):
    """It keeps statistics, and can't be told that it is trained."""

    @nn.compact
    def __call__(self, images):
        x = nn.Dense(10)(images.reshape(len(images), -1))
        return nn.BatchNorm(use_running_average=True)(x)


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
        advloss.fit(module, IMAGES, LABELS, steps=2, batch_size=4, progress=False)


def test_within_a_traced_function_it_is_refused():
    with pytest.raises(InputError, match="fit was called within a function that JAX"):
        jax.jit(lambda images: fit(Own(), (images, LABELS), batch_size=4))(IMAGES)


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
        fit(Own(), (IMAGES, LABELS), defence="trades", batch_size=4, **changes)


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
        fit(Own(), (IMAGES, LABELS), loss="own", batch_size=4)
    how = {"objective": "own", "steps": 2, "progress": False}
    with pytest.raises(InputError, match=message[:22]):
        advloss.diagnose(lambda x: x.reshape(len(x), -1)[:, :3], IMAGES, LABELS, **how)


@pytest.fixture(scope="module")
def teacher():
    return fit_small(defence="natural", steps=1)


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
def test_what_is_no_teacher_is_one_line(teacher, change, message):
    with pytest.raises(InputError, match=message):
        fit_small(defence="distillation", frozen=change(teacher))


def test_a_teacher_is_named_once(teacher):
    how = {"frozen": teacher.variables, "config": {"defence.teacher": "runs/a"}}
    with pytest.raises(InputError, match=r"defence.teacher='runs/a' is not valid here"):
        fit_small(defence="distillation", **how)


def test_a_head_that_there_is_not_is_one_line(monkeypatch):
    entry = losses.Loss(losses.softmax_cross_entropy, "own", "nix")
    monkeypatch.setitem(losses.LOSSES, "own", entry)
    with pytest.raises(InputError, match="head 'nix': use one of linear, cosine, cen"):
        fit_small("mlp", loss="own")


def test_a_bound_of_no_setting_is_one_line(monkeypatch):
    entry = losses.Loss(
        losses.softmax_cross_entropy, "own", "linear", bounds={"q": lambda classes: 1}
    )
    monkeypatch.setitem(losses.LOSSES, "own", entry)
    with pytest.raises(InputError, match="the loss own has a bound of q, which is no"):
        fit_small(loss="own")
