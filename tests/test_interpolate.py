"""interpolate against a loop over pixels, together with rasterize, and its arguments."""

import pytest
import torch
from meshes import generator, scene, soup, topology
from tolerances import assert_same_bits

import focus_kernels as fk

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def drawn(B, V, C, F, size, dtype, device):
    g = generator(C)
    attributes = torch.randn(B, V, C, generator=g, dtype=torch.float64).to(device, dtype)
    faces = torch.randint(max(V, 1), (F, 3), generator=g)
    face_index = torch.randint(-1, F, (B, *size), generator=g).int().to(device)
    barycentrics = torch.randn(B, *size, 3, generator=g, dtype=torch.float64).to(device, dtype)
    return attributes, fk.Raster(face_index, barycentrics, barycentrics[..., 0]), topology(faces, V, device)


@DTYPES
@pytest.mark.parametrize("C", [0, 1, 2, 3, 4, 5, 16, 33])
def test_loop_over_pixels(backend, dtype, C):
    attributes, raster, mesh = drawn(2, 11, C, 6, (5, 7), dtype, backend.device)
    got = fk.interpolate(attributes, raster, mesh)
    assert got.shape == (2, C, 5, 7) and got.dtype == dtype
    wide, bary = attributes.double().cpu(), raster.barycentrics.double().cpu()
    for b in range(2):
        for row in range(5):
            for column in range(7):
                f = int(raster.face_index[b, row, column])
                pixel = got[b, :, row, column].cpu()
                if f < 0:
                    assert_same_bits(pixel, torch.zeros_like(pixel))
                    continue
                corners = wide[b, mesh.faces[f].long().cpu()]
                terms = bary[b, row, column, :, None] * corners
                # Three products and two sums.
                bound = 4 * torch.finfo(dtype).eps * terms.abs().sum(0)
                assert ((pixel.double() - terms.sum(0)).abs() <= bound).all()


def test_background_has_no_gradient_and_reads_nothing(backend):
    attributes, raster, mesh = drawn(2, 11, 3, 6, (5, 7), torch.float64, backend.device)
    raster = raster._replace(face_index=torch.full_like(raster.face_index, -1))
    attributes = (attributes * torch.nan).requires_grad_()
    bary = (raster.barycentrics * torch.nan).requires_grad_()
    out = fk.interpolate(attributes, raster._replace(barycentrics=bary), mesh)
    assert_same_bits(out.detach(), torch.zeros_like(out))
    for grad in torch.autograd.grad(out.sum(), (attributes, bary)):
        assert grad.eq(0).all()


def test_unseen_vertices_have_no_gradient(backend):
    attributes, raster, mesh = drawn(2, 40, 3, 6, (5, 7), torch.float64, backend.device)
    used = torch.zeros(40, dtype=torch.bool, device=backend.device)
    used[mesh.faces.long().unique()] = True
    assert not used.all()
    attributes = torch.where(used[:, None], attributes, torch.nan).requires_grad_()
    out = fk.interpolate(attributes, raster, mesh)
    assert out.isfinite().all()
    grad = torch.autograd.grad(out.sum(), attributes)[0]
    assert grad[:, ~used].eq(0).all() and grad.isfinite().all()


def test_gradient_reaches_the_positions(backend):
    """Through the barycentrics, the visible faces held fixed: gradcheck of rasterize followed by interpolate."""
    size = (6, 7)
    positions, faces = soup(20, 2, 4, size, scale=0.9)
    mesh = topology(faces, 12, backend.device)
    attributes = torch.randn(2, 12, 3, generator=generator(0), dtype=torch.float64)

    def call(positions, attributes):
        return fk.interpolate(attributes, fk.rasterize(positions, mesh, size, cull=None), mesh)

    inputs = [value.to(backend.device).requires_grad_() for value in (positions, attributes)]
    assert torch.autograd.gradcheck(call, inputs, fast_mode=backend.name == "ref")


@pytest.mark.parametrize("V, F", [(0, 0), (5, 0)])
def test_no_faces(backend, V, F):
    attributes = torch.randn(2, V, 3, device=backend.device, requires_grad=True)
    mesh = topology(torch.zeros(F, 3).long(), V, backend.device)
    raster = fk.rasterize(torch.rand(2, V, 3, device=backend.device), mesh, (3, 4))
    out = fk.interpolate(attributes, raster, mesh)
    assert out.shape == (2, 3, 3, 4) and out.eq(0).all()
    assert torch.autograd.grad(out.sum(), attributes)[0].eq(0).all()


@DTYPES
@pytest.mark.parametrize("C", [3, 5])
def test_same_bits_for_any_number_of_threads(kernel, dtype, threads, C):
    size = (61, 83)
    ball = scene(5, 3, 30, size)
    positions = fk.Camera(ball["K"], ball["R"], ball["t"]).project(ball["vertices"]).to(kernel.device, dtype)
    mesh = topology(ball["faces"], positions.shape[1], kernel.device)
    raster = fk.rasterize(positions, mesh, size)
    draw = lambda *shape: torch.randn(*shape, generator=generator(0), dtype=torch.float64).to(positions)
    attributes, bary = draw(*positions.shape[:2], C).requires_grad_(), raster.barycentrics.requires_grad_()
    cotangent = draw(3, C, *size)
    first = None
    for count in (1, 2, 3, 1):
        threads(count)
        out = fk.interpolate(attributes, raster._replace(barycentrics=bary), mesh)
        result = [out.detach(), *torch.autograd.grad(out, (attributes, bary), cotangent)]
        first = first or result
        for one, other in zip(result, first, strict=True):
            assert_same_bits(one, other, f"{count} threads")


def _raster(**change):
    tensors = {"face_index": torch.zeros(2, 5, 6).int(), "barycentrics": torch.zeros(2, 5, 6, 3), "depth": None}
    return fk.Raster(**{**tensors, **change})


ERRORS = [
    ({"attributes": None}, TypeError, "attributes to be a torch.Tensor, got NoneType"),
    ({"attributes": torch.zeros(2, 3)}, ValueError, r"attributes to be shape \[\*, \*, \*\], got \[2, 3\]"),
    ({"attributes": torch.zeros(2, 4, 7)}, ValueError, r"attributes to be shape \[\*, 3, 7\], got \[2, 4, 7\]"),
    ({"attributes": torch.zeros(1, 3, 7)}, ValueError, r"raster.face_index to be shape \[1, \*, \*\], got \[2, 5, 6\]"),
    ({"raster": (1, 2, 3)}, TypeError, "raster to be a focus_kernels.Raster, got tuple"),
    ({"raster": _raster(face_index=None)}, TypeError, "raster.face_index to be a torch.Tensor, got NoneType"),
    (
        {"raster": _raster(face_index=torch.zeros(2, 5, 6).long())},
        TypeError,
        "raster.face_index to be int32, got int64",
    ),
    (
        {"raster": _raster(barycentrics=torch.zeros(2, 5, 6, 2))},
        ValueError,
        r"raster.barycentrics to be shape \[2, 5, 6, 3\], got \[2, 5, 6, 2\]",
    ),
    (
        {"raster": _raster(barycentrics=torch.zeros(2, 5, 6, 3).double())},
        TypeError,
        "raster.barycentrics to be float32 as attributes, got float64",
    ),
    ({"topology": 3}, TypeError, "topology to be a focus_kernels.Topology, got int"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    arguments = {
        "attributes": torch.zeros(2, 3, 7),
        "raster": _raster(),
        "topology": topology([[0, 1, 2]], 3),
        **change,
    }
    with pytest.raises(kind, match=r"interpolate\(\): expected " + message):
        fk.interpolate(**arguments)


def test_faces_of_another_mesh_are_background(backend):
    topology = fk.Topology(torch.tensor([[0, 1, 2]]), 3)
    index = torch.tensor([[[0, 1, -1, 2**30]]], dtype=torch.int32)
    weights = torch.full((1, 1, 4, 3), 1 / 3, requires_grad=True)
    attributes = torch.ones(1, 3, 2, requires_grad=True)
    out = fk.interpolate(attributes, fk.Raster(index, weights, torch.ones(1, 1, 4)), topology)
    torch.testing.assert_close(out, torch.tensor([1.0, 0, 0, 0]).expand(1, 2, 1, 4))
    out.sum().backward()
    assert weights.grad[0, 0, 1:].count_nonzero() == 0
    torch.testing.assert_close(attributes.grad, torch.full((1, 3, 2), 1 / 3))
