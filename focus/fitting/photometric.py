"""Second stage: all parameters through `render_sh`, with the inlier mask of Eq. 9-10 chosen anew at every step."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from focus.camera import DISTANCE, focus_camera
from focus.face_model import FaceModel
from focus_kernels import Camera, Render, render_sh, vertex_normals

from .contour import Contour
from .landmark_stage import Pose
from .light import fit_light, light_prior
from .result import FitError
from .settings import NOSE_RIDGE_AND_INNER_LIP, FitSettings

COEFFICIENTS = 224.0  # Eq. 8's regulariser is the sum of squares over this


class Photometric:
    """The state of one photo's fit: seven leaf tensors and what the loss needs.

    Args:
        model: face model; its device and dtype are used.
        photo: [3, S, S] in [0, 1], the crop.
        inside: [S, S] bool, crop pixels that lie in the photo.
        targets: [68, 2] px in the crop.
        pose: of the landmark stage.
    """

    def __init__(
        self,
        model: FaceModel,
        photo: Tensor,
        inside: Tensor,
        targets: np.ndarray,
        contour: Contour,
        pose: Pose,
        settings: FitSettings,
    ) -> None:
        self.model, self.photo, self.inside, self.settings = model, photo, inside, settings
        self.contour, self.targets = contour, targets
        self.size = photo.shape[-1]
        like, s = model.mean_shape, settings
        num_identity = len(model.identity_basis)

        def leaf(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values, dtype=like.dtype, device=like.device)[None].clone().requires_grad_()

        translation = pose.translation - np.array([0.0, 0.0, DISTANCE])
        self.identity, self.expression = leaf(pose.shape[:num_identity]), leaf(pose.shape[num_identity:])
        self.albedo = leaf(np.zeros(len(model.albedo_basis)))
        self.light = leaf(np.zeros((3, 9)))
        self.angles, self.translation = leaf(pose.angles), leaf(translation[:2])
        self.depth = leaf(translation[2:])
        weights = torch.ones(68, dtype=like.dtype, device=like.device)
        weights[list(NOSE_RIDGE_AND_INNER_LIP)] = s.landmark_focus
        weights[:17] = (s.landmark_sigma / s.jaw_sigma) ** 2
        self.landmark_weights = weights * torch.as_tensor(pose.trust).to(like)
        self.target_points = torch.as_tensor(targets, dtype=like.dtype, device=like.device)
        self.chosen = model.landmarks
        self.light_prior = light_prior(s.light_level_weight, s.light_colour_weight, s.light_contrast_weight)
        self.precision, self.light_centre = (torch.as_tensor(part).to(like) for part in self.light_prior)

    def camera(self) -> Camera:
        return focus_camera(self.angles, torch.cat([self.translation, self.depth], 1), size=self.size)

    def vertices(self) -> Tensor:
        return self.model.shape(self.identity, self.expression)

    def render(self) -> Render:
        albedo = self.model.albedo(self.albedo)
        size = (self.size, self.size)
        return render_sh(self.vertices(), albedo, self.light, self.model.topology, self.camera(), size)

    def distance(self, image: Tensor) -> Tensor:
        """Squared RGB distance [S, S] to the photo."""
        return (image[0] - self.photo).square().sum(0)

    @torch.no_grad()
    def start_light(self) -> None:
        """Light and albedo in closed form, from the photo's colours at the visible vertices."""
        vertices, camera, s = self.vertices(), self.camera(), self.settings
        render = self.render()
        faces = render.raster.face_index[0][self.inside & (render.mask[0, 0] > 0)].long()
        if len(faces) == 0:
            raise FitError("the face lies outside the photo")
        visible = torch.unique(self.model.topology.faces[faces.unique()].long())
        normals = (vertex_normals(vertices, self.model.topology) @ camera.R.transpose(1, 2))[0, visible]
        grid = render.positions[0, visible, :2] / self.size * 2 - 1
        colours = torch.nn.functional.grid_sample(
            self.photo[None], grid[None, None], align_corners=False, padding_mode="border"
        )[0, :, 0].T
        light, coeffs = fit_light(
            _numpy(colours),
            _numpy(normals),
            _numpy(self.model.mean_albedo[visible]),
            _numpy(self.model.albedo_basis[:, visible]),
            self.regions(_numpy(vertices[0]), _numpy(visible).astype(int)),
            rounds=s.light_rounds,
            start=s.start_threshold,
            end=s.inlier_threshold,
            albedo_prior=s.light_albedo_weight / (s.pixel_weight * COEFFICIENTS),
            light_prior=self.light_prior,
        )
        self.light.copy_(torch.as_tensor(light)[None])
        self.albedo.copy_(torch.as_tensor(coeffs)[None])

    def regions(self, vertices: np.ndarray, visible: np.ndarray) -> np.ndarray:
        """Parts of the face [4, N] that may be bare: all, below the brows, above the nostrils, between the two."""
        ids = self.contour.landmarks
        height = vertices[visible, 1]
        below = height < vertices[ids[17:27], 1].mean()
        above = height > vertices[ids[31:36], 1].mean()
        return np.stack([below | above, below, above, below & above])

    @torch.no_grad()
    def slide_contour(self) -> None:
        """Choose the silhouette vertices of the jaw landmarks for the present shape and pose."""
        vertices, camera = self.vertices(), self.camera()
        chosen = self.contour.choose(_numpy(vertices[0]), _numpy(camera.project(vertices)[0, :, :2]), self.targets)
        self.chosen = torch.as_tensor(chosen, device=vertices.device)

    def threshold(self, step: int) -> float:
        """Eq. 10's threshold at a step: geometric from the start value to xi, then xi."""
        s = self.settings
        done = min(1.0, step / max(1.0, s.anneal * s.iterations))
        return s.start_threshold * (s.inlier_threshold / s.start_threshold) ** done

    def loss(self, step: int) -> Tensor:
        """Eq. 8 without the perceptual term, for one photo."""
        s = self.settings
        render = self.render()
        distance = self.distance(render.image)
        with torch.no_grad():  # the E-step, Eq. 9-10
            mask = (render.mask[0, 0] > 0) & self.inside & (distance < self.threshold(step))
        pixel = (distance * mask).sum() / mask.sum().clamp_min(1)
        offset = (render.positions[0, self.chosen, :2] - self.target_points).square().sum(-1)
        landmark = (self.landmark_weights * offset).mean()
        prior = s.prior_weight * (self.identity.square().sum() + self.expression.square().sum())
        prior = (prior + s.albedo_prior_weight * self.albedo.square().sum()) / COEFFICIENTS
        light = self.light.reshape(27) - self.light_centre
        pixel = pixel + light @ (self.precision @ light)
        return s.pixel_weight * pixel + s.landmark_weight * landmark + prior

    def optimise(self, progress: Callable[[str, int, int], None] | None) -> None:
        """Adam on everything; the rates fall as a cosine to a tenth."""
        s = self.settings
        groups = [
            {"params": [self.identity, self.expression, self.albedo], "lr": s.coefficient_rate},
            {"params": [self.light], "lr": s.light_rate},
            {"params": [self.angles], "lr": s.angle_rate},
            {"params": [self.translation], "lr": s.translation_rate},
            {"params": [self.depth], "lr": 10 * s.translation_rate},
        ]
        optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99))
        rates = [group["lr"] for group in optimiser.param_groups]
        for step in range(s.iterations):
            if step % s.contour_every == 0:
                self.slide_contour()
            fall = 0.1 + 0.45 * (1 + np.cos(np.pi * step / s.iterations))
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * fall
            optimiser.zero_grad(set_to_none=True)
            loss = self.loss(step)
            if not torch.isfinite(loss):
                raise FitError(f"the loss is {loss.item()} at step {step}")
            loss.backward()
            optimiser.step()
            if progress is not None:
                progress("photometric", step + 1, s.iterations)
        self.slide_contour()


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float64)
