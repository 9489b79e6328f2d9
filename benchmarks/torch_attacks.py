"""PGD as an ordinary loop of PyTorch, for the trainings that ours are held against."""

from collections.abc import Callable

import torch


def random_start(images: torch.Tensor, epsilon: float) -> torch.Tensor:
    """A random point of the ball around each image, cut to [0, 1]."""
    change = (2 * torch.rand_like(images) - 1) * epsilon
    return torch.clamp(images + change, 0, 1)


def pgd(
    forward: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
) -> torch.Tensor:
    """The last iterate in l-inf, on cross-entropy.

    Args:
        forward: images -> logits.
        start: `[batch, channels, height, width]`, where the first step is made.
        images: likewise, the natural ones.
        labels: `[batch]` int64.
        epsilon, step_size: in units of the pixels.
        steps: how many.
    """
    moved = start
    for _ in range(steps):
        moved.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(
            forward(moved), labels, reduction="sum"
        )
        (gradient,) = torch.autograd.grad(loss, moved)
        moved = moved.detach() + step_size * gradient.sign()
        moved = torch.clamp(moved, images - epsilon, images + epsilon)
        moved = torch.clamp(moved, 0, 1)
    return moved
