"""`compat.sim3dr` against Sim3DR's own answers, and against its rules written out one triangle and pixel at a time."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from sim3dr_loops import by_rule, dome, light_by_rule, soup

from focus_kernels.compat import sim3dr
from focus_kernels.compat.sim3dr import RenderPipeline, get_normal, rasterize

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden" / "sim3dr_a.npz"
F = np.float32


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN.name} is not here")
    with np.load(GOLDEN) as data:
        return dict(data)


def test_upstream_picture_to_the_bit(golden):
    bg = golden["background"].copy()
    assert rasterize(golden["vertices"], golden["triangles"], golden["colors"], bg) is bg
    np.testing.assert_array_equal(bg, golden["image"])


def test_upstream_picture_in_reverse(golden):
    bg = np.ascontiguousarray(golden["background"][::-1])
    rasterize(golden["vertices"], golden["triangles"], golden["colors"], bg, reverse=True)
    np.testing.assert_array_equal(bg[::-1], golden["image"])


def test_upstream_normals(golden):
    ours = get_normal(golden["vertices"], golden["triangles"])
    assert ours.dtype == F
    # both sum up to some 12 vectors in float32, each rounded by 2^-24 of the longest
    np.testing.assert_allclose(ours, golden["normals"], rtol=0, atol=5e-7)


def test_the_rules_of_this_test_are_upstreams(golden):
    """The loop that the other tests trust, on the part of the mesh in one corner."""
    triangles = golden["triangles"]
    image, depth = by_rule(golden["vertices"], triangles, golden["colors"], golden["background"][:36], dtype=F)
    np.testing.assert_array_equal(image, golden["image"][:36])
    np.testing.assert_array_equal(depth, golden["depth"][:36])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("seed", "count", "size", "channels"),
    [(0, 40, (24, 31), 3), (1, 25, (30, 17), 1), (2, 25, (16, 16), 4), (3, 6, (1, 40), 2), (4, 60, (20, 20), 5)],
)
def test_soups_are_drawn_to_the_bit(seed, count, size, channels, reverse):
    vertices, triangles, colors, bg = soup(seed, count, size, channels)
    expected, depth = by_rule(vertices, triangles, colors, bg, reverse)
    assert (depth > -1e8).mean() > 0.2
    np.testing.assert_array_equal(rasterize(vertices, triangles, colors, bg, reverse=reverse), expected)


@pytest.mark.parametrize("lift", [0, 1000, 5e5, -2e6])
def test_meshes_at_any_height_are_drawn_to_the_bit(lift):
    vertices, triangles = dome()
    vertices[:, 2] += F(lift)
    colors = np.random.default_rng(5).uniform(0, 1, vertices.shape).astype(F)
    bg = np.full((40, 40, 3), 9, np.uint8)
    expected, _ = by_rule(vertices, triangles, colors, bg)
    assert (expected != 9).mean() > 0.3
    np.testing.assert_array_equal(rasterize(vertices, triangles, colors, bg), expected)


def test_one_vertex_far_off_costs_no_depth_digits():
    vertices, triangles, colors, bg = soup(6, 30, (20, 20))
    far = np.array([[500, 500, -9e7], [510, 500, 9e7], [500, 510, 0]], F)
    every = np.concatenate([vertices, far]), np.concatenate([triangles, [[90, 91, 92]]]).astype(np.int32)
    expected, _ = by_rule(vertices, triangles, colors, bg)
    colors = np.concatenate([colors, np.zeros((3, 3), F)])
    np.testing.assert_array_equal(rasterize(*every, colors, bg), expected)


def test_the_first_of_equal_depths_is_drawn_and_the_nearer_else():
    square = np.array([[-1, -1, 4], [9, -1, 4], [-1, 9, 4]], F)
    vertices = np.concatenate([square, square, square + F([0, 0, 1]), square]).astype(F)
    colors = np.repeat(np.arange(1, 5, dtype=F) / 10 + F(0.001), 3)[:, None]
    triangles = np.arange(12, dtype=np.int32).reshape(4, 3)
    drawn = lambda order: rasterize(vertices, triangles[order], colors, None, 4, 4, 1)[0, 0, 0]
    assert drawn([1, 0, 3]) == 51
    assert drawn([0, 1, 2, 3]) == 76


def test_both_windings_are_drawn_and_edges_are_not():
    triangle = np.array([[1, 1, 0], [1, 5, 0], [5, 1, 0]], F)
    for order in ([0, 1, 2], [0, 2, 1]):
        image = rasterize(triangle, np.array([order], np.int32), np.ones((3, 1), F), None, 7, 7, 1)[..., 0]
        rows, columns = np.nonzero(image)
        assert {(2, 2), (2, 3), (3, 2)} == set(zip(rows.tolist(), columns.tolist(), strict=True))
        assert (image[1] == 0).all() and (image[:, 1] == 0).all()


def test_below_the_start_of_the_depth_buffer_nothing_is_drawn():
    triangle = np.array([[-9, -9, -1.5e8], [30, -9, -5e7], [-9, 30, -5e7]], F)
    faces, colors, bg = np.array([[0, 1, 2]], np.int32), np.ones((3, 1), F), np.zeros((10, 10, 1), np.uint8)
    expected, _ = by_rule(triangle, faces, colors, bg)
    assert 0.01 < (expected > 0).mean() < 0.99
    np.testing.assert_array_equal(rasterize(triangle, faces, colors, bg), expected)


def test_without_a_picture_it_is_black():
    vertices, triangles, colors, _ = soup(7, 20, (12, 18), 2)
    expected, _ = by_rule(vertices, triangles, colors, np.zeros((12, 18, 2), np.uint8))
    image = rasterize(vertices, triangles, colors, height=12, width=np.int64(18), channel=2)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)


def test_sizes_are_ignored_with_a_picture():
    vertices, triangles, colors, bg = soup(8, 10, (9, 9))
    expected, _ = by_rule(vertices, triangles, colors, bg)
    np.testing.assert_array_equal(rasterize(vertices, triangles, colors, bg, 1, "two", -3), expected)


def test_other_dtypes_and_layouts_are_converted_and_a_strided_picture_is_drawn_in_place():
    vertices, triangles, colors, bg = soup(9, 20, (14, 11))
    expected, _ = by_rule(vertices, triangles, colors, bg)
    whole = np.zeros((28, 11, 6), np.uint8)
    view = whole[::2, :, ::2]
    view[...] = bg
    drawn = rasterize(
        np.asfortranarray(vertices.astype(float)), triangles.astype(np.uint64)[::-1][::-1], colors.tolist(), view
    )
    assert drawn is view
    np.testing.assert_array_equal(view, expected)
    assert not whole[1::2].any() and not whole[..., 1::2].any()
    frozen = [array.copy() for array in (vertices, triangles, colors)]
    for array in frozen:
        array.flags.writeable = False
    np.testing.assert_array_equal(rasterize(*frozen, bg.copy()), expected)


def test_inputs_are_left_alone():
    vertices, triangles, colors, bg = soup(10, 20, (10, 10))
    before = [array.copy() for array in (vertices, triangles, colors)]
    rasterize(vertices, triangles, colors, bg)
    RenderPipeline()(vertices, triangles, bg, colors)
    for array, kept in zip((vertices, triangles, colors), before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_triangles_edited_in_place_are_seen():
    vertices, triangles, colors, bg = soup(11, 20, (12, 12))
    rasterize(vertices, triangles, colors, bg.copy())
    triangles[:] = triangles[::-1, [1, 0, 2]]
    triangles[:9] = triangles[9]
    expected, _ = by_rule(vertices, triangles, colors, bg)
    np.testing.assert_array_equal(rasterize(vertices, triangles, colors, bg), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vertices_out_of_range_drop_their_triangles(bad, axis):
    vertices, triangles, colors, bg = soup(12, 20, (12, 12))
    expected, _ = by_rule(vertices, triangles[1:], colors, bg)
    vertices[1, axis] = bad
    np.testing.assert_array_equal(rasterize(vertices, triangles, colors, bg), expected)
    normal = get_normal(vertices, triangles)
    if not np.isfinite(bad):
        np.testing.assert_array_equal(normal[:3], 0)
    assert np.isfinite(normal).all()


def test_colours_saturate_and_nan_is_black():
    triangle = np.array([[-9, -9, 0], [30, -9, 0], [-9, 30, 0]], F)
    faces = np.array([[0, 1, 2]], np.int32)
    colors = np.repeat(np.array([[-2, -0.1, 1.5, 1e30, np.nan, np.inf]], F), 3, axis=0)
    image = rasterize(triangle, faces, colors, None, 3, 3, 6)
    assert image.reshape(-1, 6).tolist() == [[0, 0, 255, 255, 0, 255]] * 9


def test_nothing_to_draw():
    vertices, triangles, colors, bg = soup(13, 5, (6, 6))
    kept = bg.copy()
    np.testing.assert_array_equal(rasterize(vertices, triangles[:0], colors, bg), kept)
    np.testing.assert_array_equal(rasterize(vertices[:0], triangles[:0], colors[:0], bg), kept)
    assert rasterize(vertices, triangles, colors, np.zeros((0, 4, 3), np.uint8)).shape == (0, 4, 3)
    assert rasterize(vertices, triangles, colors[:, :0], height=4, width=4, channel=0).shape == (4, 4, 0)
    degenerate = np.repeat(triangles[:, :1], 3, axis=1)
    np.testing.assert_array_equal(rasterize(vertices, degenerate, colors, bg), kept)
    assert get_normal(vertices[:0], triangles[:0]).shape == (0, 3)
    np.testing.assert_array_equal(get_normal(vertices, degenerate), 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"intensity_ambient": 0.1, "light_pos": (3, -2, 1), "view_pos": [0, 1, 2], "specular_exp": 3},
        {"intensity_directional": 0, "color_ambient": (0.2, 0.5, 1.5)},
        {"intensity_ambient": 0, "intensity_specular": 0.9, "color_directional": (0.9, 0.1, 0.4), "specular_exp": 2},
        {"intensity_specular": 0, "intensity_directional": (0.2, 0.4, 0.6), "unknown": 1},
    ],
)
def test_lighting_and_drawing(options):
    vertices, triangles = dome()
    light = light_by_rule(vertices, triangles, options)
    texture = np.random.default_rng(1).uniform(0, 1, vertices.shape).astype(F)
    for painted in (None, texture, texture.astype(float)):
        bg = np.full((40, 40, 3), 7, np.uint8)
        colors = (light if painted is None else light * texture).astype(F)
        expected, depth = by_rule(vertices, triangles, colors, bg)
        assert RenderPipeline(**options)(vertices, triangles, bg, painted) is bg
        off = np.abs(bg.astype(int) - expected)
        # float32 against float64 may truncate to the other side of a whole number
        assert off.max() <= 1
        assert (off > 0).mean() < 0.01
        np.testing.assert_array_equal((bg != 7).any(-1) | (depth > -1e8), depth > -1e8)


def test_the_light_moves():
    vertices, triangles = dome()
    app = RenderPipeline()
    app.update_light_pos((4, 0, 0))
    assert app.light_pos.shape == (1, 3)
    other = RenderPipeline(light_pos=(4, 0, 0))
    first, second, third = (np.zeros((40, 40, 3), np.uint8) for _ in range(3))
    app(vertices, triangles, first)
    other(vertices, triangles, second)
    RenderPipeline()(vertices, triangles, third)
    np.testing.assert_array_equal(first, second)
    assert (first != third).any()


def test_a_vertex_at_the_light_and_odd_powers_are_finite():
    vertices, triangles = dome()
    vertices[5] = np.nan
    for options in ({"specular_exp": 2.5}, {"light_pos": (np.inf, 0, 0)}, {"specular_exp": -1}):
        bg = np.zeros((40, 40, 3), np.uint8)
        RenderPipeline(**options)(vertices, triangles, bg)
        assert bg.max() >= int(255 * 0.29)
    point = np.zeros((3, 3), F)
    bg = np.zeros((4, 4, 3), np.uint8)
    assert not RenderPipeline()(point, np.array([[0, 1, 2]], np.int32), bg).any()


def test_signatures_are_upstreams():
    empty = inspect.Parameter.empty
    parameters = lambda f: {name: p.default for name, p in inspect.signature(f).parameters.items()}
    names = ["vertices", "triangles", "colors", "bg", "height", "width", "channel", "reverse"]
    defaults = [empty, empty, empty, None, None, None, None, False]
    assert list(parameters(rasterize).items()) == list(zip(names, defaults, strict=True))
    assert parameters(get_normal) == {"vertices": empty, "triangles": empty}
    assert list(parameters(RenderPipeline()).items()) == [
        ("vertices", empty), ("triangles", empty), ("bg", empty), ("texture", None)
    ]  # fmt: skip
    attributes = vars(RenderPipeline())
    assert attributes.pop("specular_exp") == 5
    scalars = {name: attributes.pop(name) for name in list(attributes) if name.startswith("intensity")}
    assert scalars == {"intensity_ambient": 0.3, "intensity_directional": 0.6, "intensity_specular": 0.1}
    expected = {
        "color_ambient": [1, 1, 1],
        "color_directional": [1, 1, 1],
        "light_pos": [0, 0, 5],
        "view_pos": [0, 0, 5],
    }
    assert {name: value[0].tolist() for name, value in attributes.items()} == expected


ERRORS = [
    ("vertices", None, TypeError),
    ("vertices", "text", TypeError),
    ("vertices", np.zeros((15, 3), complex), TypeError),
    ("vertices", np.zeros((15, 3), object), TypeError),
    ("vertices", [[0, 1, 2], [3]], TypeError),
    ("vertices", np.zeros((15, 2), F), ValueError),
    ("vertices", np.zeros(45, F), ValueError),
    ("triangles", np.zeros((5, 3), F), TypeError),
    ("triangles", np.zeros((5, 3), bool), TypeError),
    ("triangles", np.zeros((5, 4), np.int32), ValueError),
    ("triangles", np.full((5, 3), 15, np.int32), ValueError),
    ("triangles", np.full((5, 3), -1, np.int32), ValueError),
    ("triangles", np.full((5, 3), 2**32), ValueError),
    ("triangles", np.full((5, 3), 2**64 - 1, np.uint64), ValueError),
    ("colors", None, TypeError),
    ("colors", np.zeros((15, 4), F), ValueError),
    ("colors", np.zeros((14, 3), F), ValueError),
    ("bg", np.zeros((6, 6, 3), F), TypeError),
    ("bg", [[[0, 0, 0]]], TypeError),
    ("bg", np.zeros((6, 6), np.uint8), ValueError),
    ("bg", np.broadcast_to(np.uint8(0), (6, 6, 3)), ValueError),
    ("reverse", "yes", TypeError),
]


@pytest.mark.parametrize(("name", "value", "kind"), ERRORS)
def test_bad_arguments_are_named(name, value, kind):
    vertices, triangles, colors, bg = soup(14, 5, (6, 6))
    arguments = {"vertices": vertices, "triangles": triangles, "colors": colors, "bg": bg} | {name: value}
    with pytest.raises(kind, match=rf"rasterize\(\): expected {name} to be"):
        rasterize(**arguments)
    if name in ("vertices", "triangles"):
        with pytest.raises(kind, match=rf"get_normal\(\): expected {name} to be"):
            get_normal(**{key: arguments[key] for key in ("vertices", "triangles")})


@pytest.mark.parametrize("missing", ["height", "width", "channel"])
def test_sizes_without_a_picture_are_checked(missing):
    vertices, triangles, colors, _ = soup(15, 5, (6, 6))
    for value, kind in ((None, TypeError), (2.0, TypeError), (True, TypeError), (-1, ValueError)):
        sizes = {"height": 6, "width": 6, "channel": 3} | {missing: value}
        with pytest.raises(kind, match=rf"expected {missing} to be"):
            rasterize(vertices, triangles, colors, **sizes)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("light_pos", (1, 2), ValueError),
        ("color_ambient", "red", TypeError),
        ("specular_exp", None, TypeError),
        ("intensity_ambient", np.ones((2, 3)), ValueError),
    ],
)
def test_bad_lights_are_named(name, value, kind):
    vertices, triangles, _, bg = soup(16, 5, (6, 6))
    with pytest.raises(kind, match=f"{name}|could not convert"):
        RenderPipeline(**{name: value})(vertices, triangles, bg)


def test_bad_textures_and_pictures_are_named():
    vertices, triangles, _, bg = soup(17, 5, (6, 6))
    with pytest.raises(ValueError, match="expected texture to be"):
        RenderPipeline()(vertices, triangles, bg, np.zeros((3, 3), F))
    with pytest.raises(TypeError, match="expected bg to be"):
        RenderPipeline()(vertices, triangles, None)


def test_triangles_are_kept_between_calls():
    vertices, triangles, colors, bg = soup(18, 5, (6, 6))
    rasterize(vertices, triangles, colors, bg)
    newest = sim3dr._topologies._known[0].topology
    get_normal(vertices, triangles.copy())
    assert sim3dr._topologies._known[0].topology is newest
