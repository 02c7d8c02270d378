"""Image tensors to what a vision tower takes.

Resizing is torch's antialiased bicubic on float values; the server resizes bytes with Pillow. The two agree to a few
grey levels, not bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from autoglm.errors import InvalidInputError
from autoglm.model.autoglm_phone import AutoGLMPhoneModel
from autoglm.model.autoglm_phone.grid import nearest_grid
from autoglm.model.context import ImageFeatures
from autoglm.model.registry import Model
from autoglm.model.vision import Grid
from autoglm.prompt.image_options import ImageOptions
from autoglm.prompt.image_processor import smart_resize


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """What :meth:`AutoGLMPhone.encode_image` returns for one image.

    Attributes:
        grid: patches (1, rows, columns).
        num_tokens: image placeholders it takes in ``input_ids`` (``autoglm_phone``: 1, and it may be left out).
    """

    features: ImageFeatures
    grid: Grid
    num_tokens: int


def checked_images(image: Tensor) -> list[Tensor]:
    """``[3, H, W]`` or ``[B, 3, H, W]``, float 0..1 or uint8 -> list of float32 ``[3, H, W]`` in 0..1.

    Raises:
        InvalidInputError: another type, shape, dtype or range; names ``image_tensor``.
    """
    if not isinstance(image, Tensor):
        raise InvalidInputError(
            f"image_tensor must be a torch.Tensor, not {type(image).__name__}", field="image_tensor"
        )
    shape = str(list(image.shape))
    if image.dim() not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
        raise InvalidInputError(
            f"image_tensor must have shape [3, H, W] or [B, 3, H, W], found {shape}", field="image_tensor", value=shape
        )
    batch = image if image.dim() == 4 else image.unsqueeze(0)
    if batch.dtype == torch.uint8:
        return list((batch.float() / 255).unbind(0))
    if not batch.is_floating_point():
        raise InvalidInputError(
            f"image_tensor must be float in 0..1 or uint8, found {batch.dtype}",
            field="image_tensor",
            value=str(batch.dtype),
        )
    low, high = (float(v) for v in torch.aminmax(batch.detach()))
    if not (low >= 0.0 and high <= 1.0):  # also false for NaN
        raise InvalidInputError(
            f"image_tensor must lie in 0..1 as float, found {low:.4g}..{high:.4g}; divide by 255, or pass uint8",
            field="image_tensor",
            limit=1,
            value=high,
        )
    return list(batch.float().unbind(0))


def prepare(image: Tensor, model: Model, options: ImageOptions) -> tuple[Tensor, Grid]:
    """Resize, normalise and patch one checked image for the model's tower."""
    height, width = image.shape[1:]
    if isinstance(model, AutoGLMPhoneModel):
        vision = model.config.vision
        rows, columns = nearest_grid(height, width, vision.num_tokens)
        return _resized(image, rows * vision.patch_size, columns * vision.patch_size, options), (1, rows, columns)
    new_height, new_width = smart_resize(height, width, options)
    grid = (1, new_height // options.patch_size, new_width // options.patch_size)
    return _block_rows(_resized(image, new_height, new_width, options), grid, options), grid


def _resized(image: Tensor, height: int, width: int, options: ImageOptions) -> Tensor:
    if image.shape[1:] != (height, width):
        image = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True, align_corners=False)[0]
    mean = torch.tensor(options.image_mean, device=image.device).view(3, 1, 1)
    std = torch.tensor(options.image_std, device=image.device).view(3, 1, 1)
    return (image.clamp(0, 1) - mean) / std


def _block_rows(image: Tensor, grid: Grid, options: ImageOptions) -> Tensor:
    """``[patches, 3 * frames * patch * patch]``; blocks of merge x merge patches, the frame repeated."""
    _, rows, columns = grid
    merge, patch, frames = options.merge_size, options.patch_size, options.temporal_patch_size
    blocks = image.reshape(3, rows // merge, merge, patch, columns // merge, merge, patch)
    patches = blocks.permute(1, 4, 2, 5, 0, 3, 6).reshape(rows * columns, 3, 1, patch * patch)
    return patches.expand(-1, -1, frames, -1).reshape(rows * columns, -1)
