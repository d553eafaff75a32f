"""`python -m gpu_check.machine`: what results cannot be compared without, as JSON; with `why` where there is no GPU."""

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import stat
import subprocess
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("numpy", "triton", "pytest", "pytest-benchmark", "hypothesis", "pybind11", "cmake", "ninja")
PEERS = {"nvdiffrast": "nvdiffrast", "pytorch3d": "PyTorch3D", "deodr": "deodr"}
SOURCES = ("csrc", "focus_kernels", "tests", "bench")
GENERATED = re.compile(r"__pycache__|_C\..*|.*\.(so|pyc)|\..*_cache|\.benchmarks|\.hypothesis|\.new_C")


def facts() -> dict:
    try:
        import torch
    except Exception as error:
        return {"why": f"torch does not import ({error})"}
    if not torch.backends.cuda.is_built():
        return {"why": f"torch {torch.__version__} was built without CUDA"}
    if not torch.cuda.is_available():
        return {"why": f"torch {torch.__version__} sees no CUDA device"}
    gpus = [gpu(torch.cuda.get_device_properties(k)) for k in range(torch.cuda.device_count())]
    said = {
        "gpus": gpus,
        "driver": first_line("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": torch.__version__,
        "torch's CUDA": torch.version.cuda,
        "nvcc": release(nvcc()),
        "compute-sanitizer": release(sanitizer()),
        "CPU": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "peers": [name for module, name in PEERS.items() if importlib.util.find_spec(module)],
        "commit": first_line("git", "describe", "--always", "--dirty", "--abbrev=12") or "no git here",
        "trees": {name: tree(ROOT / name) for name in SOURCES},
    }
    return said


def gpu(properties) -> dict:
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_GiB": round(properties.total_memory / 2**30, 1),
        "multiprocessors": properties.multi_processor_count,
        "L2_MiB": round(getattr(properties, "L2_cache_size", 0) / 2**20, 1),
    }


def version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def nvcc() -> str | None:
    """Where CMake will look: cmake/cuda.cmake."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    return os.environ.get("CUDACXX") or first_of("nvcc", [Path(home) / "bin" for home in homes if home])


def sanitizer() -> str | None:
    return beside_nvcc("compute-sanitizer")


def beside_nvcc(name: str) -> str | None:
    """On PATH, else in the toolkit that nvcc is of."""
    compiler = nvcc()
    folders = [Path(os.path.realpath(compiler)).parent] if compiler else []
    folders += [Path("/usr/local/cuda/bin")]
    folders += [folder.parent / "compute-sanitizer" for folder in folders]
    return first_of(name, folders)


def first_of(name: str, folders: list[Path]) -> str | None:
    found = shutil.which(name)
    return found or next((str(f / name) for f in folders if os.access(f / name, os.X_OK)), None)


def release(program: str | None) -> str:
    if program is None:
        return "not found"
    found = re.search(r"(?:release|Version) ([\w.]+)", output(program, "--version"))
    return found[1] if found else program


def first_line(*command: str) -> str:
    return next(iter(output(*command).splitlines()), "")


def output(*command: str) -> str:
    try:
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def cpu_name() -> str:
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def tree(folder: Path) -> str:
    """The name that git has for these files (`git rev-parse COMMIT:folder`), without git: it tells which commit ran."""
    entries = []
    for path in folder.iterdir():
        if GENERATED.fullmatch(path.name):
            continue
        if path.is_dir():
            inner = tree(path)
            if inner != _EMPTY:
                entries.append((path.name + "/", "40000", path.name, inner))
        else:
            mode = "100755" if path.stat().st_mode & stat.S_IXUSR else "100644"
            entries.append((path.name, mode, path.name, _object(b"blob", path.read_bytes())))
    rows = [f"{mode} {name}".encode() + b"\0" + bytes.fromhex(sha) for _, mode, name, sha in sorted(entries)]
    return _object(b"tree", b"".join(rows))


def _object(kind: bytes, content: bytes) -> str:
    return hashlib.sha1(kind + b" " + str(len(content)).encode() + b"\0" + content).hexdigest()


_EMPTY = _object(b"tree", b"")


if __name__ == "__main__":
    print(json.dumps(facts()))
