"""What only a GPU can show: the same faces as on the CPU, graphs, streams, and no waiting for the host."""

import pytest
import torch
from meshes import soup, topology
from test_render_sh import MODES, NAMES, gradients, prepared, render
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels import _backends
from focus_kernels.ops.rasterize import native

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
MODE = pytest.mark.parametrize("mode", MODES)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    reasons = native.why_not(torch.zeros(1, device="cuda"))
    if reasons:
        pytest.skip("; ".join(reasons))
    monkeypatch.setattr(_backends, "FORCED", "native")


@MODE
@DTYPES
def test_same_faces_as_on_the_cpu(mode, dtype):
    size = (117, 90)
    seen = []
    for device in ("cpu", "cuda"):
        inputs, mesh, orthographic, options = prepared(mode, size, 4, 40, dtype, device)
        out = render(inputs, mesh, size, orthographic, **options)
        seen.append((out.raster.face_index.cpu(), out.mask.cpu()))
    for one, other in zip(*seen, strict=True):
        assert_same_bits(one, other)


@DTYPES
@pytest.mark.parametrize("scale", [0.05, 0.4, 4.0])
@pytest.mark.parametrize("perspective", [True, False])
def test_same_raster_as_on_the_cpu(dtype, scale, perspective):
    size = (131, 67)
    positions, faces = soup(3, 3, 500, size, scale)
    positions[..., :2] = torch.where(
        torch.arange(1500)[:, None] % 2 > 0, positions[..., :2].round() + 0.5, positions[..., :2]
    )
    rasters = []
    for device in ("cpu", "cuda"):
        mesh = topology(faces, 1500, device)
        raster = fk.rasterize(positions.to(device, dtype), mesh, size, cull=None, perspective_correct=perspective)
        rasters.append([tensor.cpu() for tensor in raster])
    for one, other in zip(*rasters, strict=True):
        assert_same_bits(one, other)


@MODE
def test_graph_capture(mode):
    """Forward and backward replay in a CUDA graph, on new inputs, with the bits of a plain call."""
    size = (64, 48)
    inputs, mesh, orthographic, options = prepared(mode, size, 2, 12, torch.float32, "cuda")
    leaves = [inputs[name] for name in NAMES]

    def step():
        out = render(inputs, mesh, size, orthographic, **options)
        return [out.image, out.raster.face_index, *torch.autograd.grad((out.image**2).sum(), leaves)]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        inputs["vertices"] += 5
        inputs["t"] += 3
    graph.replay()
    replayed = [tensor.detach().clone() for tensor in captured]
    for one, other in zip(replayed, step(), strict=True):
        assert_same_bits(one, other.detach())


@MODE
def test_no_host_synchronisation(mode):
    size = (64, 48)
    inputs, mesh, orthographic, options = prepared(mode, size, 2, 12, torch.float32, "cuda")
    gradients(render(inputs, mesh, size, orthographic, **options), inputs)  # allocations and module loading
    leaves = [inputs[name] for name in NAMES]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad((render(inputs, mesh, size, orthographic, **options).image ** 2).sum(), leaves)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_runs_on_the_current_stream():
    """Inputs that a slow kernel writes on a side stream are waited for there, not read early."""
    size = (64, 48)
    inputs, mesh, orthographic, _ = prepared("default", size, 2, 12, torch.float32, "cuda")
    want = render(inputs, mesh, size, orthographic).image
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        late = torch.full_like(inputs["vertices"], torch.nan)
        torch.cuda._sleep(50_000_000)
        late.copy_(inputs["vertices"])
        got = render({**inputs, "vertices": late}, mesh, size, orthographic).image
    side.synchronize()
    assert_same_bits(got.detach(), want.detach())
