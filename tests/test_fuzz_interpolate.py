"""interpolate under hypothesis: held against the definition, and who owns which number."""

import torch
from fuzz_ops import OPS, Scene, scenes
from fuzzing import compiled_kernels, fuzz, meshes  # noqa: F401
from hypothesis import strategies as st
from rounding import Rounded, assert_within
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels.ops.interpolate import ref


def drawn(scene: Scene, device: str):
    """The call, its leaves, and the topology."""
    call = OPS["interpolate"](scene, device)
    return call, call.leaves(), fk.Topology(scene.mesh.faces(), call.inputs["attributes"].shape[1]).to(device)


@fuzz(40, scene=scenes(meshes(spoilt=False, work=200_000), spoilt=False))
def test_matches_the_definition(device, scene):
    """Sums of products: each as far from float64 as its terms, taken without their signs, allow."""
    call, leaves, net = drawn(scene, device)
    got = call.results()
    index = leaves["face_index"].cpu()
    cotangent = None

    def plain(signed: bool):
        nonlocal cotangent
        sign = (lambda x: x) if signed else torch.abs
        wide = [sign(leaves[name].detach().cpu().double()).requires_grad_() for name in ("attributes", "barycentrics")]
        out = ref.forward(wide[0], net.faces.cpu(), index, wide[1])
        cotangent = torch.stack([draw(out[b], b) for b in range(len(out))]) if len(out) else out
        return out.detach(), *torch.autograd.grad(out, wide, sign(cotangent))

    draw = lambda out, b: torch.randn(out.shape, generator=torch.Generator().manual_seed(b), dtype=torch.float64)
    exact, sizes = plain(True), plain(False)
    # The longest sum: three corners, all channels, or all pixels of an image at one vertex; the cotangent is rounded.
    terms = 4 + max(3, exact[0].shape[1], 3 * index[0].numel())
    for name, value, size in zip(("output 0", "grad_attributes", "grad_barycentrics"), exact, sizes, strict=True):
        bound = Rounded.exact(value, scene.dtype)
        bound.error = terms * torch.finfo(scene.dtype).eps * size
        assert_within(got[name].cpu(), bound, name)


@fuzz(60, scene=scenes(meshes()))
def test_background_is_exact_and_reads_nothing(device, scene):
    call, leaves, net = drawn(scene, device)
    (out,) = call.call(**leaves)
    empty = (leaves["face_index"] < 0) | (leaves["face_index"] >= net.num_faces)
    image = out.permute(0, 2, 3, 1)
    assert_same_bits(image[empty], torch.zeros_like(image[empty]))
    # Weights and gradients of the background are not looked at.
    names = ("attributes", "barycentrics")
    spoilt = torch.where(empty[..., None], torch.nan, leaves["barycentrics"]).detach().requires_grad_()
    (other,) = call.call(**{**leaves, "barycentrics": spoilt})
    cotangent = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(out)
    holes = torch.where(empty[:, None], torch.nan, cotangent)
    want = torch.autograd.grad(out, [leaves[name] for name in names], cotangent)
    got = torch.autograd.grad(other, (leaves["attributes"], spoilt), holes)
    for name, one, two in zip(names, got, want, strict=True):
        assert_same_bits(one.nan_to_num(7), two.nan_to_num(7), name)
    assert_same_bits(got[1][empty], torch.zeros_like(got[1][empty]))


@fuzz(60, scene=scenes(meshes()), share=st.sampled_from([0.0, 0.1, 0.5]))
def test_a_bad_vertex_reaches_only_its_faces(device, scene, share):
    """Pixels and weights of other faces keep their bits; vertices that no pixel shows get exactly zero."""
    call, leaves, net = drawn(scene, device)
    attributes = leaves["attributes"].detach()
    bad = (torch.rand(attributes.shape[:2], generator=torch.Generator().manual_seed(scene.seed)) < share).to(device)
    spoilt = torch.where(bad[..., None], torch.nan, attributes).requires_grad_()
    (out,), (other,) = call.call(**leaves), call.call(**{**leaves, "attributes": spoilt})
    index = leaves["face_index"].long()
    covered = (index >= 0) & (index < net.num_faces)
    cotangent = torch.ones_like(out)
    want = torch.autograd.grad(out, (leaves["attributes"], leaves["barycentrics"]), cotangent)
    got = torch.autograd.grad(other, (spoilt, leaves["barycentrics"]), cotangent)
    assert_same_bits(got[0].nan_to_num(7), want[0].nan_to_num(7))
    for b in range(len(index)):
        faces = net.faces.long()[index[b][covered[b]]]  # [N, 3]
        touched = torch.zeros_like(covered[b])
        touched[covered[b]] = bad[b][faces].any(1)
        assert_same_bits(other[b][:, ~touched].nan_to_num(7), out[b][:, ~touched].nan_to_num(7))
        assert_same_bits(got[1][b][~touched].nan_to_num(7), want[1][b][~touched].nan_to_num(7))
        assert other[b][:, touched].isnan().all()
        unseen = torch.ones_like(bad[b])
        unseen[faces.unique()] = False
        assert_same_bits(got[0][b, unseen], torch.zeros_like(got[0][b, unseen]))
