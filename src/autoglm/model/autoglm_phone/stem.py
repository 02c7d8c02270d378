"""The convolutional stem of small towers: early convolutions in the place of the linear patch map.

A small ViT learns to read small text far sooner behind a few convolutions (Xiao et al. 2021, "Early convolutions help
transformers see better"). Text is dark on light or light on dark, so the stem also gets a channel in which both look
alike: the local contrast of the grey image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WINDOW = 15
"""Side in pixels of the neighbourhood that contrast is measured against: a little more than a line of text."""
_FLOOR = 0.1


def local_contrast(pixels: Tensor) -> Tensor:
    """How far each grey value is from the mean of its neighbourhood, in standard deviations of it.

    ``[images, 3, height, width]`` -> ``[images, 1, height, width]``.
    """
    grey = pixels.mean(1, keepdim=True)
    difference = grey - _box_mean(grey)
    return difference.abs() / (_box_mean(difference * difference).sqrt() + _FLOOR)


def _box_mean(x: Tensor) -> Tensor:
    half = _WINDOW // 2
    columns = F.avg_pool2d(x, (_WINDOW, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(columns, (1, _WINDOW), 1, (0, half), count_include_pad=False)


class ConvStem(nn.Module):
    """Stages of 3x3 convolution, ReLU and 2x2 max pooling; each halves the resolution.

    Weights: ``stages.N.{weight,bias}``. A norm that a stage was trained with is folded into them.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        inputs = (in_channels + 1, *channels[:-1])
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(inputs, channels, strict=True))

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised ``[images, 3, height, width]`` -> ``[images, patches, channels]``, row-major."""
        x = torch.cat([pixels, local_contrast(pixels)], dim=1)
        for stage in self.stages:
            x = F.max_pool2d(F.relu(stage(x)), 2)
        return x.flatten(2).transpose(1, 2)
