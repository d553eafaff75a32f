"""FaceModel: levels, linearity, saving, moving, and the model that is shipped."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from face_models import METADATA, loop_by_the_book, model_arrays

from focus import FaceModel
from focus.face_model.format import write_model
from focus.face_model.load import DEFAULT_ASSET
from focus_kernels import Topology


@pytest.fixture
def model_file(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    write_model(path, model_arrays(), METADATA)
    return path


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


def test_save_without_colour_landmarks_and_symmetry(model_file, tmp_path):
    model = FaceModel.load(model_file, components=(4, 0, 0))
    bare = dataclasses.replace(model, landmarks=None, symmetry=None)
    bare.save(tmp_path / "bare.safetensors")
    again = FaceModel.load(tmp_path / "bare.safetensors")
    assert again.landmarks is None and again.symmetry is None
    assert again.expression_basis.shape == again.albedo_basis.shape == (0, 289, 3)
    assert torch.equal(again.identity_basis, model.identity_basis)
    assert "no landmarks" in repr(again)


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

    for name in focus.__all__:
        assert getattr(focus, name).__name__ == name
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
