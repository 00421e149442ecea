"""Build ResNet-50 in plain PyTorch up to its pooled output, as a peer for benchmarks/extract.py.

The strides are those of v1.5, in the 3x3 convolutions, as in torchvision and our trunk.
Source: He et al. 2016 (arXiv:1512.03385), table 1 and figure 5, right.
"""

from __future__ import annotations

import torch
from torch import nn

# Width, units, stride of the first unit.
BLOCKS = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
EXPANSION = 4


def convolution(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Build a convolution with batch norm."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width)
    )


class Bottleneck(nn.Module):
    """Residual unit of three convolutions."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.reduce = convolution(channels, width, 1)
        self.middle = convolution(width, width, 3, stride)
        self.expand = convolution(width, EXPANSION * width, 1)
        if stride == 1 and channels == EXPANSION * width:
            self.shortcut: nn.Module = nn.Identity()
        else:
            self.shortcut = convolution(channels, EXPANSION * width, 1, stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the unit: float32 [B, channels, h, w] -> [B, 4 * width, h / stride, w / stride]."""
        inner = torch.relu_(self.middle(torch.relu_(self.reduce(images))))
        return torch.relu_(self.expand(inner) + self.shortcut(images))


def resnet50() -> nn.Module:
    """Build the network: float32 [B, 3, S, S] -> [B, 2048]; random weights, channels last."""
    layers: list[nn.Module] = [
        convolution(3, 64, 7, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, padding=1),
    ]
    channels = 64
    for width, units, stride in BLOCKS:
        for unit in range(units):
            layers.append(Bottleneck(channels, width, stride if unit == 0 else 1))
            channels = EXPANSION * width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return network.eval().to(memory_format=torch.channels_last)
