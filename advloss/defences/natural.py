"""Training on the images as they are: what defences are compared with."""

from advloss.defences import base
from advloss.types import Array, Batch, PyTree


def natural(
    forward: base.Forward,
    variables: PyTree,
    batch: Batch,
    key: Array,
    hyper: dict[str, dict[str, Array]],
    frozen: PyTree,
    memory: PyTree,
    *,
    loss: base.Loss,
    attack: base.TrainingAttack,
) -> base.Outcome:
    """The mean of `loss(f(x) / T, y)`. Arguments and result: `base.Defence`.

    The temperature T is 1 but for a teacher, see `distillation.distillation`.
    """
    logits, _, variables = forward(variables, batch.images, True)
    softened = logits / hyper["defence"]["temperature"]
    value = loss(softened, batch.labels, **hyper["loss"]).mean()
    metrics = {"loss": value, "accuracy": base.accuracy(logits, batch.labels)}
    return value, (variables, memory, metrics)
