"""The rules of rasterize_clip in rationals, pixel by pixel, and what to try them on."""

from fractions import Fraction

import torch
from meshes import generator


def cut(polygon):
    """Sutherland-Hodgman by -x, +x, -y, +y, -z, +z."""
    for axis in range(3):
        for sign in (1, -1):
            inside = [p[3] + sign * p[axis] for p in polygon]
            kept = []
            for k in range(len(polygon)):
                before, here = inside[k - 1], inside[k]
                if (before >= 0) != (here >= 0):
                    t = before / (before - here)
                    kept.append([a + t * (b - a) for a, b in zip(polygon[k - 1], polygon[k], strict=True)])
                if here >= 0:
                    kept.append(polygon[k])
            polygon = kept
    return polygon


def to_pixels(p, size):
    """Column and row in sixteenths of a pixel, z/w. Python rounds half to even, as the rule does."""
    x, y = (round(p[k] / p[3] * 8 * size[1 - k]) + 8 * size[1 - k] for k in (0, 1))
    return x, y, p[2] / p[3]


def drawn(positions, faces, size):
    """(face, three corners of to_pixels) of everything that is drawn."""
    points = [[Fraction(x) if abs(x) < float("inf") else None for x in row] for row in positions.tolist()]
    for f, corners in enumerate(faces.tolist()):
        triangle = [points[v] for v in corners]
        if any(x is None for p in triangle for x in p):
            continue
        polygon = cut(triangle)
        if any(p[3] <= 0 for p in polygon):
            continue
        polygon = [to_pixels(p, size) for p in polygon]
        for k in range(1, len(polygon) - 1):
            yield f, [polygon[0], polygon[k], polygon[k + 1]]


def layers(positions, faces, size, first=0):
    """Of each pixel that is covered: the (z/w, face) seen there, the nearest first, of equals the highest face."""
    hits = {}
    for f, v in drawn(positions, faces, size):
        area = (v[1][0] - v[0][0]) * (v[2][1] - v[0][1]) - (v[2][0] - v[0][0]) * (v[1][1] - v[0][1])
        if area == 0:
            continue
        if area < 0:
            v = [v[0], v[2], v[1]]
        for row in range(size[0]):
            for column in range(size[1]):
                p, weights, covered = (16 * column + 8, 16 * row + 8), [], True
                for k in range(3):
                    a, b = v[(k + 1) % 3], v[(k + 2) % 3]
                    dx, dy = b[0] - a[0], b[1] - a[1]
                    weights.append((a[0] - p[0]) * (b[1] - p[1]) - (b[0] - p[0]) * (a[1] - p[1]))
                    if weights[k] < 0 or (weights[k] == 0 and (dy > 0 or (dy == 0 and dx <= 0))):
                        covered = False
                if covered:
                    z = sum(w * c[2] for w, c in zip(weights, v, strict=True)) / sum(weights)
                    hits.setdefault((row, column), {}).setdefault(z, set()).add(f + first)
    return {pixel: [(z, max(found[z])) for z in sorted(found)] for pixel, found in hits.items()}


def weights_at(corners, X, Y):
    """u, v of whole faces, not clamped, and z/w; None where they are not defined."""
    x, y = ([p[k] - centre * p[3] for p in corners] for k, centre in ((0, X), (1, Y)))
    e = [x[k - 2] * y[k - 1] - x[k - 1] * y[k - 2] for k in range(3)]
    w = sum(b * p[3] for b, p in zip(e, corners, strict=True))
    if sum(e) == 0 or w == 0:
        return None
    return e[0] / sum(e), e[1] / sum(e), sum(b * p[2] for b, p in zip(e, corners, strict=True)) / w


def returned(positions, face, pixel, size):
    """u, v, z/w and the derivatives at a pixel, as floats."""
    corners = [[Fraction(x) for x in positions[v].tolist()] for v in face.tolist()]
    X, Y = Fraction(2 * pixel[1] + 1, size[1]) - 1, Fraction(2 * pixel[0] + 1, size[0]) - 1
    u, v, z = weights_at(corners, X, Y)
    h = Fraction(1, 2**40)  # of a pixel
    ahead, behind = (weights_at(corners, X + s * 2 * h / size[1], Y) for s in (1, -1))
    above, below = (weights_at(corners, X, Y + s * 2 * h / size[0]) for s in (1, -1))
    steps = [(one[k] - other[k]) / (2 * h) for k in (0, 1) for one, other in ((ahead, behind), (above, below))]
    u, v = (min(max(x, 0), 1) for x in (u, v))
    most = max(u + v, 1)
    return [float(x) for x in (u / most, v / most, min(max(z, -1), 1), *steps)]


def clip_soup(seed, F, dtype=torch.float32, spread=1.0):
    """Positions [3F, 4] of unconnected triangles in, around and behind the view; some corners have w < 0."""
    g = generator(seed)
    middle = torch.randn(F, 1, 4, generator=g) * torch.tensor([0.7, 0.7, 0.5, 0.0])
    corner = middle + spread * torch.randn(F, 3, 4, generator=g) * torch.tensor([1.0, 1, 0.6, 0.4])
    corner[..., 3] += 1.2
    return corner.reshape(3 * F, 4).to(dtype).double(), torch.arange(3 * F).reshape(F, 3)


def compare(raster, b, positions, faces, size, want):
    """The nearest of the layers `want`, and all that is returned of it; returns how many values were clamped."""
    eps = torch.finfo(raster.depth.dtype).eps
    index, bary, depth, steps, nearest = (out[b].cpu() for out in raster)
    clamped = 0
    for row in range(size[0]):
        for column in range(size[1]):
            at, seen = (row, column), int(index[row, column])
            if at not in want:
                assert seen == -1 and float(nearest[at]) == float("inf")
                assert not bary[at].any() and not depth[at].any() and not steps[at].any()
                continue
            assert seen == want[at][0][1], at
            # A few roundings of numbers up to 4, weighted; where a face was cut, of a corner whose z/w cancels.
            assert abs(float(nearest[at]) - float(want[at][0][0])) < 256 * 2.0**-52
            exact = torch.tensor(returned(positions, faces[seen], at, size), dtype=torch.float64)
            got = torch.cat([bary[at], depth[at][None], steps[at]]).double()
            # Float64 cancels by the size of the sample's face; 1e-9 is 2^22 of its units, for faces of these soups.
            assert ((got - exact).abs() <= eps * exact.abs() + 1e-9 * (1 + exact.abs())).all(), (at, got, exact)
            clamped += int(((got[:2] == 0) | (got[:2] == 1)).sum()) + int(got[0] + got[1] >= 1 - eps)
    return clamped
