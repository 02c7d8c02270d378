"""What is compared. A subject is a module with one class; :data:`SUBJECTS` names it."""

from __future__ import annotations

from importlib import import_module

from benchmarks.subjects.base import Subject

SUBJECTS = {
    "autoglm": "benchmarks.subjects.autoglm:AutoGLM",
    "transformers": "benchmarks.subjects.transformers:Transformers",
    "llama.cpp": "benchmarks.subjects.llamacpp:LlamaCpp",
    "llama.cpp-exact": "benchmarks.subjects.llamacpp:LlamaCppExact",
}
DEFAULT = ("autoglm", "transformers", "llama.cpp")
BASELINE = "transformers"


def make(name: str) -> Subject:
    """Import and make the subject; its libraries are imported only in the process that measures it."""
    module, attribute = SUBJECTS[name].split(":")
    subject: Subject = getattr(import_module(module), attribute)()
    return subject
