"""F of the perceptual losses: a face recognition network looking at faces in photos and renders."""

from __future__ import annotations

from torch import Tensor, nn

from focus.networks import PerceptualNetwork

SHALLOW_STAGES = 1  # as the authors: the maps after the first stage


class PerceptualFeatures(nn.Module):
    """`focus.losses.Features` of a `FaceRecognizer` or an `ArcFace`, which is frozen.

    The deep features are the embedding, less its mean over many faces where the network knows one (dlib's, whose plain
    cosines say little). The shallow ones are the maps after the first stage.

    Args:
        network: the network; its weights stop requiring gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PerceptualFeatures:
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, images: Tensor, landmarks: Tensor, depth: str) -> Tensor:
        """Features of faces, differentiable in the images.

        Args:
            images: [B, 3, H, W], RGB in [0, 1].
            landmarks: [B, 68, 2] px, half-pixel centres; where the faces are, without gradient.
            depth: "deep" or "shallow".

        Returns:
            [B, D] or [B, C, h, w], in the dtype that the network computes in.

        Raises:
            ValueError: another depth.
        """
        if depth not in ("deep", "shallow"):
            raise ValueError(f"PerceptualFeatures(): expected depth to be 'deep' or 'shallow', got {depth!r}")
        network: PerceptualNetwork = self.network  # type: ignore[assignment]
        chips = network.chips(images, landmarks.detach())
        if depth == "shallow":
            return network.feature_maps(chips, SHALLOW_STAGES)[-1]
        centre = getattr(network, "centre", None)
        embedding = network(chips)
        return embedding if centre is None else embedding - centre
