"""What the kernels keep for one model: threads and buffers."""

from __future__ import annotations

from ctypes import byref

from autoglm.model.native.library import level, library
from autoglm.model.native.structs import ModelC, PrefillC


class Handle:
    """Owns them until :meth:`close`.

    Args:
        instructions: at most this instruction set (see :func:`library.level`); ``None``: the machine's.

    Raises:
        RuntimeError: the library is not there, or memory or threads ran out.
    """

    def __init__(self, model: ModelC, instructions: int | None = None) -> None:
        found = library()
        if found is None:
            raise RuntimeError("the kernels were not built")
        self._library = found
        chosen = level() if instructions is None else min(level(), instructions)
        self.address: int | None = found.autoglm_create(byref(model), chosen)
        if self.address is None:
            raise RuntimeError("no memory or no threads for the kernels")

    def prefill(self, step: PrefillC) -> None:
        """Many rows through some layers; the addresses in ``step`` must be valid until it returns.

        Raises:
            MemoryError: for what it keeps beside the layers.
        """
        if self._library.autoglm_prefill(self.address, byref(step)):
            raise MemoryError(f"no memory for a prefill of {step.rows} rows")

    def close(self) -> None:
        """End the threads and free the buffers; safe to call twice."""
        address, self.address = self.address, None
        if address is not None:
            self._library.autoglm_destroy(address)

    def __del__(self) -> None:
        if getattr(self, "address", None) is not None:
            self.close()
