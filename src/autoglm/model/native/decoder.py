"""One step through all layers in a single call, without torch: for steps of few rows, decoding above all."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_int32, c_void_p

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autoglm.model.context import ImageFeatures, KVStore
from autoglm.model.native.description import Sizes, describe
from autoglm.model.native.handle import Handle
from autoglm.model.native.library import library
from autoglm.model.native.structs import ImageC, RowC
from autoglm.model.native.sums import RankSums
from autoglm.model.registry import Model
from autoglm.parallel.tensor import gather_shares

ROWS_ALIKE = 8
"""Up to so many rows (``FEW`` in ``csrc``), a row's result does not depend on how many others there are."""


class BlockList:
    """A sequence's block table where the kernels read it."""

    def __init__(self, capacity: int) -> None:
        self._blocks = (c_int32 * capacity)()
        self._count = 0
        self.address = ctypes.addressof(self._blocks)

    def extend_to(self, blocks: Sequence[int]) -> None:
        """Take over the blocks that came since the last call; those before are unchanged."""
        for index in range(self._count, len(blocks)):
            self._blocks[index] = blocks[index]
        self._count = len(blocks)


class BlockArray:
    """A block table as it is, int32; keep it until the step has run."""

    def __init__(self, blocks: NDArray[np.int32]) -> None:
        self._blocks = blocks
        self.address: int = blocks.ctypes.data


class ImageList:
    """The images that a row sees, with the memory that describes them. Keeps the features alive."""

    def __init__(self, features: Sequence[ImageFeatures]) -> None:
        self.count = len(features)
        self.tokens = sum(f.tensors[-1].shape[0] for f in features)
        self._alive: list[object] = [features]
        images = [self._image(f.tensors) for f in features]
        pointers = (c_void_p * max(1, self.count))(*(ctypes.addressof(i) for i in images))
        self._alive += [images, pointers]
        self.address = ctypes.addressof(pointers)

    def _image(self, tensors: tuple[Tensor, ...]) -> ImageC:
        if not all(t.is_contiguous() for t in tensors):
            raise ValueError("the kernels read contiguous features")
        pairs = tensors[:-1]
        keys = (c_void_p * (len(pairs) // 2))(*(t.data_ptr() for t in pairs[0::2]))
        values = (c_void_p * (len(pairs) // 2))(*(t.data_ptr() for t in pairs[1::2]))
        self._alive += [keys, values]
        return ImageC(
            tokens=tensors[-1].shape[0],
            gate_keys=tensors[-1].data_ptr(),
            keys=ctypes.addressof(keys),
            values=ctypes.addressof(values),
        )


NO_IMAGES = ImageList(())


class NativeDecoder:
    """A model's decoder, or a stage's part of it, on the kernels. Fill rows with :meth:`put`, then :meth:`run`.

    Args:
        kv: the paged KV the rows read and write; shared with the torch modules.
        instructions: at most this instruction set (see :func:`library.level`); ``None``: the machine's.
        integer_products: packed weights times rows rounded to 8 bits, where the machine has the instructions.

    Attributes:
        reads_images: whether it has cross-attention. If not, rows see no images.

    Raises:
        RuntimeError: the library is not there, or memory ran out.
    """

    def __init__(
        self,
        model: Model,
        kv: KVStore,
        sizes: Sizes,
        instructions: int | None = None,
        *,
        integer_products: bool = True,
    ) -> None:
        found = library()
        if found is None:
            raise RuntimeError("the native decoder was not built")
        self.sizes = sizes
        self._library = found
        self._description = describe(model, kv, sizes, integer_products=integer_products)
        self._comm, self._vocab = model.comm, model.vocab_size
        described = self._description.model
        self._is_last, self._hidden = described.head.data is not None, described.hidden
        self._query_size = described.gate_rank if described.queries_after else 0
        self.reads_images = described.cross_heads > 0
        self._sums = None if model.comm.size == 1 else RankSums(model.comm)
        if self._sums is not None:
            self._description.model.sum, self._description.model.group = self._sums.function, self._sums.group
        self.handle = Handle(self._description.model, instructions)
        self._rows = (RowC * sizes.max_rows)()
        self._logits = torch.empty(sizes.max_rows, self._description.model.head.rows)
        self._address = self._logits.data_ptr()
        self._count = self._wanted = self._seeing = 0

    @property
    def rows_alike(self) -> int:
        """Steps of at most so many rows are computed alike, bit for bit; 0: sums over the ranks are not."""
        return ROWS_ALIKE if self._sums is None or self._sums.in_c else 0

    def put(
        self,
        token: int,
        position: tuple[int, int, int],
        length: int,
        blocks: BlockList | BlockArray,
        images: ImageList = NO_IMAGES,
        *,
        wanted: bool = True,
    ) -> None:
        """Add a row to the step.

        Args:
            length: tokens of its sequence up to and with this one; its KV is written at ``length - 1``.
            wanted: whether :meth:`run` gives its logits.
        """
        row = self._rows[self._count]
        row.token, row.length, row.wanted = token, length, wanted
        row.position[:] = list(position)
        row.blocks = blocks.address
        row.images, row.image = images.count, images.address
        self._count += 1
        self._wanted += wanted
        self._seeing += images.count > 0

    def run(self, before: Tensor | None = None) -> Tensor:
        """fp32 logits ``[wanted rows, vocab]`` in order of :meth:`put`; valid until the next call.

        Of several ranks, which all run the same step, rank 0 gets them, and the others what they hold of them. A stage
        before the last gives what the next one takes as ``before``, in memory of its own: fp32 hidden states of the
        rows, then the time gate's queries of those that see an image, where a later stage needs them.

        Raises:
            RuntimeError: a rank is lost, or what else the sum over the ranks raises.
        """
        count, wanted, seeing = self._count, self._wanted, self._seeing
        self._count = self._wanted = self._seeing = 0
        if not self._is_last:
            return self._pass_on(before, count, seeing)
        self._step(before, count, self._address)
        if self._sums is None:
            return self._logits[:wanted]
        if not wanted:
            return self._logits.new_empty(0, self._vocab)
        return gather_shares(self._logits[:wanted], self._vocab, self._comm, everywhere=False)

    def _pass_on(self, before: Tensor | None, count: int, seeing: int) -> Tensor:
        own = count * self._hidden
        # Queries that a stage without cross-attention gets are for a later one.
        passing = None if before is None or self.reads_images else before[own:]
        after = torch.empty(own + (seeing * self._query_size if passing is None else passing.numel()))
        self._step(before, count, after.data_ptr())
        if passing is not None:
            after[own:] = passing
        return after

    def _step(self, before: Tensor | None, count: int, out: int) -> None:
        address = None if before is None else before.data_ptr()
        status = self._library.autoglm_step(self.handle.address, self._rows, count, address, out)
        if self._sums is not None:
            self._sums.check(status)

    def close(self) -> None:
        """End the threads and free the buffers; safe to call twice."""
        self.handle.close()
