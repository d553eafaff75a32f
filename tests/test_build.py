"""The build and what every user meets first: messages, a light import, the report, the source archive."""

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from focus_kernels import info

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = ROOT / "pyproject.toml"
SOURCES = (
    "CMakeLists.txt",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "cmake",
    "csrc",
    "focus",
    "focus_kernels",
    "pyproject.toml",
    "setup.py",
)


@pytest.fixture
def tree(tmp_path):
    """A copy of the sources without anything built, so that no test touches the build of the checkout."""
    target = tmp_path / "tree"
    target.mkdir()
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignore)
        elif source.exists():
            shutil.copy(source, target / name)
    return target


@pytest.fixture
def build_tools():
    """The build requirements of pyproject.toml, which the extra [test] brings."""
    for name in ("cmake", "ninja", "pybind11", "setuptools"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")


def run(*command, cwd=None, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ("CMAKE_ARGS", "CXX", "CUDACXX")}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean | environment, capture_output=True, text=True, check=False
    )


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_missing_compiler_says_what_to_install(tree, build_tools):
    result = run(sys.executable, "setup.py", "build_ext", cwd=tree, CXX="/nowhere/c++")
    assert result.returncode != 0
    assert "apt-get install g++" in result.stderr
    assert "Traceback" not in result.stderr


def test_failing_compiler_ends_in_one_readable_message(tree, build_tools, tmp_path):
    broken = script(tmp_path / "broken-c++", "echo no licence for this compiler >&2; exit 1")
    result = run(sys.executable, "setup.py", "build_ext", cwd=tree, CXX=str(broken))
    assert result.returncode != 0
    assert "no licence for this compiler" in result.stdout + result.stderr
    assert "the native extension did not build" in result.stderr
    assert "Traceback" not in result.stderr


def configure(tree, tmp_path, *args):
    import ninja
    import pybind11

    import cmake

    return run(
        Path(cmake.CMAKE_BIN_DIR) / "cmake",
        *("-S", tree, "-B", tmp_path / "configured", "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={Path(ninja.BIN_DIR) / 'ninja'}",
        f"-DPython_EXECUTABLE={sys.executable}",
        f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        *args,
    )


def test_broken_nvcc_falls_back_to_the_cpu_with_a_warning(tree, build_tools, tmp_path):
    nvcc = script(tmp_path / "nvcc", "echo unsupported GNU version! >&2; exit 1")
    result = configure(tree, tmp_path, f"-DCMAKE_CUDA_COMPILER={nvcc}")
    assert result.returncode == 0, result.stderr
    assert "Building without CUDA kernels" in result.stderr
    assert "unsupported GNU version!" in result.stderr


def test_broken_nvcc_is_an_error_where_cuda_is_asked_for(tree, build_tools, tmp_path):
    nvcc = script(tmp_path / "nvcc", "exit 1")
    result = configure(tree, tmp_path, f"-DCMAKE_CUDA_COMPILER={nvcc}", "-DFOCUS_CUDA=ON")
    assert result.returncode != 0
    assert "FOCUS_CUDA=ON, but" in result.stderr


@pytest.mark.slow
def test_source_archive_holds_all_that_a_build_needs(tree, build_tools, tmp_path):
    result = run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", tmp_path, cwd=tree)
    assert result.returncode == 0, result.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    needed = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    egg_info = {name for name in needed if ".egg-info/" in name}
    assert not needed - egg_info - packed


def test_import_is_light():
    """No CUDA context, no network, and none of the heavy packages that only some commands need."""
    code = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("network access at import")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import focus_kernels, focus, torch
assert not torch.cuda.is_initialized()
heavy = {"cv2", "dlib", "face_alignment", "h5py", "numba", "scipy", "skimage", "trimesh", "triton", "torch._dynamo"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    result = run(sys.executable, "-c", code, cwd=ROOT)
    assert result.returncode == 0, result.stderr


def test_extension_links_neither_torch_nor_the_cuda_runtime():
    spec = importlib.util.find_spec("focus_kernels._C")
    if spec is None or spec.origin is None:
        pytest.skip("focus_kernels._C is not built")
    binary = Path(spec.origin).read_bytes()
    for library in (b"libtorch", b"libc10", b"libcudart.so"):
        assert library not in binary


def test_stub_describes_the_extension():
    extension = pytest.importorskip("focus_kernels._C", reason="focus_kernels._C is not built")
    stub = ast.parse((ROOT / "focus_kernels/_C.pyi").read_text())
    counts = {node.name: len(node.args.posonlyargs) for node in stub.body if isinstance(node, ast.FunctionDef)}
    names = {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)} | set(counts)
    assert names == {name for name in dir(extension) if not name.startswith("_")}
    for name, count in counts.items():
        signature = getattr(extension, name).__doc__.partition("\n")[0]
        assert len(re.findall(r"\barg\d+:", signature)) == count, signature


def test_info_reports_every_backend():
    result = run(sys.executable, "-m", "focus_kernels.info", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    for op in info.OPS:
        assert f"\n  {op} " in result.stdout
    for name in ("versions:", "extension:", "machine:", "backends:", "torch "):
        assert name in result.stdout


def test_info_names_the_reason_of_a_forced_backend():
    result = run(sys.executable, "-m", "focus_kernels.info", cwd=ROOT, FOCUS_BACKEND="ref")
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("  rasterize ")]
    verdicts = {(name, device): " ".join(rest) for _, name, device, *rest in lines}
    assert verdicts["ref", "cpu"] == "yes"
    assert "FOCUS_BACKEND=ref" in verdicts["native", "cpu"]


@pytest.mark.parametrize(
    ("archs", "capability", "expected"),
    [
        ("80-real 90-real 90-virtual", (8, 0), True),
        ("80-real 90-real 90-virtual", (8, 9), True),  # machine code runs on later minor versions
        ("80-real 90-real 90-virtual", (9, 0), True),
        ("80-real 90-real 90-virtual", (10, 0), True),  # from PTX
        ("80-real 90-real 90-virtual", (7, 5), False),
        ("86-real", (8, 0), False),
        ("80-real", (9, 0), False),
        ("90", (12, 0), True),
        ("90a-real", (9, 0), True),
        ("90a", (10, 0), False),
        ("native", (9, 0), True),
    ],
)
def test_info_knows_which_gpus_the_kernels_run_on(archs, capability, expected):
    assert info.runs_on(archs, capability) is expected


def python_files(root):
    folders = (root / "focus", root / "focus_kernels")
    return {path.relative_to(root).as_posix() for folder in folders for path in folder.rglob("*.py")}


def test_every_folder_of_python_is_a_package_that_goes_into_the_wheel():
    setuptools = pytest.importorskip("setuptools")
    (line,) = re.findall(r"^\[tool\.setuptools\.packages\.find\]\ninclude = (.+)$", PYPROJECT.read_text(), re.MULTILINE)
    packages = set(setuptools.find_packages(ROOT, include=ast.literal_eval(line)))
    assert {name.rpartition("/")[0].replace("/", ".") for name in python_files(ROOT)} == packages
    assert {"focus.compat", "focus_kernels.compat", "focus_kernels.compat.focus"} <= packages


@pytest.mark.slow
def test_wheel_builds_without_torch_and_imports(tree, build_tools, tmp_path):
    """A whole build from the source archive, in isolation, then an import in an environment without torch."""
    assert run(sys.executable, "setup.py", "-q", "sdist", "--dist-dir", tmp_path, cwd=tree).returncode == 0
    (archive,) = tmp_path.glob("*.tar.gz")
    wheels = tmp_path / "wheels"
    flags = {"CMAKE_ARGS": "-DFOCUS_CUDA=OFF -DFOCUS_THREADS=std"}
    result = run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", wheels, archive, **flags)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = wheels.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "unpacked", "zip")
    assert python_files(tmp_path / "unpacked") == python_files(tree)
    (binary,) = (tmp_path / "unpacked").glob("focus_kernels/_C.*.so")
    code = (
        "import importlib.util as u, sys;"
        f"s = u.spec_from_file_location('_C', {str(binary)!r}); m = u.module_from_spec(s); s.loader.exec_module(m);"
        "assert 'torch' not in sys.modules; print(m.cpu_isa(), m.threads_engine, m.cuda_archs)"
    )
    result = run(sys.executable, "-I", "-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[1:] == ["std::thread", "None"]
