"""One entry per op and mode: differentiable inputs and a call. What holds for every op is tested over this table."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import torch
from meshes import generator, scene, soup, sphere, to_clip, to_ndc, topology
from neighbors import AUTHORS_NEIGHBOR, neighbor_margin
from tolerances import margin
from torch import Tensor

import focus_kernels as fk
from focus_kernels.ops.rasterize_clip import ref as clip_ref


@dataclass(frozen=True)
class Case:
    """`call(mesh, **inputs)` gives the differentiable outputs; `inputs` are float64 on the CPU, batch first."""

    name: str
    op: str
    faces: Tensor
    num_vertices: int
    inputs: dict[str, Tensor]
    call: Callable[..., tuple[Tensor, ...]]
    unbatched: tuple[str, ...] = ()  # inputs that all images share
    reduced: bool = False  # the outputs are numbers, not batches
    half: bool = False  # takes half precision as it is; outputs are float32 then

    def __str__(self) -> str:
        return self.name

    def on(self, device: str) -> Callable[..., tuple[Tensor, ...]]:
        """The call with its topology made, once, outside of whatever compiles or fakes the call."""
        return partial(self.call, topology(self.faces, self.num_vertices, device))


def _rand(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def _fan() -> Tensor:
    """Faces around a few vertices, a degenerate one, and vertex 7 in none."""
    return torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 4], [4, 5, 6], [2, 6, 5], [1, 1, 6], [3, 8, 5]])


def _vertex_normals(normalize: bool) -> Case:
    def call(mesh, vertices):
        return (fk.vertex_normals(vertices, mesh, normalize=normalize),)

    name = "vertex_normals-" + ("unit" if normalize else "mean")
    return Case(name, "vertex_normals", _fan(), 9, {"vertices": _rand(0, 3, 9, 3)}, call)


def _shade_sh(convention: str) -> Case:
    def call(_, normals, albedo, sh_coeffs):
        return (fk.shade_sh(normals, albedo, sh_coeffs, convention=convention),)

    # Lengths of 0.9, as mean normals have: |z| < 1 keeps "focus" differentiable.
    normals = 0.9 * torch.nn.functional.normalize(_rand(1, 3, 11, 3), dim=-1)
    inputs = {"normals": normals, "albedo": _rand(2, 3, 11, 3), "sh_coeffs": _rand(3, 3, 3, 9)}
    return Case(f"shade_sh-{convention}", "shade_sh", _fan(), 9, inputs, call)


def _rasterize(perspective: bool, seed: int) -> Case:
    size = (7, 9)

    def call(mesh, positions):
        raster = fk.rasterize(positions, mesh, size, cull=None, perspective_correct=perspective)
        return raster.barycentrics, raster.depth

    positions, faces = soup(seed, 3, 5, size, scale=0.9)
    assert margin(positions, faces, size) > 1e-4  # finite differences must not change what is seen
    name = "rasterize-" + ("perspective" if perspective else "affine")
    return Case(name, "rasterize", faces, 15, {"positions": positions}, call)


def _rasterize_clip(name: str, derivatives: bool, seed: int, scale: float) -> Case:
    size = (7, 9)

    def call(mesh, positions):
        raster = fk.rasterize_clip(positions, mesh, size, derivatives=derivatives)
        return (raster.barycentrics, raster.derivatives) if derivatives else (raster.barycentrics,)

    positions, faces = soup(seed, 3, 6, size, scale)
    # As above: finite differences must not change what corners are rounded to.
    assert ((positions[..., :2] * 16).frac().abs() - 0.5).abs().min() > 1e-4
    positions = to_clip(positions, size)
    # Nor are weights that are clamped what their gradient says.
    index, weights = clip_ref.forward(positions, faces.int(), *size, None, None, False)[:2]
    weights = weights[index >= 0]
    assert weights.min() > 1e-4 and weights.sum(-1).max() < 1 - 1e-4
    return Case(f"rasterize_clip-{name}", "rasterize_clip", faces, 18, {"positions": positions}, call)


def _rasterize_ndc(name: str, seed: int, **options) -> Case:
    size = (7, 9)

    def call(mesh, positions):
        return tuple(fk.rasterize_ndc(positions, mesh, size, **options)[1:])

    positions, faces = soup(seed, 3, 5, size, scale=0.9)
    assert margin(positions, faces, size) > 1e-4  # as above
    return Case(f"rasterize_ndc-{name}", "rasterize_ndc", faces, 15, {"positions": to_ndc(positions, size)}, call)


def _interpolate() -> Case:
    # Each image has the same ids, so that the case can be split; the attributes and weights differ.
    face_index = torch.randint(-1, len(_fan()), (1, 4, 6), generator=generator(5), dtype=torch.int32)

    def call(mesh, attributes, barycentrics):
        index = face_index.to(mesh.device).expand(len(attributes), -1, -1)
        raster = fk.Raster(index, barycentrics, torch.zeros_like(barycentrics[..., 0]))
        return (fk.interpolate(attributes, raster, mesh),)

    inputs = {"attributes": _rand(6, 3, 9, 5), "barycentrics": _rand(7, 3, 4, 6, 3)}
    return Case("interpolate", "interpolate", _fan(), 9, inputs, call)


def _render_sh(name: str, orthographic: bool = False, **options) -> Case:
    size = (8, 7)

    def call(mesh, vertices, albedo, sh_coeffs, K, R, t):
        camera = fk.Camera(K, R, t, orthographic=orthographic)
        render = fk.render_sh(vertices, albedo, sh_coeffs, mesh, camera, size, **options)
        return render.image, render.raster.barycentrics, render.raster.depth, render.positions

    inputs = scene(11, 3, 3, size, orthographic)
    faces = inputs.pop("faces")
    positions = fk.Camera(inputs["K"], inputs["R"], inputs["t"], orthographic=orthographic).project(inputs["vertices"])
    assert margin(positions, faces, size) > 1e-4  # as above
    return Case(f"render_sh-{name}", "render_sh", faces, inputs["vertices"].shape[1], inputs, call)


def _antialias(name: str, positions: Tensor, faces: Tensor, size: tuple[int, int]) -> Case:
    def call(mesh, image, positions):
        raster = fk.rasterize(positions.detach().double(), mesh, size, cull=None)
        return (fk.antialias(image, raster._replace(depth=raster.depth.to(image.dtype)), positions, mesh),)

    assert margin(positions, faces, size) > 1e-4  # as above
    inputs = {"image": _rand(12, 3, 2, *size), "positions": positions}
    return Case(f"antialias-{name}", "antialias", faces, positions.shape[1], inputs, call)


def _ball(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Bumpy balls of three sizes."""
    vertices, faces = sphere(5, 1.0)
    reach = torch.tensor([3.2, 2.7, 2.1], dtype=torch.float64)[:, None, None]
    middle = torch.tensor([size[1] / 2, size[0] / 2, 20.0])
    return vertices * reach * (1 + 0.08 * _rand(13, 3, len(vertices), 1)) + middle, faces


def _blend() -> Case:
    """8 components, 9 vertices: no whole vector of columns."""
    inputs = {"mean": _rand(8, 9, 3), "basis": _rand(9, 8, 9, 3), "coeffs": _rand(10, 3, 8)}
    call = lambda _, **inputs: (fk.blend(**inputs),)
    return Case("blend", "blend", _fan(), 9, inputs, call, unbatched=("mean", "basis"))


def _masked_pixel_loss(kind: str, reduction: str, seed: int, **options) -> Case:
    def call(_, **images):
        return (fk.masked_pixel_loss(**images, kind=kind, reduction=reduction, **options),)

    target, rendered = _rand(seed, 3, 3, 4, 5), _rand(seed + 1, 3, 3, 4, 5)
    mask = _rand(seed + 2, 3, 1, 4, 5).sigmoid()
    mask[2] *= 0.05  # its sum is below 1, which is what its denominator is then
    # Finite differences must not change what is an inlier, nor a sign.
    r2 = (rendered - target).square().sum(1)
    assert (r2 - options.get("threshold", 9 * options.get("sigma", 1) ** 2)).abs().min() > 1e-4
    assert (rendered - target).abs().min() > 1e-4
    images = {"target": target, "rendered": rendered, "mask": mask}
    name = f"masked_pixel_loss-{kind}-{reduction}"
    reduced = reduction != "none"
    return Case(name, "masked_pixel_loss", _fan(), 9, images, call, reduced=reduced, half=True)


def _neighbor_min_loss(name: str, size: tuple[int, int], seed: int, **options) -> Case:
    def call(_, target, rendered, mask):
        return (fk.neighbor_min_loss(target, rendered, mask, **options),)

    rand = lambda k, channels: torch.rand(3, channels, *size, generator=generator(seed + k), dtype=torch.float64)
    inputs = {"target": rand(0, 3), "rendered": rand(1, 3), "mask": 0.2 + 0.8 * rand(2, 1)}
    masked = [inputs[key] * (inputs["mask"] if options.get("masking") == "images" else 1) for key in list(inputs)[:2]]
    fixed, moving = masked[::-1] if options.get("search") == "target" else masked
    assert neighbor_margin(fixed, moving, options.get("window", 3)) > 1e-4  # finite differences keep the nearest
    reduced = options.get("reduction") != "none"
    return Case(f"neighbor_min_loss-{name}", "neighbor_min_loss", _fan(), 9, inputs, call, reduced=reduced, half=True)


CASES = [
    _vertex_normals(True),
    _vertex_normals(False),
    _shade_sh("unit"),
    _shade_sh("focus"),
    _rasterize(True, 20),
    _rasterize(False, 21),
    _rasterize_ndc("affine", 21),
    _rasterize_ndc("perspective", 20, perspective_correct=True, cull_backfaces=True),
    _rasterize_ndc("clipped", 21, clip_barycentrics=True),
    _interpolate(),
    _render_sh("perspective"),
    _render_sh("orthographic", orthographic=True),
    _render_sh("focus", normals="focus", perspective_correct=False, coverage="inclusive"),
    _antialias("bodies", *_ball((7, 8)), (7, 8)),
    _antialias("soup", *soup(22, 3, 6, (6, 7), scale=0.9), (6, 7)),
    _blend(),
    _masked_pixel_loss("squared", "mask_mean", 30),
    _masked_pixel_loss("l2", "batch_mask_mean", 33, threshold=5.0),
    _masked_pixel_loss("l1", "none", 36, threshold=5.0),
    _masked_pixel_loss("gaussian_inlier", "mean", 39, sigma=0.8),
    _neighbor_min_loss("paper", (4, 5), 90),
    _neighbor_min_loss("mask_mean", (3, 4), 290, search="target", power=1, reduction="mask_mean"),
    _neighbor_min_loss("images", (4, 3), 290, masking="images", reduction="mask_mean"),
    _rasterize_clip("weights", False, 23, scale=0.6),
    _rasterize_clip("derivatives", True, 38, scale=1.2),
    _neighbor_min_loss("authors", (6, 6), 320, reduction="none", **AUTHORS_NEIGHBOR),
]
# Of ops whose GPU kernels are CUDA's, which agree with the CPU's to the bit and can be emulated.
CUDA_CASES = [case for case in CASES if "triton" not in import_module(f"focus_kernels.ops.{case.op}.op").BACKENDS]
