"""Arrays and texts in one safetensors file: atomic, the same bytes for the same content, checked when read."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

Array = np.ndarray[Any, Any]

CODES = {"float16": "F16", "float32": "F32", "float64": "F64", "uint8": "U8", "int32": "I32", "int64": "I64"}


def write_tensors(path: str | os.PathLike[str], arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Writes the arrays, of the dtypes in `CODES`, and the metadata with its `checksum`.

    A failure leaves neither a new file nor a changed old one.
    """
    path = Path(path)
    arrays = {key: np.require(value, requirements="C") for key, value in arrays.items()}
    header: dict[str, Any] = {
        "__metadata__": dict(sorted({**metadata, "checksum": checksum(arrays, metadata)}.items()))
    }
    # Wide types first, so that every tensor starts at a multiple of its item size, as the safetensors library demands.
    order = sorted(arrays, key=lambda key: (-arrays[key].itemsize, key))
    offset = 0
    for key in order:
        value = arrays[key]
        header[key] = {
            "dtype": CODES[value.dtype.name],
            "shape": list(value.shape),
            "data_offsets": [offset, offset + value.nbytes],
        }
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    # Not safetensors' own writer: it stores the metadata in a random order, and the assets must be reproducible.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for key in order:
                file.write(_bytes(arrays[key]))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_tensors(path: str | os.PathLike[str], caller: str) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata without its checksum; ValueError for a damaged file or one of another format."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"{caller}: expected {path} to be a file, got a folder")
    try:
        with safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{caller}: expected {path} to be a complete safetensors file, got: {error}") from error
    written = metadata.pop("checksum", None)
    if written is not None and written != (found := checksum(arrays, metadata)):
        raise ValueError(
            f"{caller}: expected {path} to have the checksum {written} of its header, got {found}: the file is damaged"
        )
    return arrays, metadata


def checksum(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> str:
    """CRC-32 of texts, names, types, shapes and bytes: finds damage, proves nothing about who wrote the file."""
    value = zlib.crc32(json.dumps(sorted(metadata.items())).encode())
    for key in sorted(arrays):
        array = arrays[key]
        value = zlib.crc32(f"{key} {array.dtype.name} {array.shape}".encode(), value)
        value = zlib.crc32(_bytes(array), value)
    return f"crc32:{value:08x}"


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
