"""`python -m gpu_check.build`: the extension for the GPU of this machine, in place, without pip and without network."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def configure(arch: str, folder: Path) -> list[str]:
    """The command that prepares a build for one compute capability, as in "90"."""
    import pybind11

    command = [tool("cmake"), "-S", str(ROOT), "-B", str(folder)]
    command += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}"]
    command += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    # With line numbers, which cost nothing, compute-sanitizer can say where.
    return [*command, "-DFOCUS_CUDA=ON", f"-DCMAKE_CUDA_ARCHITECTURES={arch}-real", "-DCMAKE_CUDA_FLAGS=-lineinfo"]


def tool(name: str) -> str:
    """The wheel first, then PATH."""
    try:
        module = __import__(name)
        return str(Path(getattr(module, "CMAKE_BIN_DIR", None) or module.BIN_DIR) / name)
    except (ImportError, AttributeError):
        return shutil.which(name) or sys.exit(f"{name} not found")


def build(arch: str, jobs: int) -> None:
    folder = ROOT / "build" / f"gpu_check-{sysconfig.get_config_var('SOABI')}-{arch}"
    for command in (configure(arch, folder), [tool("cmake"), "--build", str(folder), "--parallel", str(jobs)]):
        print("+", *command, flush=True)
        if code := subprocess.run(command).returncode:
            sys.exit(f"{command[1]} ended with {code}")
    place = ROOT / "focus_kernels" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    new = place.with_name(".new_C")  # a running program keeps the file it has mapped
    shutil.copyfile(folder / "_C.so", new)
    new.replace(place)
    said = "from focus_kernels._extension import _C, why_not; print('built for', _C.cuda_archs)"
    if code := subprocess.run([sys.executable, "-c", said], cwd=ROOT).returncode:
        sys.exit(f"the extension does not import: {code}")


def main() -> int:
    import torch

    major, minor = torch.cuda.get_device_capability()
    build(f"{major}{minor}", os.cpu_count() or 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
