"""Steps of decoding on the kernels of a rank other than 0, as rank 0 describes them: of all layers or of a stage's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autoglm.engine.ranks.messages import Part, Step
from autoglm.model.context import ImageFeatures
from autoglm.model.native.decoder import NO_IMAGES, BlockArray, ImageList, NativeDecoder


class NativeSteps:
    """Feeds the kernels.

    Args:
        features: of the images that steps may name, by number; dropped ones are told to :meth:`drop` first.
    """

    def __init__(self, decoder: NativeDecoder, features: Mapping[int, ImageFeatures]) -> None:
        self._decoder = decoder
        self._features = features
        self._block_size = decoder.sizes.block_size
        self._seen: dict[tuple[int, ...], ImageList] = {}

    def drop(self, numbers: list[int]) -> None:
        """Forget images."""
        if numbers:
            gone = set(numbers)
            self._seen = {images: seen for images, seen in self._seen.items() if gone.isdisjoint(images)}

    def run(self, step: Step, before: Tensor | None = None) -> Tensor:
        """This rank's part of a step; see :meth:`NativeDecoder.run`. Raises as the kernels do."""
        ids = _numbers(step.ids).tolist()
        positions = _numbers(step.positions).reshape(3, -1).T.tolist()
        wanted = None if step.output_rows is None else set(_numbers(step.output_rows).tolist())
        spans = step.spans if self._decoder.reads_images else []
        seen = {span.row_start: self._images(span.images) for span in spans}
        tables, row = [], 0
        for part in step.parts:
            blocks = self._blocks(part)
            tables.append(blocks)  # the kernels read them when they run
            images = seen.get(row, NO_IMAGES)
            for length in range(part.context_len - part.query_len + 1, part.context_len + 1):
                first, second, third = positions[row]
                want = wanted is None or row in wanted
                self._decoder.put(ids[row], (first, second, third), length, blocks, images, wanted=want)
                row += 1
        return self._decoder.run(before)

    def _blocks(self, part: Part) -> BlockArray:
        if part.run_start < 0:
            return BlockArray(_numbers(part.blocks))
        first, count = part.run_start // self._block_size, -(-part.context_len // self._block_size)
        return BlockArray(np.arange(first, first + count, dtype=np.int32))

    def _images(self, numbers: tuple[int, ...]) -> ImageList:
        found = self._seen.get(numbers)
        if found is None:
            found = self._seen[numbers] = ImageList([self._features[i] for i in numbers])
        return found


def _numbers(data: bytes) -> NDArray[np.int32]:
    return np.frombuffer(data, dtype=np.int32)
