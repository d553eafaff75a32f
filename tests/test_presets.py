"""The presets: each constant of both, the schedule, and JSON that refuses what it does not know."""

import copy
import dataclasses
import json
import math
import pickle
import subprocess
import sys

import pytest

from focus.presets import EMSettings, NeighborSettings, Preset

BOTH = {
    "inlier_threshold": 0.016641,
    "inlier_sigma": 0.043,
    "regularisation_divisor": 224,
    "perceptual_depth": "deep",
    "segmentation_depth": "shallow",
    "composite_input": False,
    "batch_size": 12,
    "adadelta": {"rho": 0.9, "epsilon": 1e-6},
    "initialisation": {"iterations": 300000, "learning_rate": 0.1, "decay": 0.99, "decay_every": 5000},
    "pretraining": {"iterations": 30000, "learning_rate": 0.03, "decay": 0.99, "decay_every": 5000},
}
EM = {
    "iterations": 200000,
    "segmentation_steps": 5000,
    "reconstruction_steps": 25000,
    "first": "segmentation",
    "segmentation_rate_ratio": 0.06,
    "reconstruction_decay": 0.99,
    "decay_every": 5000,
}
SEGMENTATION = {"neighbor": 15, "distance": 3, "area": 0.5, "binary": 10, "pixel": 0}
RECONSTRUCTION = {"pixel": 0.5, "perceptual": 0.25, "landmark": 5e-4, "regularisation": 0.1}
HEADS = {"albedo": 3, "angles": 0.3, "translation": 1, "light_offset": 0.7 * 2 * math.pi}
INNER_LIP = [60, 61, 62, 63, 64, 65, 66, 67]
TABLE = {
    "paper": BOTH
    | {
        "name": "paper",
        "initial_pixel": "pixel",
        "area_offset": 0,
        "binary": "square",
        "detach_mask": True,
        "row_normalized_features": False,
        "neighbor": {"window": 3, "search": "rendered", "power": 2, "masking": "weight", "border": "clip"},
        "pixel": {"kind": "squared", "reduction": "mask_mean"},
        "landmark": {"weight": 20, "weighted": [27, 28, 29, 30, *INNER_LIP], "weighting": "square"},
        "segmentation_weights": SEGMENTATION | {"preserve": 2.5},
        "reconstruction_weights": RECONSTRUCTION | {"area": 0},
        "heads": HEADS | {"depth": 10},
        "rendering": {"normals": "unit", "coverage": "top_left", "perspective_correct": True},
        "em": EM | {"rate_factor": 1, "segmentation_decay": 0.99},
    },
    "authors": BOTH
    | {
        "name": "authors",
        "initial_pixel": "gaussian",
        "area_offset": 1,
        "binary": "absolute",
        "detach_mask": False,
        "row_normalized_features": True,
        "neighbor": {"window": 5, "search": "target", "power": 1, "masking": "images", "border": "valid"},
        "pixel": {"kind": "l2", "reduction": "batch_mask_mean"},
        "landmark": {"weight": 20, "weighted": [28, 29, 30, *INNER_LIP], "weighting": "distance"},
        "segmentation_weights": SEGMENTATION | {"preserve": 0.25},
        "reconstruction_weights": RECONSTRUCTION | {"area": 0.06},
        "heads": HEADS | {"depth": 0.005},
        "rendering": {"normals": "focus", "coverage": "inclusive", "perspective_correct": False},
        "em": EM | {"rate_factor": 0.8, "segmentation_decay": 0.95},
    },
}
NAMES = pytest.mark.parametrize("name", ["paper", "authors"])


def leaves(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def changed(name, path, value):
    """The JSON of a preset with one value replaced."""
    values = copy.deepcopy(TABLE[name])
    part = values
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return json.dumps(values)


PATHS = [path for path, _ in leaves(TABLE["paper"])]
NUMBERS = [path for path, value in leaves(TABLE["paper"]) if type(value) in (int, float)]
each = lambda paths: pytest.mark.parametrize("path", paths, ids=".".join)


@NAMES
def test_every_constant(name):
    assert json.loads(Preset.named(name).to_json()) == TABLE[name]


def test_paper_is_the_default():
    assert Preset() == Preset.named("paper") != Preset.named("authors")
    with pytest.raises(ValueError, match=r"Preset.named\(\): expected name to be 'paper' or 'authors', got 'docker'"):
        Preset.named("docker")


@NAMES
def test_json_and_back(name, tmp_path):
    preset = Preset.named(name).replace(name="mine", landmark={"weighted": [3]}, inlier_threshold=0.1 + 0.2)
    assert Preset.from_json(preset.to_json()) == preset
    preset.save(tmp_path / "preset.json")
    assert Preset.load(tmp_path / "preset.json") == preset
    assert pickle.loads(pickle.dumps(preset)) == preset and hash(preset) == hash(copy.deepcopy(preset))
    assert Preset.from_json(json.dumps(TABLE[name])) == Preset.named(name)  # integers where numbers are wanted


def test_json_on_a_base():
    got = Preset.from_json('{"base": "authors", "batch_size": 4, "neighbor": {"window": 3}}')
    assert got == Preset.named("authors").replace(batch_size=4, neighbor={"window": 3})
    assert got.neighbor.search == "target" and got.name == "authors"
    for base in ('"docker"', "null", "3", "[]"):
        with pytest.raises(ValueError, match=r"expected base to be 'paper' or 'authors'"):
            Preset.from_json(f'{{"base": {base}}}')


@each(PATHS)
def test_a_missing_key_is_named(path):
    values = copy.deepcopy(TABLE["paper"])
    part = values
    for key in path[:-1]:
        part = part[key]
    del part[path[-1]]
    with pytest.raises(ValueError, match=rf"expected {'.'.join(path)} to be given"):
        Preset.from_json(json.dumps(values))


@each([("windw",), ("neighbor", "windw"), ("em", "window")])
def test_an_unknown_key_is_named(path):
    with pytest.raises(ValueError, match=rf"got {'.'.join(path)}$"):
        Preset.from_json(changed("paper", path, 3))


@each(PATHS)
@pytest.mark.parametrize("value", [None, {}, [None]], ids=["null", "object", "list"])
def test_a_wrong_type_is_named(path, value):
    with pytest.raises(TypeError, match=rf"expected {'.'.join(path)} to be "):
        Preset.from_json(changed("paper", path, value))


@each(NUMBERS)
@pytest.mark.parametrize("value", ["3", True], ids=["string", "bool"])
def test_a_number_is_no_string_or_bool(path, value):
    with pytest.raises(TypeError, match=rf"expected {'.'.join(path)} to be "):
        Preset.from_json(changed("paper", path, value))


@each(NUMBERS)
@pytest.mark.parametrize("value", [-1, -(10**400)], ids=["-1", "-1e400"])
def test_a_number_out_of_range_is_named(path, value):
    with pytest.raises(ValueError, match=rf"expected {'.'.join(path)} to be "):
        Preset.from_json(changed("paper", path, value))


@each(NUMBERS)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_no_number_is_not_finite(path, value):
    text = changed("paper", path, "@").replace('"@"', value)
    with pytest.raises((TypeError, ValueError), match=rf"expected {'.'.join(path)} to be "):
        Preset.from_json(text)


@pytest.mark.parametrize(
    "key, value",
    [
        ("neighbor.window", 4),
        ("neighbor.search", "both"),
        ("neighbor.power", 3),
        ("neighbor.masking", ""),
        ("neighbor.border", "same"),
        ("pixel.kind", "gaussian_inlier"),
        ("pixel.reduction", "none"),
        ("landmark.weighting", "both"),
        ("landmark.weighted", [68]),
        ("landmark.weighted", [-1]),
        ("landmark.weighted", [3, 3]),
        ("rendering.normals", "flat"),
        ("rendering.coverage", "loose"),
        ("em.first", "R"),
        ("em.segmentation_steps", 0),
        ("em.segmentation_decay", 1.01),
        ("em.segmentation_decay", 0),
        ("adadelta.rho", 1),
        ("adadelta.epsilon", 0),
        ("initialisation.learning_rate", 0),
        ("initialisation.decay_every", 0),
        ("pretraining.iterations", -1),
        ("heads.depth", 0),
        ("perceptual_depth", "middle"),
        ("segmentation_depth", "middle"),
        ("initial_pixel", "l2"),
        ("binary", "round"),
        ("inlier_threshold", 0),
        ("inlier_sigma", 0),
        ("regularisation_divisor", 0),
        ("batch_size", 0),
        ("name", " "),
    ],
)
def test_what_is_out_of_range_is_named(key, value):
    path = key.split(".")
    text = changed("paper", path, value)
    with pytest.raises(ValueError, match=rf"Preset\(\): expected {key} to be "):
        Preset.from_json(text)
    change = {path[0]: value if len(path) == 1 else {path[1]: value}}
    with pytest.raises(ValueError, match=rf"Preset\(\): expected {key} to be "):
        Preset().replace(**change)


@pytest.mark.parametrize("key", ["batch_size", "neighbor.window", "em.iterations"])
def test_an_integer_is_no_float(key):
    with pytest.raises(TypeError, match=rf"expected {key} to be "):
        Preset.from_json(changed("paper", key.split("."), 5.0))


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "expected JSON, got an error"),
        ("{", "expected JSON, got an error"),
        ("[]", "expected a JSON object, got list"),
        ("null", "expected a JSON object, got NoneType"),
        ('{"base": "paper", "batch_size": 3, "batch_size": 4}', "expected each key once, got 'batch_size' twice"),
        ('{"base": "paper", "em": {"first": 1, "first": 2}}', "expected each key once, got 'first' twice"),
        ('{"base": "paper", "neighbor": [' + "[" * 100000, "nested too deeply|got an error"),
    ],
)
def test_what_is_no_preset(text, message, tmp_path):
    with pytest.raises(ValueError, match=rf"Preset.from_json\(\): .*({message})"):
        Preset.from_json(text)
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"broken\.json: Preset.from_json\(\)"):
        Preset.load(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(OSError):
        Preset.load(tmp_path / "none.json")
    (tmp_path / "bytes.json").write_bytes(b'{"name": "\xff"}')
    with pytest.raises(ValueError, match=r"bytes\.json"):
        Preset.load(tmp_path / "bytes.json")


def test_replace():
    preset = Preset()
    other = preset.replace(detach_mask=False, neighbor={"window": 7}, em=EMSettings(first="reconstruction"))
    assert other.detach_mask is False and other.em.first == "reconstruction"
    assert other.neighbor == NeighborSettings(window=7) and preset.neighbor.window == 3
    assert dataclasses.replace(other, detach_mask=True, neighbor=preset.neighbor, em=preset.em) == preset
    with pytest.raises(ValueError, match=r"Preset.replace\(\): .*got neighbor.windw"):
        preset.replace(neighbor={"windw": 3})
    with pytest.raises(TypeError, match="expected em to be"):
        preset.replace(em=NeighborSettings())
    with pytest.raises(TypeError, match="expected neighbor to be a NeighborSettings"):
        Preset(neighbor={"window": 3})
    with pytest.raises(dataclasses.FrozenInstanceError):
        preset.batch_size = 3


def test_schedule():
    """A clean 5,000 S-steps and 25,000 R-steps, S first (the authors have 5,001 and 24,999)."""
    em = Preset().em
    turns = [em.trained(i) for i in range(60000)]
    assert turns == (["segmentation"] * 5000 + ["reconstruction"] * 25000) * 2
    em = EMSettings(segmentation_steps=2, reconstruction_steps=3, first="reconstruction")
    assert "".join(em.trained(i)[0] for i in range(10)) == "rrrssrrrss"


def test_learning_rates_of_em():
    assert Preset().em_reconstruction_rate == pytest.approx(0.1 * 0.99**60)
    assert Preset.named("authors").em_reconstruction_rate == pytest.approx(0.0438, abs=5e-5)
    assert Preset.named("authors").em_segmentation_rate == pytest.approx(0.00263, abs=5e-6)


def test_scaled():
    preset = Preset().scaled(0.01)
    assert preset.initialisation.iterations == 3000 and preset.initialisation.decay_every == 50
    assert preset.pretraining.iterations == 300 and preset.pretraining.learning_rate == 0.03
    assert (preset.em.iterations, preset.em.segmentation_steps, preset.em.reconstruction_steps) == (2000, 50, 250)
    assert preset.em_reconstruction_rate == Preset().em_reconstruction_rate
    assert preset.batch_size == 12 and preset.em.first == "segmentation"
    assert Preset().scaled(1) == Preset() and Preset().scaled(1e-9).em.segmentation_steps == 1
    for factor, error in ((0, ValueError), (-1, ValueError), (math.inf, ValueError), ("2", TypeError)):
        with pytest.raises(error, match=r"Preset.scaled\(\): expected factor"):
            Preset().scaled(factor)


def test_presets_need_no_torch():
    code = "import sys; from focus import Preset; Preset.named('authors'); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
