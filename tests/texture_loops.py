"""The documented rules of nvdiffrast's texture sampling, one sample at a time in float64, and inputs to try them on."""

import math
from itertools import product

import numpy as np
import torch

FILTERS = ("nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
MIPMAPPED = FILTERS[2:]
BOUNDARIES = ("wrap", "clamp", "zero")

# the direction of (u, v) in [-1, 1]^2 on each face, as columns for u, v and 1: the specification's table, inverted
FACE_POINTS = [
    np.array(m, float).T
    for m in (
        [[0, 0, -1], [0, -1, 0], [1, 0, 0]],
        [[0, 0, 1], [0, -1, 0], [-1, 0, 0]],
        [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        [[1, 0, 0], [0, 0, -1], [0, -1, 0]],
        [[1, 0, 0], [0, -1, 0], [0, 0, 1]],
        [[-1, 0, 0], [0, -1, 0], [0, 0, -1]],
    )
]


def rand(*shape, seed=0, low=0.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def halved(image):
    """Means of 2x2 texels of [..., H, W, C]; a side of 1 stays."""
    rows = [0] if image.shape[-3] == 1 else [0, 1]
    columns = [0] if image.shape[-2] == 1 else [0, 1]
    parts = [image[..., r :: len(rows), c :: len(columns), :] for r in rows for c in columns]
    return sum(parts) / len(parts)


def chain(image, highest=math.inf):
    levels = [image]
    while max(levels[-1].shape[-3:-1]) > 1 and len(levels) <= highest:
        levels.append(halved(levels[-1]))
    return levels


def texel_2d(image, row, column, boundary):
    height, width = image.shape[:2]
    if boundary == "wrap":
        row, column = row % height, column % width
    elif boundary == "clamp":
        row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
    elif not (0 <= row < height and 0 <= column < width):
        return np.zeros(image.shape[-1])
    return image[row, column]


def sample_2d(image, uv, nearest, boundary):
    height, width = image.shape[:2]
    x, y = uv[0] * width, uv[1] * height
    if nearest:
        return texel_2d(image, math.floor(y), math.floor(x), boundary)
    x, y = x - 0.5, y - 0.5
    column, row = math.floor(x), math.floor(y)
    fx, fy = x - column, y - row
    return sum(
        (fy if i else 1 - fy) * (fx if j else 1 - fx) * texel_2d(image, row + i, column + j, boundary)
        for i, j in product((0, 1), (0, 1))
    )


def centre(face, row, column, size):
    """Centre of a texel on the cube of half side 1."""
    return FACE_POINTS[face] @ [(2 * column + 1) / size - 1, (2 * row + 1) / size - 1, 1]


def texel_across(images, face, row, column):
    """The texel of another face that is nearest to where (row, column), outside in one of them, crosses the edge."""
    size = images.shape[1]
    crossing = np.array([(2 * column + 1) / size - 1, (2 * row + 1) / size - 1, 1]).clip(-1, 1)
    others = [index for index in np.ndindex(*images.shape[:3]) if index[0] != face]
    distances = [np.linalg.norm(centre(*index, size) - FACE_POINTS[face] @ crossing) for index in others]
    order = np.argsort(distances)
    assert distances[order[0]] < distances[order[1]] - 1e-9 or size == 1
    return images[others[order[0]]]


def on_face(direction):
    for face, points in enumerate(FACE_POINTS):
        u, v, w = np.linalg.solve(points, direction)
        if w > 0 and abs(u) <= w and abs(v) <= w:
            return face, u / w, v / w, w
    raise AssertionError(direction)


def sample_cube(images, direction, nearest):
    size = images.shape[1]
    face, u, v, _ = on_face(direction)
    x, y = (u + 1) / 2 * size, (v + 1) / 2 * size
    if nearest:
        return images[face, min(math.floor(y), size - 1), min(math.floor(x), size - 1)]
    x, y = x - 0.5, y - 0.5
    column, row = math.floor(x), math.floor(y)
    values, weights, missing = [], [], 0.0
    for i, j in product((0, 1), (0, 1)):
        weight = ((y - row) if i else 1 - (y - row)) * ((x - column) if j else 1 - (x - column))
        outside = (not 0 <= row + i < size) + (not 0 <= column + j < size)
        if outside == 2:
            missing = weight
            continue
        weights.append(weight)
        if outside:
            values.append(texel_across(images, face, row + i, column + j))
        else:
            values.append(images[face, row + i, column + j])
    return sum((w + missing / 3 * (len(values) == 3)) * value for w, value in zip(weights, values, strict=True))


def mip_level(uv, uv_da, bias, levels, cube):
    level = 0.0 if bias is None else bias
    if uv_da is not None:
        jacobian = uv_da.reshape(-1, 2)
        if cube:
            face, u, v, w = on_face(uv)
            local = np.linalg.solve(FACE_POINTS[face], jacobian)
            jacobian = np.stack([(local[0] - u * local[2]) / w, (local[1] - v * local[2]) / w]) / 2
        height, width = levels[0].shape[-3:-1]
        axis = np.linalg.svd(np.array([[width], [height]]) * jacobian, compute_uv=False)[0]
        level += math.log2(axis) if axis > 0 else -math.inf
    return min(max(level, 0.0), len(levels) - 1)


def by_rule(levels, uv, uv_da, bias, filter_mode, boundary):
    """`levels`: lists of arrays per image; the result [B, H, W, C]."""
    cube = boundary == "cube"

    def sample(image, at):
        nearest = filter_mode == "nearest"
        return sample_cube(image, at, nearest) if cube else sample_2d(image, at, nearest, boundary)

    out = np.zeros((*uv.shape[:3], levels[0][0].shape[-1]))
    for b, i, j in np.ndindex(*uv.shape[:3]):
        stack = levels[b % len(levels)]
        at = uv[b, i, j]
        if filter_mode not in MIPMAPPED:
            out[b, i, j] = sample(stack[0], at)
            continue
        da = None if uv_da is None else uv_da[b, i, j]
        level = mip_level(at, da, None if bias is None else bias[b, i, j], stack, cube)
        if filter_mode == "linear-mipmap-nearest":
            out[b, i, j] = sample(stack[math.floor(level + 0.5)], at)
        else:
            low = math.floor(level)
            part = level - low
            high = min(low + 1, len(stack) - 1)
            out[b, i, j] = (1 - part) * sample(stack[low], at) + part * sample(stack[high], at)
    return out


def directions(batch, height, width, seed=0):
    return torch.randn(batch, height, width, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def footprints(*shape, seed=0):
    """Derivatives whose footprints range from a part of a texel to the whole of a texture of 16 texels."""
    scale = 2 ** rand(*shape[:3], 1, seed=seed, low=-7.0, high=1.0)
    return scale * rand(*shape, seed=seed + 1, low=-1.0, high=1.0)


def assert_by_rule(
    function, tex, uv, uv_da=None, bias=None, filter_mode="linear", boundary="wrap", highest=math.inf, mip=None
):
    out = function(
        tex,
        uv,
        uv_da,
        bias,
        mip=mip,
        filter_mode=filter_mode,
        boundary_mode=boundary,
        max_mip_level=None if highest == math.inf else highest,
    )
    levels = [chain(image, highest if filter_mode in MIPMAPPED else 0) for image in tex.numpy()]
    if mip is not None:
        levels = [[image.numpy() for image in images] for images in zip(tex, *mip, strict=True)]
    arrays = [None if t is None else t.numpy() for t in (uv_da, bias)]
    expected = by_rule(levels, uv.numpy(), *arrays, filter_mode, boundary)
    # float64: about 20 operations on values of order 1, times the logarithm's derivative
    np.testing.assert_allclose(out.numpy(), expected, rtol=0, atol=1e-12)
