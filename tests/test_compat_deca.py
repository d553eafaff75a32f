"""`compat.deca` against its rules of coverage, written out one pixel at a time in float64."""

import importlib.util
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from focus_kernels.compat.deca import (
    Pytorch3dRasterizer,
    StandardRasterizer,
    add_SHlight,
    set_rasterizer,
    standard_rasterize,
)

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "deca_loop.py"
PYTORCH3D = "pytorch3d"
STANDARD = "standard"


def scene(seed, same_faces=True, dtype=torch.float64):
    """Vertices [2, 8, 3] in NDC about 10 away, faces [2, 6, 3], attributes [2, 6, 3, 2]."""
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.rand(2, 8, 3, generator=generator, dtype=torch.float64) * 2.6 - 1.3
    vertices[..., 2] += 10
    # no two faces of the same corners, which would tie in depth
    triples = torch.combinations(torch.arange(8), 3)
    faces = torch.stack([triples[torch.randperm(len(triples), generator=generator)[:6]] for _ in range(2)])
    faces = torch.where(torch.arange(6)[:, None] % 2 == 1, faces.flip(-1), faces)  # both windings
    if same_faces:
        faces = faces[:1].expand(2, -1, -1)
    attributes = torch.rand(2, 6, 3, 2, generator=generator, dtype=torch.float64) - 0.3
    return vertices.to(dtype), faces, attributes.to(dtype)


def cross(a, b):
    return a[0] * b[1] - a[1] * b[0]


def by_rule(kind, vertices, faces, attributes, size):
    """[B, D + 1, H, W], one pixel and one face at a time; no centre lies on an edge."""
    height, width = size
    B, F = faces.shape[:2]
    out = np.zeros((B, attributes.shape[-1] + 1, height, width))
    vertices, attributes = vertices.double().numpy(), attributes.double().numpy()
    for b, row, column in np.ndindex(B, height, width):
        p = np.array([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1])
        nearest = np.inf
        for f in range(F):
            corners = vertices[b, faces[b, f].numpy()]
            v = corners[:, :2]
            area = cross(v[1] - v[0], v[2] - v[0])
            weights = np.array([cross(v[(k + 1) % 3] - p, v[(k + 2) % 3] - p) for k in range(3)])
            if kind == PYTORCH3D:
                # PyTorch3D's units: its shorter side is [-1, 1]; x and y are negated both, which keeps the sign
                unit = width * height / min(width, height) ** 2
                edges, doubled = weights * unit, -area * unit
                if min(corners[:, 2]) < 1e-8 or abs(doubled) <= 1e-8:
                    continue
                weights = -edges / (doubled + 1e-8)
            else:
                weights = weights / area
            if not (weights > 0).all():
                continue
            depth = weights @ corners[:, 2]
            if depth < nearest:
                nearest = depth
                out[b, :-1, row, column] = weights @ attributes[b, f]
                out[b, -1, row, column] = 1
    return out


def rasterizer(kind, size):
    return Pytorch3dRasterizer(size[0]) if kind == PYTORCH3D else StandardRasterizer(*size)


@pytest.mark.parametrize("kind", [PYTORCH3D, STANDARD])
@pytest.mark.parametrize("size", [(9, 9), (7, 12), (13, 6)])
@pytest.mark.parametrize("same_faces", [True, False])
def test_rules_pixel_by_pixel(kind, size, same_faces):
    vertices, faces, attributes = scene(size[0], same_faces)
    # a small triangle in front, whose area is of the order of 1e-8
    side = 3e-4
    pixel = torch.tensor([(2 * (size[1] // 2) + 1) / size[1] - 1, (2 * (size[0] // 2) + 1) / size[0] - 1])
    small = torch.tensor([[0.2, 0.2], [0.2, -0.7], [-0.7, 0.3]]) * side + pixel
    vertices[0, faces[0, 0]] = torch.cat([small.double(), torch.full((3, 1), 5.0, dtype=torch.float64)], 1)
    rendered = rasterizer(kind, size)(vertices, faces, attributes, *size)
    expected = by_rule(kind, vertices, faces, attributes, size)
    assert rendered.shape == (2, 3, *size) and 0 < expected[:, -1].mean() < 1
    np.testing.assert_array_equal(rendered[:, -1].numpy(), expected[:, -1])
    # double rounding; the small triangle loses eight digits to cancellation in its edges
    np.testing.assert_allclose(rendered.numpy(), expected, rtol=1e-6, atol=1e-10)


def test_the_bias_of_small_faces_is_pytorch3ds():
    # doubled area 3e-8 around the only centre: the barycentrics sum to 3/2 or 3/4 by winding, or to 1
    side = 3e-8**0.5
    corners = torch.tensor([[0.0, 0.0, 10.0], [side, 0.0, 10.0], [0.0, side, 10.0]], dtype=torch.float64)
    corners[:, :2] -= 0.3 * side
    ones = torch.ones(1, 1, 3, 1, dtype=torch.float64)
    for order, biased in (([0, 1, 2], 3 / 2), ([0, 2, 1], 3 / 4)):
        faces = torch.tensor([[order]])
        for kind, total in ((PYTORCH3D, biased), (STANDARD, 1.0)):
            rendered = rasterizer(kind, (1, 1))(corners[None], faces, ones)
            torch.testing.assert_close(rendered.flatten().tolist(), [total, 1.0], rtol=1e-9, atol=0)


def test_edges_through_centres():
    # two triangles share the diagonal of the image, which passes through the centres
    vertices = torch.tensor([[[-1.0, -1.0, 10.0], [1.0, -1.0, 10.0], [1.0, 1.0, 10.0], [-1.0, 1.0, 10.0]]])
    faces, attributes = torch.tensor([[[0, 1, 2], [0, 2, 3]]]), torch.ones(1, 2, 3, 1)
    strict = Pytorch3dRasterizer(8)(vertices, faces, attributes)[0, -1]
    assert torch.equal(strict == 0, torch.eye(8, dtype=torch.bool))
    assert StandardRasterizer(8)(vertices, faces, attributes)[0, -1].all()


def test_x_is_right_and_y_is_down():
    vertices = torch.tensor([[[-0.9, -0.9, 10.0], [-0.2, -0.9, 10.0], [-0.9, -0.2, 10.0]]])
    for kind in (PYTORCH3D, STANDARD):
        rendered = rasterizer(kind, (8, 8))(vertices, torch.tensor([[[0, 1, 2]]]), torch.ones(1, 1, 3, 1))
        rows, columns = rendered[0, -1].nonzero().T
        assert len(rows) and rows.max() < 4 and columns.max() < 4


@pytest.mark.parametrize("kind", [PYTORCH3D, STANDARD])
def test_the_nearest_face_is_seen_and_others_get_no_gradient(kind):
    corners = torch.tensor([[-3.0, -3.0], [3.0, -3.0], [0.0, 6.0]])
    vertices = torch.cat([torch.cat([corners, torch.full((3, 1), z)], 1) for z in (12.0, 9.0, -1.0)])[None]
    vertices.requires_grad_()
    attributes = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1).repeat(1, 1, 3, 1).requires_grad_()
    rendered = rasterizer(kind, (6, 6))(vertices, torch.arange(9).view(1, 3, 3), attributes)
    torch.testing.assert_close(rendered[0, 0], torch.full((6, 6), 2.0))
    (rendered * torch.arange(36.0).view(6, 6)).sum().backward()
    assert attributes.grad[0, 1].all() and not attributes.grad[0, [0, 2]].any()
    assert not vertices.grad[0, [0, 1, 2, 6, 7, 8]].any() and vertices.grad.isfinite().all()


@pytest.mark.parametrize("kind", [PYTORCH3D, STANDARD])
@pytest.mark.parametrize("same_faces", [True, False])
def test_gradcheck(kind, same_faces):
    vertices, faces, attributes = scene(3, same_faces)
    draw = rasterizer(kind, (5, 5))

    def render(vertices, attributes):
        rendered = draw(vertices, faces, attributes, 5, 6)
        assert 0 < rendered[:, -1].sum() < 60 and rendered.requires_grad
        return rendered[:, :-1]

    assert torch.autograd.gradcheck(render, (vertices.requires_grad_(), attributes.requires_grad_()))


@pytest.mark.parametrize("kind", [PYTORCH3D, STANDARD])
def test_float32_and_devices(kind, device):
    vertices, faces, attributes = scene(4)
    expected = by_rule(kind, vertices, faces, attributes, (10, 10))
    rendered = rasterizer(kind, (10, 10)).to(device)(
        vertices.float().to(device), faces.int().to(device), attributes.float().to(device)
    )
    assert rendered.dtype == torch.float32 and rendered.device.type == device
    # barycentrics of triangles about 1 wide, from coordinates with an error of 6e-8
    np.testing.assert_allclose(rendered.cpu().numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("kind", [PYTORCH3D, STANDARD])
def test_nothing_to_draw(kind):
    draw = rasterizer(kind, (4, 4))
    for B, F in ((0, 3), (2, 0), (0, 0)):
        faces = torch.zeros(B, F, 3, dtype=torch.int64)
        rendered = draw(torch.rand(B, 5, 3, requires_grad=True), faces, torch.rand(B, F, 3, 2))
        assert rendered.shape == (B, 3, 4, 4) and not rendered.any()
    with torch.no_grad():
        assert not draw(*scene(1)).requires_grad


def test_sizes():
    vertices, faces, attributes = scene(5)
    assert Pytorch3dRasterizer()(vertices, faces, attributes).shape[2:] == (224, 224)
    assert Pytorch3dRasterizer(6)(vertices, faces, attributes, 5).shape[2:] == (5, 6)
    standard = StandardRasterizer(4, 7)
    assert (standard.h, standard.w) == (4, 7) and StandardRasterizer(5).w == 5
    assert standard(vertices, faces, attributes).shape[2:] == (4, 7)  # upstream's width is its height here
    assert standard(vertices, faces, attributes, h=3).shape[2:] == (3, 7)
    assert standard(vertices, faces, attributes, 3, 5).shape[2:] == (3, 5)


def by_rule_in_place(face_vertices, depth, tri, bary):
    for b, row, column in np.ndindex(*depth.shape):
        p = np.array([column + 0.5, row + 0.5])
        for f in range(face_vertices.shape[1]):
            corners = face_vertices[b, f]
            v = corners[:, :2]
            weights = np.array([cross(v[(k + 1) % 3] - p, v[(k + 2) % 3] - p) for k in range(3)])
            weights = weights / cross(v[1] - v[0], v[2] - v[0])
            z = weights @ corners[:, 2]
            if (weights > 0).all() and z < depth[b, row, column]:
                depth[b, row, column], tri[b, row, column], bary[b, row, column] = z, f, weights


@pytest.mark.parametrize("index_dtype", [torch.int32, torch.int64])
def test_standard_rasterize_writes_in_place(index_dtype):
    generator = torch.Generator().manual_seed(0)
    face_vertices = torch.rand(2, 7, 3, 3, generator=generator, dtype=torch.float64) * 14 - 2
    face_vertices[..., 2] += 4
    depth = torch.full((2, 8, 11), 1e6, dtype=torch.float64)
    depth[:, 2:4] = 7.0  # something is there already
    depth[:, :, 5] = 0.0
    tri, bary = torch.full((2, 8, 11), -1, dtype=index_dtype), torch.zeros(2, 8, 11, 3, dtype=torch.float64)
    expected = [buffer.clone().numpy() for buffer in (depth, tri, bary)]
    by_rule_in_place(face_vertices.numpy(), *expected)
    assert standard_rasterize(face_vertices, depth, tri, bary, 8, 11) is None
    assert (expected[1][:, 2:4] >= 0).any() and (expected[0][:, 2:4] == 7).any() and (expected[1][:, :, 5] == -1).all()
    np.testing.assert_array_equal(tri.numpy(), expected[1])
    np.testing.assert_allclose(depth.numpy(), expected[0], rtol=1e-12)
    np.testing.assert_allclose(bary.numpy(), expected[2], rtol=1e-9, atol=1e-12)


def test_standard_rasterize_writes_strided_buffers():
    corners = torch.tensor([[-9.0, -9.0, 5.0], [30.0, -9.0, 5.0], [-9.0, 30.0, 5.0]])
    store = torch.zeros(1, 4, 8)
    depth = store[:, :, ::2].fill_(1e6)
    tri, bary = torch.full((1, 4, 4), -1, dtype=torch.int32), torch.zeros(1, 3, 4, 4).permute(0, 2, 3, 1)
    standard_rasterize(corners.view(1, 1, 3, 3), depth, tri, bary, 4, 4)
    torch.testing.assert_close(store[:, :, ::2], torch.full((1, 4, 4), 5.0))
    assert not store[:, :, 1::2].any() and not tri.any()
    torch.testing.assert_close(bary.sum(-1), torch.ones(1, 4, 4))


def test_shading_by_harmonics():
    generator = torch.Generator().manual_seed(0)
    normals = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    light = torch.randn(2, 9, 3, generator=generator, dtype=torch.float64)
    shading = add_SHlight(normals, light)
    assert shading.shape == (2, 3, 4, 5)
    # band 0 without, bands 1 and 2 with the cosine lobe 2 pi / 3 and pi / 4
    pi = np.pi
    first, second = np.sqrt(3 / (4 * pi)) * 2 * pi / 3, np.sqrt(15 / (4 * pi)) * pi / 4
    for b, row, column in np.ndindex(2, 4, 5):
        x, y, z = normals[b, :, row, column].tolist()
        basis = [np.sqrt(1 / (4 * pi)), first * x, first * y, first * z, second * x * y, second * x * z, second * y * z]
        basis += [second / 2 * (x * x - y * y), np.sqrt(5 / (16 * pi)) * pi / 4 * (3 * z * z - 1)]
        # upstream's factors have six digits
        np.testing.assert_allclose(shading[b, :, row, column], np.array(basis) @ light[b].numpy(), atol=3e-5)
    assert torch.autograd.gradcheck(add_SHlight, (normals.requires_grad_(), light.requires_grad_()))
    with pytest.raises(ValueError, match=r"sh_coeff to be shape \[2, 9, 3\], got \[2, 27\]"):
        add_SHlight(normals, light.flatten(1))


def test_modules_are_plain():
    for module in (Pytorch3dRasterizer(8), StandardRasterizer(8, 9)):
        assert not list(module.parameters()) and not list(module.buffers()) and not module.state_dict()
        assert isinstance(module.to("cpu").eval(), type(module))
    assert set_rasterizer() is None and set_rasterizer("standard") is None
    with pytest.raises(ValueError, match="type to be one of 'pytorch3d', 'standard', got 'nvdiffrast'"):
        set_rasterizer("nvdiffrast")


def test_signatures():
    def parameters(function):
        return {name: p.default for name, p in inspect.signature(function).parameters.items() if name != "self"}

    empty = inspect.Parameter.empty
    forward = {"vertices": empty, "faces": empty, "attributes": empty, "h": None, "w": None}
    assert parameters(Pytorch3dRasterizer) == {"image_size": 224}
    assert parameters(StandardRasterizer) == {"height": empty, "width": None}
    assert parameters(Pytorch3dRasterizer.forward) == parameters(StandardRasterizer.forward) == forward
    assert parameters(set_rasterizer) == {"type": "pytorch3d"}
    assert len(parameters(standard_rasterize)) == 6


@pytest.mark.parametrize("kind", [PYTORCH3D, STANDARD])
def test_errors(kind):
    draw = rasterizer(kind, (4, 4))
    vertices, faces, attributes = scene(6, dtype=torch.float32)
    name = type(draw).__name__

    def fails(error, message, *arguments):
        with pytest.raises(error, match=message):
            draw(*arguments)

    fails(TypeError, rf"{name}\(\): expected vertices to be a torch.Tensor", vertices.numpy(), faces, attributes)
    fails(TypeError, "attributes to be float32 as vertices", vertices, faces, attributes.double())
    fails(TypeError, "vertices to be float32 or float64", vertices.half(), faces, attributes.half())
    fails(TypeError, "faces to be integers", vertices, faces.float(), attributes)
    fails(ValueError, r"vertices to be shape \[\*, \*, 3\]", vertices[0], faces, attributes)
    fails(ValueError, r"faces to be shape \[2, \*, 3\], got \[1, 6, 3\]", vertices, faces[:1], attributes)
    fails(ValueError, r"attributes to be shape \[2, 6, 3, \*\], got \[2, 8, 2\]", vertices, faces, vertices[..., :2])
    fails(ValueError, r"faces to be in \[0, 8\)", vertices, faces + 8, attributes)
    differing = torch.stack([faces[0], faces[1] + 8])
    fails(ValueError, r"faces to be in \[0, 8\)", vertices, differing, attributes)
    fails(ValueError, "size to be in", vertices, faces, attributes, 0, 4)
    fails(TypeError, "size to be a pair", vertices, faces, attributes, 4.0, 4)
    for size in (0, 2.0, True):
        with pytest.raises((TypeError, ValueError), match=rf"{name}\(\): expected (image_size|height) to be"):
            type(draw)(size)


def test_errors_of_standard_rasterize():
    corners, depth = torch.rand(1, 2, 3, 3), torch.zeros(1, 4, 5)
    tri, bary = torch.zeros(1, 4, 5, dtype=torch.int32), torch.zeros(1, 4, 5, 3)

    def fails(error, message, *arguments):
        with pytest.raises(error, match=message):
            standard_rasterize(*arguments)

    fails(TypeError, "depth_buffer to be float32 as face_vertices", corners, depth.double(), tri, bary, 4, 5)
    fails(TypeError, "face_vertices to be float32 or float64", corners.half(), depth, tri, bary, 4, 5)
    fails(TypeError, "triangle_buffer to be int32 or int64", corners, depth, depth, bary, 4, 5)
    fails(ValueError, r"depth_buffer to be shape \[1, 5, 4\]", corners, depth, tri, bary, 5, 4)
    fails(ValueError, r"baryw_buffer to be shape \[1, 4, 5, 3\]", corners, depth, tri, depth[..., None], 4, 5)
    fails(ValueError, r"face_vertices to be shape \[\*, \*, 3, 3\]", corners[0], depth, tri, bary, 4, 5)


def load_example():
    spec = importlib.util.spec_from_file_location("deca_loop", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_reaches_its_encoder():
    module = load_example()
    encoder = module.Encoder()
    decoder = module.Decoder(module.FaceModel.load(level=0, components=module.COMPONENTS))
    image, mask, landmarks = decoder(encoder(torch.rand(2, 3, module.SIZE, module.SIZE)))
    assert 0.1 < mask.mean() < 0.9 and landmarks.shape == (2, 68, 2) and landmarks.abs().max() < 1
    image.sum().backward()
    last = encoder.layers[-1].bias.grad
    assert (last != 0).all() and last.isfinite().all()  # every coefficient


@pytest.mark.slow
def test_the_example_learns():
    load_example().main()
