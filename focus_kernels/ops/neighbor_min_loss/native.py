"""neighbor_min_loss on the compiled CPU kernels of csrc/neighbor_min_loss."""

from ..._extension import _C, threads
from ..._extension import why_not_on_cpu as why_not

__all__ = ["backward", "forward", "why_not"]


def forward(target, rendered, mask, modes, out, winner, sums):
    _C.neighbor_min_loss(target, rendered, mask, out, winner, sums, modes, threads())


def backward(grad, target, rendered, mask, winner, sums, modes, grads):
    _C.neighbor_min_loss_grad(grad, target, rendered, mask, winner, sums, *grads, modes, threads())
