"""vertex_normals in plain PyTorch: the definition that every other backend is held to."""

import torch
from torch import Tensor


def why_not(*args) -> list[str]:
    return []


def forward(vertices: Tensor, faces: Tensor, offsets: Tensor, corners: Tensor, normalize: bool) -> Tensor:
    faces = faces.long()
    v0, v1, v2 = (vertices[:, faces[:, k]] for k in range(3))  # [B, F, 3]
    with torch.no_grad():
        finite = _cross(v1 - v0, v2 - v0).isfinite().all(-1, keepdim=True)  # [B, F, 1]
    cross = _cross(torch.where(finite, v1 - v0, 0), torch.where(finite, v2 - v0, 0))
    total = _at_vertices(cross, faces, vertices)
    if normalize:
        return _unit(total)
    area = _at_vertices(_length(cross), faces, vertices)  # [B, V, 1]
    return torch.where(area > 0, total / torch.where(area > 0, area, 1), 0)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    ax, ay, az = a.unbind(-1)
    bx, by, bz = b.unbind(-1)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)


def _at_vertices(values: Tensor, faces: Tensor, vertices: Tensor) -> Tensor:
    """Sums what each face has, [B, F, C], over the faces of each vertex: [B, V, C]."""
    corners = values[:, :, None].expand(-1, -1, 3, -1).flatten(1, 2)  # [B, 3F, C]
    total = vertices.new_zeros(*vertices.shape[:2], values.shape[-1])
    return total.index_add(1, faces.reshape(-1), corners)


def _scaled(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x divided by its largest component, that component (1 where there is none), and whether there is one."""
    largest = x.detach().abs().amax(-1, keepdim=True)
    some = (largest > 0) & largest.isfinite()
    scale = torch.where(some, largest, 1)
    return torch.where(some, x, 0) / scale, scale, some


def _unit(x: Tensor) -> Tensor:
    scaled, _, some = _scaled(x)
    squared = (scaled * scaled).sum(-1, keepdim=True)
    return torch.where(some, scaled / torch.where(some, squared, 1).sqrt(), 0)


def _length(x: Tensor) -> Tensor:
    scaled, scale, some = _scaled(x)
    squared = (scaled * scaled).sum(-1, keepdim=True)
    return torch.where(some, torch.where(some, squared, 1).sqrt() * scale, 0)
