"""The contract of a subject. Implementations: autoglm, transformers, llama.cpp.

A subject lives in a process of its own and is called from one thread. It owns everything it loads; nothing is
freed before the process ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.clock import Clock, Mark
from benchmarks.workload import Request


@dataclass(slots=True)
class Answer:
    """One request's outcome.

    Attributes:
        tokens: generated ids.
        marks: when each token arrived, from the start of the call to :meth:`Subject.run`.
        prompt_tokens: length of the prompt as the subject counted it, image tokens included.
        cached_tokens: prompt tokens whose state was reused; ``None`` where the subject does not tell.
    """

    prompt_tokens: int = 0
    cached_tokens: int | None = None
    tokens: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)


class Subject(ABC):
    """Greedy generation, f32 weights, end-of-sequence ignored."""

    @abstractmethod
    def load(self, checkpoint: Path, threads: int, cache: Path) -> dict[str, str]:
        """Load ``checkpoint``; ``cache`` is a folder for files derived from it. Returns versions by package."""

    @abstractmethod
    def forget(self) -> None:
        """Drop every reusable state, so that the next request starts cold."""

    @abstractmethod
    def run(self, requests: Sequence[Request], clock: Clock) -> list[Answer]:
        """Answer all requests at once, each with exactly its ``new_tokens``; answers in the same order.

        Image decoding, preprocessing and tokenizing belong to the measured time.
        """
