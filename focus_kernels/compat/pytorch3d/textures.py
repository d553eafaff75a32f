"""PyTorch3D's ``TexturesVertex``: features at the vertices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ... import Raster, _checks, interpolate
from ._layouts import TOPOLOGIES, as_list, chosen, corners, pad, positive_int, refuse

_UPSTREAM_ONLY = frozenset(["submeshes"])


class TexturesVertex:
    """Features, such as colours, at the vertices of a batch of meshes.

    Args:
        verts_features: list of [V_i, C] tensors, or one [B, V, C] tensor; float32 or float64, any C.

    Attributes:
        device: where the tensors lie.
        valid: bool [B], set by `Meshes`.

    `Meshes` tells a padded texture how many vertices each mesh has. Gradients flow to ``verts_features``.

    Raises:
        TypeError, ValueError: a tensor has the wrong type, dtype, shape or device, or C differs.
    """

    device: torch.device
    _num_faces_per_mesh: list[int]

    def __init__(self, verts_features: Sequence[Tensor] | Tensor) -> None:
        features = as_list("TexturesVertex", "verts_features", verts_features, -1)
        for item in features:
            if item.dtype not in (torch.float32, torch.float64) or item.dtype != features[0].dtype:
                expected = "all float32 or all float64"
                _checks.fail(TypeError, "TexturesVertex", "verts_features", expected, str(item.dtype))
            _checks.shape("TexturesVertex", "verts_features", item, (-1, features[0].shape[1]))
            _checks.on("TexturesVertex", "verts_features", item.device, "the first", features[0].device)
        like = verts_features if isinstance(verts_features, Tensor) else features[0] if features else torch.zeros(0, 3)
        self._empty = like.detach().new_zeros(0, like.shape[-1])  # for a batch of nothing
        self._padded = verts_features if isinstance(verts_features, Tensor) else None
        self._features = features
        self._num_verts_per_mesh = [len(item) for item in features]
        self.device = like.device
        self.valid = torch.ones(len(features), dtype=torch.bool, device=self.device)

    def __len__(self) -> int:
        return len(self._features)

    def __getattr__(self, name: str) -> NoReturn:
        refuse("TexturesVertex", name, _UPSTREAM_ONLY)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> TexturesVertex:
        """The textures of the meshes that an int, a slice, a list of ints, or a tensor of ints or bools names."""
        features = self.verts_features_list()
        return self._like([features[i] for i in chosen("TexturesVertex", index, len(self))])

    def isempty(self) -> bool:
        """True when no mesh is valid: when none has a face."""
        return not bool(self.valid.any())

    def verts_features_list(self) -> list[Tensor]:
        """[V_i, C] per mesh."""
        return [item[:count] for item, count in zip(self._features, self._num_verts_per_mesh, strict=True)]

    def verts_features_packed(self) -> Tensor:
        """[sum V, C]."""
        return torch.cat([*self.verts_features_list(), self._empty])

    def verts_features_padded(self) -> Tensor:
        """[B, max V, C], 0 for missing vertices."""
        return self._padded if self._padded is not None else pad(self._features, 0.0, self._empty)

    def faces_verts_textures_packed(self, faces_packed: Tensor) -> Tensor:
        """[sum F, 3, C]: the features at the corners of ``Meshes.faces_packed()``."""
        return corners(self.verts_features_packed(), faces_packed)

    def sample_textures(self, fragments: Any, faces_packed: Tensor | None = None) -> Tensor:
        """The features at pixels: the sum of barycentrics times those of the face's corners.

        Args:
            fragments: has ``pix_to_face`` int64 [B, H, W, K], packed face indices and -1 at background, and
                ``bary_coords`` [B, H, W, K, 3] in the dtype of the features. A tuple of `rasterize_meshes` serves too.
            faces_packed: int64 [sum F, 3], ``Meshes.faces_packed()``.

        Returns:
            [B, H, W, K, C], 0 at background. Differentiable in the features and in ``bary_coords``.

        Raises:
            TypeError, ValueError: a tensor has the wrong type, dtype, shape or device. A face index that
                ``faces_packed`` does not have counts as background.
        """
        op = "TexturesVertex.sample_textures"
        if faces_packed is None:
            _checks.fail(ValueError, op, "faces_packed", "given: Meshes.faces_packed()", "None")
        if isinstance(fragments, tuple) and not hasattr(fragments, "pix_to_face"):
            pix_to_face, bary = fragments[0], fragments[2]
        else:
            pix_to_face, bary = fragments.pix_to_face, fragments.bary_coords
        _checks.tensor(op, "pix_to_face", pix_to_face)
        if pix_to_face.dtype not in (torch.int64, torch.int32):
            _checks.fail(TypeError, op, "pix_to_face", "int64 or int32", str(pix_to_face.dtype))
        _checks.shape(op, "pix_to_face", pix_to_face, (len(self), -1, -1, -1))
        features, bary = _checks.floats(op, verts_features=self.verts_features_packed(), bary_coords=bary)
        _checks.shape(op, "bary_coords", bary, (*pix_to_face.shape, 3))
        _checks.on(op, "pix_to_face", pix_to_face.device, "verts_features", self.device)
        topology = TOPOLOGIES.look_up(faces_packed, len(features))
        _checks.on(op, "faces_packed", topology.device, "verts_features", self.device)
        B, H, W, K = pix_to_face.shape
        # all pixels as one image of the packed mesh
        index, weights = (
            pix_to_face.clamp(-1, topology.num_faces).int().reshape(1, B * H, W * K),
            bary.reshape(1, B * H, W * K, 3),
        )
        raster = Raster(index, weights, weights[..., 0])
        at_pixels = interpolate(features[None], raster, topology)  # [1, C, B * H, W * K]
        return at_pixels[0].permute(1, 2, 0).reshape(B, H, W, K, -1)

    def extend(self, N: int) -> TexturesVertex:
        """Every texture N times, its copies next to each other."""
        times = range(positive_int("TexturesVertex.extend", "N", N))
        return self._like([item for item in self.verts_features_list() for _ in times])

    def clone(self) -> TexturesVertex:
        """A copy with tensors of its own; gradients flow back."""
        return self._each(lambda tensor: tensor.clone())

    def detach(self) -> TexturesVertex:
        """The same textures without gradient."""
        return self._each(lambda tensor: tensor.detach())

    def to(self, device: torch.device | str | int) -> TexturesVertex:
        """The textures on another device; themselves when they are there already."""
        target = torch.empty(0, device=device).device  # "cuda" is the current one
        return self if target == self.device else self._each(lambda tensor: tensor.to(target))

    def cpu(self) -> TexturesVertex:
        """``to("cpu")``."""
        return self.to("cpu")

    def cuda(self) -> TexturesVertex:
        """``to("cuda")``."""
        return self.to("cuda")

    def join_batch(self, textures: Sequence[TexturesVertex]) -> TexturesVertex:
        """These textures and others in one batch."""
        if not all(isinstance(texture, TexturesVertex) for texture in textures):
            got = ", ".join(type(texture).__name__ for texture in textures)
            _checks.fail(TypeError, "TexturesVertex.join_batch", "textures", "a list of TexturesVertex", got)
        return self._like([item for texture in (self, *textures) for item in texture.verts_features_list()])

    def join_scene(self) -> TexturesVertex:
        """The texture of all meshes as one mesh."""
        return TexturesVertex([self.verts_features_packed()])

    def check_shapes(self, batch_size: int, max_num_verts: int, max_num_faces: int) -> bool:
        """Whether these are textures for so many meshes and vertices."""
        return tuple(self.verts_features_padded().shape[:2]) == (batch_size, max_num_verts)

    def _like(self, features: list[Tensor]) -> TexturesVertex:
        if features:
            return TexturesVertex(features)
        return TexturesVertex(self._empty.new_zeros(0, 0, self._empty.shape[1]))

    def _each(self, function: Callable[[Tensor], Tensor]) -> TexturesVertex:
        features = self.verts_features_padded() if self._padded is not None else self._features
        mapped = function(features) if isinstance(features, Tensor) else [function(item) for item in features]
        new = TexturesVertex(mapped) if len(self) else TexturesVertex(function(self.verts_features_padded()))
        new._num_verts_per_mesh, new.valid = list(self._num_verts_per_mesh), function(self.valid)
        return new
