"""PyTorch3D's ``Meshes``, as far as face autoencoders use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ... import _checks, vertex_normals
from ._batch import MeshBatch
from ._layouts import TOPOLOGIES, as_list, chosen, corners, pad, positive_int, refuse, sums_at_vertices

# Upstream's smallest divisor of a normal.
_EPSILON = 1e-6

_UPSTREAM_ONLY = frozenset(
    [
        "edges_packed",
        "edges_packed_to_mesh_idx",
        "mesh_to_edges_packed_first_idx",
        "faces_packed_to_edges_packed",
        "num_edges_per_mesh",
        "laplacian_packed",
        "submeshes",
    ]
)


class Meshes(MeshBatch):
    """A batch of triangle meshes that may differ in size, with PyTorch3D's names for its layouts.

    "Packed" concatenates the meshes, with face indices into the packed vertices; "padded" stacks them, with 0 for
    missing vertices and -1 for missing faces. Gradients flow to ``verts``. Indices are checked once, here.

    Args:
        verts: list of [V_i, 3] tensors, or one [B, V, 3] tensor; float32 or float64.
        faces: list of [F_i, 3] integer tensors, or one [B, F, 3] tensor whose rows may end in padding of -1. In a list
            rows of -1 are left out, wherever they are.
        textures: None, `TexturesVertex`, or another object with ``sample_textures`` and ``check_shapes``.
        verts_normals: None, or normals to use in place of those of the faces, laid out as ``verts``.

    Attributes:
        device: where the tensors lie.
        textures: as given.
        valid: bool [B], whether the mesh has vertices and faces.
        equisized: whether all meshes have as many vertices and as many faces.

    Raises:
        TypeError, ValueError: a tensor has the wrong type, dtype, shape or device, or an index is out of range.

    Differences from upstream:
        * An index that no vertex has, or a face with some of its indices negative, is an error here; upstream reads
          other memory, or leaves the face out.
        * ``num_verts_per_mesh`` and ``num_faces_per_mesh`` have B entries also when no mesh has a face.
        * Nothing that depends on the vertices is kept between calls: areas and normals follow the vertices.
        * Indexing and ``extend`` keep the normals that were given.
        * Edges, the Laplacian and ``submeshes`` are not here.
    """

    _textures: Any = None
    _normals: list[Tensor] | None = None  # as they were given

    def __init__(
        self,
        verts: Sequence[Tensor] | Tensor,
        faces: Sequence[Tensor] | Tensor,
        textures: Any = None,
        *,
        verts_normals: Sequence[Tensor] | Tensor | None = None,
    ) -> None:
        v, f = as_list("Meshes", "verts", verts), as_list("Meshes", "faces", faces)
        if isinstance(faces, Tensor) and len(f) > 1 and faces.stride(0) == 0:
            f = [f[0].long()] * len(f)
        if len(v) != len(f):
            _checks.fail(ValueError, "Meshes", "faces", f"{len(v)} meshes as verts", str(len(f)))
        for mine, its in zip(v, f, strict=True):
            if mine.dtype not in (torch.float32, torch.float64) or mine.dtype != v[0].dtype:
                _checks.fail(TypeError, "Meshes", "verts", "all float32 or all float64", str(mine.dtype))
            if its.is_floating_point() or its.is_complex() or its.dtype == torch.bool:
                _checks.fail(TypeError, "Meshes", "faces", "integers", str(its.dtype))
            _checks.on("Meshes", "verts", mine.device, "the first", v[0].device)
            _checks.on("Meshes", "faces", its.device, "verts", mine.device)
        self._verts = v
        self._faces = _without_padding([its.long() for its in f], [len(mine) for mine in v], isinstance(faces, Tensor))
        self.device = v[0].device if v else torch.device("cpu")
        self._dtype = v[0].dtype if v else torch.float32
        if isinstance(verts, Tensor):
            self.device, self._dtype, self._verts_padded = verts.device, verts.dtype, verts
        if isinstance(faces, Tensor):
            # equal faces stay one tensor
            shared = len(faces) > 1 and faces.stride(0) == 0
            self._faces_padded = faces[0].long().expand_as(faces) if shared else faces.long()
        self.textures = textures
        if verts_normals is not None:
            self._normals = self._given(verts_normals)

    def __getattr__(self, name: str) -> NoReturn:
        refuse("Meshes", name, _UPSTREAM_ONLY)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Meshes:
        """The meshes that an int, a slice, a list of ints, or a tensor of ints or bools names; nothing is copied."""
        numbers = chosen("Meshes", index, len(self))
        return self._like(numbers, None if self.textures is None else self.textures[index])

    @property
    def textures(self) -> Any:
        return self._textures

    @textures.setter
    def textures(self, textures: Any) -> None:
        if textures is not None:
            if not hasattr(textures, "sample_textures") or not hasattr(textures, "check_shapes"):
                _checks.fail(TypeError, "Meshes", "textures", "a TexturesVertex or None", type(textures).__name__)
            self._check_textures(textures)
            # as upstream: a padded texture learns here how much of it is padding
            textures._num_verts_per_mesh = [len(v) for v in self._verts]
            textures._num_faces_per_mesh = [len(f) for f in self._faces]
            textures.valid = self.valid
        self._textures = textures

    # Geometry

    def has_verts_normals(self) -> bool:
        """Whether normals were given; those of the faces are made at each call."""
        return self._normals is not None

    def verts_normals_packed(self) -> Tensor:
        """[sum V, 3]: those given, or the area-weighted sums N of the face normals over max(|N|, 1e-6).

        N sums the cross products (v1 - v0) x (v2 - v0), in the squared unit of ``verts``. Zero at vertices without
        faces. Differentiable in ``verts``.
        """
        if self._normals is not None:
            return torch.cat([*self._normals, torch.empty((0, 3), dtype=self._dtype, device=self.device)])
        verts = self.verts_packed()
        topology = TOPOLOGIES.look_up(self.faces_packed(), len(verts))
        with torch.no_grad():
            short = sums_at_vertices(self._crosses(), topology).norm(dim=-1, keepdim=True) < _EPSILON
        normals = vertex_normals(verts[None], topology)[0]
        if short.any():
            normals = torch.where(short, sums_at_vertices(self._crosses(), topology) / _EPSILON, normals)
        return normals

    def verts_normals_padded(self) -> Tensor:
        """[B, max V, 3], 0 where there is no vertex."""
        return pad(self.verts_normals_list(), 0.0, torch.empty((0, 3), dtype=self._dtype, device=self.device))

    def verts_normals_list(self) -> list[Tensor]:
        """[V_i, 3] per mesh."""
        return list(self.verts_normals_packed().split([len(v) for v in self._verts]))

    def faces_normals_packed(self) -> Tensor:
        """[sum F, 3]: the cross products over max(their lengths, 1e-6). Differentiable in ``verts``."""
        cross = self._crosses()
        return cross / _lengths(cross).clamp(min=_EPSILON)[:, None]

    def faces_normals_padded(self) -> Tensor:
        """[B, max F, 3], 0 where there is no face."""
        return pad(self.faces_normals_list(), 0.0, torch.empty((0, 3), dtype=self._dtype, device=self.device))

    def faces_normals_list(self) -> list[Tensor]:
        """[F_i, 3] per mesh."""
        return list(self.faces_normals_packed().split([len(f) for f in self._faces]))

    def faces_areas_packed(self) -> Tensor:
        """[sum F], in the squared unit of ``verts``. Differentiable, with zero gradient where the area is 0."""
        return _lengths(self._crosses()) / 2

    def get_bounding_boxes(self) -> Tensor:
        """[B, 3, 2]: the least and the greatest x, y and z of each mesh.

        Raises:
            ValueError: a mesh has no vertex.
        """
        if any(len(v) == 0 for v in self._verts):
            _checks.fail(ValueError, "Meshes.get_bounding_boxes", "every mesh", "of a vertex or more", "one without")
        boxes = [torch.stack([v.amin(0), v.amax(0)], -1) for v in self._verts]
        return torch.stack(boxes) if boxes else torch.empty((0, 3, 2), dtype=self._dtype, device=self.device)

    # Other meshes from these

    def clone(self) -> Meshes:
        """A copy with tensors of its own; gradients flow back."""
        return self._each(lambda tensor: tensor.clone(), None if self.textures is None else self.textures.clone())

    def detach(self) -> Meshes:
        """The same meshes without gradient."""
        return self._each(lambda tensor: tensor.detach(), None if self.textures is None else self.textures.detach())

    def to(self, device: torch.device | str | int, copy: bool = False) -> Meshes:
        """The meshes on another device; themselves when they are there already and no copy is asked for."""
        target = torch.empty(0, device=device).device  # "cuda" is the current one
        if target == self.device:
            return self.clone() if copy else self
        return self._each(
            lambda tensor: tensor.to(target), None if self.textures is None else self.textures.to(target), target
        )

    def cpu(self) -> Meshes:
        """``to("cpu")``."""
        return self.to("cpu")

    def cuda(self) -> Meshes:
        """``to("cuda")``."""
        return self.to("cuda")

    def extend(self, N: int) -> Meshes:
        """Every mesh N times, its copies next to each other."""
        times = positive_int("Meshes.extend", "N", N)
        numbers = [i for i in range(len(self)) for _ in range(times)]
        return self._like(numbers, None if self.textures is None else self.textures.extend(times))

    def split(self, split_sizes: Sequence[int]) -> list[Meshes]:
        """Groups of the sizes given, in order."""
        groups, first = [], 0
        for size in split_sizes:
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                _checks.fail(ValueError, "Meshes.split", "split_sizes", "ints >= 0", repr(size))
            groups.append(self[first : first + size])
            first += size
        return groups

    def update_padded(self, new_verts_padded: Tensor) -> Meshes:
        """The same faces and textures with vertices [B, max V, 3]; normals that were given are left behind."""
        old = self.verts_padded()
        (new_verts_padded,) = _checks.floats("Meshes.update_padded", new_verts_padded=new_verts_padded)
        _checks.shape("Meshes.update_padded", "new_verts_padded", new_verts_padded, tuple(old.shape))
        _checks.on("Meshes.update_padded", "new_verts_padded", new_verts_padded.device, "faces", self.device)
        new = self._like(list(range(len(self))), None)
        new._verts = [padded[: len(v)] for padded, v in zip(new_verts_padded.unbind(0), self._verts, strict=True)]
        new._verts_padded, new._dtype = new_verts_padded, new_verts_padded.dtype
        new._faces_padded, new._normals = self._faces_padded, None
        new.textures = self.textures
        return new

    def offset_verts_(self, vert_offsets_packed: Tensor) -> Meshes:
        """Adds [3] to all vertices, or [sum V, 3] to each its own, here; given normals survive only the former."""
        _checks.tensor("Meshes.offset_verts_", "vert_offsets_packed", vert_offsets_packed)
        verts = self.verts_packed()
        if vert_offsets_packed.shape not in ((3,), verts.shape):
            expected, got = f"shape [3] or [{len(verts)}, 3]", str(list(vert_offsets_packed.shape))
            _checks.fail(ValueError, "Meshes.offset_verts_", "vert_offsets_packed", expected, got)
        _checks.like("Meshes.offset_verts_", "vert_offsets_packed", vert_offsets_packed, "verts", verts)
        if vert_offsets_packed.dim() == 2:
            self._normals = None
        self._verts = list((verts + vert_offsets_packed).split([len(v) for v in self._verts]))
        self._verts_padded = None
        return self

    def offset_verts(self, vert_offsets_packed: Tensor) -> Meshes:
        """`offset_verts_` on a copy."""
        return self.clone().offset_verts_(vert_offsets_packed)

    def scale_verts_(self, scale: float | Tensor) -> Meshes:
        """Multiplies all vertices by a number, or those of each mesh by its own of a tensor [B], here."""
        if isinstance(scale, Tensor):
            _checks.shape("Meshes.scale_verts_", "scale", scale, (len(self),))
            _checks.on("Meshes.scale_verts_", "scale", scale.device, "verts", self.device)
            factors: Sequence[Any] = scale.to(self._dtype).unbind(0)
        elif isinstance(scale, bool) or not hasattr(scale, "__float__"):
            _checks.fail(TypeError, "Meshes.scale_verts_", "scale", "a number or a tensor", type(scale).__name__)
        else:
            factors = [float(scale)] * len(self)
        self._verts = [v * factor for v, factor in zip(self._verts, factors, strict=True)]
        self._verts_padded = None
        return self

    def scale_verts(self, scale: float | Tensor) -> Meshes:
        """`scale_verts_` on a copy."""
        return self.clone().scale_verts_(scale)

    def sample_textures(self, fragments: Any) -> Tensor:
        """[B, H, W, K, C]: the textures at the pixels of a rasterizer's fragments, 0 at background.

        Raises:
            ValueError: there are no textures, or they do not fit these meshes.
        """
        if self.textures is None:
            _checks.fail(ValueError, "Meshes.sample_textures", "textures", "given", "None")
        self._check_textures(self.textures)
        return self.textures.sample_textures(fragments, faces_packed=self.faces_packed())

    def _check_textures(self, textures: Any) -> None:
        sizes = [max(map(len, items), default=0) for items in (self._verts, self._faces)]
        if not textures.check_shapes(len(self), *sizes):
            expected = f"for {len(self)} meshes of at most {sizes[0]} vertices and {sizes[1]} faces"
            _checks.fail(ValueError, "Meshes", "textures", expected, "other sizes")

    def _crosses(self) -> Tensor:
        v0, v1, v2 = corners(self.verts_packed(), self.faces_packed()).unbind(1)  # [sum F, 3]
        return torch.linalg.cross(v1 - v0, v2 - v0)

    def _given(self, normals: Sequence[Tensor] | Tensor) -> list[Tensor]:
        items = as_list("Meshes", "verts_normals", normals)
        if len(items) != len(self):
            _checks.fail(ValueError, "Meshes", "verts_normals", f"{len(self)} meshes as verts", str(len(items)))
        if isinstance(normals, Tensor):
            items = [item[: len(v)] for item, v in zip(items, self._verts, strict=True)]
        for item, v in zip(items, self._verts, strict=True):
            _checks.like("Meshes", "verts_normals", item, "verts", v)
            _checks.shape("Meshes", "verts_normals", item, tuple(v.shape))
        return items

    def _like(self, numbers: list[int], textures: Any) -> Meshes:
        """The meshes of these numbers, which need no check."""
        new = object.__new__(type(self))
        new.device, new._dtype = self.device, self._dtype
        new._verts, new._faces = [self._verts[i] for i in numbers], [self._faces[i] for i in numbers]
        if self._normals is not None:
            new._normals = [self._normals[i] for i in numbers]
        new.textures = textures
        return new

    def _each(self, function: Callable[[Tensor], Tensor], textures: Any, device: torch.device | None = None) -> Meshes:
        """The meshes with `function` of every tensor."""
        new = self._like(list(range(len(self))), None)
        new.device = self.device if device is None else device
        new._verts, new._faces = [function(v) for v in new._verts], [function(f) for f in new._faces]
        if new._normals is not None:
            new._normals = [function(n) for n in new._normals]
        if self._faces_padded is not None:
            new._faces_padded = function(self._faces_padded)
        new.textures = textures
        return new


def join_meshes_as_batch(meshes: Sequence[Meshes], include_textures: bool = True) -> Meshes:
    """All meshes of several `Meshes` in one; with textures of one kind, or none.

    Raises:
        TypeError, ValueError: not a list of `Meshes`, or textures that do not go together.
    """
    _check_join("join_meshes_as_batch", meshes)
    verts = [v for item in meshes for v in item.verts_list()]
    faces = [f for item in meshes for f in item.faces_list()]
    textures = [item.textures for item in meshes] if include_textures else []
    kinds = {type(texture) for texture in textures}
    if len(kinds) > 1:
        got = ", ".join(sorted(kind.__name__ for kind in kinds))
        _checks.fail(ValueError, "join_meshes_as_batch", "textures", "all of one kind, or all None", got)
    joined = None if not textures or textures[0] is None else textures[0].join_batch(textures[1:])
    return Meshes(verts, faces, joined)


def join_meshes_as_scene(meshes: Meshes | Sequence[Meshes], include_textures: bool = True) -> Meshes:
    """All meshes as one mesh, which has their vertices and faces one after the other; see `join_meshes_as_batch`."""
    if not isinstance(meshes, Meshes):
        meshes = join_meshes_as_batch(meshes, include_textures)
    textures = meshes.textures.join_scene() if include_textures and meshes.textures is not None else None
    return Meshes([meshes.verts_packed()], [meshes.faces_packed()], textures)


def _check_join(op: str, meshes: Any) -> None:
    if not isinstance(meshes, (list, tuple)) or not all(isinstance(item, Meshes) for item in meshes):
        _checks.fail(TypeError, op, "meshes", "a list of Meshes", type(meshes).__name__)


def _lengths(vectors: Tensor) -> Tensor:
    """[F] of [F, 3], with zero gradient where it is 0."""
    squares = vectors.square().sum(-1)
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1).sqrt(), 0)


def _without_padding(faces: list[Tensor], num_verts: list[int], padded: bool) -> list[Tensor]:
    """Faces without rows of -1; an index out of range is an error, and so is padding before the end of a tensor."""
    # an expanded tensor is the same faces B times; the device is asked once
    distinct = {(f.data_ptr(), f.shape, f.stride()): f for f in faces if f.numel()}
    stats = [value for f in distinct.values() for value in torch.aminmax(f)]
    numbers = torch.stack(stats).view(-1, 2).tolist() if stats else []
    known = dict(zip(distinct, numbers, strict=True))
    kept = []
    for f, limit in zip(faces, num_verts, strict=True):
        low, high = known.get((f.data_ptr(), f.shape, f.stride()), (0, -1))
        missing = int(_is_padding(f).sum()) if low < 0 else 0
        if missing:
            if padded and _is_padding(f[: len(f) - missing]).any():
                _checks.fail(ValueError, "Meshes", "faces", "padded with rows of -1 at the end only", "one before it")
            f = f[: len(f) - missing] if padded else f[~_is_padding(f)]
            low = int(f.amin()) if f.numel() else 0
        if low < 0 or high >= limit:
            _checks.fail(ValueError, "Meshes", "faces", f"in [0, {limit})", f"{low}..{high}")
        kept.append(f)
    return kept


def _is_padding(faces: Tensor) -> Tensor:
    return (faces < 0).all(-1)
