"""neighbor_min_loss: photographs against renders, each pixel with the nearest of its neighbours."""

import pytest
import torch
from torch.nn.functional import interpolate as resize

import focus_kernels as fk
from focus_kernels.ops.neighbor_min_loss import ref
from focus_kernels.ops.neighbor_min_loss.modes import BORDER, MASKING, REDUCTION, SEARCH, Modes

from . import check, memory, shapes
from .peers import compiled_torch, plain_torch
from .race import TWO, cases

GRID = cases([("53k", 12)])
MODES = {
    "paper": Modes(3, SEARCH["rendered"], 2, MASKING["weight"], BORDER["clip"], REDUCTION["mean"]),
    "authors": Modes(5, SEARCH["target"], 1, MASKING["images"], BORDER["valid"], REDUCTION["mean"]),
}
AUTHORS = {"window": 5, "search": "target", "power": 1, "masking": "images", "border": "valid"}
OPTIONS = {"paper": {}, "authors": AUTHORS}
WANTED = {"both": ("rendered", "mask"), "mask": ("mask",), "rendered": ("rendered",)}


def prepared(mesh: str, batch: int, place) -> dict[str, torch.Tensor]:
    """A render, a photograph that is a little off it and has noise, and a soft mask."""
    scene = shapes.scene(mesh).part(slice(0, batch))
    g = torch.Generator().manual_seed(5)
    rendered = scene.render().image
    shift = rendered.roll(1, 3) + 0.05 * torch.randn(rendered.shape, generator=g)
    mask = resize(torch.rand(batch, 1, 7, 7, generator=g), size=shapes.SIZE, mode="bilinear")
    inputs = {"target": shift.clamp(0, 1), "rendered": rendered, "mask": mask}
    return {name: value.to(place.device).contiguous() for name, value in inputs.items()}


@GRID
def test_forward(race, place, mesh, batch):
    inputs = prepared(mesh, batch, place)
    call = lambda: fk.neighbor_min_loss(**inputs)
    check.neighbor_min_loss("neighbor_min_loss forward", inputs, MODES["paper"], (), (call(),))
    race(f"neighbor_min_loss forward, batch {batch}", [call], batch)


@GRID
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("mode, wanted", [("paper", "both"), ("paper", "mask"), ("authors", "both")])
def test_forward_backward(race, place, mesh, batch, mode, wanted, dtype):
    inputs = {name: value.to(dtype) for name, value in prepared(mesh, batch, place).items()}
    leaves = [inputs[name].requires_grad_() for name in WANTED[wanted]]

    def call():
        loss = fk.neighbor_min_loss(**inputs, **OPTIONS[mode])
        return loss, *torch.autograd.grad(loss, leaves)

    name = f"neighbor_min_loss forward + backward, {mode}, to {wanted}, {str(dtype).removeprefix('torch.')}"
    check.neighbor_min_loss(name, inputs, MODES[mode], WANTED[wanted], call())
    peers = {}
    if dtype == torch.float32:
        compiled = torch.compile(ref.forward)
        peers = plain_torch(batch, call)
        peers |= compiled_torch(batch, lambda: torch.autograd.grad(compiled(**inputs, modes=MODES[mode]), leaves))
    race(f"{name}, batch {batch}", [call], batch, peers)
    if place == TWO and peers and (mode, wanted) == ("paper", "both"):
        race.reach("neighbor_min_loss/plain torch", race.ratios.get("plain torch"))
        race.reach("neighbor_min_loss/torch.compile", race.ratios.get("torch.compile"))
        if used := memory.measured("neighbor_min_loss"):
            batches = {name: size / used["image batch"] for name, size in used.items() if name != "image batch"}
            note = ", ".join(f"{size:.2f} {name}" for name, size in batches.items())
            race.benchmark.extra_info["peak_memory_in_image_batches"] = batches
            race.reach("neighbor_min_loss/memory", batches["to rendered and mask"], note)
