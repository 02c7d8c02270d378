"""Extensions in C. Everything else is in pyproject.toml; without a compiler the package works without them."""

from __future__ import annotations

from pathlib import Path

from setuptools import Extension, setup

NATIVE_CACHE = Path("src/autoglm/cache/local/native")

EXTENSIONS = [
    Extension(
        "autoglm.cache.local._slab",
        sources=[str(NATIVE_CACHE / "slab.c")],
        depends=[str(header) for header in sorted(NATIVE_CACHE.glob("*.h"))],
        extra_compile_args=["-O3", "-Wall", "-Wextra"],
        optional=True,
    ),
]

setup(ext_modules=EXTENSIONS)
