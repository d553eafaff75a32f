"""render_sh: the public function, its autograd rule and its registration."""

from typing import NamedTuple

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ...camera import Camera
from ...topology import Topology
from ..rasterize.op import Raster, raster_options
from ..shade_sh.op import CONVENTIONS
from . import native, ref

BACKENDS = {"native": native, "ref": ref}


class Render(NamedTuple):
    """A shaded image and what led to it.

    Attributes:
        image: [B, 3, H, W], RGB in the range that albedo and light give.
        mask: [B, 1, H, W], 1 where a face is visible, else 0. It has no gradient.
        raster: the `Raster`; its barycentrics and depth (mm) are differentiable.
        positions: [B, V, 3], the projected vertices: x and y in pixels, depth in mm. Differentiable.
    """

    image: Tensor
    mask: Tensor
    raster: Raster
    positions: Tensor


def render_sh(
    vertices: Tensor,
    albedo: Tensor,
    sh_coeffs: Tensor,
    topology: Topology,
    camera: Camera,
    size: tuple[int, int],
    *,
    background: Tensor | None = None,
    normals: str = "unit",
    coverage: str = "top_left",
    cull: str | None = "back",
    perspective_correct: bool | None = None,
    tie: str = "lowest",
) -> Render:
    """Render meshes under spherical-harmonics light: projection, normals, shading, visibility, interpolation in one.

    The same as `Camera.project`, `vertex_normals` (in the model frame, then rotated by R), `shade_sh`, `rasterize` and
    `interpolate` one after the other, in one fused forward and one fused backward.

    Args:
        vertices: [B, V, 3] in mm, model frame, float32 or float64 (half precision is widened inside autocast).
        albedo: [B, V, 3] RGB, as vertices.
        sh_coeffs: [B, 3, 9], light in the camera frame, as vertices. See `shade_sh`.
        topology: the faces; V is topology.num_vertices.
        camera: its K, R and t have batch 1 or B, in the dtype and on the device of vertices.
        size: (H, W) of the image, each in [1, 2^23].
        background: what is seen where no face is: [3], [3, H, W] or [B, 3, H, W], as vertices; None is black.
        normals: "unit", or "focus" for FOCUS's mean normals (`vertex_normals(normalize=False)`) with its angles
            (`shade_sh(convention="focus")`).
        coverage, cull, tie: as in `rasterize`.
        perspective_correct: as in `rasterize`; None means: unless the camera is orthographic. FOCUS uses False.

    Returns:
        Render(image [B, 3, H, W], mask [B, 1, H, W], raster, positions [B, V, 3]). image, raster.barycentrics,
        raster.depth and positions are once differentiable in vertices, albedo, sh_coeffs and the camera's K (two
        rows), R and t, the image in background too; the visible faces are held fixed, so silhouettes have no gradient.
        Vertices and faces that are not seen have exactly zero gradient from the raster and the image. A vertex that
        cannot be projected (see `Camera.project`) has none through positions.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, batch, size or option, or several devices.
    """
    op = "render_sh"
    if not isinstance(camera, Camera):
        _checks.fail(TypeError, op, "camera", "a focus_kernels.Camera", type(camera).__name__)
    names = {"camera.K": camera.K, "camera.R": camera.R, "camera.t": camera.t}
    vertices, albedo, sh_coeffs, K, R, t = _checks.floats(
        op, vertices=vertices, albedo=albedo, sh_coeffs=sh_coeffs, **names
    )
    _checks.mesh(op, topology, "vertices", vertices)
    B, V, _ = vertices.shape
    _checks.shape(op, "albedo", albedo, (B, V, 3))
    _checks.shape(op, "sh_coeffs", sh_coeffs, (B, 3, 9))
    for name, value in names.items():
        if value.shape[0] != B and value.shape[0] != 1:
            _checks.fail(ValueError, op, name, f"a batch of 1 or {B} as vertices", str(value.shape[0]))
    H, W = _checks.size(op, size)
    covered, culled, highest = raster_options(op, coverage, cull, tie)
    focus = bool(_checks.choice(op, "normals", normals, CONVENTIONS))
    if perspective_correct is None:
        perspective_correct = not camera.orthographic
    perspective = _checks.flag(op, "perspective_correct", perspective_correct)
    if background is not None:
        background = _background(op, background, vertices, (B, 3, H, W))

    mesh = (topology.faces, topology.offsets, topology.corners)
    tensors = (vertices, albedo, sh_coeffs, *mesh, K.expand(B, 3, 3), R.expand(B, 3, 3), t.expand(B, 3))
    options = (H, W, covered, culled, perspective, highest, camera.orthographic, focus)
    args: tuple = (*(tensor.contiguous() for tensor in tensors), *options)
    if choose(op, BACKENDS, *args) is ref:
        image, mask, face_index, barycentrics, depth, positions = ref.forward(*args)
    else:
        image, mask, face_index, barycentrics, depth, positions = _RenderSh.apply(*args)
    if background is not None:
        image = torch.where(mask > 0, image, background)
    return Render(image, mask, Raster(face_index, barycentrics, depth), positions)


def _background(op: str, background, vertices: Tensor, size: tuple[int, int, int, int]) -> Tensor:
    """The background, broadcastable to [B, 3, H, W]."""
    background = _checks.widened(op, "background", background)
    _checks.like(op, "background", background, "vertices", vertices)
    if background.dim() == 1:
        _checks.shape(op, "background", background, (3,))
        return background[:, None, None]
    _checks.shape(op, "background", background, size[1:] if background.dim() == 3 else size)
    return background


class _RenderSh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, *args):
        outputs = _FORWARD(*args)
        _, mask, face_index, _, _, positions = outputs
        ctx.save_for_backward(*args[:9], positions, face_index)
        ctx.perspective, ctx.orthographic, ctx.focus = args[13], args[15], args[16]
        ctx.mark_non_differentiable(mask, face_index)
        ctx.set_materialize_grads(False)
        return outputs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_image, _mask, _face_index, grad_barycentrics, grad_depth, grad_positions):
        grads = (grad_image, grad_barycentrics, grad_depth, grad_positions)
        grads = [None if grad is None else grad.contiguous() for grad in grads]
        vertices, albedo, sh_coeffs, K, R, t = _BACKWARD(
            *grads, *ctx.saved_tensors, ctx.perspective, ctx.orthographic, ctx.focus
        )
        return vertices, albedo, sh_coeffs, None, None, None, K, R, t, *[None] * 8


def _forward(*args):
    return choose("render_sh", kernels(BACKENDS), *args).forward(*args)


def _backward(grad_image, grad_barycentrics, grad_depth, grad_positions, *args):
    backend = choose("render_sh", kernels(BACKENDS), *args)
    return backend.backward(grad_image, grad_barycentrics, grad_depth, grad_positions, *args)


def _forward_fake(vertices, albedo, sh_coeffs, faces, offsets, corners, K, R, t, H, W, *rest):
    B = vertices.shape[0]
    return (
        vertices.new_empty(B, 3, H, W),
        vertices.new_empty(B, 1, H, W),
        faces.new_empty(B, H, W),
        vertices.new_empty(B, H, W, 3),
        vertices.new_empty(B, H, W),
        torch.empty_like(vertices),
    )


def _backward_fake(
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
    *rest,
):
    return tuple(torch.empty_like(value) for value in (vertices, albedo, sh_coeffs, K, R, t))


_FORWARD = register(
    "_render_sh_fwd(Tensor vertices, Tensor albedo, Tensor sh_coeffs, Tensor faces, Tensor offsets, Tensor corners,"
    " Tensor K, Tensor R, Tensor t, int H, int W, int coverage, int cull, bool perspective, bool highest,"
    " bool orthographic, bool focus) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_BACKWARD = register(
    "_render_sh_bwd(Tensor? grad_image, Tensor? grad_barycentrics, Tensor? grad_depth, Tensor? grad_positions,"
    " Tensor vertices, Tensor albedo, Tensor sh_coeffs, Tensor faces, Tensor offsets, Tensor corners, Tensor K,"
    " Tensor R, Tensor t, Tensor positions, Tensor face_index, bool perspective, bool orthographic, bool focus)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)
