"""Tensors with more than 2^31 elements, and torch's own compiler. Slow: run with `pytest -m slow`."""

import os

import pytest
import torch
from meshes import scene, topology, triangles

import focus_kernels as fk
from focus_kernels import _backends

pytestmark = pytest.mark.slow


def needs(device: str, gigabytes: float) -> None:
    if device == "cuda":
        free = torch.cuda.mem_get_info()[0]
    else:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < gigabytes * 1e9:
        pytest.skip(f"needs {gigabytes:.0f} GB of free {device} memory, has {free / 1e9:.0f}")


@pytest.fixture
def native(device, monkeypatch):
    from focus_kernels.ops.rasterize import native

    reasons = native.why_not(torch.zeros(1, device=device))
    if reasons:
        pytest.skip("; ".join(reasons))
    monkeypatch.setattr(_backends, "FORCED", "native")
    return device


def test_interpolate_many_channels(native):
    """Output offsets past int32: C * H * W = 2^31 + 4096, of which the last channels are looked at."""
    C, size = 2**19 + 1, (64, 64)
    needs(native, 4 * C * 64 * 64 / 1e9 + 1)
    mesh = topology([[0, 1, 2]], 3, native)
    positions = triangles([(-200, -200), (-200, 400), (400, -200)]).float().to(native)
    raster = fk.rasterize(positions, mesh, size)
    attributes = torch.zeros(1, 3, C, device=native)
    attributes[0, :, -2:] = torch.tensor([[1.0, 2], [3, 5], [7, 11]], device=native)
    with torch.no_grad():
        tail = fk.interpolate(attributes, raster, mesh)[:, -2:].clone()
    assert torch.equal(tail, fk.interpolate(attributes[..., -2:], raster, mesh))


def test_vertex_normals_many_images(native):
    """Input offsets past int32: B * V * 3 = 2^31 + 1536, of which the last images are looked at."""
    B, V = 2**31 // (3 * 512) + 2, 512
    needs(native, 2 * 4 * B * V * 3 / 1e9 + 1)
    faces = torch.tensor([[0, 1, 2], [0, 2, V - 1]])
    mesh = topology(faces, V, native)
    last = torch.randn(2, V, 3, generator=torch.Generator().manual_seed(0)).to(native)
    vertices = torch.zeros(B, V, 3, device=native)
    vertices[-2:] = last
    assert torch.equal(fk.vertex_normals(vertices, mesh)[-2:], fk.vertex_normals(last, mesh))


def test_rasterize_many_pixels(native):
    """Barycentric offsets past int32: B * H * W * 3 = 2^31 + 24576, of which the last image is looked at."""
    size = (8192, 8192)
    B = 2**31 // (3 * 8192 * 8192) + 1
    needs(native, B * 8192 * 8192 * 36 / 1e9)
    mesh = topology([[0, 1, 2]], 3, native)
    positions = triangles([(8000, 8000), (8000, 8190), (8190, 8000)]).float().to(native)
    raster = fk.rasterize(positions.expand(B, -1, -1), mesh, size)
    corner = fk.rasterize(positions - torch.tensor([7936.0, 7936, 0], device=native), mesh, (256, 256))
    for got, want in zip(raster, corner, strict=True):
        assert torch.equal(got[-1, 7936:, 7936:], want[0])


@pytest.mark.parametrize("name", ["native", "ref"])
def test_inductor(device, name, monkeypatch):
    """torch.compile with its default compiler, forward and backward."""
    from focus_kernels.ops.rasterize import native

    if name == "native" and native.why_not(torch.zeros(1, device=device)):
        pytest.skip("; ".join(native.why_not(torch.zeros(1, device=device))))
    monkeypatch.setattr(_backends, "FORCED", name)
    size = (24, 24)
    tensors = {key: value.to(device) for key, value in scene(1, 2, 6, size).items()}
    mesh = fk.Topology(tensors.pop("faces"), tensors["vertices"].shape[1])

    def loss(vertices, albedo, sh_coeffs, K, R, t):
        out = fk.render_sh(vertices * 1.01, albedo, sh_coeffs, mesh, fk.Camera(K, R, t), size)
        return (out.image**2).sum() + (out.raster.depth * out.mask[:, 0]).mean() + out.positions.mean()

    inputs = [value.requires_grad_() for value in tensors.values()]
    want = torch.autograd.grad(loss(*inputs), inputs)
    torch.compiler.reset()
    got = torch.autograd.grad(torch.compile(loss, fullgraph=True)(*inputs), inputs)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()))
