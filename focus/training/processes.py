"""The processes of a run: one, or as many as torchrun started, joined by Lightning Fabric."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Processes:
    """This process among those of a run.

    Under `torchrun` they share each batch, and `DistributedDataParallel` averages their gradients, over nccl on GPUs
    and gloo on the CPU.

    Args:
        device: "cpu", "cuda" or "cuda:N". Of several processes each takes the GPU of its local rank, so "cuda".

    Raises:
        ValueError: another device, or a GPU that torch does not see.
    """

    def __init__(self, device: str = "cpu") -> None:
        kind, _, number = device.partition(":")
        if kind not in ("cpu", "cuda") or (":" in device and not (kind == "cuda" and number.isdecimal())):
            raise ValueError(f"Processes(): expected device to be cpu, cuda or cuda:N, got {device!r}")
        self.world, self.rank = int(os.environ.get("WORLD_SIZE", "1")), 0
        local = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
        if self.world > 1 and number:
            raise ValueError(
                f"Processes(): expected device to be cpu or cuda for {self.world} processes, got {device!r}"
            )
        needed = local if self.world > 1 else int(number or 0) + 1
        if kind == "cuda" and needed > torch.cuda.device_count():
            raise ValueError(
                f"Processes(): expected {needed} GPUs for device {device!r}, torch sees {torch.cuda.device_count()}"
            )
        self.device = torch.device(device)
        self._fabric: Fabric | None = None
        if self.world > 1:
            self._fabric = _join(kind, local, self.world // local)
            self.rank, self.device = self._fabric.global_rank, self._fabric.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, on this process's device, such that backward averages its gradients over the processes."""
        if self._fabric is None:
            return network
        wrapped: nn.Module = self._fabric.setup_module(network, move_to_device=False)
        return wrapped

    def at_rest(self, wrapped: nn.Module | None) -> AbstractContextManager[Any]:
        """Within it, what `wrap` gave is called without awaiting gradients of its weights."""
        if self._fabric is None or wrapped is None:
            return nullcontext()
        return self._fabric.no_backward_sync(wrapped)  # type: ignore[arg-type]

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes, differentiable: the gradients are summed likewise."""
        summed: Tensor = value if self.world == 1 else _Total.apply(value)
        return summed

    def mean(self, value: Tensor) -> Tensor:
        """The mean over all processes, without gradient."""
        return value if self.world == 1 else _summed(value) / self.world

    def most(self, values: list[float]) -> list[float]:
        """The greatest of each number over all processes."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
        return [float(value) for value in tensor]

    def gather(self, value: Tensor) -> list[Tensor]:
        """This tensor of every process, all of one shape, on the CPU, by rank."""
        if self.world == 1:
            return [value.cpu()]
        mine = value.to(self.device)
        found = [torch.zeros_like(mine) for _ in range(self.world)]
        torch.distributed.all_gather(found, mine)
        return [part.cpu() for part in found]

    def wait(self) -> None:
        """Until all processes are here."""
        if self._fabric is not None:
            self._fabric.barrier()


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _summed(grad)


def _summed(value: Tensor) -> Tensor:
    value = value.detach().clone()
    torch.distributed.all_reduce(value)
    return value


def _join(kind: str, local: int, nodes: int) -> Fabric:
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=kind, devices=local, num_nodes=nodes, strategy="ddp", precision="32-true")
    fabric.launch()
    return fabric
