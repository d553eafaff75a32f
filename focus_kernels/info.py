"""`python -m focus_kernels.info`: versions, what was built, what this machine has, and why each backend can run or not.

Nothing here creates a CUDA context: the GPU is asked through nvidia-smi, and the backends through tensors without data.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import torch

from . import _backends
from ._extension import _C, why_not

OPS = (
    *("blend", "vertex_normals", "shade_sh", "rasterize", "interpolate", "render_sh", "antialias"),
    *("masked_pixel_loss", "neighbor_min_loss", "rasterize_clip", "rasterize_ndc"),
)
PACKAGES = ("focus-kernels", "torch", "triton", "numpy", "opencv-python", "face-alignment", "dlib-bin")
DEVICES = ("cpu", "cuda")


class _Probe(torch.Tensor):
    """A tensor that says which device it is on and has no data there."""

    @staticmethod
    def __new__(cls, device: str):
        return torch.Tensor._make_wrapper_subclass(cls, (1, 1, 3), dtype=torch.float32, device=torch.device(device))

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise NotImplementedError("a probe has no data")


def report() -> str:
    """The whole report, as text of several lines."""
    sections = {
        "versions": _versions(),
        "extension": _extension(),
        "machine": _machine(),
        "backends": _backend_lines(),
    }
    return "\n\n".join("\n".join([f"{title}:", *(f"  {line}" for line in lines)]) for title, lines in sections.items())


def runs_on(archs: str, capability: tuple[int, int]) -> bool:
    """Whether kernels built for `archs` ("80-real 90-virtual ...") run on a GPU of this compute capability.

    Machine code runs on its own major version from its minor version on; PTX on everything that is not older.
    """
    major, minor = capability
    for arch in archs.split():
        number, _, kind = arch.partition("-")
        digits = re.match(r"\d+", number)
        if digits is None:  # native, all, all-major: what they mean was decided on the building machine
            return True
        built = divmod(int(digits[0]), 10)
        specific = number != digits[0]  # 90a and 100f run on nothing else
        if kind != "virtual" and built[0] == major and (built[1] == minor if specific else built[1] <= minor):
            return True
        if kind != "real" and not specific and built <= (major, minor):
            return True
    return False


def _versions() -> list[str]:
    lines = [f"{'python':<15} {platform.python_version()}, {platform.system()} {platform.machine()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package:<15} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{package:<15} not installed")
    return lines


def _extension() -> list[str]:
    if _C is None:
        return ["not usable: " + "; ".join(why_not(_Probe("cpu")))]
    return [
        f"{'CUDA kernels':<15} {_C.cuda_archs or 'not built (no working nvcc, or FOCUS_CUDA=OFF)'}",
        f"{'CPU kernels':<15} {_C.cpu_isa()} (FOCUS_CPU_ISA={os.environ.get('FOCUS_CPU_ISA') or 'not set'})",
        f"{'threads':<15} {torch.get_num_threads()} as torch, by {_C.threads_engine}",
    ]


def _machine() -> list[str]:
    lines = [f"{'CPU':<15} {_cpu_name()}, {os.cpu_count()} logical cores"]
    for name, driver, capability in _gpus():
        note = ""
        if _C is not None and _C.cuda_archs and not runs_on(_C.cuda_archs, capability):
            note = ", for which no kernel was built: see CMAKE_CUDA_ARCHITECTURES in docs/install.md"
        lines.append(f"{'GPU':<15} {name}, compute capability {capability[0]}.{capability[1]}, driver {driver}{note}")
    reason = _why_no_cuda()
    lines.append(f"{'torch on CUDA':<15} {'no: ' + reason if reason else 'yes, CUDA ' + str(torch.version.cuda)}")
    return lines


def _backend_lines() -> list[str]:
    lines = [f"FOCUS_BACKEND={_backends.FORCED or 'not set'}; order of preference from top to bottom"]
    no_cuda = _why_no_cuda()
    for op in OPS:
        backends = import_module(f"focus_kernels.ops.{op}.op").BACKENDS
        for name, backend in backends.items():
            for device in DEVICES:
                reasons = list(backend.why_not(_Probe(device)))
                if device == "cuda" and no_cuda:
                    reasons.append(no_cuda)
                if _backends.FORCED not in (None, name) and len(backends) > 1:
                    reasons.append(f"FOCUS_BACKEND={_backends.FORCED}")
                lines.append(f"{op:<15} {name:<7} {device:<5} {'no: ' + '; '.join(reasons) if reasons else 'yes'}")
    return lines


def _why_no_cuda() -> str:
    if not torch.backends.cuda.is_built():
        return "this torch was built without CUDA"
    # Counts through NVML, so no context is made.
    return "" if torch.cuda.device_count() else "torch sees no GPU"


def _gpus() -> list[tuple[str, str, tuple[int, int]]]:
    """Name, driver and compute capability of each GPU; none where there is no nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,driver_version,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    found = re.findall(r"^(.+), ([\w.]+), (\d+)\.(\d+)$", answer, re.MULTILINE)
    return [(name, driver, (int(major), int(minor))) for name, driver, major, minor in found]


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        names = re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def main() -> int:
    print(report())
    return 0


if __name__ == "__main__":
    sys.exit(main())
