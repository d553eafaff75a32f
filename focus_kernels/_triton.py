"""Triton rooms: modules of kernels, imported when a call first needs them, so that `import focus_kernels` is light."""

import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import ModuleType

import torch

INSTALLED = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # Triton itself reads it when it is imported


class Room(ModuleType):
    """focus_kernels.ops.<op>.triton as a backend: what is asked of it but `why_not` imports it."""

    def __init__(self, op: str):
        super().__init__(f"focus_kernels.ops.{op}.triton")

    def why_not(self, *args) -> list[str]:
        """Reasons why Triton cannot run on these arguments."""
        if not INSTALLED:
            return ["triton is not installed"]
        device = next(arg for arg in args if isinstance(arg, torch.Tensor)).device.type
        if device == "cuda" or (device == "cpu" and INTERPRETED):
            return []
        return [f"device {device} (supported: cuda, or cpu with TRITON_INTERPRET=1)"]

    def __getattr__(self, name: str):
        return getattr(import_module(self.__name__), name)


def on(tensor: torch.Tensor) -> AbstractContextManager:
    """Launches go to the GPU that has `tensor`, whichever is the current one."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()
