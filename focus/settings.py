"""Dataclasses whose fields check themselves, and strict JSON for them: what presets and configurations are made of.

    @dataclass(frozen=True)
    class Window(Checked):
        OWNER, PATH = "Preset", "neighbor."
        window: int = choice(3, 3, 5, 7)
        power: float = real(2.0, above=True)

A value of the wrong type raises TypeError, one out of range ValueError; the message names the key ("neighbor.window").
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

from .atomic import write_atomic

S = TypeVar("S", bound="Stored")


def _fail(kind: type[Exception], where: str, expected: str, got: object) -> NoReturn:
    raise kind(f"{where} to be {expected}, got {got}")


def _field(default: Any, check: Callable[[str, Any], Any]) -> Any:
    return field(default=default, metadata={"check": check})


def choice(default: str | int, *options: str | int) -> Any:
    """One of the options, of the type of the default."""
    listed = "one of " + ", ".join(map(repr, options))

    def check(where: str, value: Any) -> Any:
        if type(value) is not type(default):
            _fail(TypeError, where, listed, repr(value))
        return value if value in options else _fail(ValueError, where, listed, repr(value))

    return _field(default, check)


def flag(default: bool) -> Any:
    """True or false."""

    def check(where: str, value: Any) -> bool:
        return value if isinstance(value, bool) else _fail(TypeError, where, "true or false", repr(value))

    return _field(default, check)


def real(default: float, low: float = 0.0, high: float = math.inf, *, above: bool = False, below: bool = False) -> Any:
    """A finite number in [low, high], without low (`above`) or high (`below`); integers become floats."""
    limits = f"finite, {'>' if above else '>='} {low:g}"
    if high != math.inf:
        limits += f" and {'<' if below else '<='} {high:g}"

    def check(where: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _fail(TypeError, where, "a number", repr(value))
        number = float(value) if abs(value) < 1e308 else math.inf
        fits = (number > low if above else number >= low) and (number < high if below else number <= high)
        return number if fits and math.isfinite(number) else _fail(ValueError, where, limits, repr(value))

    return _field(default, check)


def count(default: int, low: int = 1) -> Any:
    """An integer from `low` on."""

    def check(where: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            _fail(TypeError, where, "an integer", repr(value))
        return value if value >= low else _fail(ValueError, where, f">= {low}", value)

    return _field(default, check)


def indices(default: tuple[int, ...], size: int) -> Any:
    """Different integers in 0..size-1; a list becomes a tuple."""

    def check(where: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, (list, tuple)) or not all(type(index) is int for index in value):
            _fail(TypeError, where, "a list of integers", repr(value))
        if len(set(value)) < len(value) or not all(0 <= index < size for index in value):
            _fail(ValueError, where, f"different numbers in 0..{size - 1}", list(value))
        return tuple(value)

    return _field(default, check)


def text(default: str) -> Any:
    """A string that is not blank."""

    def check(where: str, value: Any) -> str:
        if not isinstance(value, str):
            _fail(TypeError, where, "a string", repr(value))
        return value if value.strip() else _fail(ValueError, where, "not blank", repr(value))

    return _field(default, check)


def group(kind: type[Checked]) -> Any:
    """Fields of their own under one key; the default is `kind()`."""

    def check(where: str, value: Any) -> Any:
        return value if type(value) is kind else _fail(TypeError, where, f"a {kind.__name__}", repr(value))

    return field(default_factory=kind, metadata={"check": check, "group": kind})


class Checked:
    """Base of the dataclasses: checks every field when one is made. OWNER and PATH begin the names in messages."""

    OWNER: ClassVar[str]
    PATH: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for item in fields(self):  # type: ignore[arg-type]
            where = f"{self.OWNER}(): expected {self.PATH}{item.name}"
            object.__setattr__(self, item.name, item.metadata["check"](where, getattr(self, item.name)))


class Stored(Checked):
    """Base of settings that are files of their own: JSON out, and in by the class's `from_json`."""

    @classmethod
    def from_json(cls: type[S], source: str) -> S:
        raise NotImplementedError(f"{cls.__name__}.from_json()")

    def replace(self: S, **changes: Any) -> S:
        """The settings with other values. Groups may be given in part: `replace(neighbor={"window": 5})`.

        Raises:
            TypeError, ValueError: an unknown key or an unfit value; the message names it.
        """
        return build(type(self), changes, self, f"{self.OWNER}.replace()")

    def to_json(self) -> str:
        """All fields as JSON text; `from_json` gives equal settings."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"  # type: ignore[call-overload]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `to_json` to a file, atomically."""
        write_atomic(path, self.to_json())

    @classmethod
    def load(cls: type[S], path: str | os.PathLike[str]) -> S:
        """Reads a file as `from_json`; its errors name the file. OSError where it cannot be read."""
        try:
            return cls.from_json(Path(path).read_text(encoding="utf-8"))
        except TypeError as error:
            raise TypeError(f"{path}: {error}") from error
        except ValueError as error:  # also of bytes that are no UTF-8
            raise ValueError(f"{path}: {error}") from error


def build(kind: type, values: Mapping[str, Any], base: Any, function: str, path: str = "") -> Any:
    """A `kind` of the given values, groups as mappings, the others as in `base`; without a base none may be missing.

    Raises:
        TypeError, ValueError: an unknown or missing key, or an unfit value; the message names it.
    """
    known = {item.name: item for item in fields(kind)}
    for key in values:
        if key not in known:
            allowed = ", ".join(path + name for name in known)
            raise ValueError(f"{function}: expected keys among {allowed}; got {path}{key}")
    arguments: dict[str, Any] = {}
    for key, item in known.items():
        inner = item.metadata.get("group")
        if key not in values:
            if base is None:
                raise ValueError(f"{function}: expected {path}{key} to be given, got no such key")
            arguments[key] = getattr(base, key)
        elif inner is None or isinstance(values[key], inner):
            arguments[key] = values[key]
        elif isinstance(values[key], Mapping):
            part = None if base is None else getattr(base, key)
            arguments[key] = build(inner, values[key], part, function, f"{path}{key}.")
        else:
            raise TypeError(f"{function}: expected {path}{key} to be an object, got {values[key]!r}")
    return kind(**arguments)


def read_json(source: str, function: str) -> dict[str, Any]:
    """The object of a JSON text; ValueError where it is none, or gives a key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in pairs:
            if key in values:
                raise ValueError(f"{function}: expected each key once, got {key!r} twice")
            values[key] = value
        return values

    try:
        values = json.loads(source, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"{function}: expected JSON, got an error: {error}") from None
    except RecursionError:
        raise ValueError(f"{function}: expected a JSON object, got one nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError(f"{function}: expected a JSON object, got {type(values).__name__}")
    return values
