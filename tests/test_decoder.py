"""theta to a rendered face: the layout, the scales of both presets, shape, camera, render and landmarks."""

import dataclasses

import numpy as np
import pytest
import torch
from face_models import grid

import focus_kernels as fk
from focus import FaceModel
from focus.decoder import Theta, ThetaLayout, decode, network_input, render_face
from focus.presets import Preset
from focus_kernels.compat.focus import RASTERIZE_DIFFERENTIABLE_IMAGE, Renderer

PAPER, AUTHORS = Preset.named("paper"), Preset.named("authors")
PRESETS = pytest.mark.parametrize("preset", [PAPER, AUTHORS], ids=["paper", "authors"])
SIZES = {"identity": 4, "expression": 3, "albedo": 2, "light": 27, "angles": 3, "translation": 3}
OFFSET = 0.7 * 2 * np.pi


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    """A bulging sheet, 100 mm wide, with random bases; float64, so that nothing rounds."""
    vertices, faces = grid(11, 11)
    V, rng = len(vertices), np.random.default_rng(0)
    return FaceModel(
        topology=fk.Topology(torch.from_numpy(faces), V),
        mean_shape=torch.from_numpy(vertices),
        shape_basis=torch.from_numpy(rng.normal(size=(7, V, 3))),
        num_identity=4,
        mean_albedo=torch.from_numpy(rng.uniform(0.3, 0.7, (V, 3))),
        albedo_basis=torch.from_numpy(0.05 * rng.normal(size=(2, V, 3))),
        landmarks=torch.from_numpy(rng.permutation(V)[:68]),
    )


def random_theta(seed=1, B=2, dtype=torch.float64):
    return 0.5 * torch.randn(B, sum(SIZES.values()), generator=generator(seed), dtype=dtype)


def by_hand(theta, preset):
    """The parameters in units, in numpy, read off the table."""
    starts = np.cumsum([0, *SIZES.values()])
    parts = {name: theta.numpy()[:, a:b].copy() for name, a, b in zip(SIZES, starts, starts[1:], strict=False)}
    parts["albedo"] *= 3
    parts["angles"] *= 0.3
    parts["translation"][:, 2] *= 10 if preset is PAPER else 0.005
    parts["light"][:, [0, 9, 18]] += OFFSET
    return parts


def rotation(a, b, c):
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.diag([1, -1, -1]) @ x @ y @ z


def test_layout(model):
    layout = ThetaLayout.of(model)
    assert layout == (4, 3, 2) and layout.total == 42
    assert ThetaLayout(80, 64, 80).total == 257
    theta = torch.arange(84.0).view(2, 42)
    parts = layout.split(theta)
    assert {name: getattr(parts, name).shape[1] for name in Theta._fields} == SIZES
    assert torch.equal(parts.joined(), theta) and torch.equal(parts.shape, theta[:, :7])
    assert parts.light[1, 0] == 42 + 9 and parts.translation[0].tolist() == [39, 40, 41]
    assert parts.identity.data_ptr() == theta.data_ptr()


@PRESETS
def test_scales(preset):
    theta = random_theta()
    got = ThetaLayout(4, 3, 2).split(theta).scaled(preset.heads)
    for name, want in by_hand(theta, preset).items():
        np.testing.assert_allclose(getattr(got, name).numpy(), want, rtol=1e-15)


@PRESETS
def test_vertices_albedo_camera_and_landmarks(model, preset):
    theta, size = random_theta(), 96
    face = decode(model, theta, size=size, preset=preset)
    x = by_hand(theta, preset)
    coefficients = np.concatenate([x["identity"], x["expression"]], 1)
    vertices = model.mean_shape.numpy() + np.einsum("bk,kvc->bvc", coefficients, model.shape_basis.numpy())
    albedo = model.mean_albedo.numpy() + np.einsum("bk,kvc->bvc", x["albedo"], model.albedo_basis.numpy())
    np.testing.assert_allclose(face.vertices.numpy(), vertices, rtol=0, atol=1e-12)
    np.testing.assert_allclose(face.albedo.numpy(), albedo, rtol=0, atol=1e-14)
    focal = 9.06 * size / 2
    for b in range(2):
        seen = vertices[b] @ rotation(*x["angles"][b]).T + [0, 0, 1000] + x["translation"][b]
        pixels = focal * seen[:, :2] / seen[:, 2:] + size / 2
        np.testing.assert_allclose(face.landmarks[b].numpy(), pixels[model.landmarks.numpy()], rtol=0, atol=1e-9)
        np.testing.assert_allclose(face.render.positions[b, :, :2].numpy(), pixels, rtol=0, atol=1e-9)
    for name in Theta._fields:
        np.testing.assert_allclose(getattr(face.parameters, name).numpy(), x[name], rtol=1e-15)


def test_image_of_paper(model):
    """Unit normals, top-left coverage, perspective-correct, on black."""
    theta, size = random_theta(2), 80
    face = decode(model, theta, size=size)
    x = by_hand(theta, PAPER)
    light = torch.from_numpy(x["light"]).view(2, 3, 9)
    want = fk.render_sh(
        face.vertices, face.albedo, light, model.topology, face.camera, (size, size), perspective_correct=True
    )
    torch.testing.assert_close(face.image, want.image, rtol=0, atol=1e-12)
    assert torch.equal(face.mask, want.mask) and 0.05 < face.mask.mean() < 0.95
    assert (face.image[(face.mask == 0).expand_as(face.image)] == 0).all()


def test_image_of_authors(model):
    """What the stand-in for the authors' Renderer draws, which has their integer pixel centres."""
    theta, size = random_theta(2), 80
    face = decode(model, theta, size=size, preset=AUTHORS)
    x = by_hand(theta, AUTHORS)
    focal, centre = 9.06 * size / 2, (size - 1) / 2
    A = torch.tensor([[[focal, 0, centre], [0, focal, centre], [0, 0, 1]]], dtype=torch.float64)
    R = torch.from_numpy(np.stack([rotation(*angles) for angles in x["angles"]]))
    T = torch.from_numpy(x["translation"] + [0, 0, 1000])[:, :, None]
    projected, _, _, _, image, mask = Renderer()(
        model.topology.faces.T.long(),
        face.vertices.transpose(1, 2),
        face.albedo.transpose(1, 2),
        torch.from_numpy(x["light"]),
        A,
        R,
        T,
        torch.zeros(2, 3, size, size),
        RASTERIZE_DIFFERENTIABLE_IMAGE,
    )
    assert torch.equal(face.mask[:, 0], mask)
    torch.testing.assert_close(face.image, image, rtol=0, atol=1e-9)
    landmarks = projected[:, :2, model.landmarks].transpose(1, 2) + 0.5
    torch.testing.assert_close(face.landmarks, landmarks, rtol=0, atol=1e-9)


@pytest.mark.parametrize("change", [{"normals": "focus"}, {"perspective_correct": False}], ids=str)
def test_rendering_options_reach_the_renderer(model, change):
    base = decode(model, random_theta(2), size=80)
    other = decode(model, random_theta(2), size=80, preset=PAPER.replace(rendering=change))
    assert (other.image - base.image).abs().max() > 1e-4


def test_coverage_reaches_the_renderer(model):
    """The right edge of the sheet passes exactly through the pixel centres of the middle column."""
    edge = dataclasses.replace(model, mean_shape=model.mean_shape - model.mean_shape[:, :1].max() * torch.eye(3)[0])
    covered = []
    for coverage in ("top_left", "inclusive"):
        preset = PAPER.replace(rendering={"coverage": coverage})
        covered.append(decode(edge, torch.zeros(1, 42, dtype=torch.float64), size=81, preset=preset).mask[0, 0])
    assert covered[0][:, 39].any() and not covered[0][:, 40:].any()
    assert covered[1][:, 40].any() and not covered[1][:, 41:].any()


def test_theta_of_zeros_is_the_mean_face(model):
    """Under an illumination of 1.2407 everywhere: the colours are the albedo's, interpolated, times that."""
    for preset in (PAPER, AUTHORS):
        face = decode(model, torch.zeros(1, 42, dtype=torch.float64), size=64, preset=preset)
        assert torch.equal(face.vertices[0], model.mean_shape) and torch.equal(face.albedo[0], model.mean_albedo)
        assert torch.equal(face.camera.t, torch.tensor([[0, 0, 1000.0]], dtype=torch.float64))
        assert torch.equal(face.camera.R[0], torch.diag(torch.tensor([1.0, -1, -1], dtype=torch.float64)))
        albedo = fk.interpolate(face.albedo, face.render.raster, model.topology)
        torch.testing.assert_close(face.image, albedo * OFFSET * 0.282095, rtol=1e-6, atol=0)
        assert face.image[0, 0, 32, 32] > 0


def test_the_free_model():
    model = FaceModel.load(level=0)
    face = decode(model, torch.zeros(1, 257), size=224)
    assert face.image.dtype == torch.float32 and face.image.shape == (1, 3, 224, 224)
    assert face.landmarks.shape == (1, 68, 2) and 0.2 < face.mask.mean() < 0.7
    assert face.landmarks.min() > 20 and face.landmarks.max() < 204
    assert face.landmarks[0, 8, 1] > face.landmarks[0, 30, 1] > face.landmarks[0, 27, 1]  # chin below nose, y down
    assert face.landmarks[0, 36, 0] < face.landmarks[0, 45, 0]  # the right eye is at the image's left


def test_gradient_of_landmarks(model):
    theta = random_theta(3, 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: decode(model, t, size=48).landmarks, theta)


@PRESETS
def test_gradient_of_the_image(model, preset):
    """To light and albedo, which move no pixel; and that every part of theta gets one."""
    theta = random_theta(4, 1)
    weights = torch.randn(1, 3, 40, 40, generator=generator(5), dtype=torch.float64)
    energy = lambda t: (decode(model, t, size=40, preset=preset).image * weights).sum()
    grad = torch.autograd.grad(energy(theta.requires_grad_()), theta)[0]
    theta = theta.detach()
    for index in (7, 8, 9, 12, 18, 35):
        step = torch.zeros_like(theta)
        step[0, index] = 1e-5
        slope = (energy(theta + step) - energy(theta - step)) / 2e-5
        torch.testing.assert_close(grad[0, index], slope, rtol=1e-7, atol=1e-9)
    assert (grad != 0).all() and grad.isfinite().all()


def test_render_face_takes_parameters_in_units(model):
    parameters = ThetaLayout.of(model).split(random_theta()).scaled(AUTHORS.heads)
    want = decode(model, random_theta(), size=48, preset=AUTHORS)
    got = render_face(model, parameters, size=48, preset=AUTHORS)
    assert torch.equal(got.image, want.image) and torch.equal(got.landmarks, want.landmarks)
    assert torch.equal(render_face(model, parameters, size=48).vertices, got.vertices)


def test_over_a_photo(model):
    theta = random_theta().requires_grad_()
    face = decode(model, theta, size=48)
    photo = torch.rand(2, 3, 48, 48, generator=generator(6))
    over = face.over(photo)
    inside = (face.mask > 0).expand_as(over)
    assert inside.any() and not inside.all()
    assert torch.equal(over[inside], face.image[inside]) and torch.equal(over[~inside], photo.double()[~inside])
    got, want = (
        torch.autograd.grad((image * face.mask).sum(), theta, retain_graph=True)[0] for image in (over, face.image)
    )
    assert torch.equal(got, want)
    assert torch.equal(network_input(face, photo, PAPER), face.image)
    assert torch.equal(network_input(face, photo, PAPER.replace(composite_input=True)), over)


def test_float32_inside_autocast(model):
    """theta in bfloat16, as a network gives it there: all that follows is float32, and equal bit for bit."""
    model = model.to(torch.float32)
    theta = random_theta(dtype=torch.float32).bfloat16().requires_grad_()
    want = decode(model, theta.float(), size=48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = decode(model, theta, size=48)
        again = decode(model, theta.float(), size=48)
    for face in (got, again):
        tensors = (face.image, face.vertices, face.albedo, face.landmarks, face.camera.R, *face.parameters)
        others = (want.image, want.vertices, want.albedo, want.landmarks, want.camera.R, *want.parameters)
        for one, other in zip(tensors, others, strict=True):
            assert one.dtype == torch.float32 and torch.equal(one, other)
    grad = torch.autograd.grad(got.landmarks.sum(), theta)[0]
    assert grad.dtype == torch.bfloat16 and grad.isfinite().all()


def test_a_basis_in_half_precision(model):
    half = model.to(torch.float32).to(torch.float16)
    face = decode(half, random_theta(dtype=torch.float32), size=48)
    want = decode(model, random_theta(dtype=torch.float32).double(), size=48)
    assert face.vertices.dtype == torch.float32
    torch.testing.assert_close(face.vertices.double(), want.vertices, rtol=0, atol=0.02)


def test_a_model_without_landmarks(model):
    bare = FaceModel(model.topology, model.mean_shape, model.shape_basis, 4, model.mean_albedo, model.albedo_basis)
    assert decode(bare, random_theta(), size=48).landmarks is None


def test_what_does_not_fit_is_named(model):
    with pytest.raises(ValueError, match=r"split\(\): expected theta to be shape \[\*, 42\], got \[2, 41\]"):
        decode(model, random_theta()[:, 1:])
    with pytest.raises(TypeError, match=r"expected theta to be a torch.Tensor, got list"):
        decode(model, [0.0])
    with pytest.raises(TypeError, match=r"decode\(\): expected theta to be torch.float64"):
        decode(model, random_theta(dtype=torch.float32))
    with pytest.raises(ValueError, match=r"expected theta to be on cpu"):
        decode(model, random_theta().to("meta"))


def test_nan_shows(model):
    for index in (0, 5, 8, 20, 37, 40):
        theta = random_theta(1, 1)
        theta[0, index] = torch.nan
        face = decode(model, theta, size=48)
        parts = (face.vertices, face.albedo, face.image, face.landmarks)
        assert any(part.isnan().any() for part in parts)
