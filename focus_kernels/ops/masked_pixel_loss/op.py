"""masked_pixel_loss and inlier_mask: the public functions, the autograd rule and the registration."""

import math

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ..._triton import Room
from . import native, ref
from .rule import KINDS, REDUCTIONS, outputs, sum_dtype

BACKENDS = {"native": native, "triton": Room("masked_pixel_loss"), "ref": ref}


def masked_pixel_loss(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    *,
    kind: str = "squared",
    sigma: float = 0.043,
    threshold: float | None = None,
    reduction: str = "mean",
) -> Tensor:
    """How far a render is from a photograph where a mask says so: FOCUS's L_pixel (Eq. 5) and its relatives.

    With d = rendered - target at a pixel, r2 = sum_c d_c^2 over RGB, and m = mask * [r2 < threshold], a pixel costs m
    times

    - "squared": r2;
    - "l2": sqrt(r2), whose gradient is 0 where r2 is 0;
    - "l1": sum_c |d_c|, whose gradient has the sign of d_c, 0 at 0;
    - "gaussian_inlier": r2 / (2 sigma^2) + 3/2 log(2 pi) + 3 log(sigma), minus the log-likelihood of a Gaussian.

    What the presets of FOCUS use, everywhere with the mask that the segmentation gives:

    | | kind | reduction | mask |
    |---|---|---|---|
    | L_pixel, `paper` | "squared" | "mask_mean" | M |
    | L_pixel, `authors` | "l2" | "batch_mask_mean" | M |
    | initialisation, `paper` | "squared" | "mask_mean" | `inlier_mask` of the raster's mask |
    | initialisation, `authors` | "gaussian_inlier" | "mean" | the raster's mask |

    Args:
        target: the photograph [B, 3, H, W], RGB in [0, 1] (any range is taken); float32, float64, float16 or bfloat16.
        rendered: the render [B, 3, H, W], as target.
        mask: the weights [B, 1, H, W], as target; usually in [0, 1].
        kind: the cost of a pixel, see above.
        sigma: the standard deviation of "gaussian_inlier", in units of the images, finite and > 0. No other kind reads
            it.
        threshold: pixels with r2 >= threshold are outliers (> 0, may be inf, and then only a difference that is not
            finite makes one). None: (3 sigma)^2 for "gaussian_inlier", no cut for the others. A pixel that is cut costs
            and weighs exactly 0, its numbers whatever they are. Without a cut, a difference that is not finite shows in
            the loss, even where the mask is 0.
        reduction: of the costs, over all images:
            "mean", the sum over B * H * W;
            "mask_mean", for each image the sum over max(sum of m, 1), then the mean of the images;
            "batch_mask_mean", the sum over max(sum of m, 1), both over the whole batch;
            "sum"; or "none".

    Returns:
        The loss [], or [B, 1, H, W] for "none"; float32 for half precision, in which all sums are. 0 for an empty
        batch. Once differentiable in target, rendered and mask (in mask through the denominators too, unless the
        sum of m is below 1), gradients in their dtype; what the threshold cuts is held fixed and has gradient 0. The
        same bits for any number of threads.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, several devices, an unknown kind or reduction, a sigma or threshold out of range.
    """
    op = "masked_pixel_loss"
    images = _images(op, target, rendered, mask)
    code = _checks.choice(op, "kind", kind, KINDS)
    sigma = _checks.positive(op, "sigma", sigma)
    if threshold is not None:
        threshold = _checks.positive(op, "threshold", threshold, finite=False)
    summed = _checks.choice(op, "reduction", reduction, REDUCTIONS)
    most = torch.finfo(sum_dtype(images[0].dtype)).max
    scale, offset = 1.0, 0.0
    if kind == "gaussian_inlier":
        scale = min(0.5 / sigma / sigma, most / 4)  # infinite, it would make NaN of 0
        offset = 1.5 * math.log(2 * math.pi) + 3 * math.log(sigma)
        threshold = 3 * sigma * (3 * sigma) if threshold is None else threshold
    args: tuple = (*images, code, scale, offset, _rounded(threshold, most), summed)
    if choose(op, BACKENDS, *args) is ref:
        return ref.forward(*args)
    return _MaskedPixelLoss.apply(*args)


def inlier_mask(target: Tensor, rendered: Tensor, mask: Tensor, *, threshold: float = 0.016641) -> Tensor:
    """FOCUS's M_pre (Eq. 9 and 10): mask * [r2 < threshold], r2 the squared distance of the two images over RGB.

    Args:
        target: the photograph [B, 3, H, W], RGB; float32, float64, float16 or bfloat16.
        rendered: the render [B, 3, H, W], as target.
        mask: [B, 1, H, W], as target; the raster's mask in FOCUS.
        threshold: > 0, may be inf; 0.016641 = (3 * 0.043)^2 is what the authors' program uses, the paper prints 0.17.

    Returns:
        [B, 1, H, W] in the dtype of mask, without a gradient: it is a constant of the training. Exactly 0 at outliers,
        where r2 >= threshold or is NaN, also where mask is NaN.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, several devices, or a threshold out of range.
    """
    op = "inlier_mask"
    images = [image.detach() for image in _images(op, target, rendered, mask)]
    threshold = _checks.positive(op, "threshold", threshold, finite=False)
    args: tuple = (*images, _rounded(threshold, torch.finfo(sum_dtype(images[0].dtype)).max))
    return ref.inliers(*args) if choose(op, BACKENDS, *args) is ref else _INLIERS(*args)


def _images(op: str, target: Tensor, rendered: Tensor, mask: Tensor) -> list[Tensor]:
    images = _checks.images(op, target=target, rendered=rendered, mask=mask)
    _checks.shape(op, "target", images[0], (-1, 3, -1, -1))
    B, _, H, W = images[0].shape
    _checks.shape(op, "rendered", images[1], (B, 3, H, W))
    _checks.shape(op, "mask", images[2], (B, 1, H, W))
    return [image.contiguous() for image in images]


def _rounded(threshold: float | None, most: float) -> float | None:
    """The threshold, infinite where the dtype of r2 does not reach it."""
    return math.inf if threshold is not None and threshold > most else threshold


class _MaskedPixelLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, target, rendered, mask, *rule):
        loss, sums = _FORWARD(target, rendered, mask, *rule)
        ctx.save_for_backward(target, rendered, mask, sums)
        ctx.rule = rule
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        wanted = ctx.needs_input_grad[:3]
        grads = list(_BACKWARD(grad.contiguous(), *ctx.saved_tensors, *ctx.rule, *wanted))
        return *(grads.pop(0) if want else None for want in wanted), *[None] * len(ctx.rule)


def _forward(*args):
    return choose("masked_pixel_loss", kernels(BACKENDS), *args).forward(*args)


def _backward(*args):
    return choose("masked_pixel_loss", kernels(BACKENDS), *args).backward(*args)


def _inliers(*args):
    return choose("inlier_mask", kernels(BACKENDS), *args).inliers(*args)


def _backward_fake(grad, target, rendered, mask, sums, *rule_and_wanted):
    images = zip((target, rendered, mask), rule_and_wanted[-3:], strict=True)
    return [torch.empty_like(image) for image, want in images if want]


_RULE = "int kind, float scale, float offset, float? threshold, int reduction"
_FORWARD = register(
    f"_masked_pixel_loss_fwd(Tensor target, Tensor rendered, Tensor mask, {_RULE}) -> (Tensor, Tensor)",
    _forward,
    lambda target, rendered, mask, kind, scale, offset, threshold, reduction: outputs(target, reduction),
)
_BACKWARD = register(
    f"_masked_pixel_loss_bwd(Tensor grad, Tensor target, Tensor rendered, Tensor mask, Tensor sums, {_RULE},"
    " bool to_target, bool to_rendered, bool to_mask) -> Tensor[]",
    _backward,
    _backward_fake,
)
_INLIERS = register(
    "_inlier_mask_fwd(Tensor target, Tensor rendered, Tensor mask, float threshold) -> Tensor",
    _inliers,
    lambda target, rendered, mask, threshold: torch.empty_like(mask),
)
