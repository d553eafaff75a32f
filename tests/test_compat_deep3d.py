"""`compat.deep3d` against a ray caster that knows nothing of clip space, and its interfaces."""

import importlib.util
import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from focus_kernels.compat import deep3d
from focus_kernels.compat.nvdiffrast import RasterizeCudaContext, RasterizeGLContext

FOV = 2 * math.degrees(math.atan(112 / 1015))
SIZE = 20


def scene(seed=0, batch=2, count=7, channels=4):
    """Loose triangles about 10 in front of Deep3D's camera, as camera space has them, and features; float64."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-0.7, 0.7, (batch, count, 1, 3))
    points = (centre + rng.uniform(-0.8, 0.8, (batch, count, 3, 3))).reshape(batch, 3 * count, 3)
    points[..., 2] = 10 - points[..., 2]
    feat = rng.uniform(size=(batch, 3 * count, channels))
    tri = np.arange(3 * count).reshape(count, 3)
    return torch.from_numpy(points), torch.from_numpy(tri), torch.from_numpy(feat)


def renderer(kind=deep3d.MeshRenderer, **changed):
    return kind(**{"rasterize_fov": FOV, "znear": 5, "zfar": 15, "rasterize_size": SIZE, **changed})


def cast(points, faces, size, fov):
    """Rays through the pixel centres, row 0 on top: face, weights and how near (px) an edge is, [size, size] each."""
    number = np.full((size, size), -1)
    bary, margin = np.zeros((size, size, 3)), np.full((size, size), np.inf)
    extent = math.tan(math.radians(fov) / 2)
    for row, column in np.ndindex(size, size):
        ray = np.array([(2 * column + 1) / size - 1, 1 - (2 * row + 1) / size, 1 / extent]) * extent
        nearest = np.inf
        for index, face in enumerate(faces):
            p = points[face]
            try:
                b = np.linalg.solve(p.T, ray)
            except np.linalg.LinAlgError:
                continue
            depth, b = 1 / b.sum(), b / b.sum()
            # the distance to each edge line in the image
            pixel = p[:, :2] / p[:, 2:] / extent * size / 2
            here = ray[:2] / extent * size / 2
            for k in range(3):
                s, e = pixel[(k + 1) % 3], pixel[(k + 2) % 3]
                along = np.clip((here - s) @ (e - s) / ((e - s) @ (e - s)), 0, 1)
                margin[row, column] = min(margin[row, column], np.linalg.norm(s + along * (e - s) - here))
            if (b >= 0).all() and 0 < depth < nearest:
                nearest, number[row, column], bary[row, column] = depth, index, b
    return number, bary, margin


def check(drawn, vertex, tri, feat, flat=False):
    """One item's (mask, depth, image) against cast rays, but for pixels that snapping (1/16 px) may move."""
    if flat:  # orthographic: a camera so far away that rays are parallel to 1e-9
        far = 1e6
        points = torch.cat([vertex[:, :2], vertex[:, 2:] + far], 1).numpy()
        # a point at depth z + far is seen at x / (z + far): scale so that it lies at x
        points[:, :2] *= points[:, 2:] / far
        number, bary, margin = cast(points, tri.numpy(), drawn[0].shape[-1], math.degrees(2 * math.atan(1 / far)))
    else:
        number, bary, margin = cast(vertex.numpy(), tri.numpy(), drawn[0].shape[-1], FOV)
    sure = margin > 0.07
    assert sure.mean() > 0.4
    mask, depth, image = (value.detach().numpy() for value in drawn)
    assert set(np.unique(mask)) == {0.0, 1.0}
    np.testing.assert_array_equal(mask[0][sure], (number >= 0)[sure])
    seen = sure & (number >= 0)
    assert seen.sum() > 30
    faces = tri.numpy()[number[seen]]
    want = (bary[seen][..., None] * vertex.numpy()[faces]).sum(1)[:, 2]
    np.testing.assert_allclose(depth[0][seen], want, rtol=1e-5 if flat else 1e-10, atol=1e-5 if flat else 0)
    want = (bary[seen][..., None] * feat.numpy()[faces]).sum(1)
    np.testing.assert_allclose(image[:, seen].T, want, rtol=1e-5 if flat else 1e-9, atol=1e-5 if flat else 1e-12)
    assert not depth[0][mask[0] == 0].any() and not image[:, mask[0] == 0].any()


@pytest.mark.parametrize("kind", [deep3d.MeshRenderer, deep3d.MeshRendererV3])
def test_every_item_by_ray_casting(kind, device):
    # depth included, which upstream takes from the first item
    vertex, tri, feat = scene()
    drawn = [value.cpu() for value in renderer(kind)(vertex.to(device), tri.to(device), feat.to(device))[:3]]
    assert [value.shape for value in drawn] == [(2, 1, SIZE, SIZE), (2, 1, SIZE, SIZE), (2, 4, SIZE, SIZE)]
    for b in range(2):
        check([value[b] for value in drawn], vertex[b], tri, feat[b])


@pytest.mark.parametrize("form", ["tensor", "list", "tuple", "ragged"])
def test_faces_of_their_own_for_each_item(form):
    vertex, tri, feat = scene(1)
    own = [tri, tri.roll(5, 0).flip(1) if form != "ragged" else tri[:4]]
    given = torch.stack(own) if form == "tensor" else tuple(own) if form == "tuple" else own
    before = [faces.clone() for faces in given]
    drawn = renderer()(vertex, given, feat)
    for b in range(2):
        check([value[b] for value in drawn], vertex[b], own[b], feat[b])
    assert all(torch.equal(now, then) for now, then in zip(given, before, strict=True))


def test_gradients_reach_vertices_and_features():
    vertex, tri, feat = scene(2, count=4, channels=2)
    vertex.requires_grad_()
    feat.requires_grad_()
    net = renderer(rasterize_size=7)
    mask = net(vertex, tri, feat)[0]
    assert mask.sum() > 10 and not mask.requires_grad

    def smooth(vertex, feat):
        """Depth and image where the ray is well inside of its face: clamped weights have another gradient."""
        with torch.no_grad():
            weights = torch.eye(3).double().repeat(4, 1).expand(2, -1, -1)
            inside = net(vertex, tri, weights)[2].amin(1, keepdim=True) > 1e-3
        assert inside.sum() > 10
        return [value * inside for value in net(vertex, tri, feat)[1:]]

    assert torch.autograd.gradcheck(smooth, (vertex, feat), eps=1e-7, atol=1e-5)


def test_gradients_with_faces_of_their_own(device):
    vertex, tri, feat = (value.to(device) for value in scene(3))
    leaf, other = vertex.clone().requires_grad_(), vertex.clone().requires_grad_()
    net = renderer()
    weight = torch.rand(2, 5, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).double()
    weight, grads = weight.to(device), []
    for values, faces in ((leaf, tri), (other, [tri, tri])):
        _, depth, image = net(values, faces, feat)
        grads.append(torch.autograd.grad((torch.cat([depth, image], 1) * weight).sum(), values)[0])
    assert grads[0].any()
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)


def test_row_0_is_the_top_and_x_is_right():
    triangle = torch.tensor([[[0.1, 0.1, 10.0], [1.0, 0.1, 10.0], [0.1, 1.0, 10.0]]])
    mask, depth, image = renderer()(triangle, torch.tensor([[0, 1, 2]]))
    rows, columns = mask[0, 0].nonzero().T
    assert rows.max() < SIZE / 2 and columns.min() >= SIZE / 2 and len(rows) > 10
    assert image is None and mask.dtype == depth.dtype == torch.float32


def test_clipping_planes():
    triangle = torch.tensor([[[-1.0, -1, 0], [1, -1, 0], [0, 1, 0]]])
    depths = {4.0: False, 6.0: True, 14.0: True, 16.0: False}
    for depth, seen in depths.items():
        mask = renderer()(triangle + torch.tensor([0.0, 0, depth]), torch.tensor([[0, 1, 2]]))[0]
        assert mask.any() == seen


def test_projection_matrix():
    net = deep3d.MeshRenderer(30, 0.5, 7.0)
    # as upstream computes it
    n, f = 0.5, 7.0
    x = np.tan(np.deg2rad(30 * 0.5)) * n
    rows = [[n / x, 0, 0, 0], [0, n / -x, 0, 0], [0, 0, -(f + n) / (f - n), -(2 * f * n) / (f - n)], [0, 0, -1, 0]]
    want = torch.tensor(np.array(rows).astype(np.float32)) @ torch.diag(torch.tensor([1.0, -1, -1, 1]))
    torch.testing.assert_close(net.ndc_proj, want, rtol=1.2e-7, atol=0)  # one unit in the last place
    assert net.ndc_proj.dtype == torch.float32


def test_homogeneous_vertices_are_taken_as_they_are():
    vertex, tri, feat = scene(4)
    x, y, z = vertex.unbind(-1)
    given = torch.stack([x, -y, z, torch.ones_like(x)], -1)
    for ours, want in zip(renderer()(given, tri, feat), renderer()(vertex, tri, feat), strict=True):
        assert torch.equal(ours, want)


def test_shared_features():
    vertex, tri, feat = scene(5)
    want = renderer()(vertex, tri, feat[:1].expand(2, -1, -1))[2]
    for shared in (feat[0], feat[:1]):
        for faces in (tri, [tri, tri]):
            assert torch.equal(renderer()(vertex, faces, shared)[2], want)


@pytest.mark.parametrize("kind", [deep3d.MeshRendererV3, deep3d.MeshRenderer_cpu])
def test_visible_vertices(kind):
    vertex, tri, feat = scene(6)
    tri = tri[:, [0, 1, 1]].clone()
    tri[:, 2] = (tri[:, 0] + 4) % vertex.shape[1]  # faces share vertices
    net = renderer(kind)
    assert net(vertex, tri, feat)[3] is None
    visible = net(vertex, tri, feat, visible_vertice=True)[3]
    number = np.stack([cast(points.numpy(), tri.numpy(), SIZE, FOV)[0] for points in vertex])
    assert visible.dtype == torch.int32
    # a face that is seen well is in it; one whose every pixel is in doubt may be
    sure = np.stack([cast(points.numpy(), tri.numpy(), SIZE, FOV)[2] for points in vertex]) > 0.07
    lower = set(tri[number[sure & (number >= 0)]].reshape(-1).tolist())
    assert lower <= set(visible.tolist()) and visible.tolist() == sorted(set(visible.tolist()))
    corner = net(vertex, tri, torch.eye(vertex.shape[1]).double().expand(2, -1, -1))[2]
    assert set(visible.tolist()) >= set((corner > 0).any((2, 3)).any(0).nonzero()[:, 0].tolist())
    own = net(vertex, [tri, tri], feat, True)[3]
    assert set((own % vertex.shape[1]).tolist()) == set(visible.tolist()) and own.max() >= vertex.shape[1]
    nothing = net(vertex - torch.tensor([0.0, 0, 20]), tri, feat, True)
    assert nothing[3].shape == (0,) and not nothing[0].any()


@pytest.mark.parametrize("kind", [deep3d.MeshRenderer_UV, deep3d.MeshRenderer_UV_cpu])
def test_uv_renderer(kind):
    rng = np.random.default_rng(7)
    vertex = torch.from_numpy(rng.uniform(-0.9, 0.9, (2, 15, 3)))
    tri, feat = torch.arange(15).view(5, 3), torch.from_numpy(rng.uniform(size=(2, 15, 3)))
    before = vertex.clone()
    drawn = kind(SIZE)(vertex, tri, feat)
    assert drawn[3] is None and torch.equal(vertex, before)
    for b in range(2):
        check([value[b] for value in drawn[:3]], vertex[b], tri, feat[b], flat=True)
    assert kind(SIZE)(vertex, tri, feat, visible_vertice=True)[3].dtype == torch.int32


def test_cpu_twins():
    vertex, tri, feat = scene(8, channels=3)
    feat.requires_grad_()
    net = renderer(deep3d.MeshRenderer_cpu)
    mask, depth, image, _ = net(vertex, tri, feat)
    for ours, want in zip((mask, depth, image), renderer()(vertex, tri, feat), strict=True):
        assert torch.equal(ours, want)
    image.sum().backward()
    assert feat.grad.any()
    for twin in (net, deep3d.MeshRenderer_UV_cpu(SIZE)):
        black = twin(vertex, tri)[2]
        assert black.shape == (2, 3, SIZE, SIZE) and not black.any()
    # the first face is in the mask
    assert net(vertex, tri[:1])[0].any()


def test_modules_have_no_state_and_contexts_come_with_the_first_call():
    vertex, tri, _ = scene(9)
    kinds = {
        renderer(): RasterizeGLContext,
        renderer(use_opengl=False): RasterizeCudaContext,
        renderer(deep3d.MeshRendererV3): RasterizeCudaContext,
        deep3d.MeshRenderer_UV(SIZE): RasterizeCudaContext,
    }
    for net, kind in kinds.items():
        assert isinstance(net, torch.nn.Module) and net.state_dict() == {} and not list(net.parameters())
        assert net.to("cpu").double() is net and net.ctx is None
        net(vertex, tri)
        assert type(net.ctx) is kind
        context = net.ctx
        net(vertex.float(), tri.int())
        assert net.ctx is context and net.rasterize_size == SIZE


def test_it_draws_without_gradients_and_in_autocast():
    vertex, tri, feat = (value.float() if value.is_floating_point() else value for value in scene(10))
    want = renderer()(vertex, tri, feat)
    with torch.no_grad(), torch.autocast("cpu"):
        for ours, expected in zip(renderer()(vertex, tri, feat), want, strict=True):
            assert torch.equal(ours, expected)


def test_signatures():
    def arguments(function):
        parameters = list(inspect.signature(function).parameters.values())
        return [p.name if p.default is p.empty else (p.name, p.default) for p in parameters]

    camera = ["rasterize_fov", ("znear", 0.1), ("zfar", 10), ("rasterize_size", 224)]
    assert arguments(deep3d.MeshRenderer) == [*camera, ("use_opengl", True)]
    assert arguments(deep3d.MeshRendererV3) == [*camera, ("use_opengl", False)]
    assert arguments(deep3d.MeshRenderer_cpu) == camera
    assert arguments(deep3d.MeshRenderer_UV) == [("rasterize_size", 224), ("use_opengl", False)]
    assert arguments(deep3d.MeshRenderer_UV_cpu) == [("rasterize_size", 224)]
    assert arguments(deep3d.MeshRenderer.forward) == ["self", "vertex", "tri", ("feat", None)]
    for kind in (deep3d.MeshRendererV3, deep3d.MeshRenderer_UV, deep3d.MeshRenderer_cpu, deep3d.MeshRenderer_UV_cpu):
        assert arguments(kind.forward) == ["self", "vertex", "tri", ("feat", None), ("visible_vertice", False)]


def test_errors():
    vertex, tri, feat = scene(11)
    net = renderer()

    def fails(kind, message, *arguments):
        with pytest.raises(kind, match=rf"MeshRenderer\(\): expected {message}"):
            net(*arguments)

    fails(TypeError, "vertex to be a torch.Tensor, got list", [], tri)
    fails(ValueError, r"vertex to be shape \[B, N, 3\] or \[B, N, 4\], got \[21, 3\]", vertex[0], tri)
    fails(TypeError, "feat to be float64 as vertex, got float32", vertex, tri, feat.float())
    fails(ValueError, r"feat to be shape \[N, C\] or \[1\|2, N, C\], got \[3, 21, 4\]", vertex, tri, feat[[0, 0, 0]])
    fails(ValueError, "feat to be of 21 vertices as vertex, got 20", vertex, tri, feat[:, :20])
    fails(TypeError, "tri to be a tensor or a list of tensors, got int", vertex, 3)
    fails(ValueError, "tri to be of 2 items as vertex, got 1", vertex, [tri])
    fails(TypeError, "tri to be of integers, got float64", vertex, [tri, tri.double()])
    fails(ValueError, r"tri to be shape \[\*, 3\], got \[7, 2\]", vertex, [tri, tri[:, :2]])
    fails(ValueError, r"tri to be in \[0, 21\), got 0\.\.21", vertex, [tri, tri.clamp(max=19) + 2 * (tri == 20)])
    with pytest.raises(ValueError, match=r"tri to be in \[0, 21\), got 21"):
        net(vertex, tri + 1)
    with pytest.raises(ValueError, match=r"MeshRenderer\(\): expected zfar to be beyond znear \(5\.0\), got 5\.0"):
        renderer(zfar=5)
    with pytest.raises(ValueError, match="expected rasterize_fov to be below 180 degrees"):
        renderer(rasterize_fov=180)
    with pytest.raises(ValueError, match="expected znear to be finite and > 0"):
        renderer(znear=0)


def test_the_training_loop_of_the_examples_learns():
    path = Path(__file__).resolve().parents[1] / "examples" / "deep3d_loop.py"
    spec = importlib.util.spec_from_file_location("deep3d_loop", path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    losses = example.main(steps=50, device="cpu")
    assert len(losses) == 50 and losses[-1] < 0.7 * losses[0]
