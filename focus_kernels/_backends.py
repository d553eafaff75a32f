"""Chooses the backend of a call, and says why not when there is none."""

import os
from types import ModuleType

NAMES = ("native", "triton", "ref")
FORCED = os.environ.get("FOCUS_BACKEND") or None


def choose(op: str, backends: dict[str, ModuleType], *args) -> ModuleType:
    """The first of `backends` (in order of preference) whose `why_not(*args)` is empty.

    FOCUS_BACKEND forces one by name: it is taken or the call fails, it is never replaced.

    Raises:
        ValueError: FOCUS_BACKEND is not the name of any backend.
        NotImplementedError: no backend takes these inputs; the message lists every reason.
    """
    if FORCED is not None and FORCED not in NAMES:
        raise ValueError(f"{op}(): expected FOCUS_BACKEND to be one of {', '.join(NAMES)}, got {FORCED!r}")
    if FORCED is not None and FORCED not in backends:
        raise NotImplementedError(f"{op}(): FOCUS_BACKEND={FORCED} is not among its backends: {', '.join(backends)}")
    refused = {}
    for name, backend in backends.items():
        if FORCED is not None and name != FORCED:
            continue
        reasons = backend.why_not(*args)
        if not reasons:
            return backend
        refused[name] = reasons
    forced = "" if FORCED is None else f" (FOCUS_BACKEND={FORCED})"
    lines = [f"{op}(): no backend can run these inputs{forced}"]
    lines += [f"  {name}: {'; '.join(reasons)}" for name, reasons in refused.items()]
    raise NotImplementedError("\n".join(lines))


def kernels(backends: dict[str, ModuleType]) -> dict[str, ModuleType]:
    """The backends behind the raw op: all but `ref`, which is differentiated by torch itself."""
    return {name: backend for name, backend in backends.items() if name != "ref"}
