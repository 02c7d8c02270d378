"""The extension compiles without a warning, is refused where it is not safe, and is not needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src/autoglm/cache/local/native/slab.c"
LOAD = """
import importlib.machinery, importlib.util, sys
name = "autoglm.cache.local._slab"
spec = importlib.util.spec_from_loader(name, importlib.machinery.ExtensionFileLoader(name, sys.argv[1]))
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules[name] = module
"""


def compiled(folder: Path, *flags: str) -> Path:
    """The extension, built with warnings as errors."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "a C compiler is needed"
    library = folder / f"_slab{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = f"-I{sysconfig.get_paths()['include']}"
    command = [compiler, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", *flags, include, str(SOURCE)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return library


def run(code: str, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"} | extra,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_warnings_and_it_works(tmp_path: Path) -> None:
    library = compiled(tmp_path, "-O2")
    code = LOAD + (
        "from autoglm.cache.local import LocalCache, LocalConfig\n"
        "cache = LocalCache(LocalConfig(max_entries=2))\n"
        "[cache.put(k, k) for k in range(5)]\n"
        "print(type(cache).__name__, module.__file__ or sys.argv[1], len(cache))\n"
    )
    done = run(code, str(library))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "SlabCache"
    assert done.stdout.split()[-1] == "2"


def test_refused_without_the_interpreters_lock(tmp_path: Path) -> None:
    done = run(LOAD, str(compiled(tmp_path, "-O0", "-DPy_GIL_DISABLED")))
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert "global interpreter lock" in done.stderr


def test_the_twin_serves_where_the_extension_is_missing() -> None:
    code = (
        "import sys; sys.modules['autoglm.cache.local._slab'] = None\n"
        "from autoglm.cache.local import Implementation, LocalCache, LocalConfig\n"
        "from autoglm.errors import InvalidInputError\n"
        "print(type(LocalCache()).__name__)\n"
        "try:\n    LocalCache(LocalConfig(implementation=Implementation.SLAB))\n"
        "except InvalidInputError as error:\n    print(error.field)\n"
    )
    done = run(code)
    assert done.stdout.split() == ["PythonCache", "implementation"], done.stderr


def test_installing_without_a_compiler_does_not_fail(tmp_path: Path) -> None:
    build = ["build_ext", "--force", "--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", *build],
        cwd=ROOT,
        env=os.environ | {"CC": "false", "CXX": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not list((tmp_path / "lib").rglob("_slab*"))


@pytest.mark.slow
def test_no_error_found_by_the_sanitizers(tmp_path: Path) -> None:
    """The hostile suite under AddressSanitizer and UndefinedBehaviorSanitizer."""
    library = compiled(tmp_path, "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    code = LOAD + (
        "import pytest\n"
        "sys.exit(pytest.main(['-p', 'no:cacheprovider', '-k', 'slab', '-m', 'not slow',"
        " 'tests/cache/local/test_reentrancy.py', 'tests/cache/local/test_cache.py']))\n"
    )
    done = run(
        code,
        str(library),
        LD_PRELOAD=runtime,
        ASAN_OPTIONS="detect_leaks=0:halt_on_error=1",
        PYTHONMALLOC="malloc",
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stdout + done.stderr
