"""Fits the two Gaussians of focus/training/skin.py to synthetic faces: what is visible face, and what is not.

python scripts/fit_skin_colour.py
"""

from __future__ import annotations

import torch

from focus.synth import SyntheticFaces
from focus.training.skin import to_ycbcr

COUNT, SIZE, SEED = 2000, 64, 1_000_003  # a seed that no experiment uses


def main() -> None:
    shapes: tuple[tuple[int, ...], ...] = ((), (3,), (3, 3))
    sums = {name: [torch.zeros(shape, dtype=torch.float64) for shape in shapes] for name in ("SKIN", "OTHER")}
    for batch in SyntheticFaces(COUNT, SIZE, SEED, level=0).batches(32):
        colours = to_ycbcr(batch.image).permute(0, 2, 3, 1).reshape(-1, 3).double()
        visible = batch.visible.reshape(-1).double()
        for name, weight in (("SKIN", visible), ("OTHER", 1 - visible)):
            total = sums[name]
            total[0] = total[0] + weight.sum()
            total[1] = total[1] + weight @ colours
            total[2] = total[2] + (colours * weight[:, None]).T @ colours
    for name, (count, first, second) in sums.items():
        mean = first / count
        covariance = second / count - mean[:, None] * mean
        rows = ", ".join(f"({', '.join(f'{value:.5f}' for value in row)})" for row in covariance.tolist())
        print(f"{name} = Gaussian(({', '.join(f'{value:.4f}' for value in mean.tolist())}), ({rows}))")


if __name__ == "__main__":
    main()
