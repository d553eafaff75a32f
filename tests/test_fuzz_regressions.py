"""What fuzzing has found, shrunk and kept."""

import threading

import pytest
import torch
from fuzzing import compiled_kernels  # noqa: F401
from meshes import topology, triangles
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels._extension import _C


@pytest.mark.parametrize("albedo", [1.0, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_unseen_vertices_next_to_a_seen_one_in_a_vector(device, dtype, albedo, instruction_sets):
    """render_sh gave them -0 where a vector held a seen vertex, and took a NaN albedo of theirs into the light."""
    shape = (1, 16, 3)
    vertices = torch.cat([triangles([(0, 0), (0, 2), (2, 0)]), torch.ones(1, 13, 3, dtype=torch.float64)], 1)
    colors = torch.ones(shape, dtype=torch.float64)
    colors[:, 3:] = albedo
    eye = -torch.eye(3, dtype=torch.float64)[None]
    inputs = [vertices * -1, colors, -torch.ones(1, 3, 9, dtype=torch.float64), -eye, eye, torch.zeros(1, 3).double()]
    inputs = [value.to(device, dtype).requires_grad_() for value in inputs]
    mesh = topology([[0, 1, 2]], 16, device)
    for name in instruction_sets:
        _C.set_cpu_isa(name)
        camera = fk.Camera(*inputs[3:], orthographic=True)
        render = fk.render_sh(*inputs[:3], mesh, camera, (1, 1))
        assert render.mask.all()
        grads = torch.autograd.grad(render.image.sum() + render.raster.depth.sum(), inputs)
        assert all(grad.isfinite().all() for grad in grads)
        for grad in grads[:2]:
            assert_same_bits(grad[:, 3:], torch.zeros_like(grad[:, 3:]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_gradients_of_a_very_small_triangle(device, dtype, instruction_sets):
    """render_sh with FOCUS's normals gave NaN: the square of 1e-27 is no float32 number."""
    near = torch.tensor([[[7.6e-14, -3.8e-15, 5.3e-13], [7e-16, 3.1e-15, 2.6e-15], [6.3e-15, -1.2e-16, 5.3e-15]]])
    eye = torch.eye(3)[None]
    inputs = [near, torch.ones(1, 3, 3), torch.ones(1, 3, 9), eye, eye, torch.zeros(1, 3)]
    inputs = [value.to(device, dtype).requires_grad_() for value in inputs]
    mesh = topology([[0, 1, 2]], 3, device)
    for name in instruction_sets:
        _C.set_cpu_isa(name)
        render = fk.render_sh(*inputs[:3], mesh, fk.Camera(*inputs[3:]), (1, 1), cull=None, normals="focus")
        assert render.mask.all()
        grads = torch.autograd.grad(render.image.sum() + render.raster.depth.sum(), inputs)
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("normalize", [True, False])
def test_gradients_of_a_sliver_thinner_than_float32_can_invert(device, normalize):
    """vertex_normals gave infinities: the gradient is one divided by the height, 1e-45. A NaN that comes in stays."""
    sliver = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 1e18], [0.0, 1e-45, 1.0]]], device=device).requires_grad_()
    normals = fk.vertex_normals(sliver, topology([[0, 1, 2]], 3, device), normalize=normalize)
    assert normals.detach().abs().sum() == 3
    for cotangent, finite in ((torch.ones_like(normals), True), (torch.full_like(normals, torch.nan), False)):
        (grad,) = torch.autograd.grad(normals, sliver, cotangent, retain_graph=True)
        assert bool(grad.isfinite().all()) == finite


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_no_vertices_in_a_thread_that_has_drawn_nothing_yet(device, dtype, threads):
    """render_sh handed on the scratch memory of a thread that had none, where an image is cut into stripes."""
    threads(2)
    eye = torch.eye(3, device=device, dtype=dtype)[None]
    nothing, mesh = eye.new_zeros(1, 0, 3), topology(torch.zeros(0, 3, dtype=torch.long), 0, device)
    drawn = []

    def draw():
        camera = fk.Camera(eye, eye, eye.new_zeros(1, 3))
        drawn.append(fk.render_sh(nothing, nothing, eye.new_ones(1, 3, 9), mesh, camera, (32, 3)))

    thread = threading.Thread(target=draw)
    thread.start()
    thread.join()
    assert not drawn[0].mask.any() and not drawn[0].image.any()
