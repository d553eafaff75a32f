"""Sources whose items say which they are, for tests of what goes through sources."""

import torch

from focus.data import Batch, UnusableItemError


class Numbered:
    """`count` items; each image is filled with epoch * 1000 + index. Those in `unusable` cannot be had."""

    size = 4

    def __init__(self, count, unusable=()):
        self.count, self.unusable, self.asked = count, set(unusable), 0

    def __len__(self):
        return self.count

    def batch(self, indices, epoch):
        self.asked += 1
        for index in indices:
            if index in self.unusable:
                raise UnusableItemError(index, f"{index}.jpg", "damaged picture")
        values = torch.tensor([1000.0 * epoch + index for index in indices])
        return Batch(values.view(-1, 1, 1, 1).expand(-1, 3, 4, 4).contiguous(), torch.zeros(len(indices), 68, 2))


def numbers(batch):
    """The numbers of a batch's items."""
    return [int(value) for value in batch.image[:, 0, 0, 0]]
