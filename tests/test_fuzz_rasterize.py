"""rasterize under hypothesis: held against the definition, and what it promises whatever the triangles are."""

import pytest
import torch
from fuzzing import (
    KINDS,
    Seeded,
    codes,
    compiled_kernels,  # noqa: F401
    cotangents,
    dtypes,
    fuzz,
    listed,
    made,
    meshes,
    options,
    seeded,
)
from hypothesis import strategies as st
from meshes import topology
from rounding import Rounded, assert_within, total
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels.ops.rasterize import ref


def gradient(raster, positions, seed=0):
    return torch.autograd.grad(raster[1:], positions, cotangents(raster[1:], seed))[0]


def at_samples(positions, faces, index, perspective, dtype, grads=None):
    """Bounds for the covered pixels, one entry each: barycentrics (3), depth, and gradients [corner][axis]."""
    image, row, column = (index >= 0).nonzero().unbind(1)
    corners = positions.double()[image[:, None], faces.long()[index[image, row, column].long()]]  # [N, 3, 3]
    exact = lambda value: Rounded.exact(value, dtype)
    x = [exact(corners[:, k, 0]) - exact(column + 0.5) for k in range(3)]
    y = [exact(corners[:, k, 1]) - exact(row + 0.5) for k in range(3)]
    z = [exact(corners[:, k, 2]) for k in range(3)]
    around = [(1, 2), (2, 0), (0, 1)]
    e = [x[k] * y[l] - y[k] * x[l] for k, l in around]
    u = [e[k] / z[k] for k in range(3)] if perspective else e
    b = [u[k] / total(u) for k in range(3)]
    depth = total(e) / total(u) if perspective else total([e[k] * z[k] for k in range(3)]) / total(u)
    if grads is None:
        return b, depth, None
    grad_b, grad_d = exact(grads[0][image, row, column]), exact(grads[1][image, row, column])
    grad_b = [exact(grad_b.value[:, k]) for k in range(3)]
    if perspective:
        mean = total([grad_b[k] * b[k] for k in range(3)] + [grad_d * depth])
        grad_u = [(grad_b[k] - mean) / total(u) for k in range(3)]
        grad_e = [grad_u[k] / z[k] + grad_d / total(u) for k in range(3)]
        grad_z = [exact(torch.zeros_like(row)) - grad_u[k] * u[k] / z[k] for k in range(3)]
    else:
        g = [grad_b[k] + grad_d * z[k] for k in range(3)]
        mean = total([g[k] * b[k] for k in range(3)])
        grad_e = [(g[k] - mean) / total(u) for k in range(3)]
        grad_z = [grad_d * b[k] for k in range(3)]
    corner_grads = [
        (grad_e[l] * y[k] - grad_e[k] * y[l], grad_e[k] * x[l] - grad_e[l] * x[k], grad_z[i])
        for i, (k, l) in enumerate(around)
    ]
    return b, depth, corner_grads


def assert_only_ties(got, want, positions, mesh, size, rule):
    """The ids of `got` are those of `want`, or show a face that covers the sample and is as near but for rounding."""
    differ = got != want
    if not differ.any():
        return
    seen = differ & (got >= 0)
    assert (want[differ] >= 0).all() and seen.equal(differ), "another coverage than float64 decides"
    depths = [
        at_samples(positions, mesh.faces, torch.where(differ, i, -1), rule[2], positions.dtype)[1] for i in (got, want)
    ]
    gap = (depths[0].value - depths[1].value).abs()
    assert (gap <= depths[0].error + depths[1].error).all(), f"not the nearest: {gap.max():.3e} behind"
    for image, face in {(int(b), int(got[b, i, j])) for b, i, j in differ.nonzero()}:
        alone = ref.forward(positions[image : image + 1], mesh.faces[face : face + 1], *size, *rule)[0][0]
        assert (alone == 0)[(got[image] == face) & differ[image]].all(), f"face {face} does not cover its sample"


@fuzz(100, mesh=meshes(work=300_000), rule=options, dtype=dtypes)
def test_matches_the_definition(device, mesh, rule, dtype):
    """Faces as float64 decides, but for depths that rounding cannot order; values and gradients to rounding."""
    positions, net = made(mesh, dtype, "cpu")
    leaf = positions.to(device).requires_grad_()
    raster = fk.rasterize(leaf, net.to(device), mesh.size, **rule)
    index = raster.face_index.cpu()
    want = ref.forward(positions, net.faces, *mesh.size, *codes(rule))[0]
    assert_only_ties(index, want, positions, net, mesh.size, codes(rule))
    grads = cotangents(raster[1:])
    got = torch.autograd.grad(raster[1:], leaf, grads)[0].cpu()
    covered = index >= 0
    bary, depth, corners = at_samples(
        positions, net.faces, index, rule["perspective_correct"], dtype, [grad.cpu() for grad in grads]
    )
    for k in range(3):
        assert_within(raster.barycentrics.detach().cpu()[covered][:, k], bary[k], f"barycentric {k}")
    assert_within(raster.depth.detach().cpu()[covered], depth, "depth")
    vertex = net.faces.long()[index[covered].long()] + covered.nonzero()[:, :1] * net.num_vertices  # [N, 3]
    for axis in range(3):
        terms = [corners[k][axis] for k in range(3)]
        summed = stack(terms, dtype).sum_into(vertex.T.reshape(-1), got[..., 0].numel())
        assert_within(got[..., axis].reshape(-1), summed, f"gradient of {'xyz'[axis]}")


def stack(terms, dtype):
    joined = Rounded.exact(torch.cat([term.value for term in terms]), dtype)
    joined.error = torch.cat([term.error for term in terms])
    return joined


@fuzz(40, mesh=seeded(kinds=("grazing", "halves", "slivers", "huge")) | listed(), rule=options)
def test_float32_decides_as_float64_does(device, mesh, rule):
    """What is covered, down to the last bit of the coordinates."""
    positions, net = made(mesh, torch.float32, device)
    single, double = (fk.rasterize(given, net, mesh.size, **rule) for given in (positions, positions.double()))
    assert (single.face_index >= 0).equal(double.face_index >= 0)


@fuzz(60, mesh=meshes(spoilt=False), rule=options, dtype=dtypes)
def test_finite_triangles_give_no_nan(device, mesh, rule, dtype):
    positions, net = made(mesh, dtype, device)
    raster = fk.rasterize(positions.requires_grad_(), net, mesh.size, **rule)
    assert raster.barycentrics.isfinite().all() and raster.depth.isfinite().all()
    assert gradient(raster, positions).isfinite().all()


@fuzz(60, mesh=meshes(), rule=options, dtype=dtypes)
def test_background_is_exact(device, mesh, rule, dtype):
    positions, net = made(mesh, dtype, device)
    raster = fk.rasterize(positions, net, mesh.size, **rule)
    assert ((raster.face_index >= -1) & (raster.face_index < net.num_faces)).all()
    empty = raster.face_index < 0
    for out in raster[1:]:
        assert_same_bits(out[empty], torch.zeros_like(out[empty]))
    # What is seen has weights of a sample inside the triangle and a depth between those of its corners.
    assert (raster.barycentrics >= 0).all() and (raster.depth[~empty] > 0).all()


def drawn_alone(positions, net, size, rule):
    """Each face in an image of its own: the raster of B * F images of one face."""
    alone = positions[:, net.faces.long()].reshape(-1, 3, 3)
    raster = fk.rasterize(alone, topology([[0, 1, 2]], 3, positions.device), size, **rule)
    return fk.Raster(*(out.reshape(len(positions), net.num_faces, *out.shape[1:]) for out in raster))


@fuzz(80, mesh=meshes(work=500_000), rule=options, dtype=dtypes)
def test_nearest_wins(device, mesh, rule, dtype):
    """The picture is, pixel by pixel and bit by bit, the nearest of the faces drawn alone; the number decides ties."""
    positions, net = made(mesh, dtype, device)
    raster = fk.rasterize(positions, net, mesh.size, **rule)
    if not net.num_faces:
        assert (raster.face_index == -1).all()
        return
    alone = drawn_alone(positions, net, mesh.size, rule)
    depth = torch.where(alone.face_index == 0, alone.depth, torch.inf)  # [B, F, H, W]
    nearest = depth.amin(1)
    assert_same_bits(raster.depth, torch.where(nearest.isinf(), 0, nearest))
    ids = torch.arange(net.num_faces, device=device)[:, None, None]
    tied = depth == nearest[:, None]
    last, first = torch.where(tied, ids, -1).amax(1), torch.where(tied, ids, len(ids)).amin(1)
    winner = torch.where(nearest.isinf(), -1, last if rule["tie"] == "highest" else first).int()
    assert_same_bits(raster.face_index, winner)
    seen = winner.clamp(min=0).long()[:, None, ..., None].expand(-1, 1, -1, -1, 3)
    assert_same_bits(raster.barycentrics, alone.barycentrics.gather(1, seen)[:, 0])


@fuzz(80, mesh=meshes(), rule=options, dtype=dtypes, seed=st.integers(0, 99))
def test_order_of_the_faces_decides_only_ties(device, mesh, rule, dtype, seed):
    positions, net = made(mesh, dtype, device)
    order = torch.randperm(net.num_faces, generator=torch.Generator().manual_seed(seed)).to(device)
    other = fk.Topology(net.faces[order], net.num_vertices)
    rules = [{**rule, "tie": tie} for tie in ("lowest", "highest")]
    (raster, last), (shuffled, _) = ([fk.rasterize(positions, m, mesh.size, **r) for r in rules] for m in (net, other))
    assert_same_bits(shuffled.depth, raster.depth)
    assert_same_bits(last.depth, raster.depth)
    padded = torch.cat([order, order.new_tensor([-1])])
    back = padded[shuffled.face_index.long()].int()
    clear = raster.face_index == last.face_index
    assert_same_bits(back[clear], raster.face_index[clear])
    assert_same_bits(shuffled.barycentrics[clear], raster.barycentrics[clear])


@fuzz(
    60,
    mesh=listed(spoilt=False, nasty=False) | seeded(spoilt=False, kinds=("soup", "halves", "net", "slivers", "layers")),
    rule=options,
    dtype=dtypes,
    shift=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_translation_by_whole_pixels(device, mesh, rule, dtype, shift):
    """On a grid of 1/64 px nothing rounds: the moved image is the image, bit for bit."""
    positions, net = made(mesh, dtype, device)
    positions[..., :2] = (positions[..., :2] * 64).round() / 64
    down, right = shift
    H, W = mesh.size
    raster = fk.rasterize(positions, net, mesh.size, **rule)
    moved = positions + positions.new_tensor([right, down, 0])
    moved = fk.rasterize(moved, net, (H + down, W + right), **rule)
    for one, other in zip(moved, raster, strict=True):
        assert_same_bits(one[:, down:, right:], other)
    cut = fk.rasterize(positions, net, (max(H - down, 1), max(W - right, 1)), **rule)
    for one, other in zip(cut, raster, strict=True):
        assert_same_bits(one, other[:, : one.shape[1], : one.shape[2]].contiguous())


BAD = [(axis, value) for axis in range(3) for value in (torch.nan, torch.inf, -torch.inf)]
BAD += [(0, 2.0**24), (1, -(2.0**24)), (2, 0.0), (2, -1.0), (2, 1e-19), (2, 2e18)]


@fuzz(60, mesh=meshes(spoilt=False), rule=options, dtype=dtypes, seed=st.integers(0, 99), wild=st.sampled_from(BAD))
def test_bad_vertices_only_drop_their_faces(device, mesh, rule, dtype, seed, wild):
    """A vertex that cannot be drawn is as if its faces were not there, forward and backward."""
    positions, net = made(mesh, dtype, device)
    g = torch.Generator().manual_seed(seed)
    bad = (torch.rand(positions.shape[:2], generator=g) < 0.1).to(device)
    axis, value = wild
    spoilt = positions.clone()
    spoilt[..., axis][bad] = value
    for b in range(len(positions)):
        gone = bad[b][net.faces.long()].any(1)
        faces = torch.where(gone[:, None], 0, net.faces)  # three times one vertex: covers nothing
        results = []
        for vertices, topo in ((spoilt, net), (positions, fk.Topology(faces, net.num_vertices))):
            leaf = vertices[b : b + 1].clone().requires_grad_()
            raster = fk.rasterize(leaf, topo, mesh.size, **rule)
            results.append([*(out.detach() for out in raster), gradient(raster, leaf)])
        for one, other in zip(*results, strict=True):
            assert_same_bits(one, other)
        assert results[0][3][0, bad[b]].eq(0).all()


@fuzz(60, mesh=meshes(), rule=options, dtype=dtypes)
def test_unseen_vertices_have_no_gradient(device, mesh, rule, dtype):
    positions, net = made(mesh, dtype, device)
    raster = fk.rasterize(positions.requires_grad_(), net, mesh.size, **rule)
    grad = gradient(raster, positions)
    assert_same_bits(grad[~seen_vertices(raster, net)], torch.zeros_like(grad[~seen_vertices(raster, net)]))


def seen_vertices(raster, net):
    """[B, V]: whether a vertex is a corner of a visible face."""
    seen = torch.zeros(len(raster.depth), net.num_vertices, dtype=torch.bool, device=net.device)
    for b, index in enumerate(raster.face_index):
        seen[b, net.faces[index[index >= 0].long()].long().unique()] = True
    return seen


@fuzz(40, mesh=meshes(), rule=options, dtype=dtypes, seed=st.integers(0, 99))
def test_a_bad_cotangent_reaches_only_the_corners_below_it(device, mesh, rule, dtype, seed):
    positions, net = made(mesh, dtype, device)
    raster = fk.rasterize(positions.requires_grad_(), net, mesh.size, **rule)
    grads = cotangents(raster[1:])
    clean = torch.autograd.grad(raster[1:], positions, grads, retain_graph=True)[0]
    empty = raster.face_index < 0
    for grad in grads:
        grad[empty] = torch.nan  # a loss outside of the mask
    assert_same_bits(torch.autograd.grad(raster[1:], positions, grads, retain_graph=True)[0], clean)
    if empty.all():
        return
    g = torch.Generator().manual_seed(seed)
    image, row, column = (~empty).nonzero()[int(torch.randint(int((~empty).sum()), (1,), generator=g))]
    grads[seed % 2][image, row, column] = torch.nan
    got = torch.autograd.grad(raster[1:], positions, grads)[0]
    others = torch.ones(positions.shape[:2], dtype=torch.bool, device=device)
    others[image, net.faces[raster.face_index[image, row, column].long()].long()] = False
    assert_same_bits(got[others], clean[others])
    assert got[~others].isnan().any()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_mesh_does_something(device, kind):
    """The recipes draw what they say: something is seen, except from behind."""
    seen = 0
    for seed in range(5):
        mesh = Seeded((33, 40), kind, 2, 60, seed, False)
        positions, net = made(mesh, torch.float64, device)
        assert positions.shape[0] == 2 and len(net.faces) <= 60
        seen += int((fk.rasterize(positions, net, mesh.size, cull=None).face_index >= 0).sum())
    assert (seen == 0) == (kind == "behind")
