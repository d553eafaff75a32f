"""Peers that need a GPU. As in peers.py: measured where they import, after they drew the picture that we draw."""

from functools import partial

import torch
from torch import Tensor

from .peers import Peer, colors_of
from .shapes import SIZE, Scene


class Nvdiffrast:
    """nvdiffrast's CUDA rasterizer and its interpolation, on vertices that are already projected and coloured.

    Pixel centres are on halves there as here; its first row is at y = -1, so y needs no turning; it culls nothing.
    Without `antialias`, which has no counterpart in `render_sh`.
    """

    def __init__(self, scene: Scene) -> None:
        import nvdiffrast.torch as dr

        self.dr = dr
        self.context = dr.RasterizeCudaContext(device=scene.vertices.device)
        self.faces = scene.topology.faces.int().contiguous()
        self.positions = clip_positions(scene.camera.project(scene.vertices)).contiguous()
        self.colors = colors_of(scene).contiguous()

    def draw(self, positions: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
        """Image [B, H, W, 3] and rast [B, H, W, 4]: weights of two corners, z / w, face + 1."""
        rast, _ = self.dr.rasterize(self.context, positions, self.faces, resolution=list(SIZE), grad_db=False)
        return self.dr.interpolate(colors, rast, self.faces)[0], rast

    def forward(self) -> Peer:
        return Peer(len(self.positions), lambda: partial(self.draw, self.positions, self.colors))

    def both(self, grads: Tensor) -> Peer:
        """Forward and backward; `grads` [B, 3, H, W]."""
        leaves = [x.clone().requires_grad_() for x in (self.positions, self.colors)]
        seed = grads.permute(0, 2, 3, 1).contiguous()
        return Peer(len(self.positions), lambda: lambda: torch.autograd.grad(self.draw(*leaves)[0], leaves, seed))

    def check(self, scene: Scene) -> None:
        """The faces of the first image are those of ours, but at edges, and there the colours are the same."""
        one = scene.part(slice(0, 1), scene.vertices.device)
        ours = one.render(cull=None)
        image, rast = self.draw(self.positions[:1], self.colors[:1])
        same = rast[..., 3].int() - 1 == ours.raster.face_index
        assert same.double().mean() > 0.99, f"nvdiffrast shows other faces: {same.double().mean():.4f} agree"
        off = (image.permute(0, 3, 1, 2) - ours.image).detach().abs().amax(1)[same]
        assert off.quantile(0.99) < 1e-3, f"nvdiffrast draws another picture: {off.max()}"


def clip_positions(positions: Tensor) -> Tensor:
    """Pixels and depth [B, V, 3] as clip coordinates [B, V, 4], with w = depth, between planes around the mesh."""
    H, W = SIZE
    x, y, depth = positions.unbind(-1)
    # for each image by itself, so that its numbers do not depend on the batch
    near, far = 0.9 * depth.amin(1, keepdim=True), 1.1 * depth.amax(1, keepdim=True)
    z = ((far + near) * depth - 2 * far * near) / (far - near)
    return torch.stack([(2 * x / W - 1) * depth, (2 * y / H - 1) * depth, z, depth], -1)


def nvdiffrast(scene: Scene) -> Nvdiffrast:
    """The peer, after its picture was compared with ours."""
    peer = Nvdiffrast(scene)
    peer.check(scene)
    return peer
