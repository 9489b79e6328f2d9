"""advloss: does the loss function make a deep network robust?

    run = advloss.load_run("runs/quickstart/lmcl")
    scores = run.classifier(images)

Read `losses` for the loss functions, `attacks` for the adversaries, `train` for the
step that combines them; `runs` ties them to a work directory.
"""

from advloss.errors import DivergedError, InputError
from advloss.runs import Run, load_run
from advloss.version import __version__

__all__ = ["DivergedError", "InputError", "Run", "__version__", "load_run"]
