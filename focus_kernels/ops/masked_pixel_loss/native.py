"""masked_pixel_loss on the compiled CPU kernels of csrc/masked_pixel_loss."""

import torch

from ..._extension import _C, threads
from ..._extension import why_not_on_cpu as why_not
from .rule import outputs

__all__ = ["backward", "forward", "inliers", "why_not"]


def forward(target, rendered, mask, kind, scale, offset, threshold, reduction):
    loss, sums = outputs(target, reduction)
    rule = (kind, scale, offset, threshold, reduction)
    _C.masked_pixel_loss(target, rendered, mask, loss, sums, *rule, threads())
    return loss, sums


def backward(grad, target, rendered, mask, sums, *rule_and_wanted):
    *rule, to_target, to_rendered, to_mask = rule_and_wanted
    images = (target, rendered, mask)
    wanted = (to_target, to_rendered, to_mask)
    grads = [torch.empty_like(image) if want else None for image, want in zip(images, wanted, strict=True)]
    _C.masked_pixel_loss_grad(grad, *images, sums, *grads, *rule, threads())
    return [grad for grad in grads if grad is not None]


def inliers(target, rendered, mask, threshold):
    out = torch.empty_like(mask)
    _C.inlier_mask(target, rendered, mask, out, threshold, threads())
    return out
