"""Fuzzing: the profiles, and recipes of meshes that a shrunk failure prints in a line or two.

A test is `@fuzz(examples, name=strategy, ...)`. A plain run tries `examples` of them, the same ones each time.
FOCUS_FUZZ_MINUTES=N runs for about N minutes instead, shared evenly among the selected tests, from a random seed that
is printed; FOCUS_FUZZ_SEED repeats it. A failure is kept as a case of test_fuzz_regressions.py.
"""

import inspect
import math
import os
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from meshes import generator
from torch import Tensor

import focus_kernels as fk
from focus_kernels import _backends
from focus_kernels._extension import _C
from focus_kernels.ops.rasterize.op import COVERAGE, CULL, TIE

MINUTES = float(os.environ.get("FOCUS_FUZZ_MINUTES", 0))
SEED = int(os.environ.get("FOCUS_FUZZ_SEED") or secrets.randbelow(2**32))
# Emulated CUDA threads are thousands of times slower than what they stand for.
EMULATED = getattr(_C, "cuda_emulation", None) is not None
WORK = 400_000 if EMULATED else 40_000_000  # triangles times pixels of one example

# No deadline: nothing here is a matter of time. No database: a failure is kept by hand. No health checks: large meshes
# are slow to draw on purpose.
SETTINGS = settings(deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck))
ROUND = 10  # examples for each seed: from the eleventh on, hypothesis draws variations of what it has drawn


def fuzz(examples: int, **strategies: st.SearchStrategy) -> Callable:
    """Makes a test of `body(fixtures..., drawn...)`: `strategies` give the drawn arguments, pytest the others."""

    def decorate(body: Callable) -> Callable:
        signature = inspect.signature(body)
        fixtures = [p for name, p in signature.parameters.items() if name not in strategies]
        request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY)

        def test(request, **given):
            def example(**drawn):
                nonlocal count
                count += 1
                body(**given, **drawn)

            def run(label: str) -> None:
                drawn = settings(SETTINGS, max_examples=ROUND)(hypothesis.given(**strategies)(example))
                hypothesis.seed(zlib.crc32(label.encode()))(drawn)()

            count, rounds = 0, 0
            example.__name__ = example.__qualname__ = body.__name__
            sharing = sum(hasattr(item.obj, "fuzzed") for item in request.session.items)
            end = time.monotonic() + MINUTES * 60 / sharing
            few = examples // 4 if EMULATED else examples
            while time.monotonic() < end if MINUTES else ROUND * rounds < few:
                run(f"{SEED if MINUTES else 0} {body.__name__} {rounds}")
                rounds += 1
            if MINUTES:
                with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
                    print(f" {request.node.name}: {count} examples, FOCUS_FUZZ_SEED={SEED}")

        test.__name__, test.__doc__, test.fuzzed = body.__name__, body.__doc__, True
        test.__signature__ = inspect.Signature([*fixtures, request])
        # What hypothesis's own plugin and pytest.mark look at.
        test.pytestmark = getattr(body, "pytestmark", [])
        return test

    return decorate


@pytest.fixture(autouse=True)
def compiled_kernels(request, device, monkeypatch):
    """The hand-written kernels of the op, on each device; imported by the fuzz tests."""
    op = request.node.callspec.params.get("op", request.module.__name__.removeprefix("test_fuzz_"))
    room = f"focus_kernels.ops.{op}" if find_spec(f"focus_kernels.ops.{op}") else "focus_kernels.ops.rasterize"
    found = _backends.kernels(import_module(f"{room}.op").BACKENDS)
    reasons = {name: backend.why_not(torch.zeros(1, device=device)) for name, backend in found.items()}
    usable = [name for name, why in reasons.items() if not why]
    if not usable:
        pytest.skip("; ".join(f"{name}: {', '.join(why)}" for name, why in reasons.items()))
    monkeypatch.setattr(_backends, "FORCED", usable[0])


# Numbers. Pixel centres are at n + 0.5.

_ULP = 2.0**-24
CENTRES = (0.5, 1.5, 2.5, 3.5, 5.5, -0.5)
PLAIN = (0.0, 1.0, 2.0, 4.0, 7.0, -1.0, -3.0, 12.0, 0.25, 2.75)
NASTY = (-0.0, 0.5 + 2 * _ULP, 0.5 - _ULP, 1.5 - 2 * _ULP, 1e-45, 1e-38, 1e-7, 2.0**23, -(2.0**23), 299.5, 1e5)
WILD = (math.nan, math.inf, -math.inf, 2.0**23 + 1, -(2.0**23) - 1, 1e30, -3.4e38)
DEPTHS = (1.0, 2.0, 3.0, 1.5, 0.125, 1000.0)
NASTY_DEPTHS = (1.0 + 2 * _ULP, 1e-18, 1e18, 1e-9, 1e9)
WILD_DEPTHS = (0.0, -0.0, -1.0, 1e-19, 1e-45, -1e-45, 2e18, *WILD)

dtypes = st.sampled_from([torch.float32, torch.float64])
options = st.fixed_dictionaries(
    {
        "coverage": st.sampled_from(sorted(COVERAGE, reverse=True)),
        "cull": st.sampled_from([None, "back", "front"]),
        "perspective_correct": st.booleans(),
        "tie": st.sampled_from(sorted(TIE, reverse=True)),
    }
)


def codes(drawn: dict) -> tuple[int, int, bool, bool]:
    """`options` as the reference takes them."""
    return COVERAGE[drawn["coverage"]], CULL[drawn["cull"]], drawn["perspective_correct"], drawn["tie"] == "highest"


@dataclass(frozen=True)
class Listed:
    """A few triangles by their numbers."""

    size: tuple[int, int]
    points: list[tuple[float, float, float]]
    triangles: list[list[int]]

    def positions(self, dtype: torch.dtype, device: str = "cpu") -> Tensor:
        # The numbers are float32, so that both dtypes draw the same picture.
        points = torch.tensor(self.points, dtype=torch.float32).reshape(1, -1, 3)
        return points.to(device, dtype)

    def faces(self) -> Tensor:
        return torch.tensor(self.triangles, dtype=torch.int64).reshape(-1, 3)


@dataclass(frozen=True)
class Seeded:
    """Many triangles of a kind; where they are `spoilt`, one number in a hundred is wild."""

    size: tuple[int, int]
    kind: str
    batch: int
    count: int
    seed: int
    spoilt: bool

    def positions(self, dtype: torch.dtype, device: str = "cpu") -> Tensor:
        positions = self._drawn()[0]
        if self.spoilt:
            g = generator(self.seed + 1)
            wild = torch.rand(positions.shape, generator=g) < 0.01
            values = torch.tensor(WILD_DEPTHS, dtype=torch.float64)
            positions[wild] = values[torch.randint(len(values), (int(wild.sum()),), generator=g)]
        return positions.to(device, dtype)

    def faces(self) -> Tensor:
        return self._drawn()[1]

    def _drawn(self) -> tuple[Tensor, Tensor]:
        return KINDS[self.kind](_Draw(self))


class _Draw:
    """Random numbers of a recipe, in float64, xy in units of pixels."""

    def __init__(self, mesh: Seeded):
        self.g = generator(mesh.seed)
        self.B, self.F = mesh.batch, mesh.count
        self.extent = torch.tensor([mesh.size[1], mesh.size[0]], dtype=torch.float64)  # W, H

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.g, dtype=torch.float64)

    def pick(self, *choices):
        return choices[int(torch.randint(len(choices), (1,), generator=self.g))]

    def depths(self, *shape: int) -> Tensor:
        return 1 + 9 * self.rand(*shape, 1)

    def loose(self, xy: Tensor, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """xy [B, F, 3, 2] as unconnected triangles."""
        z = self.depths(self.B, self.F, 3) if z is None else z
        points = torch.cat([xy, z], -1).reshape(self.B, 3 * self.F, 3)
        return points, torch.arange(3 * self.F).reshape(self.F, 3)

    def soup(self) -> Tensor:
        """Corners [B, F, 3, 2] of triangles of any shape, from a tenth to three times the image."""
        scale = 3 * 10 ** (-1.5 * self.rand(1))
        centre = self.rand(self.B, self.F, 1, 2) * 1.2 - 0.1
        return (centre + (self.rand(self.B, self.F, 3, 2) - 0.5) * scale) * self.extent


def _halves(d: _Draw):
    """Corners on sample points and on pixel borders."""
    grid = d.pick(1.0, 2.0, 4.0)
    return d.loose((d.soup() * grid).round() / grid)


def _slivers(d: _Draw):
    """Three corners nearly, or quite, on a line."""
    a, b = (d.rand(d.B, d.F, 1, 2) * d.extent for _ in range(2))
    if d.pick(True, False):
        a, b = (a * 2).round() / 2, (b * 2).round() / 2
    c = a + (b - a) * d.rand(d.B, d.F, 1, 1) + d.rand(d.B, d.F, 1, 2) * 10.0 ** -d.pick(1, 3, 5, 7, 30)
    return d.loose(torch.cat([a, b, c], 2))


def _shared(d: _Draw):
    """Few vertices in many faces, some of them twice in one."""
    V = 3 + d.F // d.pick(1, 2, 8)
    points = torch.cat([d.rand(d.B, V, 2) * d.extent, d.depths(d.B, V)], -1)
    return points, torch.randint(V, (d.F, 3), generator=d.g)


def _net(d: _Draw):
    """A connected sheet over the whole image."""
    n = max(1, int((d.F / 2) ** 0.5))
    row, column = torch.meshgrid(torch.arange(n + 1), torch.arange(n + 1), indexing="ij")
    at = torch.stack([column, row], -1).reshape(1, -1, 2) + 0.4 * (d.rand(d.B, (n + 1) ** 2, 2) - 0.5)
    xy = at / n * d.extent
    if d.pick(True, False):
        xy = (xy * 2).round() / 2
    a = (row * (n + 1) + column)[:-1, :-1].reshape(-1, 1)
    faces = torch.cat([a, a + n + 1, a + n + 2, a, a + n + 2, a + 1], 1).reshape(-1, 3)[: d.F]
    return torch.cat([xy, d.depths(d.B, len(xy[0]))], -1), faces


def _fans(d: _Draw):
    """All triangles meet in one sample point."""
    xy = d.soup()
    xy[:, :, 0] = (d.extent / 2).floor() + 0.5
    return d.loose(xy)


def _grazing(d: _Draw):
    """An edge of each triangle passes a sample point by less than float32 can tell."""
    sample = (d.rand(d.B, d.F, 1, 2) * d.extent).floor() + 0.5
    along = (d.rand(d.B, d.F, 1, 2) - 0.5) * d.extent
    a, b = sample + along * d.rand(d.B, d.F, 1, 1), sample - along * d.rand(d.B, d.F, 1, 1)
    return d.loose(torch.cat([a, b, d.rand(d.B, d.F, 1, 2) * d.extent], 2))


def _layers(d: _Draw):
    """A few triangles over and over, at a few depths: ties everywhere."""
    xy = d.soup()
    same = torch.arange(d.F) % d.pick(1, 3, 7)
    return d.loose(xy[:, same], (d.depths(d.B, d.F, 1) / 4).ceil().expand(-1, -1, 3, -1))


def _tiny(d: _Draw):
    """Everything about one sample point, down to the last bit of the coordinates."""
    scale = 10.0 ** -d.pick(0, 2, 4, 6, 7)
    return d.loose((d.extent / 2).floor() + 0.5 + (d.rand(d.B, d.F, 3, 2) - 0.5) * scale)


def _huge(d: _Draw):
    """Coordinates up to the largest, and some beyond."""
    return d.loose((d.rand(d.B, d.F, 3, 2) - 0.5) * 2.0 ** d.pick(12, 20, 24, 25))


def _behind(d: _Draw):
    """All behind the camera."""
    return d.loose(d.soup(), -d.depths(d.B, d.F, 3))


def _depths(d: _Draw):
    """Depths of every magnitude, in one triangle."""
    span = d.pick(3, 8, 18)
    return d.loose(d.soup(), 10 ** ((2 * d.rand(d.B, d.F, 3, 1) - 1) * span))


KINDS: dict[str, Callable[[_Draw], tuple[Tensor, Tensor]]] = {
    "soup": lambda d: d.loose(d.soup()),
    "halves": _halves,
    "net": _net,
    "shared": _shared,
    "slivers": _slivers,
    "grazing": _grazing,
    "fans": _fans,
    "layers": _layers,
    "tiny": _tiny,
    "huge": _huge,
    "depths": _depths,
    "behind": _behind,
}


@st.composite
def listed(draw, spoilt: bool = True, nasty: bool = True, sides: int = 9, most: int = 6) -> Listed:
    """`nasty` numbers are legal, and hard; a few `spoilt` ones make a triangle vanish."""
    number = st.sampled_from(CENTRES) | st.sampled_from(PLAIN) | st.integers(-64, 640).map(lambda n: n / 64)
    depth = st.sampled_from(DEPTHS)
    if nasty:
        number |= st.floats(-8, 16, width=32) | st.sampled_from(NASTY)
        depth |= st.floats(0.5, 16, width=32) | st.sampled_from(NASTY_DEPTHS)
    # Few different numbers, so that corners meet and edges run along rows and columns.
    xy = st.sampled_from(draw(st.lists(number, min_size=2, max_size=5)))
    points = draw(st.lists(st.tuples(xy, xy, depth), min_size=3, max_size=8))
    corner = st.integers(0, len(points) - 1)
    corners = st.lists(corner, min_size=3, max_size=3, unique=draw(st.booleans()))
    faces = draw(st.lists(corners, min_size=1, max_size=most))
    if spoilt:
        axis = st.integers(0, 2)
        wild = st.tuples(corner, axis, st.sampled_from(WILD)) | st.tuples(corner, axis, st.sampled_from(WILD_DEPTHS))
        for at, axis, value in draw(st.lists(wild, max_size=2)):
            points[at] = (*points[at][:axis], value, *points[at][axis + 1 :])
    return Listed((draw(st.integers(1, sides)), draw(st.integers(1, sides))), points, faces)


_SIDE = st.integers(1, 40) | st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 129, 300])


@st.composite
def seeded(
    draw,
    spoilt: bool = True,
    work: int = WORK,
    kinds: tuple[str, ...] = tuple(KINDS),
    side: st.SearchStrategy = _SIDE,
    batches: int = 4,
) -> Seeded:
    """Up to 5000 triangles and 300 x 300 pixels, but no more triangles times pixels than `work`."""
    H, W = draw(side), draw(side)
    B = draw(st.integers(1, batches))
    F = draw(st.integers(0, 40) | st.sampled_from([2047, 2048, 2049, 5000]) | st.integers(0, 5000))
    F = min(F, min(work, WORK) // (B * H * W))
    seed = draw(st.integers(0, 2**32 - 1))
    return Seeded((H, W), draw(st.sampled_from(kinds)), B, F, seed, spoilt and draw(st.booleans()))


def meshes(spoilt: bool = True, **limits) -> st.SearchStrategy:
    return listed(spoilt=spoilt) | seeded(spoilt=spoilt, **limits)


def made(mesh: Listed | Seeded, dtype: torch.dtype, device: str) -> tuple[Tensor, fk.Topology]:
    """Positions [B, V, 3] and the topology of a recipe."""
    positions = mesh.positions(dtype, device)
    return positions, fk.Topology(mesh.faces(), positions.shape[1]).to(device)


def cotangents(outputs, seed: int = 0) -> list[Tensor]:
    """Random, of order one, the same for each dtype and device."""
    g = generator(seed)
    return [torch.randn(out.shape, generator=g, dtype=torch.float64).to(out) for out in outputs]
