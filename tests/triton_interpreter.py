"""What Triton's interpreter does not check by itself: addresses, races between programs, reads of masked-off lanes.

Under `install()` each interpreted launch
- reads and writes inside its tensors only;
- has no two programs at one address of which one writes, unless both are atomic, and no store of two values to one;
- gets NaN (or a wild integer) where a load is masked and names no `other`: a GPU gives whatever the register held;
- runs its programs in another order each time, from a fixed seed;
- turns float32 into bfloat16 and back as a GPU does, where the interpreter cuts off and loses subnormals.
A violation raises `KernelError` with the kernel's name and the argument.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

READ, WRITE, ATOMIC = range(3)


class KernelError(AssertionError):
    """A kernel did what a GPU would not report."""


@dataclass
class Launch:
    """One interpreted launch: its kernel, the tensors it may touch, and what its programs touched."""

    kernel: str
    tensors: dict[str, tuple[int, int, int]]  # name -> first address, end, size of an element
    program: int = 0
    log: list[tuple[int, int, np.ndarray]] = field(default_factory=list)  # kind, program, addresses

    def where(self, address: int) -> str:
        for name, (first, end, size) in self.tensors.items():
            if first <= address < end:
                return f"element {(address - first) // size} of {name}"
        beside = lambda item: max(item[1][0] - address, address - item[1][1])  # how far from its nearer end
        name, (first, _, size) = min(self.tensors.items(), key=beside)
        return f"element {(address - first) // size} of {name}, which is outside of it"

    def touch(self, kind: int, addresses: np.ndarray, size: int) -> None:
        inside = np.zeros(addresses.shape, dtype=bool)
        for first, end, _ in self.tensors.values():
            inside |= (addresses >= first) & (addresses + size <= end)
        if not inside.all():
            what = ("reads", "writes", "updates")[kind]
            raise KernelError(f"{self.kernel} {what} {self.where(int(addresses[~inside][0]))} (program {self.program})")
        self.log.append((kind, self.program, addresses))

    def finish(self) -> None:
        """Looks for races: programs of a launch run in no order, whatever the interpreter does."""
        if not self.log:
            return
        addresses = np.concatenate([entry for _, _, entry in self.log])
        lengths = [len(entry) for _, _, entry in self.log]
        programs = np.repeat([program for _, program, _ in self.log], lengths)
        kinds = np.repeat([kind for kind, _, _ in self.log], lengths)
        order = np.argsort(addresses, kind="stable")
        addresses, programs, kinds = addresses[order], programs[order], kinds[order]
        starts = np.flatnonzero(np.r_[True, addresses[1:] != addresses[:-1]])
        several = np.minimum.reduceat(programs, starts) != np.maximum.reduceat(programs, starts)
        low, high = np.minimum.reduceat(kinds, starts), np.maximum.reduceat(kinds, starts)
        written = np.maximum.reduceat(kinds == WRITE, starts)
        race = np.flatnonzero(several & (written | ((low == READ) & (high == ATOMIC))))
        if len(race):
            place = self.where(int(addresses[starts[race[0]]]))
            raise KernelError(f"{self.kernel}: two programs at {place}, one of which writes")


_launch: Launch | None = None
_order = np.random.default_rng(0)


def _span(tensor: torch.Tensor) -> tuple[int, int, int]:
    """Elements that a view spans; strides of tensors are never negative."""
    size = tensor.element_size()
    last = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (size * (last + 1) if tensor.numel() else 0), size


def _active(pointers: Any, mask: Any) -> np.ndarray:
    addresses, mask = np.broadcast_arrays(pointers.data, mask.data)
    return addresses[mask.astype(bool)].astype(np.int64)


def _size(pointers: Any) -> int:
    return max(1, pointers.get_element_ty().primitive_bitwidth // 8)


def _call(execute):
    @functools.wraps(execute)
    def wrapper(self, *args, **kwargs):
        global _launch
        given = dict(zip(self.arg_names, args, strict=False)) | kwargs
        tensors = {name: _span(value) for name, value in given.items() if isinstance(value, torch.Tensor)}
        before, _launch = _launch, Launch(self.fn.__name__, tensors)
        try:
            execute(self, *args, **kwargs)
            _launch.finish()
        except interpreter.InterpreterError as error:
            if isinstance(error.__cause__, KernelError):
                raise error.__cause__ from None
            raise
        finally:
            _launch = before

    return wrapper


def _dim(set_grid_dim):
    @functools.wraps(set_grid_dim)
    def wrapper(self, *dim):
        set_grid_dim(self, *dim)
        self.programs = _order.permutation(int(np.prod(dim)))

    return wrapper


def _index(set_grid_idx):
    @functools.wraps(set_grid_idx)
    def wrapper(self, *index):
        _launch.program = int(self.programs[np.ravel_multi_index(index, self.grid_dim)])
        set_grid_idx(self, *map(int, np.unravel_index(_launch.program, self.grid_dim)))

    return wrapper


def _load(load):
    @functools.wraps(load)
    def wrapper(self, pointers, mask, other, *rest, **options):
        _launch.touch(READ, _active(pointers, mask), _size(pointers))
        if other is None:
            element = pointers.get_element_ty()
            kind = np.dtype(interpreter._get_np_dtype(element))
            wild = np.frombuffer(bytes([0xFF if element.is_floating() else 0x5A]) * kind.itemsize, kind)
            other = interpreter.TensorHandle(np.full(pointers.data.shape, wild[0]), element)
        return load(self, pointers, mask, other, *rest, **options)

    return wrapper


def _store(store):
    @functools.wraps(store)
    def wrapper(self, pointers, value, mask, *rest, **options):
        addresses = _active(pointers, mask)
        _launch.touch(WRITE, addresses, _size(pointers))
        unique, first, which = np.unique(addresses, return_index=True, return_inverse=True)
        if len(unique) != len(addresses):
            _, values, lanes = np.broadcast_arrays(pointers.data, value.data, mask.data)
            bits = values[lanes.astype(bool)].view(f"u{values.itemsize}")
            if (differs := bits != bits[first][which]).any():
                place = _launch.where(int(addresses[differs][0]))
                raise KernelError(f"{_launch.kernel}: one store of two values at {place}")
        return store(self, pointers, value, mask, *rest, **options)

    return wrapper


def _swap(swap):
    @functools.wraps(swap)
    def wrapper(self, pointers, *rest, **options):
        _launch.touch(ATOMIC, pointers.data.astype(np.int64).ravel(), _size(pointers))
        return swap(self, pointers, *rest, **options)

    return wrapper


def _update(update):
    @functools.wraps(update)
    def wrapper(self, operation, pointers, value, mask, *rest, **options):
        _launch.touch(ATOMIC, _active(pointers, mask), _size(pointers))
        return update(self, operation, pointers, value, mask, *rest, **options)

    return wrapper


def _cast(cast):
    @functools.wraps(cast)
    def wrapper(self, value, kind):
        change = value.dtype.scalar, kind.scalar
        if change == (tl.bfloat16, tl.float32):
            bits = np.ascontiguousarray(value.data).view(np.uint16).astype(np.uint32) << 16
            return interpreter.TensorHandle(bits.view(np.float32), tl.float32)
        if change != (tl.float32, tl.bfloat16):
            return cast(self, value, kind)
        bits = np.ascontiguousarray(value.data).view(np.uint32)
        rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        return interpreter.TensorHandle(np.where(np.isnan(value.data), np.uint16(0x7FC0), rounded), tl.bfloat16)

    return wrapper


PATCHES = {
    (interpreter.GridExecutor, "__call__"): _call,
    (interpreter.InterpreterBuilder, "set_grid_dim"): _dim,
    (interpreter.InterpreterBuilder, "set_grid_idx"): _index,
    (interpreter.InterpreterBuilder, "cast_impl"): _cast,
    (interpreter.InterpreterBuilder, "create_masked_load"): _load,
    (interpreter.InterpreterBuilder, "create_masked_store"): _store,
    (interpreter.InterpreterBuilder, "create_atomic_cas"): _swap,
    (interpreter.InterpreterBuilder, "create_atomic_rmw"): _update,
}


def install() -> None:
    """From now on, in this process."""
    for (owner, name), patch in PATCHES.items():
        setattr(owner, name, patch(getattr(owner, name)))
