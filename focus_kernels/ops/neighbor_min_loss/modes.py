"""The options of neighbor_min_loss as numbers."""

from typing import NamedTuple

SEARCH = {"rendered": 0, "target": 1}
MASKING = {"weight": 0, "images": 1}
BORDER = {"clip": 0, "valid": 1}
REDUCTION = {"mean": 0, "mask_mean": 1, "sum": 2, "none": 3}
MEAN, MASK_MEAN, SUM, NONE = REDUCTION.values()


class Modes(NamedTuple):
    """As the raw ops and the kernels take them."""

    window: int
    search: int
    power: int
    masking: int
    border: int
    reduction: int

    def map_size(self, H: int, W: int) -> tuple[int, int]:
        """H', W' of the pixels that are compared."""
        return H - 2 * self.margin, W - 2 * self.margin

    @property
    def margin(self) -> int:
        """Pixels on each side that are not."""
        return self.window // 2 if self.border else 0
