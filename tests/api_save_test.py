"""`Trained.save` and `advloss.load`: what comes back, and what is refused."""

import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_modules import IMAGES, LABELS, Halves, Narrow, Own, fit, fit_small

import advloss
from advloss import data
from advloss.errors import InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(scope="module")
def digits(digits_dir):
    return data.load("idx", dir=str(digits_dir))


def test_a_module_of_one_s_own_is_trained_saved_and_loaded(digits, tmp_path):
    changes = {"steps": 120, "learning_rate": 0.01, "config": {"defence.beta": 2}}
    trained = fit(Own(), digits.train, defence="trades", **changes)
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
    trained = fit("mlp", digits.train, loss="lmcl", steps=5)
    logits = trained.classifier(digits.test.images)
    assert np.abs(logits).max() <= 1 + 1e-6  # Cosines.
    trained.save(tmp_path / "mlp")
    again = advloss.load(tmp_path / "mlp")
    np.testing.assert_array_equal(again.classifier(digits.test.images), logits)
    assert again.config == trained.config


@pytest.fixture(scope="module")
def own():
    """A network of a module of one's own, to be saved."""
    return fit(Own(), (IMAGES, LABELS), steps=1, batch_size=4)


def test_a_run_is_not_overwritten(trained, own, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"holds no network .*: use another folder"):
        own.save(workdir)
    assert (workdir / "config.json").read_bytes() == before


@pytest.mark.parametrize("folder", [None, 3, "", b"x"])
def test_what_is_no_folder_is_told(own, folder):
    for load in (advloss.load, advloss.load_run):
        with pytest.raises(InputError, match=r"=.* is not valid: name a folder"):
            load(folder)
    with pytest.raises(InputError, match=r"folder=.* is not valid: name a folder"):
        own.save(folder)


def test_other_things_are_not_overwritten(own, tmp_path):
    """An earlier save is; what it left half done is told."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model.json").write_text('{"layers": 3}')
    with pytest.raises(InputError, match=r"mine holds no network that Trained\.save"):
        own.save(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["model.json"]
    own.save(tmp_path / "own")
    before = (tmp_path / "own" / "model.safetensors").read_bytes()
    other = fit(Own(), (IMAGES, LABELS), steps=1, batch_size=4, seed=1)
    other.save(tmp_path / "own")
    advloss.load(tmp_path / "own", Own())
    (tmp_path / "own" / "model.safetensors").write_bytes(before)
    with pytest.raises(InputError, match="own was not saved whole, or was changed"):
        advloss.load(tmp_path / "own", Own())


def test_the_arrays_of_another_network_are_refused(own, tmp_path):
    own.save(tmp_path / "own")
    with pytest.raises(InputError, match="holds the arrays of another network"):
        advloss.load(tmp_path / "own", Narrow())
    (tmp_path / "own" / "model.safetensors").write_text("{}")
    with pytest.raises(InputError, match=r"model.safetensors is missing or damaged"):
        advloss.load(tmp_path / "own", Own())


def test_bfloat16_is_saved_and_loaded(tmp_path):
    trained = fit(Halves(), (IMAGES, LABELS), steps=2, batch_size=4)
    trained.save(tmp_path / "own")
    loaded = advloss.load(tmp_path / "own", Halves())
    jax.tree.map(np.testing.assert_array_equal, trained.variables, loaded.variables)
    assert loaded.variables["params"]["Dense_0"]["kernel"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(trained.classifier(IMAGES), loaded.classifier(IMAGES))


class Scaled(nn.Module):
    scale: float = 1.0

    @nn.compact
    def __call__(self, images):
        return self.scale * nn.Dense(3)(images.reshape(len(images), -1))


def test_a_module_that_computes_something_else_is_not_loaded(tmp_path):
    trained = fit(Scaled(2.0), (IMAGES, LABELS), steps=1, batch_size=4)
    trained.save(tmp_path / "own")
    advloss.load(tmp_path / "own", Scaled(2.0))
    for other in (Scaled(), Scaled(-2.0)):
        with pytest.raises(InputError, match=r"module=.* computes something else than"):
            advloss.load(tmp_path / "own", other)


def test_a_module_of_one_s_own_may_have_a_name_of_the_library(tmp_path):
    module = type("mlp", (Own,), {})
    fit(module(), (IMAGES, LABELS), steps=1, batch_size=4).save(tmp_path / "own")
    for given in (None, "mlp"):
        with pytest.raises(
            InputError, match=r"own holds a api_save_test.mlp of one's own: give it"
        ):
            advloss.load(tmp_path / "own", given)
    advloss.load(tmp_path / "own", module())


def test_a_file_is_no_folder_of_a_network(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file: name the folder"):
        advloss.load(tmp_path / "file")


class Weighted(nn.Module):
    """A layer of flax whose names have a slash; and one of one's own."""

    @nn.compact
    def __call__(self, images):
        x = nn.WeightNorm(nn.Dense(8))(images.reshape(len(images), -1))
        return nn.Dense(3, name="a/b%2Fc")(x)


def test_names_with_a_slash_are_saved_and_loaded(tmp_path):
    trained = fit_small(Weighted())
    trained.save(tmp_path / "own")
    loaded = advloss.load(tmp_path / "own", Weighted())
    jax.tree.map(np.testing.assert_array_equal, trained.variables, loaded.variables)


def test_another_name_or_another_function_is_told(tmp_path):
    fit_small("mlp").save(tmp_path / "own")
    with pytest.raises(InputError, match=r"module='table1' is not what .* it is mlp"):
        advloss.load(tmp_path / "own", "table1")
    with pytest.raises(InputError, match=r"own holds a network .* use advloss.load"):
        advloss.load_run(tmp_path / "own")
