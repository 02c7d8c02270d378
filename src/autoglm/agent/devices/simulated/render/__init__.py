"""Drawing a simulated screen with Pillow."""

from __future__ import annotations

from .screen import render_screen

__all__ = ["render_screen"]
