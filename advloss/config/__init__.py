"""Configs: their keys, made from the registries; checked, saved, swept, built.

from advloss import config

made = config.default()
made.loss.name = "lmcl"
made = config.resolve(made)
"""

from advloss.config.keys import Key
from advloss.config.saved import (
    CONFIG,
    NETWORK,
    check_no_network,
    command_line,
    flatten_training,
    from_dict,
    from_saved,
    load_config,
    recipe,
    to_json,
    training_differences,
)
from advloss.config.schema import default, keys, resolve, swept
from advloss.config.sweep import Variant, expand
from advloss.config.trees import flatten, put, unknown_key

__all__ = [
    "CONFIG", "NETWORK", "Key", "Variant", "check_no_network", "command_line",
    "default", "expand", "flatten", "flatten_training", "from_dict", "from_saved",
    "keys", "load_config", "put", "recipe", "resolve", "swept", "to_json",
    "training_differences", "unknown_key",
]  # fmt: skip
