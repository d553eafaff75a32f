"""Files of a fit: what other programs read back, and that nothing is left half-written."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from face_models import dome
from fits import CROP, fit_result
from PIL import Image

from focus import FaceModel, focus_camera
from focus.atomic import staged_folder, write_atomic
from focus.export import export_fit, overlay, parameters, srgb_to_linear, write_glb, write_obj, write_ply

WRITERS = {"obj": write_obj, "ply": write_ply, "glb": write_glb}


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


@pytest.fixture
def mesh():
    vertices, faces = dome(132, 12, 160)
    colors = np.random.default_rng(1).uniform(size=(132, 3))
    colors[:2] = [[0, 0, 0], [1, 1, 1]]
    return vertices, faces, colors


def load(path):
    # Beside a material trimesh keeps vertex colours as an attribute; skip_materials makes them the mesh's colours.
    return trimesh.load(path, process=False, force="mesh", skip_materials=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_meshes_load_back_with_the_same_geometry_and_colours(kind, mesh, tmp_path):
    vertices, faces, colors = mesh
    path = tmp_path / f"mesh.{kind}"
    WRITERS[kind](path, vertices, faces, colors)
    back = load(path)
    np.testing.assert_array_equal(back.faces, faces)
    unit = 1000 if kind == "glb" else 1  # glTF is in metres
    # OBJ: five decimals of a millimetre; PLY and GLB: float32 of up to 100 mm.
    np.testing.assert_allclose(back.vertices * unit, vertices, rtol=0, atol=1e-5)
    seen = np.asarray(back.visual.vertex_colors)[:, :3] / 255
    wanted = srgb_to_linear(colors) if kind == "glb" else colors
    np.testing.assert_allclose(seen, wanted, rtol=0, atol=1 / 255)  # trimesh keeps colours in bytes


def test_linear_light_of_gltf_is_that_of_the_standard():
    # IEC 61966-2-1: the ends, the straight part, and the known value of the middle.
    values = np.array([0.0, 0.0404, 0.5, 1.0])
    np.testing.assert_allclose(srgb_to_linear(values), [0, 0.0404 / 12.92, 0.2140411, 1], rtol=0, atol=1e-7)
    assert (np.diff(srgb_to_linear(np.linspace(0, 1, 10_001))) > 0).all()


def gltf(path):
    """The JSON of a GLB and its arrays by name, read by the letter of glTF 2.0."""
    data = path.read_bytes()
    assert data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data)
    length = int.from_bytes(data[12:16], "little")
    content, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    primitive = content["meshes"][0]["primitives"][0]
    arrays = {}
    for name, index in {**primitive["attributes"], "indices": primitive["indices"]}.items():
        accessor = content["accessors"][index]
        view = content["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        values = np.frombuffer(binary[view["byteOffset"] :][: view["byteLength"]], kind)
        arrays[name] = values.reshape(accessor["count"], {"VEC3": 3, "SCALAR": 1}[accessor["type"]])
    return content, arrays


def test_glb_has_unit_normals_that_look_outward_and_exact_bounds(mesh, tmp_path):
    write_glb(tmp_path / "a.glb", *mesh)
    content, arrays = gltf(tmp_path / "a.glb")
    normals = arrays["NORMAL"]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)  # float32
    assert (normals[:, 2] > 0).all()  # the dome looks along +z, which is glTF's front
    bounds = content["accessors"][0]
    np.testing.assert_array_equal(np.float32(bounds["min"]), arrays["POSITION"].min(0))
    np.testing.assert_array_equal(np.float32(bounds["max"]), arrays["POSITION"].max(0))
    np.testing.assert_allclose(arrays["COLOR_0"], srgb_to_linear(mesh[2]), atol=1e-7)  # float32


def test_glb_normals_of_vertices_without_area_are_still_unit(mesh, tmp_path):
    vertices, faces, colors = mesh
    lonely = np.vstack([vertices, [[0, 0, 0]]])
    write_glb(tmp_path / "a.glb", lonely, faces, np.vstack([colors, [[0, 0, 0]]]))
    assert np.linalg.norm(gltf(tmp_path / "a.glb")[1]["NORMAL"][-1]) == 1


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "change, error, text",
    [
        (lambda v, f, c: (v[:, :2], f, c), ValueError, "vertices to be shape"),
        (lambda v, f, c: (v, f, c[:-1]), ValueError, "colors to be one for each"),
        (lambda v, f, c: (v, f + 1, c), ValueError, "faces to be in 0..131, got 1..132"),
        (lambda v, f, c: (v, f.astype(float), c), TypeError, "faces to be integers"),
        (lambda v, f, c: (v * np.nan, f, c), ValueError, "finite"),
    ],
)
def test_bad_meshes_are_refused_and_leave_no_file(kind, change, error, text, mesh, tmp_path):
    with pytest.raises(error, match=f"write_{kind}.*{text}"):
        WRITERS[kind](tmp_path / "a", *change(*mesh))
    assert not list(tmp_path.iterdir())


def test_parameters_are_json_that_reads_back_bit_for_bit(model):
    result = fit_result(model)
    back = json.loads(json.dumps(parameters(result, model, "a.jpg", (640, 480)), allow_nan=False))
    names = ("identity", "expression", "albedo_coeffs", "sh_coeffs", "angles", "translation")
    for name in (*names, "landmarks_photo", "landmarks_projected"):
        np.testing.assert_array_equal(np.float32(back[name]), getattr(result, name), err_msg=name)
    np.testing.assert_array_equal(back["align"], result.align)
    assert back["photo"] == "a.jpg" and back["photo_size"] == [640, 480]
    assert back["model"] == {"name": model.name, "license": model.license, "num_vertices": model.num_vertices}
    assert back["errors"]["rmse_inlier"] == 9.25 and back["errors"]["rmse_all"] == 21.5
    assert (back["format"], back["version"]) == ("focus-fit", 1)


def test_camera_in_the_parameters_projects_as_the_fit_did(model):
    result = fit_result(model)
    camera = parameters(result, model)["camera"]
    K, R, t = (np.array(camera[name]) for name in "KRt")
    image = (result.vertices @ R.T + t) @ K.T
    pose = (torch.from_numpy(values)[None] for values in (result.angles, result.translation))
    wanted = focus_camera(*pose).project(torch.from_numpy(result.vertices)[None])[0, :, :2]
    # float32 of 224 px and of a metre's distance
    np.testing.assert_allclose(image[:, :2] / image[:, 2:], wanted, atol=1e-3)


def test_an_empty_mask_has_no_error_and_other_nan_is_refused(model, tmp_path):
    empty = fit_result(model, rmse_inlier=float("nan"), inlier_fraction=0.0)
    assert parameters(empty, model)["errors"]["rmse_inlier"] is None
    bad = fit_result(model, identity=np.full(80, np.nan, np.float32))
    with pytest.raises(ValueError):
        export_fit(tmp_path / "a", bad, model)
    assert not list(tmp_path.iterdir())


def test_pictures_of_a_fit(model, tmp_path):
    result = fit_result(model)
    export_fit(tmp_path / "a", result, model, pictures={"more": result.photo[:5]})
    names = {"mesh.obj", "mesh.ply", "mesh.glb", "parameters.json", "photo.png", "overlay.png", "mask.png", "more.png"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    mask = np.asarray(Image.open(tmp_path / "a/mask.png"))
    assert mask.shape == (CROP, CROP)
    np.testing.assert_array_equal(mask, np.where(result.mask, 255, 0))
    over = np.asarray(Image.open(tmp_path / "a/overlay.png"))
    np.testing.assert_array_equal(over, overlay(result))
    np.testing.assert_array_equal(over[~result.raster_mask], result.photo[~result.raster_mask])
    assert (over[result.raster_mask] == 128).all()  # the stand-in's 0.5


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_staged_folder_is_there_completely_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "a") as stage:
        (stage / "one").write_text("1")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with staged_folder(tmp_path / "a") as stage:
        (stage / "one").write_text("1")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_staged_folder_replaces_its_own_files_and_keeps_others(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "one").write_text("old")
    (folder / "mine").write_text("mine")
    with staged_folder(folder) as stage:
        (stage / "one").write_text("new")
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"one": "new", "mine": "mine"}
    assert list(tmp_path.iterdir()) == [folder]


def test_ctrl_c_waits_while_files_move(interruptible, tmp_path, monkeypatch):
    folder = tmp_path / "a"
    folder.mkdir()
    move = Path.replace

    def interrupted(self, target):
        os.kill(os.getpid(), signal.SIGINT)
        return move(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), staged_folder(folder) as stage:
        for name in "xyz":
            (stage / name).write_text(name)
    assert sorted(path.name for path in folder.iterdir()) == ["x", "y", "z"]
    assert list(tmp_path.iterdir()) == [folder]
