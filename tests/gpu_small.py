"""Small calls that together reach every CUDA kernel, on both of its branches where it has two.

The tests of test_cuda.py run over this table. `python tests/gpu_small.py`, which wants a GPU, holds it against the CPU
in float32 and float64: what scripts/gpu_check.sh runs under compute-sanitizer.
"""

import sys

import torch
from cases import Case
from meshes import generator, scene, soup, sphere, to_clip, to_ndc
from torch import Tensor

import focus_kernels as fk
from focus_kernels import _backends
from focus_kernels.ops.rasterize import native

DRAW = ("draw_kernel", "draw_spilled_kernel", "resolve_kernel")
SEEN = ("first_pixels_kernel", "face_sums_kernel")
DTYPES = (torch.float32, torch.float64)


def _rand(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def _vertex_normals(normalize: bool) -> Case:
    """266 vertices: more than a block."""
    vertices, faces = sphere(12)

    def call(mesh, vertices):
        return (fk.vertex_normals(vertices, mesh, normalize=normalize),)

    inputs = {"vertices": vertices + _rand(1, 2, *vertices.shape)}
    return Case(f"vertex_normals-{normalize}", "vertex_normals", faces, len(vertices), inputs, call)


def _shade_sh(convention: str) -> Case:
    vertices, faces = sphere(12)

    def call(_, normals, albedo, sh_coeffs):
        return (fk.shade_sh(normals, albedo, sh_coeffs, convention=convention),)

    normals = 0.9 * torch.nn.functional.normalize(vertices + _rand(2, 2, *vertices.shape), dim=-1)
    inputs = {"normals": normals, "albedo": _rand(3, *normals.shape), "sh_coeffs": _rand(4, 2, 3, 9)}
    return Case(f"shade_sh-{convention}", "shade_sh", faces, len(vertices), inputs, call)


def _rasterize(name: str, **options) -> Case:
    """Boxes of one sample, of tens, and of hundreds, which a block draws and adds up."""
    size = (37, 53)
    small, large = (soup(seed, 2, F, size, scale)[0] for seed, F, scale in ((5, 280, 0.15), (6, 12, 1.5)))
    positions = torch.cat([large, small], 1)
    faces = torch.arange(positions.shape[1]).reshape(-1, 3)

    def call(mesh, positions):
        raster = fk.rasterize(positions, mesh, size, **options)
        return raster.barycentrics, raster.depth

    return Case(f"rasterize-{name}", "rasterize", faces, positions.shape[1], {"positions": positions}, call)


def _rasterize_clip(name: str) -> Case:
    """The same, and faces that cross the border of the view; behind them a second layer, of a part of the faces."""
    size, F = (37, 53), 240
    shapes = ((15, F, 0.15), (16, 12, 1.5))
    positions = torch.cat([to_clip(soup(seed, 2, n, size, scale)[0], size) for seed, n, scale in shapes], 1)
    faces = torch.arange(positions.shape[1]).reshape(-1, 3)

    def call(mesh, positions):
        front = fk.rasterize_clip(positions, mesh, size, derivatives=True)
        ranges = (50 * torch.arange(4, device=mesh.device, dtype=torch.int32)).view(2, 2)[: len(positions)]
        back = fk.rasterize_clip(positions, mesh, size, ranges=ranges, behind=front.nearest)
        return front.barycentrics, front.derivatives, back.barycentrics

    return Case(f"rasterize_clip-{name}", "rasterize_clip", faces, positions.shape[1], {"positions": positions}, call)


def _rasterize_ndc(name: str, **options) -> Case:
    """Boxes of all kinds, as above."""
    size, scene = (37, 53), _rasterize("boxes")

    def call(mesh, positions):
        return tuple(fk.rasterize_ndc(positions, mesh, size, **options)[1:])

    inputs = {"positions": to_ndc(scene.inputs["positions"], size)}
    return Case(f"rasterize_ndc-{name}", "rasterize_ndc", scene.faces, scene.num_vertices, inputs, call)


def _interpolate(name: str, F: int, size: tuple[int, int], scale: float, C: int) -> Case:
    positions, faces = soup(7, 2, F, size, scale)

    def call(mesh, positions, attributes):
        raster = fk.rasterize(positions, mesh, size, cull=None)
        return (fk.interpolate(attributes, raster, mesh),)

    inputs = {"positions": positions, "attributes": _rand(8, 2, 3 * F, C)}
    return Case(f"interpolate-{name}", "interpolate", faces, 3 * F, inputs, call)


def _render_sh(name: str, rings: int, size: tuple[int, int], orthographic: bool = False, **options) -> Case:
    def call(mesh, vertices, albedo, sh_coeffs, K, R, t):
        camera = fk.Camera(K, R, t, orthographic=orthographic)
        render = fk.render_sh(vertices, albedo, sh_coeffs, mesh, camera, size, **options)
        return render.image, render.raster.barycentrics, render.raster.depth, render.positions

    inputs = scene(9, 2, rings, size, orthographic)
    faces = inputs.pop("faces")
    return Case(f"render_sh-{name}", "render_sh", faces, inputs["vertices"].shape[1], inputs, call)


def _antialias(name: str, rings: int, size: tuple[int, int]) -> Case:
    inputs = scene(10, 2, rings, size)

    def call(mesh, image, positions):
        raster = fk.rasterize(positions.detach(), mesh, size)
        return (fk.antialias(image, raster, positions, mesh),)

    positions = fk.Camera(inputs["K"], inputs["R"], inputs["t"]).project(inputs["vertices"])
    values = {"image": _rand(11, 2, 3, *size), "positions": positions}
    return Case(f"antialias-{name}", "antialias", inputs["faces"], positions.shape[1], values, call)


_RENDER = ("vertices_kernel", *DRAW[:2], "shade_pixels_kernel", *SEEN, "seen_vertices_kernel", "vertices_grad_kernel")
_RENDER += ("normals_grad_kernel", "parts_kernel")
_NORMALS = ("normals_kernel", "normal_sums_grad_kernel", "normal_vertices_grad_kernel")
_SHADE = ("shade_kernel", "shade_grad_kernel", "shade_parts_kernel")
_RASTER = (*DRAW, *SEEN, "gather_positions_kernel")
_CLIP = (*DRAW[:2], "points_kernel", "find_crossing_kernel", "draw_crossing_kernel", "resolve_clip_kernel", *SEEN)
_CLIP += ("gather_clip_kernel",)
_SMOOTH = (*DRAW, "find_edges_kernel", "blend_edges_kernel", "image_grad_kernel", "seen_edges_kernel")
_SMOOTH += ("silhouette_grad_kernel",)
_WEIGHTS = (*_RASTER, "interpolate_kernel", "weights_grad_kernel")

# Each case and the kernels that its forward and backward launch.
KERNELS_OF = [
    (_vertex_normals(True), _NORMALS),
    (_vertex_normals(False), _NORMALS),
    (_shade_sh("unit"), _SHADE),
    (_shade_sh("focus"), _SHADE),
    (_rasterize("perspective", cull=None), _RASTER),
    (_rasterize("affine", coverage="inclusive", perspective_correct=False, tie="highest"), _RASTER),
    (_rasterize_clip("layers"), _CLIP),
    (_rasterize_ndc("affine"), ("to_pixels_kernel", *_RASTER)),
    (_rasterize_ndc("perspective", perspective_correct=True), ("to_pixels_kernel", *_RASTER)),
    # Faces seen in more and in fewer than 64 samples; channels in two chunks.
    (_interpolate("by_warps", F=60, size=(40, 50), scale=0.6, C=6), (*_WEIGHTS, "gather_small_kernel")),
    (_interpolate("by_blocks", F=2, size=(40, 50), scale=2.0, C=3), (*_WEIGHTS, "gather_large_kernel")),
    (_antialias("small_faces", rings=20, size=(40, 37)), _SMOOTH),
    (_antialias("large_faces", rings=4, size=(40, 37)), _SMOOTH),
    (_render_sh("small_faces", rings=12, size=(40, 37)), _RENDER),
    (_render_sh("large_faces", rings=3, size=(61, 70)), _RENDER),
    (_render_sh("orthographic", rings=8, size=(40, 37), orthographic=True, cull=None), _RENDER),
    (
        _render_sh("focus", rings=8, size=(40, 37), normals="focus", perspective_correct=False, coverage="inclusive"),
        _RENDER,
    ),
]
SMALL = [case for case, _ in KERNELS_OF]


def main() -> int:
    from test_cuda_agreement import assert_agree

    if not torch.cuda.is_available():
        print("no CUDA device")
        return 2
    if reasons := native.why_not(torch.zeros(1, device="cuda")):
        print("; ".join(reasons))
        return 1
    _backends.FORCED = "native"
    for case in SMALL:
        for dtype in DTYPES:
            assert_agree(lambda device, case=case, **inputs: case.on(device)(**inputs), case.inputs, dtype)
            print(f"{case}, {dtype}: as on the CPU", flush=True)
    torch.cuda.synchronize()
    print(f"all {len(SMALL) * len(DTYPES)} calls agree with the CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
