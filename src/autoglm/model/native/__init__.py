"""Decoding on kernels of our own, in C: see ``docs/decode.md``. Without them, torch does the same work."""

from autoglm.model.native.decoder import NO_IMAGES, BlockList, ImageList, NativeDecoder
from autoglm.model.native.description import Sizes, unfit
from autoglm.model.native.library import argmax_minus, level, library

__all__ = ["NO_IMAGES", "BlockList", "ImageList", "NativeDecoder", "Sizes", "argmax_minus", "level", "library", "unfit"]
