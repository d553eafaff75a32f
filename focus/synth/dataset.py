"""Synthetic faces with exact ground truth: item i is a function of (seed, i), whatever it is batched with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..face_model import FaceModel
from .backgrounds import BACKGROUNDS, draw_person, fill_eyes, random_background
from .occluders import KINDS, check_kinds, occlude
from .photos import PhotoFolder
from .scenes import (
    FaceParameters,
    SceneSampler,
    SceneSettings,
    align_faces,
    project_landmarks,
    render_faces,
    stack_parameters,
)
from .textures import Array
from .view import FaceView

SCENE, BACKGROUND, OCCLUDERS, DONORS = range(4)  # random streams of an item, so that a change of one keeps the others
SHARP = 0.3  # share of the drawn backgrounds in full resolution
NUM_DONORS, DONOR_SIZE = 24, 112
CHUNK = 8  # faces rendered at a time; many more do not fit the caches


class Sample(NamedTuple):
    """One synthetic photo, or with a batch dimension in front of each field.

    Attributes:
        image: [3, H, W] float32 RGB in [0, 1].
        visible: [1, H, W] float32, the share of each pixel that shows the face itself: `face` less the occluders.
        face: [1, H, W] float32, the share that the face covers, occluded or not.
        landmarks: [68, 2] float32 px, half-pixel centres, of the model's landmark vertices, seen or not.
        parameters: what was rendered.
        vertices: [V, 3] float32 mm, model frame, with expression.
        occluders: the kinds that cover the face, the lowest first; of a batch a list of such tuples.
    """

    image: Tensor
    visible: Tensor
    face: Tensor
    landmarks: Tensor
    parameters: FaceParameters
    vertices: Tensor
    occluders: Any  # tuple[str, ...], of a batch list[tuple[str, ...]]


class SyntheticFaces(Dataset[Sample]):
    """Random faces of a face model over random backgrounds, occluded, with exact ground truth.

    I starts as the face rendered over its background, which covers a share F of each pixel; occluder k of coverage a_k
    and colour C_k makes it I = (1 - a_k) I + a_k C_k. The visible face is V = F * product over k of (1 - a_k).

    Item i is the same bits for the same arguments and versions of the libraries, whichever items it is made with and in
    whatever process. Torch's DataLoader fetches whole batches of it (`__getitems__`); give it `collate_fn=collate`. For
    speed set `torch.set_num_threads(1)` and use as many workers as there are cores. Nothing here is differentiable.

    Args:
        count: number of items.
        size: width and height in px, at least 32.
        seed: any integer >= 0. Items of different seeds are unrelated.
        model: a FaceModel on the CPU, float32, with landmarks; None takes the free one at `level`.
        level: resolution of the free model, 0 to 2.
        kinds: occluders that may appear, names of `focus.synth.KINDS`; () for none.
        none_probability: of an item without occluders.
        backgrounds: names of `focus.synth.BACKGROUNDS`; None for all, "photo" only where `photos` is given.
        photos: a folder of photographs for backgrounds and cut-outs, or None.
        person_probability: of hair, ears, neck and shoulders around the face.
        settings: how widely faces, poses and lights vary.

    Raises:
        TypeError, ValueError: an argument of the wrong type or out of range, or a model without landmarks.
    """

    def __init__(
        self,
        count: int,
        size: int = 224,
        seed: int = 0,
        *,
        model: FaceModel | None = None,
        level: int = 1,
        kinds: Sequence[str] = KINDS,
        none_probability: float = 0.2,
        backgrounds: Sequence[str] | None = None,
        photos: str | os.PathLike[str] | None = None,
        person_probability: float = 0.6,
        settings: SceneSettings | None = None,
    ) -> None:
        for name, value, least in (("count", count, 0), ("size", size, 32), ("seed", seed, 0)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"SyntheticFaces(): expected {name} to be an int, got {type(value).__name__}")
            if value < least:
                raise ValueError(f"SyntheticFaces(): expected {name} to be >= {least}, got {value}")
        for name, share in (("none_probability", none_probability), ("person_probability", person_probability)):
            if not 0 <= share <= 1:
                raise ValueError(f"SyntheticFaces(): expected {name} to be in [0, 1], got {share}")
        self.count, self.size, self.seed = count, size, seed
        self.kinds = check_kinds("SyntheticFaces", kinds)
        self.none_probability, self.person_probability = float(none_probability), float(person_probability)
        self.photos = None if photos is None else PhotoFolder(photos)
        self.backgrounds = _backgrounds(backgrounds, self.photos)
        self.model = _free_model(level) if model is None else model
        if self.model.landmarks is None:
            raise ValueError(f"SyntheticFaces(): expected a model with landmarks, got {self.model!r}")
        if self.model.device.type != "cpu" or self.model.dtype != torch.float32:
            raise ValueError(f"SyntheticFaces(): expected a float32 model on the CPU, got {self.model!r}")
        self.settings = settings or SceneSettings()
        self._sampler = SceneSampler(self.model, self.settings)
        self._donors: list[Array] | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if not -self.count <= index < self.count:
            raise IndexError(f"SyntheticFaces: expected an index below {self.count}, got {index}")
        return unstack(self.batch([index % self.count]))[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """Several items, rendered together; what torch's DataLoader calls."""
        return unstack(self.batch(indices))

    def recipe(self) -> dict[str, object]:
        """Everything that the items depend on, as values for JSON: the arguments, and the model by name and size."""
        return {
            "count": self.count,
            "size": self.size,
            "seed": self.seed,
            "model": repr(self.model),
            "kinds": list(self.kinds),
            "none_probability": self.none_probability,
            "backgrounds": list(self.backgrounds),
            "photos": None if self.photos is None else str(self.photos.folder),
            "person_probability": self.person_probability,
            "settings": asdict(self.settings),
        }

    def batches(self, size: int, start: int = 0) -> Iterator[Sample]:
        """The items from `start` on in batches of `size`, the last one smaller."""
        if size < 1:
            raise ValueError(f"SyntheticFaces.batches(): expected size to be >= 1, got {size}")
        for first in range(start, self.count, size):
            yield self.batch(range(first, min(first + size, self.count)))

    @torch.no_grad()
    def batch(self, indices: Iterable[int]) -> Sample:
        """The items of these indices (any integers >= 0, also beyond `count`) as one batch."""
        indices = [int(index) for index in indices]
        if not indices or min(indices) < 0:
            raise ValueError(f"SyntheticFaces.batch(): expected indices to be integers >= 0, got {indices}")
        size, count = self.size, len(indices)
        singles = [self._sampler.sample(self._torch_stream(index, SCENE)) for index in indices]
        parameters = stack_parameters(singles)
        vertices = self.model.shape(parameters.identity, parameters.expression)
        if self.settings.aligned:
            parameters = align_faces(self.model, vertices, parameters, size)
        landmarks = project_landmarks(self.model, vertices, parameters, size)
        image, face = torch.empty(count, 3, size, size), torch.empty(count, 1, size, size)
        views = [
            FaceView(size, points, self._sampler.skin(single))
            for points, single in zip(landmarks.numpy(), singles, strict=True)
        ]
        background = np.empty((min(CHUNK, count), 3, size, size), np.float32)
        for first in range(0, count, CHUNK):
            rows = slice(first, min(first + CHUNK, count))
            for canvas, index, view in zip(background, indices[rows], views[rows], strict=False):
                self._draw_background(canvas, index, view)
            behind = torch.from_numpy(background[: rows.stop - first])
            chunk = FaceParameters(*(field[rows] for field in parameters))
            render_faces(self.model, chunk, vertices[rows], size, behind, (image[rows], face[rows]))
        visible = face.clone()
        occluders = []
        for index, view, pixels, mask in zip(indices, views, image.numpy(), visible.numpy(), strict=True):
            view.photos, view.donors = self.photos, self._donor_bank() if "cutout" in self.kinds else ()
            rng = self._stream(index, OCCLUDERS)
            occluders.append(occlude(rng, pixels, mask[0], view, self.kinds, self.none_probability))
        return Sample(image, visible, face, landmarks, parameters, vertices, occluders)

    def _draw_background(self, canvas: Array, index: int, view: FaceView) -> None:
        rng = self._stream(index, BACKGROUND)
        kind = self.backgrounds[int(rng.integers(len(self.backgrounds)))]
        # Most of what is drawn is out of focus, at half the resolution and a quarter of the time.
        sharp = kind == "photo" or rng.random() < SHARP
        size = self.size if sharp else -(-self.size // 2)
        image = random_background(rng, size, kind, self.photos)
        if rng.random() < self.person_probability:
            view.hair = draw_person(rng, image, view.landmarks * (size / self.size), view.skin)
        if sharp:
            canvas[:] = image
        else:
            for plane, small in zip(canvas, image, strict=True):
                cv2.resize(small, plane.shape, dst=plane, interpolation=cv2.INTER_LINEAR)
        fill_eyes(canvas, view)

    def _donor_bank(self) -> list[Array]:
        """Other faces to cut out, uint8 [h, w, 4] RGBA; made at first use, the same for every item of this seed."""
        if self._donors is None:
            streams = [self._torch_stream(index, DONORS) for index in range(NUM_DONORS)]
            singles = [self._sampler.sample(stream) for stream in streams]
            parameters = stack_parameters(singles)
            vertices = self.model.shape(parameters.identity, parameters.expression)
            faces = render_faces(self.model, parameters, vertices, DONOR_SIZE)
            # Around a face lies its mean colour, which its outline takes on when it is turned and scaled.
            skins = torch.from_numpy(np.stack([self._sampler.skin(single) for single in singles]))[:, :, None, None]
            colours = faces.image + (1 - faces.mask) * skins
            pixels = torch.cat([colours.clamp(0, 1), faces.mask], 1).mul(255).round().byte().permute(0, 2, 3, 1)
            self._donors = [_trimmed(image) for image in pixels.numpy() if image[:, :, 3].any()]
        return self._donors

    def _stream(self, index: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, index, purpose])

    def _torch_stream(self, index: int, purpose: int) -> torch.Generator:
        state = np.random.SeedSequence([self.seed, index, purpose]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


def synthesize(batch: int, *, seed: int = 0, start: int = 0, **options: object) -> Sample:
    """A batch of synthetic faces: items start to start + batch - 1 of `SyntheticFaces` with this seed and `options`.

    Raises:
        ValueError: batch < 1 or start < 0; and as `SyntheticFaces`.
    """
    if batch < 1 or start < 0:
        raise ValueError(f"synthesize(): expected batch >= 1 and start >= 0, got {batch} and {start}")
    return SyntheticFaces(start + batch, seed=seed, **options).batch(range(start, start + batch))  # type: ignore[arg-type]


def collate(samples: Sequence[Sample]) -> Sample:
    """Single samples as one batch, for `torch.utils.data.DataLoader(collate_fn=...)`."""
    image, visible, face, landmarks, parameters, vertices, occluders = zip(*samples, strict=True)
    return Sample(
        torch.stack(image),
        torch.stack(visible),
        torch.stack(face),
        torch.stack(landmarks),
        stack_parameters(parameters),
        torch.stack(vertices),
        list(occluders),
    )


def unstack(batch: Sample) -> list[Sample]:
    """The single samples of a batch, views of it."""
    parameters = [FaceParameters(*fields) for fields in zip(*batch.parameters, strict=True)]
    tensors = (batch.image, batch.visible, batch.face, batch.landmarks)
    rows = zip(*tensors, parameters, batch.vertices, batch.occluders, strict=True)
    return [Sample(*fields) for fields in rows]


def _backgrounds(names: Sequence[str] | None, photos: PhotoFolder | None) -> tuple[str, ...]:
    if names is None:
        return tuple(name for name in BACKGROUNDS if name != "photo" or photos is not None)
    if isinstance(names, str) or not names or any(name not in BACKGROUNDS for name in names):
        allowed = ", ".join(BACKGROUNDS)
        raise ValueError(f"SyntheticFaces(): expected backgrounds to be some of {allowed}, got {names!r}")
    if "photo" in names and photos is None:
        raise ValueError('SyntheticFaces(): expected photos for the background "photo", got None')
    return tuple(names)


def _trimmed(image: Array) -> Array:
    """Without the transparent rows and columns at its borders."""
    rows, columns = (np.flatnonzero(image[:, :, 3].any(axis)) for axis in (1, 0))
    return np.ascontiguousarray(image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


@lru_cache(maxsize=3)
def _free_model(level: int) -> FaceModel:
    return FaceModel.load(level=level)
