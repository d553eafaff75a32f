"""What the benchmarks run on: meshes of the size of real face models, and batches whose images all differ.

One pose repeated reads up to twice too fast: the branch predictors learn the picture and everything sits in the cache.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

import focus_kernels as fk

SIZE = (224, 224)
MESHES = ("53k", "28k", "10k")
BATCHES = (1, 12, 32)
ALL = [(mesh, batch) for mesh in MESHES for batch in BATCHES]
FEW = [("53k", 32), ("28k", 12), ("10k", 12)]
SCALING = [*FEW, ("53k", 1)]
MAIN = [("53k", 32)]
SMALL = [("10k", 12)]
LARGEST = max(BATCHES)

_GRIDS = {"53k": 231, "28k": 168}
_FOCAL = 9.06 * SIZE[1] / 2  # the FOCUS camera, in pixels


@dataclass(frozen=True)
class Scene:
    """Inputs of the ops, float32: vertices, albedo [B, V, 3], sh_coeffs [B, 3, 9], K, R [B, 3, 3], t [B, 3]."""

    mesh: str
    topology: fk.Topology
    vertices: Tensor
    albedo: Tensor
    sh_coeffs: Tensor
    K: Tensor
    R: Tensor
    t: Tensor

    @property
    def batch(self) -> int:
        return len(self.vertices)

    @property
    def camera(self) -> fk.Camera:
        return fk.Camera(self.K, self.R, self.t)

    def inputs(self) -> dict[str, Tensor]:
        """What `render_sh` is differentiable in."""
        return {name: getattr(self, name) for name in ("vertices", "albedo", "sh_coeffs", "K", "R", "t")}

    def part(self, images: slice, device: str = "cpu") -> "Scene":
        """Some of the images, copied to a place of their own."""
        inputs = {name: value[images].to(device, copy=True) for name, value in self.inputs().items()}
        return Scene(self.mesh, self.topology.to(device), **inputs)

    def render(self, size: tuple[int, int] = SIZE, **options) -> fk.Render:
        return fk.render_sh(self.vertices, self.albedo, self.sh_coeffs, self.topology, self.camera, size, **options)


@lru_cache(maxsize=len(MESHES))
def scene(mesh: str) -> Scene:
    """All 32 images, on the CPU."""
    g = torch.Generator().manual_seed(len(mesh))
    vertices, albedo, topology = _face_model(g) if mesh == "10k" else _ellipsoids(_GRIDS[mesh], g)
    sh_coeffs = 0.15 * torch.randn(LARGEST, 3, 9, generator=g)
    sh_coeffs[..., 0] += 3
    return Scene(mesh, topology, vertices.contiguous(), albedo.contiguous(), sh_coeffs, *_poses(g))


def turns(mesh: str, batch: int, device: str) -> list[Scene]:
    """Batches to go through in turn, so that no call finds its inputs in the cache.

    On the CPU a batch of one takes twelve images in turn. On a GPU the copies are together twice as large as its L2.
    """
    whole = scene(mesh)
    parts = [whole.part(slice(b, b + batch), device) for b in range(BATCHES[1] if batch == 1 else 1)]
    if device == "cuda":
        per_turn = 4 * sum(x.numel() for x in parts[0].inputs().values())
        least = 2 * torch.cuda.get_device_properties(0).L2_cache_size // per_turn + 1
        parts += [parts[k].part(slice(None), device) for k in range(least - len(parts))]
    return parts


def ndc(scene: Scene) -> Tensor:
    """The vertices [B, V, 3] in PyTorch3D's frame: x left, y up, from -1 to 1."""
    positions, half = scene.camera.project(scene.vertices), SIZE[0] / 2
    return torch.stack([1 - positions[..., 0] / half, 1 - positions[..., 1] / half, positions[..., 2]], -1)


def cotangent(batch: int, *shape: int) -> Tensor:
    """A gradient for an output [B, *shape], the same for an image whatever the batch."""
    draw = lambda b: torch.randn(shape, generator=torch.Generator().manual_seed(b))
    return torch.stack([draw(b) for b in range(batch)])


def _poses(g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """K, R [B, 3, 3] and t [B, 3]: heads turned like those of photographs, a metre away."""
    x, y, z = (torch.randn(LARGEST, 3, generator=g) * torch.tensor([0.2, 0.4, 0.1])).unbind(1)
    o = torch.zeros_like(x)
    turn = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).view(-1, 3, 3)
    R = torch.diag(torch.tensor([1.0, -1, -1])) @ torch.linalg.matrix_exp(turn)
    t = torch.tensor([0.0, 0, 1000]) + torch.randn(LARGEST, 3, generator=g) * torch.tensor([3.0, 3, 20])
    H, W = SIZE
    K = torch.tensor([[_FOCAL, 0, W / 2], [0, _FOCAL, H / 2], [0, 0, 1]])
    return K.repeat(LARGEST, 1, 1), R.contiguous(), t


def _ellipsoids(n: int, g: torch.Generator) -> tuple[Tensor, Tensor, fk.Topology]:
    """A smooth face-like half ellipsoid of n*n vertices, a little different in each image: a stand-in for BFM.

    Seen from these poses it covers pixels as the mesh does whose statistics are in docs/benchmarks.md.
    """
    u = torch.linspace(-1, 1, n, dtype=torch.float64)
    y, x = torch.meshgrid(u, u, indexing="ij")
    x, y = x * (1 - y * y / 2).sqrt(), y * (1 - x * x / 2).sqrt()  # the square becomes a disc
    r = torch.hypot(x, y).clamp(min=1e-9)
    polar = 1.62 * r  # a little more than half, as the ears of a face are
    s = polar.sin() / r
    z = polar.cos()
    nose = torch.exp(-(x**2 + (y - 0.08) ** 2) / 0.02)
    eyes = torch.exp(-((x.abs() - 0.3) ** 2) / 0.02 - (y + 0.2) ** 2 / 0.01)
    relief = 14 * nose - 4 * eyes  # mm
    base = torch.stack([78 * x * s, -108 * y * s, 80 * z - 20 + relief], -1).view(-1, 3)
    waves = [torch.cos(math.pi * (i * x + k * y) + i - k) for i in range(3) for k in range(3)]
    field = torch.stack(waves, -1).view(-1, 9)  # [V, 9]
    smooth = lambda: torch.einsum("vw,bwc->bvc", field, torch.randn(LARGEST, 9, 3, generator=g, dtype=torch.float64))
    vertices = base + smooth()  # mm
    albedo = 0.5 + 0.05 * smooth()
    i = torch.arange(n - 1)[:, None] * n + torch.arange(n - 1)
    a, b, c, d = i, i + 1, i + n, i + n + 1
    faces = torch.stack([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)], 2).view(-1, 3)
    return vertices.float(), albedo.clamp(0.05, 0.95).float(), fk.Topology(faces, n * n)


def _face_model(g: torch.Generator) -> tuple[Tensor, Tensor, fk.Topology]:
    """Random people of the free face model at 10k vertices."""
    from focus import FaceModel

    model = FaceModel.load(level=1)
    draw = lambda basis: torch.randn(LARGEST, len(basis), generator=g)
    with torch.no_grad():
        vertices = model.shape(0.7 * draw(model.identity_basis), 0.5 * draw(model.expression_basis))
        albedo = model.albedo(0.7 * draw(model.albedo_basis)).clamp(0.02, 0.98)
    return vertices, albedo, model.topology
