"""Builds focus_kernels._C: one CMake project, one extension module, no torch at build time."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SETTINGS = ("CMAKE_ARGS", "CXX", "CXXFLAGS", "CUDACXX", "CUDAFLAGS", "CUDAHOSTCXX", "LDFLAGS")
NO_COMPILER = """no C++ compiler found. focus-kernels needs one that knows C++17 (g++ >= 9 or clang >= 10):
    Debian, Ubuntu:  apt-get install g++
    Fedora:          dnf install gcc-c++
    macOS:           xcode-select --install
or set CXX to the one to use."""
NO_TOOL = "{0} not found: pip install {0}, or build without --no-build-isolation"
FAILED = """the native extension did not build; the reason is in the first error above.
Without CUDA kernels: CMAKE_ARGS=-DFOCUS_CUDA=OFF. With another compiler: CXX=clang++. See docs/install.md."""


def stop(message):
    raise SystemExit(f"\nfocus-kernels: {message}\n")


def tool(name):
    """The wheel in this (possibly isolated) environment first, then PATH."""
    try:
        module = __import__(name)
        return str(Path(getattr(module, "CMAKE_BIN_DIR", None) or module.BIN_DIR) / name)
    except ImportError:
        return shutil.which(name) or stop(NO_TOOL.format(name))


class CMakeBuild(build_ext):
    def build_extension(self, ext):
        compilers = shlex.split(os.environ.get("CXX", ""))[:1] or ["c++", "g++", "clang++"]
        args = shlex.split(os.environ.get("CMAKE_ARGS", ""))
        if not any(map(shutil.which, compilers)) and not any("CMAKE_CXX_COMPILER" in arg for arg in args):
            stop(NO_COMPILER)
        try:
            import pybind11
        except ImportError:
            stop(NO_TOOL.format("pybind11"))
        # One folder per set of settings: CMake's cache would keep the settings of the build before.
        settings = zlib.crc32(repr([os.environ.get(name) for name in SETTINGS]).encode())
        build = ROOT / "build" / f"{sysconfig.get_config_var('SOABI')}-{settings:08x}"
        configure = [tool("cmake"), "-S", ROOT, "-B", build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
        configure += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", *args]
        for command in (configure, [tool("cmake"), "--build", build]):
            if subprocess.run(list(map(str, command))).returncode:
                stop(FAILED)
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.copy_file(str(build / "_C.so"), str(target))


setup(ext_modules=[Extension("focus_kernels._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
