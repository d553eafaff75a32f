"""No holes and no doubles: a randomly triangulated polygon covers each sample inside exactly once."""

from fractions import Fraction

import torch
from fuzzing import compiled_kernels, dtypes, fuzz, made, seeded  # noqa: F401
from hypothesis import strategies as st
from meshes import topology

import focus_kernels as fk

Point = tuple[Fraction, Fraction]


def side(a: Point, b: Point, c: Point) -> Fraction:
    """Twice the signed area of a, b, c, exactly."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])


def fan(rim: list[Point], hub: Point) -> list[tuple[int, int, int]]:
    """Triangles of one orientation from the hub (the last vertex) to a star-shaped rim; empty when it is none."""
    n = len(rim)
    faces = [(n, i, (i + 1) % n) for i in range(n)]
    around = [side(hub, rim[i], rim[(i + 1) % n]) for i in range(n)]
    return faces if n >= 3 and all(area > 0 for area in around) else []


def refined(points: list[Point], faces: list, steps: list[tuple[int, int, Point]]) -> list:
    """Random surgery that keeps a triangulation one: split a face at a point inside, or flip an edge."""
    faces = list(faces)
    for flip, at, point in steps:
        at %= len(faces)
        a, b, c = faces[at]
        if not flip:
            corners = [(a, b), (b, c), (c, a)]
            if all(side(points[i], points[j], point) > 0 for i, j in corners):
                points.append(point)
                faces[at : at + 1] = [(i, j, len(points) - 1) for i, j in corners]
            continue
        for other, face in enumerate(faces):
            if a in face and b in face and other != at:
                d = next(v for v in face if v not in (a, b))
                if side(points[c], points[a], points[d]) > 0 and side(points[c], points[d], points[b]) > 0:
                    faces[at], faces[other] = (c, a, d), (c, d, b)
                break
    return faces


def inside(rim: list[Point], p: Point) -> bool | None:
    """Whether p is in the polygon, exactly; None on its border."""
    odd = False
    for a, b in zip(rim, rim[1:] + rim[:1], strict=True):
        turn = side(a, b, p)
        if turn == 0 and all(min(a[k], b[k]) <= p[k] <= max(a[k], b[k]) for k in range(2)):
            return None
        if (a[1] > p[1]) != (b[1] > p[1]) and (turn > 0) == (b[1] > a[1]):
            odd = not odd
    return odd


def single(number: float) -> float:
    return float(torch.tensor(number, dtype=torch.float32))


halves = st.integers(-3, 18).map(lambda n: n / 2)
dyadic = halves | st.integers(-96, 576).map(lambda n: n / 64)
anything = st.floats(-2, 10).map(single) | st.sampled_from([0.5, 1.5, 3.5, 0.5 - 2.0**-25, 3.5 + 2.0**-22])


@st.composite
def polygons(draw):
    """(rim, all points, faces) of a triangulated star-shaped polygon with clockwise triangles on the screen."""
    number = draw(st.sampled_from([halves, dyadic, anything, anything | halves]))
    if draw(st.booleans()):  # few different numbers: edges along rows and columns
        number = st.sampled_from(draw(st.lists(number, min_size=3, max_size=6, unique=True)))
    point = st.tuples(number, number).map(lambda xy: (Fraction(xy[0]), Fraction(xy[1])))
    hub = draw(point)
    spokes = draw(st.lists(point.filter(lambda p: p != hub), min_size=3, max_size=9))
    rim = sorted(spokes, key=lambda p: angle(p[0] - hub[0], p[1] - hub[1]))
    faces = fan(rim, hub)
    if not faces:  # no star: a box about the hub
        west, north, east, south = hub[0] - 3, hub[1] - 2, hub[0] + 4, hub[1] + 3
        rim = [(west, north), (east, north), (east, south), (west, south)]
        rim = [(Fraction(single(float(x))), Fraction(single(float(y)))) for x, y in rim]
        faces = fan(rim, hub)
    points = [*rim, hub]
    steps = draw(st.lists(st.tuples(st.booleans(), st.integers(0, 99), point), max_size=12))
    return rim, points, refined(points, faces, steps)


def angle(x: Fraction, y: Fraction) -> tuple:
    """Sorts directions clockwise on the screen, exactly: half planes first, then the slope."""
    half = 0 if y > 0 or (y == 0 and x > 0) else 1
    slope = (1, Fraction(0)) if y == 0 else (2, -x / y)
    return half, *slope


@fuzz(50, polygon=polygons(), dtype=dtypes, turned=st.booleans(), perspective=st.booleans())
def test_each_sample_of_a_polygon_is_covered_once(device, polygon, dtype, turned, perspective):
    rim, points, faces = polygon
    size = (7, 8)
    xy = torch.tensor([[float(x), float(y)] for x, y in points], dtype=torch.float64)
    order = [0, 2, 1] if turned else [0, 1, 2]
    alone = torch.cat([xy[torch.tensor(faces)], torch.ones(len(faces), 3, 1, dtype=torch.float64)], 2)[:, order]
    alone = alone.to(device, dtype)
    one = topology([[0, 1, 2]], 3, device)
    cull = "back" if turned else "front"
    claims = lambda coverage: (
        fk.rasterize(alone, one, size, coverage=coverage, cull=cull, perspective_correct=perspective).face_index == 0
    ).sum(0)
    top_left, inclusive, strict = (claims(coverage).cpu() for coverage in ("top_left", "inclusive", "strict"))
    for row in range(size[0]):
        for column in range(size[1]):
            where = inside(rim, (Fraction(2 * column + 1, 2), Fraction(2 * row + 1, 2)))
            counts = [int(claim[row, column]) for claim in (strict, top_left, inclusive)]
            if where is None:
                assert counts[0] == 0 and counts[1] <= 1 <= counts[2], (row, column, counts)
            elif where:
                assert counts[0] <= 1 == counts[1] <= counts[2] and counts[0] + counts[2] >= 2, (row, column, counts)
            else:
                assert counts == [0, 0, 0], (row, column, counts)
    # The culled side, and the polygon drawn at once.
    cull = "front" if turned else "back"
    assert (fk.rasterize(alone, one, size, coverage="inclusive", cull=cull).face_index == -1).all()
    positions = torch.cat([xy, torch.ones(len(xy), 1, dtype=torch.float64)], 1)[None].to(device, dtype)
    whole = fk.rasterize(positions, topology(faces, len(xy), device), size, cull=None).face_index[0].cpu()
    assert (whole >= 0).equal(top_left > 0)


@fuzz(40, mesh=seeded(spoilt=False, work=2_000_000, kinds=("net",)), dtype=dtypes)
def test_each_sample_of_a_sheet_is_covered_once(device, mesh, dtype):
    """The same over large images and many triangles: a jittered net that reaches beyond the image on all sides."""
    positions, net = made(mesh, torch.float64, "cpu")
    middle = positions.new_tensor([mesh.size[1], mesh.size[0]]) / 2
    positions[..., :2] = (positions[..., :2] - middle) * 3 + middle
    positions = positions.to(dtype).double()
    corners = positions[:, net.faces.long()].reshape(-1, 3, 3)
    (x0, x1, x2), (y0, y1, y2) = corners[..., 0].unbind(1), corners[..., 1].unbind(1)
    folded = ((x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0) >= 0).any()  # corners of small cells rounded too far
    if mesh.count < 2 or folded:
        return
    alone = fk.rasterize(corners.to(device, dtype), topology([[0, 1, 2]], 3, device), mesh.size)
    claims = (alone.face_index == 0).reshape(mesh.batch, -1, *mesh.size).sum(1)
    assert (claims == 1).all()
    assert (fk.rasterize(positions.to(device, dtype), net.to(device), mesh.size).face_index >= 0).all()
