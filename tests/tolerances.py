"""How close is close enough: by measurement against float64, never by taste.

A discontinuity (which face is seen) is judged by its own rule: a legal flip at an edge passes, a shift fails.
"""

import torch
from torch import Tensor


def assert_as_accurate(got: Tensor, plain: Tensor, exact: Tensor, what: str = "") -> None:
    """`got` is at most twice as far from `exact` (float64) as `plain`, the plain torch formula in the dtype of `got`.

    Where the plain formula happens to be (nearly) exact, one rounding of the largest value is allowed.
    """
    assert got.dtype == plain.dtype and got.shape == plain.shape == exact.shape, (got.dtype, got.shape, exact.shape)
    assert got.isfinite().all(), f"{what}: {int((~got.isfinite()).sum())} values are not finite"
    if not got.numel():
        return
    rounding = torch.finfo(got.dtype).eps * exact.abs().max()
    error, allowed = (got.double() - exact).abs(), (plain.double() - exact).abs()
    for name, measure in (("largest", Tensor.max), ("mean", Tensor.mean)):
        bound = 2 * measure(allowed) + rounding
        assert measure(error) <= bound, f"{what}: {name} error {measure(error):.3e}, allowed {bound:.3e}"


def assert_rounding_only(got: Tensor, exact: Tensor, plain32: Tensor, what: str = "") -> None:
    """float64 `got` against float64 `exact`, two ways to compute one thing.

    The float32 error of the plain formula, scaled by 2^-29 (the ratio of the two epsilons), is what the formula costs
    in float64; each of the two may be off by twice that.
    """
    assert got.dtype == exact.dtype == torch.float64 and got.shape == exact.shape, (got.dtype, got.shape, exact.shape)
    if not got.numel():
        return
    conditioning = (plain32.double() - exact).abs().max() * 2.0**-29
    bound = 4 * conditioning + 2 * torch.finfo(torch.float64).eps * exact.abs().max()
    error = (got - exact).abs().max()
    assert error <= bound, f"{what}: largest error {error:.3e}, allowed {bound:.3e}"


def assert_accurate(got: Tensor, plain: Tensor, exact: Tensor, what: str = "") -> None:
    """The one of the two that is for the dtype of `got`; `plain` is float32, `exact` float64."""
    if got.dtype == torch.float32:
        assert_as_accurate(got, plain, exact, what)
    else:
        assert_rounding_only(got, exact, plain, what)


def assert_same_bits(got: Tensor, want: Tensor, what: str = "") -> None:
    """Equal bit for bit (so 0 differs from -0, and NaN equals itself; in half precision any NaN equals any other)."""
    assert got.dtype == want.dtype and got.shape == want.shape, (got.dtype, want.dtype, got.shape, want.shape)
    if got.dtype in (torch.float16, torch.bfloat16):
        got, want = (torch.where(value.isnan(), torch.nan, value) for value in (got, want))
    as_int = {torch.float32: torch.int32, torch.float64: torch.int64}
    as_int |= {torch.float16: torch.int16, torch.bfloat16: torch.int16}
    if got.dtype in as_int:
        got, want = got.contiguous().view(as_int[got.dtype]), want.contiguous().view(as_int[want.dtype])
    different = int((got != want).sum())
    assert not different, f"{what}: {different} of {got.numel()} values differ in their bits"


def assert_same_faces(
    got: Tensor,
    want: Tensor,
    positions: Tensor,
    faces: Tensor,
    *,
    perspective: bool,
    edge: float,
    depth: float,
) -> Tensor:
    """Face ids [B, H, W] agree but for legal flips; returns where they agree.

    A pixel may show another face only where rounding can decide: each of the two faces reaches the pixel centre to
    within `edge` pixels, and either the nearer one (or both) ends within `edge` there, or their depths agree
    relatively to `depth`. With edge = 0 and depth = 0 nothing may differ.
    """
    assert got.shape == want.shape and got.dtype == want.dtype == torch.int32
    agree = got == want
    image, row, column = (~agree).nonzero().unbind(1)
    if not len(image):
        return agree
    reach, seen = [], []
    for index in (got, want):
        face = index[image, row, column].long()
        inside, z = _inside_and_depth(positions.double(), faces.long(), image, row, column, face, perspective)
        reach.append(inside)
        seen.append(z)
    reached = (reach[0] >= -edge) & (reach[1] >= -edge)
    # Background has no border of its own: it reaches everywhere, never ends, and is behind everything.
    ends = [inside <= edge for inside in reach]
    tied = (seen[0] - seen[1]).abs() <= depth * torch.minimum(seen[0], seen[1])
    silhouette = (ends[0] & ends[1]) | (ends[0] & (seen[0] < seen[1])) | (ends[1] & (seen[1] < seen[0]))
    legal = reached & (silhouette | tied)
    if edge == 0 and depth == 0:
        legal = torch.zeros_like(legal)
    bad = (~legal).nonzero()[:, 0]
    where = [(int(image[i]), int(row[i]), int(column[i])) for i in bad[:5]]
    assert not len(bad), f"{len(bad)} of {agree.numel()} pixels show another face for no reason, first {where}"
    return agree


def _inside_and_depth(positions, faces, image, row, column, face, perspective):
    """How many pixels the centre is inside its face (negative outside, inf for background), and the depth there."""
    background = face < 0
    corners = positions[image[:, None], faces[face.clamp(min=0)]]  # [N, 3, 3]
    centre = torch.stack([column, row], -1)[:, None] + 0.5  # [N, 1, 2]
    d = corners[..., :2] - centre
    nxt, last = d.roll(-1, 1), d.roll(-2, 1)
    weights = nxt[..., 0] * last[..., 1] - nxt[..., 1] * last[..., 0]  # [N, 3]
    total = weights.sum(-1, keepdim=True)
    length = (last - nxt).norm(dim=-1)
    inside = (weights * total.sign() / length).amin(-1)  # signed distance to the nearest edge line
    z = corners[..., 2]
    z = total[..., 0] / (weights / z).sum(-1) if perspective else (weights * z).sum(-1) / total[..., 0]
    return torch.where(background, torch.inf, inside), torch.where(background, torch.inf, z)


def margin(positions: Tensor, faces: Tensor, size: tuple[int, int]) -> float:
    """Smallest distance in pixels from any pixel centre to any edge line of a face near it.

    Finite differences are valid only while no sample changes its face: gradcheck inputs assert a margin.
    """
    H, W = size
    row, column = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    centre = torch.stack([column, row], -1).reshape(1, -1, 1, 1, 2) + 0.5
    d = positions.detach().double().cpu()[:, faces.cpu().long(), :2][:, None] - centre  # [B, HW, F, 3, 2]
    a, b = d, d.roll(-1, 3)
    along = b - a
    s = (-(a * along).sum(-1) / (along * along).sum(-1)).clamp(0, 1)[..., None]
    return float((a + s * along).norm(dim=-1).min())
