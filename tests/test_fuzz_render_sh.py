"""render_sh under hypothesis: the composition of the other ops, and what it promises whatever the scene is."""

from dataclasses import replace

import torch
from fuzz_ops import OPS, Scene, draw_like, scenes
from fuzzing import WILD, compiled_kernels, fuzz, meshes, seeded  # noqa: F401
from hypothesis import assume
from hypothesis import strategies as st
from meshes import generator
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels.camera import project

NAMES = ("image", "mask", "face_index", "barycentrics", "depth", "positions")
LEAVES = ("vertices", "albedo", "sh_coeffs", "K", "R", "t")


def prepared(scene: Scene, device: str):
    call = OPS["render_sh"](scene, device)
    return call, call.leaves(), fk.Topology(scene.mesh.faces(), call.inputs["vertices"].shape[1]).to(device)


def composed(scene: Scene, leaves: dict, net: fk.Topology):
    """The same from the other ops, one after the other."""
    positions = project(leaves["vertices"], leaves["K"], leaves["R"], leaves["t"], scene.orthographic)
    normals = fk.vertex_normals(leaves["vertices"], net, normalize=not scene.focus)
    R, (x, y, z) = leaves["R"][:, None], normals[:, :, None].unbind(-1)
    turned = R[..., 0] * x + R[..., 1] * y + R[..., 2] * z
    colors = fk.shade_sh(turned, leaves["albedo"], leaves["sh_coeffs"], convention="focus" if scene.focus else "unit")
    raster = fk.rasterize(positions, net, scene.mesh.size, **scene.rule)
    image = fk.interpolate(colors, raster, net)
    mask = (raster.face_index >= 0).to(image)[:, None]
    return torch.where(mask > 0, image, leaves["background"]), mask, *raster, positions


@fuzz(60, scene=scenes(meshes()))
def test_is_the_composition_of_the_other_ops(device, scene):
    """All outputs, bit for bit: the fused kernels do the same arithmetic in the same order."""
    call, leaves, net = prepared(scene, device)
    fused, apart = call.call(**leaves), composed(scene, leaves, net)
    for name, one, other in zip(NAMES, fused, apart, strict=True):
        one, other = one.detach(), other.detach()
        if one.is_floating_point():
            one, other = one.nan_to_num(7, 1e30, -1e30), other.nan_to_num(7, 1e30, -1e30)
        assert_same_bits(one, other, name)


SMOOTH = seeded(spoilt=False, kinds=("soup", "net", "shared", "fans"), work=1_000_000)


@fuzz(40, scene=scenes(SMOOTH, spoilt=False))
def test_gradients_are_those_of_the_composition(device, scene):
    """In float64, where half of the digits tell a wrong term from the rounding of thin triangles; not where the normals
    around a vertex cancel, so that its normal and the gradient are of what rounding left."""
    scene = replace(scene, dtype=torch.float64)
    call, leaves, net = prepared(scene, device)
    left = fk.vertex_normals(leaves["vertices"].detach(), net, normalize=False).norm(dim=-1)  # 1 where all look one way
    assume(not ((left > 0) & (left < 1e-6)).any())
    results = []
    for outputs in (call.call(**leaves), composed(scene, leaves, net)):
        smooth = [out for out in outputs if out.requires_grad]
        grads = torch.autograd.grad(smooth, [leaves[name] for name in LEAVES], draw_like(smooth, 0), allow_unused=True)
        results.append([torch.zeros(()) if grad is None else grad for grad in grads])
    for name, one, other in zip(LEAVES, *results, strict=True):
        if not other.numel():
            continue
        torch.testing.assert_close(
            one, other, rtol=0, atol=1e-7 * float(abs(other).max()), msg=lambda text, name=name: f"{name}: {text}"
        )


def picture_gradients(outputs, leaves, positions=None):
    """Gradients of all that is seen (and of the positions, where a cotangent is given) to LEAVES."""
    smooth = [outputs[0], outputs[3], outputs[4]]
    grads = draw_like(smooth, 3)
    if positions is not None:
        smooth, grads = [*smooth, outputs[5]], [*grads, positions]
    return torch.autograd.grad(smooth, [leaves[name] for name in LEAVES], grads, allow_unused=True)


@fuzz(50, scene=scenes(meshes(spoilt=False), spoilt=False), bad=st.sampled_from([torch.nan, torch.inf, -torch.inf]))
def test_vertices_that_are_not_finite_only_drop_their_faces(device, scene, bad):
    """As if those faces were not there: the picture, the normals of their neighbours, and every gradient."""
    _, leaves, net = prepared(scene, device)
    vertices = leaves["vertices"].detach()
    g = generator(scene.seed)
    gone = (torch.rand(vertices.shape[:2], generator=g) < 0.1).to(device)
    axis = int(torch.randint(3, (1,), generator=g))
    spoilt = vertices.clone()
    spoilt[..., axis][gone] = bad
    cotangent = torch.randn(vertices.shape, generator=g, dtype=torch.float64).to(vertices)
    for b in range(len(vertices)):
        dropped = gone[b][net.faces.long()].any(1)
        without = fk.Topology(torch.where(dropped[:, None], 0, net.faces), net.num_vertices)
        results = []
        for mesh, points in ((net, spoilt), (without, vertices)):
            own = {name: value[b : b + 1].detach().requires_grad_() for name, value in leaves.items()}
            own["vertices"] = points[b : b + 1].clone().requires_grad_()
            camera = fk.Camera(own["K"], own["R"], own["t"], orthographic=scene.orthographic)
            normals = "focus" if scene.focus else "unit"
            colors = (own["vertices"], own["albedo"], own["sh_coeffs"])
            out = fk.render_sh(*colors, mesh, camera, scene.mesh.size, normals=normals, **scene.rule)
            outputs = (out.image, out.mask, *out.raster, out.positions)
            pull = torch.where(gone[b : b + 1, :, None], 0, cotangent[b : b + 1])
            results.append((outputs, picture_gradients(outputs, own, pull)))
        (outputs, grads), (want, want_grads) = results
        for name, one, other in zip(NAMES[:5], outputs, want, strict=False):
            assert_same_bits(one.detach(), other.detach(), name)
        assert_same_bits(outputs[5].detach()[0, ~gone[b]], want[5].detach()[0, ~gone[b]], "positions")
        for name, one, other in zip(LEAVES, grads, want_grads, strict=True):
            assert torch.equal(one, other), name  # zeros of either sign
        assert grads[0][0, gone[b]].eq(0).all() and grads[1][0, gone[b]].eq(0).all()


@fuzz(50, scene=scenes(meshes()))
def test_unseen_vertices_have_no_gradient(device, scene):
    """Albedo: beyond the corners of visible faces. Vertices: beyond the neighbours of those corners."""
    call, leaves, net = prepared(scene, device)
    outputs = call.call(**leaves)
    grads = picture_gradients(outputs, leaves)
    faces = net.faces.long()
    for b, index in enumerate(outputs[2]):
        seen = torch.zeros(net.num_vertices, dtype=torch.bool, device=device)
        seen[faces[index[index >= 0].long()].unique()] = True
        near = seen.clone()
        near[faces[seen[faces].any(1)].unique()] = True
        for grad, reached in ((grads[0], near), (grads[1], seen)):
            assert_same_bits(grad[b, ~reached], torch.zeros_like(grad[b, ~reached]))
        if not seen.any():
            assert all(grad is None or grad[b].eq(0).all() for grad in grads)


@fuzz(40, scene=scenes(meshes()), kind=st.sampled_from(["none", "color", "image", "batch"]))
def test_background_is_exact(device, scene, kind):
    call, leaves, _ = prepared(scene, device)
    full = leaves["background"].detach()
    given = {"none": None, "color": full[0, :, 0, 0], "image": full[0], "batch": full}[kind]
    if given is not None:
        given = given.clone().requires_grad_()
    image, mask, index, *_ = call.call(**{**leaves, "background": given})
    black = torch.zeros_like(full)
    want = black if given is None else black + (given.detach()[:, None, None] if kind == "color" else given.detach())
    empty = index < 0
    assert_same_bits(mask[:, 0], (~empty).to(mask))
    hidden = empty[:, None].expand_as(image)
    got, want = image.detach()[hidden], want[hidden]
    assert_same_bits(got.nan_to_num(7), want.nan_to_num(7))
    if given is not None:
        grad = torch.autograd.grad(image, given, torch.ones_like(image))[0]
        count = hidden if kind == "batch" else hidden.sum(0) if kind == "image" else hidden.sum((0, 2, 3))
        assert grad.eq(count.to(grad)).all()


@fuzz(50, scene=scenes(meshes()), wild=st.sampled_from((*WILD, 0.0, 1e-45)), where=st.integers(0, 20))
def test_wild_cameras_draw_nothing_wrong(device, scene, wild, where):
    """Any camera: what is seen lies at a legal depth, what is not is background, and the backward comes to an end."""
    call, leaves, net = prepared(scene, device)
    name, at = ("K", where) if where < 9 else ("R", where - 9) if where < 18 else ("t", where - 18)
    changed = leaves[name].detach().clone()
    changed.reshape(len(changed), -1)[:, at] = wild
    leaves[name] = changed.requires_grad_()
    outputs = call.call(**leaves)
    depth, index = outputs[4].detach(), outputs[2]
    assert (depth[index >= 0] > 0).all() and depth.isfinite().all() and depth[index < 0].eq(0).all()
    assert outputs[3].isfinite().all()
    usable = outputs[5].detach()[..., 2]
    for b in range(len(index)):
        corners = usable[b][net.faces.long()[index[b][index[b] >= 0].long()]]
        assert ((corners >= 0.99e-18) & (corners <= 1.01e18)).all()
    picture_gradients(outputs, leaves, torch.ones_like(outputs[5]))
