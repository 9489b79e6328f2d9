"""Configs of any values: kept as they are, or refused in a line that names the key."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advloss import config as configs
from advloss.config import sweep
from advloss.errors import InputError

DECLARED = dict(configs.flatten(configs.default()))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 200),
    st.floats(),
    st.floats(0, 2),
    st.text(max_size=50),
    st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=3).map(tuple),
    st.sampled_from([value for value in DECLARED.values() if value is not None]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "loss", "train", "attack", "steps", "x"]), inner
        )
    ),
    max_leaves=8,
)
Changes = dict[str, object]
changes = st.dictionaries(st.sampled_from(list(DECLARED)), VALUES, max_size=3)


def _resolve(changed: Changes):
    """The config with these changes, or None where it was refused in one line."""
    config = configs.default()
    for key, value in changed.items():
        *path, last = key.split(".")
        section = config
        for part in path:
            section = section[part]
        with section.ignore_type():
            section[last] = value
    try:
        return configs.resolve(config)
    except InputError as error:
        line = str(error)
        assert len(line.splitlines()) == 1
        assert line.startswith("config.")
        assert any(key.rsplit(".", 1)[-1] in line for key in changed)
        return None


@settings(max_examples=400, deadline=None)
@given(changes)
def test_any_values_are_kept_or_refused_by_name(changed):
    config = _resolve(changed)
    if config is None:
        return
    for key, value in configs.flatten(config):
        if key in changed and isinstance(changed[key], str | int | float):
            assert value == type(value)(changed[key])  # Whole numbers become floats.
    # What is valid stays as it is, however often it is checked, saved and read.
    assert configs.resolve(config).to_dict() == config.to_dict()
    read = configs.from_saved(json.loads(configs.to_json(config)), Path("config.json"))
    assert read.to_dict() == config.to_dict()
    assert not configs.training_differences(read, config)


@settings(max_examples=200, deadline=None)
@given(changes)
def test_every_change_of_training_is_seen(changed):
    config = _resolve(changed)
    if config is None:
        return
    told = configs.training_differences(config, _resolve({}))
    usual = dict(configs.flatten_training(_resolve({})))
    differing = [k for k, v in configs.flatten_training(config) if usual[k] != v]
    assert [line.split(":")[0] for line in told] == differing
    optional = {key for key, entry in configs.keys().items() if entry.optional}
    assert set(differing) - set(changed) <= optional


@pytest.mark.filterwarnings("ignore:config.json was saved by an earlier version")
@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from([*configs.default(), "x"]), JSON))
def test_a_saved_config_of_any_content_is_refused_or_read(values):
    try:
        configs.from_saved(values, Path("config.json"))
    except InputError as error:
        assert len(str(error).splitlines()) == 1


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="abls.=,01 emrgin-", max_size=40) | st.text(max_size=20))
def test_a_sweep_of_any_text_is_refused_or_expanded(text):
    try:
        found = sweep.expand(configs.default(), text)
    except InputError as error:
        assert str(error).startswith("config.")
        assert len(str(error).splitlines()) == 1
    else:
        assert found
        names = {}
        for variant in found:
            name = variant.config.name
            assert 1 <= len(name) <= 40
            rest = {k: v for k, v in variant.values.items() if k != "seed"}
            assert names.setdefault(name, rest) == rest


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=4, unique=True),
    st.lists(st.floats(1e-6, 10), min_size=1, max_size=3, unique=True),
    st.text(alphabet="ab _-.'[]", min_size=1, max_size=40),
)
def test_names_of_variants_fit_and_are_unique(texts, rates, base):
    chosen = [
        {"data.name": text, "train.learning_rate": rate, "seed": seed}
        for text in texts
        for rate in rates
        for seed in (0, 1)
    ]
    names = sweep._names(base, chosen)
    assert len(set(names)) == len(texts) * len(rates)
    assert all(len(name) <= 40 and name.startswith(base[:4]) for name in names)
    assert not any("/" in name or "\\" in name for name in names)
    assert names == sweep._names(base, chosen)
