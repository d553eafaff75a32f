"""Every constant of the fit, with its unit and the equation it belongs to."""

from dataclasses import dataclass

NOSE_RIDGE_AND_INNER_LIP = (27, 28, 29, 30, 60, 61, 62, 63, 64, 65, 66, 67)  # Eq. 7's weighted landmarks
JAW = tuple(range(17))  # landmarks on the contour, which are no fixed points of the skin


@dataclass(frozen=True)
class FitSettings:
    """Constants of `fit_photo`; the defaults are those of docs/fit_method.md.

    Coefficients are in standard deviations, images in [0, 1], lengths on the image in pixels of the 224 px crop.
    """

    # landmark stage
    landmark_sigma: float = 2.0
    """px, expected error of a landmark; sets the weight of landmarks against the unit Gaussian priors."""
    jaw_sigma: float = 4.0
    """px, the same for the 17 contour landmarks, which the detectors place less well."""
    landmark_outlier: float = 8.0
    """px, scale of the Geman-McClure function that lets wrong landmarks go; its last weights hold in both stages."""
    depth_sigma: float = 100.0
    """mm, prior on the translation along the optical axis, which this long a focal length hardly tells from size."""
    contour_radius: float = 60.0
    """mm, a contour landmark may slide to a silhouette vertex this near to its own vertex; half of it on the chin."""
    landmark_rounds: int = 6
    """rounds of choosing silhouette vertices and reweighting."""
    landmark_steps: int = 3
    """Gauss-Newton steps in each round."""

    # light and albedo in closed form
    light_rounds: int = 6
    """alternations of light, albedo and weights, from each of four regions of the face."""
    light_albedo_weight: float = 2e-2
    """`albedo_prior_weight` while the light is found: stronger, so that what covers the face is not painted on it."""
    light_level_weight: float = 4e-3
    """penalty beside Eq. 5 on the squared relative difference of the mean illumination from 1.2407, FOCUS's at zero
    parameters: photos are exposed alike, so that a dark face is more likely dark skin than dim light."""
    light_colour_weight: float = 1e-2
    """penalty on the mean square of each colour's illumination less that of the three: skin colour is albedo."""
    light_contrast_weight: float = 2e-3
    """penalty on the variance of the illumination."""

    # photometric stage
    iterations: int = 150
    """Adam steps on all 257 parameters through `render_sh`."""
    pixel_weight: float = 0.5
    """weight of Eq. 5, the mean squared RGB distance inside the mask (Eq. 8)."""
    landmark_weight: float = 5e-4
    """weight of Eq. 7, the mean squared landmark distance, as in Eq. 8."""
    landmark_focus: float = 4.0
    """factor of Eq. 7 on the nose ridge and the inner lip; the paper has 20."""
    prior_weight: float = 2e-3
    """weight of the sum of squares of identity and expression over 224; Eq. 8 has 0.1."""
    albedo_prior_weight: float = 3e-3
    """the same for albedo."""
    inlier_threshold: float = 0.016641
    """xi of Eq. 10 on the squared RGB distance, (3 * 0.043)^2."""
    start_threshold: float = 0.03
    """the threshold at the first step; it falls geometrically, so that the mask cannot collapse onto a bad start."""
    anneal: float = 0.6
    """share of the steps after which the threshold has reached xi."""
    contour_every: int = 25
    """steps between two choices of the silhouette vertices."""
    coefficient_rate: float = 0.03
    """Adam's step for identity, expression and albedo, in standard deviations."""
    light_rate: float = 0.02
    """Adam's step for the 27 spherical-harmonics coefficients."""
    angle_rate: float = 2e-3
    """Adam's step for the angles, in radians."""
    translation_rate: float = 0.3
    """Adam's step for the translation in mm; ten times that along the optical axis."""
