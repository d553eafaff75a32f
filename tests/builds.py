"""Builds of the sources that only tests need: emulated CUDA, sanitizers, planted bugs. Each has a folder of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def build(name: str, *targets: str, **options: str) -> Path:
    """Configure and build `targets` in build/check/<name>, with CMake options; skip where there are no tools."""
    if sys.platform != "linux":
        pytest.skip("built on Linux only")
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed (pip install -e '.[test]')")
    cmake = pytest.importorskip("cmake", reason="cmake is not installed (pip install -e '.[test]')")
    ninja = pytest.importorskip("ninja", reason="ninja is not installed (pip install -e '.[test]')")
    folder = ROOT / "build" / "check" / name
    program = str(Path(cmake.CMAKE_BIN_DIR) / "cmake")
    settings = {
        "CMAKE_MAKE_PROGRAM": str(Path(ninja.BIN_DIR) / "ninja"),
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
        "FOCUS_WERROR": "ON",
        **options,
    }
    _run(program, "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *(f"-D{k}={v}" for k, v in settings.items()))
    _run(program, "--build", str(folder), *(arg for target in targets for arg in ("--target", target)))
    return folder


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
