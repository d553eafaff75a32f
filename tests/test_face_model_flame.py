"""FLAME, read from pickles without running them, from .npz, and its landmark embeddings."""

import pickle
import struct
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from face_models import flame_arrays

from focus import FaceModel
from focus.face_model.safe_pickle import read_pickle, to_array


class Ch:
    """A stand-in for chumpy's constant: it pickles as an object with a dictionary that holds the array as `x`."""

    def __init__(self, x):
        self.x, self._dirty_vars, self._itr, self._depends_on_deps = x, {"x"}, None, {}


Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"


@pytest.fixture
def chumpy(monkeypatch):
    module = ModuleType("chumpy.ch")
    module.Ch = Ch
    monkeypatch.setitem(sys.modules, "chumpy", ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return monkeypatch


def check_flame(model: FaceModel, arrays, origin=(0.0, 0.0, 0.0)):
    np.testing.assert_allclose(model.mean_shape, 1000 * arrays["v_template"] + origin, atol=1e-10)
    directions = 1000 * arrays["shapedirs"].transpose(2, 0, 1)
    np.testing.assert_array_equal(model.identity_basis, directions[:300])
    np.testing.assert_array_equal(model.expression_basis, directions[300:])
    np.testing.assert_array_equal(model.topology.faces, arrays["f"])
    assert model.albedo_basis.shape == (0, 132, 3)
    skin = model.albedo(torch.zeros(2, 0, dtype=torch.float64))
    assert torch.equal(skin, model.mean_albedo.expand(2, -1, -1)) and skin.min() > 0.1 and skin.max() < 0.9


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("old_numpy", [False, True], ids=["numpy 2", "numpy 1"])
def test_flame_pickle(tmp_path, chumpy, protocol, old_numpy):
    arrays = flame_arrays()
    held = {**arrays, "shapedirs": Ch(arrays["shapedirs"]), "posedirs": Ch(arrays["posedirs"])}
    data = pickle.dumps(held, protocol)
    if old_numpy and protocol < 4:  # from 4 on names carry their length
        data = data.replace(b"numpy._core.", b"numpy.core.").replace(b"scipy.sparse._csc", b"scipy.sparse.csc")
        assert b"_core" not in data
    chumpy.delitem(sys.modules, "chumpy.ch")
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(data)
    model = FaceModel.load(path, dtype=torch.float64)
    check_flame(model, arrays)
    assert model.landmarks is None


def python2_array(array: np.ndarray) -> bytes:
    """The opcodes with which numpy 1 under Python 2 pickled an array, protocol 2: raw bytes as a Python 2 string."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def integer(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    kind = array.dtype.str[1:].encode()
    dtype = (
        b"cnumpy\ndtype\n(" + text(kind) + b"K\x00K\x01tR(K\x03" + text(b"<") + b"NNN" + integer(-1) * 2 + b"K\x00tb"
    )
    raw = array.tobytes()
    shape = b"(" + b"".join(map(integer, array.shape)) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR(K\x01" + shape + dtype
        + b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tb"
    )  # fmt: skip


def test_flame_pickle_of_python_2(tmp_path):
    arrays = flame_arrays()
    ch = (
        b"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR}(U\x01x"
        + python2_array(arrays["shapedirs"])
        + b"U\x0b_dirty_varsc__builtin__\nset\n](U\x01xe\x85R"
        + b"ub"
    )
    data = b"\x80\x02}(U\x01f" + python2_array(arrays["f"]) + b"U\x09shapedirs" + ch
    data += b"U\x0av_template" + python2_array(arrays["v_template"]) + b"U\x07bs_typeU\x07lrotminu."
    (tmp_path / "model.pkl").write_bytes(data)
    check_flame(FaceModel.load(tmp_path / "model.pkl", dtype=torch.float64), arrays)


def test_flame_npz(tmp_path):
    arrays = flame_arrays()
    plain = {key: value for key, value in arrays.items() if isinstance(value, np.ndarray)}
    # Converted files keep what they could not convert as objects; those are not read.
    np.savez(tmp_path / "flame.npz", **plain, J_regressor=np.array(arrays["J_regressor"], object))
    check_flame(FaceModel.load(tmp_path / "flame.npz", dtype=torch.float64), arrays)
    few = FaceModel.load(tmp_path / "flame.npz", components=(100, 50, 80))
    expected = 1000 * arrays["shapedirs"].transpose(2, 0, 1)
    np.testing.assert_allclose(few.shape_basis, np.concatenate([expected[:100], expected[300:350]]), rtol=1e-6)


def embedding(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, len(flame_arrays()["f"]), 68), rng.dirichlet([1, 1, 1], 68)


@pytest.mark.parametrize("layout", ["full", "static and jaw", "npz"])
def test_flame_landmark_embedding(tmp_path, layout):
    arrays = flame_arrays()
    np.savez(tmp_path / "flame.npz", **{key: arrays[key] for key in ("v_template", "f", "shapedirs")})
    triangles, weights = embedding()
    path = tmp_path / ("embedding.npz" if layout == "npz" else "embedding.npy")
    if layout == "npz":
        np.savez(path, lmk_faces_idx=triangles, lmk_bary_coords=weights)
    else:
        # As given out: a dictionary in an object array, with torch tensors beside the numpy arrays.
        jaw = np.stack([triangles[:17], triangles[:17] * 0]), np.stack([weights[:17], weights[:17] * 0])
        table = {
            "static_lmk_faces_idx": triangles[17:],
            "static_lmk_bary_coords": weights[17:],
            "dynamic_lmk_faces_idx": torch.from_numpy(jaw[0]) if layout == "full" else jaw[0],
            "dynamic_lmk_bary_coords": torch.from_numpy(jaw[1]) if layout == "full" else jaw[1],
        }
        if layout == "full":
            table |= {"full_lmk_faces_idx": triangles[None], "full_lmk_bary_coords": weights[None]}
        np.save(path, table, allow_pickle=True)
    model = FaceModel.load(tmp_path / "flame.npz", landmarks=path, dtype=torch.float64)
    expected = [arrays["f"][t][np.argmax(w)] for t, w in zip(triangles, weights, strict=True)]
    np.testing.assert_array_equal(model.landmarks, expected)
    # The eye corners are put where BFM 2017 has them in FOCUS's frame.
    np.testing.assert_allclose(model.mean_shape[model.landmarks[[36, 39, 42, 45]]].mean(0), [0, 32.76, -9.8], atol=1e-9)
    shift = np.array([0, 32.76, -9.8]) - 1000 * arrays["v_template"][np.array(expected)[[36, 39, 42, 45]]].mean(0)
    check_flame(model, arrays, shift)


def test_flame_errors(tmp_path):
    arrays = flame_arrays()
    path = tmp_path / "flame.pkl"

    def message(value, **options) -> str:
        path.write_bytes(pickle.dumps(value, 2))
        with pytest.raises(ValueError, match=r"expected .*flame\.pkl") as error:
            FaceModel.load(path, **options)
        return str(error.value)

    del arrays["J_regressor"]
    assert "FLAME's dictionary" in message([1, 2])
    assert "no shapedirs among" in message({**arrays, "shapedirs": "text"})
    assert "v_template, f, shapedirs, got no f" in message({key: arrays[key] for key in ("v_template", "shapedirs")})
    assert "shapedirs in" in message({**arrays, "shapedirs": arrays["shapedirs"][:, :, :10]})
    assert "f in" in message({**arrays, "f": arrays["f"] + 1})
    triangles, weights = embedding()
    np.savez(tmp_path / "flame.npz", **{key: arrays[key] for key in ("v_template", "f", "shapedirs")})
    for table, text in (
        ({"full_lmk_faces_idx": triangles + 999, "full_lmk_bary_coords": weights}, r"triangles in 0\.\."),
        ({"lmk_face_idx": triangles[:51], "lmk_b_coords": weights[:51]}, "51 without a jaw"),
        ({"full_lmk_faces_idx": triangles[:5], "full_lmk_bary_coords": weights}, "68 landmarks, got 5"),
        ({"other": triangles}, "landmark embedding .* got the keys other"),
    ):
        np.save(tmp_path / "e.npy", table, allow_pickle=True)
        with pytest.raises(ValueError, match=text):
            FaceModel.load(tmp_path / "flame.npz", landmarks=tmp_path / "e.npy")


# Pickles that try to do something


class Call:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def hostile_pickles(mark: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would create the file `mark`, and the name that the error must say."""
    import os

    touch = f"open({str(mark)!r}, 'w')"
    array = pickle.dumps(np.zeros(3), 2)
    return {
        "os.system": (pickle.dumps(Call(os.system, f"touch {mark}"), 2), "posix.system"),
        "exec": (pickle.dumps({"f": Call(exec, touch)}, 4), "builtins.exec"),
        "open": (pickle.dumps(Call(open, str(mark), "w"), 4), "io.open"),
        "python 2 eval": (b"c__builtin__\neval\n(V" + touch.encode() + b"\ntR.", "__builtin__.eval"),
        "instance": (b"(Vtouch\nios\nsystem\n.", "os.system"),
        "allowed module": (b"cnumpy\nload\n(Vx\ntR.", "numpy.load"),
        "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93.", "numpy.dtype.__init__"),
        "getattr": (b"cbuiltins\ngetattr\n(cnumpy\ndtype\nV__init__\ntR.", "builtins.getattr"),
        "import": (b"cbuiltins\n__import__\n(Vos\ntR.", "builtins.__import__"),
        "after an array": (array[:-1] + b"0cposix\nsystem\n(Vtouch\ntR.", "posix.system"),
        "persistent": (b"\x80\x02U\x01xQ.", "outside the file"),
        "chumpy function": (b"cchumpy.ch\nload\n)R.", "chumpy.ch.load"),
    }


@pytest.mark.parametrize("name", hostile_pickles(Path("mark")))
@pytest.mark.parametrize("kind", ["model", "landmarks"])
def test_hostile_pickles_are_refused_by_name(tmp_path, name, kind):
    mark = tmp_path / "mark"
    data, culprit = hostile_pickles(mark)[name]
    path = tmp_path / "model.pkl"
    if kind == "model":
        path.write_bytes(data)
        arguments = {"path": path}
    else:
        arrays = flame_arrays()
        np.savez(tmp_path / "flame.npz", **{key: arrays[key] for key in ("v_template", "f", "shapedirs")})
        np.save(tmp_path / "e.npy", {"a": 1}, allow_pickle=True)
        npy = (tmp_path / "e.npy").read_bytes()
        (tmp_path / "e.npy").write_bytes(npy[: npy.index(b"\n") + 1] + data)
        arguments = {"path": tmp_path / "flame.npz", "landmarks": tmp_path / "e.npy"}
    with pytest.raises(ValueError, match="to be a pickle of plain arrays, got an error") as error:
        FaceModel.load(**arguments)
    assert culprit in str(error.value)
    assert not mark.exists()


def test_permitted_names_do_nothing_either(tmp_path):
    """Names on the list are records: even what they would do when called, or with a hostile state, does not happen."""
    for data in (
        b"ctorch.storage\n_load_from_bytes\n(C\x10cposix\nsystem\n(VtR\x85R.",
        b"cchumpy.ch\nCh\n)\x81}U\x0c__setstate__cnumpy\nndarray\nsb.",
        b"cnumpy\nndarray\n}U\x0c__setstate__Vx\nsb.",  # the state of a class instead of an object
        b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR.",
    ):
        try:
            value = read_pickle(data, tmp_path / "x", "test()")
        except ValueError:
            continue
        assert to_array(value) is None


def test_impossible_arrays_are_no_arrays(tmp_path):
    good = pickle.dumps(np.arange(6.0).reshape(2, 3), 2)
    assert to_array(read_pickle(good, tmp_path, "test()")).shape == (2, 3)
    for old, new in ((b"K\x02K\x03\x86", b"K\x02K\x04\x86"), (b"f8", b"O8"), (b"f8", b"f4"), (b"f8", b"V8")):
        assert old in good
        assert to_array(read_pickle(good.replace(old, new, 1), tmp_path, "test()")) is None
    ring = b"cchumpy.ch\nCh\n)\x81q\x00}U\x01xh\x00sb."  # a constant whose value is itself
    assert to_array(read_pickle(ring, tmp_path, "test()")) is None
    empty = pickle.dumps(np.zeros((0, 3)), 2).replace(b"K\x00K\x03\x86", b"K\x00\x8a\x10" + b"\x7f" * 16 + b"\x86")
    assert to_array(read_pickle(empty, tmp_path, "test()")) is None


def test_damaged_pickles_give_one_kind_of_error(tmp_path, chumpy):
    arrays = flame_arrays()
    small = {"v_template": arrays["v_template"][:4], "f": arrays["f"][:2], "shapedirs": Ch(np.zeros((4, 3, 400)))}
    data = pickle.dumps(small, 2)
    chumpy.delitem(sys.modules, "chumpy.ch")
    path = tmp_path / "flame.pkl"
    rng = np.random.default_rng(0)
    for _ in range(400):
        place = int(rng.integers(2, 700)) if rng.uniform() < 0.9 else int(rng.integers(2, len(data)))
        path.write_bytes(data[:place] + bytes([rng.integers(256)]) + data[place + 1 :])
        try:
            FaceModel.load(path)
        except ValueError as error:
            assert "flame.pkl" in str(error)
