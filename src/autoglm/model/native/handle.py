"""What the kernels keep for one model: threads and buffers."""

from __future__ import annotations

from ctypes import byref, c_double
from threading import Lock

from autoglm.model.native.library import level, library
from autoglm.model.native.structs import ModelC, PrefillC

PHASES = ("turn", "norm", "qkv", "write", "attend", "out", "gate_up", "down", "wait")
"""``enum phase``: rows into panels and back, norms with residuals, products, rotation with the writing of keys and
values, attention, waiting for other threads."""


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
        self._alone = Lock()  # a tower may be asked by the engine's thread and the image thread
        chosen = level() if instructions is None else min(level(), instructions)
        self.address: int | None = found.autoglm_create(byref(model), chosen)
        if self.address is None:
            raise RuntimeError("no memory or no threads for the kernels")

    def prefill(self, step: PrefillC) -> None:
        """Many rows through some layers; the addresses in ``step`` must be valid until it returns.

        Raises:
            MemoryError: for what it keeps beside the layers.
        """
        with self._alone:
            failed = self._library.autoglm_prefill(self.address, byref(step))
        if failed:
            raise MemoryError(f"no memory for a prefill of {step.rows} rows")

    def spent(self) -> dict[str, float]:
        """CPU seconds that the threads together spent on each of :data:`PHASES` since the last call."""
        seconds = (c_double * len(PHASES))()
        self._library.autoglm_spent(self.address, seconds)
        return dict(zip(PHASES, seconds, strict=True))

    def close(self) -> None:
        """End the threads and free the buffers; safe to call twice."""
        address, self.address = self.address, None
        if address is not None:
            self._library.autoglm_destroy(address)

    def __del__(self) -> None:
        if getattr(self, "address", None) is not None:
            self.close()
