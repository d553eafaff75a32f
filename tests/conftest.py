"""Fixtures of the op tests: which backend runs, and memory that nobody wrote is NaN."""

import importlib.util
import os
import signal
import sys
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
import torch._dynamo  # it lists torch's functions when it is imported: before any of them is replaced


def _take_extension(path: str) -> None:
    """The tests run on another build of the kernels: emulated, or with a sanitizer (scripts/check.py)."""
    spec = importlib.util.spec_from_file_location("focus_kernels._C", path)
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])


if "FOCUS_TEST_EXTENSION" in os.environ:
    _take_extension(os.environ["FOCUS_TEST_EXTENSION"])

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if INTERPRETED:
    import triton_interpreter

    triton_interpreter.install()

from focus_kernels import _backends  # noqa: E402  (after the extension that it is to find)
from focus_kernels._extension import _C  # noqa: E402

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
KERNELS = [("native", device) for device in DEVICES]
KERNELS += [("triton", device) for device in (["cpu"] if INTERPRETED else DEVICES[1:])]
INT_POISON = 0x5A5A5A5A


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """A plain `pytest`, which names no files and no number of processes, takes two, where pytest-xdist is there."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # this is one of the two
        return
    plain = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.usepdb
    if plain and getattr(config.option, "numprocesses", 0) is None and (os.cpu_count() or 1) > 1:
        config.option.numprocesses = 2


def pytest_configure(config):
    if hasattr(config, "workerinput"):  # one of several processes: their threads would wait for each other
        torch.set_num_threads(1)


def _force(request, monkeypatch, name: str, device: str) -> SimpleNamespace:
    """Force backend `name`; skip with its reasons where the op under test cannot run on it."""
    op = request.node.callspec.params.get("case", request.module.__name__.removeprefix("test_"))
    op = getattr(op, "op", op).removesuffix("_rules")
    backends = import_module(f"focus_kernels.ops.{op}.op").BACKENDS
    if name not in backends:
        pytest.skip(f"{op} has no {name} backend")
    reasons = backends[name].why_not(torch.zeros(1, device=device))
    if reasons:
        pytest.skip(f"{name}: {'; '.join(reasons)}")
    monkeypatch.setattr(_backends, "FORCED", name)
    return SimpleNamespace(name=name, device=device)


@pytest.fixture(params=[*KERNELS, ("ref", "cpu")], ids="-".join)
def backend(request, monkeypatch):
    """Every backend of the op, the definition included."""
    return _force(request, monkeypatch, *request.param)


@pytest.fixture(params=KERNELS, ids="-".join)
def kernel(request, monkeypatch):
    """The hand-written backends only, to be held against the definition."""
    return _force(request, monkeypatch, *request.param)


@pytest.fixture(params=DEVICES)
def device(request):
    """Where an op without backends runs."""
    return request.param


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """What `torch.empty` gives is NaN (or a wild integer), so that an output nobody writes fails at once."""

    def poisoned(function):
        def wrapper(*args, **kwargs):
            tensor = function(*args, **kwargs)
            if tensor.is_floating_point():
                return tensor.fill_(torch.nan)
            return tensor.fill_(INT_POISON) if tensor.dtype in (torch.int32, torch.int64) else tensor

        return wrapper

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))


@pytest.fixture
def threads():
    """Sets the number of torch threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def instruction_sets():
    """Names for `_C.set_cpu_isa`: what this machine has and the extension knows, the best first."""
    if _C is None:
        pytest.skip("focus_kernels._C is not built")
    _C.set_cpu_isa("")
    known = ["avx512", "avx2", "baseline"]
    yield known[known.index(_C.cpu_isa()) :]
    _C.set_cpu_isa("")


@pytest.fixture
def interruptible():
    """Ctrl-C raises, also where the tests run in the background of a shell, which has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
