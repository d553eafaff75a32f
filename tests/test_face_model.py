"""FaceModel, Loop subdivision and the file format."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from focus import FaceModel
from focus.face_model.format import read_model, write_model
from focus.face_model.load import DEFAULT_ASSET
from focus.face_model.subdivision import loop_subdivision, subdivide, subdivide_symmetry
from focus_kernels import Topology


def grid(rows: int, columns: int, mirrored: bool = True):
    """A sheet that bulges to +z: vertices [rows*columns, 3] mm and outward faces; its mirror plane is x = 0."""
    i, j = np.divmod(np.arange(rows * columns), columns)
    x, y = 10.0 * (j - (columns - 1) / 2), 10.0 * ((rows - 1) / 2 - i)
    vertices = np.stack([x, y, -0.01 * (x**2 + y**2)], axis=1)
    faces = []
    for r in range(rows - 1):
        for c in range(columns - 1):
            a, b, d, e = r * columns + c, r * columns + c + 1, (r + 1) * columns + c, (r + 1) * columns + c + 1
            # Diagonals that run alike on both sides are no mirror images of each other.
            slash = not mirrored or c < (columns - 1) / 2
            faces += [(a, d, b), (b, d, e)] if slash else [(a, d, e), (a, e, b)]
    return vertices, np.array(faces, np.int32)


def model_arrays(seed: int = 0, rows: int = 9, columns: int = 9):
    """The arrays of a file with levels: float16 bases at level 0, albedo at level 1."""
    rng = np.random.default_rng(seed)
    vertices, faces = grid(rows, columns)
    V0 = len(vertices)
    V1 = loop_subdivision(faces, V0).matrix.shape[0]
    return {
        "faces": faces,
        "mean_shape": vertices.astype(np.float32),
        "identity_basis": rng.normal(size=(4, V0, 3)).astype(np.float16),
        "expression_basis": rng.normal(size=(3, V0, 3)).astype(np.float16),
        "mean_albedo": rng.uniform(size=(V1, 3)).astype(np.float16),
        "albedo_basis": rng.normal(size=(2, V1, 3)).astype(np.float16),
        "landmarks": rng.integers(0, V0, (3, 68)).astype(np.int32),
        "symmetry": np.arange(V0).reshape(rows, columns)[:, ::-1].reshape(-1).astype(np.int32),
    }


METADATA = {"name": "sheet", "license": "CC0-1.0", "source": "made here", "subdivision": "loop", "albedo_level": "1"}


@pytest.fixture
def model_file(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    write_model(path, model_arrays(), METADATA)
    return path


# Loop subdivision


def loop_by_the_book(faces, V):
    """Loop's rules, one vertex and one edge at a time: (weights [V+E, V], faces)."""
    edge_number, opposite = {}, {}
    for a, b, c in faces.tolist():
        for u, v, o in ((a, b, c), (b, c, a), (c, a, b)):
            edge = (min(u, v), max(u, v))
            edge_number.setdefault(edge, len(edge_number))
            opposite.setdefault(edge, []).append(o)
    neighbours = {v: set() for v in range(V)}
    creases = {v: [] for v in range(V)}
    weights = np.zeros((V + len(edge_number), V))
    for (u, v), number in edge_number.items():
        neighbours[u].add(v)
        neighbours[v].add(u)
        row = weights[V + number]
        if len(opposite[u, v]) == 2:
            row[u] += 3 / 8
            row[v] += 3 / 8
            for o in opposite[u, v]:
                row[o] += 1 / 8
        else:
            row[u] += 1 / 2
            row[v] += 1 / 2
            creases[u].append(v)
            creases[v].append(u)
    for v in range(V):
        n = len(neighbours[v])
        if len(creases[v]) == 2:
            weights[v, v] = 3 / 4
            weights[v, creases[v]] = 1 / 8
        elif creases[v] or n == 0:
            weights[v, v] = 1
        else:
            beta = (5 / 8 - (3 / 8 + np.cos(2 * np.pi / n) / 4) ** 2) / n
            weights[v, v] = 1 - n * beta
            weights[v, list(neighbours[v])] = beta
    new = [[], [], [], []]
    for a, b, c in faces.tolist():
        ab, bc, ca = (V + edge_number[min(e), max(e)] for e in ((a, b), (b, c), (c, a)))
        for block, face in zip(new, ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)), strict=True):
            block.append(face)
    return weights, np.concatenate(new)


MESHES = {
    "tetrahedron": (np.array([(0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2)]), 4),
    "one triangle": (np.array([(0, 1, 2)]), 3),
    "sheet": (grid(5, 6)[1], 30),
    "vertex without a face": (np.array([(0, 1, 3), (1, 4, 3)]), 6),
    "two fans that meet in a vertex": (np.array([(0, 1, 2), (0, 3, 4)]), 5),
    "edge with three faces": (np.array([(0, 1, 2), (1, 0, 3), (0, 1, 4)]), 5),
}


@pytest.mark.parametrize("name", MESHES)
def test_loop_weights_are_those_of_the_book(name):
    faces, V = MESHES[name]
    step = loop_subdivision(faces, V)
    weights, new_faces = loop_by_the_book(faces, V)
    # The same arithmetic in float64: only the order of a sum of two weights may differ.
    np.testing.assert_allclose(step.matrix.toarray(), weights, rtol=0, atol=2e-16)
    np.testing.assert_array_equal(step.faces, new_faces)


def test_regular_interior_vertices_stay_on_a_plane_wave():
    """On a regular grid Loop's scheme is linear precision: a linear function of the vertices is kept."""
    vertices, faces = grid(8, 8, mirrored=False)
    step = loop_subdivision(faces, 64)
    plane = vertices[:, :2] @ [2.0, -3.0]
    fine = step.matrix @ plane
    middle = plane[step.edges].mean(axis=1)
    np.testing.assert_allclose(fine[64:], middle, atol=1e-12)  # rounding of numbers up to 200
    inner = np.abs(vertices[:, :2]).max(axis=1) < 34
    np.testing.assert_allclose(fine[:64][inner], plane[inner], atol=1e-12)


def test_subdivide_treats_every_component_alike():
    faces, V = MESHES["sheet"]
    steps = [loop_subdivision(faces, V)]
    steps.append(loop_subdivision(steps[0].faces, steps[0].matrix.shape[0]))
    basis = np.random.default_rng(0).normal(size=(3, V, 3)).astype(np.float16)
    fine = subdivide(basis, steps, np.dtype(np.float64))
    dense = steps[1].matrix.toarray() @ steps[0].matrix.toarray()
    np.testing.assert_allclose(fine, np.einsum("wv,kvc->kwc", dense, basis.astype(np.float64)), atol=1e-14)
    assert subdivide(basis[:0], steps, np.dtype(np.float32)).shape == (0, len(dense), 3)
    np.testing.assert_array_equal(subdivide(basis, [], np.dtype(np.float32)), basis.astype(np.float32))


@pytest.mark.parametrize("mirrored", [True, False], ids=["mirrored diagonals", "like diagonals"])
def test_symmetry_of_finer_levels(mirrored):
    vertices, faces = grid(5, 7, mirrored)
    symmetry = np.arange(35).reshape(5, 7)[:, ::-1].reshape(-1)
    step = loop_subdivision(faces, 35)
    fine = step.matrix @ vertices
    result = subdivide_symmetry(symmetry, step, fine)
    error = np.linalg.norm(fine[result] - fine * [-1, 1, 1], axis=1)
    # The middles of unlike diagonals differ by the bulge of the sheet, not by a grid step of 5 mm.
    assert error.max() < (1e-9 if mirrored else 2)
    np.testing.assert_array_equal(result[result], np.arange(len(fine)))


# The file


def test_write_is_reproducible_and_safetensors_reads_it(tmp_path):
    arrays = model_arrays()
    write_model(tmp_path / "a", arrays, METADATA)
    write_model(tmp_path / "b", dict(reversed(arrays.items())), dict(reversed(METADATA.items())))
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    theirs = safetensors.numpy.load(data)
    assert theirs.keys() == arrays.keys()
    for key, value in arrays.items():
        assert theirs[key].dtype == value.dtype
        np.testing.assert_array_equal(theirs[key], value)
    assert read_model(tmp_path / "a")[1].items() >= METADATA.items()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]


def test_interrupted_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_bytes(b"old")

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_model(path, model_arrays(), METADATA)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_truncated_and_damaged_files(model_file):
    data = model_file.read_bytes()
    for length in [*range(1, 200, 13), len(data) // 2, len(data) - 1]:
        model_file.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"expected .*model\.safetensors to "):
            FaceModel.load(model_file)
    for place in range(0, len(data), len(data) // 50):
        model_file.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        with pytest.raises(ValueError, match="the file is damaged" if place > 1500 else None):
            FaceModel.load(model_file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"faces": None}, "hold the arrays .* a file without faces"),
        ({"weights": np.zeros(3, np.float32)}, "hold no other arrays .* got weights"),
        ({"faces": np.zeros((4, 3), np.float32)}, "hold faces as int32 or int64, got float32"),
        ({"faces": np.zeros((4, 4), np.int32)}, r"hold faces of shape \[\*, 3\], got \[4, 4\]"),
        ({"faces": np.full((4, 3), 81, np.int32)}, r"hold faces in 0\.\.80, got 81\.\.81"),
        ({"mean_shape": np.zeros((81, 3), np.int32)}, "hold mean_shape as float16"),
        ({"identity_basis": np.zeros((4, 80, 3), np.float32)}, r"hold identity_basis of shape \[\*, 81, 3\]"),
        ({"symmetry": np.full(81, -1, np.int32)}, r"hold symmetry in 0\.\.80"),
        ({"landmarks": np.zeros((3, 67), np.int32)}, r"hold landmarks of shape \[\*, 68\]"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, change, message):
    arrays = {key: value for key, value in {**model_arrays(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        write_model(tmp_path / "m", arrays, METADATA)
    assert not list(tmp_path.iterdir())
    safetensors.numpy.save_file(arrays, tmp_path / "m", {**METADATA, "format": "focus-face-model", "version": "1"})
    with pytest.raises(ValueError, match=message):
        FaceModel.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "say format 'focus-face-model' in its metadata, got 'other'"),
        ({"version": "2"}, "have format version '1', got '2'"),
        ({"subdivision": "butterfly"}, "subdivision 'none' or 'loop', got 'butterfly'"),
        ({"subdivision": "none"}, "hold one albedo for each of its 81 vertices"),
        ({"albedo_level": "7"}, "albedo_level in .* to be '0', '1' or '2', got '7'"),
        ({"albedo_level": "0"}, "hold 81 albedos, one for each vertex of level 0, got 289"),
    ],
)
def test_wrong_metadata_is_named(tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    metadata = {**METADATA, "format": "focus-face-model", "version": "1", **change}
    safetensors.numpy.save_file(model_arrays(), path, metadata)
    with pytest.raises(ValueError, match=message):
        FaceModel.load(path)


def test_values_that_are_not_finite_are_refused(tmp_path):
    arrays = model_arrays()
    arrays["expression_basis"][1, 2, 0] = np.inf
    write_model(tmp_path / "m", arrays, METADATA)
    with pytest.raises(ValueError, match="expected shape_basis of made here to be finite"):
        FaceModel.load(tmp_path / "m")


# The model


@pytest.mark.parametrize(("level", "vertices"), [(0, 81), (1, 289), (2, 1089)])
def test_levels(model_file, level, vertices):
    arrays = model_arrays()
    model = FaceModel.load(model_file, level=level)
    assert model.num_vertices == vertices
    assert model.topology.num_faces == 128 * 4**level
    assert (model.dtype, model.name, model.license) == (torch.float32, "sheet", "CC0-1.0")
    weights = np.eye(81)
    faces = arrays["faces"]
    chain = [weights]
    for _ in range(2):
        step, faces = loop_by_the_book(faces, len(chain[-1]))
        chain.append(step)
    to_level = {0: chain[0], 1: chain[1], 2: chain[2] @ chain[1]}[level]
    for key in ("mean_shape", "identity_basis", "expression_basis"):
        expected = np.einsum("wv,...vc->...wc", to_level, arrays[key].astype(np.float64))
        # A few float32 roundings of numbers up to 40.
        np.testing.assert_allclose(getattr(model, key), expected, atol=1e-5)
    from_one = {0: np.eye(289)[:81], 1: np.eye(289), 2: chain[2]}[level]
    for key in ("mean_albedo", "albedo_basis"):
        expected = np.einsum("wv,...vc->...wc", from_one, arrays[key].astype(np.float64))
        np.testing.assert_allclose(getattr(model, key), expected, atol=1e-6)
    np.testing.assert_array_equal(model.landmarks, arrays["landmarks"][level])
    mirrored = model.mean_shape[model.symmetry] * torch.tensor([-1, 1, 1])
    torch.testing.assert_close(mirrored, model.mean_shape, rtol=0, atol=1e-5)


def test_bases_are_views_and_the_model_is_linear(model_file):
    model = FaceModel.load(model_file, dtype=torch.float64)
    assert model.identity_basis.data_ptr() == model.shape_basis.data_ptr()
    assert model.expression_basis.data_ptr() == model.shape_basis[4].data_ptr()
    generator = torch.Generator().manual_seed(0)
    identity, expression, albedo = (
        torch.randn(2, K, generator=generator, dtype=torch.float64, requires_grad=True) for K in (4, 3, 2)
    )
    both = torch.cat([identity, expression], dim=1)
    expected = model.mean_shape + torch.einsum("bk,kvc->bvc", both, model.shape_basis)
    torch.testing.assert_close(model.shape(identity, expression), expected)
    neutral = model.mean_shape + torch.einsum("bk,kvc->bvc", identity, model.identity_basis)
    torch.testing.assert_close(model.shape(identity), neutral)
    colour = model.mean_albedo + torch.einsum("bk,kvc->bvc", albedo, model.albedo_basis)
    torch.testing.assert_close(model.albedo(albedo), colour)
    total = model.shape(identity, expression).sum() + model.albedo(albedo).sum()
    grads = torch.autograd.grad(total, [identity, albedo])
    torch.testing.assert_close(grads[0], model.identity_basis.sum((1, 2)).expand(2, 4))
    torch.testing.assert_close(grads[1], model.albedo_basis.sum((1, 2)).expand(2, 2))


def test_components_keeps_the_first(model_file):
    whole, part = FaceModel.load(model_file), FaceModel.load(model_file, components=(2, 9, 0))
    assert torch.equal(part.identity_basis, whole.identity_basis[:2])
    assert torch.equal(part.expression_basis, whole.expression_basis)
    assert part.albedo_basis.shape == (0, whole.num_vertices, 3)
    assert torch.equal(part.albedo(torch.zeros(2, 0)), whole.mean_albedo.expand(2, -1, -1))


def test_landmarks_given_by_the_caller(model_file, tmp_path):
    ids = list(range(100, 168))
    assert FaceModel.load(model_file, landmarks=ids).landmarks.tolist() == ids
    (tmp_path / "ids.txt").write_text(" ".join(map(str, ids[:34])) + "\n" + ",".join(map(str, ids[34:])))
    assert FaceModel.load(model_file, landmarks=tmp_path / "ids.txt").landmarks.tolist() == ids
    np.save(tmp_path / "ids.npy", np.array(ids))
    assert FaceModel.load(model_file, landmarks=tmp_path / "ids.npy").landmarks.tolist() == ids
    with pytest.raises(ValueError, match=r"expected landmarks to be vertices in 0\.\.80, got 100\.\.167"):
        FaceModel.load(model_file, level=0, landmarks=ids)
    with pytest.raises(ValueError, match="expected landmarks to be 68 integers"):
        FaceModel.load(model_file, landmarks=ids[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_save_and_load_keep_every_value(model_file, tmp_path, dtype):
    model = FaceModel.load(model_file, level=1, dtype=dtype)
    assert model.dtype == dtype
    model.save(tmp_path / "saved.safetensors")
    again = FaceModel.load(tmp_path / "saved.safetensors", dtype=dtype)
    for key in ("mean_shape", "shape_basis", "mean_albedo", "albedo_basis", "landmarks", "symmetry"):
        assert torch.equal(getattr(model, key), getattr(again, key)), key
        assert getattr(model, key).dtype == getattr(again, key).dtype
    assert torch.equal(model.topology.faces, again.topology.faces)
    assert (again.num_identity, again.name, again.license, again.source) == (4, "sheet", "CC0-1.0", "made here")
    with pytest.raises(ValueError, match=r"expected level to be left at its default for .* one resolution, got 2"):
        FaceModel.load(tmp_path / "saved.safetensors", level=2)


def test_half_precision_is_for_the_bases(model_file):
    full, half = FaceModel.load(model_file), FaceModel.load(model_file).to(torch.float16)
    assert (half.shape_basis.dtype, half.mean_shape.dtype) == (torch.float16, torch.float32)
    identity = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert half.shape(identity).dtype == torch.float32
    # Basis entries are below 5 and keep 11 bits: an error of 5 * 2^-12 each, times four coefficients below 3.
    torch.testing.assert_close(half.shape(identity), full.shape(identity), rtol=0, atol=5 * 2**-12 * 4 * 3)


def test_to_returns_itself_or_a_new_model(model_file):
    model = FaceModel.load(model_file)
    assert model.to("cpu") is model
    assert model.to(torch.float32) is model
    assert model.to(dtype=torch.float64).mean_shape.dtype == torch.float64
    assert model.dtype == torch.float32
    moved = model.to("meta")
    tensors = (moved.mean_shape, moved.shape_basis, moved.albedo_basis, moved.landmarks, moved.topology.faces)
    assert all(tensor.device.type == "meta" for tensor in tensors)
    with pytest.raises(TypeError, match=r"expected dtype to be a floating type, got torch\.int32"):
        model.to(torch.int32)


def test_repr_tells_what_it_is(model_file):
    text = repr(FaceModel.load(model_file))
    assert text == (
        "FaceModel('sheet', 289 vertices, 512 faces, 4 identity, 3 expression, 2 albedo, 68 landmarks, "
        "torch.float32, cpu)"
    )


def test_wrong_arguments_are_named(model_file, tmp_path):
    model = FaceModel.load(model_file)
    with pytest.raises(ValueError, match=r"shape\(\): expected identity to be shape \[\*, 4\], got \[2, 5\]"):
        model.shape(torch.zeros(2, 5), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"shape\(\): expected expression to be shape \[\*, 3\], got \[3\]"):
        model.shape(torch.zeros(2, 4), torch.zeros(3))
    with pytest.raises(ValueError, match=r"albedo\(\): expected coeffs to be shape \[\*, 2\], got \[2, 80\]"):
        model.albedo(torch.zeros(2, 80))
    with pytest.raises(ValueError, match=r"expected level to be in 0\.\.2 for .*, got 3"):
        FaceModel.load(model_file, level=3)
    with pytest.raises(TypeError, match="expected level to be an int, got float"):
        FaceModel.load(model_file, level=1.0)
    with pytest.raises(TypeError, match="expected dtype to be a floating type"):
        FaceModel.load(model_file, dtype=torch.int64)
    with pytest.raises(ValueError, match="expected components to be three counts"):
        FaceModel.load(model_file, components=(1, 2))
    with pytest.raises(FileNotFoundError):
        FaceModel.load(tmp_path / "absent.safetensors")
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "absent" / "m.safetensors")


def test_constructor_checks_its_tensors():
    topology = Topology(torch.tensor([[0, 1, 2]]), 3)
    good = {
        "topology": topology, "mean_shape": torch.zeros(3, 3), "shape_basis": torch.zeros(2, 3, 3), "num_identity": 1,
        "mean_albedo": torch.zeros(3, 3), "albedo_basis": torch.zeros(0, 3, 3),
    }  # fmt: skip
    assert FaceModel(**good).landmarks is None
    for change, error, message in (
        ({"mean_shape": torch.zeros(4, 3)}, ValueError, r"expected mean_shape to be shape \[3, 3\], got \[4, 3\]"),
        ({"shape_basis": torch.zeros(2, 3, 3).double()}, TypeError, r"expected shape_basis to be torch\.float32"),
        ({"mean_shape": torch.zeros(3, 3).half()}, TypeError, "expected mean_shape to be torch.float32"),
        ({"mean_albedo": torch.zeros(3, 3).half()}, TypeError, "expected mean_albedo to be torch.float32"),
        ({"num_identity": 3}, ValueError, r"expected num_identity to be in 0\.\.2, got 3"),
        ({"landmarks": torch.zeros(68).int()}, TypeError, r"expected landmarks to be torch\.int64, got torch\.int32"),
        ({"albedo_basis": np.zeros((0, 3, 3))}, TypeError, r"expected albedo_basis to be a torch\.Tensor"),
        ({"mean_albedo": torch.zeros(3, 3, device="meta")}, ValueError, "expected mean_albedo to be on cpu, got meta"),
    ):
        with pytest.raises(error, match=message):
            FaceModel(**{**good, **change})


def test_import_is_light():
    code = "import focus, sys; assert 'FaceModel' in dir(focus); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    import focus

    with pytest.raises(AttributeError, match="no attribute 'Absent'"):
        _ = focus.Absent


# The asset that is shipped


@pytest.fixture(scope="module")
def shipped() -> list[FaceModel]:
    return [FaceModel.load(level=level) for level in range(3)]


def test_shipped_model_has_the_promised_sizes(shipped):
    assert DEFAULT_ASSET.stat().st_size <= 7e6
    for model, low, high in zip(shipped, (2300, 9000, 36000), (2800, 11000, 44000), strict=True):
        assert low < model.num_vertices < high
        assert (model.num_identity, len(model.expression_basis), len(model.albedo_basis)) == (80, 64, 80)
        assert "CC0" in model.license
        assert model.landmarks.shape == (68,)
        assert model.mean_albedo.min() >= 0 and model.mean_albedo.max() <= 1
    assert torch.equal(FaceModel.load().mean_shape, shipped[1].mean_shape)


def test_shipped_model_is_symmetric(shipped):
    for model in shipped:
        order = torch.arange(model.num_vertices)
        assert torch.equal(model.symmetry[model.symmetry], order)
        apart = (model.mean_shape[model.symmetry] * torch.tensor([-1, 1, 1]) - model.mean_shape).norm(dim=1)
        # The mean is over asymmetric draws, whose two sides differ a little.
        assert apart.median() < 1 and apart.max() < 5


def test_shipped_model_faces_outward_and_sits_where_the_camera_looks(shipped):
    for model in shipped:
        corners = model.mean_shape[model.topology.faces.long()]
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert ((corners.mean(1) - model.mean_shape.mean(0)) * normals).sum() > 0
        eyes = model.mean_shape[model.landmarks[[36, 39, 42, 45]]]
        assert eyes[0, 0] < eyes[1, 0] < 0 < eyes[2, 0] < eyes[3, 0]  # the subject's left is +x
        # FOCUS's camera sees 1014.72 px * x / (1000 - z): every vertex falls into its 224 px.
        seen = 1014.72 * model.mean_shape[:, :2] / (1000 - model.mean_shape[:, 2:])
        assert seen[model.landmarks].abs().max() < 112


def test_shipped_landmarks_agree_between_levels(shipped):
    for model in shipped[1:]:
        apart = (model.mean_shape[model.landmarks] - shipped[0].mean_shape[shipped[0].landmarks]).norm(dim=1)
        # Each level takes its own nearest vertex; the coarse mesh has edges of about 5 mm.
        assert apart.max() < 8
