"""The CUDA kernels against the CPU kernels: equal bits forward, equal accuracy backward, and one answer, always."""

from functools import partial

import pytest
import torch
from cases import CUDA_CASES
from gpu_small import SMALL
from meshes import cast, generator, soup, topology
from test_contract import run
from test_render_sh import MODES, NAMES, gradients, prepared, render
from tolerances import assert_accurate, assert_same_bits

import focus_kernels as fk
from focus_kernels import _backends
from focus_kernels.ops.rasterize import native

GPU = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    reasons = native.why_not(torch.zeros(1, device=GPU))
    if reasons:
        pytest.skip("; ".join(reasons))
    monkeypatch.setattr(_backends, "FORCED", "native")


def outputs_and_gradients(call, tensors, dtype, device):
    """Of a call(device, **inputs), moved to the CPU; the inputs have float32 values, whatever their dtype."""
    inputs = cast(cast(tensors, torch.float32, device), dtype, device, grad=True)
    outputs, grads = run(partial(call, device), inputs)
    return [out.cpu() for out in outputs], {name: grad.cpu() for name, grad in grads.items()}


def assert_agree(call, tensors, dtype):
    """Equal outputs; gradients, which are added in another order, as near to float64 as the CPU's."""
    got, got_grads = outputs_and_gradients(call, tensors, dtype, GPU)
    want, _ = outputs_and_gradients(call, tensors, dtype, "cpu")
    for k, (one, other) in enumerate(zip(got, want, strict=True)):
        assert_same_bits(one, other, f"output {k}")
    _, plain = outputs_and_gradients(call, tensors, torch.float32, "cpu")
    _, exact = outputs_and_gradients(call, tensors, torch.float64, "cpu")
    for name, grad in got_grads.items():
        assert_accurate(grad, plain[name], exact[name], name)


@DTYPES
@pytest.mark.parametrize("case", [*CUDA_CASES, *SMALL], ids=str)
def test_every_op(case, dtype):
    assert_agree(lambda device, **inputs: case.on(device)(**inputs), case.inputs, dtype)


@DTYPES
@pytest.mark.parametrize("perspective", [True, False])
@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_triangles_of_every_size(scale, perspective, dtype):
    """Boxes below and above the number of samples that one thread takes on, in the forward and in the backward."""
    size, F = (70, 90), 40
    positions, faces = soup(8, 2, F, size, scale)
    attributes = torch.randn(2, 3 * F, 6, generator=generator(9), dtype=torch.float64)

    def call(device, positions, attributes):
        mesh = topology(faces, 3 * F, device)
        raster = fk.rasterize(positions, mesh, size, cull=None, perspective_correct=perspective)
        return raster.barycentrics, raster.depth, fk.interpolate(attributes, raster, mesh)

    assert_agree(call, {"positions": positions, "attributes": attributes}, dtype)


@DTYPES
def test_two_triangles_over_the_whole_image(dtype):
    size = (100, 130)
    xy = torch.tensor([[-7.0, -9], [-7, 111], [140, -9], [140, 111]])
    positions = torch.cat([xy, torch.tensor([[2.0], [3], [4], [5]])], 1)[None]
    attributes = torch.randn(1, 4, 3, generator=generator(4))

    def call(device, positions, attributes):
        mesh = topology([[0, 1, 2], [2, 1, 3]], 4, device)
        raster = fk.rasterize(positions, mesh, size)
        assert bool((raster.face_index >= 0).all())
        return raster.barycentrics, raster.depth, fk.interpolate(attributes, raster, mesh)

    assert_agree(call, {"positions": positions, "attributes": attributes}, dtype)


def everything(mode, dtype, device):
    """All outputs and gradients of render_sh on one scene."""
    size = (90, 117)
    inputs, mesh, orthographic, options = prepared(mode, size, 4, 40, dtype, device)
    out = render(inputs, mesh, size, orthographic, **options)
    grads = dict(zip(NAMES, gradients(out, inputs), strict=True))
    return {"image": out.image.detach(), "positions": out.positions.detach(), **seen(out), **grads}


def seen(out):
    return {name: tensor.detach() for name, tensor in out.raster._asdict().items()}


@pytest.mark.parametrize("mode", MODES)
@DTYPES
def test_same_bits_from_run_to_run(mode, dtype):
    first = everything(mode, dtype, GPU)
    for _ in range(3):
        for name, value in everything(mode, dtype, GPU).items():
            assert_same_bits(value, first[name], name)


def test_forward_of_render_sh_has_the_bits_of_the_cpu():
    for mode in MODES:
        got, want = (everything(mode, torch.float32, device) for device in (GPU, "cpu"))
        for name in ("image", "positions", "face_index", "barycentrics", "depth"):
            assert_same_bits(got[name].cpu(), want[name], f"{mode}: {name}")


@DTYPES
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_second_device(case, dtype):
    """Tensors of a GPU that is not the current one: computed there, with the same bits."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device")
    seen = []
    for device in ("cuda:0", "cuda:1"):
        outputs, grads = run(case.on(device), cast(case.inputs, dtype, device, grad=True))
        assert torch.cuda.current_device() == 0
        assert {value.device for value in (*outputs, *grads.values())} == {torch.device(device)}
        seen.append([value.cpu() for value in (*outputs, *grads.values())])
    for k, (one, other) in enumerate(zip(*seen, strict=True)):
        assert_same_bits(other, one, f"tensor {k}")
