"""The mesh renderers of Deep3DFaceRecon_pytorch and 3DDFA-V3 on these kernels, for the CPU and CUDA.

| upstream | here |
|---|---|
| ``from util.nvdiffrast import MeshRenderer`` (Deep3DFaceRecon_pytorch) | `MeshRenderer` |
| ``from util.nv_diffrast import MeshRenderer`` (3DDFA-V3) | ``MeshRendererV3 as MeshRenderer`` |
| ``from util.nv_diffrast import MeshRenderer_UV`` (3DDFA-V3) | `MeshRenderer_UV` |
| ``from util.cpu_renderer import MeshRenderer_cpu, MeshRenderer_UV_cpu`` (3DDFA-V3) | the same names |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import _checks
from ..topology import _INTEGERS
from .nvdiffrast import RasterizeCudaContext, RasterizeGLContext, interpolate, rasterize
from .nvdiffrast._common import as_numbers

Faces = Tensor | Sequence[Tensor]


class _Drawn(NamedTuple):
    mask: Tensor  # [B, 1, H, W]
    depth: Tensor  # [B, 1, H, W]
    image: Tensor | None  # [B, C, H, W]
    faces: Tensor  # int32 [B, H, W], numbers in `tri`, -1 at background
    tri: Tensor  # [F, 3]


class _Renderer(nn.Module):
    """What the renderers share. No parameters, no buffers: the matrix follows the vertices' device and dtype."""

    def __init__(self, rasterize_size: float, use_opengl: bool) -> None:
        super().__init__()
        self.rasterize_size = rasterize_size
        self.use_opengl = use_opengl
        self.ctx: RasterizeCudaContext | RasterizeGLContext | None = None

    def _draw(self, op: str, projection: Tensor | None, vertex: Tensor, tri: Faces, feat: Tensor | None) -> _Drawn:
        (vertex,) = _checks.floats(op, vertex=vertex)
        if vertex.dim() != 3 or vertex.shape[2] not in (3, 4):
            _checks.fail(ValueError, op, "vertex", "shape [B, N, 3] or [B, N, 4]", str(list(vertex.shape)))
        B, N = vertex.shape[:2]
        if feat is not None:
            _, feat = _checks.floats(op, vertex=vertex, feat=feat)
            if feat.dim() != 2 and (feat.dim() != 3 or feat.shape[0] not in (1, B)):
                _checks.fail(ValueError, op, "feat", f"shape [N, C] or [1|{B}, N, C]", str(list(feat.shape)))
            if feat.shape[-2] != N:
                _checks.fail(ValueError, op, "feat", f"of {N} vertices as vertex", str(feat.shape[-2]))
        if vertex.shape[2] == 3:
            x, y, z = vertex.unbind(2)
            vertex = torch.stack([x, -y, z, torch.ones_like(x)], 2)
        z = vertex[..., 2:3]
        with torch.autocast(vertex.device.type, enabled=False):
            clip = vertex if projection is None else vertex @ projection.to(vertex).t()
        if self.ctx is None:
            kind = RasterizeGLContext if self.use_opengl else RasterizeCudaContext
            self.ctx = kind(device=vertex.device)

        ranges = None
        if not isinstance(tri, Tensor) or tri.dim() == 3:  # faces of their own for each item: range mode
            tri, ranges = _joined(op, tri, B, N, vertex.device)
            clip, z = clip.reshape(-1, 4), z.reshape(-1, 1)
            if feat is not None:
                feat = feat.expand(B, -1, -1).reshape(B * N, -1)
        size = int(self.rasterize_size)
        rast, _ = rasterize(self.ctx, clip, tri, (size, size), ranges=ranges, grad_db=False)
        faces = as_numbers(rast[..., 3])
        mask = (faces >= 0).to(rast.dtype)[:, None]
        depth = interpolate(z, rast, tri)[0].permute(0, 3, 1, 2)
        image = None if feat is None else interpolate(feat, rast, tri)[0].permute(0, 3, 1, 2)
        return _Drawn(mask, depth, image, faces, tri)


class MeshRenderer(_Renderer):
    """Deep3DFaceRecon_pytorch's ``util.nvdiffrast.MeshRenderer``: mask, depth and features of a mesh in perspective.

    Camera space is x right, y up, z forward (away from the camera); Deep3D hands over z := 10 - z. Row 0 of the image
    is its top, pixel centres lie at half steps, attributes are perspective-correct, no face is culled and nothing is
    antialiased. What is nearer than znear or farther than zfar is cut off. ``state_dict`` is empty.

    Args:
        rasterize_fov: field of view in degrees, the same in both directions.
        znear, zfar: depths of the clipping planes, in the unit of the vertices, 0 < znear < zfar.
        rasterize_size: height and width of the image; the integer part counts.
        use_opengl: which kind of context the attribute `ctx` holds after the first call; both draw the same.

    Attributes:
        ndc_proj: float32 [4, 4] on the CPU, clip = ndc_proj @ (x, -y, z, 1).
        ctx: None until the first call.
        rasterize_size, use_opengl: as given.

    Raises:
        TypeError, ValueError: an argument of a wrong type or out of range.

    Differences from upstream:
        * Depth is each item's own; upstream reads the first item's z for the whole batch.
        * Faces of their own for each item (tri [B, M, 3] or a list) work, and tri is not edited; upstream's path for
          them ends in a TypeError.
        * CPU tensors and float64 are served. Nothing is printed at the first call.
    """

    def __init__(
        self,
        rasterize_fov: float,
        znear: float = 0.1,
        zfar: float = 10,
        rasterize_size: float = 224,
        use_opengl: bool = True,
    ) -> None:
        super().__init__(rasterize_size, use_opengl)
        self.ndc_proj = _projection(type(self).__name__, rasterize_fov, znear, zfar)

    def forward(self, vertex: Tensor, tri: Faces, feat: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draws a batch.

        Args:
            vertex: [B, N, 3] in camera space, or [B, N, 4] homogeneous with y down already; float32 or float64.
            tri: [M, 3] integer vertex numbers for all items, or [B, M, 3], or a list of B tensors [M_i, 3].
            feat: [B, N, C] (or [1, N, C], [N, C]: shared) values at the vertices, in the dtype of vertex.

        Returns:
            ``(mask [B, 1, H, W], depth [B, 1, H, W], image [B, C, H, W] or None without feat)``, 0 at background. Depth
            is the interpolated z of vertex. Depth and image are once differentiable in vertex and feat, with
            visibility held fixed; the mask has no gradient.

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape or device, or a vertex number out of range.
        """
        return self._draw(type(self).__name__, self.ndc_proj, vertex, tri, feat)[:3]


class MeshRendererV3(MeshRenderer):
    """3DDFA-V3's ``util.nv_diffrast.MeshRenderer``: `MeshRenderer` with another default and a fourth output.

    Differences from upstream: those of `MeshRenderer`.
    """

    def __init__(
        self,
        rasterize_fov: float,
        znear: float = 0.1,
        zfar: float = 10,
        rasterize_size: float = 224,
        use_opengl: bool = False,
    ) -> None:
        super().__init__(rasterize_fov, znear, zfar, rasterize_size, use_opengl)

    def forward(  # type: ignore[override]
        self, vertex: Tensor, tri: Faces, feat: Tensor | None = None, visible_vertice: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """As `MeshRenderer.forward`, and with visible_vertice the vertices of the faces that are seen.

        Returns:
            ``(mask, depth, image, visible)``: visible is None, or int32 [K] ascending: numbers of the vertices of all
            faces seen in any image of the batch; where each item has its own faces, numbers in the vertices of the
            whole batch, item * N + vertex.
        """
        drawn = self._draw(type(self).__name__, self.ndc_proj, vertex, tri, feat)
        return *drawn[:3], _visible(drawn) if visible_vertice else None


class MeshRenderer_UV(_Renderer):
    """3DDFA-V3's ``util.nv_diffrast.MeshRenderer_UV``: draws in the plane, as into a texture.

    The vertices are in [-1, 1] already: x right, y up, z from near (-1) to far (1); what lies outside is cut off. Row 0
    is y = 1. ``state_dict`` is empty; `ctx` is None until the first call.

    Args:
        rasterize_size: height and width of the image.
        use_opengl: as for `MeshRenderer`.

    Differences from upstream: those of `MeshRenderer`.
    """

    def __init__(self, rasterize_size: float = 224, use_opengl: bool = False) -> None:
        super().__init__(rasterize_size, use_opengl)

    def forward(
        self, vertex: Tensor, tri: Faces, feat: Tensor | None = None, visible_vertice: bool = False
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """As `MeshRendererV3.forward`."""
        drawn = self._draw(type(self).__name__, None, vertex, tri, feat)
        return *drawn[:3], _visible(drawn) if visible_vertice else None


class MeshRenderer_cpu(MeshRendererV3):
    """3DDFA-V3's ``util.cpu_renderer.MeshRenderer_cpu``: what `MeshRendererV3` draws.

    Args: those of `MeshRendererV3` without use_opengl. Without feat the image is black, [B, 3, H, W].

    Differences from upstream:
        * Any batch size, any number of feature channels, any device, gradients to vertex and feat.
        * The first face belongs to the mask.
        * It draws what the GPU's twin draws: pixel centres at half steps and perspective-correct attributes; upstream's
          CPU code takes pixel centres at integers, half a pixel off its own GPU code, and affine attributes.
        * znear and zfar cut off.
    """

    def __init__(self, rasterize_fov: float, znear: float = 0.1, zfar: float = 10, rasterize_size: float = 224) -> None:
        super().__init__(rasterize_fov, znear, zfar, rasterize_size)

    def forward(  # type: ignore[override]
        self, vertex: Tensor, tri: Faces, feat: Tensor | None = None, visible_vertice: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """As `MeshRendererV3.forward`, with a black image when there is no feat."""
        return _with_image(*super().forward(vertex, tri, feat, visible_vertice))


class MeshRenderer_UV_cpu(MeshRenderer_UV):
    """3DDFA-V3's ``util.cpu_renderer.MeshRenderer_UV_cpu``: what `MeshRenderer_UV` draws.

    Differences from upstream: those of `MeshRenderer_cpu`, and vertex is not edited (upstream negates its y in place).
    """

    def __init__(self, rasterize_size: float = 224) -> None:
        super().__init__(rasterize_size)

    def forward(  # type: ignore[override]
        self, vertex: Tensor, tri: Faces, feat: Tensor | None = None, visible_vertice: bool = False
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """As `MeshRenderer_UV.forward`, with a black image when there is no feat."""
        return _with_image(*super().forward(vertex, tri, feat, visible_vertice))


def _projection(op: str, fov: float, near: float, far: float) -> Tensor:
    fov, near = _checks.positive(op, "rasterize_fov", fov), _checks.positive(op, "znear", near)
    far = _checks.positive(op, "zfar", far)
    if fov >= 180:
        _checks.fail(ValueError, op, "rasterize_fov", "below 180 degrees", repr(fov))
    if far <= near:
        _checks.fail(ValueError, op, "zfar", f"beyond znear ({near})", repr(far))
    s = 1 / math.tan(math.radians(fov) / 2)
    rows = [[s, 0, 0, 0], [0, s, 0, 0], [0, 0, (far + near) / (far - near), -2 * far * near / (far - near)]]
    return torch.tensor([*rows, [0, 0, 1, 0]], dtype=torch.float32)


def _joined(op: str, tri: Faces, B: int, N: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """One face tensor for the vertices of all items, and each item's range in it."""
    if not isinstance(tri, (Tensor, list, tuple)):
        _checks.fail(TypeError, op, "tri", "a tensor or a list of tensors", type(tri).__name__)
    if len(tri) != B:
        _checks.fail(ValueError, op, "tri", f"of {B} items as vertex", str(len(tri)))
    parts, ranges, first = [], [], 0
    for b, faces in enumerate(tri):
        _checks.tensor(op, "tri", faces)
        if faces.dtype not in _INTEGERS:
            _checks.fail(TypeError, op, "tri", "of integers", str(faces.dtype).removeprefix("torch."))
        _checks.shape(op, "tri", faces, (-1, 3))
        _checks.on(op, "tri", faces.device, "vertex", device)
        if faces.numel() and not 0 <= int(faces.min()) <= int(faces.max()) < N:
            _checks.fail(ValueError, op, "tri", f"in [0, {N})", f"{int(faces.min())}..{int(faces.max())}")
        parts.append(faces.long() + b * N)
        ranges.append([first, len(faces)])
        first += len(faces)
    parts.append(torch.zeros(0, 3, dtype=torch.int64, device=device))
    return torch.cat(parts).int(), torch.tensor(ranges, dtype=torch.int32).view(-1, 2)


def _visible(drawn: _Drawn) -> Tensor:
    faces = drawn.faces.unique().long()
    return drawn.tri[faces[faces >= 0]].int().unique()


def _with_image(
    mask: Tensor, depth: Tensor, image: Tensor | None, visible: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    return mask, depth, mask.new_zeros(len(mask), 3, *mask.shape[2:]) if image is None else image, visible
