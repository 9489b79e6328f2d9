"""Adversarial training: the paper's defence."""

from advloss.defences import base
from advloss.types import Array, Batch, PyTree


def adversarial(
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
    """The mean loss of attacked images: `min over w of max over x' of loss(x', y; w)`.

    The attack climbs the training loss unless `train.attack.objective` says otherwise;
    of several restarts, each image's strongest trains. Arguments and result:
    `base.Defence`.

    See "Robust Loss Functions" by Vu and Tran, Section III-B, and "Towards Deep
    Learning Models Resistant to Adversarial Attacks" by Madry et al., Eq. 2.1.
    """
    attacked = base.attacked_images(attack, forward, variables, batch, key, hyper)
    logits, _, variables = forward(variables, attacked, True)
    value = loss(logits, batch.labels, **hyper["loss"]).mean()
    metrics = {"loss": value, "accuracy": base.accuracy(logits, batch.labels)}
    return value, (variables, memory, metrics)
