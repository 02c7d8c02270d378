"""Image encoding recorded once for each screen size: a phone's screens are all of one size, and so of one shape."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from autoglm.model.context import ImageFeatures
from autoglm.model.cuda.recording import Recorder, Recordings
from autoglm.model.registry import Model
from autoglm.model.vision import Grid

_REMEMBERED = 64


class RecordedEncoder:
    """In the place of a model's ``encode_images``. A size is recorded when it comes for the second time.

    Args:
        most: sizes kept, the one not used for longest goes first. most_bytes: device memory they may keep.
    """

    def __init__(self, model: Model, recorder: Recorder, most: int, most_bytes: int) -> None:
        self._model = model
        self._inputs: dict[Grid, Tensor] = {}
        self._seen: OrderedDict[Grid, None] = OrderedDict()
        self.recordings: Recordings[Grid, ImageFeatures] = Recordings(
            "encoder of patches", recorder, most, most_bytes, evict=True
        )

    def encode(self, pixels: Sequence[Tensor], grids: Sequence[Grid]) -> list[ImageFeatures]:
        """As ``encode_images``; images of sizes that are not recorded go through it together."""
        found: dict[int, ImageFeatures] = {}
        for index, (values, grid) in enumerate(zip(pixels, grids, strict=True)):
            features = self._replay(values, grid)
            if features is not None:
                found[index] = features
        rest = [index for index in range(len(grids)) if index not in found]
        if rest:
            encoded = self._model.encode_images([pixels[i] for i in rest], [grids[i] for i in rest])
            found |= dict(zip(rest, encoded, strict=True))
        return [found[index] for index in range(len(grids))]

    def _replay(self, values: Tensor, grid: Grid) -> ImageFeatures | None:
        if grid not in self._seen:
            self._seen[grid] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            return None
        place = self._inputs.get(grid)
        if place is None and grid not in self.recordings.refused:
            place = self._record(values, grid)
        if place is None:
            return None
        place.copy_(values)
        recording = self.recordings.held(grid)
        # The next image of this size is written over these.
        return ImageFeatures(tuple(tensor.clone() for tensor in recording.replay().tensors))

    def _record(self, values: Tensor, grid: Grid) -> Tensor | None:
        """Where the recording of ``grid`` reads its pixels; ``None``: it was refused."""
        model = self._model
        place = values.to(model.device, model.dtype, copy=True)
        # What depends on the size alone is made here: a recording cannot fetch it from the host.
        step = partial(model.encode_image, place, grid, model.image_geometry(grid))
        if self.recordings.get(grid, step) is None:
            return None
        self._inputs = {known: held for known, held in self._inputs.items() if known in self.recordings}
        self._inputs[grid] = place
        return place
