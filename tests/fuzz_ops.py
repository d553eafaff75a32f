"""One entry per op: inputs made from a recipe of a mesh, and the call. What holds for every op is fuzzed over it.

A new op needs one function here, and its name in OPS.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from fuzzing import WILD, Listed, Seeded, dtypes, made, options
from hypothesis import strategies as st
from meshes import generator, to_clip, to_ndc
from torch import Tensor

import focus_kernels as fk


@dataclass(frozen=True)
class Scene:
    """What an op is called with: a mesh, the options of drawing, and a seed for all the rest."""

    mesh: Listed | Seeded
    rule: dict
    dtype: torch.dtype
    seed: int = 0
    orthographic: bool = False
    focus: bool = False
    spoilt: bool = False  # some of the numbers beside the mesh are wild, too


@dataclass(frozen=True)
class Call:
    """`call(**inputs)` gives tensors. `inputs` are batch first, leaves where they are differentiable."""

    op: str
    inputs: dict[str, Tensor]
    call: Callable[..., tuple[Tensor, ...]]
    constant: tuple[str, ...] = field(default=())
    unbatched: tuple[str, ...] = field(default=())  # inputs that all images share
    reduced: bool = False  # the outputs are numbers, not batches

    def leaves(self, inputs: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The inputs (or others in their place) as leaves."""
        fresh = {}
        for name, value in (self.inputs if inputs is None else inputs).items():
            differentiable = value.is_floating_point() and name not in self.constant
            fresh[name] = value.detach().requires_grad_() if differentiable else value
        return fresh

    def results(self, inputs: dict[str, Tensor] | None = None, seed: int = 0, cotangents=None) -> dict[str, Tensor]:
        """Outputs and gradients by name, every NaN the same NaN."""
        leaves = self.leaves(inputs)
        outputs = self.call(**leaves)
        smooth = [out for out in outputs if out.requires_grad]
        names = [name for name, value in leaves.items() if value.requires_grad]
        grads = draw_like(smooth, seed) if cotangents is None else cotangents
        grads = torch.autograd.grad(smooth, [leaves[name] for name in names], grads, allow_unused=True)
        found = {f"output {k}": out.detach() for k, out in enumerate(outputs)}
        found |= {f"grad_{name}": grad for name, grad in zip(names, grads, strict=True) if grad is not None}
        return {
            name: torch.where(value.isnan(), torch.nan, value) if value.is_floating_point() else value
            for name, value in found.items()
        }


def draw_like(outputs, seed: int) -> list[Tensor]:
    """Cotangents of order one, drawn image by image so that a split batch gets the same ones."""
    drawn = []
    for out in outputs:
        if not out.dim():
            drawn.append(out.new_tensor(1.5))
            continue
        draw = lambda b, shape: torch.randn(shape, generator=generator(seed + b), dtype=torch.float64)
        images = [draw(b, out.shape[1:]) for b in range(len(out))]
        drawn.append(torch.stack(images).to(out) if images else torch.zeros_like(out))
    return drawn


class _Numbers:
    def __init__(self, scene: Scene, device: str):
        self.g, self.scene, self.device = generator(scene.seed), scene, device

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.g, dtype=torch.float64)

    def cast(self, value: Tensor, spoil: bool = True) -> Tensor:
        """In the dtype of the scene; where it is spoilt, one number in a hundred is wild."""
        if spoil and self.scene.spoilt and value.numel():
            wild = torch.tensor(WILD, dtype=torch.float64)
            some = torch.rand(value.shape, generator=self.g) < 0.01
            value = torch.where(some, wild[torch.randint(len(wild), value.shape, generator=self.g)], value)
        return value.to(self.device, self.scene.dtype)


def _vertex_normals(scene: Scene, device: str) -> Call:
    positions, net = made(scene.mesh, scene.dtype, device)
    call = lambda vertices: (fk.vertex_normals(vertices, net, normalize=not scene.focus),)
    return Call("vertex_normals", {"vertices": positions}, call)


def _blend(scene: Scene, device: str) -> Call:
    """The basis is finite, and 0 times it is 0: components that no image has are not read."""
    n = _Numbers(scene, device)
    B, V, _ = scene.mesh.positions(torch.float64).shape
    V, K = V % 1500, (0, 1, 5, 6, 7, 16, 17, 18, 33)[scene.seed % 9]  # more than a stripe of columns, and than a block
    coeffs = n.normal(B, K)
    coeffs[:, n.normal(K) > 1] = 0
    basis = n.normal(K, V, 3).to(device, scene.dtype if scene.focus else torch.bfloat16)
    inputs = {"mean": n.cast(n.normal(V, 3)), "basis": basis, "coeffs": n.cast(coeffs)}
    return Call("blend", inputs, lambda **inputs: (fk.blend(**inputs),), unbatched=("mean", "basis"))


def _shade_sh(scene: Scene, device: str) -> Call:
    n = _Numbers(scene, device)
    positions = scene.mesh.positions(torch.float64)
    B, V, _ = positions.shape
    normals = torch.nn.functional.normalize(n.normal(B, V, 3), dim=-1) * (0.5 + 0.5 * (n.normal(B, V, 1) > 0))
    inputs = {"normals": normals, "albedo": n.normal(B, V, 3), "sh_coeffs": n.normal(B, 3, 9)}
    call = lambda **inputs: (fk.shade_sh(**inputs, convention="focus" if scene.focus else "unit"),)
    return Call("shade_sh", {name: n.cast(value) for name, value in inputs.items()}, call)


def _rasterize(scene: Scene, device: str) -> Call:
    positions, net = made(scene.mesh, scene.dtype, device)
    call = lambda positions: tuple(fk.rasterize(positions, net, scene.mesh.size, **scene.rule))
    return Call("rasterize", {"positions": positions}, call)


def _rasterize_clip(scene: Scene, device: str) -> Call:
    """Two layers: the nearest of all faces, and behind it that of a part of them."""
    positions, net = made(scene.mesh, scene.dtype, device)
    first = scene.seed % (net.num_faces + 1)
    part = torch.tensor([first, max(0, net.num_faces - first - scene.seed % 3)], dtype=torch.int32)

    def call(positions):
        layers, behind, ranges = [], None, None
        for _ in range(2):
            seen = fk.rasterize_clip(
                positions, net, scene.mesh.size, ranges=ranges, derivatives=scene.focus, behind=behind
            )
            covered = torch.where(seen.face_index >= 0, seen.nearest, 0)
            layers += [seen.face_index, seen.barycentrics, seen.depth, covered]
            layers += [seen.derivatives] if scene.focus else []
            behind, ranges = seen.nearest, part.expand(len(positions), 2)
        return tuple(layers)

    return Call("rasterize_clip", {"positions": to_clip(positions, scene.mesh.size, scene.orthographic)}, call)


def _rasterize_ndc(scene: Scene, device: str) -> Call:
    net = fk.Topology(scene.mesh.faces(), scene.mesh.positions(torch.float64).shape[1]).to(device)
    positions = to_ndc(scene.mesh.positions(torch.float64), scene.mesh.size).to(device, scene.dtype)
    options = {
        "perspective_correct": scene.rule["perspective_correct"],
        "clip_barycentrics": scene.focus,
        "cull_backfaces": scene.rule["cull"] == "back",
    }
    call = lambda positions: tuple(fk.rasterize_ndc(positions, net, scene.mesh.size, **options))
    return Call("rasterize_ndc", {"positions": positions}, call)


def _interpolate(scene: Scene, device: str) -> Call:
    n = _Numbers(scene, device)
    positions, net = made(scene.mesh, scene.dtype, device)
    B, V, _ = positions.shape
    channels = (0, 1, 2, 3, 4, 5, 8, 16, 33)[scene.seed % 9]
    # Ids in no order, some of another mesh.
    index = torch.randint(-2, net.num_faces + 2, (B, *scene.mesh.size), generator=n.g).int().to(device)
    inputs = {"attributes": n.cast(n.normal(B, V, channels)), "barycentrics": n.cast(n.normal(*index.shape, 3))}

    def call(attributes, barycentrics, face_index):
        return (fk.interpolate(attributes, fk.Raster(face_index, barycentrics, None), net),)

    return Call("interpolate", {**inputs, "face_index": index}, call)


def camera(scene: Scene, n: _Numbers, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """K, R, t: simple enough to keep grids on grids where the seed is even, any where it is odd."""
    K, R = torch.eye(3, dtype=torch.float64).repeat(batch, 1, 1), torch.eye(3, dtype=torch.float64).repeat(batch, 1, 1)
    t = torch.zeros(batch, 3, dtype=torch.float64)
    if scene.seed % 2:
        K[:, :2] += 0.1 * n.normal(batch, 2, 3)
        R = torch.linalg.qr(n.normal(batch, 3, 3))[0]
        t = n.normal(batch, 3)
    return K, R, t


def unprojected(positions: Tensor, K: Tensor, R: Tensor, t: Tensor, orthographic: bool) -> Tensor:
    """The vertices whose projections are `positions`."""
    depth = positions[..., 2:]
    plane = positions[..., :2] - (K[:, None, :2, 2] if orthographic else 0)
    if not orthographic:
        plane = (plane - K[:, None, :2, 2]) * depth
    xy = (torch.linalg.inv(K[:, :2, :2])[:, None] @ plane[..., None])[..., 0]
    seen = torch.cat([xy, depth], -1) - t[:, None]
    return (R.transpose(1, 2)[:, None] @ seen[..., None])[..., 0]


def _render_sh(scene: Scene, device: str) -> Call:
    n = _Numbers(scene, device)
    positions = scene.mesh.positions(torch.float64)
    net = fk.Topology(scene.mesh.faces(), positions.shape[1]).to(device)
    B, V, _ = positions.shape
    K, R, t = camera(scene, n, B)
    vertices = unprojected(positions, K, R, t, scene.orthographic)
    colors = {"albedo": 0.5 + 0.2 * n.normal(B, V, 3), "sh_coeffs": n.normal(B, 3, 9)}
    inputs = {"vertices": n.cast(vertices, spoil=False), **{name: n.cast(value) for name, value in colors.items()}}
    inputs |= {name: n.cast(value, spoil=False) for name, value in (("K", K), ("R", R), ("t", t))}
    inputs["background"] = n.cast(n.normal(B, 3, *scene.mesh.size))

    def call(vertices, albedo, sh_coeffs, K, R, t, background):
        shot = fk.Camera(K, R, t, orthographic=scene.orthographic)
        normals = "focus" if scene.focus else "unit"
        render = fk.render_sh(
            vertices,
            albedo,
            sh_coeffs,
            net,
            shot,
            scene.mesh.size,
            background=background,
            normals=normals,
            **scene.rule,
        )
        return render.image, render.mask, *render.raster, render.positions

    return Call("render_sh", inputs, call)


def _antialias(scene: Scene, device: str) -> Call:
    n = _Numbers(scene, device)
    positions, net = made(scene.mesh, scene.dtype, device)
    raster = fk.rasterize(positions, net, scene.mesh.size, **scene.rule)
    index = raster.face_index
    if scene.seed % 3 == 0:  # ids in no order here and there, some of another mesh
        stray = torch.randint(-2, net.num_faces + 2, index.shape, generator=n.g).int().to(device)
        index = torch.where(torch.rand(index.shape, generator=n.g).to(device) < 0.3, stray, index)
    channels = (0, 1, 2, 3, 4, 5, 8, 16, 33)[scene.seed % 9]
    image = n.cast(n.normal(len(positions), channels, *scene.mesh.size))

    def call(image, positions, face_index, depth):
        return (fk.antialias(image, fk.Raster(face_index, None, depth), positions, net),)

    inputs = {"image": image, "positions": positions, "face_index": index, "depth": raster.depth}
    return Call("antialias", inputs, call, constant=("depth",))


PIXELS = {
    "kind": ("squared", "l2", "l1", "gaussian_inlier"),
    "reduction": ("none", "mean", "mask_mean", "batch_mask_mean", "sum"),
    "threshold": (None, 0.5, 6.0, math.inf),
    "sigma": (0.043, 1.0, 30.0),
}


def _masked_pixel_loss(scene: Scene, device: str) -> Call:
    n = _Numbers(scene, device)
    B, size = len(scene.mesh.positions(torch.float64)), scene.mesh.size
    target, rendered, mask = n.normal(B, 3, *size), n.normal(B, 3, *size), n.normal(B, 1, *size).sigmoid()
    rendered = torch.where(n.normal(B, 1, *size) > 1, target, rendered)  # some pixels agree
    images = {"target": n.cast(target), "rendered": n.cast(rendered), "mask": n.cast(mask)}
    numbers = torch.randint(60, (len(PIXELS),), generator=n.g).tolist()
    rule = {name: values[k % len(values)] for (name, values), k in zip(PIXELS.items(), numbers, strict=True)}

    def call(**images):
        return fk.masked_pixel_loss(**images, **rule), fk.inlier_mask(**images, threshold=rule["threshold"] or 2.0)

    return Call("masked_pixel_loss", images, call, reduced=rule["reduction"] != "none")


def _neighbor_min_loss(scene: Scene, device: str) -> Call:
    n = _Numbers(scene, device)
    B, (H, W) = len(scene.mesh.positions(torch.float64)), scene.mesh.size
    pick = lambda k, *choices: choices[scene.seed // k % len(choices)]
    options = {
        "window": pick(1, 3, 5, 7),
        "power": pick(3, 2, 1),
        "search": pick(6, "rendered", "target"),
        "masking": pick(12, "weight", "images"),
        "reduction": pick(24, "none", "mean", "mask_mean", "sum"),
    }
    options["border"] = "valid" if scene.focus and min(H, W) >= options["window"] else "clip"
    # Where the seed is even, of few numbers: many neighbours are as near.
    drawn = {"target": n.normal(B, 3, H, W), "rendered": n.normal(B, 3, H, W), "mask": n.normal(B, 1, H, W)}
    inputs = {name: n.cast(value if scene.seed % 2 else value.round()) for name, value in drawn.items()}
    call = lambda **inputs: (fk.neighbor_min_loss(**inputs, **options),)
    return Call("neighbor_min_loss", inputs, call, reduced=options["reduction"] != "none")


OPS: dict[str, Callable[[Scene, str], Call]] = {
    "blend": _blend,
    "vertex_normals": _vertex_normals,
    "shade_sh": _shade_sh,
    "rasterize": _rasterize,
    "rasterize_clip": _rasterize_clip,
    "rasterize_ndc": _rasterize_ndc,
    "interpolate": _interpolate,
    "render_sh": _render_sh,
    "antialias": _antialias,
    "masked_pixel_loss": _masked_pixel_loss,
    "neighbor_min_loss": _neighbor_min_loss,
}


def scenes(mesh: st.SearchStrategy, spoilt: bool = True) -> st.SearchStrategy:
    flags = {
        "orthographic": st.booleans(),
        "focus": st.booleans(),
        "spoilt": st.booleans() if spoilt else st.just(False),
    }
    return st.builds(Scene, mesh, options, dtypes, seed=st.integers(0, 99), **flags)
