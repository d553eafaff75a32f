"""antialias under hypothesis: the same edges as the definition, to the bit, and values as near as their terms allow."""

import torch
from fuzz_ops import OPS, draw_like, scenes
from fuzzing import compiled_kernels, fuzz, meshes  # noqa: F401
from rounding import Rounded, assert_within
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels.ops.antialias import op, ref


def drawn(scene, device):
    """The call, its inputs, the topology, and what the kernels find between the pixels."""
    call = OPS["antialias"](scene, device)
    mesh = fk.Topology(scene.mesh.faces(), call.inputs["positions"].shape[1]).to(device)
    image, positions, index, depth = (call.inputs[name] for name in ("image", "positions", "face_index", "depth"))
    found = op._FORWARD(image, positions, mesh.faces, mesh.opposite, index, depth)[1]
    return call, mesh, found


@fuzz(40, scene=scenes(meshes(work=20_000)))
def test_finds_the_edges_of_the_definition(device, scene):
    call, mesh, found = drawn(scene, device)
    names = ("positions", "face_index", "depth")
    positions, index, depth = (call.inputs[name].cpu() for name in names)
    want = ref._EDGES(positions, mesh.faces.cpu(), mesh.opposite.cpu(), index, depth)
    assert_same_bits(found.cpu(), want)


@fuzz(30, scene=scenes(meshes(spoilt=False, work=20_000), spoilt=False))
def test_matches_the_definition(device, scene):
    """Given the edges. Weights lie in [0, 1] and round by some units; the pixels they blend bound the rest."""
    call, mesh, found = drawn(scene, device)
    got = call.results()
    image, positions = (call.inputs[name].cpu().double().requires_grad_() for name in ("image", "positions"))
    out = ref.blended(image, positions, mesh.faces.cpu(), found.cpu())
    cotangent = draw_like([out], 0)[0]
    exact = out.detach(), torch.autograd.grad(out, image, cotangent, retain_graph=True)[0]
    eps = torch.finfo(scene.dtype).eps
    # The crossing is a place in an image: it rounds in units of the coordinates' own.
    coordinate = 1 + sum(positions.detach().nan_to_num(0).abs().clamp(max=2.0**23).flatten().sort().values[-1:])
    for name, value, of in zip(("output 0", "grad_image"), exact, (image.detach(), cotangent), strict=True):
        bound = Rounded.exact(value, scene.dtype)
        size = of.abs().amax((2, 3), keepdim=True).expand_as(value) if of.numel() else of
        bound.error = 64 * coordinate * eps * size
        assert_within(got[name].cpu(), bound, name)
