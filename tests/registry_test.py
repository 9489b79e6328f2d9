"""What settings take, at its ends, and how it reads in an error's one line."""

import math
import re

import pytest

from advloss import losses, registry
from advloss.data import SOURCES
from advloss.data.augment import AUGMENTATIONS
from advloss.defences import DEFENCES
from advloss.networks import ACTIVATIONS, NETWORKS

NAN, INF = math.nan, math.inf
ABOVE = math.nextafter(0.0, 1.0)
# The ends of float32, and what it makes 0 or infinite: numbers that are never valid.
TINY, HUGE = 1.2e-38, 3.4e38
LOST = (1e-320, 1e-50, 1e-39, 1e39, 1e300, 10**400)
# What is valid, values that it takes and that it does not, and how it goes on from
# "use ".
CASES = {
    "number": (
        registry.number(0, 1),
        (0, 0.0, -0.0, TINY, 0.5, 1),
        (-ABOVE, math.nextafter(1.0, 2.0), NAN, INF, -INF, *LOST),
        "a number in [0, 1]",
    ),
    "number above": (
        registry.number(0.5, 2, above=True),
        (0.5001, 2),
        (0.5, math.nextafter(0.5, 1.0), math.nextafter(2.0, 3.0), NAN),
        "a number in (0.5, 2]",
    ),
    "number below": (
        registry.number(0, 1, below=True),
        (0, 0.999999),
        (1, math.nextafter(1.0, 0.0), NAN),
        "a number in [0, 1)",
    ),
    "number without an end": (
        registry.number(0, INF),
        (0, TINY, HUGE),
        (-ABOVE, INF, NAN, *LOST),
        "a finite number >= 0",
    ),
    "positive": (
        registry.positive(),
        (TINY, 1, HUGE),
        (0, -0.0, -1, INF, NAN, *LOST),
        "a finite number > 0",
    ),
    "whole": (
        registry.whole(),
        (0, 1, 2**31 - 1),
        (-1, 2**31),
        "a whole number from 0 to 2147483647",
    ),
    "whole from 1": (
        registry.whole(1),
        (1, 2**31 - 1),
        (0, -1, 2**31),
        "a whole number from 1 to 2147483647",
    ),
    "whole to 9": (registry.whole(3, 9), (3, 9), (2, 10), "a whole number from 3 to 9"),
    "boolean": (registry.boolean(), (True, False), (), "True or False"),
    "text": (registry.text(), ("", "a b", "ε"), (), "a text"),
    "choice": (
        registry.choice({"sgd": 1, "adam": 2}),
        ("adam", "sgd"),
        ("", "Adam", "ada", "adam "),
        "one of adam, sgd",
    ),
    "choice beside": (
        registry.choice(["sgd"], beside=str.isupper, others="capitals"),
        ("sgd", "ABC"),
        ("adam", ""),
        "one of sgd, or capitals",
    ),
    "numbers": (
        registry.numbers(),
        ((0,), (0.5, -1), (-HUGE, 0.0)),
        ((), (NAN,), (INF, 1), (True,), ("1",), (None,), *((n,) for n in LOST)),
        "finite numbers, at least one",
    ),
    "numbers above": (
        registry.numbers(least=0),
        ((TINY,), (1, 2.0)),
        ((0,), (1, 0.0), (-1,), (1, ABOVE / 1e9)),
        "finite numbers > 0, at least one",
    ),
    "choices": (
        registry.choices(["pgd", "fgsm"]),
        (("pgd",), ("fgsm", "pgd"), ("pgd", "fgsm")),
        ((), ("pgd", "cw"), ("",), (1,), ("p", "g")),
        "one or more of fgsm, pgd",
    ),
    "each_once": (
        registry.each_once(["crop", "flip"]),
        ((), ("crop",), ("flip", "crop")),
        (("crop", "crop"), ("cut",), ("",), (1,)),
        "none, or each once, of crop, flip",
    ),
    "shares": (
        registry.shares(),
        ((), (0.5,), (ABOVE, 0.25, 0.75, math.nextafter(1.0, 0.0))),
        ((0,), (1,), (0.5, 0.5), (0.75, 0.5), (NAN,), (True,), ("0.5",), (-0.1, 0.5)),
        "growing numbers between 0 and 1, such as (0.5, 0.75)",
    ),
}
REGISTRIES = {
    "losses": losses.LOSSES,
    "networks": NETWORKS,
    "activations": ACTIVATIONS,
    "defences": DEFENCES,
    "data": SOURCES,
    "augmentations": AUGMENTATIONS,
}  # Attacks: attacks_test.py.


@pytest.mark.parametrize("case", CASES)
def test_each_valid_at_its_ends(case):
    valid, taken, refused, _ = CASES[case]
    for value in taken:
        assert valid.accepts(value) is True, value
    for value in refused:
        assert valid.accepts(value) is False, value


@pytest.mark.parametrize("case", CASES)
def test_the_kind_is_that_of_the_values(case):
    valid, taken, _, _ = CASES[case]
    whole_numbers_are_numbers = (float, int) if valid.kind is float else valid.kind
    assert all(isinstance(value, whole_numbers_are_numbers) for value in taken)


@pytest.mark.parametrize("case", CASES)
def test_texts_go_on_from_use(case):
    valid, _, _, text = CASES[case]
    assert f"use {valid.text}" == f"use {text}"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1e-50, "a finite number > 0; 1e-50 is 0 in float32, which goes from 1.2e-38 "),
        (1e300, r"a finite number > 0; 1e\+300 is inf in float32, .* to 3.4e\+38$"),
        (-1.0, "a finite number > 0$"),
        (-0.5, "a finite number > 0$"),
        (NAN, "a finite number > 0$"),
        (10**400, "a finite number > 0$"),
        ("a", "a finite number > 0$"),
    ],
)
def test_what_float32_loses_is_told(value, said):
    assert re.match(said, registry.positive().instead_of(value))


def test_every_constructor_is_in_the_table():
    made = {
        name
        for name, value in vars(registry).items()
        if getattr(value, "__annotations__", {}).get("return") is registry.Valid
    }
    assert made == {case.split(" ")[0] for case in CASES}


def test_names_may_come_once():
    """From an iterator, say, that a second look would find empty."""
    for valid, value in (
        (registry.choice(iter(["pgd"])), "pgd"),
        (registry.choices(iter(["pgd"])), ("pgd",)),
        (registry.each_once(iter(["pgd"])), ("pgd",)),
    ):
        assert valid.accepts(value)
        assert valid.accepts(value)
        assert valid.text.endswith(" pgd")


@pytest.mark.parametrize("registered", REGISTRIES)
def test_entries_have_titles_and_valid_defaults(registered):
    entries = REGISTRIES[registered]
    titles = [entry.title for entry in entries.values() if hasattr(entry, "title")]
    assert len(set(titles)) == len(titles)
    assert all(titles)
    for name, entry in entries.items():
        assert name.isidentifier(), name
        for key, setting in entry.settings.items():
            assert type(setting.default) is setting.valid.kind, (name, key)
            assert setting.valid.accepts(setting.default), (name, key)
            assert not setting.swept or setting.valid.kind is float, (name, key)
            assert setting.help.strip() == setting.help, (name, key)
            assert setting.help, (name, key)
            assert "\n" not in setting.help, (name, key)
