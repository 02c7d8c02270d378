"""The stem as it is trained: with a batch norm behind each convolution, folded into it for the checkpoint."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoglm.model.autoglm_phone.stem import ConvStem, local_contrast


class NormedStem(ConvStem):
    """A stem whose stages are normalised over the batch. Without the norms it does not learn to read."""

    def __init__(self, in_channels: int, channels: tuple[int, ...]) -> None:
        super().__init__(in_channels, channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(c, momentum=0.02) for c in channels)

    def forward(self, pixels: Tensor) -> Tensor:
        x = torch.cat([pixels, local_contrast(pixels)], dim=1).contiguous(memory_format=torch.channels_last)
        for stage, norm in zip(self.stages, self.norms, strict=True):
            x = F.max_pool2d(F.relu(norm(stage(x))), 2)
        return x.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """State of the plain :class:`ConvStem` that computes the same with the running statistics."""
        state: dict[str, Tensor] = {}
        for index, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            assert isinstance(stage, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            assert stage.bias is not None
            assert norm.running_var is not None
            assert norm.running_mean is not None
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            state[f"stages.{index}.weight"] = stage.weight * scale[:, None, None, None]
            state[f"stages.{index}.bias"] = (stage.bias - norm.running_mean) * scale + norm.bias
        return state
