"""Our networks in PyTorch, with the parameters of our runs."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn


class TorchTable1(nn.Module):
    """Images `[batch, 1, 28, 28]` -> logits, as `networks.table1.Table1` gives them.

    Args:
        variables: of a network that `advloss.load_run` loaded.
        cosine: whether its last layer gives cosines.
    """

    def __init__(self, variables: dict, *, cosine: bool):
        super().__init__()
        params = variables["params"]
        self.conv1, self.conv2 = (_conv(params[name]) for name in ("conv1", "conv2"))
        rows = np.asarray(params["fc1"]["kernel"])
        side = int(np.sqrt(len(rows) // 64))
        # Ours flattens height, width, channels; PyTorch channels, height, width.
        rows = rows.reshape(side, side, 64, -1).transpose(2, 0, 1, 3)
        self.fc1 = _dense(rows.reshape(-1, rows.shape[-1]), params["fc1"])
        self.fc2 = _head(params["fc2"], cosine)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.conv1(images).relu(), 2)
        x = nn.functional.max_pool2d(self.conv2(x).relu(), 2)
        return self.fc2(self.fc1(x.flatten(1)).relu())


class TorchMlp(nn.Module):
    """The same of `networks.mlp.Mlp`, on images of one channel."""

    def __init__(self, variables: dict, *, cosine: bool):
        super().__init__()
        params = variables["params"]
        self.fc1, self.fc2 = (
            _dense(np.asarray(params[name]["kernel"]), params[name])
            for name in ("fc1", "fc2")
        )
        self.fc3 = _head(params["fc3"], cosine)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc3(self.fc2(self.fc1(images.flatten(1)).relu()).relu())


TWINS = {"table1": TorchTable1, "mlp": TorchMlp}


class _Cosines(nn.Module):
    """What `networks.layers.CosineHead` computes."""

    def __init__(self, kernel: np.ndarray):
        super().__init__()
        vectors = nn.functional.normalize(torch.from_numpy(kernel.T.copy()), eps=1e-6)
        self.register_buffer("vectors", vectors)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(features, dim=1, eps=1e-6) @ self.vectors.T


def variables_of(parameters: Mapping[str, torch.Tensor]) -> dict:
    """The variables of a network whose TorchTable1 has these named parameters."""
    arrays = {name: value.detach().numpy() for name, value in parameters.items()}
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        layer, kind = name.split(".")
        if kind == "weight":
            kind = "kernel"
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        params.setdefault(layer, {})[kind] = np.array(array)
    rows = params["fc1"]["kernel"]
    side = int(np.sqrt(len(rows) // 64))
    rows = rows.reshape(64, side, side, -1).transpose(1, 2, 0, 3)
    params["fc1"]["kernel"] = rows.reshape(-1, rows.shape[-1])
    return {"params": params}


def to_torch(images: np.ndarray) -> torch.Tensor:
    """`[batch, height, width, channels]` to PyTorch's order of axes."""
    return torch.from_numpy(np.array(images).transpose(0, 3, 1, 2).copy())


def to_numpy(images: torch.Tensor) -> np.ndarray:
    """Back to our order of axes."""
    return images.detach().numpy().transpose(0, 2, 3, 1)


def _conv(params: dict) -> nn.Conv2d:
    kernel = np.asarray(params["kernel"]).transpose(3, 2, 0, 1).copy()
    layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 5, padding=2)
    layer.weight = nn.Parameter(torch.from_numpy(kernel), requires_grad=False)
    bias = torch.from_numpy(np.array(params["bias"]))
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _dense(kernel: np.ndarray, params: dict) -> nn.Linear:
    layer = nn.Linear(*kernel.shape)
    layer.weight = nn.Parameter(torch.from_numpy(kernel.T.copy()), requires_grad=False)
    bias = torch.from_numpy(np.array(params["bias"]))
    layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _head(params: dict, cosine: bool) -> nn.Module:
    kernel = np.asarray(params["kernel"])
    return _Cosines(kernel) if cosine else _dense(kernel, params)


class TorchResidual(nn.Module):
    """A residual network with pre-activation, as ours of that name.

    Args:
        name: "preact_resnet18" or "resnet8".
        normalised: `[2, channels]`, mean and deviation of the images' channels.
    """

    def __init__(self, name: str, normalised: torch.Tensor):
        super().__init__()
        blocks, widths = {
            "preact_resnet18": (2, (64, 128, 256, 512)),
            "resnet8": (1, (16, 32, 64)),
        }[name]
        self.register_buffer("mean", normalised[None, 0, :, None, None])
        self.register_buffer("std", normalised[None, 1, :, None, None])
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        stages, inside = [], widths[0]
        for stage, width in enumerate(widths):
            for place in range(blocks):
                stride = 2 if place == 0 and stage > 0 else 1
                stages.append(_TorchBlock(inside, width, stride))
                inside = width
        self.stages = nn.Sequential(*stages)
        self.norm, self.fc = nn.BatchNorm2d(inside), nn.Linear(inside, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.stem((images - self.mean) / self.std))
        return self.fc(self.norm(x).relu().mean(dim=(2, 3)))


class _TorchBlock(nn.Module):
    def __init__(self, inside: int, width: int, stride: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inside), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inside, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride > 1 or inside != width:
            self.shortcut = nn.Conv2d(inside, width, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        active = self.norm1(x).relu()
        kept = x if self.shortcut is None else self.shortcut(active)
        return kept + self.conv2(self.norm2(self.conv1(active)).relu())
