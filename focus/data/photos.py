"""A folder of photographs with a table of landmarks, as a source of faces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..alignment import CROP_SIZE, AlignmentError, align_face, crop_matrix
from ..images import ImageError, read_image
from ..landmarks import landmark_rows
from .augment import Augmentation, block_mean, blocks, compose, map_points, mirror_landmarks, warp
from .batch import Batch
from .cache import SharedCache
from .source import Skipped, UnusableItemError, split_of

LANDMARKS = "landmarks.csv"
MASK_ENDINGS = (".png", "_mask.png", "_visible_skin_mask.png")
MARGIN = 4  # px around what a warp looks at: the reach of its filters
AUGMENTATION = 1  # random stream
HEAD = 15  # numbers of a kept region: its shape and two maps


class PhotoSource:
    """Photographs of a folder, aligned as `focus.alignment.align_face` does, and augmented if asked.

    An augmented crop is one bicubic warp of the photograph, smoothed first where it shrinks; black where the photograph
    ends. Item i is the same bits for the same (seed, epoch, i).

    Args:
        folder: of the photographs.
        landmarks: table of `focus.read_landmarks_csv`, its names relative to `folder`; None is folder/landmarks.csv,
            which `focus data prepare` writes. Rows that cannot be used are left out; see `skipped`.
        size: side of the crops in pixels.
        seed: of the augmentation, any integer >= 0.
        augmentation: None for none, as in evaluation.
        masks: a folder with a picture per photograph, white where the face itself is seen: x/name.png,
            x/name_mask.png or x/name_visible_skin_mask.png for the photograph x/name.jpg, as large as it. Photographs
            without one are left out.
        split: "train" or "validation" for those of `split_of`; None for all.
        validation: share of the photographs that are for validation.
        cache_bytes: of decoded photographs to keep in memory.

    Attributes:
        names: of the items, as in the table.
        skipped: rows that were left out, and why.

    Raises:
        ValueError: no folder, no usable table, or nothing usable in it; or an argument out of range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        landmarks: str | os.PathLike[str] | None = None,
        *,
        size: int = CROP_SIZE,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        masks: str | os.PathLike[str] | None = None,
        split: str | None = None,
        validation: float = 0.1,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.folder, self.size, self.seed, self.augmentation = Path(folder), size, seed, augmentation
        self.masks = None if masks is None else Path(masks)
        for kind, place in (("folder", self.folder), ("masks", self.masks)):
            if place is not None and not place.is_dir():
                raise ValueError(f"PhotoSource(): expected {kind} to be a folder, got {place}")
        if size < 32 or seed < 0:
            raise ValueError(f"PhotoSource(): expected size >= 32 and seed >= 0, got {size} and {seed}")
        if split not in (None, "train", "validation"):
            raise ValueError(f'PhotoSource(): expected split to be "train", "validation" or None, got {split!r}')
        table = self.folder / LANDMARKS if landmarks is None else Path(landmarks)
        if landmarks is None and not table.is_file():
            raise ValueError(
                f"PhotoSource(): expected a table of landmarks, got no file {table}; `focus data prepare` makes one"
            )
        self.names: list[str] = []
        self.skipped: list[Skipped] = []
        points, masked = [], []
        for row in landmark_rows(table):
            mask = self._mask_path(row.name)
            if row.points is None:
                self.skipped.append(Skipped(row.name, f"{table.name}, line {row.line}: {row.error}"))
            elif not (self.folder / row.name).is_file():
                self.skipped.append(Skipped(row.name, f"no such file in {self.folder}"))
            elif self.masks is not None and mask is None:
                self.skipped.append(Skipped(row.name, f"no mask in {self.masks}"))
            elif split is None or split_of(row.name, validation) == split:
                self.names.append(row.name)
                points.append(row.points)
                masked.append(mask)
        if not self.names:
            text = (
                f"PhotoSource(): expected photographs of {split or 'any'} split with landmarks in {table}, found none"
            )
            if self.skipped:
                name, reason = self.skipped[0]
                text += f"; the first of {len(self.skipped)} that cannot be used: {name}: {reason}"
            raise ValueError(text)
        self._points, self._mask_paths = np.stack(points), masked
        self._cache = SharedCache(len(self.names), cache_bytes)

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        """See `Source.batch`; `visible` where there are masks. UnusableItemError for a damaged photograph or mask."""
        crops, landmarks, visible = [], [], []
        for index in indices:
            crop, points, mask = self._item(index, epoch)
            crops.append(crop)
            landmarks.append(points)
            visible.append(mask)
        image = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous().float().div_(255)
        covered = None
        if self.masks is not None:
            covered = torch.from_numpy(np.stack(visible)).unsqueeze(1).float().div_(255)  # type: ignore[arg-type]
        return Batch(image, torch.from_numpy(np.stack(landmarks)).float(), covered)

    def _item(self, index: int, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Crop uint8 [size, size, 3], landmarks [68, 2], mask uint8 [size, size]."""
        planes, to_crop, region = self._region(index)
        landmarks = map_points(to_crop, self._points[index])
        if self.augmentation is None:
            return planes[:, :, :3], landmarks, planes[:, :, 3] if planes.shape[2] > 3 else None
        rng = np.random.default_rng([self.seed, epoch, index, AUGMENTATION])
        move, flip = self.augmentation.draw(rng, self.size)
        landmarks = map_points(move, landmarks)
        matrix = compose(region, move)
        crop = warp(np.ascontiguousarray(planes[:, :, :3]), matrix, self.size)
        mask = None
        if planes.shape[2] > 3:
            mask = warp(np.ascontiguousarray(planes[:, :, 3]), matrix, self.size, cubic=False)
        return crop, mirror_landmarks(landmarks) if flip else landmarks, mask

    def _region(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What crops of an item look at, uint8 [h, w, 3 or 4]; the maps photo -> crop and region -> crop, [2, 3]."""
        data = self._cache.get(index)
        if data is None:
            planes, *maps = self._read(index)
            head = np.concatenate([np.array(planes.shape, np.float64), *(m.reshape(6) for m in maps)])
            self._cache.put(index, np.concatenate([head.view(np.uint8), planes.reshape(-1)]))
            return planes, maps[0], maps[1]
        head = data[: 8 * HEAD].view(np.float64)
        return data[8 * HEAD :].reshape(head[:3].astype(int)), head[3:9].reshape(2, 3), head[9:].reshape(2, 3)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        name, points, mask_path = self.names[index], self._points[index], self._mask_paths[index]
        try:
            image = read_image(self.folder / name)
            mask = None if mask_path is None else np.ascontiguousarray(read_image(mask_path)[:, :, 0])
            if mask is not None and mask.shape != image.shape[:2]:
                have, want = (f"{shape[1]} x {shape[0]}" for shape in (mask.shape, image.shape))
                raise ImageError(f"expected its mask to be {want} px, got {have}")
            to_crop = crop_matrix(points, image.shape, size=self.size)
            if self.augmentation is None:
                crop = align_face(image, points, size=self.size).crop
                planes = crop if mask is None else np.dstack([crop, warp(mask, to_crop, self.size, cubic=False)])
                return planes, to_crop, np.eye(2, 3)
            # What augmented crops can reach, in blocks no larger than the pixels of the largest face.
            zoom = to_crop[0, 0]
            block = blocks(1 / (zoom * (1 + self.augmentation.scale)))
            reach = self.augmentation.reach(self.size) / zoom + MARGIN * block
            centre = (self.size / 2 - to_crop[:, 2]) / zoom
            limits = image.shape[1::-1]
            x0, y0 = (min(max(int(c - reach), 0), n - 1) for c, n in zip(centre, limits, strict=True))
            x1, y1 = (min(max(int(c + reach) + 1, 1), n) for c, n in zip(centre, limits, strict=True))
            planes = image if mask is None else np.dstack([image, mask])
            planes = block_mean(np.ascontiguousarray(planes[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]), block)
            region = np.column_stack([block * to_crop[:, :2], map_points(to_crop, np.array([x0, y0]))])
            return planes, to_crop, region
        except (ImageError, AlignmentError) as error:
            raise UnusableItemError(index, name, str(error)) from error

    def _mask_path(self, name: str) -> Path | None:
        if self.masks is None:
            return None
        photo = self.folder / name
        for stem in (Path(name).with_suffix(""), Path(Path(name).stem)):
            for ending in MASK_ENDINGS:
                path = self.masks / f"{stem}{ending}"
                if path != photo and path.is_file():
                    return path
        return None
