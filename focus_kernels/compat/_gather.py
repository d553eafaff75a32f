"""Reading rows by index, with a gradient that is added up in the same order at every run."""

from __future__ import annotations

import torch
from torch import Tensor


def take(values: Tensor, index: Tensor) -> Tensor:
    """`values` [N] at an int64 `index` of any shape. Differentiable in `values`, deterministically."""
    if values.is_cuda:
        return values[index]  # its backward sorts on the GPU
    # one-dimensional index_select: on the CPU its backward adds in order, that of indexing does not
    return values.index_select(0, index.reshape(-1)).view(index.shape)


def take_last(values: Tensor, index: Tensor) -> Tensor:
    """`values` [..., N] at an int64 `index` of any shape, [..., *index.shape]; as `take`."""
    if values.is_cuda or not values.requires_grad:
        return values[..., index]
    rows = [take(row, index) for row in values.flatten(0, -2).unbind(0)]
    return torch.stack(rows).view(*values.shape[:-1], *index.shape) if rows else values[..., index]
