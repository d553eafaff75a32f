"""NoW: distances against brute force, the alignment against another optimiser, files, and the folder as a whole."""

import csv
import json

import numpy as np
import pytest
from face_models import dome
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from focus.evaluation import Mesh, evaluate_now, now_error, read_mesh, read_now_landmarks
from focus.evaluation.now import align_landmarks, crop_scan
from focus.export import write_obj, write_ply

igl = pytest.importorskip("igl", reason="libigl is not installed")

from focus.evaluation import Surface  # noqa: E402

SPOTS = ((-1.5, 1), (-0.5, 1), (0.5, 1), (1.5, 1), (0, -0.2), (-0.8, -1.2), (0.8, -1.2))


def nearest_by_regions(p, a, b, c):
    """The point of a triangle nearest to p: Ericson, Real-Time Collision Detection, 5.1.5."""
    ab, ac, ap = b - a, c - a, p - a
    d1, d2 = ab @ ap, ac @ ap
    if d1 <= 0 and d2 <= 0:
        return a
    bp = p - b
    d3, d4 = ab @ bp, ac @ bp
    if d3 >= 0 and d4 <= d3:
        return b
    if d1 * d4 - d3 * d2 <= 0 and d1 >= 0 and d3 <= 0:
        return a + d1 / (d1 - d3) * ab
    cp = p - c
    d5, d6 = ab @ cp, ac @ cp
    if d6 >= 0 and d5 <= d6:
        return c
    if d5 * d2 - d1 * d6 <= 0 and d2 >= 0 and d6 <= 0:
        return a + d2 / (d2 - d6) * ac
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        return b + (d4 - d3) / (d4 - d3 + d5 - d6) * (c - b)
    n = np.cross(ab, ac)
    return p - (ap @ n) / (n @ n) * n


def brute_force(points, vertices, faces):
    best = []
    for p in points:
        best.append(min(np.linalg.norm(p - nearest_by_regions(p, *vertices[face])) for face in faces))
    return np.array(best)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 40))
def test_distances_are_those_of_brute_force(seed, spread):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(12, 3)) * rng.uniform(0.1, 30, 3)
    faces = np.array([rng.permutation(12)[:3] for _ in range(9)])
    points = rng.normal(size=(15, 3)) * spread
    points[:3] = vertices[faces[:3]].mean(1)  # on the surface
    points[3:6] = vertices[faces[3:6, 0]]
    near = Surface(vertices, faces).nearest(points)
    np.testing.assert_allclose(near.distance, brute_force(points, vertices, faces), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(near.point - points, axis=1), near.distance, rtol=1e-9, atol=1e-9)
    for point, face in zip(near.point, near.face, strict=True):  # and the points lie in their triangles
        assert np.linalg.norm(point - nearest_by_regions(point, *vertices[faces[face]])) < 1e-9 * 40


def test_degenerate_triangles_are_segments():
    vertices = np.array([[0.0, 0, 0], [4, 0, 0], [2, 0, 0], [9, 9, 9]])
    surface = Surface(vertices, np.array([[0, 1, 2], [0, 0, 1]]))
    np.testing.assert_allclose(surface.nearest(np.array([[3.0, 2, 0], [6, 0, 0]])).distance, [2, 2])
    np.testing.assert_array_equal(surface.normals(np.array([0, 1])), np.zeros((2, 3)))


@pytest.fixture(scope="module")
def face():
    """A bumpy cap of 25 x 25 vertices, 160 mm wide, with seven landmark vertices; and a scan that is another one."""

    def shape(columns, bump):
        vertices, faces = dome(columns * columns, columns, 160.0)
        x, y = vertices[:, 0], vertices[:, 1]
        vertices[:, 2] += 14 * np.exp(-(x**2 + (y + 5) ** 2) / 300) + bump * np.sin(x / 17) * np.cos(y / 13 + bump)
        return vertices, faces

    mesh_vertices, faces = shape(25, 1.5)
    scan, _ = shape(41, 3.0)
    spots = 25.0 * np.array(SPOTS)

    def ids(vertices):
        return [int(np.argmin(np.square(vertices[:, :2] - spot).sum(1))) for spot in spots]

    return Mesh(mesh_vertices, faces.astype(np.int64)), ids(mesh_vertices), scan, scan[ids(scan)]


def test_crop_is_the_sphere_of_now():
    landmarks = np.zeros((7, 3))
    landmarks[0], landmarks[3] = (-45, 30, 0), (45, 30, 0)  # 90 mm apart
    landmarks[1], landmarks[2] = (-15, 40, 0), (15, 40, 0)  # the bridge is at y = 40
    landmarks[4] = (0, -10, 0)  # 50 mm below it: the centre is at y = 5, the radius 1.4 * 70 = 98
    points = np.array([[0, 5 + 97.9, 0], [0, 5 + 98.1, 0], [97.9, 5, 0], [0, 5, -98.1], [0, 5, 97.9]])
    np.testing.assert_array_equal(crop_scan(points, landmarks), [True, False, True, False, True])


def test_a_moved_and_scaled_copy_has_no_error(face):
    mesh, ids, *_ = face
    turn = Rotation.from_rotvec([0.4, -0.3, 0.2]).as_matrix()
    scan = 1.3 * mesh.vertices @ turn.T + [10, 20, 30]
    off = np.random.default_rng(0).normal(size=(7, 3))  # landmarks are never exact: the refinement has to mend it
    found = now_error(scan, scan[ids] + off, mesh, mesh.vertices[ids])
    assert found.distances.max() < 1e-6 and found.placement.scale == pytest.approx(1.3, rel=1e-6)
    np.testing.assert_allclose(found.placement.rotation, turn, atol=1e-6)
    # With the true unit given the same, with another one the size is wrong and stays so.
    right = now_error(scan / 1.3, (scan / 1.3)[ids] + off, mesh, mesh.vertices[ids], unit="mm")
    assert right.distances.max() < 1e-6 and right.placement.scale == 1
    wrong = now_error(scan, scan[ids] + off, mesh, mesh.vertices[ids], unit="mm")
    assert wrong.placement.scale == 1 and wrong.distances.mean() > 0.5


@pytest.mark.parametrize("unit,factor", [("mm", 1.0), ("cm", 0.1), ("m", 0.001)])
def test_units_say_the_same(face, unit, factor):
    mesh, ids, scan, landmarks = face
    expected = now_error(scan, landmarks, mesh, mesh.vertices[ids], unit="mm")
    scaled = Mesh(mesh.vertices * factor, mesh.faces)
    found = now_error(scan, landmarks, scaled, scaled.vertices[ids], unit=unit)
    np.testing.assert_allclose(found.distances, expected.distances, atol=1e-6)
    assert found.placement.scale * factor == pytest.approx(1)


@pytest.mark.parametrize("unit", [None, "mm"])
def test_the_alignment_is_an_optimum_of_now_s_function(face, unit):
    """Another optimiser, on the function as NoW writes it, finds nothing better from there or from the start."""
    mesh, ids, scan, landmarks = face
    found = now_error(scan, landmarks, mesh, mesh.vertices[ids], unit=unit)
    cropped, surface = scan[crop_scan(scan, landmarks)], Surface(*mesh)
    assert len(found.distances) == len(cropped) < len(scan)

    def residual(p, place):
        s = p[6] if unit is None else 1.0
        turn = Rotation.from_rotvec(p[:3]).as_matrix()
        back = ((cropped - p[3:6]) @ turn) / s
        distance = place.scale * s * surface.nearest(place.inverse(back)).distance
        return np.append(distance, 100 * (abs(s) - s))

    start = np.array([0.0] * 6 + [1.0] * (unit is None))
    ours = float(np.square(found.distances).sum())
    assert 2 * least_squares(residual, start, args=(found.placement,)).cost > ours * (1 - 1e-5)
    coarse = align_landmarks(mesh.vertices[ids], landmarks, unit=unit)
    before = float(np.square(residual(start, coarse)).sum())
    theirs = 2 * least_squares(residual, start, args=(coarse,), x_scale="jac").cost
    assert ours < 0.9 * before and ours <= theirs * (1 + 1e-4)


def test_distances_belong_to_the_placement(face):
    mesh, ids, scan, landmarks = face
    found = now_error(scan, landmarks, mesh, mesh.vertices[ids])
    cropped = scan[crop_scan(scan, landmarks)][::40]
    placed = found.placement.apply(mesh.vertices)
    np.testing.assert_allclose(found.distances[::40], brute_force(cropped, placed, mesh.faces), atol=1e-9)
    np.testing.assert_allclose(found.placement.inverse(placed), mesh.vertices, atol=1e-9)


def test_absurd_input_is_refused(face):
    mesh, ids, scan, landmarks = face
    points = mesh.vertices[ids]
    with pytest.raises(ValueError, match=r"now_error\(\): expected mesh_landmarks to be finite, shape \[7, 3\]"):
        now_error(scan, landmarks, mesh, points[:6])
    with pytest.raises(ValueError, match="vertices around scan_landmarks, got none"):
        now_error(scan + 1e4, landmarks, mesh, points)
    with pytest.raises(ValueError, match="seven points apart, got one point"):
        now_error(scan, landmarks, mesh, points * 0)
    with pytest.raises(ValueError, match="expected unit to be one of mm, cm, m, got 'inch'"):
        now_error(scan, landmarks, mesh, points, unit="inch")
    with pytest.raises(ValueError, match=r"expected faces to be in 0\.\.624"):
        now_error(scan, landmarks, Mesh(mesh.vertices, mesh.faces + 9), points)


def test_obj_with_everything_that_psbody_chokes_on(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text(
        "# comment\nmtllib a.mtl\nv 0 0 0 0.5 0.5 0.5\nv 1e0 0 0 1 1 1\n\nv 1 1 0 1 1 1\nv 0 1 0 1 1 1\nv 9 9 9 1 1 1\n"
        "vt 0 0\nvn 0 0 1\nusemtl x\ns off\nf 1/1/1 2/1/1 3/1/1 4/1/1\nf -5//1 -4//1 -3//1\n"
    )
    mesh = read_mesh(path)
    np.testing.assert_array_equal(mesh.vertices, [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [9, 9, 9]])
    np.testing.assert_array_equal(mesh.faces, [[0, 1, 2], [0, 2, 3], [0, 1, 2]])


def test_our_own_files_are_read(tmp_path, face):
    mesh = face[0]
    write_obj(tmp_path / "a.obj", *mesh, np.zeros_like(mesh.vertices))
    write_ply(tmp_path / "a.ply", *mesh, np.zeros_like(mesh.vertices))
    for name in ("a.obj", "a.ply"):
        found = read_mesh(tmp_path / name)
        np.testing.assert_allclose(found.vertices, mesh.vertices, atol=1e-5)
        np.testing.assert_array_equal(found.faces, mesh.faces)
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(data[:-5])
    with pytest.raises(ValueError, match="complete PLY"):
        read_mesh(tmp_path / "a.ply")


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "N > 0"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\n", "expected faces"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2", "line 4"),
        ("v 0 0 0\nv 1 0 0\nv 1 1\nf 1 2 3", "line 3"),
        ("v 0 0 0\nv 1 0 x\nv 1 1 0\nf 1 2 3", "numbers"),
        ("v 0 0 0\nv 1 0 nan\nv 1 1 0\nf 1 2 3", "finite"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 4", r"0\.\.2"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 0 1 2", r"0\.\.2"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\nf a 1 2", "vertex numbers in line 4"),
    ],
)
def test_damaged_meshes_are_refused(tmp_path, text, message):
    path = tmp_path / "a.obj"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_mesh(path)


PP = (
    "<!DOCTYPE PickedPoints>\n<PickedPoints>\n <DocumentData>\n  <DateTime date='1' time='2'/>\n  <User name='u'/>\n"
    "  <DataFileName name='s.obj'/>\n  <templateName name=''/>\n </DocumentData>\n{}</PickedPoints>\n"
)


def write_pp(path, points):
    rows = "".join(
        f' <point x="{x!r}" y="{y!r}" z="{z!r}" active="1" name="{k}"/>\n' for k, (x, y, z) in enumerate(points)
    )
    path.write_text(PP.format(rows))


def test_landmark_files(tmp_path):
    points = (np.arange(21.0).reshape(7, 3) / 7 - 1).tolist()
    write_pp(tmp_path / "a.pp", points)
    np.save(tmp_path / "a.npy", np.array(points, np.float32))
    np.save(tmp_path / "b.npy", np.array(points)[None])
    (tmp_path / "a.txt").write_text("\n".join(f"{x} {y} {z}" for x, y, z in points) + "\n")
    for name in ("a.pp", "a.npy", "b.npy", "a.txt"):
        np.testing.assert_allclose(read_now_landmarks(tmp_path / name), points, atol=1e-6)
    np.save(tmp_path / "c.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="to hold numbers"):
        read_now_landmarks(tmp_path / "c.npy")
    write_pp(tmp_path / "d.pp", points[:6])
    with pytest.raises(ValueError, match=r"shape \[7, 3\], got \[6, 3\]"):
        read_now_landmarks(tmp_path / "d.pp")
    (tmp_path / "e.pp").write_text("<PickedPoints")
    with pytest.raises(ValueError, match="ParseError"):
        read_now_landmarks(tmp_path / "e.pp")


@pytest.fixture
def challenge(tmp_path, face):
    """Two subjects, two challenges; predictions of one method, of which one lacks its landmarks and one is damaged."""
    mesh, ids, scan, landmarks = face
    data, out = tmp_path / "NoW", tmp_path / "predicted"
    for subject, shift in (("s1", 0.0), ("s2", 50.0)):
        for folder in ("scans", "scans_lmks_onlypp"):
            (data / folder / subject).mkdir(parents=True)
        rows = "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in scan + shift)
        (data / "scans" / subject / "scan.obj").write_text(rows)
        write_pp(data / "scans_lmks_onlypp" / subject / "scan.pp", (landmarks + shift).tolist())
    images = ["s1/neutral/a", "s1/selfie/b", "s2/neutral/c", "s2/neutral/d", "s2/selfie/e"]
    (data / "imagepathsvalidation.txt").write_text("".join(f"{image}.jpg\n" for image in images) + "\n")
    for k, image in enumerate(images):
        path = out / f"{image}.obj"
        path.parent.mkdir(parents=True, exist_ok=True)
        grown = mesh.vertices * [1, 1, 1 + 0.1 * k]
        write_obj(path, grown, mesh.faces, np.zeros_like(grown))
        np.save(path.with_suffix(".npy"), grown[ids])
    (out / "s2/neutral/d.npy").unlink()
    (out / "s2/selfie/e.obj").write_text("v 0 0")
    return data, out


def test_the_challenge_pools_vertices_per_subset(challenge, face, tmp_path):
    data, out = challenge
    mesh, ids, scan, landmarks = face
    seen = []
    result = evaluate_now(data, out, method="ours", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 5) for k in range(1, 6)]
    assert result.evaluation.images == ("s1/neutral/a", "s1/selfie/b", "s2/neutral/c")
    assert result.missing == 1 and set(result.evaluation.failures) == {"s2/neutral/d", "s2/selfie/e"}
    first = now_error(scan, landmarks, mesh, mesh.vertices[ids]).distances
    np.testing.assert_allclose(result.distances[0], first, atol=1e-4)
    summary = result.summary()
    pooled = np.concatenate([result.distances[0], result.distances[2]]).astype(float)
    got = [summary["neutral"][key].mean for key in ("median", "mean", "std")]
    np.testing.assert_allclose(got, [np.median(pooled), pooled.mean(), pooled.std()])
    assert summary["neutral"]["mean"].images == 2 and summary["overall"]["mean"].images == 3
    curve = result.curve("neutral")
    assert curve[0] <= curve[20] == pytest.approx(100 * (pooled <= 1).mean()) and (np.diff(curve) >= 0).all()
    only = evaluate_now(data, out, challenges=["selfie"])
    assert only.evaluation.images == ("s1/selfie/b",)
    result.write(tmp_path / "results")
    content = json.loads((tmp_path / "results/now.json").read_text())
    assert content["missing"] == 1 and content["subsets"]["overall"]["median"] == summary["overall"]["median"].mean
    stored = np.load(tmp_path / "results/distances.npy", allow_pickle=False)
    rows = list(csv.DictReader((tmp_path / "results/images.csv").open()))
    assert len(stored) == sum(int(row["vertices"]) for row in rows) and rows[1]["subsets"] == "selfie"
    assert "| ours: overall | 1.0" in (tmp_path / "results/now.md").read_text() and "not comparable" in result.table()
    lines = (tmp_path / "results/curve.csv").read_text().splitlines()
    assert lines[0] == "error_mm,neutral,selfie,overall" and lines[21].startswith("1.00,")


def test_what_the_challenge_lacks_is_named(challenge, tmp_path):
    data, out = challenge
    with pytest.raises(ValueError, match="expected challenges among neutral, selfie, got 'x'"):
        evaluate_now(data, out, challenges=["x"])
    (data / "scans/s2/scan.obj").unlink()
    with pytest.raises(FileNotFoundError, match=r"scans/s2 to hold \*\.obj, got none"):
        evaluate_now(data, out)
    (tmp_path / "list.txt").write_text("a/b\n")
    with pytest.raises(ValueError, match="line 1: expected subject/challenge/image"):
        evaluate_now(data, out, images=tmp_path / "list.txt")
