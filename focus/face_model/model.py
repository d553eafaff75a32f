"""FaceModel: a linear face model as tensors, with loading and saving."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from focus_kernels import Topology, blend

from .common import Options
from .format import ModelArrays, write_model
from .load import DEFAULT_ASSET, load_arrays

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False, repr=False)
class FaceModel:
    """A linear model of face shape, expression and albedo: value = mean + sum of coefficient * basis vector.

    Positions are in millimetres, x to the subject's left, y up, z out of the face, with the origin near the face as in
    FOCUS, so that its camera (1000 mm away, focal length 1014.72 px for 224 px) frames the face. Front faces are
    counter-clockwise seen from outside. Basis vectors are scaled by one standard deviation. Made by `load`, or from
    tensors of one floating dtype and one device; the bases may be float16 or bfloat16 where the means are float32.

    Attributes:
        topology: the faces, and their incidence table.
        mean_shape: [V, 3], mm.
        shape_basis: [K_id + K_exp, V, 3], mm; `identity_basis` and `expression_basis` are views of it.
        num_identity: K_id.
        mean_albedo: [V, 3] RGB in [0, 1], linear in the light of `focus_kernels.shade_sh`.
        albedo_basis: [K_alb, V, 3]; K_alb is 0 for models without colour.
        landmarks: [68] int64, vertices of the iBUG landmarks, or None where the model's file names none.
        symmetry: [V] int64, the mirror image of every vertex, or None where it is not known.
        name, license, source: for reports and saved files.
    """

    topology: Topology
    mean_shape: Tensor
    shape_basis: Tensor
    num_identity: int
    mean_albedo: Tensor
    albedo_basis: Tensor
    landmarks: Tensor | None = None
    symmetry: Tensor | None = None
    name: str = "face model"
    license: str = "unknown"
    source: str = ""

    def __post_init__(self) -> None:
        V = self.num_vertices
        _check("mean_shape", self.mean_shape, self, (V, 3))
        _check("shape_basis", self.shape_basis, self, (None, V, 3))
        _check("mean_albedo", self.mean_albedo, self, (V, 3))
        _check("albedo_basis", self.albedo_basis, self, (None, V, 3))
        if not 0 <= self.num_identity <= len(self.shape_basis):
            raise ValueError(
                f"FaceModel(): expected num_identity to be in 0..{len(self.shape_basis)}, got {self.num_identity}"
            )
        for name, shape in (("landmarks", (68,)), ("symmetry", (V,))):
            ids = getattr(self, name)
            if ids is None:
                continue
            if ids.dtype != torch.int64:
                raise TypeError(f"FaceModel(): expected {name} to be torch.int64, got {ids.dtype}")
            _check(name, ids, self, shape)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        level: int = 1,
        crop: bool = True,
        landmarks: Sequence[int] | str | os.PathLike[str] | None = None,
        components: tuple[int, int, int] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> FaceModel:
        """Loads the free model that comes with this package, or another one, recognised by what the path holds.

        Args:
            path: None for the free model; else a file of `save`, BFM 2017 (.h5), Deep3D's BFM 2009 (.mat), FLAME (.pkl,
                .npz) or ICT-FaceKit (folder, .npz). docs/face_models.md tells where to get them and what is read.
            level: resolution of the free model: 0, 1 or 2 for about 2.5k, 10k and 40k vertices. Other models have one.
            crop: keep only the face of BFM 2017 (FOCUS's crop) and ICT-FaceKit (its narrow face area).
            landmarks: vertices of the 68 iBUG landmarks in place of the model's own, numbered as in the file before
                cropping: integers, a text or .npy file of integers, or a landmark embedding file for FLAME.
            components: at most so many (identity, expression, albedo) components; FOCUS uses (80, 64, 80). None: all.
            dtype: floating type, as in `to`.

        Nothing in a file is executed: pickles are read as data, and only arrays are taken from them.

        Raises:
            ValueError: the file is damaged or is no face model, or an option does not fit it.
            OSError: the file cannot be read.
        """
        if not dtype.is_floating_point:
            raise TypeError(f"FaceModel.load(): expected dtype to be a floating type, got {dtype}")
        if isinstance(level, bool) or not isinstance(level, int):
            raise TypeError(f"FaceModel.load(): expected level to be an int, got {type(level).__name__}")
        if components is not None and (len(components) != 3 or min(components) < 0):
            raise ValueError(f"FaceModel.load(): expected components to be three counts >= 0, got {components}")
        compute = np.dtype(np.float64 if dtype == torch.float64 else np.float32)
        options = Options(level, crop, landmarks, components, compute)
        # Wild numbers of a damaged file may overflow on the way; what is not finite in the end is refused.
        with np.errstate(over="ignore", invalid="ignore"):
            arrays = load_arrays(DEFAULT_ASSET if path is None else Path(path), options)
        return cls._from_arrays(arrays, options.caller).to(dtype=dtype)

    @classmethod
    def _from_arrays(cls, arrays: ModelArrays, caller: str) -> FaceModel:
        values = {
            key: torch.from_numpy(getattr(arrays, key))
            for key in ("mean_shape", "shape_basis", "mean_albedo", "albedo_basis")
        }
        for key, value in values.items():
            # One pass without a temporary: a sum is finite only if its terms are, as no model comes near 1e38.
            if not torch.isfinite(value.sum()):
                raise ValueError(
                    f"{caller}: expected {key} of {arrays.source or arrays.name} to be finite, got nan or inf"
                )
        return cls(
            topology=Topology(torch.from_numpy(arrays.faces), len(arrays.mean_shape)),
            num_identity=arrays.num_identity,
            name=arrays.name,
            license=arrays.license,
            source=arrays.source,
            landmarks=None if arrays.landmarks is None else torch.from_numpy(arrays.landmarks).long(),
            symmetry=None if arrays.symmetry is None else torch.from_numpy(arrays.symmetry).long(),
            **values,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model, at its one resolution, to a .safetensors file that `load` reads: atomic, no pickle.

        float16, float32 and float64 are kept; bfloat16 is written as float32, exactly. The model's licence goes along.
        """

        def array(tensor: Tensor) -> np.ndarray:
            tensor = tensor.detach().cpu()
            return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()

        arrays = {
            "faces": array(self.topology.faces),
            "mean_shape": array(self.mean_shape),
            "identity_basis": array(self.identity_basis),
            "expression_basis": array(self.expression_basis),
            "mean_albedo": array(self.mean_albedo),
            "albedo_basis": array(self.albedo_basis),
        }
        if self.landmarks is not None:
            arrays["landmarks"] = array(self.landmarks).astype(np.int32)[None]
        if self.symmetry is not None:
            arrays["symmetry"] = array(self.symmetry).astype(np.int32)
        metadata = {"name": self.name, "license": self.license, "source": self.source, "subdivision": "none"}
        write_model(path, arrays, metadata, "FaceModel.save()")

    @property
    def num_vertices(self) -> int:
        return self.topology.num_vertices

    @property
    def identity_basis(self) -> Tensor:
        """[K_id, V, 3], mm per standard deviation; a view of `shape_basis`."""
        return self.shape_basis[: self.num_identity]

    @property
    def expression_basis(self) -> Tensor:
        """[K_exp, V, 3], mm per standard deviation; a view of `shape_basis`."""
        return self.shape_basis[self.num_identity :]

    @property
    def device(self) -> torch.device:
        return self.mean_shape.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the bases. The means are float32 where it is float16 or bfloat16."""
        return self.shape_basis.dtype

    def to(
        self, device: torch.device | str | int | torch.dtype | None = None, dtype: torch.dtype | None = None
    ) -> FaceModel:
        """The model on another device or in another floating dtype: a new object, or itself when nothing changes.

        float16 and bfloat16 apply to the bases, which are nearly all of the memory; the means stay float32, since such
        types hold a coordinate of 100 mm only to 0.03 or 0.25 mm. `shape` and `albedo` sum in float32.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        target = self.device if device is None else device
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"FaceModel.to(): expected dtype to be a floating type, got {dtype}")
        wide = torch.float32 if dtype in _HALF else dtype
        mean, basis = self.mean_shape.to(target, wide), self.shape_basis.to(target, dtype)
        if mean is self.mean_shape and basis is self.shape_basis:
            return self
        return replace(
            self,
            topology=self.topology.to(target),
            mean_shape=mean,
            shape_basis=basis,
            mean_albedo=self.mean_albedo.to(target, wide),
            albedo_basis=self.albedo_basis.to(target, dtype),
            landmarks=None if self.landmarks is None else self.landmarks.to(target),
            symmetry=None if self.symmetry is None else self.symmetry.to(target),
        )

    def shape(self, identity: Tensor, expression: Tensor | None = None) -> Tensor:
        """Vertices [B, V, 3] in mm from identity [B, K_id] and expression [B, K_exp], in standard deviations.

        expression None is the neutral face. Differentiable in both.
        """
        _check_coefficients("shape", "identity", identity, self.num_identity)
        if expression is None:
            return blend(self.mean_shape, self.identity_basis, identity)
        _check_coefficients("shape", "expression", expression, len(self.shape_basis) - self.num_identity)
        return blend(self.mean_shape, self.shape_basis, torch.cat([identity, expression], dim=1))

    def albedo(self, coeffs: Tensor) -> Tensor:
        """Albedo [B, V, 3], not clamped, from coefficients [B, K_alb] in standard deviations. Differentiable."""
        _check_coefficients("albedo", "coeffs", coeffs, len(self.albedo_basis))
        return blend(self.mean_albedo, self.albedo_basis, coeffs)

    def __repr__(self) -> str:
        return (
            f"FaceModel({self.name!r}, {self.num_vertices} vertices, {self.topology.num_faces} faces, "
            f"{self.num_identity} identity, {len(self.shape_basis) - self.num_identity} expression, "
            f"{len(self.albedo_basis)} albedo, {'68' if self.landmarks is not None else 'no'} landmarks, "
            f"{self.dtype}, {self.device})"
        )


def _check(name: str, value: Tensor, model: FaceModel, shape: tuple[int | None, ...]) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"FaceModel(): expected {name} to be a torch.Tensor, got {type(value).__name__}")
    if value.dim() != len(shape) or any(w not in (None, g) for w, g in zip(shape, value.shape, strict=True)):
        text = ", ".join("*" if n is None else str(n) for n in shape)
        raise ValueError(f"FaceModel(): expected {name} to be shape [{text}], got {list(value.shape)}")
    if value.device != model.topology.device:
        raise ValueError(f"FaceModel(): expected {name} to be on {model.topology.device}, got {value.device}")
    wide = model.mean_shape.dtype
    if name == "mean_shape" and wide not in (torch.float32, torch.float64):
        raise TypeError(f"FaceModel(): expected mean_shape to be torch.float32 or torch.float64, got {wide}")
    half = wide == torch.float32 and name.endswith("basis") and value.dtype in _HALF
    if value.dtype not in (wide, torch.int64) and not half:
        raise TypeError(f"FaceModel(): expected {name} to be {wide} as mean_shape, got {value.dtype}")


def _check_coefficients(function: str, name: str, value: Tensor, count: int) -> None:
    if value.dim() != 2 or value.shape[1] != count:
        raise ValueError(f"FaceModel.{function}(): expected {name} to be shape [*, {count}], got {list(value.shape)}")
