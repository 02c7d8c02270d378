"""Packed weights on disk, so that a checkpoint is packed once.

A file's name is a digest over the bytes of the checkpoint's weights, its configuration, the scheme and
:data:`VERSION`: another checkpoint, or another way of packing, is another file. Files are written beside their place
and moved there in one step; each has its own digest beside it, and one that does not match is made again.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from autoglm.errors import CorruptCheckpointError
from autoglm.model.loading import shard_files, stored_tensors

log = logging.getLogger(__name__)
VERSION = 2
KEPT = 4
"""Files kept; the one not used for longest goes first."""


class QuantizedStore:
    """Packed weights by content, in one folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def file_of(self, checkpoint: Path, scheme: str) -> Path:
        """Where a checkpoint's packed weights are, or would be. Reads all its weights."""
        digest = hashlib.sha256(f"{VERSION} {scheme}".encode())
        for file in (checkpoint / "config.json", *shard_files(checkpoint)):
            digest.update(_digest(file).encode())
        return self.directory / f"{scheme}-{digest.hexdigest()[:32]}.safetensors"

    def read(self, file: Path, install: Callable[[Iterable[tuple[str, Tensor]]], bool]) -> bool:
        """Give ``install`` the tensors, by name; ``False`` if there are none, they are damaged, or it refuses them."""
        try:
            if _digest(file) != _sidecar(file).read_text(encoding="ascii"):
                raise ValueError("its digest does not match")
            if not install(stored_tensors(file)):
                raise ValueError("it holds other tensors")
            os.utime(file)
        except FileNotFoundError:
            return False
        except (OSError, ValueError, CorruptCheckpointError) as error:
            log.warning("%s is made again: %s", file, error)
            return False
        return True

    def write(self, file: Path, tensors: dict[str, Tensor]) -> None:
        """Keep them; a folder that cannot be written is only logged, since nothing is lost but time."""
        partial = file.with_suffix(f".{os.getpid()}")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial)
            _sidecar(file).unlink(missing_ok=True)
            partial.replace(file)
            partial.write_text(_digest(file), encoding="ascii")
            partial.replace(_sidecar(file))
            self._trim()
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            log.warning("packed weights are not kept: %s", error)

    def _trim(self) -> None:
        files = sorted(self.directory.glob("*.safetensors"), key=lambda f: f.stat().st_mtime)
        for file in files[:-KEPT]:
            _sidecar(file).unlink(missing_ok=True)
            file.unlink(missing_ok=True)


def _sidecar(file: Path) -> Path:
    return file.with_suffix(".sha256")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
