"""What holds for every op: the same bits however it is run, nothing infinite out of finite numbers, clear errors."""

from dataclasses import replace

import pytest
import torch
from fuzz_ops import OPS, draw_like, scenes
from fuzzing import compiled_kernels, fuzz, listed, meshes  # noqa: F401
from hypothesis import strategies as st
from tolerances import assert_same_bits

import focus_kernels as fk
from focus_kernels._extension import _C

OP = pytest.mark.parametrize("op", OPS)


def assert_same(got: dict, want: dict, what: str) -> None:
    assert got.keys() == want.keys()
    for name in want:
        assert_same_bits(got[name], want[name], f"{name}, {what}")


@OP
@fuzz(30, scene=scenes(meshes()))
def test_same_bits_for_every_run_thread_and_instruction_set(op, device, threads, instruction_sets, scene):
    call = OPS[op](scene, device)
    threads(1)
    _C.set_cpu_isa(instruction_sets[0])
    want = call.results()
    for count in (1, 2, 3):
        threads(count)
        assert_same(call.results(), want, f"{count} threads")
    threads(1)
    for name in instruction_sets:
        _C.set_cpu_isa(name)
        assert_same(call.results(), want, name)


@OP
@fuzz(25, scene=scenes(meshes()))
def test_same_bits_for_every_split_of_the_batch(op, device, scene):
    call = OPS[op](scene, device)
    if call.reduced:
        return
    whole = call.results()
    batch = next(len(value) for name, value in call.inputs.items() if name not in call.unbatched)
    shared = [f"grad_{name}" for name in call.unbatched]
    for b in range(batch):
        own = {name: value if name in call.unbatched else value[b : b + 1] for name, value in call.inputs.items()}
        one, want = (
            {name: value for name, value in results.items() if name not in shared}
            for results in (call.results(own, seed=b), whole)
        )
        assert_same(one, {name: value[b : b + 1] for name, value in want.items()}, f"image {b} of {batch}")


LAYOUTS = {
    "transposed": lambda x: x.transpose(0, -1).clone(memory_format=torch.contiguous_format).transpose(0, -1),
    "strided": lambda x: torch.stack([x, x.clone().fill_(7)], -1)[..., 0],
    "unaligned": lambda x: torch.cat([x.new_zeros(1), x.reshape(-1)])[1:].view(x.shape),
    "expanded": lambda x: x[:1].expand(x.shape) if x.dim() else x,
}


@OP
@fuzz(30, scene=scenes(meshes()), layout=st.sampled_from(sorted(LAYOUTS)))
def test_same_bits_for_every_layout(op, device, scene, layout):
    """Views, expanded and unaligned tensors, among them the gradients that come in."""
    call = OPS[op](scene, device)
    changed = {name: LAYOUTS[layout](value) for name, value in call.inputs.items()}
    plain = {name: value.clone(memory_format=torch.contiguous_format) for name, value in changed.items()}
    outputs = [out for out in call.call(**call.leaves(plain)) if out.requires_grad]
    grads = [LAYOUTS[layout](grad) for grad in draw_like(outputs, 0)]
    want = call.results(plain, cotangents=[grad.contiguous() for grad in grads])
    got = call.results(changed, cotangents=grads)
    assert_same({name: value.contiguous() for name, value in got.items()}, want, layout)


@OP
@fuzz(40, scene=scenes(meshes(spoilt=False), spoilt=False))
def test_finite_inputs_give_finite_results(op, device, scene):
    """But for gradients that float32 cannot hold: such a one may be infinite, as that of a depth of 1e18 in R is."""
    exact = OPS[op](replace(scene, dtype=torch.float64), device).results()
    for name, value in OPS[op](scene, device).results().items():
        if name.startswith("grad_") and scene.dtype == torch.float32 and not exact[name].abs().lt(1e36).all():
            continue
        assert not value.is_floating_point() or value.isfinite().all(), name


HOW = st.sampled_from(["shape", "dtype", "rank", "type", "batch"])


@OP
@fuzz(60, scene=scenes(listed()), victim=st.integers(0, 99), how=HOW)
def test_bad_arguments_raise_and_name_themselves(op, device, scene, victim, how):
    call = OPS[op](scene, device)
    inputs = dict(call.inputs)
    name = sorted(inputs)[victim % len(inputs)]
    value = inputs[name]
    inputs[name] = {
        "shape": lambda: value.new_zeros(*value.shape[:-1], value.shape[-1] + 1 + victim % 3),
        "dtype": lambda: value.to((torch.int64, torch.float16, torch.bool, torch.complex64)[victim % 4]),
        "rank": lambda: value[(None,) * (1 + victim % 2)] if victim % 4 < 2 else value.reshape(-1),
        "type": lambda: (None, 3, "face", value.cpu().tolist(), value.cpu().double().numpy())[victim % 5],
        "batch": lambda: torch.cat([value] * (2 + victim % 2)),
    }[how]()
    free = {("vertex_normals", "vertices"), (op, "background")}
    free |= {(name, "positions") for name in ("rasterize", "rasterize_clip", "rasterize_ndc")}
    if (how == "batch" and (op, name) in free) or (name == "background" and how in ("type", "batch")):
        return  # a batch of another size is a batch; a background may be None
    if op == "blend" and (name, how) in (("coeffs", "batch"), ("basis", "batch"), ("basis", "dtype")):
        return  # any batch; twice no component is none; a basis may be half precision
    if op == "interpolate" and name == "attributes" and how == "shape":
        return  # any number of channels
    with pytest.raises((TypeError, ValueError), match=r"^(\w+)\(\): expected ") as error:
        call.call(**inputs)
    assert str(error.value).startswith((f"{op}(): expected ", "Camera(): expected "))


INTEGERS = st.sampled_from([torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool, torch.float32])
NUMBERS = st.sampled_from([0, 1, 2, 3, -1, 2**31, -(2**31), 2**62])


@fuzz(60, rows=st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=4), count=st.integers(-1, 4), dtype=INTEGERS)
def test_a_topology_is_checked_or_refused(device, rows, count, dtype):
    faces = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3).to(dtype)
    legal = count >= 0 and bool(((faces >= 0) & (faces < max(count, 0))).all()) and not dtype.is_floating_point
    if legal and dtype != torch.bool:
        mesh = fk.Topology(faces, count).to(device)
        assert mesh.faces.cpu().equal(faces.int()) and mesh.offsets[-1] == len(mesh.corners) == 3 * len(rows)
        return
    with pytest.raises((TypeError, ValueError), match=r"^Topology\(\): expected "):
        fk.Topology(faces, count)


SIDES = st.sampled_from([0, -1, 2**23 + 1, 2**40, 1.5, True, None, "4", torch.tensor(3), [3]])


@fuzz(40, scene=scenes(listed()), side=SIDES, first=st.booleans())
def test_a_bad_size_raises(device, scene, side, first):
    H, W = scene.mesh.size
    size = (side, W) if first else (H, side)
    inputs = OPS["render_sh"](scene, device).inputs
    net = fk.Topology(scene.mesh.faces(), len(scene.mesh.points)).to(device)
    camera = fk.Camera(*(inputs[name] for name in "KRt"))
    with pytest.raises((TypeError, ValueError), match=r"^rasterize\(\): expected size to be "):
        fk.rasterize(inputs["vertices"], net, size)
    with pytest.raises((TypeError, ValueError), match=r"^render_sh\(\): expected size to be "):
        fk.render_sh(inputs["vertices"], inputs["albedo"], inputs["sh_coeffs"], net, camera, size)
