"""The networks of a study or of a sweep, from its config.

A study's config has beside the usual keys

    networks    texts "NAME KEY=VALUE KEY=VALUE", one a network: what sets it apart
    seeds       how many of each, seeds 0, 1, ...
    parts       what the report shows
    budget      a word for it

and a sweep's has `sweep`, see `config.sweep`.
"""

from collections.abc import Sequence

from ml_collections import ConfigDict

from advloss.cli import configfile
from advloss.config.checks import accepts
from advloss.config.schema import resolve
from advloss.config.sweep import MOST_RUNS, Variant, expand
from advloss.config.trees import invalid
from advloss.errors import InputError
from advloss.registry import Valid, text, whole

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
    _check(config, "sweep", text())
    return expand(_without(config, ("sweep",)), config.sweep)


def networks(config: ConfigDict, parts: Sequence[str]) -> list[ConfigDict]:
    """A resolved config for every network and seed of a study, seed by seed.

    Args:
        config: the study's.
        parts: those that a report can show.

    Raises:
        InputError: a key is not valid, or there are more than `MOST_RUNS`.
    """
    some = Valid(tuple, lambda v: set(v) <= set(parts), f"some of {', '.join(parts)}")
    for key, valid in (("budget", text()), ("parts", some), ("networks", _NETWORKS)):
        _check(config, key, valid)
    most = MOST_RUNS // max(1, len(config.networks))
    _check(config, "seeds", whole(1, most))
    if config.get("seed"):
        raise invalid("seed", config.seed, "config.seeds, seeds are 0, 1, ...")
    shared = _without(config, _STUDY)
    # After the first round every table has all its rows.
    split = [network.split() for network in config.networks]
    return [_network(shared, n, seed) for seed in range(config.seeds) for n in split]


def own_keys(config: ConfigDict) -> list[str]:
    """The keys that every network of a study sets itself."""
    each = [
        {word.partition("=")[0] for word in network.split()[1:]}
        for network in config.networks
    ]
    return sorted({"name", *set.intersection(*each)}) if each else []


def _check(config: ConfigDict, key: str, valid: Valid) -> None:
    value = config[key]
    value = tuple(value) if type(value) is list else value
    if type(value) is not valid.kind or not accepts(valid, value):
        raise invalid(key, config[key], valid.text)


def _have_names(networks: tuple) -> bool:
    names = {n.split()[0] for n in networks if isinstance(n, str) and n.split()}
    return len(names) == len(networks)


_NETWORKS = Valid(tuple, _have_names, 'texts "NAME KEY=VALUE ...", each name once')


def _network(shared: ConfigDict, words: Sequence[str], seed: int) -> ConfigDict:
    config, changes = shared.copy_and_resolve_references(), {}
    for word in words[1:]:
        key, equals, said = word.partition("=")
        if not equals or key in ("name", "seed"):
            valid = "KEY=VALUE; names are first words, seeds those of config.seeds"
            raise invalid("networks", word, valid)
        changes.setdefault(key, []).append(said)
    configfile.assign(config, changes)
    with config.unlocked(), config.ignore_type():
        config.name, config.seed = words[0], seed
    return resolve(config)


def _without(config: ConfigDict, keys: Sequence[str]) -> ConfigDict:
    config = config.copy_and_resolve_references()
    with config.unlocked():
        for key in keys:
            del config[key]
    return config
