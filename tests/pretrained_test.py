"""The networks that come with the package: small, robust, and described."""

import pytest

import advloss
from advloss import data
from advloss.evaluation.loaded import PRETRAINED

NAMES = ("mnist-lmcl", "mnist-softmax")


def test_these_come_with_the_package():
    assert sorted(path.name for path in PRETRAINED.iterdir()) == [*NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small_and_say_what_they_reach(name):
    folder = PRETRAINED / name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8e6
    card = (folder / "README.md").read_text()
    for word in ("natural accuracy", "PGD-100", "AutoAttack", "diagnosis", "commit"):
        assert f"| {word}" in card


@pytest.mark.parametrize("name", NAMES)
def test_they_are_robust(name):
    """Not how robust: these digits may be among those that they were trained on."""
    _, (images, labels), _ = data.load("mnist_5k")
    result = advloss.evaluate(
        advloss.load(name), images[:100], labels[:100], attacks="pgd", steps=20,
        progress=False,
    )  # fmt: skip
    assert result.natural_accuracy >= 0.97
    assert result.robust_accuracy[0] >= 0.85
