"""The kernels among other threads and processes: Python threads, DataLoader workers, torch's deterministic mode."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from meshes import scene, topology
from test_render_sh import gradients, prepared, render
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels import _backends
from focus_kernels.ops.rasterize import native

SIZE = (61, 83)


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    reasons = native.why_not(torch.zeros(1))
    if reasons:
        pytest.skip("; ".join(reasons))
    monkeypatch.setattr(_backends, "FORCED", "native")


def picture() -> list[torch.Tensor]:
    inputs, mesh, orthographic, options = prepared("default", SIZE, 2, 16, torch.float32, "cpu")
    out = render(inputs, mesh, SIZE, orthographic, **options)
    return [out.image.detach(), *(tensor.detach() for tensor in out.raster), *gradients(out, inputs)]


def test_python_threads():
    """Calls from several Python threads at once do not disturb each other."""
    want = picture()
    with ThreadPoolExecutor(4) as pool:
        for got in pool.map(lambda _: picture(), range(12)):
            for one, other in zip(got, want, strict=True):
                assert_same_bits(one, other)


class Faces(torch.utils.data.Dataset):
    def __init__(self):
        tensors = scene(4, 3, 12, SIZE)
        self.positions = fk.Camera(tensors["K"], tensors["R"], tensors["t"]).project(tensors["vertices"])
        self.mesh = topology(tensors["faces"], self.positions.shape[1])

    def __len__(self):
        return len(self.positions)

    def __getitem__(self, index):
        return fk.rasterize(self.positions[index : index + 1], self.mesh, SIZE).depth[0]


def test_dataloader_workers(threads):
    """A forked worker, after the parent's pool has run, gives the parent's bits."""
    threads(2)
    faces = Faces()
    want = fk.rasterize(faces.positions, faces.mesh, SIZE).depth
    loader = torch.utils.data.DataLoader(faces, batch_size=1, num_workers=1, multiprocessing_context="fork")
    assert_same_bits(torch.cat(list(loader)), want)


def test_deterministic_mode():
    """Nothing refuses torch.use_deterministic_algorithms, which also fills empty tensors."""
    want = picture()
    torch.use_deterministic_algorithms(True)
    try:
        got = picture()
    finally:
        torch.use_deterministic_algorithms(False)
    for one, other in zip(got, want, strict=True):
        assert_same_bits(one, other)
