"""The command line: what it accepts, what it says, what it leaves behind. The fit is a stand-in except in one test."""

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fits import fit_result
from PIL import Image
from typer.testing import CliRunner

from focus import FaceModel, FitError, FitSettings
from focus import batch as batch_module
from focus import landmarks as landmarks_module
from focus.cli import app
from focus.landmarks import DetectorUnavailableError, NoFaceError

SIZE = (40, 48)  # height, width of the photos here
FILES = {
    "mesh.obj",
    "mesh.ply",
    "mesh.glb",
    "parameters.json",
    "photo.png",
    "overlay.png",
    "mask.png",
    "shape_front.png",
    "shape_side.png",
}


def save(path, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1], (value, value, value)).save(path)


def write_csv(path, *names):
    header = "image," + ",".join(f"x{i},y{i}" for i in range(68))
    path.write_text("\n".join([header, *(f"{name}," + ",".join(["7"] * 136) for name in names)]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fitted(monkeypatch):
    """Replaces the fit; records its calls. `fitted.hook(image)` may raise."""
    calls = SimpleNamespace(all=[], hook=lambda image: None, threads=None)

    def stand_in(image, landmarks, model, settings=None, progress=None):
        calls.all.append((image, landmarks, model, settings))
        calls.threads = torch.get_num_threads()
        calls.hook(image)
        for stage, total in (("landmarks", 1), ("light", 1), ("photometric", 3)):
            for step in range(total):
                progress(stage, step + 1, total)
        return fit_result(model, photo=np.full((224, 224, 3), image[0, 0, 0], np.uint8))

    monkeypatch.setattr(batch_module, "fit_photo", stand_in)
    return calls


@pytest.fixture
def detector(monkeypatch):
    """Replaces the detectors: a face in the middle of every photo that is not black."""
    made = SimpleNamespace(kinds=[], sizes=[])

    class Stand:
        def detect(self, image):
            made.sizes.append(image.shape)
            if image.max() == 0:
                raise NoFaceError("dlib found no face")
            return np.full((68, 2), 20.5)

    def make(kind="auto"):
        made.kinds.append(kind)
        return Stand()

    monkeypatch.setattr(landmarks_module, "make_detector", make)
    return made


def focus(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return SimpleNamespace(all=" ".join(result.output.split()), stdout=result.stdout, stderr=result.stderr)


def fit(*arguments, code=0):
    return focus("fit", *arguments, "--out", "out", "--level", "0", code=code)


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_photos_with_landmarks_from_a_table(folder, fitted):
    save(folder / "a.png")
    save(folder / "b.png")
    write_csv(folder / "table.csv", "a.png", "b.png")
    said = fit("a.png", "b.png", "--landmarks", "table.csv")
    assert names(folder / "out") == {"a", "b", "index.html", "results.csv"}
    assert names(folder / "out/a") == names(folder / "out/b") == FILES
    image, landmarks, model, _ = fitted.all[0]
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    assert (landmarks == 7.5).all()  # centres at integers in the file, at halves in the library
    assert model.num_vertices == FaceModel.load(level=0).num_vertices
    assert "2 of 2 photos fitted. Open out/index.html" in said.all
    assert "a.png" in said.stdout and "results in out" in said.stdout and "median" in said.stdout
    assert "[1/2] a.png: RMSE 9.2 in the mask (67% of the face), 21.5 over all; landmarks 1.4 px" in said.all
    parameters = json.loads((folder / "out/b/parameters.json").read_text())
    assert parameters["photo"] == "b.png" and parameters["photo_size"] == [48, 40]


def test_what_fails_is_told_and_the_others_go_on(folder, fitted, detector):
    save(folder / "good.png")
    save(folder / "black.png", 0)
    save(folder / "odd.png", 200)
    (folder / "broken.jpg").write_text("no picture")
    (folder / "empty.jpg").touch()

    def hook(image):
        if image[0, 0, 0] == 200:
            raise FitError("the face lies outside the photo")

    fitted.hook = hook
    arguments = ["missing.png", "broken.jpg", "empty.jpg", "black.png", "odd.png", "good.png"]
    said = fit(*arguments, code=1)
    for text in (
        "missing.png: failed: no such file",
        "broken.jpg: failed: not a picture in a known format",
        "empty.jpg: failed: an empty file",
        "black.png: failed: dlib found no face",
        "odd.png: failed: the face lies outside the photo",
        "Not fitted: missing.png: no such file broken.jpg: not a picture",
        "1 of 6 photos fitted",
    ):
        assert text in said.all
    assert "Traceback" not in said.all
    assert names(folder / "out") == {"good", "index.html", "results.csv"}
    page = (folder / "out/index.html").read_text()
    assert "5 not fitted" in page and "the face lies outside the photo" in page


def test_no_face_in_any_photo_is_still_a_run(folder, fitted, detector):
    save(folder / "black.png", 0)
    fit("black.png", code=1)
    assert names(folder / "out") == {"index.html", "results.csv"}


def test_unforeseen_errors_stay_with_their_photo(folder, fitted, detector):
    save(folder / "a.png")
    save(folder / "b.png", 7)

    def hook(image):
        if image[0, 0, 0] != 7:
            raise RuntimeError("first line\nsecond line")

    fitted.hook = hook
    said = fit("a.png", "b.png", code=1)
    assert "a.png: failed: RuntimeError: first line (--debug shows where)" in said.all
    assert "Traceback" not in said.all and (folder / "out/b/mesh.glb").exists()
    assert "Traceback" in fit("a.png", "--debug", code=1).all


def test_a_photo_without_a_row_names_near_misses(folder, fitted):
    save(folder / "a.png")
    save(folder / "b.png")
    write_csv(folder / "table.csv", "a.png", "b.PNG")
    said = fit("a.png", "b.png", "--landmarks", "table.csv", code=1)
    assert "b.png: failed: no landmarks for it in the table; near misses: b.PNG" in said.all
    assert len(fitted.all) == 1


def test_equal_names_in_different_folders(folder, fitted, detector):
    save(folder / "x/a.png", 10)
    save(folder / "y/a.png", 20)
    fit("x", "y")
    values = {Image.open(folder / f"out/{name}/photo.png").getpixel((0, 0))[0] for name in ("a", "a-2")}
    assert values == {10, 20}


def test_results_of_an_earlier_run_are_replaced_and_other_files_kept(folder, fitted, detector):
    save(folder / "a.png", 10)
    fit("a.png")
    (folder / "out/a/notes.txt").write_text("mine")
    save(folder / "a.png", 20)
    fit("a.png")
    assert Image.open(folder / "out/a/photo.png").getpixel((0, 0))[0] == 20
    assert names(folder / "out/a") == FILES | {"notes.txt"}


def test_ctrl_c_keeps_what_is_finished_and_nothing_else(interruptible, folder, fitted, detector):
    for name in ("a.png", "b.png", "c.png"):
        save(folder / name)
    fitted.hook = lambda image: os.kill(os.getpid(), signal.SIGINT) if len(fitted.all) == 2 else None
    said = fit("a.png", "b.png", "c.png", code=130)
    assert "Interrupted: 1 of 3 photos were reached." in said.all
    assert names(folder / "out") == {"a", "index.html", "results.csv"}
    assert names(folder / "out/a") == FILES
    assert "1 of 3 photos fitted" in said.all
    assert "Interrupted: 1 of 3" in (folder / "out/index.html").read_text()


def test_a_full_disk_is_told(folder, fitted, detector, monkeypatch):
    save(folder / "a.png")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("focus.export.write_ply", full)
    said = fit("a.png", code=1)
    assert "its results cannot be written: No space left on device" in said.all
    assert names(folder / "out") == {"index.html", "results.csv"}


def test_huge_photos_are_shrunk_for_the_detector_only(folder, fitted, detector, monkeypatch):
    monkeypatch.setattr(batch_module, "DETECTOR_SIDE", 24)
    save(folder / "a.png")
    fit("a.png")
    assert detector.sizes == [(20, 24, 3)]
    image, landmarks, *_ = fitted.all[0]
    assert image.shape == (*SIZE, 3)
    assert (landmarks == 41).all()  # 20.5 in a picture of half the size


def test_the_detector_is_made_only_where_it_is_needed(folder, fitted, detector):
    save(folder / "a.png")
    write_csv(folder / "table.csv", "a.png")
    fit("a.png", "--landmarks", "table.csv")
    assert not detector.kinds
    fit("a.png", "--detector", "dlib")
    assert detector.kinds == ["dlib"]


def test_settings_reach_the_fit(folder, fitted, detector, threads):
    save(folder / "a.png")
    threads(2)
    fit("a.png", "--iterations", "7")
    assert fitted.threads == 1
    fit("a.png", "--threads", "2", "--iterations", "7")
    assert fitted.threads == 2
    assert fitted.all[0][3].iterations == 7


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["fit"], "Usage"),
        (["fit", "a.png"], "--out"),
        (["fit", "--out", "out"], "PHOTO"),
        (["fit", "a.png", "--out", "a.png"], "--out"),
        (["fit", "a.png", "--out", "a.png/b"], "--out a.png/b: Not a directory"),
        (["fit", "nothing", "--out", "out"], "error: no pictures in nothing"),
        (["fit", "a.png", "--out", "out", "--level", "3"], "--level"),
        (["fit", "a.png", "--out", "out", "--threads", "0"], "--threads"),
        (
            ["fit", "a.png", "--out", "out", "--detector", "eyes"],
            "expected one of auto, face-alignment, dlib, got eyes",
        ),
        (["fit", "a.png", "--out", "out", "--landmarks", "no.csv"], "no.csv"),
        (["fit", "a.png", "--out", "out", "--landmarks", "bad.csv"], "error: bad.csv: has no rows"),
        (["fit", "a.png", "--out", "out", "--device", "abacus"], "--device: expected cpu, cuda or cuda:N, got abacus"),
        (["fit", "a.png", "--out", "out", "--device", "cpu:x"], "--device: expected cpu, cuda or cuda:N, got cpu:x"),
        (["fit", "a.png", "--out", "out", "--model", "bad.csv"], "bad.csv"),
        (["fit", "a.png", "--out", "out", "--model", "bald.safetensors"], "no 68 landmarks"),
        (["wink"], "wink"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments, text, folder, fitted, detector):
    save(folder / "a.png")
    (folder / "bad.csv").touch()
    (folder / "nothing").mkdir()
    if "bald.safetensors" in arguments:
        model = FaceModel.load(level=0)
        fields = {name: getattr(model, name) for name in ("topology", "mean_shape", "shape_basis", "num_identity")}
        FaceModel(**fields, mean_albedo=model.mean_albedo, albedo_basis=model.albedo_basis).save("bald.safetensors")
    said = focus(*arguments, code=2)
    assert text in said.all and "Traceback" not in said.all
    assert not fitted.all and not (folder / "out/index.html").exists()


def test_without_a_detector_it_says_what_to_install(folder, fitted, monkeypatch):
    save(folder / "a.png")

    def make(kind):
        raise DetectorUnavailableError('not installed; pip install "focus-kernels[dlib]"')

    monkeypatch.setattr(landmarks_module, "make_detector", make)
    assert 'error: not installed; pip install "focus-kernels[dlib]"' in fit("a.png", code=2).all
    assert "error: --detector dlib: not installed;" in fit("a.png", "--detector", "dlib", code=2).all


def test_no_gpu_is_told(folder, fitted, detector, monkeypatch):
    save(folder / "a.png")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "--device cuda: torch sees 0 GPUs" in fit("a.png", "--device", "cuda", code=2).all
    assert "--device cuda:0: torch sees 0 GPUs" in fit("a.png", "--device", "cuda:0", code=2).all


@pytest.mark.parametrize("name", ["[red].png", "[[1]] :smile:.png", "ünï çödé 面.png", "a & <b>.png"])
def test_odd_names_are_shown_as_they_are(name, folder, fitted, detector):
    save(folder / name)
    said = fit(name)
    assert f"[1/1] {name}: RMSE" in said.all
    assert (folder / "out" / name.removesuffix(".png") / "mesh.glb").exists()


def test_help_names_every_option_and_the_exit_codes():
    text = focus("fit", "--help").all
    for word in ("--out", "--landmarks", "--detector", "--model", "--level", "--device", "--threads", "Exit code: 0"):
        assert word in text
    assert f"[default: ({FitSettings().iterations})]" in text  # written out there, since --help does not import torch
    for command in ("fit", "demo", "info"):
        assert command in focus("--help").all


def test_info_tells_of_the_model_and_the_detectors(monkeypatch):
    text = focus("info").all
    for word in ("torch", "backends:", "face model", "CC0", "face-alignment", "dlib"):
        assert word in text


def test_demo_fits_the_astronaut(folder):
    """The real fit, with few steps."""
    said = focus("demo", "--level", "0", "--iterations", "5")
    assert "1 of 1 photos fitted. Open focus-demo/index.html" in said.all
    assert names(folder / "focus-demo/astronaut") == FILES
    parameters = json.loads((folder / "focus-demo/astronaut/parameters.json").read_text())
    assert parameters["photo_size"] == [512, 512]
    # FitSettings.jaw_sigma, what the fit expects the worse landmarks to be off.
    assert parameters["errors"]["landmark_error_px"] < 4
