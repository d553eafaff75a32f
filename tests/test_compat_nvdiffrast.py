"""`compat.nvdiffrast`: rasterize, depth peeling and contexts, against its rules written out pixel by pixel in float64.

Where nvdiffrast itself is installed and there is a GPU, the tests that take `dr` hold it to the same rules.
"""

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from nvdiffrast_impl import IMPLEMENTATIONS, implementation

import focus_kernels.compat.nvdiffrast as ours
from focus_kernels.compat.nvdiffrast import _common

CTX = ours.RasterizeCudaContext()


@pytest.fixture(params=IMPLEMENTATIONS)
def dr(request):
    return implementation(request.param)


def soup(seed, count, batch=1):
    """Triangles [B, 3 count, 4] wholly inside the frustum, some of them small, and their faces, in float64."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-0.4, 0.4, (batch, count, 1, 3))
    reach = rng.uniform(0.2, 0.55, (batch, count, 1, 1))
    ndc = centre + reach * rng.uniform(-1, 1, (batch, count, 3, 3))
    w = rng.uniform(0.5, 3, (batch, count, 3, 1))
    # multiples of 2^-12 are the same numbers in float32
    w, ndc = np.round(w * 4096) / 4096, np.round(ndc * 4096) / 4096
    pos = np.concatenate([np.round(ndc * w * 4096) / 4096, w], -1)
    return pos.reshape(batch, 3 * count, 4), np.arange(3 * count).reshape(count, 3)


def covers(corners, column, row):
    """Weights (Fractions) of a sample in a triangle [3, 2] of integer corners, or None; top-left rule."""
    (x0, y0), (x1, y1), (x2, y2) = corners
    area = (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0)
    if area == 0:
        return None
    values = []
    for (ax, ay), (bx, by) in (((x1, y1), (x2, y2)), ((x2, y2), (x0, y0)), ((x0, y0), (x1, y1))):
        value = (bx - ax) * (row - ay) - (by - ay) * (column - ax)
        # a sample on an edge belongs to the triangle that a step to the right, or else a smaller one down, leads into
        order = [math.copysign(1, area) * part for part in (value, -(by - ay), bx - ax)]
        if next(part for part in order if part) < 0:
            return None
        values.append(Fraction(value, area))
    return values


def weights(face, x, y):
    """The perspective-correct weights of a face [3, 4] at NDC (x, y)."""
    rows = [face[:, 0] - x * face[:, 3], face[:, 1] - y * face[:, 3], np.ones(3)]
    return np.linalg.solve(np.stack(rows), [0.0, 0.0, 1.0])


def by_rule(pos, faces, size, behind=None):
    """Rasterizes pos [V, 4], wholly inside the frustum, one pixel and one face at a time."""
    height, width = size
    rast, rast_db = np.zeros((height, width, 4)), np.zeros((height, width, 4))
    depths = np.full(size, np.inf)
    ndc = pos[:, :3] / pos[:, 3:]
    snapped = [[int(v) for v in np.rint(p * [width * 8, height * 8])] for p in ndc[:, :2]]
    for row in range(height):
        for column in range(width):
            nearest = None
            for index, face in enumerate(faces):
                bary = covers([snapped[v] for v in face], (2 * column + 1 - width) * 8, (2 * row + 1 - height) * 8)
                if bary is None:
                    continue
                depth = float(sum(b * Fraction(float(ndc[v, 2])) for b, v in zip(bary, face, strict=True)))
                if behind is not None and depth <= behind[row, column]:
                    continue
                if nearest is None or depth <= nearest[0]:  # the last one wins ties
                    nearest = depth, index
            if nearest is None:
                continue
            depths[row, column], index = nearest
            x, y = (2 * column + 1) / width - 1, (2 * row + 1) / height - 1
            face = pos[faces[index]]
            b = weights(face, x, y)
            u, v = np.clip(b[:2], 0, 1) / max(np.clip(b[:2], 0, 1).sum(), 1)
            rast[row, column] = u, v, np.clip(b @ face[:, 2] / (b @ face[:, 3]), -1, 1), index + 1
            h = 1e-6
            by_x = (weights(face, x + h, y) - weights(face, x - h, y)) / (width * h)
            by_y = (weights(face, x, y + h) - weights(face, x, y - h)) / (height * h)
            rast_db[row, column] = by_x[0], by_y[0], by_x[1], by_y[1]
    return rast, rast_db, depths


@pytest.mark.parametrize("size", [(16, 16), (24, 8), (7, 13)])
def test_rasterize_pixel_by_pixel(dr, size):
    pos, faces = soup(size[0], 20, batch=2)
    rast, rast_db = dr.rasterize(dr.context, dr.floats(pos), dr.ints(faces), size)
    assert rast.shape == rast_db.shape == (2, *size, 4) and rast.dtype == rast_db.dtype == dr.dtype
    for b in range(2):
        want, want_db, _ = by_rule(pos[b], faces, size)
        got, got_db = rast[b].cpu().numpy(), rast_db[b].cpu().numpy()
        assert len(np.unique(want[..., 3])) > 5
        np.testing.assert_array_equal(got[..., 3], want[..., 3])
        # solving for the weights of a thin face loses four digits; upstream computes in float32
        scale = np.maximum(1, np.abs(want_db))
        tolerance = 1e-9 if dr.dtype == torch.float64 else 2e-3
        np.testing.assert_allclose(got[..., :3], want[..., :3], atol=tolerance, rtol=0)
        # the oracle's central differences are good to 1e-6
        np.testing.assert_allclose(got_db / scale, want_db / scale, atol=max(tolerance, 2e-5), rtol=0)


def test_row_0_is_the_bottom(dr):
    pos = [[-0.9, -0.9, 0, 1], [0.0, -0.9, 0, 1], [-0.9, 0.0, 0, 1]]
    rast, _ = dr.rasterize(dr.context, dr.floats([pos]), dr.ints([[0, 1, 2]]), [8, 8])
    rows, columns = (rast[0, :, :, 3] > 0).nonzero().T
    assert rows.max() < 4 and columns.max() < 4 and len(rows) > 4


def test_the_highest_face_wins_ties_and_both_windings_are_drawn(dr):
    corners = [[-0.9, -0.9, 0.25, 1], [0.9, -0.9, 0.25, 1], [0.0, 0.9, 0.25, 1]]
    for faces in ([[0, 1, 2], [0, 2, 1], [1, 2, 0]], [[0, 2, 1], [0, 1, 2]]):
        rast, _ = dr.rasterize(dr.context, dr.floats([corners]), dr.ints(faces), (8, 8))
        assert set(rast[..., 3].unique().tolist()) == {0.0, float(len(faces))}


def test_shared_edges_are_covered_once():
    # both diagonals of the image pass through pixel centres; each quarter is drawn alone
    pos = torch.tensor([[[-1.0, -1, 0, 1], [1, -1, 0, 1], [1, 1, 0, 1], [-1, 1, 0, 1], [0, 0, 0, 1]]])
    count = torch.zeros(8, 8)
    for i in range(4):
        rast, _ = ours.rasterize(CTX, pos, torch.tensor([[i, (i + 1) % 4, 4]]), (8, 8))
        count += rast[0, :, :, 3]
    assert torch.equal(count, torch.ones(8, 8))


def test_a_triangle_through_the_near_plane_is_clipped(dr):
    # a floor that begins behind the camera: seen below the horizon only
    pos = dr.floats([[[-4.0, -1, -3, -1], [4, -1, -3, -1], [0, -1, 7, 9]]])
    rast, _ = dr.rasterize(dr.context, pos, dr.ints([[0, 1, 2]]), (16, 16))
    seen = rast[0, :, :, 3] > 0
    assert seen[0].all() and not seen[8:].any()
    assert ((rast[0, :, :, 2][seen] >= -1) & (rast[0, :, :, 2][seen] <= 1)).all()


def test_range_mode(dr):
    pos, faces = soup(3, 9)
    ranges = torch.tensor([[0, 4], [3, 6], [5, 0]], dtype=torch.int32)
    rast, rast_db = dr.rasterize(dr.context, dr.floats(pos[0]), dr.ints(faces), (12, 12), ranges)
    assert rast.shape == rast_db.shape == (3, 12, 12, 4)
    for b, (first, count) in enumerate(ranges.tolist()):
        want, _, _ = by_rule(pos[0], faces[first : first + count], (12, 12))
        want[..., 3] += np.where(want[..., 3] > 0, first, 0)  # numbers are those of tri
        np.testing.assert_array_equal(rast[b, :, :, 3].cpu().numpy(), want[..., 3])
        np.testing.assert_allclose(rast[b, :, :, :2].cpu().numpy(), want[..., :2], atol=2e-3, rtol=0)


def test_range_mode_adds_the_gradients_of_the_images():
    pos, faces = soup(4, 5)
    leaf = torch.from_numpy(pos[0]).requires_grad_()
    ranges = torch.tensor([[0, 5], [0, 5]], dtype=torch.int32)
    rast, _ = ours.rasterize(CTX, leaf, torch.from_numpy(faces), (10, 10), ranges)
    (both,) = torch.autograd.grad(rast[..., :2].square().sum(), leaf)
    single = torch.from_numpy(pos).requires_grad_()
    rast, _ = ours.rasterize(CTX, single, torch.from_numpy(faces), (10, 10))
    (once,) = torch.autograd.grad(rast[..., :2].square().sum(), single)
    assert once.any()
    torch.testing.assert_close(both, 2 * once[0], rtol=1e-12, atol=0)


def test_gradients_of_rasterize():
    pos, faces = soup(5, 4)
    pos = torch.from_numpy(pos).requires_grad_()

    def render(p):
        rast, rast_db = ours.rasterize(CTX, p, torch.from_numpy(faces), (6, 6))
        assert len(rast[..., 3].unique()) > 3
        # where u and v are clamped (snapping moved the face there) the gradient is not that of the clamp
        inside = (rast[..., :2].detach() > 1e-3).all(-1) & (rast[..., :2].detach().sum(-1) < 1 - 1e-3)
        return rast[..., :2] * inside[..., None], rast_db

    # derivatives of thin faces reach 1e4; the step is small so that no sample changes its face
    assert torch.autograd.gradcheck(render, (pos,), eps=1e-8, atol=1e-4, rtol=1e-4)


def test_what_has_no_gradient(dr):
    values, faces = soup(5, 4)
    pos = dr.floats(values).requires_grad_()
    rast, rast_db = dr.rasterize(dr.context, pos, dr.ints(faces), (8, 8), grad_db=False)
    (grad,) = torch.autograd.grad(rast[..., 2:].sum() + 0 * rast[..., :2].sum(), pos, retain_graph=True)
    assert not grad.any()
    (grad,) = torch.autograd.grad(rast_db.sum() + 0 * rast.sum(), pos)
    assert not grad.any()
    rast, rast_db = dr.rasterize(dr.context, pos, dr.ints(faces), (8, 8))
    (grad,) = torch.autograd.grad(rast_db.sum() + rast[..., 0].sum(), pos)
    assert grad[..., :2].any() and grad[..., 3].any() and not grad[..., 2].any()


def test_context_without_derivatives():
    pos, faces = soup(6, 3)
    context = ours.RasterizeGLContext(output_db=False)
    rast, rast_db = ours.rasterize(context, torch.from_numpy(pos), torch.from_numpy(faces), (5, 6))
    assert rast_db.shape == (1, 5, 6, 0) and rast_db.dtype == torch.float64
    full, _ = ours.rasterize(ours.RasterizeGLContext(), torch.from_numpy(pos), torch.from_numpy(faces), (5, 6))
    assert torch.equal(rast, full)


@pytest.mark.parametrize("number", [-1, 0, 5, 2**24 - 2, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 7, 2**28, 2**29 + 3])
def test_face_numbers_as_floats(number):
    coded = _common.as_floats(torch.tensor([number], dtype=torch.int32), torch.float32)
    # the float that is number + 1 - 2^24 steps after 2^24
    bits = np.array([2**24], np.float32).view(np.int32) + (number + 1 - 2**24)
    want = np.float32(number + 1) if number + 1 <= 2**24 else bits.view(np.float32)[0]
    assert coded.item() == want and coded.dtype == torch.float32
    assert _common.as_numbers(coded).tolist() == [number] and _common.as_numbers(coded).dtype == torch.int32
    wide = _common.as_floats(torch.tensor([number], dtype=torch.int32), torch.float64)
    assert wide.item() == number + 1 and _common.as_numbers(wide).tolist() == [number]


def layers_by_rule(pos, faces, size, count):
    behind, layers = None, []
    for _ in range(count):
        rast, _, depths = by_rule(pos, faces, size, behind)
        layers.append(rast)
        # at background nothing is behind
        behind = depths
    return layers


def test_depth_peeling(dr):
    pos, faces = soup(7, 10, batch=2)
    with dr.DepthPeeler(dr.context, dr.floats(pos), dr.ints(faces), (12, 12)) as peeler:
        layers = [peeler.rasterize_next_layer() for _ in range(8)]
    first, first_db = dr.rasterize(dr.context, dr.floats(pos), dr.ints(faces), (12, 12))
    assert torch.equal(layers[0][0], first) and torch.equal(layers[0][1], first_db)
    for b in range(2):
        for (rast, _), want in zip(layers, layers_by_rule(pos[b], faces, (12, 12), 8), strict=True):
            np.testing.assert_array_equal(rast[b, :, :, 3].cpu().numpy(), want[..., 3])
    assert layers[1][0][..., 3].any() and not layers[-1][0].any() and not layers[-1][1].any()


def test_depth_peeling_in_range_mode_with_gradients():
    corners = torch.tensor([[-0.9, -0.9], [0.9, -0.9], [0.0, 0.9]], dtype=torch.float64)
    pos = torch.cat([torch.cat([corners, torch.tensor([[z, 1.0]] * 3).double()], 1) for z in (0.5, -0.5, 0.0)])
    pos.requires_grad_()
    ranges = torch.tensor([[0, 3], [0, 2]], dtype=torch.int32)
    tri, seen = torch.arange(9).view(3, 3), []
    with ours.DepthPeeler(CTX, pos, tri, (6, 6), ranges=ranges, grad_db=False) as peeler:
        for _ in range(4):
            rast, rast_db = peeler.rasterize_next_layer()
            assert not rast_db.requires_grad
            seen.append([int(image[..., 3].max()) for image in rast])
            if len(seen) == 2:
                (grad,) = torch.autograd.grad(rast[0, ..., 0].sum(), pos)
    assert seen == [[2, 2], [3, 1], [1, 0], [0, 0]]
    assert grad[6:].any() and not grad[:6].any()


def test_one_peeler_at_a_time():
    pos, faces = (torch.from_numpy(values) for values in soup(8, 3))
    context = ours.RasterizeCudaContext()
    peeler = ours.DepthPeeler(context, pos, faces, (4, 4))
    with pytest.raises(RuntimeError, match="inside of `with`"):
        peeler.rasterize_next_layer()
    with pytest.raises(KeyError), peeler:
        peeler.rasterize_next_layer()
        with pytest.raises(RuntimeError, match="a DepthPeeler is open in this context"):
            ours.rasterize(context, pos, faces, (4, 4))
        with pytest.raises(RuntimeError, match="another one is open"), ours.DepthPeeler(context, pos, faces, (4, 4)):
            pass
        ours.rasterize(CTX, pos, faces, (4, 4))  # another context
        raise KeyError
    want, _ = ours.rasterize(context, pos, faces, (4, 4))  # closed by the error
    with peeler:  # begins again
        assert torch.equal(peeler.rasterize_next_layer()[0], want)


def test_contexts(dr):
    cuda = dr.RasterizeCudaContext(device=dr.device)
    assert isinstance(cuda, dr.RasterizeCudaContext)
    if dr.name == "nvdiffrast-cuda":
        pytest.skip("the OpenGL context is upstream's business")
    for device in (None, 0, "cuda:0", torch.device("cpu")):
        assert dr.RasterizeCudaContext(device).device == device
    manual = dr.RasterizeGLContext(mode="manual")
    assert manual.set_context() is None and manual.release_context() is None
    assert manual.output_db is True and dr.RasterizeGLContext(False).output_db is False
    for method in ("set_context", "release_context"):
        with pytest.raises(RuntimeError, match=rf"{method}\(\): expected mode to be 'manual', got 'automatic'"):
            getattr(dr.RasterizeGLContext(), method)()
    with pytest.raises(ValueError, match="expected mode to be one of 'automatic', 'manual', got 'auto'"):
        dr.RasterizeGLContext(mode="auto")
    with pytest.raises(TypeError, match="expected output_db to be a bool, got int"):
        dr.RasterizeGLContext(1)
    with pytest.raises(TypeError, match=r"expected device to be a torch\.device, str, int or None, got float"):
        dr.RasterizeCudaContext(1.0)


def test_log_level(dr):
    before = dr.get_log_level()
    assert before == 1
    try:
        for level in range(4):
            dr.set_log_level(level)
            assert dr.get_log_level() == level
        if dr.name != "nvdiffrast-cuda":
            with pytest.raises(ValueError, match=r"expected level to be one of 0, 1, 2, 3, got 4"):
                dr.set_log_level(4)
            with pytest.raises(TypeError, match="got str"):
                dr.set_log_level("info")
            assert dr.get_log_level() == 3
    finally:
        dr.set_log_level(before)


def test_signatures(dr):
    def arguments(function):
        parameters = inspect.signature(function).parameters
        return [n if p.default is p.empty else (n, p.default) for n, p in parameters.items()]

    rasterize = ["glctx", "pos", "tri", "resolution", ("ranges", None), ("grad_db", True)]
    assert arguments(dr.rasterize) == rasterize
    assert arguments(dr.DepthPeeler) == rasterize
    assert arguments(dr.interpolate) == ["attr", "rast", "tri", ("rast_db", None), ("diff_attrs", None)]
    antialias = ["color", "rast", "pos", "tri", ("topology_hash", None), ("pos_gradient_boost", 1.0)]
    assert arguments(dr.antialias) == antialias
    assert arguments(dr.antialias_construct_topology_hash) == ["tri"]
    assert arguments(dr.RasterizeCudaContext) == [("device", None)]
    if dr.name != "nvdiffrast-cuda":  # whose OpenGL context comes and goes with its versions
        assert arguments(dr.RasterizeGLContext) == [("output_db", True), ("mode", "automatic"), ("device", None)]
    assert arguments(dr.set_log_level) == ["level"] and arguments(dr.get_log_level) == []


def test_rasterize_errors():
    pos, tri = torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2]])
    ranges = torch.zeros(2, 2, dtype=torch.int32)

    def fails(kind, message, **changed):
        arguments = {"glctx": CTX, "pos": pos, "tri": tri, "resolution": (4, 4), **changed}
        for op in (ours.rasterize, ours.DepthPeeler):
            with pytest.raises(kind, match=rf"{op.__name__}\(\): expected {message}"):
                op(**arguments)

    fails(TypeError, "glctx to be a RasterizeCudaContext or .* got NoneType", glctx=None)
    fails(TypeError, "pos to be a torch.Tensor, got list", pos=[])
    fails(TypeError, "pos to be float32 or float64, got float16", pos=pos.half())
    fails(ValueError, r"pos to be shape \[\*, \*, 4\], got \[1, 3, 3\]", pos=pos[..., :3])
    fails(ValueError, r"pos to be shape \[\*, 4\], got \[3, 3\]", pos=pos[0, :, :3])
    fails(TypeError, "tri to be a torch.Tensor, got list", tri=[[0, 1, 2]])
    fails(TypeError, "tri to be an integer tensor, got float32", tri=tri.float())
    fails(ValueError, r"tri to be in \[0, 3\), got 3", tri=tri + 1)
    fails(ValueError, r"tri to be shape \[\*, 3\]", tri=tri[0])
    fails(TypeError, r"resolution to be a pair \(height, width\) of ints, got int", resolution=4)
    fails(TypeError, "resolution to be a pair .* got 3 values", resolution=[4, 4, 4])
    fails(TypeError, "resolution to be a pair .* got a float", resolution=(4.0, 4))
    fails(ValueError, "resolution to be in .* got 0", resolution=(0, 4))
    fails(TypeError, "grad_db to be a bool, got int", grad_db=1)
    fails(ValueError, r"ranges to be int32 \[B, 2\].*, got None", pos=pos[0])
    fails(TypeError, "ranges to be int32, got int64", pos=pos[0], ranges=ranges.long())
    fails(ValueError, r"ranges to be shape \[\*, 2\]", pos=pos[0], ranges=ranges[0])
    fails(
        ValueError,
        r"ranges to be within the 1 faces of tri, got 0 \+ 2",
        pos=pos[0],
        ranges=ranges + ranges.new([0, 2]),
    )


def test_nothing_to_draw():
    no_faces = torch.zeros(0, 3, dtype=torch.int32)
    for pos, tri in ((torch.zeros(2, 5, 4), no_faces), (torch.zeros(0, 5, 4), torch.tensor([[0, 1, 2]]))):
        pos.requires_grad_()
        rast, rast_db = ours.rasterize(CTX, pos, tri, (3, 4))
        out, out_da = ours.interpolate(torch.ones(5, 2), rast, tri, rast_db, "all")
        out = ours.antialias(out, rast, pos, tri)
        assert out.shape == (len(pos), 3, 4, 2) and out_da.shape == (len(pos), 3, 4, 4)
        assert not rast.any() and not out.any()
        (out.sum() + out_da.sum()).backward()
        assert not pos.grad.any()
