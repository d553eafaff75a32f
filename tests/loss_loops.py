"""FOCUS's losses as loops over pixels in Python floats, written from the table of equations; no torch, no kernels.

Images are nested [B, 3, H, W] numpy arrays, masks [B, 1, H, W], read one number at a time.
"""

import math

NOSE_AND_LIP = {27, 28, 29, 30, 60, 61, 62, 63, 64, 65, 66, 67}


def pixels(image):
    B, _, H, W = image.shape
    return [(b, i, j) for b in range(B) for i in range(H) for j in range(W)]


def square(x, y, b, i, j, k=None, m=None):
    """|x(i, j) - y(k, m)|^2 over RGB."""
    k, m = (i if k is None else k), (j if m is None else m)
    return sum((float(x[b, c, i, j]) - float(y[b, c, k, m])) ** 2 for c in range(3))


def neighbor_paper(target, rendered, mask):
    H, W = mask.shape[2:]
    total = 0.0
    for b, i, j in pixels(mask):
        around = [(k, m) for k in (i - 1, i, i + 1) for m in (j - 1, j, j + 1) if 0 <= k < H and 0 <= m < W]
        total += float(mask[b, 0, i, j]) * min(square(target, rendered, b, i, j, k, m) for k, m in around)
    return total / len(pixels(mask))


def neighbor_authors(target, rendered, mask):
    (B, _, H, W), total = mask.shape, 0.0
    photo, face = target * mask, rendered * mask
    for b, i, j in pixels(mask):
        if 2 <= i < H - 2 and 2 <= j < W - 2:
            shifts = [(i + y, j + x) for y in range(-2, 3) for x in range(-2, 3)]
            total += min(math.sqrt(square(face, photo, b, i, j, k, m)) for k, m in shifts)
    return total / (B * (H - 4) * (W - 4))


def pixel_paper(target, rendered, mask):
    B = len(mask)
    sums, areas = [0.0] * B, [0.0] * B
    for b, i, j in pixels(mask):
        sums[b] += float(mask[b, 0, i, j]) * square(target, rendered, b, i, j)
        areas[b] += float(mask[b, 0, i, j])
    return sum(s / max(a, 1.0) for s, a in zip(sums, areas, strict=True)) / B


def pixel_authors(target, rendered, mask):
    total = area = 0.0
    for b, i, j in pixels(mask):
        total += float(mask[b, 0, i, j]) * math.sqrt(square(target, rendered, b, i, j))
        area += float(mask[b, 0, i, j])
    return total / max(area, 1.0)


def pixel_everywhere(target, rendered, mask, power):
    """Eq. 5 averaged over all pixels."""
    total = sum(float(mask[b, 0, i, j]) * square(target, rendered, b, i, j) ** (power / 2) for b, i, j in pixels(mask))
    return total / len(pixels(mask))


def area(mask, raster):
    """S_M / S_R, averaged over the images."""
    ratios = []
    for b in range(len(mask)):
        covered = sum(float(value) for row in mask[b, 0] for value in row)
        whole = sum(float(value) for row in raster[b, 0] for value in row)
        ratios.append(covered / max(whole, 1.0))
    return sum(ratios) / len(ratios)


def binary_paper(mask, raster):
    means = []
    for b in range(len(mask)):
        inside = [(i, j) for x, i, j in pixels(mask) if x == b and raster[b, 0, i, j] == 1]
        means.append(sum((float(mask[b, 0, i, j]) - 0.5) ** 2 for i, j in inside) / max(len(inside), 1))
    return -sum(means) / len(means)


def binary_authors(mask):
    return 0.5 - sum(abs(float(mask[b, 0, i, j]) - 0.5) for b, i, j in pixels(mask)) / len(pixels(mask))


def cosine(x, y, rows=False):
    """x, y: [B, C] or [B, C, h, w]. rows: each row of a feature map is first divided by its length."""
    if x.ndim == 2:
        x, y = x[:, :, None, None], y[:, :, None, None]
        rows = False
    B, C, h, w = x.shape

    def value(z, b, c, i, j):
        length = math.sqrt(sum(float(z[b, c, i, k]) ** 2 for k in range(w))) if rows else 1.0
        return float(z[b, c, i, j]) / length

    total = 0.0
    for b in range(B):
        for i in range(h):
            for j in range(w):
                u = [value(x, b, c, i, j) for c in range(C)]
                v = [value(y, b, c, i, j) for c in range(C)]
                dot = sum(p * q for p, q in zip(u, v, strict=True))
                total += 1 - dot / math.sqrt(sum(p * p for p in u) * sum(q * q for q in v))
    return total / (B * h * w)


def landmark_paper(target, rendered):
    total = 0.0
    for b in range(len(target)):
        for n in range(68):
            dx, dy = (float(rendered[b, n, k]) - float(target[b, n, k]) for k in range(2))
            total += (20.0 if n in NOSE_AND_LIP else 1.0) * (dx * dx + dy * dy)
    return total / (68 * len(target))


def landmark_authors(target, rendered):
    total = 0.0
    for b in range(len(target)):
        for n in range(68):
            for k in range(2):
                weight = 20.0 if n in NOSE_AND_LIP - {27} else 1.0
                total += (weight * (float(rendered[b, n, k]) - float(target[b, n, k]))) ** 2
    return total / (2 * 68 * len(target))


def regularisation(identity, expression, albedo):
    squares = [float(value) ** 2 for part in (identity, expression, albedo) for row in part for value in row]
    return sum(squares) / 224 / len(identity)


def preliminary(target, rendered, raster, threshold=0.016641):
    mask = raster * 0.0
    for b, i, j in pixels(raster):
        if square(target, rendered, b, i, j) < threshold:
            mask[b, 0, i, j] = raster[b, 0, i, j]
    return mask


def gaussian(target, rendered, mask, sigma=0.043):
    """-mean over all pixels of M log(N(d; 0, sigma^2)) for the three colours."""
    total = 0.0
    for b, i, j in pixels(mask):
        density = 0.0
        for c in range(3):
            d = float(rendered[b, c, i, j]) - float(target[b, c, i, j])
            density += -d * d / (2 * sigma * sigma) - math.log(sigma * math.sqrt(2 * math.pi))
        total -= float(mask[b, 0, i, j]) * density
    return total / len(pixels(mask))


def cross_entropy(predicted, mask):
    total = 0.0
    for b, i, j in pixels(mask):
        p, t = float(predicted[b, 0, i, j]), float(mask[b, 0, i, j])
        total -= t * math.log(p) + (1 - t) * math.log(1 - p)
    return total / len(pixels(mask))
