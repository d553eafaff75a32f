"""Pictures of an experiment: the sweep's curves as SVG, and sheets of faces for the eye."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log2
from statistics import fmean
from typing import Any
from xml.sax.saxutils import escape

import cv2
import numpy as np
import torch

from ..autoencoder import FaceAutoencoder
from .configurations import ETAS, FOCUS, Configuration
from .results import Results

MEASURES = {"acc": ("ACC", "#4477aa"), "ppv": ("PPV", "#228833"), "f1": ("F1", "#222222"), "tpr": ("TPR", "#cc6677")}
WIDTH, HEIGHT, GAP, FOOT = 210, 170, 46, 44  # px of a subplot, between them, and under them
LABEL = 150  # px, for the names beside a sheet


def sweep_points(results: Results, configurations: Iterable[Configuration]) -> dict[str, dict[float, dict[str, float]]]:
    """Eta -> factor -> measure -> mean over seeds, on all test faces; factor 1 is FOCUS."""
    points: dict[str, dict[float, dict[str, float]]] = {eta: {} for eta in ETAS}
    for item in configurations:
        means = {
            measure: fmean(values.values())
            for measure in MEASURES
            if (values := results.values(item.name, "overall", measure))
        }
        if means:
            for eta in [item.eta] if item.eta is not None else ETAS:
                points[eta][item.factor] = means
    return {eta: dict(sorted(found.items())) for eta, found in points.items()}


def sweep_svg(points: Mapping[str, Mapping[float, Mapping[str, float]]]) -> str:
    """Fig. 4: a subplot for each eta, its factor on a logarithmic axis; dots in red where it is the standard one."""
    everything = [value for found in points.values() for means in found.values() for value in means.values()]
    low, high = (min(everything), max(everything)) if everything else (0.0, 1.0)
    low, high = (low, high) if high - low > 1e-6 else (low - 0.05, high + 0.05)
    width, height = GAP + len(points) * (WIDTH + GAP), HEIGHT + FOOT + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for column, (number, eta) in enumerate(enumerate(points, 1)):
        left, top = GAP + column * (WIDTH + GAP), 24
        found = {factor: means for factor, means in points[eta].items() if factor > 0}
        parts.append(f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>')
        parts.append(f'<text x="{left}" y="{top - 8}">eta{number}, {escape(eta)}</text>')
        for value, baseline in ((high, top + 4), (low, top + HEIGHT + 4)):
            parts.append(f'<text x="{left - 4}" y="{baseline}" text-anchor="end">{value:.2f}</text>')
        if not found:
            continue
        first, last = log2(min(found)), log2(max(found))

        def at(factor: float, value: float, left: int = left, first: float = first, last: float = last) -> str:
            share = (log2(factor) - first) / (last - first) if last > first else 0.5
            return f"{left + 8 + share * (WIDTH - 16):.1f},{24 + HEIGHT * (1 - (value - low) / (high - low)):.1f}"

        for factor in found:
            x = at(factor, low).split(",")[0]
            parts.append(f'<text x="{x}" y="{top + HEIGHT + 16}" text-anchor="middle">{factor:g}</text>')
        for measure, (_, colour) in MEASURES.items():
            line = {factor: means[measure] for factor, means in found.items() if measure in means}
            path = " ".join(at(factor, value) for factor, value in line.items())
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            for factor, value in line.items():
                x, y = at(factor, value).split(",")
                parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{"#dd0000" if factor == 1 else colour}"/>')
    for column, (label, colour) in enumerate(MEASURES.values()):
        parts.append(f'<text x="{GAP + 60 * column}" y="{height - 10}" fill="{colour}">{label}</text>')
    parts.append(
        f'<text x="{GAP + 60 * len(MEASURES)}" y="{height - 10}">factor of each weight; red: 1, {FOCUS}</text>'
    )
    return "\n".join([*parts, "</svg>"]) + "\n"


@torch.no_grad()
def sheet_rows(autoencoder: FaceAutoencoder, photos: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The render over photos [N, 3, H, W], and the photos with what M leaves out in red: uint8 [N, H, W, 3] each."""
    found = autoencoder.eval()(photos)
    raster = found.face.mask
    over = torch.where(raster > 0, found.face.image, photos)
    red = photos.new_tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1)
    out = 0.65 * (raster - found.mask).clamp(0, 1)
    return _in_bytes(over), _in_bytes((1 - out) * photos + out * red)


def write_sheet(photos: torch.Tensor, rows: Sequence[tuple[str, Any]]) -> bytes:
    """A PNG: the photos [N, 3, H, W] on top, then for each name its two rows of `sheet_rows`."""
    lines = [_line("photo", _in_bytes(photos))]
    for name, (over, marked) in rows:
        lines += [_line(name, over), _line("", marked)]
    _, data = cv2.imencode(".png", np.concatenate(lines)[:, :, ::-1])
    return data.tobytes()


def _line(name: str, pictures: np.ndarray) -> np.ndarray:
    label = np.full((pictures.shape[1], LABEL, 3), 255, np.uint8)
    cv2.putText(label, name, (4, pictures.shape[1] // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([label, *pictures], axis=1)


def _in_bytes(images: torch.Tensor) -> np.ndarray:
    pixels = images.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(pixels)
