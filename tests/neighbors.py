"""neighbor_min_loss in loops over pixels, and how far its nearest neighbours are from changing."""

import torch
from torch import Tensor

AUTHORS_NEIGHBOR = {"window": 5, "search": "target", "power": 1, "masking": "images", "border": "valid"}


def neighbors(y: int, x: int, H: int, W: int, window: int) -> list[tuple[int, int]]:
    """The pixels of the window around (y, x) that exist, in row order."""
    r = window // 2
    rows, columns = range(max(0, y - r), min(H, y + r + 1)), range(max(0, x - r), min(W, x + r + 1))
    return [(row, column) for row in rows for column in columns]


def squares(fixed: Tensor, moving: Tensor, y: int, x: int, window: int) -> list[float]:
    """Squared distances of pixel (y, x) of `fixed` [3, H, W] to its neighbours in `moving`."""
    pixels = neighbors(y, x, *moving.shape[1:], window)
    return [float(((moving[:, row, column] - fixed[:, y, x]) ** 2).sum()) for row, column in pixels]


def neighbor_margin(fixed: Tensor, moving: Tensor, window: int) -> float:
    """The smallest difference between the two nearest neighbours of any pixel of the batch."""
    H, W = fixed.shape[2:]
    found = []
    for one, other in zip(fixed, moving, strict=True):
        for pixel in range(H * W):
            nearest, second, *_ = sorted(squares(one, other, pixel // W, pixel % W, window))
            found.append(second - nearest)
    return min(found)


def neighbor_loops(
    target: Tensor,
    rendered: Tensor,
    mask: Tensor,
    cotangent: Tensor,
    window: int = 3,
    search: str = "rendered",
    power: int = 2,
    masking: str = "weight",
    border: str = "clip",
) -> tuple[Tensor, dict[str, Tensor]]:
    """The map [B, 1, H', W'], and the gradients of sum(cotangent * map), pixel by pixel in float64."""
    given = {"target": target.double(), "rendered": rendered.double(), "mask": mask.double()}
    grads = {name: torch.zeros_like(value) for name, value in given.items()}
    fixed, moving = ("target", "rendered") if search == "rendered" else ("rendered", "target")
    r = window // 2 if border == "valid" else 0
    B, _, H, W = target.shape
    weight = given["mask"] if masking == "images" else torch.ones_like(given["mask"])
    out = torch.zeros(B, 1, H - 2 * r, W - 2 * r, dtype=torch.float64)
    for b in range(B):
        f, m = given[fixed][b] * weight[b], given[moving][b] * weight[b]
        for y in range(r, H - r):
            for x in range(r, W - r):
                found = squares(f, m, y, x, window)
                row, column = neighbors(y, x, H, W, window)[found.index(min(found))]
                d = m[:, row, column] - f[:, y, x]
                distance = min(found) if power == 2 else min(found) ** 0.5
                scale = 1 if masking == "images" else float(given["mask"][b, 0, y, x])
                out[b, 0, y - r, x - r] = scale * distance
                g = float(cotangent[b, 0, y - r, x - r])
                slope = 2 * d if power == 2 else (d / distance if distance else 0 * d)
                slope = g * scale * slope
                grads[moving][b, :, row, column] += slope * weight[b, 0, row, column]
                grads[fixed][b, :, y, x] -= slope * weight[b, 0, y, x]
                if masking == "images":
                    grads["mask"][b, 0, row, column] += (slope * given[moving][b, :, row, column]).sum()
                    grads["mask"][b, 0, y, x] -= (slope * given[fixed][b, :, y, x]).sum()
                else:
                    grads["mask"][b, 0, y, x] += g * distance
    return out, grads
