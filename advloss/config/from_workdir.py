"""A run's own config as a config file: --config=.../from_workdir.py:WORKDIR.

What `advloss evaluate` uses where no other config is named.
"""

from ml_collections import ConfigDict

from advloss.config.saved import load_config


def get_config(workdir: str) -> ConfigDict:
    """The config in that work directory. Raises InputError where there is none."""
    return load_config(workdir)
