"""What every op promises, over the table of cases.py: gradients, dtypes, layouts, compilers, determinism."""

from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from cases import CASES, Case
from meshes import cast, generator
from tolerances import assert_accurate, assert_same_bits
from torch._subclasses.fake_tensor import FakeTensorMode

from focus_kernels import _backends, _extension
from focus_kernels.ops.rasterize import ref

every_case = pytest.mark.parametrize("case", CASES, ids=str)
kernel_case = pytest.mark.parametrize("case", CASES, ids=str)


def cotangents_of(outputs) -> list[torch.Tensor]:
    return [torch.randn(out.shape, generator=generator(3), dtype=torch.float64).to(out) for out in outputs]


def run(call: Callable, inputs: dict) -> tuple[list, dict]:
    """Outputs of a case, and the gradient of each input under random cotangents."""
    outputs = call(**inputs)
    grads = torch.autograd.grad(outputs, list(inputs.values()), cotangents_of(outputs))
    return [out.detach() for out in outputs], dict(zip(inputs, grads, strict=True))


def run_ref(case: Case, inputs: dict, dtype: torch.dtype, monkeypatch) -> tuple[list, dict]:
    """The definition in `dtype` throughout: its rasterizer widens to float64, which would flatter float32."""

    def narrow(positions, faces, H, W, coverage, cull, perspective, highest):
        face_index = ref._VISIBLE(positions.detach(), faces, H, W, coverage, cull, perspective, highest)
        return face_index, *ref.at_pixels(positions, faces, face_index, perspective)

    with monkeypatch.context() as patch:
        patch.setattr(_backends, "FORCED", "ref")
        patch.setattr(ref, "forward", narrow)
        return run(case.on("cpu"), cast(inputs, dtype, "cpu", grad=True))


@every_case
def test_gradcheck(case, backend):
    call = case.on(backend.device)
    inputs = cast(case.inputs, torch.float64, backend.device, grad=True)
    names = list(inputs)
    positional = lambda *values: call(**dict(zip(names, values, strict=True)))
    # Where torch differentiates by itself, and where a call is a hundred times as long, a projection will do.
    slow = (backend.name, backend.device) == ("triton", "cpu") or getattr(_extension._C, "cuda_emulation", None)
    quick = backend.name == "ref" or bool(slow)
    assert torch.autograd.gradcheck(positional, tuple(inputs.values()), fast_mode=quick)


@kernel_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_matches_ref(case, kernel, dtype, monkeypatch):
    # 24 variations, rounded to float32, so that the largest errors compared are those of a sample, not of one draw;
    # six where a kernel is interpreted.
    repeats = 2 if (kernel.name, kernel.device) == ("triton", "cpu") else 8
    inputs = {
        name: value if name in case.unbatched else torch.cat([value] * repeats) for name, value in case.inputs.items()
    }
    noise = {name: torch.randn(value.shape, generator=generator(4)) for name, value in inputs.items()}
    inputs = {name: (value * (1 + 1e-2 * noise[name])).float() for name, value in inputs.items()}
    outputs, grads = run(case.on(kernel.device), cast(inputs, dtype, kernel.device, grad=True))
    plain, plain_grads = run_ref(case, inputs, torch.float32, monkeypatch)
    exact, exact_grads = run_ref(case, inputs, torch.float64, monkeypatch)
    rows = [(f"output {i}", *row) for i, row in enumerate(zip(outputs, plain, exact, strict=True))]
    rows += [(f"grad_{name}", grads[name], plain_grads[name], exact_grads[name]) for name in grads]
    for what, got, near, true in rows:
        assert_accurate(got.cpu(), near, true, what)


@kernel_case
def test_second_derivative_is_an_error(case, kernel):
    call = case.on(kernel.device)
    inputs = cast(case.inputs, torch.float64, kernel.device, grad=True)
    outputs = call(**inputs)
    total = sum((out**2).sum() for out in outputs)
    grads = torch.autograd.grad(total, list(inputs.values()), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        sum(grad.sum() for grad in grads).backward()


@kernel_case
def test_opcheck(case, kernel, monkeypatch):
    call = case.on(kernel.device)
    op = import_module(f"focus_kernels.ops.{case.op}.op")
    recorded = []
    for name in ("_FORWARD", "_BACKWARD"):
        raw = getattr(op, name)
        monkeypatch.setattr(op, name, lambda *args, raw=raw: recorded.append((raw, args)) or raw(*args))
    run(call, cast(case.inputs, torch.float32, kernel.device, grad=True))
    assert len(recorded) == 2
    for raw, args in recorded:
        args = [value.detach() if isinstance(value, torch.Tensor) else value for value in args]
        torch.library.opcheck(raw, tuple(args))


@every_case
def test_fake_tensors(case, backend):
    call = case.on(backend.device)
    inputs = cast(case.inputs, torch.float32, backend.device)
    real = call(**inputs)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = call(**{name: mode.from_tensor(value) for name, value in inputs.items()})
    for one, other in zip(fake, real, strict=True):
        assert (one.shape, one.dtype, one.device, one.stride()) == (
            other.shape,
            other.dtype,
            other.device,
            other.stride(),
        )


@every_case
def test_compile(case, kernel):
    assert_compiles(case, kernel.device)


@pytest.mark.slow
@every_case
@pytest.mark.parametrize("backend", [("ref", "cpu")], indirect=True, ids="-".join)
def test_compile_of_the_definition(case, backend):
    assert_compiles(case, backend.device)


def assert_compiles(case, device):
    call = case.on(device)
    torch.compiler.reset()
    inputs = cast(case.inputs, torch.float64, device, grad=True)
    outputs, grads = run(call, inputs)
    got, got_grads = run(torch.compile(call, fullgraph=True, backend="aot_eager"), inputs)
    for one, other in zip([*got, *got_grads.values()], [*outputs, *grads.values()], strict=True):
        # The compiler may reorder the sums of plain torch (ref, and the expanded camera), not those of a kernel.
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", [case for case in CASES if case.name == "render_sh-perspective"], ids=str)
def test_compile_with_dynamic_shapes(case, kernel):
    call = case.on(kernel.device)
    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=True)
    inputs = cast(case.inputs, torch.float64, kernel.device, grad=True)
    for B in (3, 2):
        part = {name: value[:B].detach().requires_grad_() for name, value in inputs.items()}
        (got, got_grads), (want, want_grads) = run(compiled, part), run(call, part)
        for one, other in zip([*got, *got_grads.values()], [*want, *want_grads.values()], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@every_case
def test_autocast(case, backend):
    call = case.on(backend.device)
    inputs = cast(case.inputs, torch.bfloat16, backend.device, grad=True)
    wide = {name: value.detach().float().requires_grad_() for name, value in inputs.items()}

    def under_autocast(**inputs):
        with torch.autocast(backend.device, dtype=torch.bfloat16):
            return call(**inputs)

    outputs, grads = run(under_autocast, inputs)
    want, want_grads = run(call, wide)
    for one, other in zip(outputs, want, strict=True):
        assert one.dtype == torch.float32
        assert_same_bits(one.detach(), other.detach())
    for name in grads:
        assert grads[name].dtype == torch.bfloat16
        assert_same_bits(grads[name].float(), want_grads[name].bfloat16().float(), name)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_has_sums_in_float32(case, backend, dtype):
    if not case.half:
        pytest.skip("the op takes half precision inside autocast only")
    call = case.on(backend.device)
    inputs = cast(case.inputs, dtype, backend.device, grad=True)
    wide = {name: value.detach().float().requires_grad_() for name, value in inputs.items()}
    (outputs, grads), (want, want_grads) = run(call, inputs), run(call, wide)
    for one, other in zip(outputs, want, strict=True):
        assert_same_bits(one, other)
    for name in grads:
        assert grads[name].dtype == dtype
        assert_same_bits(grads[name].float(), want_grads[name].to(dtype).float(), name)


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64], ids=str)
def test_other_dtypes_are_an_error(case, backend, dtype):
    if case.half and dtype.is_floating_point:
        pytest.skip("the op takes it")
    call = case.on(backend.device)
    inputs = {name: value.to(dtype) for name, value in cast(case.inputs, torch.float32, backend.device).items()}
    expected = "float32, float64, float16 or bfloat16" if case.half else "float32 or float64"
    with pytest.raises(TypeError, match=rf"\w+\(\): expected [\w.]+ to be {expected}, got "):
        call(**inputs)


@every_case
def test_mixed_dtypes_are_an_error(case, backend):
    call = case.on(backend.device)
    inputs = cast(case.inputs, torch.float32, backend.device)
    if len(inputs) == 1:
        pytest.skip("one floating input")
    for name in inputs:
        mixed = {**inputs, name: inputs[name].double()}
        with pytest.raises(TypeError, match=r"\w+\(\): expected [\w.]+ to be float(32|64) as [\w.]+, got float(32|64)"):
            call(**mixed)


@every_case
def test_strided_and_expanded_inputs(case, backend):
    call = case.on(backend.device)
    inputs = cast(case.inputs, torch.float64, backend.device, grad=True)
    outputs, grads = run(call, inputs)
    strided = {}
    for name, value in inputs.items():
        # Every other element of a transposed tensor of NaN.
        space = torch.full(
            [2 * size for size in reversed(value.shape)], torch.nan, dtype=value.dtype, device=value.device
        )
        view = space[(slice(1, None, 2),) * value.dim()].permute(*reversed(range(value.dim())))
        strided[name] = view.copy_(value.detach()).requires_grad_()
        assert not strided[name].is_contiguous()
    got, got_grads = run(call, strided)
    for one, other in zip([*got, *got_grads.values()], [*outputs, *grads.values()], strict=True):
        assert_same_bits(one.detach(), other.detach())

    whole = {
        name: value if name in case.unbatched else value[:1].expand(3, *value.shape[1:])
        for name, value in cast(case.inputs, torch.float64, backend.device).items()
    }
    copies = {name: value.clone() for name, value in whole.items()}
    for one, other in zip(call(**whole), call(**copies), strict=True):
        assert_same_bits(one, other)


@every_case
def test_empty_batch(case, backend):
    call = case.on(backend.device)
    full = cast(case.inputs, torch.float32, backend.device)
    inputs = {name: (value if name in case.unbatched else value[:0]).requires_grad_() for name, value in full.items()}
    outputs, grads = run(call, inputs)
    for out, want in zip(outputs, call(**full), strict=True):
        assert out.shape == (want.shape if case.reduced else (0, *want.shape[1:]))
        assert not case.reduced or out == 0
    for name, grad in grads.items():
        assert grad.shape == inputs[name].shape and not grad.abs().sum()


@kernel_case
def test_same_bits_from_run_to_run_and_per_image(case, kernel):
    call = case.on(kernel.device)
    inputs = cast(case.inputs, torch.float32, kernel.device, grad=True)
    outputs, grads = run(call, inputs)
    again, again_grads = run(call, inputs)
    for one, other in zip([*again, *again_grads.values()], [*outputs, *grads.values()], strict=True):
        assert_same_bits(one, other)
    cotangents = cotangents_of(outputs)
    for b in range(0 if case.reduced else 3):
        single = {
            name: (value if name in case.unbatched else value[b : b + 1]).detach().requires_grad_()
            for name, value in inputs.items()
        }
        out = call(**single)
        own = [name for name in single if name not in case.unbatched]
        grad = torch.autograd.grad(
            out, [single[name] for name in own], [cotangent[b : b + 1] for cotangent in cotangents]
        )
        for one, other in zip([*out, *grad], [*outputs, *(grads[name] for name in own)], strict=True):
            assert_same_bits(one.detach(), other[b : b + 1].detach(), f"image {b}")
