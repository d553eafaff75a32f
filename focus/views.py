"""Pictures of a mesh alone: grey, under one light, from the front and from the side."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from focus_kernels import Camera, Topology, render_sh, shade_sh

from .camera import DISTANCE, FOCAL_PER_HALF_SIZE, rotation_matrix

SIZE = 224  # px
SUPERSAMPLING = 3  # renders per pixel and axis, for smooth edges
YAWS = {"shape_front": -20.0, "shape_side": -80.0}  # degrees; negative turns the face to the image's left
GREY = 0.80
AMBIENT, DIFFUSE = 0.32, 0.68
LIGHT = (-0.45, -0.65, -0.75)  # towards the lamp, camera frame (y down, z away from the viewer)
MARGIN = 0.95  # of the picture that a mesh larger than FOCUS's field of view fills


def shape_views(vertices: np.ndarray, faces: np.ndarray, size: int = SIZE) -> dict[str, np.ndarray]:
    """Grey renders of a mesh: picture name -> uint8 [size, size, 4] RGBA, transparent where no face is.

    Args:
        vertices: [V, 3] mm, model frame.
        faces: [F, 3].

    All photos of a run are drawn to one scale, FOCUS's, unless the mesh would leave the picture.
    """
    points = torch.from_numpy(np.asarray(vertices, dtype=np.float32))[None]
    topology = Topology(torch.from_numpy(np.asarray(faces)), points.shape[1])
    return {name: _view(points, topology, np.radians(yaw), size) for name, yaw in YAWS.items()}


def _view(points: Tensor, topology: Topology, yaw: float, size: int) -> np.ndarray:
    rotation = rotation_matrix(torch.tensor([[0.0, yaw, 0.0]], dtype=points.dtype))
    turned = points @ rotation.transpose(1, 2)
    low, high = turned.amin(1), turned.amax(1)  # [1, 3]
    distance = max(DISTANCE, 2 * float(high[0, 2] - low[0, 2]))  # well in front of the camera, whatever its size
    translation = points.new_tensor([[0.0, 0.0, distance]]) - (low + high) / 2
    seen = turned + translation[:, None]
    reach = float((seen[..., :2].abs() / seen[..., 2:]).max())  # tangent of the widest angle
    side = size * SUPERSAMPLING
    focal = side / 2 * min(FOCAL_PER_HALF_SIZE, MARGIN / max(reach, 1e-6))
    K = points.new_tensor([[focal, 0.0, side / 2], [0.0, focal, side / 2], [0.0, 0.0, 1.0]])[None]
    camera = Camera(K, rotation, translation)
    albedo = torch.full_like(points, GREY)
    render = render_sh(points, albedo, _light()[None].to(points), topology, camera, (side, side), cull=None)
    samples = torch.cat([render.image.clamp(0, 1), render.mask], 1)
    image = torch.nn.functional.avg_pool2d(samples, SUPERSAMPLING)[0].permute(1, 2, 0).numpy()  # [size, size, 4]
    image[:, :, :3] /= np.maximum(image[:, :, 3:], 1e-6)  # the mean over covered samples; alpha says how many
    return np.round(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _light() -> Tensor:
    """[3, 9]: ambient light and one lamp (Lambert's cosine), brought to the nine harmonics by least squares."""
    index = torch.arange(2000, dtype=torch.float64) + 0.5  # a Fibonacci sphere
    z, turn = 1 - index / 1000, index * (1 + 5**0.5) * torch.pi
    r = (1 - z**2).sqrt()
    normals = torch.stack([r * turn.cos(), r * turn.sin(), z], 1)[None]
    # One harmonic in each colour of each of three pictures gives the basis without naming its constants.
    basis = shade_sh(
        normals.expand(3, -1, -1), torch.ones_like(normals).expand(3, -1, -1), torch.eye(9).reshape(3, 3, 9).double()
    )
    lamp = torch.nn.functional.normalize(torch.tensor(LIGHT, dtype=torch.float64), dim=0)
    target = AMBIENT + DIFFUSE * (normals[0] @ lamp).clamp_min(0)
    coeffs = torch.linalg.lstsq(basis.permute(1, 0, 2).reshape(-1, 9), target[:, None]).solution[:, 0]
    return coeffs.expand(3, 9).float()
