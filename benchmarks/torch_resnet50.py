"""ResNet-50 in plain PyTorch up to its pooled output: He et al. 2016 (arXiv:1512.03385), table 1 and figure 5, right.

The strides are v1.5's, in the 3x3 convolutions, as torchvision and our trunk have them.
"""

from __future__ import annotations

import torch
from torch import nn

BLOCKS = (
    (64, 3, 1),
    (128, 4, 2),
    (256, 6, 2),
    (512, 3, 2),
)  # width, units, stride of the first unit
EXPANSION = 4


def convolution(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width)
    )


class Bottleneck(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.reduce, self.look = (
            convolution(channels, width, 1),
            convolution(width, width, 3, stride),
        )
        self.expand = convolution(width, EXPANSION * width, 1)
        same = stride == 1 and channels == EXPANSION * width
        self.shortcut = (
            nn.Identity() if same else convolution(channels, EXPANSION * width, 1, stride)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inner = torch.relu_(self.look(torch.relu_(self.reduce(images))))
        return torch.relu_(self.expand(inner) + self.shortcut(images))


def resnet50() -> nn.Module:
    """float32 [B, 3, S, S] -> [B, 2048]; random weights, for inference, channels last."""
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
