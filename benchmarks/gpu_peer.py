"""`transformers` with its own Glm4v on the same device, dtype and shapes: the baseline of `gpu.py`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from transformers import Glm4vConfig, Glm4vForConditionalGeneration

from autoglm.model.loading import read_json
from autoglm.prompt import Prompt


class Peer:
    """Random weights; the time does not depend on them."""

    def __init__(self, folder: Path, dtype: torch.dtype, device: torch.device) -> None:
        config = Glm4vConfig(**read_json(folder / "config.json"))
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                model: Any = Glm4vForConditionalGeneration(config)
        finally:
            torch.set_default_dtype(before)
        self._model = model.eval()
        self._model.generation_config.eos_token_id = None  # so all tokens asked for are generated
        self._device, self._image = device, int(config.image_token_id)

    @torch.inference_mode()
    def seconds(self, prompt: Prompt, rows: int, new_tokens: int) -> float:
        """Of ``generate()`` for ``rows`` copies of a prompt, its processed pixels included."""
        ids = torch.tensor([prompt.token_ids] * rows, device=self._device)
        images: dict[str, Any] = {}
        if prompt.images:
            pixels = [torch.from_numpy(placed.image.pixels) for placed in prompt.images]
            grids = [placed.image.grid for placed in prompt.images]
            images = {
                "pixel_values": torch.cat(pixels * rows).to(self._device, self._model.dtype),
                "image_grid_thw": torch.tensor(grids * rows, device=self._device),
                "mm_token_type_ids": (ids == self._image).long(),
            }
        synchronize(self._device)
        start = time.perf_counter()
        self._model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
            **images,
        )
        synchronize(self._device)
        return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
