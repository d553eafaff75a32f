"""blend in plain PyTorch: one matrix product, the only form of it yet."""

import torch
from torch import Tensor


def why_not(*args) -> list[str]:
    return []


def forward(mean: Tensor, basis: Tensor, coeffs: Tensor) -> Tensor:
    K, V, _ = basis.shape
    with torch.autocast(mean.device.type, enabled=False):
        flat = basis.to(mean.dtype).reshape(K, V * 3)  # half precision is widened: products and sums in float32
        return torch.addmm(mean.reshape(1, V * 3), coeffs, flat).view(coeffs.shape[0], V, 3)
