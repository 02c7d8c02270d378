"""What is compared. A subject is a module with one class; :data:`SUBJECTS` names it."""

from __future__ import annotations

from importlib import import_module

from benchmarks.subjects.base import Subject

SUBJECTS = {
    "autoglm": "benchmarks.subjects.autoglm:AutoGLM",
    "transformers": "benchmarks.subjects.transformers:Transformers",
    "llama.cpp": "benchmarks.subjects.llamacpp:LlamaCpp",
    "llama.cpp-exact": "benchmarks.subjects.llamacpp:LlamaCppExact",
    "autoglm-torch": "benchmarks.subjects.autoglm:AutoGLMTorch",
    "autoglm-int8": "benchmarks.subjects.autoglm:AutoGLMInt8",
    "autoglm-int4": "benchmarks.subjects.autoglm:AutoGLMInt4",
    "llama.cpp-q8_0": "benchmarks.subjects.llamacpp:LlamaCppQ8",
    "llama.cpp-q4_0": "benchmarks.subjects.llamacpp:LlamaCppQ4",
}
DEFAULT = ("autoglm", "transformers", "llama.cpp")
BASELINE = "transformers"


def make(name: str) -> Subject:
    """Import and make the subject; its libraries are imported only in the process that measures it."""
    module, attribute = SUBJECTS[name].split(":")
    subject: Subject = getattr(import_module(module), attribute)()
    return subject
