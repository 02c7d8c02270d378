"""A 1080x2400 screenshot has 13416 patches: the tower must never hold a matrix of patches x patches."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from autoglm.model.config import VisionConfig
from autoglm.model.glm4v import Glm4vModel
from autoglm.model.vision import VisionTower
from autoglm.prompt import Glm4vImageProcessor, ImageOptions
from tests.model.autoglm_phone.models import tiny_model

GRID = (1, 172, 78)
PATCHES = 172 * 78


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation makes, and the operations.

    For use without inference mode, in which attention would be one operation that nobody looks into.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.names.add(str(func))
        for one in out if isinstance(out, tuple | list) else [out]:
            if isinstance(one, Tensor):
                self.numbers = max(self.numbers, one.numel())
        return out


def narrow_tower(dtype: torch.dtype = torch.float32) -> VisionTower:
    """One narrow block on real patches."""
    config = VisionConfig(
        hidden_size=16,
        depth=1,
        num_heads=2,
        out_hidden_size=32,
        merger_size=32,
        image_size=336,
        patch_size=14,
        temporal_patch_size=2,
        merge_size=2,
        rms_norm_eps=1e-5,
    )
    tower = VisionTower(config)
    torch.manual_seed(0)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return tower.to(dtype).eval().requires_grad_(False)


def screenshot_rows(tower: VisionTower) -> Tensor:
    return torch.zeros(PATCHES, tower.config.patch_values, dtype=tower.patch_embed.proj.weight.dtype)


def test_the_grid_is_that_of_a_screenshot() -> None:
    image = Glm4vImageProcessor(ImageOptions()).process(np.zeros((2400, 1080, 3), np.uint8))
    assert image.grid == GRID


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_operation_gives_a_matrix_of_scores(dtype: torch.dtype) -> None:
    tower = narrow_tower(dtype)
    rows = screenshot_rows(tower)
    with torch.no_grad(), Largest() as seen:
        tower(rows, [GRID])
    assert any("flash_attention" in name for name in seen.names)  # which works on blocks of scores
    assert seen.numbers <= rows.numel() < PATCHES**2 // 10


def test_the_spy_sees_a_matrix_of_scores() -> None:
    q = torch.zeros(1, 1, 64, 8)
    with torch.no_grad(), Largest() as seen, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert seen.numbers >= 64 * 64


def test_the_other_tower_has_none_either() -> None:
    model = tiny_model()
    vision = model.config.vision
    side = int(vision.num_tokens**0.5)
    pixels = torch.zeros(3, side * vision.patch_size, side * vision.patch_size)
    with torch.no_grad(), Largest() as seen:
        model.visual(pixels, (side, side))
    assert not any("softmax" in name for name in seen.names)
    assert any("flash_attention" in name for name in seen.names)


_MEASURE = """
import resource, torch
from tests.model.test_vision_memory import GRID, narrow_tower, screenshot_rows
torch.set_num_threads(1)
tower = narrow_tower()
rows = screenshot_rows(tower)
rows.add_(1)
with torch.inference_mode():
    tower(rows[:224], [(1, 14, 16)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tower(rows, [GRID])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_a_screenshot_takes_no_memory_for_scores() -> None:
    """The kernel's own buffers count too: what the process holds at most grows by far less than one head's scores."""
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True)
    assert int(done.stdout) < PATCHES**2 * 4 / 4


def test_pixels_are_read_where_they_are(model: Glm4vModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the processor's buffer to the tower's first product: no copy, no conversion."""
    image = Glm4vImageProcessor(ImageOptions()).process(np.zeros((112, 168, 3), np.uint8))
    seen: list[int] = []
    forward = model.visual.patch_embed.forward
    monkeypatch.setattr(model.visual.patch_embed, "forward", lambda x: (seen.append(x.data_ptr()), forward(x))[1])
    with torch.inference_mode():
        model.encode_images([torch.from_numpy(image.pixels)], [image.grid])
    assert seen == [image.pixels.ctypes.data]
