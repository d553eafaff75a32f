"""The compiled extension, or why it cannot be used. Imported after torch, whose OpenMP pool it shares."""

import torch

try:
    from . import _C
except ImportError as error:
    _C, _MISSING = None, str(error)  # type: ignore[assignment]


def why_not(*args) -> list[str]:
    """Reasons why the compiled kernels cannot run on these arguments."""
    if _C is None:
        return [f"focus_kernels._C is not built ({_MISSING})"]
    device = next(arg for arg in args if isinstance(arg, torch.Tensor)).device
    if device.type == "cuda" and _C.cuda_archs is None:
        return ["focus_kernels._C was built without CUDA"]
    if device.type not in ("cpu", "cuda"):
        return [f"device {device.type} (supported: cpu, cuda)"]
    return []


def why_not_on_cpu(*args) -> list[str]:
    """The same for an op whose kernels here are the CPU's alone: on a GPU it runs on Triton."""
    reasons = why_not(*args)
    if not reasons and on_cuda(next(arg for arg in args if isinstance(arg, torch.Tensor))):
        return ["focus_kernels._C has no CUDA kernels of this op (Triton runs it)"]
    return reasons


def on_cuda(tensor: torch.Tensor) -> bool:
    """Whether the CUDA kernels take this tensor: it is on a GPU, or the build emulates one (tests/cuda_emulation)."""
    return tensor.is_cuda or _C.cuda_emulation is not None


def threads() -> int:
    """How many threads a CPU kernel may use: what torch would."""
    return torch.get_num_threads()
