"""PyTorch3D's rules for one face per pixel, written out pixel by pixel in float64."""

import numpy as np
import torch

EPSILON = 1e-8


def soup(seed, count, dtype=torch.float64, spread=1.5):
    generator = torch.Generator().manual_seed(seed)
    verts = torch.rand(3 * count, 3, generator=generator, dtype=torch.float64) * 2 - 1
    verts[:, :2] *= spread
    verts[:, 2] = verts[:, 2] * 1.5 + 2.5
    return verts.to(dtype), torch.arange(3 * count).view(-1, 3)


def edge(p, a, b):
    return (p[0] - a[0]) * (b[1] - a[1]) - (p[1] - a[1]) * (b[0] - a[0])


def segment_distance(p, a, b):
    t = np.clip(np.dot(b - a, p - a) / np.dot(b - a, b - a), 0.0, 1.0)
    return np.sum((p - a - t * (b - a)) ** 2)


def by_rule(faces, size, perspective_correct, clip, cull):
    """Upstream's rules, one pixel and one face [3, 3] at a time."""
    height, width = size
    ids = np.full((height, width), -1)
    zbuf, dists = np.full((height, width), -1.0), np.full((height, width), -1.0)
    bary = np.full((height, width, 3), -1.0)
    half_y, half_x = max(1.0, height / width), max(1.0, width / height)
    for row in range(height):
        for column in range(width):
            p = np.array([half_x * (1 - (2 * column + 1) / width), half_y * (1 - (2 * row + 1) / height)])
            nearest = np.inf
            for index, (v0, v1, v2) in enumerate(faces):
                area = edge(v2, v0, v1)
                if min(v0[2], v1[2], v2[2]) < EPSILON or abs(area) <= EPSILON or (cull and area < 0):
                    continue
                w = np.array([edge(p, v1, v2), edge(p, v2, v0), edge(p, v0, v1)]) / (area + EPSILON)
                z = np.array([v0[2], v1[2], v2[2]])
                if perspective_correct:
                    top = w * np.array([z[1] * z[2], z[0] * z[2], z[0] * z[1]])
                    w = top / max(top.sum(), EPSILON)
                if not (w > 0).all():
                    continue
                if clip:
                    w = w / max(w.sum(), 1e-5)
                depth = np.dot(w, z)
                if depth < nearest:
                    nearest = depth
                    ids[row, column], zbuf[row, column], bary[row, column] = index, depth, w
                    dists[row, column] = -min(
                        segment_distance(p, a[:2], b[:2]) for a, b in ((v0, v1), (v1, v2), (v2, v0))
                    )
    return ids, zbuf, bary, dists
