"""What only a GPU can show: the same faces as on the CPU, graphs, streams, and no waiting for the host."""

import re

import pytest
import torch
from gpu_small import KERNELS_OF, SMALL
from meshes import cast, soup, topology
from test_contract import cotangents_of
from test_render_sh import MODES, NAMES, gradients, prepared, render
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels import _backends
from focus_kernels.ops.rasterize import native

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
MODE = pytest.mark.parametrize("mode", MODES)
EVERY_OP = pytest.mark.parametrize("case", SMALL, ids=str)
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


class Step:
    """Forward and backward of a case, all on the GPU before it is called, so that it can be captured."""

    def __init__(self, case, dtype=torch.float32):
        self.call = case.on("cuda")
        self.inputs = cast(case.inputs, dtype, "cuda", grad=True)
        self.cotangents = cotangents_of(self.call(**self.inputs))

    def __call__(self):
        outputs = self.call(**self.inputs)
        grads = torch.autograd.grad(outputs, list(self.inputs.values()), self.cotangents)
        return [tensor.detach() for tensor in (*outputs, *grads)]

    def change(self):
        """Other inputs, in the same memory."""
        with torch.no_grad():
            for value in self.inputs.values():
                value *= 1.03


def assert_all_same(got, want):
    for k, (one, other) in enumerate(zip(got, want, strict=True)):
        assert_same_bits(one.detach(), other.detach(), f"tensor {k}")


def capture(step):
    """A graph of the step, and the tensors that each replay writes."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    return graph, captured


@EVERY_OP
@DTYPES
def test_graph_capture(case, dtype):
    """Forward and backward replay in a CUDA graph, on new inputs, with the bits of a plain call."""
    step = Step(case, dtype)
    before = step()
    graph, captured = capture(step)
    for _ in range(2):
        step.change()
        graph.replay()
        replayed = [tensor.clone() for tensor in captured]
        assert_all_same(replayed, step())
    assert any(not torch.equal(one, other) for one, other in zip(replayed, before, strict=True))


@MODE
def test_graph_capture_of_render_sh(mode):
    """With a loss that torch differentiates, and on a camera that moves."""
    size = (64, 48)
    inputs, mesh, orthographic, options = prepared(mode, size, 2, 12, torch.float32, "cuda")
    leaves = [inputs[name] for name in NAMES]

    def step():
        out = render(inputs, mesh, size, orthographic, **options)
        return [out.image, out.raster.face_index, *torch.autograd.grad((out.image**2).sum(), leaves)]

    graph, captured = capture(step)
    with torch.no_grad():
        inputs["vertices"] += 5
        inputs["t"] += 3
    graph.replay()
    assert_all_same([tensor.detach().clone() for tensor in captured], step())


@EVERY_OP
@DTYPES
def test_no_host_synchronisation(case, dtype):
    step = Step(case, dtype)
    step()  # allocations and module loading
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@MODE
def test_no_host_synchronisation_of_render_sh(mode):
    size = (64, 48)
    inputs, mesh, orthographic, options = prepared(mode, size, 2, 12, torch.float32, "cuda")
    gradients(render(inputs, mesh, size, orthographic, **options), inputs)
    leaves = [inputs[name] for name in NAMES]
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.autograd.grad((render(inputs, mesh, size, orthographic, **options).image ** 2).sum(), leaves)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def late(tensors):
    """Copies that a slow kernel of the current stream holds back; who does not wait for it reads NaN."""
    copies = [torch.full_like(tensor, torch.nan) for tensor in tensors]
    torch.cuda._sleep(20_000_000)
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor.detach())
    return copies


@EVERY_OP
@DTYPES
def test_runs_on_the_current_stream(case, dtype):
    """What a slow kernel writes on a side stream is waited for there, in the forward and in the backward."""
    step = Step(case, dtype)
    want = step()
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        inputs = [value.requires_grad_() for value in late(step.inputs.values())]
        outputs = step.call(**dict(zip(step.inputs, inputs, strict=True)))
        got = [*outputs, *torch.autograd.grad(outputs, inputs, late(step.cotangents))]
    side.synchronize()
    assert_all_same(got, want)


@EVERY_OP
def test_two_streams_at_once(case):
    """Calls that run beside each other on the GPU share no scratch memory."""
    steps = [Step(case), Step(case)]
    steps[1].change()
    want = [step() for step in steps]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in steps]
    got = [[], []]
    for stream in streams:
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)  # both have work queued before either begins
    for _ in range(4):
        for k, (step, stream) in enumerate(zip(steps, streams, strict=True)):
            with torch.cuda.stream(stream):
                got[k].append(step())
    torch.cuda.synchronize()
    for runs, expected in zip(got, want, strict=True):
        for run in runs:
            assert_all_same(run, expected)


@EVERY_OP
@DTYPES
def test_backward_may_be_repeated(case, dtype):
    """It leaves what the forward saved as it was: twice the same bits, and again after another forward."""
    step = Step(case, dtype)
    leaves = list(step.inputs.values())
    outputs = step.call(**step.inputs)
    backward = lambda: torch.autograd.grad(outputs, leaves, step.cotangents, retain_graph=True)
    first = backward()
    assert_all_same(backward(), first)
    step()
    assert_all_same(backward(), first)


@DTYPES
def test_small_cases_reach_every_kernel(dtype):
    """The kernels that gpu_small.py says it reaches, and so compute-sanitizer sees, are launched."""
    for case, kernels in KERNELS_OF:
        step = Step(case, dtype)
        step()
        with torch.profiler.profile() as profile:
            step()
            torch.cuda.synchronize()
        seen = " ".join(event.key for event in profile.key_averages())
        if not re.search(r"_kernel\b", seen):
            pytest.skip("the profiler sees no kernels here")
        missing = [kernel for kernel in kernels if not re.search(rf"\b{kernel}\b", seen)]
        assert not missing, f"{case}: {missing} not launched"
