"""npz files: what they give, and one clear error for every damage."""

import zipfile

import numpy as np
import pytest

from advloss import data
from advloss.errors import InputError


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
