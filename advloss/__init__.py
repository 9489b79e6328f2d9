"""advloss: does the loss function make a deep network robust?

    result = advloss.evaluate(classifier, images, labels, epsilon=0.3)
    diagnosis = advloss.diagnose(classifier, images, labels, epsilon=0.3)
    trained = advloss.fit(module, images, labels, defence="trades", epsilon=0.3)
    run = advloss.load_run("runs/quickstart/lmcl")

What is named here is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advloss.api import (
        Diagnosis,
        Result,
        Trained,
        diagnose,
        evaluate,
        fit,
        load,
    )
    from advloss.errors import DivergedError, InputError
    from advloss.networks.pytorch import Pretrained, load_pytorch
    from advloss.training.workdir import Run, load_run

__version__ = "0.2.0"

_HOMES = {
    "Diagnosis": "advloss.api",
    "DivergedError": "advloss.errors",
    "InputError": "advloss.errors",
    "Pretrained": "advloss.networks.pytorch",
    "Result": "advloss.api",
    "Run": "advloss.training.workdir",
    "Trained": "advloss.api",
    "diagnose": "advloss.api",
    "evaluate": "advloss.api",
    "fit": "advloss.api",
    "load": "advloss.api",
    "load_pytorch": "advloss.networks.pytorch",
    "load_run": "advloss.training.workdir",
}
__all__ = [
    "Diagnosis",
    "DivergedError",
    "InputError",
    "Pretrained",
    "Result",
    "Run",
    "Trained",
    "__version__",
    "diagnose",
    "evaluate",
    "fit",
    "load",
    "load_pytorch",
    "load_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'advloss' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
