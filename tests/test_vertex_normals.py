"""vertex_normals against a loop over faces, at extreme scales, with degenerate and non-finite faces; its arguments."""

import math

import numpy as np
import pytest
import torch
from meshes import generator, sphere, topology
from tolerances import assert_as_accurate, assert_same_bits

import focus_kernels as fk

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
BOTH = pytest.mark.parametrize("normalize", [True, False], ids=["unit", "mean"])


def loop(vertices, faces, normalize):
    total, area = np.zeros(vertices.shape), np.zeros((*vertices.shape[:2], 1))
    for b in range(len(vertices)):
        for face in faces.tolist():
            v0, v1, v2 = vertices[b, face].numpy()
            cross = np.cross(v1 - v0, v2 - v0)
            for corner in face:
                total[b, corner] += cross
                area[b, corner] += np.linalg.norm(cross)
    length = np.linalg.norm(total, axis=-1, keepdims=True) if normalize else area
    return torch.from_numpy(np.divide(total, length, where=length > 0, out=np.zeros_like(total)))


@BOTH
@DTYPES
def test_loop_over_faces(backend, dtype, normalize):
    g = generator(0)
    vertices = torch.randn(3, 20, 3, generator=g).double()
    faces = torch.randint(19, (45, 3), generator=g)  # repeated corners among them; vertex 19 has no face
    got = fk.vertex_normals(
        vertices.to(backend.device, dtype), topology(faces, 20, backend.device), normalize=normalize
    )
    # Sums of about 7 faces of like size: some dozen roundings of values below 1.
    tolerance = 32 * torch.finfo(dtype).eps
    torch.testing.assert_close(got.double().cpu(), loop(vertices, faces, normalize), rtol=0, atol=tolerance)
    assert got[:, 19].eq(0).all()


@DTYPES
def test_sphere_points_outwards(backend, dtype):
    vertices, faces = sphere(16)
    mesh = topology(faces, len(vertices), backend.device)
    unit = fk.vertex_normals(vertices[None].to(backend.device, dtype), mesh)[0].double().cpu()
    radial = vertices / 90
    assert (unit * radial).sum(-1).min() > math.cos(math.pi / 32)  # half a ring
    mean = fk.vertex_normals(vertices[None].to(backend.device, dtype), mesh, normalize=False)[0].double().cpu()
    length = mean.norm(dim=-1)
    assert length.min() > 0.95 and length.max() < 1
    torch.testing.assert_close(mean / length[:, None], unit, rtol=0, atol=4 * torch.finfo(dtype).eps)


@BOTH
@pytest.mark.parametrize("scale", [1e-17, 1e-12, 1e12, 1e18])
def test_scale_does_not_matter(backend, scale, normalize):
    """Cross products from 1e-34 to 1e36 in float32: their squares would under- or overflow."""
    vertices, faces = sphere(5, 1.0)
    mesh = topology(faces, len(vertices), backend.device)
    vertices = vertices[None].float().to(backend.device)
    want = fk.vertex_normals(vertices, mesh, normalize=normalize)
    leaf = (vertices * scale).requires_grad_()
    got = fk.vertex_normals(leaf, mesh, normalize=normalize)
    torch.testing.assert_close(got, want, rtol=0, atol=8 * torch.finfo(torch.float32).eps)
    grad = torch.autograd.grad(got.sum(), leaf)[0]
    near = vertices.clone().requires_grad_()
    expected = torch.autograd.grad(fk.vertex_normals(near, mesh, normalize=normalize).sum(), near)[0]
    torch.testing.assert_close(grad * scale, expected, rtol=1e-4, atol=1e-5)


@BOTH
@DTYPES
def test_degenerate_faces(backend, dtype, normalize):
    # 0 0 1: repeated corner. 2 3 4: on a line. 5 6 7 and 5 7 6: cancel. 8 9 10 has an area.
    rows = [
        [0, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
        [1, 1, 1],
        [2, 2, 2],
        [0, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 0],
        [1, 0, 0],
    ]
    vertices = torch.tensor([*rows, [0, 2, 0]], dtype=dtype, device=backend.device)[None].requires_grad_()
    faces = [[0, 0, 1], [2, 3, 4], [5, 6, 7], [5, 7, 6], [8, 9, 10]]
    got = fk.vertex_normals(vertices, topology(faces, 11, backend.device), normalize=normalize)
    assert got[0, :8].eq(0).all()
    assert got[0, 8:].eq(torch.tensor([0, 0, 1], dtype=dtype, device=backend.device)).all()
    grad = torch.autograd.grad((got * torch.arange(1.0, 4).to(got)).sum(), vertices)[0]
    assert grad.isfinite().all()
    assert grad[0, :5].eq(0).all()
    if normalize:
        assert grad[0, 5:8].eq(0).all()


@BOTH
@DTYPES
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_faces_that_are_not_finite_are_left_out(backend, dtype, bad, normalize):
    vertices, faces = sphere(4, 1.0)
    spoiled = vertices.clone()
    spoiled[3, 1] = bad
    rest = topology(faces[~(faces == 3).any(1)], len(vertices), backend.device)
    leaf = spoiled[None].to(backend.device, dtype).requires_grad_()
    clean = vertices[None].to(backend.device, dtype).requires_grad_()
    got = fk.vertex_normals(leaf, topology(faces, len(vertices), backend.device), normalize=normalize)
    want = fk.vertex_normals(clean, rest, normalize=normalize)
    assert got[0, 3].eq(0).all()
    torch.testing.assert_close(got, want, rtol=0, atol=4 * torch.finfo(dtype).eps)
    weights = torch.randn(got.shape, generator=generator(0), dtype=torch.float64).to(got)
    grad, expected = (
        torch.autograd.grad((got * weights).sum(), leaf)[0],
        torch.autograd.grad((want * weights).sum(), clean)[0],
    )
    assert grad[0, 3].eq(0).all()
    torch.testing.assert_close(grad, expected, rtol=0, atol=64 * torch.finfo(dtype).eps)


@BOTH
@DTYPES
def test_a_cross_product_that_overflows_is_left_out(backend, dtype, normalize):
    huge = torch.finfo(dtype).max ** 0.5 * 4
    rows = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [huge, 0, 0], [0, huge, 0]]
    vertices = torch.tensor(rows, dtype=dtype, device=backend.device)[None].requires_grad_()
    got = fk.vertex_normals(vertices, topology([[0, 1, 2], [0, 3, 4]], 5, backend.device), normalize=normalize)
    assert got[0, :3].eq(torch.tensor([0.0, 0, 1]).to(got)).all() and got[0, 3:].eq(0).all()
    grad = torch.autograd.grad((got * torch.arange(1.0, 4).to(got)).sum(), vertices)[0]
    assert grad.isfinite().all() and grad[0, 3:].eq(0).all()


@BOTH
def test_no_faces_and_no_vertices(backend, normalize):
    vertices = torch.randn(2, 5, 3, device=backend.device, requires_grad=True)
    got = fk.vertex_normals(vertices, topology(torch.zeros(0, 3).long(), 5, backend.device), normalize=normalize)
    assert got.eq(0).all()
    assert torch.autograd.grad(got.sum(), vertices)[0].eq(0).all()
    none = fk.vertex_normals(
        vertices[:, :0], topology(torch.zeros(0, 3).long(), 0, backend.device), normalize=normalize
    )
    assert none.shape == (2, 0, 3)


@BOTH
@DTYPES
def test_same_bits_for_any_number_of_threads(kernel, dtype, threads, normalize):
    vertices, faces = sphere(40)
    noise = torch.randn(3, *vertices.shape, generator=generator(0), dtype=torch.float64)
    vertices = (vertices + noise).to(kernel.device, dtype)
    mesh = topology(faces, vertices.shape[1], kernel.device)
    cotangent = noise.to(vertices)
    first = None
    for count in (1, 2, 3, 1):
        threads(count)
        leaf = vertices.clone().requires_grad_()
        out = fk.vertex_normals(leaf, mesh, normalize=normalize)
        result = [out.detach(), torch.autograd.grad(out, leaf, cotangent)[0]]
        first = first or result
        for one, other in zip(result, first, strict=True):
            assert_same_bits(one, other, f"{count} threads")


@BOTH
def test_accurate_on_a_large_mesh(kernel, normalize):
    """Long thin fans at the poles, coordinates in mm far from the origin: as exact as plain torch in float32."""
    from focus_kernels.ops.vertex_normals import ref

    vertices, faces = sphere(40)
    vertices = (vertices + torch.tensor([3.0, -7, 1000]))[None].float()
    mesh = topology(faces, vertices.shape[1])
    arrays = (mesh.faces, mesh.offsets, mesh.corners, normalize)
    got = fk.vertex_normals(vertices.to(kernel.device), mesh.to(kernel.device), normalize=normalize).cpu()
    assert_as_accurate(got, ref.forward(vertices, *arrays), ref.forward(vertices.double(), *arrays))


ERRORS = [
    ({"vertices": [[0.0]]}, TypeError, "vertices to be a torch.Tensor, got list"),
    ({"vertices": torch.zeros(1, 4, 3)}, ValueError, r"vertices to be shape \[\*, 3, 3\], got \[1, 4, 3\]"),
    ({"vertices": torch.zeros(1, 3, 4)}, ValueError, r"vertices to be shape \[\*, 3, 3\], got \[1, 3, 4\]"),
    ({"vertices": torch.zeros(1, 3, 3, device="meta")}, ValueError, "topology to be on meta as vertices, got cpu"),
    (
        {"vertices": torch.zeros(1, 3, 3, dtype=torch.complex64)},
        TypeError,
        "vertices to be float32 or float64, got complex64",
    ),
    ({"topology": None}, TypeError, "topology to be a focus_kernels.Topology, got NoneType"),
    ({"normalize": "yes"}, TypeError, "normalize to be a bool, got str"),
]


@pytest.mark.parametrize("change, kind, message", ERRORS)
def test_errors(change, kind, message):
    arguments = {"vertices": torch.zeros(1, 3, 3), "topology": topology([[0, 1, 2]], 3), "normalize": True, **change}
    with pytest.raises(kind, match=r"vertex_normals\(\): expected " + message):
        fk.vertex_normals(arguments["vertices"], arguments["topology"], normalize=arguments["normalize"])
