"""The face recognizer: dlib's answers, feature maps, gradients, the centred cosine, and how its asset is made."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from focus import FaceModel, focus_camera
from focus.networks import FaceRecognizer, recognizer_chips
from focus.networks.recognizer import ASSET, RecognizerTrunk
from focus.networks.weights import read_metadata
from focus.tensor_file import read_tensors
from focus_kernels import render_sh

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT.parent / "shared" / "golden" / "dlib_face_a.npz"
HALF = 1e-3  # what storing the weights in float16 may change in an embedding of length 1.4
# Every 16th number of dlib's own embeddings of `synthetic_chips`.
DLIB = [
    [-0.08865, -0.15823, -0.09295, 0.06785, 0.20774, -0.06507, -0.05369, 0.23978],
    [-0.09516, -0.13069, -0.16370, 0.08910, 0.27897, -0.07685, -0.03037, 0.14906],
]


def synthetic_chips():
    """Ramps and rings: uint8 [2, 150, 150, 3], the same on every machine."""
    y, x, c = np.meshgrid(np.arange(150), np.arange(150), np.arange(3), indexing="ij")
    ramps = (x * (c + 2) + y * (4 - c)) // 4
    rings = ((x - 75) ** 2 * (c + 1) + (y - 60) ** 2 * 2) // 60
    return np.stack([np.abs(v % 512 - 256).clip(0, 255) for v in (ramps, rings)]).astype(np.uint8)


def to_tensor(chips):
    return torch.from_numpy(np.ascontiguousarray(chips.transpose(0, 3, 1, 2))).float() / 255


def model_file():
    """dlib's file from face-recognition-models."""
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "models" / "dlib_face_recognition_resnet_model_v1.dat"
        if path.is_file():
            return path
    pytest.skip("face-recognition-models is not installed")


@pytest.fixture(scope="module")
def recognizer():
    return FaceRecognizer.load()


@pytest.fixture
def converter(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    module = importlib.import_module("convert_face_recognizer")
    yield module
    for name in ("convert_face_recognizer", "face_model_sheet"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def renders():
    """Twelve random faces of the free model: images [12, 3, 112, 112] and landmarks [12, 68, 2]."""
    model = FaceModel.load(level=0)
    generator = torch.Generator().manual_seed(3)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    light = torch.zeros(12, 3, 9)
    light[:, :, 0], light[:, :, 2] = 3.0, -0.8
    angles = normal(12, 3) * torch.tensor([0.08, 0.2, 0.05])
    render = render_sh(
        model.shape(normal(12, 80), 0.5 * normal(12, 64)),
        model.albedo(normal(12, 80)),
        light,
        model.topology,
        focus_camera(angles, torch.zeros(12, 3), size=112),
        (112, 112),
    )
    return render.image.clamp(0, 1), render.positions[:, model.landmarks, :2]


def test_asset():
    arrays, _ = read_tensors(ASSET, "test")
    metadata = read_metadata(ASSET)
    assert metadata["license"] == "CC0-1.0" and "face-recognition-models" in metadata["source"]
    assert metadata["network"] == '{"class": "FaceRecognizer"}'
    assert 11_000_000 < ASSET.stat().st_size < 11_400_000
    assert {(value.dtype.name, value.ndim > 1) for value in arrays.values()} == {("float16", True), ("float32", False)}
    assert sum(value.size for key, value in arrays.items() if key != "centre") == 5_607_488


def test_loaded_network_is_frozen(recognizer):
    assert not recognizer.training
    assert all(value.dtype == torch.float32 and not value.requires_grad for value in recognizer.parameters())


def test_dlib_numbers(recognizer):
    embedding = recognizer(to_tensor(synthetic_chips()))
    assert embedding.shape == (2, 128)
    torch.testing.assert_close(embedding[:, ::16], torch.tensor(DLIB), rtol=0, atol=HALF)


def test_dlib_golden(recognizer):
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/golden")
    with np.load(GOLDEN) as golden:
        embedding = recognizer(to_tensor(golden["chips"]))
        assert np.abs(embedding.numpy() - golden["embeddings"]).max() < HALF


def test_dlib_itself(recognizer, converter):
    dlib = pytest.importorskip("dlib", reason="dlib is not installed")
    file = model_file()
    theirs = dlib.face_recognition_model_v1(str(file))
    rng = np.random.default_rng(0)
    chips = np.concatenate([synthetic_chips(), rng.integers(0, 256, (1, 150, 150, 3), dtype=np.uint8)])
    expected = np.array([theirs.compute_face_descriptor(np.ascontiguousarray(chip)) for chip in chips])
    assert np.abs(recognizer(to_tensor(chips)).numpy() - expected).max() < HALF
    # The conversion itself loses nothing: only the last bits differ.
    exact = converter.convert(converter.read_file(file)).requires_grad_(False)
    assert np.abs(exact(to_tensor(chips)).numpy() - expected).max() < 1e-6


def test_asset_is_what_the_converter_makes(converter):
    file = model_file()
    network = converter.convert(converter.read_file(file))
    arrays, _ = read_tensors(ASSET, "test")
    for key, value in network.state_dict().items():
        if key != "centre":
            assert np.array_equal(arrays[key], value.numpy().astype(arrays[key].dtype)), key


@pytest.mark.slow
def test_centre_is_what_the_converter_makes(recognizer, converter):
    # The centre comes from renders, whose last bits depend on the machine.
    assert (recognizer.centre - converter.mean_embedding(recognizer)).abs().max() < 1e-3


def test_converter_refuses_other_files(converter, tmp_path):
    path = tmp_path / "model.dat"
    path.write_bytes(b"\x01\x01\x01\x0dloss_metric_2")
    with pytest.raises(SystemExit, match="expected dlib's network with SHA-256 55533b28"):
        converter.read_file(path)
    with pytest.raises(ValueError, match="expected a layer 'con', got the end"):
        converter.convert(path.read_bytes())


def test_converter_reads_dlib_integers(converter):
    reader = converter.Reader(bytes([0x01, 0x07, 0x82, 0x01, 0x02, 0x03, 1, 0, 1]), 0)
    assert reader.integers(3) == [7, -513, 65537]
    assert reader.position == 9


def test_feature_maps(recognizer):
    chips = to_tensor(synthetic_chips())
    maps = recognizer.feature_maps(chips)
    shapes = [(2, 32, 35, 35), (2, 64, 17, 17), (2, 128, 8, 8), (2, 256, 4, 4), (2, 256, 2, 2)]
    assert [tuple(value.shape) for value in maps] == shapes
    assert all((value >= 0).all() for value in maps)
    first = recognizer.feature_maps(chips, 2)
    assert len(first) == 2 and all(torch.equal(a, b) for a, b in zip(first, maps, strict=False))
    assert torch.equal(recognizer.embedding(maps), recognizer(chips))


def test_fewer_stages_are_the_same_ones(recognizer):
    trunk = RecognizerTrunk(2)
    trunk.load_state_dict({key: recognizer.trunk.state_dict()[key] for key in trunk.state_dict()})
    chips = to_tensor(synthetic_chips())
    assert torch.equal(trunk(chips)[-1], recognizer.feature_maps(chips)[1])


def test_gradient(recognizer):
    network = FaceRecognizer.load().double()
    generator = torch.Generator().manual_seed(0)
    # Nothing flat: where the largest of nine pixels is a tie, there is no derivative.
    chips, direction = torch.rand(2, 1, 3, 150, 150, generator=generator, dtype=torch.float64)
    weights = torch.linspace(-1, 1, 128, dtype=torch.float64)
    function = lambda t: (network(chips + t * direction) * weights).sum()
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(t), t)
    step = 1e-7  # short, for ReLU's corners
    assert slope.item() == pytest.approx((function(step) - function(-step)).item() / (2 * step), rel=1e-4)


def test_similarity_tells_faces_apart(recognizer, renders):
    images, landmarks = renders
    embedding = recognizer(recognizer.chips(images, landmarks))
    pairs = torch.triu_indices(12, 12, 1)
    first, second = embedding[pairs[0]], embedding[pairs[1]]
    plain = torch.nn.functional.cosine_similarity(first, second)
    centred = recognizer.similarity(first, second)
    assert plain.median() > 0.8
    assert centred.median() < 0.3
    assert centred.shape == (66,) and centred.abs().max() <= 1
    torch.testing.assert_close(recognizer.similarity(embedding, embedding), torch.ones(12))
    # The same face with a little less light is nearly the same, another face is not.
    dimmed = recognizer(recognizer.chips(0.9 * images, landmarks))
    assert recognizer.similarity(embedding, dimmed).min() > centred.quantile(0.9)


def test_chips_are_the_recognizers(recognizer, renders):
    images, landmarks = renders
    assert torch.equal(recognizer.chips(images, landmarks), recognizer_chips(images, landmarks))
    landmarks = landmarks.clone().requires_grad_()
    assert not recognizer.chips(images, landmarks).requires_grad
    assert recognizer.chips(images, landmarks, landmark_gradient=True).requires_grad


def test_wrong_chips(recognizer):
    with pytest.raises(
        TypeError, match=r"FaceRecognizer\(\): expected chips to be a floating type .*, got torch.uint8"
    ):
        recognizer(torch.zeros(1, 3, 150, 150, dtype=torch.uint8))
    for shape in ((3, 150, 150), (1, 3, 112, 112), (1, 1, 150, 150)):
        with pytest.raises(ValueError, match=r"expected chips to be shape \[B, 3, 150, 150\]"):
            recognizer(torch.zeros(shape))


def test_compiles_as_one_graph(recognizer):
    chips = to_tensor(synthetic_chips())[:1]
    compiled = torch.compile(recognizer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(chips), recognizer(chips))
