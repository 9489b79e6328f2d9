"""MART: who is misclassified counts more."""

import jax
import jax.numpy as jnp

from advloss.defences import base
from advloss.defences.base import divergence
from advloss.losses.gaps import chosen
from advloss.types import Array, Batch, PyTree


def mart(
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
    """`loss(f(x'), y) - log(1 - p'_k) + beta * KL(p || p') * (1 - p_y)`, means.

    p and p' are the softmaxes of f(x) and f(x'), k the likeliest wrong class of x'.
    With softmax cross-entropy the first two terms are the boosted cross-entropy of the
    paper. The attack climbs the training loss. Arguments and result: `base.Defence`.

    See "Improving Adversarial Robustness Requires Revisiting Misclassified Examples" by
    Wang et al., Eq. 11 and Algorithm 1.
    """
    attacked = base.attacked_images(attack, forward, variables, batch, key, hyper)
    natural, _, variables = forward(variables, batch.images, True)
    moved, _, variables = forward(variables, attacked, True)
    right = chosen(jax.nn.softmax(natural), batch.labels)
    fits = loss(moved, batch.labels, **hyper["loss"]) + boost(moved, batch.labels)
    fit = fits.mean()
    stability = (divergence(natural, moved) * (1 - right)).mean()
    value = fit + hyper["defence"]["beta"] * stability
    metrics = {
        "loss": value,
        "accuracy": base.accuracy(moved, batch.labels),
        "natural_accuracy": base.accuracy(natural, batch.labels),
        "boosted_loss": fit,
        "divergence": stability,
    }
    return value, (variables, memory, metrics)


def boost(logits: Array, labels: Array) -> Array:
    """`[batch]` `-log(1 - p_k)`, k the likeliest wrong class; at least 0."""
    classes = logits.shape[-1]
    wrong = ~jax.nn.one_hot(labels, classes, dtype=bool)
    likeliest = jnp.argmax(jnp.where(wrong, logits, -jnp.inf), axis=-1)
    others = ~jax.nn.one_hot(likeliest, classes, dtype=bool)
    return -jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=-1, where=others)
