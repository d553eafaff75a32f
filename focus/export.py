"""Writing meshes (OBJ, PLY, GLB with colours), parameters and pictures of a fit. Every file is written atomically.

OBJ and PLY keep the model frame: millimetres, x to the subject's left, y up, z out of the face. GLB has the same axes,
which are glTF's own, in metres. Colours are albedo in [0, 1] in the photo's encoding (sRGB); glTF wants linear light,
so GLB gets them decoded.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from focus_kernels import Topology, vertex_normals

from .atomic import staged_folder, write_atomic
from .camera import focus_camera
from .face_model import FaceModel
from .fitting import FitResult
from .images import write_png

METRES = 1e-3  # per millimetre
PARAMETERS_FORMAT = "focus-fit"
PARAMETERS_VERSION = 1
FLOAT, UNSIGNED_INT, ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 5126, 5125, 34962, 34963  # constants of glTF 2.0
ROUGHNESS = 0.7  # of skin, for viewers that light the mesh


def write_obj(path: str | os.PathLike[str], vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> None:
    """Write Wavefront OBJ with vertex colours (`v x y z r g b`): mm, colours in [0, 1], sRGB.

    Args:
        vertices: [V, 3] mm.
        faces: [F, 3] vertex numbers from 0; the file counts from 1.
        colors: [V, 3] RGB, cut to [0, 1].

    Raises:
        ValueError: wrong shapes, indices out of range, or numbers that are not finite.
    """
    vertices, faces, colors = _checked("write_obj", vertices, faces, colors)
    rows = np.hstack([vertices, colors])
    text = "# millimetres; x to the subject's left, y up, z out of the face; sRGB vertex colours\n"
    text += ("v %.5f %.5f %.5f %.5f %.5f %.5f\n" * len(rows)) % tuple(rows.reshape(-1).tolist())
    text += ("f %d %d %d\n" * len(faces)) % tuple((faces + 1).reshape(-1).tolist())
    write_atomic(path, text)


def write_ply(path: str | os.PathLike[str], vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> None:
    """Write binary little-endian PLY: float32 mm and uchar red, green, blue (sRGB). Arguments as `write_obj`."""
    vertices, faces, colors = _checked("write_ply", vertices, faces, colors)
    table = np.empty(len(vertices), [("position", "<f4", 3), ("color", "u1", 3)])
    table["position"], table["color"] = vertices, np.round(colors * 255)
    triangles = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    triangles["count"], triangles["corners"] = 3, faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment millimetres; x to the subject's left, y up, z out of the face; sRGB colours",
        f"element vertex {len(vertices)}",
        *(f"property float {name}" for name in "xyz"),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    write_atomic(path, "\n".join(header).encode() + table.tobytes() + triangles.tobytes())


def write_glb(path: str | os.PathLike[str], vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray) -> None:
    """Write binary glTF 2.0 with normals and vertex colours, in metres. Arguments as `write_obj` (mm, sRGB).

    Written here and not by trimesh, which stores the colours' sRGB bytes where glTF expects linear light, and no
    material, whose default in glTF is metal. trimesh.load(path, skip_materials=True) shows the colours as the mesh's.
    """
    vertices, faces, colors = _checked("write_glb", vertices, faces, colors)
    positions = (vertices * METRES).astype("<f4")
    topology = Topology(torch.from_numpy(faces), len(vertices))
    normals = vertex_normals(torch.from_numpy(vertices)[None], topology)[0].numpy()
    lost = np.linalg.norm(normals, axis=1) < 0.5  # no face, or faces without area; glTF wants unit vectors
    normals[lost] = (0.0, 0.0, 1.0)
    arrays = (  # name, data, component type, type, target
        ("POSITION", positions, FLOAT, "VEC3", ARRAY_BUFFER),
        ("NORMAL", normals.astype("<f4"), FLOAT, "VEC3", ARRAY_BUFFER),
        ("COLOR_0", srgb_to_linear(colors).astype("<f4"), FLOAT, "VEC3", ARRAY_BUFFER),
        ("indices", faces.astype("<u4").reshape(-1), UNSIGNED_INT, "SCALAR", ELEMENT_ARRAY_BUFFER),
    )
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    offset = 0
    for index, (_, data, component, kind, target) in enumerate(arrays):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": data.nbytes, "target": target})
        accessors.append({"bufferView": index, "componentType": component, "count": len(data), "type": kind})
        offset += data.nbytes
    accessors[0] |= {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}  # demanded for POSITION
    primitive = {"attributes": {arrays[i][0]: i for i in range(3)}, "indices": 3, "material": 0}
    material = {
        "doubleSided": True,  # a face is an open surface
        "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": ROUGHNESS},
    }
    content = {
        "asset": {"version": "2.0", "generator": "focus-kernels"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "face"}],
        "meshes": [{"name": "face", "primitives": [primitive]}],
        "materials": [material],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary = b"".join(data.tobytes() for _, data, *_ in arrays)  # every item is a multiple of 4 bytes
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    write_atomic(path, struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def srgb_to_linear(colors: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1: display values in [0, 1] to linear light in [0, 1]."""
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)


def _checked(
    function: str, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float64 [V, 3], int32 [F, 3], float64 [V, 3] in [0, 1]."""
    vertices, faces, colors = np.asarray(vertices), np.asarray(faces), np.asarray(colors)
    for name, array in (("vertices", vertices), ("faces", faces), ("colors", colors)):
        if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0:
            raise ValueError(f"{function}(): expected {name} to be shape [N, 3] with N > 0, got {list(array.shape)}")
    if len(colors) != len(vertices):
        raise ValueError(f"{function}(): expected colors to be one for each of {len(vertices)} vertices")
    if not np.issubdtype(faces.dtype, np.integer):
        raise TypeError(f"{function}(): expected faces to be integers, got {faces.dtype}")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise ValueError(
            f"{function}(): expected faces to be in 0..{len(vertices) - 1}, got {faces.min()}..{faces.max()}"
        )
    if not (np.isfinite(vertices).all() and np.isfinite(colors).all()):
        raise ValueError(f"{function}(): expected vertices and colors to be finite")
    return vertices.astype(np.float64), faces.astype(np.int32), np.clip(colors.astype(np.float64), 0.0, 1.0)


def parameters(result: FitResult, model: FaceModel, photo: str = "", photo_size: tuple[int, int] = (0, 0)) -> dict:
    """What `parameters.json` holds (docs/fit.md): coefficients, camera, landmarks, errors, as plain Python values.

    Args:
        photo: the photo's name; photo_size: its width and height in pixels.
    """
    head = {"format": PARAMETERS_FORMAT, "version": PARAMETERS_VERSION, "photo": photo, "photo_size": list(photo_size)}
    return {**head, **face_parameters(result, model), "errors": errors(result), "seconds": round(result.seconds, 3)}


def face_parameters(result: Any, model: FaceModel) -> dict[str, Any]:
    """Model, coefficients, camera and landmarks of a fit or of a network's reconstruction, as plain Python values."""
    size = len(result.photo)
    pose = (torch.from_numpy(np.atleast_2d(values)) for values in (result.angles, result.translation))
    camera = focus_camera(*pose, size=size)
    projected = result.landmarks_projected
    return {
        "model": {"name": model.name, "license": model.license, "num_vertices": len(result.vertices)},
        "identity": plain(result.identity),
        "expression": plain(result.expression),
        "albedo_coeffs": plain(result.albedo_coeffs),
        "sh_coeffs": plain(result.sh_coeffs),
        "angles": plain(result.angles),
        "translation": plain(result.translation),
        "camera": {
            "size": size,
            "K": plain(camera.K[0].numpy()),
            "R": plain(camera.R[0].numpy()),
            "t": plain(camera.t[0].numpy()),
        },
        "align": plain(result.align),
        "landmarks_photo": plain(result.landmarks_photo),
        "landmarks_projected": None if projected is None else plain(projected),
    }


def errors(result: FitResult) -> dict[str, float | None]:
    """The four numbers that judge a fit; RMSE in 0..255, None over a mask without a pixel."""
    names = ("rmse_inlier", "rmse_all", "inlier_fraction", "landmark_error_px")
    values = {name: float(getattr(result, name)) for name in names}
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in values.items()}


def plain(values: np.ndarray) -> Any:
    """For JSON: nested lists; float32 as its shortest decimals, which read back as the same float32."""
    if values.dtype == np.float32:
        return np.array([float(str(v)) for v in values.reshape(-1)]).reshape(values.shape).tolist()
    return values.tolist()


def overlay(result: FitResult) -> np.ndarray:
    """The fitted face over the photo's crop: uint8 [S, S, 3]."""
    face = np.round(np.clip(result.render, 0.0, 1.0) * 255).astype(np.uint8)
    return np.where(result.raster_mask[:, :, None], face, result.photo)


def export_fit(
    folder: str | os.PathLike[str],
    result: FitResult,
    model: FaceModel,
    photo: str = "",
    photo_size: tuple[int, int] = (0, 0),
    pictures: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write all files of one fit into `folder`, all or none: mesh.{obj,ply,glb}, parameters.json and pictures.

    Args:
        photo, photo_size: as in `parameters`.
        pictures: further pictures, name without ending -> uint8 array, written beside photo, overlay and mask.

    Raises:
        ValueError: the result holds numbers that are not finite.
        OSError: the folder cannot be written.
    """
    # allow_nan=False: NaN is no JSON, and no other program would read it.
    text = json.dumps(parameters(result, model, photo, photo_size), indent=1, allow_nan=False, ensure_ascii=False)
    mesh = (result.vertices, result.faces, result.colors)
    images = {
        "photo": result.photo,
        "overlay": overlay(result),
        "mask": result.mask.astype(np.uint8) * 255,
        **(pictures or {}),
    }
    with staged_folder(folder) as stage:
        write_obj(stage / "mesh.obj", *mesh)
        write_ply(stage / "mesh.ply", *mesh)
        write_glb(stage / "mesh.glb", *mesh)
        write_atomic(stage / "parameters.json", text + "\n")
        for name, image in images.items():
            write_png(stage / f"{name}.png", image)
