"""What the engine does between requests, and what it knows of dialogues: see :mod:`autoglm.engine.idle.prefill`."""

from autoglm.engine.idle.dialogues import Dialogues
from autoglm.engine.idle.prefill import IdlePrefill

__all__ = ["Dialogues", "IdlePrefill"]
