"""Each term of the losses against its equation as loops: values, and gradients by finite differences of the loops."""

from dataclasses import replace
from pathlib import Path

import loss_loops as loops
import numpy as np
import pytest
import torch

from focus import losses
from focus.decoder import Theta
from focus.presets import NeighborSettings, PixelSettings, Preset

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
PAPER, AUTHORS = Preset.named("paper"), Preset.named("authors")
PRESETS = pytest.mark.parametrize("preset", [PAPER, AUTHORS], ids=["paper", "authors"])
STEP = 1e-6  # of the finite differences
B, H, W = 2, 6, 7


def generator(seed):
    return torch.Generator().manual_seed(seed)


def uniform(seed, *shape):
    return torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def photo_face_mask(seed=0):
    """Target, render, soft mask inside a raster, and the raster: a render that is near the photo in places."""
    target = uniform(seed, B, 3, H, W)
    near = uniform(seed + 1, B, 1, H, W) < 0.6
    noise = uniform(seed + 2, B, 3, H, W) - 0.5
    raster = torch.zeros(B, 1, H, W, dtype=torch.float64)
    raster[0, :, 1:, :6] = 1
    raster[1, :, :4, 2:] = 1
    rendered = (target + torch.where(near, 0.1 * noise, noise)) * raster
    return target, rendered, raster * uniform(seed + 3, B, 1, H, W), raster


def check(function, loop, values, wanted=None):
    """function(**tensors) equals loop(**arrays), and its gradients the loop's finite differences, at some elements.

    wanted: the inputs with a gradient; the others must have none.
    """
    wanted = list(values) if wanted is None else wanted
    leaves = {name: value.detach().clone().requires_grad_(name in wanted) for name, value in values.items()}
    arrays = {name: value.detach().numpy().copy() for name, value in values.items()}
    got = function(**leaves)
    assert got.shape == () and got.dtype == torch.float64
    np.testing.assert_allclose(got.item(), loop(**arrays), rtol=1e-12, atol=1e-14)
    grads = torch.autograd.grad(got, [leaves[name] for name in wanted])
    rng = np.random.default_rng(5)
    for name, grad in zip(wanted, grads, strict=True):
        assert grad.abs().max() > 0
        flat = arrays[name].reshape(-1)
        order = rng.permutation(flat.size)
        live = grad.reshape(-1).numpy()[order] != 0
        chosen = np.concatenate([order[live][:8], order[~live][:4]])
        for index in chosen:
            before = flat[index]
            flat[index] = before + STEP
            up = loop(**arrays)
            flat[index] = before - STEP
            down = loop(**arrays)
            flat[index] = before
            slope = (up - down) / (2 * STEP)
            np.testing.assert_allclose(grad.reshape(-1)[index].item(), slope, rtol=2e-6, atol=2e-8, err_msg=name)


def images(seed=0):
    target, rendered, mask, _ = photo_face_mask(seed)
    return {"target": target, "rendered": rendered + 0.01 * uniform(seed + 9, B, 3, H, W), "mask": mask}


# Terms.


@pytest.mark.parametrize("preset, loop", [(PAPER, loops.neighbor_paper), (AUTHORS, loops.neighbor_authors)])
def test_neighbor(preset, loop):
    values = images() | {"mask": uniform(4, B, 1, H, W)}
    check(lambda **x: losses.neighbor_loss(**x, settings=preset.neighbor), loop, values)


@pytest.mark.parametrize("name", ["a", "b"])
def test_neighbor_of_the_authors_program(name):
    path = GOLDEN / f"focus_losses_{name}.npz"
    if not path.exists():
        pytest.skip("needs ../shared/golden")
    data = {key: torch.as_tensor(value) for key, value in np.load(path).items()}
    settings = replace(AUTHORS.neighbor, window=int(data["window"]))
    mask = data["mask"].requires_grad_()
    loss = losses.neighbor_loss(data["target"], data["rendered"], mask, settings)
    torch.testing.assert_close(loss.detach().double(), data["loss"].double(), rtol=1e-5, atol=0)
    torch.testing.assert_close(torch.autograd.grad(loss, mask)[0], data["grad_mask"], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("preset, loop", [(PAPER, loops.pixel_paper), (AUTHORS, loops.pixel_authors)])
def test_pixel(preset, loop):
    check(lambda **x: losses.pixel_loss(**x, settings=preset.pixel), loop, images())


@pytest.mark.parametrize("preset, loop", [(PAPER, loops.pixel_paper), (AUTHORS, loops.pixel_authors)])
@pytest.mark.parametrize("filled", [0.0, 0.25, 1.0], ids=["empty", "nearly empty", "whole"])
def test_pixel_of_an_empty_and_a_whole_mask(preset, loop, filled):
    """The divisor is at least 1: an empty mask costs 0, and one of sum 0.25 is not blown up."""
    values = images()
    mask = torch.full_like(values["mask"], filled)
    if filled == 0.25:
        mask[:, :, 1:] = mask[:, :, :, 1:] = 0
    leaves = [values["target"], values["rendered"].requires_grad_(), mask.requires_grad_()]
    loss = losses.pixel_loss(*leaves, preset.pixel)
    np.testing.assert_allclose(loss.item(), loop(*(x.detach().numpy() for x in leaves)), rtol=1e-12)
    assert (loss.item() == 0) == (filled == 0)
    to_rendered, to_mask = torch.autograd.grad(loss, leaves[1:])
    assert to_rendered.isfinite().all() and to_mask.isfinite().all()
    assert bool((to_rendered == 0).all()) == (filled == 0)


def test_pixel_of_a_batch_in_two_processes():
    """The mean of the halves' losses and of their gradients is the whole's: each knows the sum of both masks."""
    preset, values = AUTHORS, images()
    leaves = [value.requires_grad_() for value in values.values()]
    whole = losses.pixel_loss(*leaves, preset.pixel)
    halves = [[leaf[b : b + 1] for leaf in leaves] for b in range(B)]

    def total_with(other):  # of the number of processes, then of the masks
        return lambda mine: mine + (other[2].sum() if mine.requires_grad else torch.ones_like(mine))

    parts = [losses.pixel_loss(*halves[b], preset.pixel, total_with(halves[1 - b])) for b in range(B)]
    mean = (parts[0] + parts[1]) / 2
    torch.testing.assert_close(mean, whole, rtol=1e-13, atol=0)
    for got, want in zip(torch.autograd.grad(mean, leaves), torch.autograd.grad(whole, leaves), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-15)
    assert losses.pixel_loss(*halves[0], preset.pixel) != parts[0]


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 3, 5)], ids=["embedding", "map"])
def test_cosine(shape, rows):
    values = {"x": uniform(1, *shape) - 0.3, "y": uniform(2, *shape) - 0.3}
    check(
        lambda **v: losses.cosine_distance(**v, row_normalized=rows), lambda **v: loops.cosine(**v, rows=rows), values
    )


def test_cosine_by_hand():
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    assert losses.cosine_distance(x, torch.tensor([[4.0, 3.0], [0.0, 5.0]])).item() == pytest.approx((0.04 + 1) / 2)
    assert losses.cosine_distance(x, 7 * x).item() == pytest.approx(0, abs=1e-7)
    assert losses.cosine_distance(x, -x).item() == pytest.approx(2)


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("length", [0.0, 1e-9])
def test_cosine_of_a_vector_without_direction(length, rows):
    """A feature map that ReLU has put out: distance 1, and gradient 0 instead of NaN or 1e8."""
    x, y = uniform(1, 1, 4, 3, 3), uniform(2, 1, 4, 3, 3)
    x[:, :, 1] *= length
    x.requires_grad_()
    y.requires_grad_()
    loss = losses.cosine_distance(x, y, rows)
    to_x, to_y = torch.autograd.grad(loss, (x, y))
    assert loss.isfinite() and to_x.isfinite().all() and to_y.isfinite().all()
    assert (to_x[:, :, 1] == 0).all() and (to_x[:, :, 0] != 0).any()
    if not rows:
        bright = losses.cosine_distance(x[:, :, ::2], y[:, :, ::2])
        torch.testing.assert_close(loss, (bright * 6 + 3) / 9)


def test_area():
    _, _, mask, raster = photo_face_mask()
    for preset, offset in ((PAPER, 0.0), (AUTHORS, 1.0)):
        check(
            lambda mask, raster: losses.area_loss(mask, raster, preset.area_offset),  # noqa: B023
            lambda mask, raster: offset - loops.area(mask, raster),  # noqa: B023
            {"mask": mask, "raster": raster},
            ["mask"],
        )


def test_area_by_hand():
    raster = torch.zeros(2, 1, 2, 2)
    raster[0] = 1
    mask = torch.zeros(2, 1, 2, 2)
    mask[0, 0, 0] = torch.tensor([1.0, 0.5])
    assert losses.area_loss(mask, raster).item() == -(1.5 / 4 + 0) / 2  # an image without a face divides by 1
    assert losses.area_loss(raster, raster, 1.0).item() == 0.5
    assert losses.area_loss(torch.zeros_like(raster), torch.zeros_like(raster), 1.0).item() == 1


def test_binary():
    _, _, mask, raster = photo_face_mask()
    values = {"mask": mask, "raster": raster}
    check(lambda mask, raster: losses.binary_loss(mask, raster, PAPER.binary), loops.binary_paper, values, ["mask"])
    check(
        lambda mask, raster: losses.binary_loss(mask, raster, AUTHORS.binary),
        lambda mask, raster: loops.binary_authors(mask),
        values,
        ["mask"],
    )


def test_binary_by_hand():
    raster = torch.ones(1, 1, 2, 2)
    mask = torch.tensor([[[[0.0, 1.0], [0.5, 0.75]]]])
    assert losses.binary_loss(mask, raster, "square").item() == -(0.25 + 0.25 + 0 + 0.0625) / 4
    assert losses.binary_loss(mask, raster, "absolute").item() == 0.5 - (0.5 + 0.5 + 0 + 0.25) / 4
    nothing = torch.zeros_like(raster)
    assert losses.binary_loss(nothing, nothing, "square").item() == 0
    assert losses.binary_loss(nothing, nothing, "absolute").item() == 0
    assert losses.binary_loss(raster, raster, "square").item() == -0.25
    with pytest.raises(ValueError, match=r"binary_loss\(\): expected form"):
        losses.binary_loss(mask, raster, "round")


@pytest.mark.parametrize("preset, loop", [(PAPER, loops.landmark_paper), (AUTHORS, loops.landmark_authors)])
def test_landmarks(preset, loop):
    values = {"target": 224 * uniform(1, B, 68, 2), "rendered": 224 * uniform(2, B, 68, 2)}
    function = lambda **x: losses.landmark_loss(**x, settings=preset.landmark)
    leaves = {name: value.clone().requires_grad_() for name, value in values.items()}
    arrays = {name: value.numpy() for name, value in values.items()}
    loss = function(**leaves)
    np.testing.assert_allclose(loss.item(), loop(**arrays), rtol=1e-12)
    grads = torch.autograd.grad(loss, list(leaves.values()))
    for n in (0, 26, 27, 28, 30, 31, 59, 60, 67):  # a quadratic: differences of one pixel are exact
        moved = arrays["rendered"].copy()
        moved[1, n, 1] += 1
        back = moved.copy()
        back[1, n, 1] -= 2
        slope = (loop(arrays["target"], moved) - loop(arrays["target"], back)) / 2
        np.testing.assert_allclose(grads[1][1, n, 1].item(), slope, rtol=1e-9)
    torch.testing.assert_close(grads[0], -grads[1])


def test_landmarks_by_hand():
    target = torch.zeros(1, 68, 2)
    for number, paper, authors in ((0, 25 / 68, 25 / 136), (27, 500 / 68, 25 / 136), (28, 500 / 68, 10000 / 136)):
        rendered = target.clone()
        rendered[0, number] = torch.tensor([3.0, -4.0])
        assert losses.landmark_loss(target, rendered, PAPER.landmark).item() == pytest.approx(paper)
        assert losses.landmark_loss(target, rendered, AUTHORS.landmark).item() == pytest.approx(authors)


def test_landmarks_unsquared():
    settings = PAPER.replace(landmark={"weighting": "norm"}).landmark
    target = 224 * uniform(1, B, 68, 2)
    rendered = 224 * uniform(2, B, 68, 2)
    weights = np.where(np.isin(np.arange(68), settings.weighted), settings.weight, 1.0)
    expected = (weights * np.linalg.norm(rendered.numpy() - target.numpy(), axis=2)).mean()
    assert losses.landmark_loss(target, rendered, settings).item() == pytest.approx(expected)
    assert torch.autograd.gradcheck(lambda x: losses.landmark_loss(target, x, settings), rendered.requires_grad_())
    (gradient,) = torch.autograd.grad(
        losses.landmark_loss(target, same := target.clone().requires_grad_(), settings), same
    )
    assert torch.equal(gradient, torch.zeros_like(gradient))


def theta(seed=3):
    sizes = {"identity": 5, "expression": 3, "albedo": 4, "light": 27, "angles": 3, "translation": 3}
    return {name: 3 * uniform(seed + k, B, n) - 1 for k, (name, n) in enumerate(sizes.items())}


def test_regularisation():
    values = theta()
    check(
        lambda identity, expression, albedo: losses.regularisation_loss(
            Theta(identity, expression, albedo, values["light"], values["angles"], values["translation"])
        ),
        loops.regularisation,
        {name: values[name] for name in ("identity", "expression", "albedo")},
    )


def test_preliminary_mask():
    target, rendered, _, raster = photo_face_mask()
    mask = losses.preliminary_mask(target, rendered.requires_grad_(), raster, PAPER.inlier_threshold)
    want = loops.preliminary(target.numpy(), rendered.detach().numpy(), raster.numpy())
    assert np.array_equal(mask.numpy(), want) and not mask.requires_grad
    assert 0.2 < mask.sum() / raster.sum() < 0.9
    wide = losses.preliminary_mask(target, rendered, raster, 0.17)  # the paper's printed xi
    assert wide.sum() > mask.sum()


def test_preliminary_mask_by_hand():
    target = torch.zeros(1, 3, 1, 3)
    rendered = torch.tensor([0.128, 0.130, 0.01]).view(1, 1, 1, 3) * torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    raster = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 1, 3)
    assert losses.preliminary_mask(target, rendered, raster).flatten().tolist() == [1, 0, 0]


def test_gaussian():
    target, rendered, _, raster = photo_face_mask()
    mask = losses.preliminary_mask(target, rendered, raster)
    check(
        lambda target, rendered: losses.gaussian_loss(target, rendered, mask, AUTHORS.inlier_sigma),
        lambda target, rendered: loops.gaussian(target, rendered, mask.numpy()),
        {"target": target, "rendered": rendered},
    )
    perfect = losses.gaussian_loss(target, target, torch.ones_like(mask))
    assert perfect.item() == pytest.approx(-6.683, abs=5e-4)  # the authors' constant


def test_pretraining():
    _, _, _, raster = photo_face_mask()
    check(
        lambda predicted: losses.pretraining_loss(predicted, raster),
        lambda predicted: loops.cross_entropy(predicted, raster.numpy()),
        {"predicted": 0.05 + 0.9 * uniform(8, B, 1, H, W)},
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pretraining_of_saturated_probabilities_is_finite(dtype):
    predicted = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=dtype).view(1, 1, 2, 2).requires_grad_()
    loss = losses.pretraining_loss(predicted, torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=dtype).view(1, 1, 2, 2))
    assert loss.item() == pytest.approx(-np.log(1e-6) / 2, rel=0.02)
    assert torch.autograd.grad(loss, predicted)[0].isfinite().all()


def test_gradient_of_a_norm_at_zero_is_zero():
    """A render equal to the photo: no term of `authors` divides by the distance."""
    target, _, mask, _ = photo_face_mask()
    rendered = target.clone().requires_grad_()
    mask = mask.requires_grad_()
    for loss in (
        losses.pixel_loss(target, rendered, mask, AUTHORS.pixel),
        losses.neighbor_loss(target, rendered, mask, AUTHORS.neighbor),
    ):
        grads = torch.autograd.grad(loss, (rendered, mask))
        assert all(grad.isfinite().all() for grad in grads)


def test_settings_reach_the_kernels():
    values = list(images().values())
    base = losses.neighbor_loss(*values, NeighborSettings())
    for change in ({"window": 5}, {"search": "target"}, {"power": 1}, {"masking": "images"}, {"border": "valid"}):
        assert losses.neighbor_loss(*values, NeighborSettings(**change)) != base
    base = losses.pixel_loss(*values, PixelSettings())
    for change in ({"kind": "l2"}, {"kind": "l1"}, {"reduction": "batch_mask_mean"}, {"reduction": "mean"}):
        assert losses.pixel_loss(*values, PixelSettings(**change)) != base


@pytest.mark.parametrize("function", [losses.area_loss, losses.binary_loss])
def test_masks_of_wrong_shapes(function):
    mask = torch.ones(2, 1, 3, 3)
    with pytest.raises(ValueError, match=rf"{function.__name__}\(\): expected mask to be shape \[B, 1, H, W\]"):
        function(mask[:, 0], mask[:, 0])
    with pytest.raises(ValueError, match=rf"{function.__name__}\(\): expected raster_mask to be shape \[2, 1, 3, 3\]"):
        function(mask, mask[:1])


def test_points_and_features_of_wrong_shapes():
    points = torch.zeros(2, 68, 2)
    for target, rendered, name in ((points[:, :5], points, "target"), (points, points[:1], "rendered")):
        with pytest.raises(ValueError, match=rf"landmark_loss\(\): expected {name}"):
            losses.landmark_loss(target, rendered, PAPER.landmark)
    for x, y, name in ((points, points, "x"), (points[0], points[0, :5], "y")):
        with pytest.raises(ValueError, match=rf"cosine_distance\(\): expected {name} to be shape"):
            losses.cosine_distance(x, y)


@PRESETS
def test_no_images_cost_nothing(preset):
    empty = torch.zeros(0, 3, 6, 6)
    mask = empty[:, :1]
    none = Theta(*(torch.zeros(0, n) for n in (5, 3, 4, 27, 3, 3)))
    for loss in (
        losses.neighbor_loss(empty, empty, mask, preset.neighbor),
        losses.pixel_loss(empty, empty, mask, preset.pixel),
        losses.area_loss(mask, mask),
        losses.binary_loss(mask, mask, preset.binary),
        losses.cosine_distance(empty, empty),
        losses.landmark_loss(torch.zeros(0, 68, 2), torch.zeros(0, 68, 2), preset.landmark),
        losses.regularisation_loss(none),
        losses.gaussian_loss(empty, empty, mask),
        losses.pretraining_loss(mask, mask),
    ):
        assert loss.item() == 0
