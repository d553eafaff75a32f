"""The implementations that the rules of nvdiffrast are tested on: ours on every device, and nvdiffrast itself."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import focus_kernels.compat.nvdiffrast as ours

IMPLEMENTATIONS = ["ours-cpu", "ours-cuda", "nvdiffrast-cuda"]


def implementation(name: str) -> SimpleNamespace:
    """The operations, with a context, and `floats` and `ints`, which make what they take; skips with a reason."""
    if name != "ours-cpu" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    if name == "nvdiffrast-cuda":
        module = pytest.importorskip("nvdiffrast.torch", reason="nvdiffrast is not installed")
        device, dtype = "cuda", torch.float32
    else:
        module, device, dtype = ours, name.removeprefix("ours-"), torch.float64

    def floats(values):
        return torch.tensor(np.asarray(values), dtype=dtype, device=device)

    def ints(values):
        return torch.tensor(np.asarray(values), dtype=torch.int32, device=device)

    public = {key: getattr(module, key) for key in ours.__all__ if hasattr(module, key)}
    context = module.RasterizeCudaContext(device)
    return SimpleNamespace(**public, name=name, device=device, dtype=dtype, context=context, floats=floats, ints=ints)
