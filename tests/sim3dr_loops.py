"""Sim3DR's rules written out, one triangle, pixel or vertex at a time; and meshes to draw."""

import numpy as np

F = np.float32


def by_rule(vertices, triangles, colors, bg, reverse=False, dtype=F):
    """The picture and the depths by upstream's rules; float32 has its rounding, operation by operation."""
    height, width = bg.shape[:2]
    image, depth = bg.copy(), np.full((height, width), -1e8, dtype)
    for corners in triangles:
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = vertices[corners].astype(dtype)
        for y in range(max(int(np.ceil(min(ay, by, cy))), 0), min(int(np.floor(max(ay, by, cy))), height - 1) + 1):
            for x in range(max(int(np.ceil(min(ax, bx, cx))), 0), min(int(np.floor(max(ax, bx, cx))), width - 1) + 1):
                p, q, r, s, dx, dy = cx - ax, cy - ay, bx - ax, by - ay, dtype(x) - ax, dtype(y) - ay
                pp, pr, rr = p * p + q * q, p * r + q * s, r * r + s * s
                pd, rd = p * dx + q * dy, r * dx + s * dy
                determinant = pp * rr - pr * pr
                inverse = dtype(0) if determinant == 0 else 1 / determinant
                c, b = (rr * pd - pr * rd) * inverse, (pp * rd - pr * pd) * inverse
                a = 1 - c - b
                if not (a > 0 and b > 0 and c > 0):
                    continue
                z = a * az + b * bz + c * cz
                if z > depth[y, x]:
                    depth[y, x] = z
                    ca, cb, cc = colors[corners].astype(dtype)
                    shown = dtype(255) * (a * ca + b * cb + c * cc)
                    image[height - 1 - y if reverse else y, x] = np.clip(shown, 0, 255).astype(np.uint8)
    return image, depth


def soup(seed, count, size, channels=3, spread=9.0):
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-3, np.array(size)[::-1] + 3, (count, 1, 2))
    xy = middle + rng.normal(0, spread, (count, 3, 2))
    vertices = np.concatenate([xy, rng.uniform(-60, 60, (count, 3, 1))], 2).reshape(-1, 3).astype(F)
    triangles = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    colors = rng.uniform(0, 1, (3 * count, channels)).astype(F)
    return vertices, triangles, colors, rng.integers(0, 256, (*size, channels), dtype=np.uint8)


def dome(n=13, size=40):
    """A half ellipsoid of n * n vertices, folded over at its rim, on a picture of `size` squared."""
    u = np.linspace(-1, 1, n)
    x, y = np.meshgrid(u, u)
    rng = np.random.default_rng(n)
    z = np.sqrt(np.clip(2.1 - x**2 - y**2, 0, None)) + 0.05 * rng.standard_normal(x.shape)
    vertices = np.stack([x * (0.6 + z / 4), y * (0.6 + z / 4), z], -1).reshape(-1, 3) * size * 0.45
    vertices += [size * 0.513, size * 0.4811, -1000]  # no edge runs through pixel centres
    i = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).reshape(-1)
    triangles = np.concatenate([np.stack([i, i + 1, i + n], 1), np.stack([i + 1, i + n + 1, i + n], 1)])
    return vertices.astype(F), triangles.astype(np.int32)


def normals_by_rule(vertices, triangles):
    total = np.zeros(vertices.shape)
    for i, j, k in triangles:
        cross = np.cross(vertices[j] - vertices[i], vertices[k] - vertices[i])
        for corner in (i, j, k):
            total[corner] += cross
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return total / np.where(length > 0, length, 1)


def light_by_rule(vertices, triangles, options):
    """Upstream's formula, one vertex at a time, in float64."""
    get = lambda name, default: np.broadcast_to(np.asarray(options.get(name, default), float), 3)
    points = vertices.astype(float)
    normals = normals_by_rule(points, triangles)
    points = points - points.min(0)
    points = points / points.max() * 2
    points = points - points.max(0) / 2
    ambient, directional = get("intensity_ambient", 0.3), get("intensity_directional", 0.6)
    specular, exponent = get("intensity_specular", 0.1), options.get("specular_exp", 5)
    color = get("color_directional", 1)
    lights = []
    for point, normal in zip(points, normals, strict=True):
        light = ambient * get("color_ambient", 1)
        if (directional > 0).any():
            to_light = get("light_pos", (0, 0, 5)) - point
            to_light = to_light / np.linalg.norm(to_light)
            cos = normal @ to_light
            light = light + directional * color * np.clip(cos, 0, 1)
            to_viewer = get("view_pos", (0, 0, 5)) - point
            to_viewer = to_viewer / np.linalg.norm(to_viewer)
            shine = np.sum((to_viewer * (2 * cos * normal - to_light)) ** exponent)
            light = light + specular * color * (np.clip(shine, 0, 1) if cos != 0 else 0)
        lights.append(np.clip(light, 0, 1))
    return np.array(lights)
