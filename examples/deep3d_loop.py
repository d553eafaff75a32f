"""A training loop in the manner of Deep3DFaceRecon_pytorch, on the CPU or a GPU, with nothing but free parts.

Upstream's loop needs nvdiffrast, a GPU and the Basel Face Model. This one has upstream's compute order (a network gives
coefficients, a linear face model gives vertices, colours and landmarks, `MeshRenderer` draws them, losses compare),
with the renderer of `focus_kernels.compat.deep3d` and the face model that comes with `focus`. The "photos" are faces
that it drew itself. It takes some seconds:

    python examples/deep3d_loop.py
"""

import math

import torch
from torch import Tensor, nn

from focus import FaceModel
from focus_kernels import shade_sh, vertex_normals
from focus_kernels.compat.deep3d import MeshRenderer  # upstream: from util.nvdiffrast import MeshRenderer

SIZE = 64  # pixels; upstream's is 224
FOCAL = 1015.0 * SIZE / 224
CAMERA_DISTANCE = 10.0  # in units of 100 mm, as upstream
PARTS = {"id": 20, "exp": 10, "tex": 20, "angle": 3, "gamma": 27, "trans": 3}
WEIGHTS = {"color": 2.0, "lm": 20.0, "reg": 1e-4}


def split_coeff(coeffs: Tensor) -> dict[str, Tensor]:
    """Coefficients [B, 83] as a dict of their parts."""
    return dict(zip(PARTS, coeffs.split(list(PARTS.values()), 1), strict=True))


def rotation(angles: Tensor) -> Tensor:
    """Rz Ry Rx [B, 3, 3] of angles [B, 3] in radians."""
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(1), angles.cos().unbind(1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


class ParametricFaceModel:
    """Upstream's `ParametricFaceModel`, on the free face model."""

    def __init__(self, device: torch.device) -> None:
        counts = (PARTS["id"], PARTS["exp"], PARTS["tex"])
        self.model = FaceModel.load(level=0, components=counts).to(device)
        self.face_buf = self.model.topology.faces
        self.init_light = torch.zeros(3, 9, device=device)
        self.init_light[:, 0] = 3.0

    def compute_for_render(self, coeffs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Vertices in camera space [B, N, 3], their colours [B, N, 3] and landmarks [B, 68, 2] in pixels."""
        parts = split_coeff(coeffs)
        shape = self.model.shape(parts["id"], parts["exp"]) / 100
        turn = rotation(parts["angle"]).transpose(1, 2)
        vertex = shape @ turn + parts["trans"][:, None]
        x, y, z = vertex.unbind(2)
        vertex = torch.stack([x, y, CAMERA_DISTANCE - z], 2)  # x right, y up, z forward

        normals = vertex_normals(shape, self.model.topology) @ turn
        light = parts["gamma"].view(-1, 3, 9) + self.init_light
        color = shade_sh(normals, self.model.albedo(parts["tex"]), light)

        lm = vertex[:, self.model.landmarks]
        lm = SIZE / 2 + FOCAL * lm[..., :2] * lm.new_tensor([1.0, -1.0]) / lm[..., 2:]
        return vertex, color, lm


class FaceReconModel:
    """Upstream's `FaceReconModel`: a network, the face model and the renderer."""

    def __init__(self, device: torch.device) -> None:
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        last = nn.Linear(64 * (SIZE // 8) ** 2, sum(PARTS.values()))
        nn.init.zeros_(last.weight)  # begins with the mean face
        nn.init.zeros_(last.bias)
        self.net_recon = nn.Sequential(*layers, nn.Flatten(), last).to(device)
        self.facemodel = ParametricFaceModel(device)
        fov = 2 * math.degrees(math.atan(SIZE / 2 / FOCAL))
        self.renderer = MeshRenderer(rasterize_fov=fov, znear=5, zfar=15, rasterize_size=SIZE).to(device)
        self.optimizer = torch.optim.Adam(self.net_recon.parameters(), lr=5e-4)

    def draw(self, coeffs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mask [B, 1, H, W], face [B, 3, H, W] and landmarks [B, 68, 2] of coefficients [B, 83]."""
        vertex, color, lm = self.facemodel.compute_for_render(coeffs)
        mask, _, face = self.renderer(vertex, self.facemodel.face_buf, feat=color)
        return mask, face, lm

    def compute_losses(self, photo: Tensor, photo_lm: Tensor) -> Tensor:
        coeffs = self.net_recon(photo)
        mask, face, lm = self.draw(coeffs)
        distance = ((face - photo).square().sum(1, keepdim=True) + 1e-8).sqrt()
        loss_color = (distance * mask).sum() / mask.sum().clamp(min=1)
        loss_lm = ((lm - photo_lm) / SIZE).square().sum(2).mean()
        parts = split_coeff(coeffs)
        loss_reg = sum(parts[name].square().sum(1).mean() for name in ("id", "exp", "tex"))
        return WEIGHTS["color"] * loss_color + WEIGHTS["lm"] * loss_lm + WEIGHTS["reg"] * loss_reg

    def optimize_parameters(self, photo: Tensor, photo_lm: Tensor) -> float:
        loss = self.compute_losses(photo, photo_lm)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def synthetic_photos(model: FaceReconModel, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random faces [count, 3, H, W] on grey, and their landmarks [count, 68, 2]."""
    spread = {"id": 1.0, "exp": 0.5, "tex": 1.0, "angle": 0.15, "gamma": 0.3, "trans": 0.1}
    draws = [scale * torch.randn(count, PARTS[name], generator=generator) for name, scale in spread.items()]
    with torch.no_grad():
        mask, face, lm = model.draw(torch.cat(draws, 1).to(model.facemodel.face_buf.device))
    return torch.where(mask > 0, face, 0.5), lm


def main(steps: int = 150, count: int = 16, batch: int = 8, device: str | None = None) -> list[float]:
    """Trains, prints the loss and returns it for every step."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = FaceReconModel(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    photos, photo_lm = synthetic_photos(model, count, generator)
    losses = []
    for step in range(steps):
        chosen = torch.randperm(count, generator=generator)[:batch].to(photos.device)
        losses.append(model.optimize_parameters(photos[chosen], photo_lm[chosen]))
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step:4d}   loss {losses[-1]:.4f}")
    tenth = max(steps // 10, 1)
    first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
    assert last < 0.7 * first, f"expected the loss to fall, got {first:.4f} to {last:.4f}"
    return losses


if __name__ == "__main__":
    main()
