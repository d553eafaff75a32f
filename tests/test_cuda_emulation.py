"""The emulation of CUDA finds what it is there to find, and the CUDA kernels give the bits of the CPU kernels on it.

The planted bugs of cuda_emulation/planted.cu are built and run by every plain `pytest`; what runs the kernels of csrc
needs a build with FOCUS_CUDA_EMULATION=ON (python scripts/check.py emulation).
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builds import build
from cases import CUDA_CASES
from gpu_small import SMALL
from meshes import cast, soup, topology
from test_contract import run
from test_render_sh import MODES, prepared, render
from tolerances import assert_accurate, assert_same_bits

import focus_kernels as fk
from focus_kernels import _backends, _extension

ROOT = Path(__file__).resolve().parents[1]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])

needs_emulation = pytest.mark.skipif(
    getattr(_extension._C, "cuda_emulation", None) is None,
    reason="the extension does not emulate CUDA (python scripts/check.py emulation)",
)

# ---- planted bugs


@pytest.fixture(scope="module")
def logged():
    """The build whose every load and store is logged."""
    return build("emulation", "planted", FOCUS_CUDA_EMULATION="ON") / "planted"


@pytest.fixture(scope="module")
def sanitized():
    return build("emulation-asan", "planted", FOCUS_CUDA_EMULATION="ON", FOCUS_SANITIZE="address") / "planted"


def planted(program, name, seed=1):
    env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=0"}
    done = subprocess.run([program, name, str(seed)], capture_output=True, text=True, env=env, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


SOUND = {
    "fill": "sum 2997",
    "splat": "sum 0",
    "neighbour": "sum 499732",
    "warp_neighbour": "sum 499508",
    "initialised": "sum 1000",
    "queue": "sum 256000",
    "within_shared": "sum 124716",
    "product": "sum 499500000",
    "dynamic": "sum 130284",
    "enough_shared": "sum 130284",
    "builtins": "sum 1000",
    "after_an_error": "sum 499732",
    "atomics": "int 1000\nint 999\nint -999\nint 1048575\nint -1048576\nint 8\nwon 1\nwide 1000\nleast 0\nreal 500\n",
}
LOGGED = {
    "pixel_race": r"splat_kernel[^:]*: race in global memory: thread .* writes \(planted.cu:\d+\), thread .* writes",
    "block_race": r"shift_kernel: race in global memory: .* (reads|writes) \(planted.cu:\d+\).* no barrier between",
    "missing_barrier": r"neighbour_kernel[^:]*: .*race in shared memory: thread .* the same bytes, with no barrier",
    "missing_warp_barrier": r"warp_neighbour_kernel[^:]*: .*race in shared memory: ",
    "uninitialised": r"uninitialised_kernel[^:]*: thread \(5, 0, 0\) of block .* reads \(planted.cu:\d+\) shared "
    "memory that no thread has written",
}
SANITIZED = {
    "out_of_bounds": r"heap-buffer-overflow.*WRITE of size 4.* in fill_kernel .*planted.cu:\d+",
    "beyond_shared": r"planted.cu:\d+:\d+: runtime error: index 256 out of bounds for type 'int \[256\]'",
    "beyond_dynamic": r"heap-buffer-overflow.*READ of size 4.* in beyond_dynamic_kernel .*planted.cu:\d+",
    "signed_overflow": r"planted.cu:\d+:\d+: runtime error: signed integer overflow: \d+ \* 10000000 cannot",
}
EITHER = {
    "deadlock": r"divergent_kernel: deadlock in block \(3, 0, 0\): 24 threads returned .*, 232 threads wait at "
    "__syncthreads",
    "half_warp": r"half_warp_kernel: deadlock in block .*: 128 threads returned .*, 128 threads wait in "
    "__shfl_xor_sync",
    "absent_lane": r"absent_lane_kernel: thread .* takes a value in __shfl_sync from lane 20, which does not take part",
    "too_many_threads": r"fill_kernel\(\): CUDA error: invalid configuration argument",
    "grid_too_high": r"fill_kernel\(\): CUDA error: invalid configuration argument",
    "grid_of_zero": r"fill_kernel\(\): CUDA error: invalid configuration argument",
    "too_much_shared": r"dynamic_kernel\(\): CUDA error: invalid argument",
    "second_device": r"cudaSetDevice\(\): CUDA error: invalid device ordinal",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_sound_kernels_pass(name, logged, sanitized):
    for program in (logged, sanitized):
        for seed in (1, 2):
            status, output = planted(program, name, seed)
            assert status == 0 and SOUND[name] in output, output


def assert_caught(program, name, pattern):
    for seed in (1, 2, 3):
        status, output = planted(program, name, seed)
        assert status != 0 and re.search(pattern, output, re.DOTALL), output


@pytest.mark.slow
@pytest.mark.parametrize("name", LOGGED)
def test_the_log_catches(name, logged):
    assert_caught(logged, name, LOGGED[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SANITIZED)
def test_the_sanitizers_catch(name, sanitized):
    assert_caught(sanitized, name, SANITIZED[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", EITHER)
def test_both_builds_catch(name, logged, sanitized):
    for program in (logged, sanitized):
        assert_caught(program, name, EITHER[name])


@pytest.mark.slow
def test_the_order_is_the_seeds(logged):
    """What depends on the order of threads shows when the seed changes, and comes again with the same seed."""
    first = [planted(logged, "order", seed)[1].splitlines()[0] for seed in (1, 2, 3, 4)]
    again = [planted(logged, "order", seed)[1].splitlines()[0] for seed in (1, 2, 3, 4)]
    assert first == again and len(set(first)) > 2


# ---- the kernels of csrc


@pytest.fixture
def forced(monkeypatch):
    monkeypatch.setattr(_backends, "FORCED", "native")


def everything(dtype):
    """Outputs and gradients of every op, mode and kernel (test_gpu_small.py proves the last)."""
    tensors = []
    for case in (*CUDA_CASES, *SMALL):
        outputs, grads = run(case.on("cpu"), cast(case.inputs, dtype, "cpu", grad=True))
        tensors += [*outputs, *grads.values()]
    return tensors


@needs_emulation
@DTYPES
def test_same_bits_in_every_order(forced, dtype):
    _extension._C.cuda_emulation.set_seed(1)
    want = everything(dtype)
    for seed in (2, 3, 4):
        _extension._C.cuda_emulation.set_seed(seed)
        for one, other in zip(everything(dtype), want, strict=True):
            assert_same_bits(one, other)


@pytest.fixture(scope="module")
def installed():
    """The extension that pip built, for the CPU, beside the emulated one."""
    files = list((ROOT / "focus_kernels").glob("_C.*.so"))
    if len(files) != 1:
        pytest.skip("the extension for the CPU is not built in place")
    spec = importlib.util.spec_from_file_location("installed._C", files[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on(extension, monkeypatch, call):
    """The call with another extension in every module that holds one."""
    emulated = _extension._C
    with monkeypatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("focus_kernels.") and getattr(module, "_C", None) is emulated:
                patch.setattr(module, "_C", extension)
        return call()


@needs_emulation
@DTYPES
@pytest.mark.parametrize("case", [*CUDA_CASES, *SMALL], ids=str)
def test_agrees_with_the_cpu(case, dtype, forced, installed, monkeypatch):
    """Equal bits forward; gradients, which are added in another order, as near to float64 as the CPU's."""
    inputs = cast(case.inputs, torch.float32, "cpu")
    call = lambda dtype: lambda: run(case.on("cpu"), cast(inputs, dtype, "cpu", grad=True))
    got, got_grads = call(dtype)()
    want, _ = on(installed, monkeypatch, call(dtype))
    for k, (one, other) in enumerate(zip(got, want, strict=True)):
        assert_same_bits(one, other, f"output {k}")
    _, plain = on(installed, monkeypatch, call(torch.float32))
    _, exact = on(installed, monkeypatch, call(torch.float64))
    for name, grad in got_grads.items():
        assert_accurate(grad, plain[name], exact[name], name)


@needs_emulation
@DTYPES
@pytest.mark.parametrize("mode", MODES)
def test_same_picture_as_the_cpu(mode, dtype, forced, installed, monkeypatch):
    size = (117, 90)

    def picture():
        inputs, mesh, orthographic, options = prepared(mode, size, 2, 20, dtype, "cpu")
        out = render(inputs, mesh, size, orthographic, **options)
        return [out.image.detach(), out.mask, *(tensor.detach() for tensor in out.raster)]

    for one, other in zip(picture(), on(installed, monkeypatch, picture), strict=True):
        assert_same_bits(one, other)


@needs_emulation
@DTYPES
@pytest.mark.parametrize("scale", [0.05, 0.4, 4.0])
@pytest.mark.parametrize("perspective", [True, False])
def test_same_raster_as_the_cpu(dtype, scale, perspective, forced, installed, monkeypatch):
    """Triangles of every size, half of their vertices on sample points."""
    size = (67, 51)
    positions, faces = soup(3, 2, 150, size, scale)
    odd = torch.arange(450)[:, None] % 2 > 0
    positions[..., :2] = torch.where(odd, positions[..., :2].round() + 0.5, positions[..., :2])
    mesh = topology(faces, 450)
    picture = lambda: fk.rasterize(positions.to(dtype), mesh, size, cull=None, perspective_correct=perspective)
    for one, other in zip(picture(), on(installed, monkeypatch, picture), strict=True):
        assert_same_bits(one, other)
