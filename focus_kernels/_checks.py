"""Argument checks. Every message reads `op(): expected ARG to be WHAT, got WHAT`."""

import math
from typing import NoReturn

import torch
from torch import Tensor

from .topology import Topology

_HALF = (torch.float16, torch.bfloat16)
_FLOAT = (torch.float32, torch.float64)
_MAX_SIZE = 2**23  # pixel centres beyond this are not float32 numbers


def fail(kind: type[Exception], op: str, name: str, expected: str, got: str) -> NoReturn:
    raise kind(f"{op}(): expected {name} to be {expected}, got {got}")


def tensor(op: str, name: str, value) -> None:
    if not isinstance(value, Tensor):
        fail(TypeError, op, name, "a torch.Tensor", type(value).__name__)
    if value.layout != torch.strided:
        fail(TypeError, op, name, "a dense torch.Tensor", str(value.layout))


def widened(op: str, name: str, value) -> Tensor:
    """`value` as float32 or float64; inside autocast half precision is widened to float32."""
    tensor(op, name, value)
    if value.dtype in _HALF and torch.is_autocast_enabled(value.device.type):
        return value.float()
    if value.dtype not in _FLOAT:
        fail(TypeError, op, name, "float32 or float64", _short(value.dtype))
    return value


def floats(op: str, **tensors) -> list[Tensor]:
    """The tensors, checked to share one float dtype and one device."""
    checked: list[Tensor] = []
    first = next(iter(tensors))
    for name, value in tensors.items():
        value = widened(op, name, value)
        if checked:
            like(op, name, value, first, checked[0])
        checked.append(value)
    return checked


def images(op: str, **tensors) -> list[Tensor]:
    """The tensors, checked to share one float dtype, half precision among them, and one device.

    Inside autocast tensors of half precision next to others are widened to float32.
    """
    values = list(tensors.values())
    for name, value in tensors.items():
        tensor(op, name, value)
        if value.dtype not in (*_FLOAT, *_HALF):
            fail(TypeError, op, name, "float32, float64, float16 or bfloat16", _short(value.dtype))
    if len({value.dtype for value in values}) > 1 and torch.is_autocast_enabled(values[0].device.type):
        values = [value.float() if value.dtype in _HALF else value for value in values]
    first, *others = tensors
    for name, value in zip(others, values[1:], strict=True):
        like(op, name, value, first, values[0])
    return values


def like(op: str, name: str, value: Tensor, other_name: str, other: Tensor) -> None:
    if value.dtype != other.dtype:
        fail(TypeError, op, name, f"{_short(other.dtype)} as {other_name}", _short(value.dtype))
    on(op, name, value.device, other_name, other.device)


def on(op: str, name: str, device: torch.device, other_name: str, other: torch.device) -> None:
    if device != other:
        fail(ValueError, op, name, f"on {other} as {other_name}", str(device))


def shape(op: str, name: str, value: Tensor, want: tuple) -> None:
    """`want` holds one size per dimension, -1 for any."""
    ok = value.dim() == len(want)
    if ok:
        for have, size in zip(value.shape, want, strict=True):
            ok = ok and (size == -1 or have == size)
    if not ok:
        wanted = ", ".join("*" if size == -1 else str(size) for size in want)
        fail(ValueError, op, name, f"shape [{wanted}]", f"[{', '.join(str(size) for size in value.shape)}]")


def mesh(op: str, topology, name: str, value: Tensor, width: int = 3) -> None:
    """`value` is [B, V, width] on the vertices and the device of `topology`."""
    if not isinstance(topology, Topology):
        fail(TypeError, op, "topology", "a focus_kernels.Topology", type(topology).__name__)
    shape(op, name, value, (-1, topology.num_vertices, width))
    on(op, "topology", topology.device, name, value.device)


def choice(op: str, name: str, value, options: dict) -> int:
    if value is not None and not isinstance(value, str):
        fail(TypeError, op, name, f"one of {_listed(options)}", type(value).__name__)
    if value not in options:
        fail(ValueError, op, name, f"one of {_listed(options)}", repr(value))
    return options[value]


def positive(op: str, name: str, value, finite: bool = True) -> float:
    if isinstance(value, (bool, torch.Tensor)) or not hasattr(value, "__float__"):
        fail(TypeError, op, name, "a number", type(value).__name__)
    number = float(value)
    if not 0 < number <= math.inf or (finite and number == math.inf):
        fail(ValueError, op, name, "finite and > 0" if finite else "> 0", repr(number))
    return number


def number(op: str, name: str, value, options: tuple[int, ...]) -> int:
    listed = f"one of {', '.join(map(str, options))}"
    if not isinstance(value, int) or isinstance(value, bool):
        fail(TypeError, op, name, listed, type(value).__name__)
    if value not in options:
        fail(ValueError, op, name, listed, str(value))
    return value


def flag(op: str, name: str, value) -> bool:
    if not isinstance(value, bool):
        fail(TypeError, op, name, "a bool", type(value).__name__)
    return value


def size(op: str, value) -> tuple[int, int]:
    """The image size (H, W), each at least 1."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        got = f"{len(value)} values" if isinstance(value, (tuple, list)) else type(value).__name__
        fail(TypeError, op, "size", "a pair (H, W) of ints", got)
    sides: list = []
    for side in value:
        if isinstance(side, (int, torch.SymInt)) and not isinstance(side, bool):
            sides.append(side)
        elif hasattr(side, "__index__") and not isinstance(side, (bool, Tensor)):  # NumPy's integers
            sides.append(side.__index__())
        else:
            fail(TypeError, op, "size", "a pair (H, W) of ints", f"a {type(side).__name__}")
        if sides[-1] < 1 or sides[-1] > _MAX_SIZE:
            fail(ValueError, op, "size", f"in [1, {_MAX_SIZE}]", str(side))
    return sides[0], sides[1]


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _listed(options: dict) -> str:
    return ", ".join(repr(option) for option in options)
