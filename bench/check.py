"""Holds what a benchmark is about to time against the definition in plain torch. Wrong results get no time.

The first and the last image of a batch are compared, outputs and gradients, by their error against float64 next to that
of plain float32 torch. What plain torch says is computed once per image and run.
"""

from collections.abc import Callable, Sequence

import torch
from tolerances import assert_same_faces
from torch import Tensor

import focus_kernels as fk
from focus_kernels.ops.antialias import ref as antialias_ref
from focus_kernels.ops.blend import ref as blend_ref
from focus_kernels.ops.interpolate import ref as interpolate_ref
from focus_kernels.ops.masked_pixel_loss import ref as masked_pixel_loss_ref
from focus_kernels.ops.neighbor_min_loss import ref as neighbor_min_loss_ref
from focus_kernels.ops.neighbor_min_loss.modes import Modes
from focus_kernels.ops.rasterize import ref as rasterize_ref
from focus_kernels.ops.rasterize_clip import ref as rasterize_clip_ref
from focus_kernels.ops.rasterize_ndc import ref as rasterize_ndc_ref
from focus_kernels.ops.shade_sh import ref as shade_sh_ref
from focus_kernels.ops.vertex_normals import ref as vertex_normals_ref

from .shapes import SIZE, Scene

Tensors = Sequence[Tensor]
_EPS = torch.finfo(torch.float32).eps
_RULE = (0, 0, True, False)  # top_left, cull back, perspective, lowest: the defaults
_known: dict[tuple, list[list[Tensor]]] = {}
_faces: dict[tuple, Tensor] = {}
_layers: dict[tuple, tuple[Tensor, Tensor]] = {}


def vertex_normals(scene: Scene, outputs: Tensors, cotangents: Tensors = (), grads: Tensors = ()) -> None:
    mesh = scene.topology.to("cpu")

    def plain(b, vertices):
        return (vertex_normals_ref.forward(vertices, mesh.faces, mesh.offsets, mesh.corners, True),)

    _hold("vertex_normals", scene, plain, {"vertices": scene.vertices}, outputs, cotangents, grads)


def shade_sh(scene: Scene, normals: Tensor, outputs: Tensors, cotangents: Tensors = (), grads: Tensors = ()) -> None:
    inputs = {"normals": normals, "albedo": scene.albedo, "sh_coeffs": scene.sh_coeffs}
    plain = lambda b, **inputs: (shade_sh_ref.forward(**inputs, focus=False),)
    _hold("shade_sh", scene, plain, inputs, outputs, cotangents, grads)


def rasterize(
    scene: Scene, positions: Tensor, raster: fk.Raster, cotangents: Tensors = (), grads: Tensors = ()
) -> None:
    """Positions are given, so no rounding decides: the faces are equal in every pixel."""
    mesh = scene.topology.to("cpu")
    for b in _images(scene):
        _same_faces("rasterize", scene, positions.cpu(), raster.face_index.cpu(), b, edge=0, depth=0)

    def plain(b, positions):
        return rasterize_ref.at_pixels(positions, mesh.faces, raster.face_index[b : b + 1].cpu(), True)

    outputs = (raster.barycentrics, raster.depth)
    _hold("rasterize", scene, plain, {"positions": positions}, outputs, cotangents, grads)


def rasterize_clip(
    scene: Scene, positions: Tensor, raster: fk.ClipRaster, cotangents: Tensors = (), grads: Tensors = ()
) -> None:
    """Faces and compared depths are equal in every pixel. Gradients are of barycentrics and derivatives."""
    mesh = scene.topology.to("cpu")
    for b in _images(scene):
        key = ("rasterize_clip", scene.mesh, b)
        if key not in _layers:
            one = positions[b : b + 1].detach().cpu()
            _layers[key] = rasterize_clip_ref._VISIBLE(one, mesh.faces, *SIZE, None, None)
        index, nearest = _layers[key]
        assert torch.equal(raster.face_index[b : b + 1].cpu(), index) and bool((index >= 0).any()), key
        assert torch.equal(raster.nearest[b : b + 1].cpu(), nearest), key

    def plain(b, positions):
        index, nearest = _layers["rasterize_clip", scene.mesh, b]
        weights, depth, steps = rasterize_clip_ref.at_pixels(positions, mesh.faces, index, nearest.to(positions.dtype))
        return weights, steps, depth

    assert raster.derivatives is not None
    outputs = (raster.barycentrics, raster.derivatives, raster.depth)
    _hold("rasterize_clip", scene, plain, {"positions": positions}, outputs, cotangents, grads)


def rasterize_ndc(
    scene: Scene, positions: Tensor, raster: fk.NdcRaster, cotangents: Tensors = (), grads: Tensors = ()
) -> None:
    """Faces are equal but where depths round: those here are multiplied by A / (A + 1e-8)."""
    mesh, index = scene.topology.to("cpu"), raster.face_index.cpu()
    for b in _images(scene):
        one, key = positions[b : b + 1].detach().cpu(), ("rasterize_ndc", scene.mesh, b)
        if key not in _faces:
            _faces[key] = rasterize_ndc_ref.forward(one, mesh.faces, *SIZE, 2, False, False)[0]
        pixels = rasterize_ndc_ref._in_pixels(one, *SIZE)
        rule = {"perspective": False, "edge": 0, "depth": 16 * _EPS}
        agree = assert_same_faces(index[b : b + 1], _faces[key], pixels, mesh.faces, **rule)
        assert agree.double().mean() > 0.999

    def plain(b, positions):
        pixels, own = rasterize_ndc_ref._in_pixels(positions, *SIZE), index[b : b + 1]
        depth, barycentrics, distances = rasterize_ndc_ref._at_pixels(pixels, mesh.faces, own, False, False)
        seen = own >= 0
        barycentrics = torch.where(seen[..., None], barycentrics, -1)
        return torch.where(seen, depth, -1), barycentrics, torch.where(seen, distances, -1)

    _hold("rasterize_ndc", scene, plain, {"positions": positions}, raster[1:], cotangents, grads)


def interpolate(
    scene: Scene, attributes: Tensor, raster: fk.Raster, outputs: Tensors, cotangents: Tensors = (), grads: Tensors = ()
) -> None:
    mesh = scene.topology.to("cpu")

    def plain(b, attributes, barycentrics):
        index = raster.face_index[b : b + 1].cpu()
        return (interpolate_ref.forward(attributes, mesh.faces, index, barycentrics),)

    inputs = {"attributes": attributes, "barycentrics": raster.barycentrics}
    _hold("interpolate", scene, plain, inputs, outputs, cotangents, grads)


def antialias(
    scene: Scene,
    image: Tensor,
    raster: fk.Raster,
    positions: Tensor,
    outputs: Tensors,
    cotangents: Tensors = (),
    grads: Tensors = (),
) -> None:
    """Which edges are silhouettes is decided in float32, once: rounding may decide otherwise."""
    mesh = scene.topology.to("cpu")
    index, depth, corners = raster.face_index.cpu(), raster.depth.cpu(), positions.detach().cpu()

    def plain(b, image, positions):
        one = slice(b, b + 1)
        edges = antialias_ref._EDGES(corners[one], mesh.faces, mesh.opposite, index[one], depth[one])
        return (antialias_ref.blended(image, positions, mesh.faces, edges),)

    _hold("antialias", scene, plain, {"image": image, "positions": positions}, outputs, cotangents, grads)


def render_sh(scene: Scene, render: fk.Render, cotangents: Tensors = (), grads: Tensors = ()) -> None:
    """Faces may differ where the projection rounds, at their edges; elsewhere values are as exact as plain torch's."""
    mesh = scene.topology.to("cpu")
    index = render.raster.face_index.cpu()
    positions = fk.Camera(*(x.double().cpu() for x in (scene.K, scene.R, scene.t))).project(
        scene.vertices.double().cpu()
    )
    for b in _images(scene):
        _same_faces("render_sh", scene, positions, index, b, edge=512 * _EPS, depth=32 * _EPS)

    def plain(b, vertices, albedo, sh_coeffs, K, R, t):
        positions = fk.Camera(K, R, t).project(vertices)
        normals = vertex_normals_ref.forward(vertices, mesh.faces, mesh.offsets, mesh.corners, True)
        colors = shade_sh_ref.forward((R[:, None] * normals[:, :, None]).sum(-1), albedo, sh_coeffs, False)
        barycentrics, depth = rasterize_ref.at_pixels(positions, mesh.faces, index[b : b + 1], True)
        image = interpolate_ref.forward(colors, mesh.faces, index[b : b + 1], barycentrics)
        return image, barycentrics, depth, positions

    outputs = (render.image, render.raster.barycentrics, render.raster.depth, render.positions)
    _hold("render_sh", scene, plain, scene.inputs(), outputs, cotangents, grads)


def neighbor_min_loss(name: str, inputs: dict[str, Tensor], modes: Modes, wanted: Tensors, got: Tensors) -> None:
    """The number, and its gradients to the `wanted` inputs, of the whole batch."""
    said = []
    for dtype in (torch.float32, torch.float64):
        given = {key: value.detach().cpu().to(dtype).requires_grad_() for key, value in inputs.items()}
        loss = neighbor_min_loss_ref.forward(**given, modes=modes)
        leaves = [given[key] for key in wanted]
        said.append([loss.detach(), *(torch.autograd.grad(loss, leaves) if leaves else ())])
    for what, own, near, exact in zip(["loss", *wanted], got, *said, strict=True):
        # A gradient in half precision may be as far off as float32's when it is narrowed.
        _as_accurate(own.detach().cpu(), near.to(own.dtype), exact, f"{name}, {what}")


def blend(name: str, mean: Tensor, basis: Tensor, coeffs: Tensor, outputs: Tensors) -> None:
    shapes = [(mean.cpu().to(dtype), basis.cpu(), coeffs.cpu().to(dtype)) for dtype in (torch.float32, torch.float64)]
    near, exact = (blend_ref.forward(*shape) for shape in shapes)
    _as_accurate(outputs[0].detach().cpu(), near, exact, name)


def masked_pixel_loss(name: str, images: Tensors, rule: tuple, values: Tensors) -> None:
    """`values` are the loss and its gradients to the render and the mask, in the dtype of the images."""

    def plainly(dtype):
        target, *leaves = (image.detach().cpu().to(dtype) for image in images)
        leaves = [leaf.requires_grad_() for leaf in leaves]
        loss = masked_pixel_loss_ref.forward(target, *leaves, *rule)
        return [loss.detach(), *torch.autograd.grad(loss, leaves)]

    names = ("loss", "gradient to rendered", "gradient to mask")
    plain = plainly(torch.float32), plainly(torch.float64)
    for what, got, near, exact in zip(names, values, *plain, strict=True):
        _as_accurate(got.detach().cpu(), near.to(got.dtype), exact, f"{name}, {what}")


def _as_accurate(got: Tensor, plain: Tensor, exact: Tensor, what: str) -> None:
    """The error, as a whole, is at most eight times that of plain float32 torch, and a rounding.

    The tests hold every element to more on small meshes. Here sums run over 10^5 vertices and faces are seen edge-on,
    so two orders of adding differ by chance; a wrong result is off by many orders of magnitude.
    """
    assert got.shape == plain.shape == exact.shape and got.isfinite().all(), what
    error, allowed = (got.double() - exact).norm(), 8 * (plain.double() - exact).norm() + _EPS * exact.norm()
    assert error <= allowed, f"{what}: error {error:.3e}, allowed {allowed:.3e}"


def _images(scene: Scene) -> list[int]:
    return sorted({0, scene.batch - 1})


def _same_faces(op: str, scene: Scene, positions: Tensor, index: Tensor, b: int, edge: float, depth: float) -> None:
    faces, key = scene.topology.faces.cpu(), (op, scene.mesh, b)
    one = positions[b : b + 1].detach()
    if key not in _faces:
        _faces[key] = rasterize_ref.forward(one, faces, *SIZE, *_RULE)[0]
    agree = assert_same_faces(index[b : b + 1], _faces[key], one, faces, perspective=True, edge=edge, depth=depth)
    assert agree.double().mean() > 0.999


def _hold(
    op: str,
    scene: Scene,
    plain: Callable[..., Tensors],
    inputs: dict[str, Tensor],
    outputs: Tensors,
    cotangents: Tensors,
    grads: Tensors,
) -> None:
    """`plain(b, **inputs of image b)` gives the outputs; gradients are of the first outputs, one per cotangent."""
    values = [*outputs, *grads]
    for b in _images(scene):
        key = (op, scene.mesh, b, len(cotangents))
        if key not in _known:
            _known[key] = [_plainly(plain, b, inputs, cotangents, dtype) for dtype in (torch.float32, torch.float64)]
        near, exact = _known[key]
        names = [f"output {k}" for k in range(len(outputs))] + [f"gradient to {name}" for name in inputs]
        for name, got, close, true in zip(names, values, near, exact, strict=False):
            _as_accurate(got[b : b + 1].detach().cpu(), close, true, f"{op}, {scene.mesh}, image {b}, {name}")


def _plainly(plain, b: int, inputs: dict[str, Tensor], cotangents: Tensors, dtype: torch.dtype) -> list[Tensor]:
    one = {name: value[b : b + 1].detach().cpu().to(dtype).requires_grad_() for name, value in inputs.items()}
    outputs = plain(b, **one)
    grads: Tensors = ()
    if cotangents:
        seeds = [seed[b : b + 1].cpu().to(dtype) for seed in cotangents]
        grads = torch.autograd.grad(outputs[: len(seeds)], list(one.values()), seeds)
    return [value.detach() for value in (*outputs, *grads)]


def same_call(got: Tensors, want: Tensors) -> None:
    """One public call on two backends, both float32, on the same positions: integers are equal, the rest rounds.

    Gradients are sums over pixels and faces, with faces seen edge-on: everything is compared as a whole, to 1e-3.
    """
    for k, (one, other) in enumerate(zip(got, want, strict=True)):
        one, other = one.detach().cpu(), other.detach().cpu()
        if not one.is_floating_point():
            assert torch.equal(one, other), f"output {k} differs"
            continue
        off, size = (one.double() - other.double()).norm(), other.double().norm()
        assert off <= 1e-3 * size, f"output {k} is off by {off:.3e} of {size:.3e}"


def same_picture(got: Tensor, want: Tensor) -> None:
    """Two ways to one image; where the projection rounds differently a pixel at an edge may show the next face."""
    off = (got - want).detach().abs().amax(1)
    assert float((off > 1e-4 * want.abs().max()).double().mean()) < 1e-3 and float(off.mean()) < 1e-4, float(off.max())


def close(op: str, got: Tensor, exact: Tensor, scale: Tensor) -> None:
    """A sum in float32 against float64; each term may round at the scale of the largest sum of sizes."""
    error = float((got.double() - exact).abs().max())
    assert error <= 64 * _EPS * float(scale), f"{op}: largest error {error:.3e}"
