"""Cube maps of `compat.nvdiffrast.texture`: by the rules, sample by sample, and what must hold at edges and corners."""

from itertools import product

import numpy as np
import pytest
import torch
from texture_loops import MIPMAPPED, assert_by_rule, centre, directions, footprints, rand

from focus_kernels.compat.nvdiffrast import texture


@pytest.mark.parametrize("filter_mode", ["nearest", "linear"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cube_sample_by_sample(filter_mode, size):
    assert_by_rule(
        texture, rand(2, 6, size, size, 2, seed=size), directions(2, 7, 8), filter_mode=filter_mode, boundary="cube"
    )


@pytest.mark.parametrize("filter_mode", MIPMAPPED)
def test_cube_mip_levels_sample_by_sample(filter_mode):
    uv = 3 * directions(1, 6, 7, seed=3)
    uv_da = 4 * footprints(1, 6, 7, 6, seed=1)
    bias = rand(1, 6, 7, seed=2, low=-1.0, high=1.0)
    tex = rand(1, 6, 8, 8, 2, seed=4)
    assert_by_rule(texture, tex, uv, uv_da, None, filter_mode, "cube")
    assert_by_rule(texture, tex, uv, uv_da, bias, filter_mode, "cube", highest=1)


def cube_centres(size):
    return torch.from_numpy(
        np.array([centre(*i, size) for i in np.ndindex(6, size, size)]).reshape(1, 6, size, size, 3)
    )


def test_cube_of_positions_gives_the_point_of_the_cube_that_a_direction_meets():
    """Bilinear filtering is exact for a linear function, away from the outermost half texels."""
    size = 8
    uv = directions(1, 10, 20, seed=5)
    points = uv / uv.abs().amax(-1, keepdim=True)
    inner = points.abs().sort(-1).values[..., 1] <= 1 - 1 / size
    assert inner.sum() > 100
    out = texture(cube_centres(size), uv, boundary_mode="cube")
    torch.testing.assert_close(out[inner], points[inner], rtol=0, atol=1e-14)


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_cube_edges_are_the_mean_of_both_faces_and_corners_of_three_texels(size):
    tex = rand(1, 6, size, size, 1, seed=7)
    centres = cube_centres(size)[0].numpy()
    texels = [(index, centres[index]) for index in np.ndindex(6, size, size)]
    for signs in product((-1, 1), repeat=3):
        corner = np.array(signs, float)
        nearest = sorted(texels, key=lambda texel: np.linalg.norm(texel[1] - corner))[:3]
        expected = np.mean([tex[0][index].item() for index, _ in nearest])
        for scale in (1.0, 1e-6, 1e12):
            out = texture(tex, torch.from_numpy(corner * scale).view(1, 1, 1, 3), boundary_mode="cube")
            assert out.item() == pytest.approx(expected, abs=1e-14)
    for axis, (a, b) in enumerate(((1, 2), (0, 2), (0, 1))):
        for sign_a, sign_b in product((-1, 1), repeat=2):
            for step in range(size):  # edge points beside texel centres
                point = np.zeros(3)
                point[axis], point[a], point[b] = (2 * step + 1) / size - 1, sign_a, sign_b
                nearest = sorted(texels, key=lambda texel, p=point: np.linalg.norm(texel[1] - p))[:2]
                expected = np.mean([tex[0][index].item() for index, _ in nearest])
                out = texture(tex, torch.from_numpy(point).view(1, 1, 1, 3), boundary_mode="cube")
                assert out.item() == pytest.approx(expected, abs=1e-14), (point, size)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_cube_is_continuous_across_edges_and_corners_and_keeps_constants(size):
    generator = np.random.default_rng(3)
    along = generator.uniform(-1, 1, 200)
    along[:8] = [-1, 1, -1, 1, -1, 1, 0, 0]  # corners, too
    points = np.stack([along, np.ones(200), np.ones(200)], -1)
    points = np.stack([np.roll(p, generator.integers(3)) * generator.choice([-1, 1], 3) for p in points])
    uv = torch.from_numpy(points).view(1, 10, 20, 3)
    tex = rand(1, 6, size, size, 2, seed=8)
    at = texture(tex, uv, boundary_mode="cube")
    for seed in range(4):
        step = 1e-9 * directions(1, 10, 20, seed=seed)
        # a texture in [0, 1] changes by less than size per unit on a face, and a face is 2 units wide
        assert (texture(tex, uv + step, boundary_mode="cube") - at).abs().max() < 1e-9 * 10 * size
    flat = texture(torch.full_like(tex, 0.7), uv, boundary_mode="cube")
    torch.testing.assert_close(flat, torch.full_like(flat, 0.7), rtol=0, atol=1e-15)
