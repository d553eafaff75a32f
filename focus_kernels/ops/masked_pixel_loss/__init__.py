from .op import inlier_mask, masked_pixel_loss

__all__ = ["inlier_mask", "masked_pixel_loss"]
