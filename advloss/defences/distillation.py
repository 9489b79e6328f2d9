"""Defensive distillation: a network learns how sure another is."""

import jax
import jax.numpy as jnp

from advloss.defences import base
from advloss.losses.smoothing import of_each_class
from advloss.types import Array, Batch, PyTree


def distillation(
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
    teacher: str,
) -> base.Outcome:
    """Cross-entropy of `softmax f(x) / T` with the teacher's, mean over the batch.

    The teacher, whose variables are `frozen`, was trained at the same T
    (`natural.natural`). Tested at T = 1, gradients of cross-entropy vanish: this hides
    them, and defends against nothing. Arguments and result: `base.Defence`; `teacher`
    says where `frozen` is from.

    See "Distillation as a Defense to Adversarial Perturbations against Deep Neural
    Networks" by Papernot et al., Section IV, and "Robust Loss Functions" by Vu and
    Tran, Section II-C.
    """
    temperature = hyper["defence"]["temperature"]
    taught, _, _ = forward(frozen, batch.images, False)
    logits, _, variables = forward(variables, batch.images, True)
    likely = jax.nn.softmax(taught / temperature)
    surprise = of_each_class(loss, logits / temperature, **hyper["loss"])
    value = jnp.sum(likely * surprise, axis=-1).mean()
    metrics = {
        "loss": value,
        "accuracy": base.accuracy(logits, batch.labels),
        "teacher_accuracy": base.accuracy(taught, batch.labels),
    }
    return value, (variables, memory, metrics)
