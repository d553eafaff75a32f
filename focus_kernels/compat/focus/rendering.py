"""The FOCUS authors' ``renderer.rendering``: shades vertices, and samples or renders images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ... import Raster, Topology, _checks, interpolate, rasterize, shade_sh, vertex_normals
from .._topologies import TopologyCache
from .geometry import incident_faces, project

SAMPLE_IMAGE = 0
RASTERIZE_IMAGE = 1
RASTERIZE_DIFFERENTIABLE_IMAGE = 2


class Renderer(nn.Module):
    """Spherical-harmonics renderer with the interface of the FOCUS authors' ``Renderer``.

    Pixel centres are at integer coordinates here, as upstream: ``x = column``, ``y = row``. The camera is x right, y
    down, z forward; ``projected`` is ``A (R v + T)`` divided by its third row. A pixel belongs to the nearest front
    face that contains it or has it on an edge (the lowest face index on a tie), and is coloured with affine
    (screen-space) barycentrics. Vertex normals are the area-weighted mean of the face normals, not renormalised, and
    enter the harmonics through the authors' angle arithmetic (``shade_sh(..., convention="focus")``).

    The module has no parameters, no buffers and an empty ``state_dict``. Attributes, None until first used:
    ``vertex_to_face`` int64 [max valence, N] (incident faces, padded with -1), ``raster_net``, ``diff_raster_net`` and
    ``ocl_net`` (the rasterizers of the three modes).

    Args:
        block_size: accepted and kept; the kernels need no blocks.

    Differences from upstream, all of them repairs:
        * Blocks: upstream drops the last 32 rows or columns when the largest coordinate truncates to a multiple of
          ``block_size``; here they are drawn.
        * Background: upstream reads face 0 there and multiplies by 0, so a degenerate first face turns the whole
          background and all gradients into NaN; here background is exact zero, and degenerate, not finite or
          behind-camera faces are dropped with zero gradient.
        * Cache: upstream keeps the first call's faces and image size for ever; here the tables follow ``face``, also
          when it is edited in place, and any image size is served.
        * ``occlusion_th`` is honoured; upstream ignores it and always uses 5.
        * ``SAMPLE_IMAGE`` samples at the projected pixel; upstream passes ``align_corners=True`` coordinates to
          ``grid_sample``'s default ``align_corners=False`` and so samples up to half a pixel away.
        * Gradients stay finite: upstream has an infinite one at nz = -1 and drops the x part at nx = 0.
        * An unknown ``render_mode`` is an error; upstream answers with four None.
        * float64 works throughout; ``R``, ``T`` may have batch 1 like ``A``.
        * autocast does not reach the projection; upstream's matrix products lose their digits in it.

    Faces are culled by their signed area in the image. Upstream culls by the normal in the model frame, which is the
    same for every camera that does not mirror (det(A R) > 0).
    """

    def __init__(self, block_size: int = 32) -> None:
        super().__init__()
        self.block_size = block_size
        self.ocl_net: OcclusionDetector | None = None
        self.raster_net: Rasterizer | None = None
        self.diff_raster_net: DifferentiableRasterizer | None = None
        self.vertex_to_face: Tensor | None = None
        self._topologies = TopologyCache()
        self._topology: Topology | None = None  # the last call's

    def forward(
        self,
        face: Tensor,
        vertex: Tensor,
        color: Tensor,
        sh_coef: Tensor,
        A: Tensor,
        R: Tensor,
        T: Tensor,
        image: Tensor,
        render_mode: int = SAMPLE_IMAGE,
        self_occlusion: bool = False,
        occlusion_th: float = 5,
        rotate_normal: bool = True,
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Shade the vertices and, by ``render_mode``, sample an image at them or render them.

        Args:
            face: [3, F] integer vertex indices, counter-clockwise seen from outside.
            vertex: [B, 3, N] model-frame positions (mm), float32 or float64; every float below has its dtype.
            color: [B, 3, N] albedo.
            sh_coef: [B, 27], nine coefficients for red, then green, then blue.
            A: [1|B, 3, 3] intrinsics for integer pixel centres (principal point (W - 1) / 2).
            R: [1|B, 3, 3], T: [1|B, 3, 1], camera = R v + T.
            image: [B, C, H, W]; sampled in ``SAMPLE_IMAGE``, else only its size is used.
            render_mode: ``SAMPLE_IMAGE``, ``RASTERIZE_IMAGE`` (no gradient) or ``RASTERIZE_DIFFERENTIABLE_IMAGE``.
            self_occlusion: in ``SAMPLE_IMAGE``, test the vertices against a depth map instead of by their normals.
            occlusion_th: a vertex is visible when its depth is nearer than this (mm) to the map at its four pixels.
            rotate_normal: shade with normals in the camera frame (True) or in the model frame.

        Returns:
            ``(projected_vertex [B, 3, N] (px, px, mm), sampled_color [B, C, N], shaded_color [B, 3, N],
            occlusion [B, N] (1 = visible), raster_image [B, 3, H, W], raster_mask [B, H, W])``. ``SAMPLE_IMAGE`` fills
            ``sampled_color`` and ``occlusion``, the others ``raster_image`` (black outside) and ``raster_mask``; what a
            mode does not fill is None. ``occlusion`` and ``raster_mask`` are floats without gradient. The image is
            differentiable in ``vertex``, ``color``, ``sh_coef``, ``A``, ``R`` and ``T``, with visibility held fixed.

        Raises:
            TypeError, ValueError: an argument has the wrong type, dtype, shape, device or range.
        """
        vertex, color, sh_coef, A, R, T, image = _checked(render_mode, face, vertex, color, sh_coef, A, R, T, image)
        height, width = image.shape[2:]
        topology = self._topologies.look_up(face.t(), vertex.shape[2])
        changed = topology is not self._topology
        if changed:
            self._topology, self.vertex_to_face = topology, incident_faces(topology)

        with torch.autocast(vertex.device.type, enabled=False):
            # upstream's layout is [B, 3, N], ours [B, N, 3]
            normals = vertex_normals(vertex.transpose(1, 2), topology, normalize=False)
            rotated = normals @ R.transpose(1, 2)
            projected = project(A, R, T, vertex)
            shaded = shade_sh(
                rotated if rotate_normal else normals,
                color.transpose(1, 2),
                sh_coef.reshape(-1, 3, 9),
                convention="focus",
            ).transpose(1, 2)

        sampled_color = occlusion = raster_image = raster_mask = None
        if render_mode == SAMPLE_IMAGE:
            sampled_color = _sample(image, projected)
            if self_occlusion:
                if changed or self.ocl_net is None or self.ocl_net.size != (height, width):
                    self.ocl_net = OcclusionDetector(topology, height, width)
                occlusion = self.ocl_net(projected, occlusion_th)
            else:
                occlusion = (rotated[..., 2] < 0).to(vertex.dtype)
        elif render_mode == RASTERIZE_IMAGE:
            if changed or self.raster_net is None or self.raster_net.size != (height, width):
                self.raster_net = Rasterizer(topology, height, width)
            raster_image, raster_mask = self.raster_net(projected, shaded)
        else:
            if changed or self.diff_raster_net is None or self.diff_raster_net.size != (height, width):
                self.diff_raster_net = DifferentiableRasterizer(topology, height, width)
            raster_image, raster_mask = self.diff_raster_net(projected, shaded)
        return projected, sampled_color, shaded, occlusion, raster_image, raster_mask


class _MeshRasterizer(nn.Module):
    """Rasterizes [B, 3, N] vertices in integer-centred pixels by upstream's rules."""

    def __init__(self, topology: Topology, height: int, width: int) -> None:
        super().__init__()
        self.topology = topology
        self.size = (height, width)

    def _rasterize(self, projected: Tensor) -> Raster:
        positions = (projected + projected.new_tensor([[0.5], [0.5], [0.0]])).transpose(1, 2)
        return rasterize(
            positions,
            self.topology,
            self.size,
            coverage="inclusive",
            cull="back",
            perspective_correct=False,
            tie="lowest",
        )


class DifferentiableRasterizer(_MeshRasterizer):
    """``(projected [B, 3, N], color [B, C, N]) -> (image [B, C, H, W], mask [B, H, W])``, differentiable image."""

    def forward(self, projected: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
        raster = self._rasterize(projected)
        image = interpolate(color.transpose(1, 2), raster, self.topology)
        return image, (raster.face_index >= 0).to(image.dtype)


class Rasterizer(DifferentiableRasterizer):
    """``DifferentiableRasterizer`` without gradients."""

    def forward(self, projected: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return super().forward(projected, color)


class OcclusionDetector(_MeshRasterizer):
    """``(projected [B, 3, N], threshold) -> visibility [B, N]``: 1 where the depth map agrees at all four pixels."""

    def forward(self, projected: Tensor, occlusion_th: float = 5) -> Tensor:
        height, width = self.size
        with torch.no_grad():
            raster = self._rasterize(projected)
            depth_map = torch.where(raster.face_index >= 0, raster.depth, torch.inf).flatten(1)  # [B, H*W]
            x, y, z = projected.unbind(1)  # [B, N]
            visible = (x.floor() >= 0) & (x.ceil() <= width - 1) & (y.floor() >= 0) & (y.ceil() <= height - 1)
            x, y = torch.where(visible, x, 0.0), torch.where(visible, y, 0.0)
            for row in (y.floor(), y.ceil()):
                for column in (x.floor(), x.ceil()):
                    pixel = row.long() * width + column.long()
                    visible = visible & ((z - depth_map.gather(1, pixel)).abs() < occlusion_th)
            return visible.to(projected.dtype)


def _sample(image: Tensor, projected: Tensor) -> Tensor:
    """Bilinear samples [B, C, N] of ``image`` at integer-centred pixels, 0 outside."""
    height, width = image.shape[2:]
    scale = projected.new_tensor([[2.0 / width], [2.0 / height]])
    grid = (projected[:, :2] + 0.5) * scale - 1.0  # corners of the image at -1 and 1
    return nn.functional.grid_sample(image, grid.transpose(1, 2).unsqueeze(1), align_corners=False).squeeze(2)


def _checked(render_mode, face, vertex, color, sh_coef, A, R, T, image) -> list[Tensor]:
    """vertex, color, sh_coef, A, R, T and image, checked; image is a float like vertex only where it is sampled."""
    if render_mode not in (SAMPLE_IMAGE, RASTERIZE_IMAGE, RASTERIZE_DIFFERENTIABLE_IMAGE):
        _checks.fail(ValueError, "Renderer", "render_mode", "0, 1 or 2", repr(render_mode))
    floats = {"vertex": vertex, "color": color, "sh_coef": sh_coef, "A": A, "R": R, "T": T}
    if render_mode == SAMPLE_IMAGE:
        floats["image"] = image
    checked = _checks.floats("Renderer", **floats)
    vertex = checked[0]
    _checks.shape("Renderer", "vertex", vertex, (-1, 3, -1))
    batch, _, count = vertex.shape
    _checks.tensor("Renderer", "face", face)
    _checks.shape("Renderer", "face", face, (3, -1))
    _checks.on("Renderer", "face", face.device, "vertex", vertex.device)
    _checks.shape("Renderer", "color", color, (batch, 3, count))
    _checks.shape("Renderer", "sh_coef", sh_coef, (batch, 27))
    for name, value, columns in (("A", A, 3), ("R", R, 3), ("T", T, 1)):
        if tuple(value.shape) not in ((1, 3, columns), (batch, 3, columns)):
            _checks.fail(ValueError, "Renderer", name, f"shape [1|{batch}, 3, {columns}]", str(list(value.shape)))
    _checks.tensor("Renderer", "image", image)
    _checks.shape("Renderer", "image", image, (batch, -1, -1, -1))
    return [*checked[:6], checked[-1] if render_mode == SAMPLE_IMAGE else image]
