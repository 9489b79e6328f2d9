"""A run's own config, from its work directory: --config=configs/saved.py:WORKDIR.

What `experiments.evaluate` uses where no other config is named.
"""

from ml_collections import ConfigDict

from advloss import runs


def get_config(workdir: str) -> ConfigDict:
    """The config in that work directory. Raises InputError where there is none."""
    return runs.load_config(workdir)
