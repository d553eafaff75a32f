"""Reads numbers out of pickle files without running anything that they name.

A pickle is a program that may call any importable function. Here every global that it names becomes an empty record
class, made anew for each file: "calling" it only stores the arguments. Names outside the short list below end the
reading. Arrays are then built from the records with np.frombuffer, so not even numpy's own unpickling code runs.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# What FLAME's files and landmark embeddings name, as Python 2 and 3 and old and new numpy and scipy spell it.
_ALLOWED = {
    f"{module}.{name}"
    for modules, names in (
        (("numpy",), ("ndarray", "dtype")),
        (("numpy.core.multiarray", "numpy._core.multiarray"), ("_reconstruct", "scalar")),
        (("numpy.core.numeric", "numpy._core.numeric"), ("_frombuffer",)),
        (("scipy.sparse.csc", "scipy.sparse._csc"), ("csc_matrix", "csc_array")),
        (("chumpy.ch", "chumpy"), ("Ch",)),
        (("_codecs",), ("encode",)),
        (("copy_reg", "copyreg"), ("_reconstructor",)),
        (("__builtin__", "builtins"), ("object", "set", "frozenset", "bytes", "bytearray")),
        (("collections",), ("OrderedDict",)),
        (("torch._utils",), ("_rebuild_tensor_v2",)),
        (("torch.storage",), ("_load_from_bytes",)),
    )
    for module in modules
    for name in names
}
_NUMBER = re.compile(r"[<>|=]?([biu]1|[iuf][248])")


class Record:
    """An object of the pickle that was not made: the name of its class or function, its arguments and its state."""

    origin = ""
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **_: Any) -> Record:
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    # Contents of containers other than list and dict: nothing here reads them.
    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._records: dict[str, type[Record]] = {}

    def find_class(self, module: str, name: str) -> Any:
        origin = f"{module}.{name}"
        if origin not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {origin}, which no array needs; nothing of it was run")
        return self._records.setdefault(origin, type("Record", (Record,), {"origin": origin}))

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for an object outside the file")


def read_pickle(data: bytes, path: Path, caller: str) -> Any:
    """The pickled value, with a `Record` in the place of every object; ValueError where it asks for more."""
    try:
        return _Unpickler(data).load()
    # A damaged pickle may end in nearly any exception; none of them says more than that.
    except Exception as error:
        raise ValueError(f"{caller}: expected {path} to be a pickle of plain arrays, got an error: {error}") from error


def read_npy(path: Path, caller: str) -> Any:
    """A .npy file: numbers as they are, and an object array's pickle through `read_pickle`."""
    data = path.read_bytes()
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        if not dtype.hasobject:
            return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{caller}: expected {path} to be a .npy file, got an error: {error}") from error
    value = to_value(read_pickle(data[file.tell() :], path, caller))
    return value[0] if isinstance(value, list) and len(value) == 1 and shape == () else value


def to_array(value: Any) -> Array | None:
    """The number array in a record, a plain sequence or a chumpy constant; None where there is none."""
    value = to_value(value)
    if isinstance(value, (int, float, list, tuple)):
        try:
            value = np.asarray(value)
        except ValueError:
            return None
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "biuf" else None


def to_value(value: Any) -> Any:
    """Arrays, scalars and lists for the records that stand for them; other values as they are."""
    if not isinstance(value, Record):
        return value
    name = value.origin.rpartition(".")[2]
    if _is_chumpy(value):
        inner = value.state.get("x") if isinstance(value.state, dict) else None
        return (
            None if _is_chumpy(inner) else to_value(inner)
        )  # a chain of them, or a ring, would only exhaust the stack
    if name == "_reconstruct" and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, fortran, raw = value.state
        return list(raw) if isinstance(raw, list) else _from_bytes(raw, dtype, shape, bool(fortran))
    if name == "_frombuffer" and len(value.args) == 4:
        raw, dtype, shape, order = value.args
        return _from_bytes(raw, dtype, shape, order == "F")
    if name == "scalar" and len(value.args) == 2:
        return _from_bytes(value.args[1], value.args[0], (), False)
    return None


def _is_chumpy(value: Any) -> bool:
    if not isinstance(value, Record):
        return False
    # Pickle protocols 0 and 1 make an object of a class through copyreg._reconstructor.
    made_of = value.args[0] if value.origin.endswith("._reconstructor") and value.args else value
    return getattr(made_of, "origin", "").endswith(".Ch")


def _from_bytes(raw: Any, dtype: Any, shape: Any, fortran: bool) -> Array | None:
    kind, data = _dtype(dtype), _raw(raw)
    if (
        kind is None
        or data is None
        or not isinstance(shape, tuple)
        or not all(type(n) is int and n >= 0 for n in shape)
    ):
        return None
    # Python integers: the sizes in the file may be too large for numpy's.
    count = 1
    for n in shape:
        count *= n
    if count * kind.itemsize != len(data):
        return None
    try:
        array = np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")
    except (ValueError, OverflowError):  # an empty array may still claim an impossible shape
        return None
    return array.astype(kind.newbyteorder("="))


def _dtype(value: Any) -> np.dtype[Any] | None:
    if not (
        isinstance(value, Record) and value.origin == "numpy.dtype" and value.args and isinstance(value.args[0], str)
    ):
        return None
    match = _NUMBER.fullmatch(value.args[0])
    if match is None:
        return None
    state = value.state
    big = isinstance(state, tuple) and len(state) > 1 and state[1] == ">"
    return np.dtype((">" if big else "<") + match[1])


def _raw(value: Any) -> bytes | None:
    if isinstance(value, Record) and value.origin.endswith((".encode", ".bytes", ".bytearray")):
        value = value.args[0] if value.args else b""
    if isinstance(value, str):  # Python 2 pickled bytes as text, Python 3's protocol 2 pickles them as latin1
        try:
            return value.encode("latin1")
        except UnicodeEncodeError:
            return None
    return bytes(value) if isinstance(value, (bytes, bytearray)) else None
