"""Other programs that do the same work. Each is measured where it imports, in the same run, and never guessed.

A peer draws the picture that we draw before it is timed, and is called in the fastest way that its interface allows.
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import focus_kernels as fk
from focus_kernels import _backends

from .shapes import SIZE, Scene


class Peer(NamedTuple):
    """`prepare()` gives a call that is timed once; it does the work of `images` images."""

    images: int
    prepare: Callable[[], Callable[[], object]]


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def plain_torch(images: int, call: Callable[[], object]) -> dict[str, Peer]:
    """The same public call on the definitions in plain torch, as a peer; for small meshes."""
    return {"plain torch": Peer(images, lambda: partial(on_backend, "ref", call))}


def compiled_torch(images: int, call: Callable[[], object]) -> dict[str, Peer]:
    """`call` runs `torch.compile` of the definition (not `call` itself: autograd breaks its graph).

    Left out where there is no compiler, or where it fails.
    """
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return {}
    try:
        call()
    except torch._inductor.exc.InductorError as error:
        print(f"torch.compile is left out: {error}", file=sys.stderr)
        return {}
    return {"torch.compile": Peer(images, lambda: call)}


def on_backend(name: str, call: Callable[[], object]) -> object:
    before, _backends.FORCED = _backends.FORCED, name
    try:
        return call()
    finally:
        _backends.FORCED = before


class Deodr:
    """deodr (BSD), double precision and one thread, on the images of a scene.

    It gets vertices that are already projected and coloured, so only its rasterizer is timed, while `render_sh` is
    timed with projection, normals and light. Conventions: x right, y down, `clockwise=False` and back-face culling keep
    the faces that we keep (negative area on the screen), and pixel centres are put on halves.
    """

    def __init__(self, scene: Scene, silhouettes: bool) -> None:
        from deodr.differentiable_renderer import Scene2D
        from deodr.triangulated_mesh import TriMeshAdjacencies

        self.sigma = 1.0 if silhouettes else 0.0  # as Scene3D: sigma 0 is edges off
        faces = scene.topology.faces.numpy().astype(np.uint32)
        V, F = scene.topology.num_vertices, len(faces)
        positions = scene.camera.project(scene.vertices).double().numpy()
        colors = colors_of(scene).double().numpy()
        mesh = TriMeshAdjacencies(faces, clockwise=False, nb_vertices=V) if silhouettes else None
        self.scenes = []
        for xyz, rgb in zip(positions, colors, strict=True):
            ij = np.ascontiguousarray(xyz[:, :2])
            flags = np.zeros((F, 3), bool) if mesh is None else np.ascontiguousarray(mesh.edge_on_silhouette(ij))
            one = Scene2D(
                faces=faces,
                faces_uv=faces,
                ij=ij,
                depths=np.ascontiguousarray(xyz[:, 2]),
                textured=np.zeros(F, bool),
                uv=np.zeros((V, 2)),
                shade=np.zeros(V),
                colors=rgb,
                shaded=np.zeros(F, bool),
                edgeflags=flags,
                height=SIZE[0],
                width=SIZE[1],
                nb_colors=3,
                texture=np.zeros((0, 0)),
                background_color=np.zeros(3),
                clockwise=False,
                backface_culling=True,
                strict_edge=True,
                perspective_correct=False,  # its backward knows no other
                integer_pixel_centers=False,
            )
            self.scenes.append(one)
        self.picture = np.zeros((*SIZE, 3))
        self.depth = np.zeros(SIZE)

    def forward(self) -> Peer:
        return Peer(len(self.scenes), lambda: lambda: [self.draw(scene) for scene in self.scenes])

    def both(self, grads: Tensor) -> Peer:
        """Forward and backward; `grads` [B, 3, H, W]."""
        return Peer(len(self.scenes), lambda: partial(self._both, _pictures(grads)))

    def _both(self, grads: list[np.ndarray]) -> None:
        for scene, grad in zip(self.scenes, grads, strict=True):
            self.draw(scene)
            scene.clear_gradients()
            self.backward(scene, grad)

    def backward(self, scene, grad: np.ndarray) -> None:
        """After `draw` of the same scene. Overwrites `grad` and the picture, as deodr works in place."""
        from deodr.differentiable_renderer import renderSceneB

        renderSceneB(scene, self.sigma, self.picture, self.depth, grad, check_valid=False)

    def draw(self, scene) -> np.ndarray:
        from deodr.differentiable_renderer import renderScene

        renderScene(scene, self.sigma, self.picture, self.depth, check_valid=False)
        return self.picture

    def check(self, scene: Scene) -> None:
        """It draws what we draw: the same silhouette but for its border, the same colours and gradients inside."""
        one = scene.part(slice(0, 1))
        positions = one.camera.project(one.vertices).requires_grad_()
        colors = colors_of(one).requires_grad_()
        raster = fk.rasterize(positions, one.topology, SIZE, perspective_correct=False)
        ours = fk.interpolate(colors, raster, one.topology)
        theirs = torch.from_numpy(self.draw(self.scenes[0]).copy()).permute(2, 0, 1)
        inside = _shrink(raster.face_index[0] >= 0)
        outside = _shrink(raster.face_index[0] < 0)
        # Where two faces meet, either may be drawn; float32 against double, and edges are blended over a pixel.
        off = (theirs - ours[0].detach()).abs().amax(0)
        assert off[inside].quantile(0.99) < 1e-3, f"deodr draws another picture: {off[inside].max()}"
        assert theirs[:, outside].abs().max() == 0, "deodr draws outside of the mesh"

        cotangent = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * inside
        mine = torch.autograd.grad(ours, (positions, colors), cotangent)
        self.scenes[0].clear_gradients()
        self.backward(self.scenes[0], _pictures(cotangent)[0])
        for name, a, b in (("ij", mine[0][0, :, :2], "ij_b"), ("colors", mine[1][0], "colors_b")):
            other = torch.from_numpy(getattr(self.scenes[0], b)).to(a)
            cosine = torch.nn.functional.cosine_similarity(a.flatten(), other.flatten(), dim=0)
            assert cosine > 0.99, f"deodr has another gradient to {name}: cosine {cosine}"

    @property
    def silhouette_edges(self) -> float:
        """Flags per image; an edge between two faces has two."""
        return sum(int(scene.edgeflags.sum()) for scene in self.scenes) / len(self.scenes)


class DeodrScene3D:
    """deodr as its documentation uses it: Scene3D(sigma=1), from vertices to picture and back, one image at a time.

    It lights with one directional light where we have spherical harmonics. Its own projection, normals and silhouette
    flags are timed, and so are its checks of the arguments.
    """

    def __init__(self, scene: Scene) -> None:
        from deodr.differentiable_renderer import Camera, Scene3D
        from deodr.triangulated_mesh import ColoredTriMesh

        self.scene = Scene3D(sigma=1, integer_pixel_centers=False)
        self.scene.light_directional = np.array([0.2, -0.3, -0.9])
        self.scene.light_ambient = 0.3
        self.scene.background_color = np.zeros(3)
        vertices = scene.vertices.double().numpy()
        self.albedo = list(scene.albedo.double().numpy())
        self.vertices = list(vertices)
        self.scene.mesh = ColoredTriMesh(
            scene.topology.faces.numpy(), vertices[0], clockwise=False, colors=self.albedo[0], nb_colors=3
        )
        self.cameras = [
            Camera(np.column_stack((R, t)), K, *SIZE, checks=False)
            for K, R, t in zip(*(x.double().numpy() for x in (scene.K, scene.R, scene.t)), strict=True)
        ]

    def both(self, grads: Tensor) -> Peer:
        return Peer(len(self.vertices), lambda: partial(self._both, _pictures(grads)))

    def _both(self, grads: list[np.ndarray]) -> None:
        for vertices, albedo, camera, grad in zip(self.vertices, self.albedo, self.cameras, grads, strict=True):
            self.scene.mesh.set_vertices(vertices)
            self.scene.mesh.set_vertices_colors(albedo)
            self.scene.render(camera)
            self.scene.render_backward(grad)


def colors_of(scene: Scene) -> Tensor:
    """Shaded vertex colours [B, V, 3], by our unfused ops."""
    normals = fk.vertex_normals(scene.vertices, scene.topology)
    turned = (scene.R[:, None] @ normals[..., None])[..., 0]
    return fk.shade_sh(turned, scene.albedo, scene.sh_coeffs)


def _pictures(images: Tensor) -> list[np.ndarray]:
    """[B, 3, H, W] as float64 [H, W, 3] arrays, each its own copy."""
    return [np.array(image.permute(1, 2, 0).numpy(), dtype=np.float64, order="C") for image in images]


def _shrink(mask: Tensor) -> Tensor:
    """Pixels [H, W] whose 5x5 neighbourhood is all in `mask`."""
    return -torch.nn.functional.max_pool2d(-mask.double()[None, None], 5, 1, 2)[0, 0] > 0
