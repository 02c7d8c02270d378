"""The codes of :mod:`autoglm.parallel.codecs.codes` written in C, or the torch functions where that was not built.

All work on float32 CPU tensors in one dimension and write where they are told, so that nothing is allocated a message.
Calls leave Python's lock: the transport's threads run meanwhile.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor

from autoglm.parallel.codecs import codes
from autoglm.parallel.codecs.codes import Format
from autoglm.parallel.native.library import CodecC, library

_FLOATS = ctypes.POINTER(ctypes.c_float)


class Kernels:
    """Code and decode in one format.

    Args:
        native: use the compiled kernels; ``None``: where they are there.
    """

    def __init__(self, form: Format, *, native: bool | None = None) -> None:
        self.form = form
        self._library = library() if native in (None, True) else None
        if native and self._library is None:
            raise RuntimeError("the compiled library is not there: install the package where a C compiler is")
        self._codec = CodecC(form.bits, form.group, 0, None, None)
        if form.channel is not None and form.inverse is not None:
            self._codec.columns = len(form.channel)
            self._codec.channel = ctypes.cast(form.channel.data_ptr(), _FLOATS)
            self._codec.inverse = ctypes.cast(form.inverse.data_ptr(), _FLOATS)

    def encode(self, values: Tensor, start: int, out: Tensor) -> None:
        """``values`` coded into ``out``, uint8 of ``form.nbytes(len(values))``."""
        if self._library is None:
            out.copy_(codes.encode(self.form, values, start))
        else:
            self._library.autoglm_codec_encode(self._codec, values.data_ptr(), start, len(values), out.data_ptr())

    def decode(self, coded: Tensor, start: int, out: Tensor) -> None:
        """``len(out)`` values into ``out``."""
        if self._library is None:
            out.copy_(codes.decode(self.form, coded, len(out), start))
        else:
            self._library.autoglm_codec_decode(self._codec, coded.data_ptr(), start, len(out), out.data_ptr())

    def reduce(self, own: Tensor, peers: Sequence[Tensor], start: int, out: Tensor) -> None:
        """Adds what ``peers`` sent to ``own``; the sum coded into ``out``, and as others will decode it in ``own``."""
        if self._library is None:
            coded, values = codes.reduce(self.form, own, list(peers), start)
            out.copy_(coded)
            own.copy_(values)
            return
        addresses = (ctypes.c_void_p * len(peers))(*[peer.data_ptr() for peer in peers])
        self._library.autoglm_codec_reduce(
            self._codec, own.data_ptr(), addresses, len(peers), start, len(own), out.data_ptr()
        )
