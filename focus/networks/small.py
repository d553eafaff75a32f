"""SmallEncoder: a reconstruction network for computers without a GPU, grown from the face recognizer's trunk."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .recognizer import STAGES, FaceRecognizer, RecognizerTrunk
from .resnet import check_images, check_outputs

SIZE = 112  # px
_STAGES = 4
_PLACES = STAGES[_STAGES - 2][0] * 6 * 6  # numbers of the last map but one
_FEATURES = _PLACES + STAGES[_STAGES - 1][0]
_STEP = 0.1  # of the last layer: it has thousands of inputs and would else run ahead of the trunk


class SmallEncoder(nn.Module):
    """A small reconstruction network R: about 0.15 billion multiplications for a photo, a
    twenty-seventh of a ResNet-50's.

    The photo is resized to 112 x 112 px and goes through the first four stages of the `FaceRecognizer`'s trunk. Unlike
    there, places are kept: all 6 x 6 x 128 numbers of the third stage, with the means of the fourth's 256 maps, are
    normalised per photo (LayerNorm) and go to the last layer. It has no batch statistics, so it does not mind small
    batches. The last layer starts at zero: at first every photo gives theta = 0, the mean face.

    Args:
        outputs: how many numbers theta has, such as 257; at most 6 million parameters up to 300.

    The constructor makes random weights, `pretrained` starts from a network that knows faces.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = check_outputs("SmallEncoder", outputs)
        self.trunk = RecognizerTrunk(_STAGES)
        self.norm = nn.LayerNorm(_FEATURES)
        self.head = nn.Linear(_FEATURES, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @classmethod
    def pretrained(cls, outputs: int, path: str | os.PathLike[str] | None = None) -> SmallEncoder:
        """One whose trunk is that of the shipped face recognizer (CC0), or of the one at `path`; all of it trainable.

        Raises:
            ValueError: the file is damaged or holds another network.
            OSError: the file cannot be read.
        """
        with torch.random.fork_rng(devices=[]):  # nothing that is drawn stays
            encoder = cls(outputs)
        recognizer = FaceRecognizer.load(path)
        state = recognizer.trunk.state_dict()
        encoder.trunk.load_state_dict({key: state[key] for key in encoder.trunk.state_dict()})
        return encoder

    def forward(self, images: Tensor) -> Tensor:
        """Theta of photos.

        Args:
            images: [B, 3, H, W], RGB in [0, 1], aligned by `focus.alignment.align_face`; 224 x 224 and 112 x 112 are
                usual, any size goes. Differentiable.

        Returns:
            [B, outputs] of the images' dtype, also under autocast; before the decoder's scales.
        """
        check_images("SmallEncoder", images)
        if images.shape[2:] != (SIZE, SIZE):
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
        maps = self.trunk(images)
        features = torch.cat([maps[-2].flatten(1), maps[-1].mean(dim=(2, 3))], 1)
        return (self.head(self.norm(features)) * _STEP).to(images.dtype)
