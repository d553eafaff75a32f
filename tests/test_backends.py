"""How a backend is chosen, refused and named, and that every instruction set gives the same bits."""

import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from cases import CASES
from meshes import cast, generator
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels import _backends, _extension, info
from focus_kernels._extension import _C


def backends(**reasons):
    return {name: SimpleNamespace(why_not=lambda *args, why=why: why) for name, why in reasons.items()}


def test_the_first_that_can(monkeypatch):
    monkeypatch.setattr(_backends, "FORCED", None)
    some = backends(native=[], triton=[], ref=[])
    assert _backends.choose("op", some) is some["native"]
    some = backends(native=["is not built"], triton=[], ref=[])
    assert _backends.choose("op", some) is some["triton"]


def test_one_error_lists_every_reason(monkeypatch):
    monkeypatch.setattr(_backends, "FORCED", None)
    with pytest.raises(NotImplementedError) as error:
        _backends.choose("op", backends(native=["is not built", "C=9"], triton=["is not installed"]))
    lines = "op(): no backend can run these inputs\n  native: is not built; C=9\n  triton: is not installed"
    assert str(error.value) == lines


def test_forced_is_honoured_or_refused(monkeypatch):
    some = backends(native=["is not built"], ref=[])
    monkeypatch.setattr(_backends, "FORCED", "ref")
    assert _backends.choose("op", some) is some["ref"]
    monkeypatch.setattr(_backends, "FORCED", "native")
    with pytest.raises(NotImplementedError, match=r"\(FOCUS_BACKEND=native\)\n  native: is not built$"):
        _backends.choose("op", some)
    monkeypatch.setattr(_backends, "FORCED", "triton")
    with pytest.raises(NotImplementedError, match="FOCUS_BACKEND=triton is not among its backends: native, ref"):
        _backends.choose("op", some)
    monkeypatch.setattr(_backends, "FORCED", "cuda")
    with pytest.raises(ValueError, match="expected FOCUS_BACKEND to be one of native, triton, ref, got 'cuda'"):
        _backends.choose("op", some)


def test_environment_variable():
    code = "import torch, focus_kernels as fk; fk.shade_sh(*map(torch.zeros, [(1, 4, 3), (1, 4, 3), (1, 3, 9)]))"
    env = {**os.environ, "FOCUS_BACKEND": "fast"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stderr.endswith(
        "ValueError: shade_sh(): expected FOCUS_BACKEND to be one of native, triton, ref, got 'fast'\n"
    )


def test_the_compiled_kernels_say_why_not(monkeypatch):
    on = info._Probe
    monkeypatch.setattr(_extension, "_C", SimpleNamespace(cuda_archs=None))
    assert _extension.why_not(3, on("cpu")) == []
    assert _extension.why_not(on("cuda")) == ["focus_kernels._C was built without CUDA"]
    assert _extension.why_not(torch.zeros(1, device="meta")) == ["device meta (supported: cpu, cuda)"]
    monkeypatch.setattr(_extension, "_C", SimpleNamespace(cuda_archs="80-real"))
    assert _extension.why_not(on("cuda")) == []


def test_an_extension_that_does_not_load_is_no_error(monkeypatch):
    """It is one at the first call that has no other backend."""
    monkeypatch.delattr(fk, "_C", raising=False)
    monkeypatch.setitem(sys.modules, "focus_kernels._C", None)
    spec = importlib.util.spec_from_file_location("focus_kernels._extension_again", _extension.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    (reason,) = again.why_not(torch.zeros(1))
    assert reason.startswith("focus_kernels._C is not built (")
    assert "_C" in again._MISSING


@pytest.mark.parametrize("case", CASES, ids=str)
def test_default_backend_is_the_compiled_one(case, kernel, monkeypatch):
    """Without FOCUS_BACKEND a compiled module is used: its outputs are those of the forced one, bit for bit."""
    if kernel.name == "triton" and kernel.device == "cpu":
        pytest.skip("interpreted on request only")
    inputs = cast(case.inputs, torch.float32, kernel.device)
    forced = case.on(kernel.device)(**inputs)
    monkeypatch.setattr(_backends, "FORCED", None)
    for one, other in zip(case.on(kernel.device)(**inputs), forced, strict=True):
        assert_same_bits(one, other)


def test_public_names():
    assert set(fk.__all__) == {name for name in vars(fk) if not name.startswith("_")} - {
        "camera",
        "ops",
        "topology",
    } - {
        "compat",
        "info",
    }
    assert all(getattr(fk, name).__doc__ for name in fk.__all__)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_same_bits_for_every_instruction_set(instruction_sets, dtype, monkeypatch):
    from test_render_sh import MODES, gradients, prepared, render

    if len(instruction_sets) == 1:
        pytest.skip(f"this machine has {instruction_sets[0]} only")
    monkeypatch.setattr(_backends, "FORCED", "native")
    size = (61, 83)
    for mode in MODES:
        inputs, mesh, orthographic, options = prepared(mode, size, 2, 20, dtype, "cpu")
        first = None
        for name in instruction_sets:
            _C.set_cpu_isa(name)
            assert _C.cpu_isa() == name
            out = render(inputs, mesh, size, orthographic, **options)
            result = [out.image.detach(), *(tensor.detach() for tensor in out.raster), *gradients(out, inputs)]
            first = first or result
            for one, other in zip(result, first, strict=True):
                assert_same_bits(one, other, f"{mode}, {name}")
    # A soup of large and small triangles takes other paths than a smooth mesh.
    positions = torch.rand(2, 900, 3, generator=generator(0)).to(dtype) * torch.tensor([90.0, 70, 1]) + 1
    mesh = fk.Topology(torch.randint(900, (400, 3), generator=generator(1)), 900)
    first = None
    for name in instruction_sets:
        _C.set_cpu_isa(name)
        raster = fk.rasterize(positions, mesh, size, cull=None)
        first = first or raster
        for one, other in zip(raster, first, strict=True):
            assert_same_bits(one, other, name)
