"""The losses of the S-step, the R-step and the initialisation: weights, gradients, what is constant, NaN, precision."""

import numpy as np
import pytest
import torch
from test_losses import AUTHORS, PAPER, PRESETS, B, H, W, check, loops, photo_face_mask, theta, uniform

from focus import losses
from focus.decoder import Theta

DEEP, SHALLOW = uniform(20, 7, 3 * H * W) - 0.5, uniform(21, 5, 3) - 0.5


class Recognizer:
    """A stand-in for F: features of images and of where the face is said to be; it keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, images, landmarks, depth):
        self.asked.append((depth, landmarks))
        with torch.autocast("cpu", enabled=False):
            if depth == "deep":
                return torch.tanh(images.flatten(1) @ DEEP.T.to(images) / 9 + landmarks.mean(2)[:, :7] / 224)
            place = landmarks.mean((1, 2))[:, None, None, None] / 224
            return torch.tanh(torch.einsum("kc,bchw->bkhw", SHALLOW.to(images), images) + place)

    def array(self, images, landmarks, depth):
        return self(torch.from_numpy(images), torch.from_numpy(landmarks), depth).numpy()


def landmarks():
    return {"target_landmarks": 224 * uniform(6, B, 68, 2), "rendered_landmarks": 224 * uniform(7, B, 68, 2)}


def s_loop(preset, target, rendered, mask, raster, points):
    f = lambda images, where: Recognizer().array(images, points[f"{where}_landmarks"].numpy(), "shallow")
    seen, rows = f(target * mask, "target"), preset is AUTHORS
    distance = loops.cosine(seen, f(rendered * mask, "rendered"), rows)
    preserve = loops.cosine(seen, f(target, "target"), rows)
    area = loops.area(mask, raster)
    if preset is PAPER:
        near, binary = loops.neighbor_paper(target, rendered, mask), loops.binary_paper(mask, raster)
        return 15 * near + 3 * distance - 0.5 * area + 2.5 * preserve + 10 * binary
    near, binary = loops.neighbor_authors(target, rendered, mask), loops.binary_authors(mask)
    return 15 * near + 3 * distance + 0.5 * (1 - area) + 0.25 * preserve + 10 * binary


@PRESETS
def test_segmentation_loss(preset):
    """Values, and gradients to the mask, which is all that an S-step differentiates."""
    target, rendered, mask, raster = photo_face_mask()
    points = landmarks()
    check(
        lambda mask: losses.segmentation_loss(
            target, rendered, mask, raster, preset=preset, features=Recognizer(), **points
        )[0],
        lambda mask: s_loop(preset, target.numpy(), rendered.numpy(), mask, raster.numpy(), points),
        {"mask": mask},
    )


def face_terms(preset, target, rendered, x, points):
    """L_per, L_lm and L_reg, weighted. F's crop is held fixed: it sees `points`, whatever the landmarks are."""
    f = lambda images, where: Recognizer().array(images, points[f"{where}_landmarks"].numpy(), "deep")
    lm = loops.landmark_paper if preset is PAPER else loops.landmark_authors
    return (
        0.25 * loops.cosine(f(target, "target"), f(rendered, "rendered"))
        + 5e-4 * lm(x["target_landmarks"], x["rendered_landmarks"])
        + 0.1 * loops.regularisation(x["identity"], x["expression"], x["albedo"])
    )


def r_loop(preset, target, rendered, mask, raster, x, points):
    pixel = loops.pixel_paper if preset is PAPER else loops.pixel_authors
    loss = 0.5 * pixel(target, rendered, mask) + face_terms(preset, target, rendered, x, points)
    return loss if preset is PAPER else loss + 0.06 * (1 - loops.area(mask, raster))


def parts_of(x):
    return Theta(*(x.pop(name) for name in Theta._fields)), x


def r_step(preset, target, rendered, mask, raster, x):
    parameters, points = parts_of(dict(x))
    return losses.reconstruction_loss(
        target, rendered, mask, raster, parameters, preset=preset, features=Recognizer(), **points
    )


R_GRADIENTS = ["rendered", "rendered_landmarks", "identity", "expression", "albedo"]


@PRESETS
def test_reconstruction_loss(preset):
    """Gradients to the render, its landmarks and the coefficients, and in `authors` to the mask."""
    target, rendered, mask, raster = photo_face_mask()
    points = landmarks()
    values = {"target": target, "rendered": rendered, "mask": mask} | theta() | points
    check(
        lambda target, rendered, mask, **x: r_step(preset, target, rendered, mask, raster, x)[0],
        lambda target, rendered, mask, **x: r_loop(preset, target, rendered, mask, raster.numpy(), x, points),
        values,
        R_GRADIENTS + (["mask"] if preset is AUTHORS else []),
    )


@PRESETS
def test_the_mask_is_a_constant_of_the_r_step_or_leads_to_the_render(preset):
    """A segmentation that sees the render: in `authors` the render's gradient has its share, in `paper` it has not."""
    target, rendered, _, raster = photo_face_mask()
    points, x = landmarks(), theta()
    segment = lambda image, e: 1 / (1 + e(-4 * (image[:, :1] - image[:, 1:2])))
    fixed = raster.numpy() * segment(rendered.numpy(), np.exp)

    def loop(rendered):
        mask = fixed if preset is PAPER else raster.numpy() * segment(rendered, np.exp)
        arrays = {name: value.numpy() for name, value in (x | points).items()}
        return r_loop(preset, target.numpy(), rendered, mask, raster.numpy(), arrays, points)

    def loss(rendered):
        mask = raster * segment(rendered, torch.exp)
        return r_step(preset, target, rendered, mask, raster, x | points)[0]

    check(loss, loop, {"rendered": rendered})


def test_a_mask_with_gradient_gets_none_in_the_r_step_of_paper():
    target, rendered, mask, raster = photo_face_mask()
    mask.requires_grad_()
    values = theta() | landmarks()
    values["identity"].requires_grad_()
    loss, _ = r_step(PAPER, target, rendered, mask, raster, values)
    assert torch.autograd.grad(loss, mask, allow_unused=True) == (None,)
    loss, _ = r_step(PAPER.replace(detach_mask=False), target, rendered, mask, raster, values)
    assert torch.autograd.grad(loss, mask)[0].abs().max() > 0


def initialise(preset, target, rendered, raster, x):
    parameters, points = parts_of(dict(x))
    return losses.initialisation_loss(
        target, rendered, raster, parameters, preset=preset, features=Recognizer(), **points
    )


@PRESETS
def test_initialisation_loss(preset):
    target, rendered, _, raster = photo_face_mask()
    points = landmarks()

    def loop(target, rendered, **x):
        mask = loops.preliminary(target, rendered, raster.numpy())
        pixel = (loops.pixel_paper if preset is PAPER else loops.gaussian)(target, rendered, mask)
        return 0.5 * pixel + face_terms(preset, target, rendered, x, points)

    values = {"target": target, "rendered": rendered} | theta() | points
    loss = lambda target, rendered, **x: initialise(preset, target, rendered, raster, x)[0]
    check(loss, loop, values, R_GRADIENTS)
    _, terms = initialise(preset, target, rendered, raster, theta() | points)
    assert list(terms) == ["pixel", "perceptual", "landmark", "regularisation"]


@PRESETS
def test_terms_are_unweighted_and_detached(preset):
    target, rendered, mask, raster = photo_face_mask()
    mask.requires_grad_()
    rendered.requires_grad_()
    F, points = Recognizer(), landmarks()
    loss, terms = losses.segmentation_loss(target, rendered, mask, raster, preset=preset, features=F, **points)
    assert list(terms) == ["neighbor", "distance", "preserve", "area", "binary"]
    assert loss.requires_grad and not any(term.requires_grad for term in terms.values())
    weights = preset.segmentation_weights
    total = sum(getattr(weights, name) * term for name, term in terms.items())
    torch.testing.assert_close(loss.detach(), total)
    assert terms["neighbor"] == losses.neighbor_loss(target, rendered, mask, preset.neighbor)
    assert terms["area"] == losses.area_loss(mask, raster, preset.area_offset)
    assert terms["binary"] == losses.binary_loss(mask, raster, preset.binary)
    loss, terms = r_step(preset, target, rendered, mask, raster, theta() | points)
    assert list(terms) == ["pixel", "perceptual", "landmark", "regularisation", "area"][: 4 + (preset is AUTHORS)]
    assert not any(term.requires_grad for term in terms.values())


def test_where_f_looks():
    """The masked and the whole photo with the photo's landmarks, the render with its own, all of them detached."""
    target, rendered, mask, raster = photo_face_mask()
    points = {name: value.requires_grad_() for name, value in landmarks().items()}
    F = Recognizer()
    preset = PAPER.replace(segmentation_depth="deep", perceptual_depth="shallow")
    losses.segmentation_loss(target, rendered, mask, raster, preset=preset, features=F, **points)
    assert [depth for depth, _ in F.asked] == ["deep"] * 3
    parameters, _ = parts_of(theta())
    losses.reconstruction_loss(target, rendered, mask, raster, parameters, preset=preset, features=F, **points)
    assert [depth for depth, _ in F.asked[3:]] == ["shallow"] * 2
    assert not any(where.requires_grad for _, where in F.asked)
    asked = [bool((where == points["target_landmarks"]).all()) for _, where in F.asked]
    assert asked == [True, False, True, True, False]


def test_no_weight_no_term():
    """The paper's ablation: without the neighbours and F, Eq. 5 averaged over all pixels; F is not needed."""
    target, rendered, mask, raster = photo_face_mask()
    weights = {"neighbor": 0, "distance": 0, "preserve": 0, "pixel": 15}
    for preset, power in ((PAPER, 2), (AUTHORS, 1)):
        changed = preset.replace(segmentation_weights=weights)
        loss, terms = losses.segmentation_loss(target, rendered, mask, raster, preset=changed)
        assert set(terms) == {"area", "binary", "pixel"}
        arrays = (target.numpy(), rendered.numpy(), mask.numpy())
        assert terms["pixel"].item() == pytest.approx(loops.pixel_everywhere(*arrays, power), rel=1e-12)
        assert loss.item() == pytest.approx((0.5 * terms["area"] + 10 * terms["binary"] + 15 * terms["pixel"]).item())
    nothing = dict.fromkeys(vars(PAPER.segmentation_weights), 0)
    loss, terms = losses.segmentation_loss(
        target, rendered, mask, raster, preset=PAPER.replace(segmentation_weights=nothing)
    )
    assert loss == 0 and not terms


def test_what_is_missing_is_named():
    target, rendered, mask, raster = photo_face_mask()
    points, F = landmarks(), Recognizer()
    with pytest.raises(ValueError, match=r"segmentation_loss\(\): expected features to be given"):
        losses.segmentation_loss(target, rendered, mask, raster, preset=PAPER, **points)
    for name in points:
        given = points | {name: None}
        with pytest.raises(ValueError, match=rf"segmentation_loss\(\): expected {name} to be given"):
            losses.segmentation_loss(target, rendered, mask, raster, preset=PAPER, features=F, **given)
    parameters, _ = parts_of(theta())
    with pytest.raises(ValueError, match=r"initialisation_loss\(\): expected features to be given"):
        losses.initialisation_loss(target, rendered, raster, parameters, preset=PAPER, **points)


@pytest.mark.parametrize("stage", ["reconstruction", "initialisation"])
def test_a_batch_in_two_processes(stage):
    """With sums over the batch all-reduced, the mean of the halves' losses and gradients is the whole batch's."""
    target, rendered, mask, raster = photo_face_mask()
    # without the landmarks, whose squared pixels outweigh all else
    preset = AUTHORS.replace(initial_pixel="pixel", reconstruction_weights={"landmark": 0})
    values, rendered = theta() | landmarks(), rendered.requires_grad_()
    masks = mask if stage == "reconstruction" else losses.preliminary_mask(target, rendered, raster)
    mask.requires_grad_()

    def loss(images, total):
        parameters, points = parts_of({name: value[images] for name, value in values.items()})
        args = (target[images], rendered[images], mask[images], raster[images], parameters)
        keywords = {"preset": preset, "features": Recognizer(), "total": total} | points
        if stage == "reconstruction":
            return losses.reconstruction_loss(*args, **keywords)[0]
        return losses.initialisation_loss(*args[:2], *args[3:], **keywords)[0]

    def total_with(b):  # first the number of processes is asked for, then the sum of the masks
        asked = []

        def total(mine):
            asked.append(mine)
            return mine + (torch.ones_like(mine) if len(asked) == 1 else masks[1 - b].sum())

        return total

    whole = loss(slice(None), None)
    halves = (loss(slice(0, 1), total_with(0)) + loss(slice(1, 2), total_with(1))) / 2
    torch.testing.assert_close(halves, whole, rtol=1e-13, atol=0)
    inputs = [rendered, mask] if stage == "reconstruction" else [rendered]
    for got, want in zip(torch.autograd.grad(halves, inputs), torch.autograd.grad(whole, inputs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-15)
    assert not torch.isclose(loss(slice(0, 1), None) + loss(slice(1, 2), None), 2 * whole, rtol=1e-9)


# NaN.


@PRESETS
@pytest.mark.parametrize("name", ["target", "rendered", "mask"])
def test_nan_shows_in_the_s_step(preset, name):
    """Also in a pixel that the mask leaves out, and where F, which would show it, is left out."""
    values = dict(zip(("target", "rendered", "mask"), photo_face_mask(), strict=False))
    raster = photo_face_mask()[3]
    values["mask"][0, 0, 3, 3] = 0
    values[name][0, 0, 3, 3] = torch.nan
    for weights in ({}, {"distance": 0, "preserve": 0}):
        changed = preset.replace(segmentation_weights=weights)
        loss, terms = losses.segmentation_loss(
            *values.values(), raster, preset=changed, features=Recognizer(), **landmarks()
        )
        assert loss.isnan() and terms["neighbor"].isnan()


@PRESETS
@pytest.mark.parametrize("name", ["target", "rendered", *theta(), "target_landmarks", "rendered_landmarks"])
def test_nan_shows_in_the_r_step_and_the_initialisation(preset, name):
    target, rendered, mask, raster = photo_face_mask()
    mask[0, 0, 3, 3] = 0
    values = {"target": target, "rendered": rendered} | theta() | landmarks()
    values[name][0].view(-1)[W * 3 + 3 if values[name].ndim == 4 else 0] = torch.nan
    target, rendered = values.pop("target"), values.pop("rendered")
    for loss, terms in (
        r_step(preset, target, rendered, mask, raster, values),
        initialise(preset, target, rendered, raster, values),
    ):
        if name in ("light", "angles", "translation"):  # no loss looks at these but through the render
            assert loss.isfinite()
            continue
        where = {"target": "pixel", "rendered": "pixel"}.get(
            name, "landmark" if "landmarks" in name else "regularisation"
        )
        assert loss.isnan() and terms[where].isnan()


def test_nan_shows_through_cosine_and_masks():
    x = uniform(1, 2, 4, 3, 3)
    broken = x.clone()
    broken[0, 1, 2, 2] = torch.nan
    for rows in (False, True):
        assert losses.cosine_distance(broken, x, rows).isnan() and losses.cosine_distance(x, broken, rows).isnan()
    assert losses.cosine_distance(0 * broken, x).isnan()
    for loss in (losses.area_loss, losses.binary_loss, losses.pretraining_loss):
        assert loss(broken[:, 1:2], x[:, :1]).isnan()


# Precision.


@PRESETS
def test_float32_inside_autocast(preset):
    """A mask in bfloat16, as a network gives it there, beside float32 images: the float32 loss, bit for bit."""
    target, rendered, mask, raster = (value.float() for value in photo_face_mask())
    mask = mask.bfloat16()
    points = {name: value.float() for name, value in landmarks().items()}
    x = {name: value.float() for name, value in theta().items()} | points

    def every(mask):
        F = Recognizer()
        yield losses.segmentation_loss(target, rendered, mask, raster, preset=preset, features=F, **points)[0]
        yield r_step(preset, target, rendered, mask, raster, x)[0]
        yield initialise(preset, target, rendered, raster, x)[0]
        yield losses.pretraining_loss(mask, raster)

    want = list(every(mask.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = list(every(mask))
    assert [loss.dtype for loss in got] == [torch.float32] * 4
    assert got == want


@PRESETS
def test_images_in_half_precision_are_summed_in_float32(preset):
    half = [value.bfloat16() for value in photo_face_mask()]
    wide = [value.float() for value in half]
    points = {name: value.float() for name, value in landmarks().items()}
    loss = lambda images: losses.segmentation_loss(*images, preset=preset, features=Recognizer(), **points)[0]
    assert loss(half).dtype == torch.float32 and loss(half) == loss(wide)
