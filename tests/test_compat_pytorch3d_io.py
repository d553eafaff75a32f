"""`compat.pytorch3d.io` against OBJ files whose contents are known, trimesh, and PyTorch3D where it imports."""

import importlib
import inspect
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from focus_kernels.compat.pytorch3d.io import load_obj, load_objs_as_meshes, save_obj

OURS = SimpleNamespace(load_obj=load_obj, load_objs_as_meshes=load_objs_as_meshes, save_obj=save_obj)

HOUSE = """# a house, with a comment \x0cv 9 9 9
mtllib house.mtl
o house
v 0 0 0
v 1.0 0 0 0.5 0.5 0.5
v 1 1e0 0
v 0 1 0
v 0.5 1.5 -.25

vt 0 0
vt 1 0 0
vt 1 1
vt 0 1
vn 0 0 1
vn 0 0.6 0.8
f 1 2 3
s 1
usemtl wall
f 1/1/1 2/2/1 3/3/1 4/4/1
usemtl roof
f 4//2 3//2 5//2
usemtl wall
f 1/1 3/3 4/4
"""


@pytest.fixture(params=["ours", "pytorch3d"])
def lib(request):
    if request.param == "ours":
        return OURS
    pytest.importorskip("pytorch3d", reason="PyTorch3D is not installed")
    theirs = importlib.import_module("pytorch3d.io")
    if theirs.load_obj is load_obj:
        pytest.skip("pytorch3d is the drop-in itself")
    return theirs


def write(folder, text, name="mesh.obj"):
    path = folder / name
    path.write_text(text, newline="")
    return path


def sheet(n=12, seed=0):
    """Vertices [n * n, 3], float32, and the faces of a grid."""
    verts = torch.rand(n * n, 3, generator=torch.Generator().manual_seed(seed)) * 200 - 100
    corner = torch.arange(n * n).view(n, n)[:-1, :-1].reshape(-1)
    faces = torch.cat([corner + torch.tensor(c)[:, None] for c in ((0, n, 1), (1, n, n + 1))], 1).T
    return verts, faces


def test_what_a_file_holds(lib, tmp_path):
    verts, faces, aux = lib.load_obj(write(tmp_path, HOUSE), load_textures=False)
    assert verts.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 1.5, -0.25]]
    assert faces.verts_idx.tolist() == [[0, 1, 2], [0, 1, 2], [0, 2, 3], [3, 2, 4], [0, 2, 3]]
    none = [-1, -1, -1]
    assert faces.textures_idx.tolist() == [none, [0, 1, 2], [0, 2, 3], none, [0, 2, 3]]
    assert faces.normals_idx.tolist() == [none, [0, 0, 0], [0, 0, 0], [1, 1, 1], none]
    assert faces.materials_idx.tolist() == [-1, 0, 0, 1, 0]
    assert aux.verts_uvs.tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
    np.testing.assert_array_equal(aux.normals.numpy(), np.float32([[0, 0, 1], [0, 0.6, 0.8]]))
    assert verts.dtype == aux.verts_uvs.dtype == aux.normals.dtype == torch.float32
    assert {index.dtype for index in faces} == {torch.int64}
    assert aux.material_colors is None and aux.texture_images is None and aux.texture_atlas is None
    assert faces._fields == ("verts_idx", "normals_idx", "textures_idx", "materials_idx")
    assert aux._fields == ("normals", "verts_uvs", "material_colors", "texture_images", "texture_atlas")


def test_a_file_of_vertices_and_faces_only(lib, tmp_path):
    verts, faces, aux = lib.load_obj(write(tmp_path, "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 3 1 2"))
    assert verts.shape == (3, 3) and faces.verts_idx.tolist() == [[2, 0, 1]]
    assert faces.textures_idx.tolist() == faces.normals_idx.tolist() == [[-1, -1, -1]]
    assert aux.verts_uvs is None and aux.normals is None


def test_polygons_are_fans(lib, tmp_path):
    lines = [f"v {i} 0 0" for i in range(7)] + [f"vt {i} 0" for i in range(7)]
    corners = [f"{i}/{8 - i}" for i in range(1, 8)]
    _, faces, _ = lib.load_obj(write(tmp_path, "\n".join([*lines, "f " + " ".join(corners)])))
    assert faces.verts_idx.tolist() == [[0, i, i + 1] for i in range(1, 6)]
    assert faces.textures_idx.tolist() == [[6, 6 - i, 5 - i] for i in range(1, 6)]
    assert len(faces.materials_idx) == 5


def test_negative_indices_count_back_from_their_line(tmp_path):
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvn 0 0 1\nf -3/-1/-1 -2/-1/-1 -1/-1/-1\n"
    text += "v 0 0 5\nv 1 0 5\nv 0 1 5\nvt 1 1\nf -3/-1 -2/-2 3/2\n"
    _, faces, _ = load_obj(write(tmp_path, text))
    assert faces.verts_idx.tolist() == [[0, 1, 2], [3, 4, 2]]
    assert faces.textures_idx.tolist() == [[0, 0, 0], [1, 0, 1]]
    assert faces.normals_idx.tolist() == [[0, 0, 0], [-1, -1, -1]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_ends_of_lines_tabs_marks_and_continued_lines(tmp_path, end):
    text = "\ufeff" + end.join(["v 0 0 0", "v\t1 0 \\", " 0  ", "v 0 1 0", "f 1 2 \\", "3 # the only one", "", ""])
    verts, faces, _ = load_obj(write(tmp_path, text))
    assert verts.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]] and faces.verts_idx.tolist() == [[0, 1, 2]]


def test_paths_and_file_objects(tmp_path):
    path = write(tmp_path, HOUSE)
    expected = load_obj(path, load_textures=False)
    opener = SimpleNamespace(open=lambda name, mode: (tmp_path / name).open(mode))
    with path.open() as text, path.open("rb") as binary:
        for given in (str(path), bytes(path), text, binary, io.StringIO(HOUSE), io.BytesIO(HOUSE.encode())):
            verts, faces, aux = load_obj(given, load_textures=False)
            assert torch.equal(verts, expected[0]) and torch.equal(aux.verts_uvs, expected[2].verts_uvs)
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(faces, expected[1], strict=True))
    assert torch.equal(load_obj("mesh.obj", False, path_manager=opener)[0], expected[0])


def test_trimesh_reads_the_same(tmp_path):
    verts, faces = sheet()
    text = "".join(f"v {x!r} {y!r} {z!r}\n" for x, y, z in verts.tolist())
    text += "".join(f"f {a + 1} {b + 1} {c + 1}\n" for a, b, c in faces.tolist())
    path = write(tmp_path, text)
    theirs = trimesh.load(path, process=False, maintain_order=True)
    ours = load_obj(path)
    np.testing.assert_array_equal(ours[0].numpy(), theirs.vertices.astype(np.float32))
    np.testing.assert_array_equal(ours[1].verts_idx.numpy(), theirs.faces)
    assert torch.equal(ours[0], verts)


def test_materials_are_not_read_and_say_so(tmp_path):
    path = write(tmp_path, HOUSE)
    with pytest.warns(UserWarning, match=r"materials and images of .*mesh\.obj are not read"):
        aux = load_obj(path)[2]
    assert aux.material_colors is None and aux.texture_images is None


@pytest.mark.filterwarnings("error")
def test_no_warning_without_materials(tmp_path):
    load_obj(write(tmp_path, HOUSE), load_textures=False)
    load_obj(write(tmp_path, "v 0 0 0\n"))


TRIANGLE = "v 0 0 0\nv 1 0 0\nv 0 1 0\n"
BAD = {
    "two numbers": ("v 1 2\n", 1, "'v' and 3 finite numbers, got 'v 1 2'"),
    "no number": (TRIANGLE + "v 1 2 x\n", 4, "'v' and 3 finite numbers"),
    "nan": ("\nv 1 nan 2\n", 2, "'v' and 3 finite numbers"),
    "beyond float32": ("v 1 1e39 2\n", 1, "'v' and 3 finite numbers"),
    "texture": ("vt 1\n", 1, "'vt' and 2 finite numbers"),
    "normal": ("vn 1 0\n", 1, "'vn' and 3 finite numbers"),
    "two corners": (TRIANGLE + "f 1 2\n", 4, "'f' and three corners or more"),
    "comment": (TRIANGLE + "f 1 2 # 3\n", 4, "'f' and three corners or more"),
    "zero": (TRIANGLE + "f 0 1 2\n", 4, "of indices from 1, or from -1 back to -3, got 'f 0 1 2'"),
    "too far back": (TRIANGLE + "f 1 2 -4\n", 4, "of indices from 1, or from -1 back to -3"),
    "too large": (TRIANGLE + "f 1 2 3\nf 1 2 4\n", 5, "of indices up to 3, the number of v lines, got '4'"),
    "far too large": (TRIANGLE + "f 1 2 99999999999999999999\n", 4, "of indices from 1"),
    "no texture": (TRIANGLE + "f 1/1 2/1 3/1\n", 4, "of indices up to 0, the number of vt lines, got '1'"),
    "mixed": (TRIANGLE + "vt 0 0\nf 1/1 2 3/1\n", 5, "alike at all its corners"),
    "four parts": (TRIANGLE + "f 1/1/1/1 2/1/1/1 3/1/1/1\n", 4, "a face of v, v/vt, v//vn or v/vt/vn"),
    "word": (TRIANGLE + "f a b c\n", 4, "a face of v, v/vt, v//vn or v/vt/vn"),
    "unfinished": (TRIANGLE + "f 1 2 \\", 4, "complete"),
}


@pytest.mark.parametrize("kind", BAD)
def test_errors_name_file_and_line(tmp_path, kind):
    text, line, message = BAD[kind]
    path = write(tmp_path, text)
    with pytest.raises(ValueError) as error:
        load_obj(path)
    assert str(error.value).startswith(f"load_obj(): expected line {line} of {path} to be ")
    assert message in str(error.value)


WORDS = st.sampled_from(["v", "vt", "vn", "f", "usemtl", "#", "\\", "/"])
WORDS |= st.sampled_from(["1", "-1", "2/1", "3//1", "1/2/3", "nan", "1e39", "9" * 20])
GOOD = st.sampled_from(["v 0 1 2", "v 3 4 5", "vt 0 1", "vn 0 0 1", "f 1 2 3", "f -1 -2 1 2", "f 1/1 2/1 1/-1"])
LINES = st.lists(GOOD | st.lists(WORDS | st.text(max_size=3), max_size=5).map(" ".join), max_size=12).map("\n".join)


@settings(max_examples=300, derandomize=True, deadline=None)
@given(LINES)
def test_any_text_is_read_or_named(text):
    try:
        verts, faces, aux = load_obj(io.StringIO(text), load_textures=False)
    except ValueError as error:
        assert str(error).startswith("load_obj(): expected line ")
    else:
        assert verts.isfinite().all() and (faces.verts_idx >= 0).all() and (faces.verts_idx < len(verts)).all()
        assert len({len(index) for index in faces}) == 1
        assert (faces.textures_idx < (0 if aux.verts_uvs is None else len(aux.verts_uvs))).all()


def test_arguments_that_are_refused(tmp_path):
    path = write(tmp_path, HOUSE)
    with pytest.raises(ValueError, match="create_texture_atlas to be False"):
        load_obj(path, create_texture_atlas=True)
    with pytest.raises(ValueError, match="texture_wrap to be 'repeat', 'clamp' or None"):
        load_obj(path, texture_wrap="mirror")
    with pytest.raises(TypeError, match="f to be a path or a file object, got int"):
        load_obj(3)
    with pytest.raises(FileNotFoundError, match=r"none\.obj"):
        load_obj(tmp_path / "none.obj")


def test_saved_meshes_come_back(lib, tmp_path):
    verts, faces = sheet()
    path = tmp_path / "mesh.obj"
    lib.save_obj(path, verts, faces)
    again = lib.load_obj(path)
    # six digits after the point, and the float32 of about 100 that they are read into
    torch.testing.assert_close(again[0], verts, rtol=0, atol=5e-7 + 4e-6)
    assert torch.equal(again[1].verts_idx, faces)
    lib.save_obj(str(path), verts, faces, 1)
    assert path.read_text().split("\n")[0] == "v {:.1f} {:.1f} {:.1f}".format(*verts[0].tolist())
    lib.save_obj(path, verts, faces, decimal_places=9)
    torch.testing.assert_close(lib.load_obj(path)[0], verts, rtol=0, atol=5e-10)


def test_texture_coordinates_and_normals_come_back(tmp_path):
    verts, faces = sheet(4)
    uvs, normals = torch.rand(20, 2), torch.rand(5, 3)
    generator = torch.Generator().manual_seed(0)
    uv_index = torch.randint(20, faces.shape, generator=generator)
    normal_index = torch.randint(5, faces.shape, generator=generator)
    uv_index[[1, 3]], normal_index[[2, 3]] = -1, -1
    for with_uvs, with_normals in ((True, True), (True, False), (False, True)):
        file = io.StringIO()
        named = {"verts_uvs": uvs, "faces_uvs": uv_index} if with_uvs else {}
        if with_normals:
            named |= {"normals": normals, "faces_normals_idx": normal_index}
        save_obj(file, verts, faces, 9, **named)
        file.seek(0)
        again, its, aux = load_obj(file)
        torch.testing.assert_close(again, verts, rtol=0, atol=5e-10)
        assert torch.equal(its.verts_idx, faces)
        absent = torch.full_like(faces, -1)
        assert torch.equal(its.textures_idx, uv_index if with_uvs else absent)
        assert torch.equal(its.normals_idx, normal_index if with_normals else absent)
        for ours, theirs, present in ((aux.verts_uvs, uvs, with_uvs), (aux.normals, normals, with_normals)):
            assert (ours is not None) == present
            if present:
                torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-10)


def test_trimesh_reads_what_was_saved(tmp_path):
    verts, faces = sheet()
    path = tmp_path / "mesh.obj"
    uvs = torch.rand(len(verts), 2, generator=torch.Generator().manual_seed(3))
    save_obj(path, verts.double().requires_grad_(), faces.int(), 12, verts_uvs=uvs, faces_uvs=faces)
    theirs = trimesh.load(path, process=False, maintain_order=True)
    # 12 digits after the point; trimesh renumbers vertices by texture coordinates, so compare the corners
    np.testing.assert_allclose(theirs.vertices[theirs.faces], verts.double()[faces].numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(theirs.visual.uv[theirs.faces], uvs.double()[faces].numpy(), rtol=0, atol=1e-12)


def test_saving_to_file_objects(tmp_path):
    verts, faces = sheet(3)
    text, binary = io.StringIO(), io.BytesIO()
    save_obj(text, verts, faces)
    save_obj(binary, verts, faces)
    save_obj(tmp_path / "a.obj", verts, faces)
    opener = SimpleNamespace(open=lambda name, mode: (tmp_path / name).open(mode))
    save_obj("b.obj", verts, faces, path_manager=opener)
    written = {text.getvalue(), binary.getvalue().decode(), *((tmp_path / f"{n}.obj").read_text() for n in "ab")}
    assert len(written) == 1 and written.pop().endswith("\n")


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    verts, faces = sheet(3)
    path = write(tmp_path, "old")
    bad = verts.clone()
    bad[2, 1] = torch.nan
    with pytest.raises(ValueError, match="verts to be finite"):
        save_obj(path, bad, faces)

    def full(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(type(path), "replace", full)
    with pytest.raises(OSError, match="disk full"):
        save_obj(path, verts, faces)
    assert [p.name for p in tmp_path.iterdir()] == ["mesh.obj"] and path.read_text() == "old"


def test_saving_what_cannot_be_saved(tmp_path):
    verts, faces = sheet(3)
    path = tmp_path / "mesh.obj"

    def fails(kind, message, *arguments, **named):
        with pytest.raises(kind, match=message):
            save_obj(path, *arguments, **named)
        assert not path.exists()

    fails(TypeError, r"verts to be a torch\.Tensor", verts.numpy(), faces)
    fails(TypeError, "verts to be a float tensor", faces, faces)
    fails(ValueError, r"verts to be shape \[\*, 3\]", verts[:, :2], faces)
    fails(TypeError, "faces to be integers", verts, faces.float())
    fails(ValueError, r"faces to be in \[0, 9\), got 1\.\.9", verts, faces + 1)
    fails(ValueError, r"faces to be shape \[\*, 3\]", verts, faces[:, :2])
    fails(ValueError, r"faces_uvs to be shape \[8, 3\]", verts, faces, verts_uvs=verts[:, :2], faces_uvs=faces[:3])
    fails(ValueError, r"faces_uvs to be in \[0, 2\)", verts, faces, verts_uvs=verts[:2, :2], faces_uvs=faces)
    fails(ValueError, "texture_map to be None: images are not written", verts, faces, texture_map=verts)
    fails(ValueError, "decimal_places to be > -1", verts, faces, -1)
    with pytest.raises(TypeError, match="f to be a path or a file object, got int"):
        save_obj(3, verts, faces)


def test_saving_nothing(lib, tmp_path):
    with pytest.warns(UserWarning, match="mpty|empty"):
        lib.save_obj(tmp_path / "mesh.obj", torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert (tmp_path / "mesh.obj").read_text() == ""
    save_obj(tmp_path / "points.obj", torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([]).long())
    assert (tmp_path / "points.obj").read_text() == "v 1.000000 2.000000 3.000000\n"


def test_meshes_of_files(lib, tmp_path):
    verts, faces = sheet(3)
    paths = [write(tmp_path, HOUSE.replace("mtllib house.mtl\n", ""), "a.obj"), tmp_path / "b.obj"]
    lib.save_obj(paths[1], verts, faces)
    meshes = lib.load_objs_as_meshes(paths, device="cpu", load_textures=False)
    assert [len(v) for v in meshes.verts_list()] == [5, 9]
    assert torch.equal(meshes.faces_list()[1], faces) and meshes.textures is None


def test_device(tmp_path, device):
    verts, faces, aux = load_obj(write(tmp_path, HOUSE), load_textures=False, device=device)
    for tensor in (verts, *faces, aux.verts_uvs, aux.normals):
        assert tensor.device.type == device
    assert load_objs_as_meshes([io.StringIO(HOUSE)], device, load_textures=False).device.type == device


def test_signatures(lib):
    load = inspect.signature(lib.load_obj).parameters
    assert {name: p.default for name, p in load.items()} == {
        "f": inspect.Parameter.empty,
        "load_textures": True,
        "create_texture_atlas": False,
        "texture_atlas_size": 4,
        "texture_wrap": "repeat",
        "device": "cpu",
        "path_manager": None,
    }
    save = inspect.signature(lib.save_obj).parameters
    assert list(save)[:5] == ["f", "verts", "faces", "decimal_places", "path_manager"]
    assert [n for n, p in save.items() if p.kind is inspect.Parameter.KEYWORD_ONLY][:5] == [
        "normals",
        "faces_normals_idx",
        "verts_uvs",
        "faces_uvs",
        "texture_map",
    ]
