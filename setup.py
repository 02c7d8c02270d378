"""Extensions in C. Everything else is in pyproject.toml; without a compiler the package works without them."""

from __future__ import annotations

from pathlib import Path

from setuptools import Extension, setup

NATIVE_DECODE = Path("src/autoglm/model/native/csrc")
NATIVE_CACHE = Path("src/autoglm/cache/local/native")
NATIVE_PATCHES = Path("src/autoglm/prompt/native/csrc")
NATIVE_WIRE = Path("src/autoglm/parallel/native/csrc")

EXTENSIONS = [
    Extension(
        "autoglm.model.native._decode",
        sources=[str(source) for source in sorted(NATIVE_DECODE.glob("*.c"))],
        depends=[str(header) for header in sorted(NATIVE_DECODE.glob("*.h"))],
        extra_compile_args=["-O3", "-std=gnu11", "-fno-math-errno", "-g0", "-Wno-psabi", "-Wno-unused-function"],
        extra_link_args=["-lm", "-lpthread"],
        optional=True,
    ),
    Extension(
        "autoglm.cache.local._slab",
        sources=[str(NATIVE_CACHE / "slab.c")],
        depends=[str(header) for header in sorted(NATIVE_CACHE.glob("*.h"))],
        extra_compile_args=["-O3", "-Wall", "-Wextra"],
        optional=True,
    ),
    Extension(
        "autoglm.parallel.native._wire",
        sources=[str(source) for source in sorted(NATIVE_WIRE.glob("*.c"))],
        depends=[str(header) for header in sorted(NATIVE_WIRE.glob("*.h"))],
        extra_compile_args=["-O3", "-std=gnu11", "-fno-math-errno", "-ffp-contract=off", "-g0", "-Wall", "-Wextra"],
        optional=True,
    ),
    Extension(
        "autoglm.prompt.native._patches",
        sources=[str(NATIVE_PATCHES / "patches.c")],
        extra_compile_args=["-O3", "-std=gnu11", "-g0", "-Wall", "-Wextra"],
        optional=True,
    ),
]

setup(ext_modules=EXTENSIONS)
