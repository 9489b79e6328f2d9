"""The networks of a study or of a sweep, from its config.

A study's config has beside the usual keys

    networks    texts "NAME KEY=VALUE KEY=VALUE", one a network: what sets it apart
    seeds       how many of each, seeds 0, 1, ...
    parts       what the report shows
    budget      a word for it

and a sweep's has `sweep`, see `config.sweep`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from advloss.cli import configfile
from advloss.config.schema import resolve
from advloss.config.sweep import Variant, expand
from advloss.config.trees import invalid
from advloss.errors import InputError

_STUDY = ("budget", "seeds", "parts", "networks")


def is_sweep(config: ConfigDict) -> bool:
    """Whether it is a sweep, or a study. Raises InputError where it is neither."""
    if "sweep" in config:
        return True
    if set(_STUDY) <= set(config):
        return False
    raise InputError(
        "--config is no study and no sweep: use one such as configs/paper.py or "
        "configs/lmcl_sweep.py"
    )


def variants(config: ConfigDict) -> list[Variant]:
    """Every combination of a sweep's values. Raises InputError as `expand`."""
    return expand(_without(config, ("sweep",)), config.sweep)


def networks(config: ConfigDict, parts: Sequence[str]) -> list[ConfigDict]:
    """A resolved config for every network and seed of a study, seed by seed.

    Args:
        config: the study's.
        parts: those that a report can show.

    Raises:
        InputError: a key is not valid, or two networks have one name.
    """
    if type(config.seeds) is not int or config.seeds < 1:
        raise invalid("seeds", config.seeds, "a whole number, at least 1")
    if not _are_texts(config.parts) or not set(config.parts) <= set(parts):
        raise invalid("parts", config.parts, f"some of {', '.join(parts)}")
    are_texts = _are_texts(config.networks)
    split = [text.split() for text in config.networks] if are_texts else [[]]
    names = Counter(words[0] if words else "" for words in split)
    if "" in names or max(names.values(), default=1) > 1:
        raise invalid(
            "networks", config.networks, 'texts "NAME KEY=VALUE ...", each name once'
        )
    shared = _without(config, _STUDY)
    # After the first round every table has all its rows.
    return [_network(shared, n, seed) for seed in range(config.seeds) for n in split]


def _are_texts(values: Any) -> bool:
    """Whether they are texts: a config file may set anything."""
    whole = isinstance(values, tuple | list)
    return whole and all(isinstance(value, str) for value in values)


def _network(shared: ConfigDict, words: Sequence[str], seed: int) -> ConfigDict:
    config = shared.copy_and_resolve_references()
    config.name, config.seed = words[0], seed
    for word in words[1:]:
        key, equals, text = word.partition("=")
        if not equals:
            raise invalid("networks", word, "KEY=VALUE")
        configfile.assign(config, {key: [text]})
    return resolve(config)


def _without(config: ConfigDict, keys: Sequence[str]) -> ConfigDict:
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for key in keys:
            del config[key]
    return config
