"""neighbor_min_loss: the public function, its autograd rule and its registration."""

import torch
from torch import Tensor

from ... import _checks
from ..._backends import choose, kernels
from ..._library import register
from ..._triton import Room
from . import native, ref
from .modes import BORDER, MASKING, NONE, REDUCTION, SEARCH, Modes

BACKENDS = {"native": native, "triton": Room("neighbor_min_loss"), "ref": ref}
WINDOW = (3, 5, 7)
POWER = (2, 1)


def neighbor_min_loss(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    *,
    window: int = 3,
    search: str = "rendered",
    power: int = 2,
    masking: str = "weight",
    border: str = "clip",
    reduction: str = "mean",
) -> Tensor:
    """The neighbourhood loss of FOCUS: each pixel against the most similar of its neighbours in the other image.

    The defaults are the paper's Eq. 1 and 12 with a mean where it prints a sum: the mean over all pixels x of
    M(x) * min over the 3x3 neighbours x' inside the image of |I_T(x) - I_R(x')|^2. The FOCUS authors' program computes
    window=5, search="target", power=1, masking="images", border="valid".

    Args:
        target: the photograph I_T [B, 3, H, W], float32, float64, float16 or bfloat16.
        rendered: the rendered image I_R [B, 3, H, W], in the dtype of target (inside autocast half precision beside
            another dtype is widened to float32).
        mask: M [B, 1, H, W], in the dtype of target.
        window: 3, 5 or 7 pixels wide.
        search: whose neighbours are searched. "rendered": |target(x) - rendered(x + o)|; "target":
            |rendered(x) - target(x + o)|.
        power: 2, the squared distance over RGB; or 1, the distance, whose gradient is 0 where it is 0. Either way the
            nearest is the one of the smallest squared distance.
        masking: "weight" multiplies the smallest distance by the mask; "images" multiplies both images by it before,
            each at its own pixel, and nothing after.
        border: "clip": the map has all pixels, and neighbours outside of the image do not exist. "valid": it has
            those whose whole window is inside of the image: H' = H - window + 1, W' = W - window + 1.
        reduction: "mean": the sum over the pixels of the map, divided by their number in the batch. "mask_mean": per
            image the sum divided by max(sum of the mask over the same pixels, 1), then the mean over the batch.
            "sum". "none": the map.

    Returns:
        A number, or for "none" the map [B, 1, H', W'] (H and W themselves with border="clip"); float64 for float64,
        else float32. 0 for an empty batch. Once differentiable in target, rendered and mask, the nearest neighbour
        held fixed; in the mask also through the divisor of "mask_mean" where its sum is at least 1 (as torch's clamp).
        Of equally near neighbours the first in row order is taken, forward and backward; a distance of NaN is taken
        before all others, so it is not hidden.

    Raises:
        TypeError: a wrong type or dtype.
        ValueError: a wrong shape, several devices, an unknown option, or with border="valid" an image smaller than
            the window.
    """
    op = "neighbor_min_loss"
    target, rendered, mask = _checks.images(op, target=target, rendered=rendered, mask=mask)
    _checks.shape(op, "target", target, (-1, 3, -1, -1))
    B, _, H, W = target.shape
    _checks.shape(op, "rendered", rendered, (B, 3, H, W))
    _checks.shape(op, "mask", mask, (B, 1, H, W))
    modes = Modes(
        _checks.number(op, "window", window, WINDOW),
        _checks.choice(op, "search", search, SEARCH),
        _checks.number(op, "power", power, POWER),
        _checks.choice(op, "masking", masking, MASKING),
        _checks.choice(op, "border", border, BORDER),
        _checks.choice(op, "reduction", reduction, REDUCTION),
    )
    if modes.border and min(H, W) < window:
        _checks.fail(ValueError, op, "target", f'at least {window} x {window} for border="valid"', f"{H} x {W}")
    args = (target.contiguous(), rendered.contiguous(), mask.contiguous())
    if choose(op, BACKENDS, *args) is ref:
        return ref.forward(*args, modes)
    return _NeighborMinLoss.apply(*args, modes)


class _NeighborMinLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, target, rendered, mask, modes):
        out, winner, sums = _FORWARD(target, rendered, mask, list(modes))
        ctx.save_for_backward(target, rendered, mask, winner, sums)
        ctx.modes = modes
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        wanted = ctx.needs_input_grad[:3]
        found = iter(_BACKWARD(grad.contiguous(), *ctx.saved_tensors, list(ctx.modes), list(wanted)))
        return *(next(found) if want else None for want in wanted), None


def _forward(target, rendered, mask, modes):
    outputs = _forward_fake(target, rendered, mask, modes)
    backend = choose("neighbor_min_loss", kernels(BACKENDS), target)
    backend.forward(target, rendered, mask, Modes(*modes), *outputs)
    return outputs


def _backward(grad, target, rendered, mask, winner, sums, modes, wanted):
    inputs = (target, rendered, mask)
    grads = [torch.empty_like(x) if want else None for x, want in zip(inputs, wanted, strict=True)]
    backend = choose("neighbor_min_loss", kernels(BACKENDS), target)
    backend.backward(grad, *inputs, winner, sums, Modes(*modes), grads)
    return [grad for grad in grads if grad is not None]


def _forward_fake(target, rendered, mask, modes):
    modes, B = Modes(*modes), target.shape[0]
    H, W = modes.map_size(*target.shape[2:])
    wide = torch.promote_types(target.dtype, torch.float32)
    out = target.new_empty((B, 1, H, W) if modes.reduction == NONE else (), dtype=wide)
    return out, target.new_empty(B, H, W, dtype=torch.uint8), target.new_empty(B, 2, dtype=wide)


def _backward_fake(grad, target, rendered, mask, winner, sums, modes, wanted):
    return [torch.empty_like(x) for x, want in zip((target, rendered, mask), wanted, strict=True) if want]


_FORWARD = register(
    "_neighbor_min_loss_fwd(Tensor target, Tensor rendered, Tensor mask, int[] modes) -> (Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_BACKWARD = register(
    "_neighbor_min_loss_bwd(Tensor grad, Tensor target, Tensor rendered, Tensor mask, Tensor winner, Tensor sums,"
    " int[] modes, bool[] wanted) -> Tensor[]",
    _backward,
    _backward_fake,
)
