"""The losses of FOCUS: each equation of the paper in the form that a `Preset` chooses, and the three sums of them.

I_T is the photo `target`, I_R the render `rendered` (on black, or with `composite_input` over the photo), both
[B, 3, H, W] RGB in [0, 1]; M is `mask` [B, 1, H, W], the raster's mask times what the segmentation network gives, soft;
F is the face recognition network. All is computed in float32, or in float64 where the images are that, also of inputs
in half precision and inside autocast (F runs in what the caller chose). A batch of no images costs 0.

What is not finite is never hidden: a NaN in an image, a mask, a feature, a landmark or a coefficient makes the term
that looks at it NaN, and the sum, also where the mask is 0. The caller decides what to do then. Terms of weight 0 are
not computed and look at nothing.
"""

from .sums import Features, Loss, initialisation_loss, reconstruction_loss, segmentation_loss
from .terms import (
    area_loss,
    binary_loss,
    cosine_distance,
    gaussian_loss,
    landmark_loss,
    neighbor_loss,
    pixel_loss,
    preliminary_mask,
    pretraining_loss,
    regularisation_loss,
)

__all__ = [
    "Features",
    "Loss",
    "area_loss",
    "binary_loss",
    "cosine_distance",
    "gaussian_loss",
    "initialisation_loss",
    "landmark_loss",
    "neighbor_loss",
    "pixel_loss",
    "preliminary_mask",
    "pretraining_loss",
    "reconstruction_loss",
    "regularisation_loss",
    "segmentation_loss",
]
