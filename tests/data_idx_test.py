"""Folders of idx files: what they give, and one clear error for every damage."""

import gzip
import os
import shutil

import numpy as np
import pytest
from conftest import write_idx

from advloss import data
from advloss.errors import InputError

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


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


def test_files_of_several_data_sets_are_not_paired(folder):
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"{'emnist' if i % 2 else 'kmnist'}-{path.name}")
    with pytest.raises(InputError, match="has files of several data sets, by their na"):
        data.load("idx", dir=str(folder))


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


@pytest.mark.parametrize("dir", ["", "\0", "x" * 5000, "/nowhere"])
def test_folders_that_there_can_not_be(dir):
    with pytest.raises(InputError, match=r"config.data.dir=.* is not a folder"):
        data.load("idx", dir=dir)


def test_a_folder_may_be_a_path(digits_dir):
    assert len(data.load("idx", dir=digits_dir).train.labels) == 400


def test_idx_reads_all_of_mnist(mnist_dir):
    dataset = data.load("idx", dir=str(mnist_dir))
    assert dataset.train.images.shape == (60000, 28, 28, 1)
    assert dataset.test.images.shape == (10000, 28, 28, 1)
    assert np.bincount(dataset.test.labels)[:3].tolist() == [980, 1135, 1032]
