"""Reads number arrays from MATLAB files of version 5 to 7.

scipy.io.loadmat also reads them, but a damaged or hostile file can crash its process: it trusts the sizes in the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_MATRIX, _COMPRESSED = 14, 15
# Type numbers of stored data, and of arrays in memory: MATLAB stores whole doubles as small integers.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800


def read_mat(path: Path, names: Collection[str]) -> tuple[dict[str, Array], list[str]]:
    """(the real number arrays among `names`, the names of everything in the file); ValueError for a damaged file."""
    data = memoryview(path.read_bytes())
    if len(data) < 128 or bytes(data[126:128]) != b"IM":
        raise ValueError("no header of a little-endian MATLAB 5 file")
    arrays, found = {}, []
    for kind, content in _elements(data[128:]):
        if kind == _COMPRESSED:
            content = _inflate(content)
        elif kind != _MATRIX:
            continue
        parts = _elements(content)
        flags, shape, name = _header(parts)
        found.append(name)
        if name in names and flags & 0xFF in _CLASSES and not flags & _COMPLEX:
            stored, values = next(parts, (0, content[:0]))
            arrays[name] = _array(stored, values, shape, _CLASSES[flags & 0xFF])
    return arrays, found


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The (type number, content) pairs that lie one after another in `data`."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("it ends within an element")
        kind, size = struct.unpack_from("<II", data, at)
        if kind >> 16:  # a small element: type and size in four bytes, and up to four bytes of content
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > min(len(data), end):
            raise ValueError(f"it ends before {size} bytes of an element at byte {at}")
        yield kind, data[start : start + size]
        at = end


def _inflate(content: memoryview) -> memoryview:
    decompressor = zlib.decompressobj()
    try:
        tag = decompressor.decompress(content, 8)
        kind, size = struct.unpack("<II", tag)
        # No more than the tag promises: a small file cannot fill the memory unnoticed.
        data = decompressor.decompress(decompressor.unconsumed_tail, size)
        data += decompressor.decompress(decompressor.unconsumed_tail, max(size - len(data), 1))
    except (zlib.error, struct.error) as error:
        raise ValueError(f"compressed data are damaged: {error}") from error
    if kind != _MATRIX or len(data) != size or not decompressor.eof:
        raise ValueError("compressed data are damaged")
    return memoryview(data)


def _header(parts: Iterator[tuple[int, memoryview]]) -> tuple[int, tuple[int, ...], str]:
    """(flags, shape, name) of a matrix, its first three parts."""
    try:
        (_, flags), (_, sizes), (_, name) = next(parts), next(parts), next(parts)
    except StopIteration as error:
        raise ValueError("a matrix without a header") from error
    if len(flags) != 8 or len(sizes) % 4:
        raise ValueError("a matrix with a damaged header")
    shape = struct.unpack(f"<{len(sizes) // 4}i", sizes)
    if any(n < 0 for n in shape):
        raise ValueError("a matrix of negative size")
    return struct.unpack_from("<I", flags)[0], shape, bytes(name).decode("latin1")


def _array(stored: int, values: memoryview, shape: tuple[int, ...], kind: str) -> Array:
    if stored not in _STORED:
        raise ValueError(f"numbers of the unknown type {stored}")
    dtype = np.dtype("<" + _STORED[stored])
    count = 1
    for n in shape:
        count *= n
    if len(values) != count * dtype.itemsize:
        raise ValueError(f"{len(values)} bytes for an array of {list(shape)}")
    return np.frombuffer(values, dtype).reshape(shape, order="F").astype(kind)
