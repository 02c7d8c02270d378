"""Drafting tokens that a step then verifies: several tokens for little more than the price of one, the same ones.

See ``docs/speculation.md``.
"""

from autoglm.engine.speculation.speculator import Speculator

__all__ = ["Speculator"]
