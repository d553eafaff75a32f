"""What `focus reconstruct` leaves behind: files of a photo, NoW's layout, the page, and the command itself."""

import csv
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from reconstructions import Segmenter, autoencoder, landmarks, photo
from test_report import Page
from typer.testing import CliRunner

from focus import FaceModel
from focus import landmarks as landmarks_module
from focus import reconstruct as package
from focus.cli import app
from focus.landmarks import DetectorUnavailableError, NoFaceError
from focus.reconstruct import Reconstructor, export_reconstruction, now_path, write_now
from focus.reconstruct.drawing import COVERED, COVERED_OPACITY

FILES = {"parameters.json"} | {f"mesh.{e}" for e in ("obj", "ply", "glb")}
FILES |= {f"{n}.png" for n in ("mask", "overlay", "crop", "crop_overlay", "crop_mask", "shape_front", "shape_side")}


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


def read_obj(path):
    lines = [line.split() for line in path.read_text().splitlines()]
    vertices = [[float(v) for v in line[1:]] for line in lines if line[0] == "v"]
    return np.array(vertices), np.array([[int(v) for v in line[1:]] for line in lines if line[0] == "f"]) - 1


def test_files_of_a_photo(model, tmp_path):
    reconstructor = Reconstructor(autoencoder(model, Segmenter(0.5)))
    (result,) = reconstructor(photo(), landmarks(model))
    export_reconstruction(tmp_path / "a", result, reconstructor, photo(), "shots/ä.png")
    assert {path.name for path in (tmp_path / "a").iterdir()} == FILES
    mask, overlay = (np.array(Image.open(tmp_path / f"a/{name}.png")) for name in ("mask", "overlay"))
    assert mask.shape == (90, 120) and overlay.shape == (90, 120, 3)
    assert mask.max() == 128 and mask[0, 0] == 0
    assert (overlay[mask == 0] == photo()[mask == 0]).mean() > 0.9 and (overlay != photo()).any()
    read = json.loads((tmp_path / "a/parameters.json").read_text())
    assert read["photo"] == "shots/ä.png" and read["photo_size"] == [120, 90] and read["misfit_prior"] is False
    assert read["occluded_fraction"] == 0.5
    # From the file alone: the mesh, and where the camera sees its landmarks.
    parts = [torch.tensor([read[name]]) for name in ("identity", "expression")]
    vertices = model.shape(*parts)[0].numpy()
    in_file, faces = read_obj(tmp_path / "a/mesh.obj")
    np.testing.assert_allclose(in_file[:, :3], vertices, atol=1e-4)
    np.testing.assert_array_equal(faces, model.topology.faces.numpy())
    camera = {name: np.array(read["camera"][name]) for name in "KRt"}
    seen = (vertices[model.landmarks.numpy()] @ camera["R"].T + camera["t"]) @ camera["K"].T
    np.testing.assert_allclose(seen[:, :2] / seen[:, 2:], read["landmarks_projected"], atol=1e-3)


def test_the_mask_picture_shows_what_is_covered(model, tmp_path):
    images = []
    for number, share in enumerate((1.0, 0.0)):
        reconstructor = Reconstructor(autoencoder(model, Segmenter(share)))
        (result,) = reconstructor(photo(), landmarks(model))
        export_reconstruction(tmp_path / str(number), result, reconstructor, photo())
        images.append(np.array(Image.open(tmp_path / f"{number}/crop_mask.png")).astype(int))
    visible, covered = images
    assert visible.shape == (336, 336, 3)
    np.testing.assert_array_equal(visible[5, 5], covered[5, 5])
    middle = slice(140, 190)
    red = COVERED * COVERED_OPACITY + visible * (1 - COVERED_OPACITY)
    np.testing.assert_allclose(covered[middle, middle], red[middle, middle], atol=1)


def test_now_gets_a_plain_mesh_and_seven_landmarks(model, tmp_path):
    vertices = model.mean_shape.double().numpy()
    faces = model.topology.faces.numpy()
    flat = np.concatenate([faces, [[0, 0, 1], [2, 2, 2]]])  # two without area
    path = tmp_path / "out" / now_path("/data/s01/selfie/IMG 1.x.jpg")
    assert path == tmp_path / "out/s01/selfie/IMG 1.x.obj"
    assert write_now(path, vertices, flat, model.landmarks.numpy()) == 2
    lines = path.read_text().splitlines()
    assert {line.split()[0] for line in lines} == {"v", "f"} and {len(line.split()) for line in lines} == {4}
    read, triangles = read_obj(path)
    np.testing.assert_allclose(read, vertices, atol=1e-6)
    np.testing.assert_array_equal(triangles, faces)
    assert len(trimesh.load(path, process=False).vertices) == len(vertices)
    points = np.load(path.with_suffix(".npy"), allow_pickle=False)
    assert points.shape == (7, 3) and points.dtype == np.float64
    ibug = model.landmarks.numpy()
    np.testing.assert_array_equal(points, vertices[ibug[[36, 39, 42, 45, 33, 48, 54]]])
    assert points[0, 0] < points[1, 0] < points[2, 0] < points[3, 0]  # the subject's right is at smaller x
    assert points[5, 0] < points[4, 0] < points[6, 0] and points[:4, 1].min() > points[4, 1] > points[5:, 1].max()


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"vertices": np.full((5, 3), np.nan)}, "vertices to be finite"),
        ({"vertices": np.zeros((5, 2))}, r"vertices to be shape \[\*, 3\], got \[5, 2\]"),
        ({"landmarks": np.zeros(7, int)}, r"landmarks to be shape \[68\], got \[7\]"),
    ],
)
def test_now_refuses(changes, text, tmp_path):
    arguments = {"vertices": np.eye(5, 3), "faces": np.array([[0, 1, 2]]), "landmarks": np.zeros(68, int)} | changes
    with pytest.raises(ValueError, match=text):
        write_now(tmp_path / "a/b/c.obj", **arguments)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"subject/challenge/photo\.jpg"):
        now_path("/photo.jpg")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(folder, model, monkeypatch, threads):
    """Runs `focus reconstruct` with a stand-in for the checkpoint's networks; records how they were asked for."""
    made = SimpleNamespace(calls=[], reconstructors=[])

    class Stand(Reconstructor):
        def __init__(self, checkpoint=None, *, face_model=None, level=1, **options):
            made.calls.append({"checkpoint": checkpoint, "face_model": face_model, "level": level, **options})
            super().__init__(autoencoder(face_model or FaceModel.load(level=level), Segmenter(0.75)), **options)
            made.reconstructors.append(self)

    monkeypatch.setattr(package, "Reconstructor", Stand)

    class Eyes:
        def detect(self, image):
            if image.max() == 0:
                raise NoFaceError("found no face")
            return landmarks(model)

    monkeypatch.setattr(landmarks_module, "make_detector", lambda kind="auto": Eyes())
    monkeypatch.setattr("focus.reconstruct.reconstructor.make_detector", lambda kind="auto": Eyes())

    def run(*arguments, code=0):
        full = ["reconstruct", *map(str, arguments), "--out", "out", "--level", "0", "--threads", "1"]
        result = CliRunner().invoke(app, full)
        assert result.exit_code == code, result.output
        made.said = " ".join(result.output.split())
        return made

    return run


def save(path, image=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo() if image is None else image).save(path)


def rows(folder):
    with (folder / "out/results.csv").open(newline="") as file:
        return {row["photo"]: row for row in csv.DictReader(file)}


def test_photos_and_what_fails(folder, command):
    for name in ("a.png", "b.png", "c.png"):
        save(folder / "shots" / name)
    save(folder / "black.png", np.zeros((60, 60, 3), np.uint8))
    (folder / "broken.jpg").write_text("no picture")
    said = command("shots", "black.png", "broken.jpg", "missing.png", "--batch", "2", code=1).said
    for text in (
        "shots/a.png: 25% of the face covered; RMSE",
        "black.png: failed: found no face",
        "broken.jpg: failed: not a picture in a known format",
        "missing.png: failed: no such file",
        "3 of 6 reconstructed in",
        "Open out/index.html",
    ):
        assert text in said
    assert "Traceback" not in said
    assert {p.name for p in (folder / "out").iterdir()} == {"a", "b", "c", "index.html", "results.csv"}
    assert all({p.name for p in (folder / "out" / name).iterdir()} == FILES for name in "abc")
    table = rows(folder)
    assert len(table) == 6 and table["broken.jpg"]["error"] == "not a picture in a known format"
    assert float(table["shots/b.png"]["occluded_fraction"]) == pytest.approx(0.25)
    page = Page((folder / "out/index.html").read_text())
    assert "3 of 6 reconstructed" in page.text and "median covered 25 %" in page.text
    assert len(page.links) == 3 * (6 + 2 * 5)
    for link in page.links:
        assert ":" not in link and (folder / "out" / link).is_file(), link


def test_landmarks_from_a_table(folder, command, model):
    save(folder / "a.png")
    save(folder / "b.png")
    points = landmarks(model) - 0.5  # files have pixel centres at integers
    header = "image," + ",".join(f"x{i},y{i}" for i in range(68))
    (folder / "table.csv").write_text(f"{header}\na.png," + ",".join(map(str, points.reshape(-1))))
    made = command("a.png", "b.png", "--landmarks", "table.csv", code=1)
    assert "b.png: failed: no landmarks for it in the table" in made.said
    read = json.loads((folder / "out/a/parameters.json").read_text())
    align = np.array(read["align"])
    crop = landmarks(model) @ align[:, :2].T + align[:, 2]
    np.testing.assert_allclose(read["landmarks_photo"], crop, atol=1e-4)


def test_now_layout(folder, command, model):
    save(folder / "pictures/s1/selfie/IMG.png")
    save(folder / "pictures/s2/selfie/IMG.png", photo(3))
    made = command("pictures", "--now")
    reconstructor = made.reconstructors[0]
    for subject, name in (("s1", "IMG"), ("s2", "IMG-2")):
        vertices, _ = read_obj(folder / f"out/now/{subject}/selfie/IMG.obj")
        read = json.loads((folder / f"out/{name}/parameters.json").read_text())
        identity = np.array(read["identity"], np.float32)
        np.testing.assert_allclose(vertices, reconstructor.neutral(identity), atol=1e-5)
        assert (folder / f"out/now/{subject}/selfie/IMG.npy").is_file()
    command("pictures/s1/selfie", "--now", "--keep-expression")
    smiling, _ = read_obj(folder / "out/now/s1/selfie/IMG.obj")
    mesh, _ = read_obj(folder / "out/IMG/mesh.obj")
    np.testing.assert_allclose(smiling, mesh[:, :3], atol=1e-5)


def test_ctrl_c_keeps_what_is_finished(interruptible, folder, command, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        save(folder / name)
    count = []

    def write(*arguments):
        count.append(1)
        if len(count) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return export_reconstruction(*arguments)

    monkeypatch.setattr("focus.reconstruct.run.export_reconstruction", write)
    said = command("a.png", "b.png", "c.png", "--batch", "2", code=130).said
    assert "Interrupted: 1 of 3 were reached." in said
    assert {p.name for p in (folder / "out").iterdir()} == {"a", "index.html", "results.csv"}


def test_a_batch_too_large_for_the_memory_is_done_photo_by_photo(folder, command, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        save(folder / name)
    reconstruct = Reconstructor.reconstruct
    sizes = []

    def small(self, prepared, theta=None):
        sizes.append(len(prepared))
        if len(prepared) > 1:
            raise RuntimeError("out of memory")
        return reconstruct(self, prepared, theta)

    monkeypatch.setattr(Reconstructor, "reconstruct", small)
    command("a.png", "b.png", "c.png", "--batch", "3")
    assert sizes == [3, 1, 1, 1]


def test_a_full_disk_is_told(folder, command, monkeypatch):
    save(folder / "a.png")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("focus.reconstruct.export.write_ply", full)
    assert "its results cannot be written: No space left on device" in command("a.png", code=1).said
    assert {p.name for p in (folder / "out").iterdir()} == {"index.html", "results.csv"}


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["nothing"], "no pictures or videos in nothing"),
        (["a.png", "--detector", "eyes"], "expected one of auto, face-alignment, dlib, got eyes"),
        (["a.png", "--keep-expression"], "add --now"),
        (["a.png", "--checkpoint", "no.safetensors"], "no.safetensors"),
        (["a.png", "--device", "abacus"], "--device: expected cpu, cuda or cuda:N, got abacus"),
        (["a.png", "x/a.png", "y/x/a.png", "--now"], "would both be"),
        (["clip.mp4", "--now"], "--now: expected photos, got the video clip.mp4"),
        (["a.png", "--batch", "0"], "--batch"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments, text, folder, command):
    (folder / "nothing").mkdir()
    (folder / "clip.mp4").touch()
    save(folder / "a.png")
    save(folder / "q/z/x/a.png")
    save(folder / "w/z/x/a.png")
    if "would" in text:
        arguments = ["q/z/x/a.png", "w/z/x/a.png", "--now"]
    made = command(*arguments, code=2)
    assert text in made.said.replace("│ ", "") and "Traceback" not in made.said
    assert not (folder / "out").exists()


def test_no_detector_is_told_before_the_first_photo(folder, command, monkeypatch):
    def none(kind):
        raise DetectorUnavailableError("no landmark detector can run here")

    monkeypatch.setattr("focus.reconstruct.reconstructor.make_detector", none)
    save(folder / "a.png")
    assert "error: no landmark detector can run here" in command("a.png", code=2).said


def test_a_checkpoint_from_its_file(folder, model, threads):
    """The command as users have it, with networks that `FaceAutoencoder.save` wrote."""
    from focus.autoencoder import FaceAutoencoder
    from focus.decoder import ThetaLayout
    from focus.networks import SegmentationNetwork, SmallEncoder
    from focus.presets import Preset

    networks = SmallEncoder(ThetaLayout.of(model).total), SegmentationNetwork(4)
    FaceAutoencoder(*networks, model, Preset(), 32).save("net.safetensors")
    save(folder / "a.png")
    points = landmarks(model) - 0.5
    header = "image," + ",".join(f"x{i},y{i}" for i in range(68))
    (folder / "table.csv").write_text(f"{header}\na.png," + ",".join(map(str, points.reshape(-1))))
    arguments = [
        "reconstruct",
        "a.png",
        "--checkpoint",
        "net.safetensors",
        "--landmarks",
        "table.csv",
        "--threads",
        "1",
    ]
    result = CliRunner().invoke(app, [*arguments, "-o", "out", "--level", "0"])
    assert result.exit_code == 0, result.output
    read = json.loads((folder / "out/a/parameters.json").read_text())
    assert not any(read["identity"])  # the head starts at zero: the mean face
    (folder / "net.safetensors").write_bytes(b"damaged")
    result = CliRunner().invoke(app, [*arguments, "-o", "out", "--level", "0"])
    assert result.exit_code == 2 and "complete safetensors file" in result.output
