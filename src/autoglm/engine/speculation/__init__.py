"""Drafting tokens that a step then verifies: several tokens for the price of little more than one, exactly the same ones.

See ``docs/speculation.md``.
"""

from autoglm.engine.speculation.speculator import Speculator

__all__ = ["Speculator"]
