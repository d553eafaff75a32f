"""`focus.compat.docker.FOCUSmodel`: what inferno asks of the authors' class, on the networks in the box."""

import argparse
import inspect
import pickle
from collections import OrderedDict
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from torch import nn

from focus.autoencoder import FaceAutoencoder
from focus.compat.docker import FOCUSmodel
from focus.decoder import Theta, ThetaLayout, decode
from focus.face_model import FaceModel
from focus.networks import ReconstructionNetwork, SegmentationNetwork
from focus.presets import Preset

NOW = [36, 39, 42, 45, 33, 48, 54]  # iBUG numbers, focus-spec's Part 2, 8


@pytest.fixture(scope="module")
def model():
    return FOCUSmodel(SimpleNamespace(device="cpu"))


@pytest.fixture(scope="module")
def autoencoder():
    return FaceAutoencoder.load()


def photographs(side, batch=2, seed=0):
    """Faces of random shapes over plain backgrounds, and where they are."""
    generator = torch.Generator().manual_seed(seed)
    face_model = FaceModel.load(level=0)
    layout = ThetaLayout.of(face_model)
    theta = torch.zeros(batch, layout.total)
    theta[:, :20] = 0.8 * torch.randn(batch, 20, generator=generator)
    face = decode(face_model, theta, size=side)
    background = torch.rand(batch, 3, 1, 1, generator=generator).expand(batch, 3, side, side)
    return face.over(background).clamp(0, 1), face.mask


def small_autoencoder(**changes):
    """Another architecture, with random weights: a ResNet-50 and a narrow U-Net on crops of 64 px, composite input."""
    face_model = FaceModel.load(level=0)
    torch.manual_seed(3)
    encoder = ReconstructionNetwork(ThetaLayout.of(face_model).total)
    nn.init.normal_(encoder.fc.weight, std=1e-3)
    networks = {"encoder": encoder, "segmenter": SegmentationNetwork(width=2), "face_model": face_model, "size": 64}
    return FaceAutoencoder(**{**networks, **changes}, preset=Preset.named("authors").replace(composite_input=True))


def run(model, photos):
    return model.forward_intactfaceshape_NOW(model.data_to_device({"img": photos}))


def test_inferno_gets_its_mask(model):
    model.init_for_now_challenge()
    photos, _ = photographs(224)
    out = run(model, photos)
    mask = out["est_mask"]
    assert mask.shape == (2, 1, 224, 224) and mask.dtype == torch.float32
    assert mask.min() >= 0 and mask.max() <= 1
    assert out["imgs_fitted"].shape == (2, 3, 224, 224)
    assert out["raster_mask"].shape == (2, 1, 224, 224) and not out["raster_mask"].requires_grad
    assert out["raster_mask"].unique().tolist() == [0, 1]
    vertices = out["nonexp_vertex_intact"]
    assert vertices.shape == (2, 3, model.face_model.num_vertices)
    assert torch.equal(out["lmring"], vertices[:, :, model.face_model.landmarks[NOW]])
    assert model.obj_intact_face.shape[0] == 3 and model.obj_intact_face.max() < vertices.shape[2]
    for name, module in (("enc_net", nn.Module), ("unet_for_mask", nn.Module)):
        assert isinstance(getattr(model, name), module) and not getattr(model, name).training
    # inferno walks over the modules for nn.Upsample of older versions of torch
    assert not [module for module in model.unet_for_mask.modules() if isinstance(module, nn.Upsample)]


@pytest.mark.parametrize("side", [112, 224])
def test_faces_are_found_and_what_covers_them_too(model, side):
    photos, truth = photographs(side)
    clean = run(model, photos)
    union = ((clean["raster_mask"] + truth) > 0).sum()
    assert (clean["raster_mask"] * truth).sum() > 0.9 * union  # measured: 0.97
    assert clean["est_mask"][truth > 0].mean() > 0.9  # 0.98
    covered = photos.clone()
    rows, columns = slice(int(0.55 * side), int(0.75 * side)), slice(int(0.3 * side), int(0.7 * side))
    covered[:, :, rows, columns] = torch.tensor([0.1, 0.7, 0.9]).view(3, 1, 1)
    mask = run(model, covered)["est_mask"]
    assert clean["est_mask"][:, :, rows, columns].mean() > 0.9 and mask[:, :, rows, columns].mean() < 0.1


def test_at_the_checkpoints_size_it_is_the_autoencoder(model, autoencoder):
    photos, _ = photographs(autoencoder.size)
    ours, (face, mask, _) = run(model, photos), autoencoder(photos)
    assert torch.equal(ours["est_mask"], mask) and torch.equal(ours["imgs_fitted"], face.over(photos))
    neutral = autoencoder.face_model.shape(face.parameters.identity)
    assert torch.equal(ours["nonexp_vertex_intact"], neutral.transpose(1, 2))
    assert not torch.equal(neutral, face.vertices)  # there was an expression to leave out


def test_other_networks_and_composite_input(tmp_path):
    small = small_autoencoder().eval()
    small.save(tmp_path / "small.safetensors")
    model = FOCUSmodel(argparse.Namespace(checkpoint=tmp_path / "small.safetensors"), face_model=small.face_model)
    photos, _ = photographs(64)
    out, expected = run(model, photos), small(photos)
    assert torch.equal(out["est_mask"], expected.mask)
    render, raster = expected.face.image, expected.face.mask
    composite = torch.cat([raster * render + (1 - raster) * photos, photos], 1)
    assert torch.equal(out["est_mask"], raster * model.unet_for_mask(composite))
    on_black = raster * model.unet_for_mask(torch.cat([render, photos], 1))
    assert not torch.equal(out["est_mask"], on_black)


def test_size_of_the_photo_does_not_matter_much(model):
    photos, _ = photographs(224)
    large = run(model, photos)
    small = run(model, nn.functional.avg_pool2d(photos, 2))
    shrunk = nn.functional.avg_pool2d(large["est_mask"], 2)
    # the same network input but for the filter: antialiased bilinear there, a box here
    assert (shrunk - small["est_mask"]).abs().mean() < 0.01  # measured: 0.005, at the outline
    assert (large["nonexp_vertex_intact"] - small["nonexp_vertex_intact"]).abs().mean() < 0.1  # mm; measured: 0.03


def test_networks_have_the_authors_layouts(model, autoencoder):
    photos, _ = photographs(112)
    theta: Theta = autoencoder.layout.split(autoencoder.encode(photos))
    groups = model.enc_net(photos)
    assert [value.shape[1] for value in groups] == [80, 64, 80, 6, 27]
    expected = (
        theta.identity,
        theta.expression,
        theta.albedo,
        torch.cat([theta.angles, theta.translation], 1),
        theta.light,
    )
    assert all(torch.equal(a, b) for a, b in zip(groups, expected, strict=True))
    mask = model.unet_for_mask(torch.cat([photos, photos], 1))
    assert torch.equal(mask, autoencoder.segmenter(photos, photos))


def test_same_answers_each_time_and_for_each_image_alone(model):
    photos, _ = photographs(112, batch=3)
    once, again = run(model, photos), run(model, photos)
    fresh = run(FOCUSmodel(), photos)
    for name, value in once.items():
        assert torch.equal(value, again[name]) and torch.equal(value, fresh[name])
    alone = run(model, photos[1:2])["est_mask"]
    assert (alone[0] - once["est_mask"][1]).abs().mean() < 1e-4  # other orders of summation in the convolutions


@pytest.mark.parametrize("side", [112, 160])
def test_gradients(model, side):
    photos, _ = photographs(side, batch=1)
    photos.requires_grad_()
    weights = [next(model.enc_net.parameters()), next(model.unet_for_mask.parameters())]
    out = run(model, photos)
    for name in ("est_mask", "imgs_fitted", "nonexp_vertex_intact", "lmring"):
        for value in torch.autograd.grad(out[name].sum(), [photos, weights[0]], retain_graph=True):
            assert value.isfinite().all() and value.any(), name
    (grad,) = torch.autograd.grad(out["est_mask"].sum(), weights[1])
    assert grad.isfinite().all() and grad.any()
    with torch.no_grad():
        assert torch.equal(run(model, photos)["est_mask"], out["est_mask"])


def test_the_answer_comes_from_the_two_networks(model):
    asked = []
    hooks = [
        getattr(model, name).register_forward_hook(lambda *_, name=name: asked.append(name))
        for name in ("enc_net", "unet_for_mask")
    ]
    try:
        model.forward_intactfaceshape_NOW({"img": torch.rand(1, 3, 64, 64)})
    finally:
        for hook in hooks:
            hook.remove()
    assert asked == ["enc_net", "unet_for_mask"]


def test_data_to_device(model):
    photos, _ = photographs(112)
    data = OrderedDict(img=photos, path=["a.jpg", "b.jpg"], number=3)
    moved = model.data_to_device(data)
    assert moved is data and torch.equal(moved["img"], photos) and moved["path"] == ["a.jpg", "b.jpg"]
    fixed = MappingProxyType({"img": photos})
    assert torch.equal(model.data_to_device(fixed)["img"], photos)
    moved = FOCUSmodel(checkpoint=small_autoencoder())
    moved.enc_net.to("meta")  # by hand; the data follow
    data = {"img": photos, "other": None}
    moved.data_to_device(data)
    assert moved.device == data["img"].device == torch.device("meta") and data["other"] is None


def test_empty_batch_and_large_photos(model):
    out = run(model, torch.zeros(0, 3, 224, 224))
    assert out["est_mask"].shape == (0, 1, 224, 224) and out["lmring"].shape == (0, 3, 7)
    assert run(model, photographs(300, batch=1)[0])["est_mask"].shape == (1, 1, 300, 300)


def test_settings():
    parameters = inspect.signature(FOCUSmodel).parameters
    assert next(iter(parameters)) == "args" and parameters["args"].default is None
    for args in (None, {"device": "cpu"}, argparse.Namespace(device=torch.device("cpu")), SimpleNamespace(gpu=0)):
        assert FOCUSmodel(args).device == torch.device("cpu")
    given = small_autoencoder().train()
    model = FOCUSmodel(SimpleNamespace(checkpoint="nowhere"), checkpoint=given)
    assert model.face_model is given.face_model and not model.unet_for_mask.training
    model.enc_net.train()
    model.init_for_now_challenge()
    assert not model.enc_net.training
    assert model.to("cpu") is model
    holder = nn.Module()
    holder.model = model
    assert not holder.state_dict()


def test_mesh_model(model, autoencoder):
    full = FaceModel.load(level=0)
    photos, _ = photographs(112)
    other, own = run(FOCUSmodel(mesh_model=full), photos), run(model, photos)
    assert other["nonexp_vertex_intact"].shape == (2, 3, full.num_vertices) != own["nonexp_vertex_intact"].shape
    assert torch.equal(other["est_mask"], own["est_mask"])
    neutral = full.shape(autoencoder(photos).face.parameters.identity).transpose(1, 2)
    assert torch.equal(other["nonexp_vertex_intact"], neutral)
    assert torch.equal(other["lmring"], neutral[:, :, full.landmarks[NOW]])


def test_nothing_is_unpickled_or_written(tmp_path, monkeypatch):
    class Program:
        def __reduce__(self):
            return Path(tmp_path / "proof").touch, ()

    file = tmp_path / "enc_net_300000.model"
    file.write_bytes(pickle.dumps(Program()))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    model = FOCUSmodel(SimpleNamespace(pretrained_model_test=str(file), save_path=str(folder), device="cpu"))
    run(model, photographs(112, batch=1)[0])
    with pytest.raises(ValueError, match="enc_net_300000"):
        FOCUSmodel(SimpleNamespace(checkpoint=file))
    assert not list(folder.iterdir()) and [path.name for path in tmp_path.iterdir() if path.is_file()] == [file.name]


def test_errors(model):
    photos, _ = photographs(64, batch=1)

    def fails(kind, message, data):
        with pytest.raises(kind, match=message):
            model.forward_intactfaceshape_NOW(data)

    fails(TypeError, "expected data to be a mapping, got Tensor", photos)
    fails(ValueError, "expected data to have 'img', got 'image'", {"image": photos})
    fails(TypeError, r"expected img to be a torch.Tensor, got ndarray", {"img": photos.numpy()})
    fails(TypeError, r"expected img to be float32 in \[0, 1\], got uint8", {"img": (photos * 255).byte()})
    fails(ValueError, r"expected img to be shape \[B, 3, H, H\], got \[3, 64, 64\]", {"img": photos[0]})
    fails(ValueError, r"expected img to be shape \[B, 3, H, H\], got \[1, 3, 64, 60\]", {"img": photos[..., :60]})
    fails(ValueError, "expected img to be at least 32 px wide, got 16", {"img": photos[..., :16, :16]})
    fails(ValueError, r"expected img to be RGB in \[0, 1\], got values from", {"img": photos * 255})
    fails(ValueError, r"expected img to be RGB in \[0, 1\], got values from nan", {"img": photos * torch.nan})
    with pytest.raises(TypeError, match=r"data_to_device\(\): expected data to be a mapping, got list"):
        model.data_to_device([photos])
    with pytest.raises(ValueError, match=r"unet_for_mask\(\): expected images to be shape \[B, 6, H, W\]"):
        model.unet_for_mask(photos)
    with pytest.raises(TypeError, match=r"enc_net\(\): expected images to be a floating type"):
        model.enc_net((photos * 255).byte())


def test_errors_of_the_constructor(tmp_path):
    def fails(kind, message, *args, **kwargs):
        with pytest.raises(kind, match=message):
            FOCUSmodel(*args, **kwargs)

    fails(TypeError, "expected args to be a namespace or a mapping, got str; give a file", "file.safetensors")
    fails(TypeError, "expected checkpoint to be a path or a FaceAutoencoder, got int", checkpoint=3)
    fails(ValueError, "expected device to be a device of torch, got 'warp'", SimpleNamespace(device="warp"))
    fails(
        ValueError, "expected checkpoint to have a segmentation network", checkpoint=small_autoencoder(segmenter=None)
    )
    few = FaceModel.load(level=0, components=(10, 5, 10))
    fails(ValueError, r"expected mesh_model to have \[80, 64, 80\] coefficients", mesh_model=few)
    fails(ValueError, "expected face_model to be None", checkpoint=small_autoencoder(), face_model=few)
    fails(OSError, "nowhere", checkpoint=tmp_path / "nowhere.safetensors")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_gives_the_cpus_masks(model):
    photos, _ = photographs(224)
    expected = run(model, photos)
    for there in (FOCUSmodel({"device": "cuda"}), FOCUSmodel().to("cuda")):
        out = run(there, photos)
        assert all(value.device.type == "cuda" for value in out.values())
        # cuDNN's convolutions are TF32, with 10 bits
        assert (out["est_mask"].cpu() - expected["est_mask"]).abs().mean() < 1e-2
        assert (out["nonexp_vertex_intact"].cpu() - expected["nonexp_vertex_intact"]).abs().mean() < 0.5  # mm
