"""Rasterizer contexts and the log level."""

from __future__ import annotations

from typing import Any

import torch

from ... import _checks

_log_level = 1


class _Context:
    """What both contexts share. The kernels keep nothing between calls, so a context holds settings only."""

    output_db = True

    def __init__(self, op: str, device: torch.device | str | int | None) -> None:
        if isinstance(device, bool) or not isinstance(device, (torch.device, str, int, type(None))):
            _checks.fail(TypeError, op, "device", "a torch.device, str, int or None", type(device).__name__)
        self.device = device
        self.peeler: Any = None  # the DepthPeeler that is open in this context


class RasterizeCudaContext(_Context):
    """A rasterizer context, as `rasterize` takes it.

    Args:
        device: kept as the attribute `device`; the operations run where their tensors lie.

    Raises:
        TypeError: device is of another type.

    Differences from upstream:
        * It needs no GPU and allocates nothing; tensors on the CPU are served in it.
        * One context may be used from several threads, except for depth peeling.
    """

    def __init__(self, device: torch.device | str | int | None = None) -> None:
        super().__init__("RasterizeCudaContext", device)


class RasterizeGLContext(_Context):
    """A rasterizer context with the interface of the OpenGL one; nothing here uses OpenGL.

    Args:
        output_db: whether `rasterize` gives the derivatives of the barycentrics; else its second output is
            [B, H, W, 0].
        mode: "automatic", or "manual", in which `set_context` and `release_context` may be called.
        device: kept as the attribute `device`; the operations run where their tensors lie.

    Raises:
        TypeError: output_db is no bool, or mode or device of another type.
        ValueError: an unknown mode.

    Differences from upstream: as for `RasterizeCudaContext`.
    """

    def __init__(
        self, output_db: bool = True, mode: str = "automatic", device: torch.device | str | int | None = None
    ) -> None:
        super().__init__("RasterizeGLContext", device)
        self.output_db = _checks.flag("RasterizeGLContext", "output_db", output_db)
        _checks.choice("RasterizeGLContext", "mode", mode, {"automatic": 0, "manual": 1})
        self.mode = mode

    def set_context(self) -> None:
        """Nothing is to be activated. RuntimeError unless the mode is "manual", as upstream."""
        self._manual("set_context")

    def release_context(self) -> None:
        """Nothing is to be deactivated. RuntimeError unless the mode is "manual", as upstream."""
        self._manual("release_context")

    def _manual(self, method: str) -> None:
        if self.mode != "manual":
            raise RuntimeError(f"RasterizeGLContext.{method}(): expected mode to be 'manual', got {self.mode!r}")


def context(op: str, value: Any) -> RasterizeCudaContext | RasterizeGLContext:
    if not isinstance(value, (RasterizeCudaContext, RasterizeGLContext)):
        _checks.fail(
            TypeError, op, "glctx", "a RasterizeCudaContext or RasterizeGLContext of this module", type(value).__name__
        )
    return value


def get_log_level() -> int:
    """The level that `set_log_level` set; 1 at first."""
    return _log_level


def set_log_level(level: int) -> None:
    """Keeps the level: 0 info, 1 warning, 2 error, 3 fatal. These operations log nothing, at any level.

    Raises:
        TypeError: level is no int.
        ValueError: level is none of these.
    """
    global _log_level
    _log_level = _checks.number("set_log_level", "level", level, (0, 1, 2, 3))
