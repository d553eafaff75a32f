"""3DDFA_V2's ``Sim3DR`` on these kernels: NumPy in and out, on the CPU, with nothing to build.

Replace ``from Sim3DR import RenderPipeline, get_normal, rasterize`` by
``from focus_kernels.compat.sim3dr import RenderPipeline, get_normal, rasterize``; nothing else changes.

Coordinates are pixels: x right, y down, a pixel's centre at its integer column and row, a larger z nearer. Nothing is
differentiable.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from .. import Topology, _checks, vertex_normals
from .. import rasterize as _rasterize
from ._topologies import TopologyCache

_FARTHEST = -1e8  # upstream's depth buffer starts here, and only what is nearer is drawn
_HIGHEST = 1e12  # beyond, the other depths would lose their digits
_FLOAT32_RANGE = 4096.0  # of depths, which float32 then resolves to 2^-11
_MAX_SIDE = 2**23

_topologies = TopologyCache()


def rasterize(
    vertices: ArrayLike,
    triangles: ArrayLike,
    colors: ArrayLike,
    bg: NDArray[np.uint8] | None = None,
    height: int | None = None,
    width: int | None = None,
    channel: int | None = None,
    reverse: bool = False,
) -> NDArray[np.uint8]:
    """Draws a mesh with a colour per vertex over a picture, in place.

    A pixel shows the nearest triangle, of either winding, that contains its centre strictly inside; at equal depth the
    first. Colours are affine in the image and truncated to ``uint8(255 * color)``. Barycentrics and depths are those of
    upstream's float32 formula, to the bit.

    Args:
        vertices: [V, 3] float32, (x px, y px, z).
        triangles: [F, 3] int32, each in [0, V).
        colors: [V, C] float32 in [0, 1].
        bg: [H, W, C] uint8, drawn over in place; None is black. Any memory layout.
        height, width, channel: H, W and C; needed without ``bg`` and ignored with it.
        reverse: draw upside down: row i of the mesh's image goes to row H - 1 - i.

    Returns:
        ``bg`` itself, or the new [H, W, C] uint8 picture.

    Raises:
        TypeError: an argument that is no array of numbers, float triangles, a ``bg`` that is no uint8 array, or a size
            that is no int.
        ValueError: a wrong shape, a vertex number out of range, or a ``bg`` that cannot be written.

    Differences from upstream:
        * Vertices are rounded to float32 after a shift by half a pixel, and depths to the extent of z over 2^23 (to
          float64 where that extent exceeds 4096). Coverage and the order of depths of what results are decided exactly,
          where upstream rounds each step in float32: pixel centres within rounding of an edge, triangles within it of
          each other, and slivers may differ.
        * Colours outside [0, 1] saturate, and NaN is 0; upstream's conversion is undefined there (it wraps on x86).
        * Triangles with a coordinate that is not finite, with |x| or |y| above 2^23 or |z| above 1e12 are dropped;
          upstream reads or draws garbage.
        * Vertex numbers and shapes are checked; upstream reads out of bounds.
        * Other real dtypes, layouts and nested lists are converted (to float32, and integers to int32); upstream
          refuses all but C-contiguous float32 and int32. ``bg`` is never converted.
        * Without ``bg`` the first versions of upstream make a float32 picture, which they then refuse.
    """
    op = "rasterize"
    points = _floats(op, "vertices", vertices, 3)
    faces = _integers(op, "triangles", triangles)
    values = _floats(op, "colors", colors)
    bg = _picture(op, bg, height, width, channel)
    if values.shape != (len(points), bg.shape[2]):
        _checks.fail(ValueError, op, "colors", f"shape [{len(points)}, {bg.shape[2]}]", str(list(values.shape)))
    if not isinstance(reverse, (bool, int, np.bool_)):
        _checks.fail(TypeError, op, "reverse", "a bool", type(reverse).__name__)
    topology = _topology(op, faces, len(points))
    if bg.size == 0 or faces.size == 0:
        return bg
    if max(bg.shape[:2]) > _MAX_SIDE:
        _checks.fail(ValueError, op, "bg", f"at most {_MAX_SIDE} pixels high and wide", str(list(bg.shape)))

    positions = torch.from_numpy(_positions(points))[None]
    raster = _rasterize(
        positions, topology, bg.shape[:2], coverage="strict", cull=None, perspective_correct=False, tie="lowest"
    )
    visible = raster.face_index.numpy().reshape(-1)
    pixels = np.flatnonzero(visible >= 0)
    row = pixels // bg.shape[1]
    column = pixels - row * bg.shape[1]
    # [3 P], all first corners first
    corners = torch.from_numpy(np.take(faces, np.take(visible, pixels), axis=0).T.astype(np.int64).reshape(-1))
    x, y = _at(points, 0, corners), _at(points, 1, corners)
    picture = np.ascontiguousarray(bg)
    flat = picture.reshape(-1, bg.shape[2])  # [H W, C]
    places = (bg.shape[0] - 1 - row) * bg.shape[1] + column if reverse else pixels
    with np.errstate(all="ignore"):
        weights = _weights(x, y, column.astype(np.float32), row.astype(np.float32))
        wrong = ~((weights[0] > 0) & (weights[1] > 0) & (weights[2] > 0))
        if wrong.any():  # upstream rounds these out of their triangle
            weights[:, wrong] = raster.barycentrics.numpy().reshape(-1, 3)[pixels[wrong]].T
        near: Any = slice(None)
        if not points[:, 2].min() > 0.9 * _FARTHEST:
            near = _mix(weights, _at(points, 2, corners)) > _FARTHEST
        for k in range(bg.shape[2]):
            shown = np.float32(255) * _mix(weights, _at(values, k, corners))
            np.fmin(np.fmax(shown, 0, out=shown), 255, out=shown)
            flat[places[near], k] = shown[near].astype(np.uint8)
    if picture is not bg:
        bg[...] = picture
    return bg


def get_normal(vertices: ArrayLike, triangles: ArrayLike) -> NDArray[np.float32]:
    """Vertex normals of unit length: the normalised sum of (v1 - v0) x (v2 - v0) over the triangles at each vertex.

    Args:
        vertices: [V, 3] float32, in any unit.
        triangles: [F, 3] int32, each in [0, V).

    Returns:
        [V, 3] float32 in the frame of ``vertices``; 0 where the sum is 0.

    Raises:
        TypeError, ValueError: as `rasterize`.

    Differences from upstream:
        * Sums are rounded in another order or precision: components differ by a few 1e-7.
        * Triangles whose cross product is not finite are left out; upstream's normals become NaN.
        * Arguments are checked and converted as in `rasterize`.
    """
    points = _floats("get_normal", "vertices", vertices, 3)
    topology = _topology("get_normal", _integers("get_normal", "triangles", triangles), len(points))
    return vertex_normals(torch.from_numpy(points)[None], topology)[0].numpy()


class RenderPipeline:
    """Upstream's lighting, an ambient, a diffuse and a specular part per vertex, drawn with `rasterize`.

    With the vertices scaled into [-1, 1] (each axis from its smallest value, all by the largest extent) and then
    centred, L and E the unit vectors to the light and to the viewer, N the normal and c = N . L::

        light = ambient * color_ambient + directional * color_directional * clip(c)
              + specular * color_directional * clip(s),   s = sum((E * (2 c N - L)) ** specular_exp), 0 where c = 0

    clip is to [0, 1], for ``light`` too. The power is taken per axis and before the sum, as upstream does. Without a
    directional part there is no specular one.

    Args (keywords only; others are ignored, as upstream does), kept as attributes:
        intensity_ambient, intensity_directional, intensity_specular: 0.3, 0.6, 0.1; a number or one per channel.
        specular_exp: 5.
        color_ambient, color_directional: (1, 1, 1).
        light_pos, view_pos: (0, 0, 5), in the scaled frame.

    Differences from upstream:
        * ``texture`` is not changed; upstream multiplies the caller's array by the light, so a second call is darker.
          Any real dtype will do; upstream needs a float one.
        * An intensity per channel works; upstream raises an error.
        * What is not a number (a vertex at the light, a power of a negative base, a mesh of one point) adds no light,
          and vertices that are not finite do not count in the scale; upstream's whole picture is then undefined.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.intensity_ambient = _as_row(kwargs.get("intensity_ambient", 0.3))
        self.intensity_directional = _as_row(kwargs.get("intensity_directional", 0.6))
        self.intensity_specular = _as_row(kwargs.get("intensity_specular", 0.1))
        self.specular_exp = kwargs.get("specular_exp", 5)
        self.color_ambient = _as_row(kwargs.get("color_ambient", (1, 1, 1)))
        self.color_directional = _as_row(kwargs.get("color_directional", (1, 1, 1)))
        self.light_pos = _as_row(kwargs.get("light_pos", (0, 0, 5)))
        self.view_pos = _as_row(kwargs.get("view_pos", (0, 0, 5)))

    def update_light_pos(self, light_pos: Any) -> None:
        self.light_pos = _as_row(light_pos)

    def __call__(
        self, vertices: ArrayLike, triangles: ArrayLike, bg: NDArray[np.uint8], texture: ArrayLike | None = None
    ) -> NDArray[np.uint8]:
        """Lights the mesh and draws it over ``bg``, in place.

        Args:
            vertices, triangles: as `rasterize` takes them.
            bg: [H, W, 3] uint8.
            texture: [V, 3] vertex colours in [0, 1], multiplied by the light; None is white.

        Returns:
            ``bg``.

        Raises:
            TypeError, ValueError: as `rasterize`; an attribute that is no number, or not one or three of them.
        """
        op = "RenderPipeline"
        points = _floats(op, "vertices", vertices, 3)
        faces = _integers(op, "triangles", triangles)
        if bg is None:
            _checks.fail(TypeError, op, "bg", "a NumPy array", "None")
        colors = self._light(points, get_normal(points, faces))
        if texture is not None:
            painted = _floats(op, "texture", texture, 3)
            if painted.shape != points.shape:
                _checks.fail(ValueError, op, "texture", f"shape {list(points.shape)}", str(list(painted.shape)))
            colors = painted * colors
        return rasterize(points, faces, colors, bg)

    def _light(self, points: NDArray[np.float32], normal: NDArray[np.float32]) -> NDArray[np.float32]:
        ambient = _triple("intensity_ambient", self.intensity_ambient)
        directional = _triple("intensity_directional", self.intensity_directional)
        specular = _triple("intensity_specular", self.intensity_specular)
        exponent = _triple("specular_exp", self.specular_exp)
        color_ambient = _triple("color_ambient", self.color_ambient)
        color = _triple("color_directional", self.color_directional)
        light_pos = _triple("light_pos", self.light_pos)
        view_pos = _triple("view_pos", self.view_pos)
        light = np.zeros_like(points)
        if (ambient > 0).any():
            light += ambient * color_ambient
        if (directional > 0).any():
            with np.errstate(all="ignore"):
                scaled = _scaled(points)
                to_light = _unit(light_pos - scaled)
                cos = np.sum(normal * to_light, axis=1)[:, None]
                cos = np.where(np.isnan(cos), np.float32(0), cos)
                light += directional * (color * np.clip(cos, 0, 1))
                if (specular > 0).any():
                    to_viewer = _unit(view_pos - scaled)
                    mirrored = 2 * cos * normal - to_light
                    shine = np.sum((to_viewer * mirrored) ** exponent, axis=1)[:, None]
                    shine = np.where((cos != 0) & ~np.isnan(shine), np.clip(shine, 0, 1), np.float32(0))
                    light += specular * color * shine
        return np.clip(light, 0, 1)


def _as_row(value: Any) -> Any:
    """Tuples and lists as arrays [1, n], the rest as it is."""
    return np.array(value, dtype=np.float32)[None, :] if isinstance(value, (tuple, list)) else value


def _triple(name: str, value: Any) -> NDArray[np.float32]:
    """One number, or one for each of three axes or channels, as float32 that broadcasts with [V, 3]."""
    array = _array("RenderPipeline", name, value, "fiu", "a number or three")
    if array.shape not in ((), (1,), (3,), (1, 1), (1, 3)):
        _checks.fail(ValueError, "RenderPipeline", name, "a number or three", f"shape {list(array.shape)}")
    return array.astype(np.float32)


def _scaled(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vertices that are finite, scaled to an extent of 2 and centred; zeros where there is no extent."""
    finite = np.isfinite(points).all(1, keepdims=True)
    if not len(points) or not finite.any():
        return np.zeros_like(points)
    scaled = points - np.min(points, 0, where=finite, initial=np.inf)
    extent = np.max(scaled, where=finite, initial=0)
    scaled = np.where(finite, scaled, np.float32(0))
    if extent > 0:
        scaled = scaled / extent * np.float32(2)
    return scaled - np.max(scaled, 0) / 2


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.sqrt(np.sum(vectors**2, axis=1))[:, None]
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _positions(points: NDArray[np.float32]) -> NDArray[np.floating]:
    """Where our rasterizer has `points`: half a pixel on, and with depths that grow into the picture."""
    z = points[:, 2]
    low, high = float(z.min()), float(z.max())
    if not -_HIGHEST <= low <= high <= _HIGHEST:
        z = np.where(np.abs(z) <= _HIGHEST, z, np.float32(np.nan))
        some = z[~np.isnan(z)]
        low, high = (float(some.min()), float(some.max())) if some.size else (0.0, 0.0)
    spread = high - low
    dtype = np.float32 if spread <= _FLOAT32_RANGE else np.float64
    # depths from `spread` on: positive, and of about one binade
    origin = dtype(high + (spread if spread > 1e-12 else 1.0))
    positions = np.add(points, dtype(0.5), dtype=dtype)
    np.subtract(origin, z, out=positions[:, 2], dtype=dtype)
    return positions


def _at(values: NDArray[np.float32], k: int, corners: torch.Tensor) -> NDArray[np.float32]:
    """Column k at the corners, [3, P]: gathering single numbers from a column of its own is fastest."""
    column = torch.from_numpy(np.ascontiguousarray(values[:, k]))
    return column.index_select(0, corners).numpy().reshape(3, -1)


def _weights(x: NDArray, y: NDArray, px: NDArray, py: NDArray) -> NDArray[np.float32]:
    """Barycentrics [3, P] from corners [3, P] and pixels [P], in the order of upstream's float32 operations."""
    e2x, e2y, e1x, e1y = x[2] - x[0], y[2] - y[0], x[1] - x[0], y[1] - y[0]
    dx, dy = px - x[0], py - y[0]
    d22, d12, d2p = e2x * e2x + e2y * e2y, e2x * e1x + e2y * e1y, e2x * dx + e2y * dy
    d11, d1p = e1x * e1x + e1y * e1y, e1x * dx + e1y * dy
    inverse = 1 / (d22 * d11 - d12 * d12)
    weights = np.empty_like(x)
    weights[2] = (d11 * d2p - d12 * d1p) * inverse
    weights[1] = (d22 * d1p - d12 * d2p) * inverse
    weights[0] = 1 - weights[2] - weights[1]
    return weights


def _mix(weights: NDArray[np.float32], values: NDArray[np.float32]) -> NDArray[np.float32]:
    return weights[0] * values[0] + weights[1] * values[1] + weights[2] * values[2]


def _array(op: str, name: str, value: Any, kinds: str, expected: str) -> NDArray:
    try:
        array = np.asarray(value)
    except Exception as error:  # whatever the object's own conversion raises
        raise TypeError(f"{op}(): expected {name} to be {expected}, got {type(value).__name__}: {error}") from error
    if array.dtype.kind not in kinds:
        got = str(array.dtype) if isinstance(value, np.ndarray) else type(value).__name__
        _checks.fail(TypeError, op, name, expected, got)
    return array


def _floats(op: str, name: str, value: Any, width: int | None = None) -> NDArray[np.float32]:
    array = _array(op, name, value, "fiu", "an array of real numbers")
    if array.ndim != 2 or (width is not None and array.shape[1] != width):
        shape = f"shape [*, {'*' if width is None else width}]"
        _checks.fail(ValueError, op, name, shape, str(list(array.shape)))
    with np.errstate(over="ignore"):
        return _writable(np.ascontiguousarray(array, dtype=np.float32))


def _integers(op: str, name: str, value: Any) -> NDArray[np.int32]:
    array = _array(op, name, value, "iu", "an integer array")
    if array.ndim != 2 or array.shape[1] != 3:
        _checks.fail(ValueError, op, name, "shape [*, 3]", str(list(array.shape)))
    if array.dtype != np.int32 and array.size:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= 2**31:
            _checks.fail(ValueError, op, name, "numbers of vertices", str(low if low < 0 else high))
    return _writable(np.ascontiguousarray(array, dtype=np.int32))


def _writable(array: NDArray) -> NDArray:
    return array if array.flags.writeable else array.copy()  # torch warns of memory that it may not write


def _topology(op: str, faces: NDArray[np.int32], num_vertices: int) -> Topology:
    try:
        return _topologies.look_up(torch.from_numpy(faces), num_vertices, counted=False)
    except ValueError:
        low, high = int(faces.min()), int(faces.max())
        bad = low if low < 0 else high
        _checks.fail(ValueError, op, "triangles", f"in [0, {num_vertices})", str(bad))


def _picture(op: str, bg: Any, height: Any, width: Any, channel: Any) -> NDArray[np.uint8]:
    if bg is None:
        shape = []
        for name, side in (("height", height), ("width", width), ("channel", channel)):
            if isinstance(side, (bool, np.bool_)) or not hasattr(side, "__index__"):
                _checks.fail(TypeError, op, name, "an int where bg is None", type(side).__name__)
            if operator.index(side) < 0:
                _checks.fail(ValueError, op, name, ">= 0", str(side))
            shape.append(operator.index(side))
        return np.zeros(shape, np.uint8)
    if not isinstance(bg, np.ndarray):
        _checks.fail(TypeError, op, "bg", "a NumPy array", type(bg).__name__)
    if bg.dtype != np.uint8:
        _checks.fail(TypeError, op, "bg", "uint8", str(bg.dtype))
    if bg.ndim != 3:
        _checks.fail(ValueError, op, "bg", "shape [*, *, *]", str(list(bg.shape)))
    if not bg.flags.writeable:
        _checks.fail(ValueError, op, "bg", "writable, as it is drawn over in place", "a read-only array")
    return bg
