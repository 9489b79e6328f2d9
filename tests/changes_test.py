"""Ranks against scipy's, layer changes worked by hand, what is kept of a run's."""

import contextlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata

from advloss import config as configs
from advloss import networks
from advloss.errors import InputError
from advloss.evaluation import changes, look, measured, results
from advloss.runtime import files
from advloss.training import workdir as workdirs


@pytest.mark.parametrize("distinct", [1000, 4])  # 4: ties.
def test_rank_is_that_of_scipy(distinct):
    rng = np.random.default_rng(0)
    logits = rng.integers(0, distinct, (200, 10)).astype(np.float32)
    classes = rng.integers(0, 10, 200)
    # Scipy counts from 1; "min": as many as are strictly larger, plus one.
    ranks = rankdata(-logits, method="min", axis=1) - 1
    expected = ranks[np.arange(200), classes]
    np.testing.assert_array_equal(changes.rank(logits, classes), expected)


def test_rank_change_by_hand():
    """Class 2 is predicted; then two outputs are larger; then it ties with the best."""
    natural = jnp.array([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0], [0.0, 1.0, 3.0]])
    changed = jnp.array([[5.0, 4.0, 3.0], [0.0, 3.0, 3.0], [9.0, 1.0, 3.0]])
    np.testing.assert_array_equal(changes.rank_change(natural, changed), [2, 0, 1])


def test_layer_changes_by_hand():
    """Two layers: y1 = 2 x, y2 = y1 + 1, on the images (3, 4) and (3, 10)."""

    def apply(_, images):
        x = images.reshape(len(images), -1)
        layers = {"first": 2 * x, "second": 2 * x + 1}
        return layers["second"], layers, None

    network = networks.Network(None, apply, ("first", "second"))
    natural = jnp.array([3.0, 4.0]).reshape(1, 1, 2, 1)
    changed = jnp.array([3.0, 10.0]).reshape(1, 1, 2, 1)
    found = changes.layer_changes(network, None, natural, changed)
    assert list(found) == ["first", "second"]
    # ||(0, 12)|| / ||(3, 4)||, and the same over the first layer's output (6, 8).
    np.testing.assert_allclose(found["first"], [12 / 5], rtol=1e-6)
    np.testing.assert_allclose(found["second"], [12 / 10], rtol=1e-6)


def test_no_change_of_the_image_changes_no_layer():
    network = networks.build("table1", head="cosine", num_classes=10, init="lecun")
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 8, 8, 1)))
    variables = network.init(jax.random.key(0), (8, 8, 1))
    found = changes.layer_changes(network, variables, images, images)
    assert list(found) == ["conv1", "pool1", "conv2", "pool2", "fc1", "fc2"]
    for change in found.values():
        np.testing.assert_array_equal(change, np.zeros(3))


@pytest.fixture(scope="module")
def looked_into(trained, tmp_path_factory):
    """A run's work directory, and its one result."""
    workdir = shutil.copytree(trained, tmp_path_factory.mktemp("changes") / "run")
    found = results.load(workdir)
    _write(workdir, found)
    return workdir, found[0]


def _write(workdir, found):
    config = configs.load_config(workdir)
    look.write_changes(config, workdir, found, jax.devices()[:1])


def test_changes_are_those_of_the_attacked_images(looked_into):
    workdir, pgd = looked_into
    found = changes.load_changes(pgd)
    np.testing.assert_array_equal(
        found["rank_change"] == 0, pgd.natural == pgd.attacked
    )
    assert list(found) == ["rank_change", "layer_fc1", "layer_fc2", "layer_fc3"]
    run = workdirs.load_run(workdir)
    natural = workdirs.load_data(run.config).test.images
    attacked = measured.load_images(pgd).attacked
    expected = changes.layer_changes(run.network, run.variables, natural, attacked)
    for name, change in expected.items():
        np.testing.assert_allclose(found[f"layer_{name}"], change, rtol=1e-4)
    assert (workdir / "changes" / pgd.path.name).exists()


def test_what_is_there_is_left_and_what_is_damaged_made_again(looked_into, tmp_path):
    copy = shutil.copytree(looked_into[0], tmp_path / "run")
    (pgd,) = results.load(copy)
    path = copy / "changes" / pgd.path.name
    before, arrays = path.stat().st_mtime_ns, files.read_arrays(path)
    _write(copy, [pgd])
    assert path.stat().st_mtime_ns == before
    own = arrays.pop("result")
    short = {name: array[:-1] for name, array in arrays.items()}
    for damage in (
        lambda: path.write_bytes(b"PK"),
        lambda: changes.save_changes(pgd, short),
        lambda: changes.save_changes(pgd, {"other": arrays["rank_change"]}),
        lambda: changes.save_changes(pgd, {**arrays, "rank_change": np.full(110, "a")}),
        lambda: files.write_arrays(path, arrays),
        lambda: files.write_arrays(
            path, {**arrays, "result": np.array("0123456789ab")}
        ),
        lambda: np.savez(path, **arrays, result=own),
        path.unlink,
    ):
        damage()
        with pytest.raises(InputError, match=r"damaged"):
            changes.load_changes(pgd)
        said = contextlib.nullcontext()
        if path.exists():
            said = pytest.warns(UserWarning, match=f"made again: {path} is .*damaged")
        with said:
            _write(copy, [pgd])
        for name, array in changes.load_changes(pgd).items():
            np.testing.assert_array_equal(array, arrays[name])


def test_other_images_are_refused(looked_into, tmp_path):
    copy = shutil.copytree(looked_into[0], tmp_path / "run")
    shutil.rmtree(copy / "changes")
    config = configs.load_config(copy)
    config.evaluate.examples = 10
    with pytest.raises(InputError, match=r"is of other images than the config's"):
        look.write_changes(config, copy, results.load(copy), jax.devices()[:1])
