"""A network of one's own, named in a config: trained, attacked, resumed, refused."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from conftest import ROOT, bits, stop_after, whole_and_cut

import advloss
from advloss import config as configs
from advloss import networks
from advloss.config import build
from advloss.errors import InputError
from advloss.evaluation import loaded
from advloss.evaluation.run import evaluate_run
from advloss.training import run

pytestmark = pytest.mark.usefixtures("compiled_quickly")
SOURCE = """
import flax.linen as nn
import jax.numpy as jnp
from advloss.networks import HEADS, Network


class Small(nn.Module):
    num_classes: int
    width: int = 12

    @nn.compact
    def __call__(self, images, train=False, axis=None):
        x = nn.Dense(self.width)(images.reshape(len(images), -1))
        x = nn.BatchNorm(
            use_running_average=not train,
            axis_name=axis and axis.name,
            axis_index_groups=axis and axis.groups,
        )(x)
        return nn.Dense(self.num_classes)(nn.relu(x))


class Headed(nn.Module):
    num_classes: int
    head: str
    activation: object

    @nn.compact
    def __call__(self, images):
        x = self.activation(nn.Dense(12)(images.reshape(len(images), -1)))
        head = HEADS[self.head](self.num_classes, "lecun", "h")
        return {"hidden": x, "logits": head(x)}


def build(num_classes, head, activation):
    return Headed(num_classes, head, activation)


def pure(num_classes):
    def init(key, image_shape):
        h, w, c = image_shape
        return {"params": {"kernel": jnp.zeros((h * w * c, num_classes))}}

    def apply(variables, images, *, train=False, axis=None):
        logits = images.reshape(len(images), -1) @ variables["params"]["kernel"]
        return logits, {"fc": logits}, variables

    return Network(init, apply, ("fc",))


def fewer(num_classes):
    return Small(num_classes - 1)


def more(num_classes):
    return Small(num_classes + 1)


def breaks(num_classes):
    product = lambda key, shape: {"params": jnp.ones((2, 3)) @ jnp.ones(2)}
    return pure(num_classes)._replace(init=product)


def forgets(num_classes):
    network = pure(num_classes)
    return network._replace(apply=lambda *given, **modes: network.apply(*given)[:2])


def silent(num_classes):
    return pure(num_classes)._replace(apply=lambda v, x, **modes: (None, {}, v))


def renames(num_classes):
    network = pure(num_classes)

    def apply(variables, images, **modes):
        logits, found, _ = network.apply(variables, images)
        return logits, found, {"params": {}}

    return network._replace(apply=apply)


def unnamed(num_classes):
    return pure(num_classes)._replace(layers=("fc1", "fc2"))


def uncosined(num_classes, head):
    return Headed(num_classes, "linear", lambda x: 100 * x)


def fails(num_classes):
    raise ValueError("no\\nsuch size")


def exits(num_classes):
    raise SystemExit(3)


class Pair(Small):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(self.num_classes)(images.reshape(len(images), -1)), images


class Empty(Small):
    @nn.compact
    def __call__(self, images):
        return {}


def nothing(num_classes):
    return lambda images: images


def wants(num_classes, width):
    return Small(num_classes, width)


def without():
    return Small(10)


number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a module my_nets, which Python finds."""
    where = tmp_path / "modules"
    where.mkdir()
    (where / "my_nets.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(where)
    yield where
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


@pytest.fixture
def config(small_config):
    small_config.train.steps, small_config.train.checkpoint_every = 4, 2
    small_config.evaluate.examples = 40
    return small_config


def _resolved(config, name, **changes):
    config.model.name = f"my_nets:{name}"
    for key, value in changes.items():
        configs.put(config, key.replace("__", "."), value)
    return configs.resolve(config)


def test_it_is_trained_resumed_and_attacked(folder, config, tmp_path, monkeypatch):
    config = _resolved(config, "Small")
    devices = jax.devices()[:2]
    whole, cut = whole_and_cut(config, tmp_path, monkeypatch, devices)
    assert bits(whole) == bits(cut)
    (measured,) = evaluate_run(config, tmp_path / "whole", devices)
    assert len(measured.labels) == 40
    loaded = advloss.load_run(tmp_path / "whole")
    assert set(loaded.variables) == {"params", "batch_stats"}
    assert loaded.classifier(np.zeros((1, 8, 8, 1), np.float32)).shape == (1, 10)
    saved = json.loads((tmp_path / "cut" / "config.json").read_text(encoding="utf-8"))
    assert saved["model"]["name"] == "my_nets:Small"


def test_another_source_is_held_to_the_shapes(folder, config, tmp_path, monkeypatch):
    config = _resolved(config, "Small")
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run.train_runs([config], [tmp_path / "cut"], jax.devices()[:1])
    text = SOURCE.replace("width: int = 12", "width: int = 120")
    (folder / "my_nets.py").write_text(text, encoding="utf-8")
    del sys.modules["my_nets"]
    said = "^config.model.name='my_nets:Small': the network has other parameters than"
    other = pytest.warns(UserWarning, match="computes something else than what")
    with pytest.raises(InputError, match=said), other:
        run.train_runs([config], [tmp_path / "cut"], jax.devices()[:1])
    loaded = advloss.load_run(tmp_path / "cut")
    said = "^config.model.name='my_nets:Small' fails: ScopeParamShapeError: .*Dense_0"
    with pytest.raises(InputError, match=said):
        loaded.classifier(np.zeros((1, 8, 8, 1), np.float32))


def _fitted(name, **more):
    images = np.random.default_rng(0).uniform(size=(20, 4, 4, 1)).astype(np.float32)
    labels = np.arange(20) % 3
    given = {"steps": 2, "batch_size": 10, "progress": False, **more}
    return advloss.fit(f"my_nets:{name}", images, labels, **given)


def test_what_the_hub_gives_imports_nothing(folder, tmp_path, monkeypatch):
    """A stranger's config must not say what is run."""
    trained = _fitted("Small")
    trained.save(tmp_path / "saved")
    monkeypatch.setattr(loaded.hub, "fetch", lambda *_: tmp_path / "saved")
    monkeypatch.delitem(sys.modules, "my_nets")
    with pytest.raises(InputError, match="holds a my_nets:Small of one's own: give it"):
        advloss.load("hf://owner/name")
    assert "my_nets" not in sys.modules


def test_a_run_on_data_of_ones_own_is_loaded(folder, config, tmp_path):
    source = """
import numpy as np

def load():
    images = np.random.default_rng(0).uniform(size=(20, 8, 8, 1)).astype(np.float32)
    return (images, np.arange(20) % 10), (images, np.arange(20) % 10)
"""
    (folder / "my_images.py").write_text(source, encoding="utf-8")
    config.data.update({"source": "my_images:load", "dir": ""})
    resolved = _resolved(config, "Small")
    run.train_runs([resolved], [tmp_path / "run"], jax.devices()[:1])
    found = advloss.load(tmp_path / "run")
    assert found.facts["data"] == "my_images:load"
    assert found.image_shape == (8, 8, 1)


def test_fit_takes_it_saves_and_loads(folder, tmp_path):
    trained = _fitted("Small")
    assert trained.module == "my_nets:Small"
    trained.save(tmp_path / "saved")
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert "| network | my\\_nets:Small, " in card
    assert 'advloss.load("FOLDER")\n' in card
    again = advloss.load(tmp_path / "saved")
    images = np.ones((2, 4, 4, 1), np.float32)
    np.testing.assert_array_equal(again.classifier(images), trained.classifier(images))
    text = SOURCE.replace("nn.relu(x)", "2 * nn.relu(x)")
    (folder / "my_nets.py").write_text(text, encoding="utf-8")
    del sys.modules["my_nets"]
    with pytest.raises(InputError, match="imported here, computes something else"):
        advloss.load(tmp_path / "saved")


def test_a_pure_pair_is_a_network(folder):
    trained = _fitted("pure")
    assert trained.network.layers == ("fc",)
    assert np.abs(trained.variables["params"]["kernel"]).max() > 0


def test_head_and_activation_are_given_where_they_are_taken(folder):
    more = {"model.activation": "bounded_relu", "model.ceiling": 0.25}
    trained = _fitted("build", loss="lmcl", config=more)
    images = np.ones((2, 4, 4, 1), np.float32)
    cosines, found, _ = trained.network.apply(trained.variables, images)
    assert np.abs(cosines).max() <= 1.001
    assert 0 <= found["hidden"].min() <= found["hidden"].max() <= 0.25


def test_a_name_is_its_title():
    assert networks.title("my_nets:Small") == "my_nets:Small"
    assert networks.title("table1") == "the network of Table I"


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("fewer", {}, r"the network gives float32 \(2, 9\) .*at least 10 classes"),
        ("more", {}, "the network gives logits of 11 classes: .*num_classes=10"),
        ("breaks", {}, "fails: TypeError: .*shape"),
        ("forgets", {}, r"the network fails for images .*\(ValueError"),
        ("silent", {}, r"the network fails for images .*\(AttributeError"),
        ("renames", {}, "gives variables of another form"),
        ("unnamed", {}, "gives no activations of fc1, fc2"),
        ("fails", {}, "fails: ValueError: no such size"),
        ("exits", {}, "fails: SystemExit: 3"),
        ("Pair", {}, "fails: TypeError: the network gives tuple: it must give logits"),
        ("Empty", {}, "fails: TypeError: the network gives an empty dict: it must"),
        ("nothing", {}, "returned a function: it must return a flax"),
        ("wants", {}, "takes width, which nothing gives: give it a default"),
        ("without", {}, "takes no num_classes"),
        ("number", {}, "is a int: use a function or class that"),
        ("absent", {}, "my_nets has no absent: use a name that is in it"),
        ("uncosined", {"loss__name": "lmcl"}, "gives logits from .*'lmcl' takes cosin"),
    ],
)
def test_what_is_no_network_is_refused_before_anything_is_written(
    folder, config, tmp_path, name, changes, said
):
    config = _resolved(config, name, **changes)
    with pytest.raises(
        InputError, match=f"^config.model.name='my_nets:{name}'.*{said}"
    ):
        run.train_runs([config], [tmp_path / "run"], jax.devices()[:1])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"loss__name": "lmcl"},
            "^the loss asks for the head 'cosine': .*takes no head",
        ),
        ({"model__init": "madry"}, "^config.model.init='madry' .*takes no init"),
        ({"model__precision": "bfloat16"}, "^config.model.precision='bfloat16' "),
        ({"model__activation": "bounded_relu"}, "^config.model.activation='bounded_r"),
    ],
)
def test_what_it_does_not_take_is_refused(folder, config, changes, said):
    config = _resolved(config, "Small", **changes)
    with pytest.raises(InputError, match=said):
        build.network(config)


def test_settings_of_the_library_s_networks_are_refused(config):
    with pytest.raises(InputError, match=r"^config.model.depth=28 .*has no depth"):
        _resolved(config, "Small", model__depth=28)
    with pytest.raises(TypeError, match="has no setting depth"):
        networks.build("my_nets:Small", head="linear", num_classes=3, depth=28)


def test_a_module_that_is_not_there(folder):
    """What else can be wrong with one, the tests of data sources have."""
    message = "^config.model.name='my_other:build' .* there is no module my_other"
    with pytest.raises(InputError, match=message):
        networks.build("my_other:build", head="linear", num_classes=3)


@pytest.mark.parametrize(
    "name", ["my_nets", "my_nets:", ":build", "my nets:build", "a.:b", "a:b.c", "a/b:c"]
)
def test_what_is_no_name(config, name):
    config.model.name = name
    with pytest.raises(
        InputError, match=r"model.name=.*table1, .*or PACKAGE.MODULE:NAME of your own"
    ):
        configs.resolve(config)


@pytest.mark.slow
def test_commands_find_it_in_their_folder(folder, config, tmp_path):
    """As the console script, which stands in another folder than the command's."""
    words = [
        f"--workdir={tmp_path / 'run'}",
        f"--config={ROOT / 'configs' / 'default.py'}",
        "--config.data.source=idx",
        f"--config.data.dir={config.data.dir}",
        "--config.train.steps=2",
        "--config.train.chunk_steps=2",
        "--config.train.checkpoint_every=2",
        "--config.train.attack.steps=1",
        "--devices=1",
    ]
    start = "import sys; sys.path.append(sys.argv.pop(1)); "
    start += "from advloss.cli.main import main; main()"

    def command(name):
        return subprocess.run(
            [sys.executable, "-P", "-c", start, str(ROOT), "train", *words,
             f"--config.model.name={name}"],
            cwd=folder, capture_output=True, encoding="utf-8",
        )  # fmt: skip

    failed = command("my_nets:fails")
    assert failed.returncode != 0
    assert failed.stderr.splitlines() == [
        "error: config.model.name='my_nets:fails' fails: ValueError: no such size"
    ]
    done = command("my_nets:Small")
    assert done.returncode == 0, done.stderr
