"""render_sh on the compiled CPU and CUDA kernels of csrc/render_sh."""

import torch

from ..._extension import _C, on_cuda, threads, why_not
from ..rasterize.native import draw_scratch, sum_scratch

__all__ = ["backward", "forward", "why_not"]

_PART, _SUMS = 256, 45  # kRenderPart and kRenderSums of csrc/render_sh/render_sh.h


def forward(
    vertices,
    albedo,
    sh_coeffs,
    faces,
    offsets,
    corners,
    K,
    R,
    t,
    H,
    W,
    coverage,
    cull,
    perspective,
    highest,
    orthographic,
    focus,
):
    B, V, _ = vertices.shape
    image = vertices.new_empty(B, 3, H, W)
    mask = vertices.new_empty(B, 1, H, W)
    face_index = faces.new_empty(B, H, W)
    barycentrics = vertices.new_empty(B, H, W, 3)
    depth = vertices.new_empty(B, H, W)
    positions = torch.empty_like(vertices)
    outs = (image, mask, face_index, barycentrics, depth, positions)
    colors = vertices.new_empty(B, V, 4) if on_cuda(vertices) else None
    scratch = (colors, *draw_scratch(vertices, faces, H, W))
    scene = (vertices, albedo, sh_coeffs, faces, offsets, corners, K, R, t)
    options = (coverage, cull, perspective, highest, orthographic, focus)
    _C.render_sh(scene, *outs, *scratch, *options, threads())
    return outs


def backward(
    grad_image,
    grad_barycentrics,
    grad_depth,
    grad_positions,
    vertices,
    albedo,
    sh_coeffs,
    faces,
    offsets,
    corners,
    K,
    R,
    t,
    positions,
    face_index,
    perspective,
    orthographic,
    focus,
):
    B, V, _ = vertices.shape
    outs = tuple(torch.empty_like(x) for x in (vertices, albedo, sh_coeffs, K, R, t))
    colors = sums = partial = None
    if on_cuda(vertices):
        colors, sums = vertices.new_empty(B, V, 4), vertices.new_empty(B, V, 4)
        partial = vertices.new_empty(B, -(-V // _PART), _SUMS)
    scratch = sum_scratch(positions, faces, face_index, 18)
    grads = (grad_image, grad_barycentrics, grad_depth, grad_positions)
    scene = (vertices, albedo, sh_coeffs, faces, offsets, corners, K, R, t)
    options = (perspective, orthographic, focus)
    _C.render_sh_grad(grads, scene, positions, face_index, outs, colors, sums, partial, *options, threads(), *scratch)
    return outs
