"""The convolutional stem against the plain formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from autoglm.model.autoglm_phone.stem import ConvStem, local_contrast


def naive_contrast(image: torch.Tensor) -> torch.Tensor:
    grey = image.double().mean(0)
    height, width = grey.shape

    def box(x: torch.Tensor, row: int, column: int) -> torch.Tensor:
        return x[max(0, row - 7) : row + 8, max(0, column - 7) : column + 8].mean()

    difference = torch.stack([torch.stack([grey[r, c] - box(grey, r, c) for c in range(width)]) for r in range(height)])
    square = difference**2
    spread = torch.stack([torch.stack([box(square, r, c) for c in range(width)]) for r in range(height)]).sqrt()
    return difference.abs() / (spread + 0.1)


@pytest.mark.parametrize("size", [(20, 34), (9, 5)])
def test_contrast(size: tuple[int, int]) -> None:
    image = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(local_contrast(image[None])[0, 0].double(), naive_contrast(image), atol=1e-5, rtol=1e-4)


def test_stages_and_order_of_patches() -> None:
    torch.manual_seed(0)
    stem, pixels = ConvStem(3, (4, 6)), torch.randn(2, 3, 16, 24)
    x = torch.cat([pixels, local_contrast(pixels)], dim=1)
    for stage in stem.stages:
        x = F.max_pool2d(F.relu(stage(x)), 2)
    torch.testing.assert_close(stem(pixels), x.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
