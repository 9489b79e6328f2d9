"""TRADES: accuracy and stability as two terms of one loss."""

from advloss.defences import base
from advloss.defences.base import divergence
from advloss.types import Array, Batch, PyTree


def trades(
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
    """`loss(f(x), y) + beta * KL(softmax f(x) || softmax f(x'))`, means over the batch.

    The attack looks for the x' whose prediction is farthest from that of x: it climbs
    the divergence, not the loss. It starts where `train.attack` says, by default
    anywhere in the ball; its authors start beside x, at x + 0.001 N(0, I). Arguments
    and result: `base.Defence`.

    See "Theoretically Principled Trade-off between Robustness and Accuracy" by Zhang
    et al., Eq. 5.
    """
    here = base.frozen_classifier(forward, variables)(batch.images)
    attacked = base.attacked_images(
        attack,
        forward,
        variables,
        batch,
        key,
        hyper,
        objective=lambda logits, _: divergence(here, logits),
    )
    natural, _, variables = forward(variables, batch.images, True)
    moved, _, variables = forward(variables, attacked, True)
    fit = loss(natural, batch.labels, **hyper["loss"]).mean()
    stability = divergence(natural, moved).mean()
    value = fit + hyper["defence"]["beta"] * stability
    metrics = {
        "loss": value,
        "accuracy": base.accuracy(moved, batch.labels),
        "natural_accuracy": base.accuracy(natural, batch.labels),
        "natural_loss": fit,
        "divergence": stability,
    }
    return value, (variables, memory, metrics)
