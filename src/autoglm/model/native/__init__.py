"""Decoding on kernels of our own, in C: see ``docs/decode.md``. Without them, torch does the same work."""
