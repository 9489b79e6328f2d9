"""Networks on the Hugging Face Hub: an address, and the folder that it stands for.

folder = hub.fetch("hf://owner/name@v1")
"""

import re
from collections.abc import Collection
from pathlib import Path

from advloss.errors import InputError, line

PREFIX = "hf://"
_ADDRESS = re.compile(
    r"hf://(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII
)


def fetch(address: str, names: Collection[str]) -> Path:
    """Downloads files of a repository, or finds them where they were kept.

    Args:
        address: "hf://owner/name", or "hf://owner/name@revision", a branch, a tag or a
            commit.
        names: of the files; those that are not there are left out.

    Raises:
        InputError: it is no address, huggingface_hub is not installed, or the files
            can't be had.
    """
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise InputError(
            f"{address} is not valid: use hf://owner/name, or hf://owner/name@revision"
        )
    try:
        import huggingface_hub
    except ImportError as error:
        raise InputError(
            f"{address} needs the package huggingface_hub: pip install 'advloss[hub]'"
        ) from error
    try:
        folder = huggingface_hub.snapshot_download(
            found["repository"], revision=found["revision"], allow_patterns=[*names]
        )
    except Exception as error:  # Of the hub, of the network, of the disk.
        raise InputError(f"{address} can't be had: {line(error)}") from error
    return Path(folder)
