"""Compiled parts of the package. All are optional: where no compiler is found, Python does their work."""

from setuptools import Extension, setup

_NATIVE = "src/autoglm/model/native/csrc"
EXTENSIONS = [
    Extension(
        "autoglm.model.native._decode",
        [f"{_NATIVE}/{name}.c" for name in ("base", "avx2", "avx512", "decoder")],
        depends=[f"{_NATIVE}/{name}.h" for name in ("decoder", "vectors", "linear", "attention", "forward")],
        extra_compile_args=["-O3", "-std=gnu11", "-fno-math-errno", "-Wno-psabi", "-Wno-unused-function"],
        extra_link_args=["-lm", "-lpthread"],
        optional=True,
    ),
]

setup(ext_modules=EXTENSIONS)
