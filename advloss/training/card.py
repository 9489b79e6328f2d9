"""The README.md beside a network's weights: its model card."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from advloss import __version__, networks
from advloss.config import titles

_HEAD = """---
library_name: advloss
tags:
- adversarial-robustness
- image-classification
- jax
---
"""


def text(
    name: str,
    config: ConfigDict,
    recipe: Iterable[tuple[str, str]],
    facts: Mapping[str, Any],
    *,
    module: str,
    image_shape: tuple[int, ...],
    parameters: int,
    halved: bool,
    own: bool,
) -> str:
    """A model card in Markdown, as the Hugging Face Hub shows it.

    Args:
        name: its title, that of the folder.
        config: what the network was trained with.
        recipe: its keys that are not the defaults, with their values.
        facts: what is known beside, by what it is, in its order.
        module: the network's name, or its class's.
        image_shape: (height, width, channels).
        parameters: how many there are.
        halved: the weights in the file are rounded to float16.
        own: the module is one's own, and has to be given to `load`.
    """
    size = " x ".join(map(str, image_shape))
    network = module if own else networks.title(module)
    rounded = ", rounded to float16" * halved
    known = {
        "network": f"{network}, {parameters:,} parameters{rounded}",
        "images": f"{size}, in [0, 1]",
        "classes": config.data.num_classes,
        "loss": titles.loss_title(config),
        "trained against": titles.defence_title(config),
        "seed": config.seed,
        "advloss": __version__,
        **facts,
    }
    rows = "".join(f"| {_cell(key)} | {_cell(known[key])} |\n" for key in known)
    keys = "\n".join(f"{key}={value}" for key, value in recipe)
    given = '"FOLDER", module' if own else '"FOLDER"'
    return (
        f"{_HEAD}# {_cell(name)}\n\n| | |\n|---|---|\n{rows}\n"
        "FOLDER is where this file lies, or the address of its repository, as "
        "hf://owner/name.\n\n"
        f"```python\nimport advloss\n\ntrained = advloss.load({given})\n"
        "logits = trained.classifier(images)  # float32 [n, height, width, channels]\n"
        "```\n\n"
        "It was trained with these keys, where they are not the defaults; config.json "
        f"has all:\n\n```\n{keys}\n```\n"
    )


def _cell(value: Any) -> str:
    """Text that Markdown shows as it is, in a cell or a title."""
    words = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>|~&#$])", r"\\\1", words)
