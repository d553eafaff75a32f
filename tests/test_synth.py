"""Synthetic faces: the same bits whatever the batch, and masks that are true."""

import pickle

import pytest
import torch

from focus import FaceModel
from focus.alignment import crop_matrix
from focus.decoder import Theta, render_face
from focus.synth import BACKGROUNDS, FaceParameters, SceneSettings, SyntheticFaces, collate, synthesize
from focus.synth.dataset import unstack
from focus.synth.scenes import SceneSampler, align_faces, project_landmarks, render_faces, stack_parameters

SIZE = 96


@pytest.fixture(scope="module")
def model():
    return FaceModel.load(level=0)


def dataset(model, count=12, **options):
    return SyntheticFaces(count, **({"size": SIZE, "model": model, "seed": 3} | options))


def tensors(sample):
    return [*sample[:4], *sample.parameters, sample.vertices]


def same(first, second):
    assert first.occluders == second.occluders
    return all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


def test_an_item_has_the_stated_form(model):
    sample = dataset(model)[0]
    V = model.num_vertices
    shapes = [[3, SIZE, SIZE], [1, SIZE, SIZE], [1, SIZE, SIZE], [68, 2], [80], [64], [80], [27], [3], [3], [V, 3]]
    assert [list(t.shape) for t in tensors(sample)] == shapes
    assert {t.dtype for t in tensors(sample)} == {torch.float32}
    for plane in sample[:3]:
        assert plane.is_contiguous()
        assert float(plane.min()) >= 0 and float(plane.max()) <= 1


def test_items_do_not_depend_on_their_batch(model):
    data = dataset(model)
    whole = unstack(data.batch(range(12)))  # more than are rendered at a time
    parts = [*unstack(data.batch(range(5))), *unstack(data.batch(range(5, 12)))]
    turned = unstack(data.batch(range(11, -1, -1)))[::-1]
    for index in range(12):
        assert same(whole[index], parts[index])
        assert same(whole[index], turned[index])
    assert same(whole[7], data[7])
    assert same(whole[7], dataset(model)[7])
    assert same(whole[11], data[-1])


def test_items_differ_with_seed_and_index(model):
    items, others = (dataset(model, 24, seed=seed).batch(range(24)) for seed in (3, 4))
    rows = torch.cat([items.parameters.identity, others.parameters.identity])
    assert len(rows.unique(dim=0)) == 48
    edges = torch.cat([batch.image[:, :, -1].flatten(1) for batch in (items, others)])  # backgrounds, nearly always
    assert len(edges.unique(dim=0)) == 48
    shares = [float(visible.sum() / face.sum()) for visible, face in zip(items.visible, items.face, strict=True)]
    assert len({share for share in shares if share < 1}) == sum(share < 1 for share in shares) > 12
    assert len(set(items.occluders)) > 8


def test_occluders_change_neither_scene_nor_background(model):
    bare, covered = dataset(model, kinds=()).batch(range(8)), dataset(model, none_probability=0.0).batch(range(8))
    for name in ("face", "landmarks", "vertices"):
        assert torch.equal(getattr(bare, name), getattr(covered, name))
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters, covered.parameters, strict=True))
    assert bare.occluders == [()] * 8
    assert torch.equal(bare.visible, bare.face)
    assert all(covered.occluders)


def test_visible_pixels_are_those_of_the_render(model):
    """Where nothing was taken from the mask the image is the bare one, bit for bit, and only there it may differ."""
    bare = dataset(model, 40, kinds=()).batch(range(40))
    covered = dataset(model, 40, none_probability=0.0).batch(range(40))
    untouched = (covered.visible == covered.face) & (covered.face > 0)
    assert torch.equal(torch.where(untouched, covered.image, 0), torch.where(untouched, bare.image, 0))
    assert float(untouched.float().mean()) > 0.05
    assert (covered.visible <= covered.face).all()
    lost = (covered.face > 0) & (covered.visible < covered.face)
    assert float(lost.float().mean()) > 0.03
    changed = (covered.image != bare.image).any(1, keepdim=True) & (covered.face > 0)
    assert (changed & ~lost).sum() == 0


def test_parameters_and_vertices_give_the_face_again(model):
    sample = dataset(model, kinds=(), person_probability=0.0).batch(range(6))
    vertices = model.shape(sample.parameters.identity, sample.parameters.expression)
    assert torch.equal(vertices, sample.vertices)
    again = render_faces(model, sample.parameters, vertices, SIZE)  # on black
    assert torch.equal(again.mask, sample.face)
    assert torch.equal(again.landmarks, sample.landmarks)
    inside = -torch.nn.functional.max_pool2d(-sample.face, 5, 1, 2) == 1
    assert torch.equal(torch.where(inside, again.image, 0), torch.where(inside, sample.image, 0))


def test_landmarks_lie_on_the_face(model):
    sample = dataset(model, 32, size=224).batch(range(32))
    grown = torch.nn.functional.max_pool2d(sample.face, 9, 1, 4)[:, 0]
    inner = sample.landmarks[:, 27:]  # nose, eyes and mouth; the jaw's far side may be behind the head
    column, row = inner.floor().long().clamp(0, 223).unbind(-1)
    hit = grown[torch.arange(32)[:, None], row, column] > 0
    assert hit.float().mean() > 0.99
    eyes = sample.landmarks[:, 42:48].mean(1) - sample.landmarks[:, 36:42].mean(1)
    assert (eyes[:, 0] > 0).all()  # the subject's right eye comes first, on the left


def test_outlines_are_smooth(model):
    face = dataset(model, kinds=()).batch(range(8)).face
    soft = (face > 0) & (face < 1)
    border = torch.nn.functional.max_pool2d(face, 3, 1, 1) != -torch.nn.functional.max_pool2d(-face, 3, 1, 1)
    assert float(soft.sum() / border.sum()) > 0.2
    assert not (soft & ~border).any()


def test_faces_are_neither_black_nor_burnt_out(model):
    sample = dataset(model, 64, kinds=()).batch(range(64))
    for image, face in zip(sample.image, sample.face, strict=True):
        pixels = image[:, face[0] == 1]
        assert float(pixels.mean()) > 0.08
        assert float((pixels >= 1).all(0).float().mean()) < 0.1
        assert float((pixels.amax(0) < 0.02).float().mean()) < 0.15
    means = torch.stack([image[:, face[0] == 1].mean() for image, face in zip(sample.image, sample.face, strict=True)])
    assert float(means.std()) > 0.08


def test_scenes_are_as_wide_as_the_settings_say(model):
    sampler = SceneSampler(model)
    generator = torch.Generator().manual_seed(0)
    drawn = stack_parameters([sampler.sample(generator) for _ in range(400)])
    for coefficients in drawn[:3]:
        assert float(coefficients.abs().max()) <= 2.5
        assert abs(float(coefficients.std()) - 1) < 0.06  # 0.96 with the clamp
    expected = {"angles": [0.15, 0.3, 0.15], "translation": [5.0, 5.0, 30.0]}
    for name, widths in expected.items():
        values = getattr(drawn, name)
        assert torch.allclose(values.std(0), torch.tensor(widths), rtol=0.15)
        assert torch.allclose(values.mean(0), torch.zeros(3), atol=0.2 * max(widths))
    flat = SceneSampler(model, SceneSettings(identity=0, expression=0, albedo=0, yaw=0, tilt=0, shift=0, depth=0))
    still = flat.sample(generator)
    assert all(float(value.abs().max()) == 0 for name, value in still._asdict().items() if name != "light")
    assert not torch.equal(still.light, flat.sample(generator).light)


def test_aligned_faces_are_where_photos_are_cropped(model):
    sample = dataset(model).batch(range(12))
    still = torch.tensor([1.0, 0.0, 0.0, 1.0])
    for points in sample.landmarks.numpy():
        matrix = torch.from_numpy(crop_matrix(points, (SIZE, SIZE), size=SIZE))
        assert (matrix[:, :2].flatten() - still).abs().max() < 1e-3
        assert (matrix @ torch.tensor([SIZE / 2, SIZE / 2, 1.0], dtype=torch.float64) - SIZE / 2).abs().max() < 0.02
    free = dataset(model, settings=SceneSettings(aligned=False)).batch(range(12))
    assert torch.equal(free.vertices, sample.vertices)
    assert (free.parameters.translation - sample.parameters.translation).abs().max() > 1
    # The parameters are those of the picture.
    again = render_face(model, Theta(*sample.parameters), size=SIZE)
    torch.testing.assert_close(again.landmarks, sample.landmarks, rtol=0, atol=1e-3)


def test_faces_turned_away_come_to_the_middle(model):
    settings = SceneSettings(yaw=0.0, tilt=0.0, shift=30.0, depth=0.0)
    sampler = SceneSampler(model, settings)
    faces = stack_parameters([sampler.sample(torch.Generator().manual_seed(k)) for k in range(2)])
    faces = faces._replace(angles=torch.tensor([[0.0, 3.0, 0.0]] * 2))
    vertices = model.shape(faces.identity, faces.expression)
    moved = align_faces(model, vertices, faces, SIZE)
    assert torch.equal(moved.translation[:, 2], faces.translation[:, 2])
    middle = project_landmarks(model, vertices, moved, SIZE).mean(1)
    torch.testing.assert_close(middle, torch.full((2, 2), SIZE / 2), rtol=0, atol=0.05 * SIZE)


def test_faces_outside_the_picture_are_not_covered(model):
    sample = dataset(model, none_probability=0.0, settings=SceneSettings(shift=1e5, aligned=False)).batch(range(4))
    assert float(sample.face.sum()) == 0
    assert sample.occluders == [()] * 4


def test_a_generator_decides_the_scene(model):
    sampler = SceneSampler(model)
    first, second = (sampler.sample(torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("kind", [kind for kind in BACKGROUNDS if kind != "photo"])
def test_backgrounds_fill_the_picture(model, kind):
    sample = dataset(model, kinds=(), backgrounds=(kind,), person_probability=0.0).batch(range(6))
    outside = torch.where(sample.face == 0, sample.image, torch.nan)
    for image in outside:
        values = image[:, ~image.isnan().any(0)]
        assert values.isfinite().all()
        assert float(values.std()) > 0.001
    assert float(outside[0].nanmean()) != float(outside[1].nanmean())


def test_photographs_serve_as_backgrounds_and_cutouts(model, tmp_path):
    from PIL import Image

    for index, value in enumerate((40, 200)):
        Image.new("RGB", (90, 70), (value, 7, 7)).save(tmp_path / f"{index}.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    options = {"photos": tmp_path, "backgrounds": ("photo",), "person_probability": 0.0}
    sample = dataset(model, kinds=(), **options).batch(range(12))
    corners = sample.image[:, :, -1, 0] * 255
    assert {tuple(c.round().int().tolist()) for c in corners} == {(40, 7, 7), (200, 7, 7)}
    cut = dataset(model, kinds=("cutout",), none_probability=0.0, **options).batch(range(12))
    red = (cut.image[:, 1:] * 255).round().eq(7).all(1) & (cut.visible[:, 0] == 0) & (cut.face[:, 0] == 1)
    assert int(red.flatten(1).any(1).sum()) >= 2
    assert same(dataset(model, kinds=("cutout",), none_probability=0.0, **options)[5], unstack(cut)[5])


def test_torch_loaders_give_the_same_batches(model):
    data = dataset(model)
    loader = torch.utils.data.DataLoader(data, batch_size=5, collate_fn=collate)
    batches = list(loader)
    assert [len(batch.image) for batch in batches] == [5, 5, 2]
    for batch, expected in zip(batches, data.batches(5), strict=True):
        assert same(batch, expected)
        assert isinstance(batch.parameters, FaceParameters)


def test_worker_processes_can_take_a_dataset(model):
    data = dataset(model)
    assert same(pickle.loads(pickle.dumps(data))[4], data[4])


def test_synthesize_is_a_slice_of_the_dataset(model):
    batch = synthesize(3, seed=3, start=2, size=SIZE, model=model)
    assert same(batch, dataset(model).batch(range(2, 5)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"count": -1}, ValueError, "expected count to be >= 0, got -1"),
        ({"count": 2.0}, TypeError, "expected count to be an int, got float"),
        ({"size": 16}, ValueError, "expected size to be >= 32, got 16"),
        ({"seed": -4}, ValueError, "expected seed to be >= 0, got -4"),
        ({"kinds": ("hand", "hat")}, ValueError, "expected kinds to be among hand, .*, got 'hat'"),
        ({"kinds": "hand"}, TypeError, "expected kinds to be a sequence of names, got the string 'hand'"),
        ({"kinds": ("hand", "hand")}, ValueError, "expected every name in kinds once"),
        ({"none_probability": 1.5}, ValueError, r"expected none_probability to be in \[0, 1\], got 1.5"),
        ({"backgrounds": ("sea",)}, ValueError, "expected backgrounds to be some of noise, .*, got"),
        ({"backgrounds": ()}, ValueError, "expected backgrounds to be some of"),
        ({"backgrounds": ("photo",)}, ValueError, 'expected photos for the background "photo", got None'),
        ({"photos": "/nowhere"}, ValueError, "expected folder to be a folder of pictures, got /nowhere"),
    ],
)
def test_bad_arguments_are_named(model, options, error, message):
    with pytest.raises(error, match=message):
        dataset(model, **({"count": 2} | options))


def test_unfit_models_and_settings_are_named(model, tmp_path):
    with pytest.raises(ValueError, match="float32 model on the CPU"):
        dataset(FaceModel.load(level=0, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"expected pictures in .*, found none"):
        dataset(model, photos=tmp_path)
    with pytest.raises(ValueError, match="expected yaw to be >= 0, got -1"):
        SceneSettings(yaw=-1)
    with pytest.raises(ValueError, match="expected ambient to be shares"):
        SceneSettings(ambient=(0.9, 0.1))
    with pytest.raises(IndexError, match="expected an index below 12, got 12"):
        dataset(model)[12]
    with pytest.raises(ValueError, match="expected indices to be integers >= 0"):
        dataset(model).batch([-1])
    with pytest.raises(ValueError, match="expected batch >= 1 and start >= 0, got 0 and 0"):
        synthesize(0)
    with pytest.raises(ValueError, match="expected size to be >= 1, got 0"):
        next(dataset(model).batches(0))
