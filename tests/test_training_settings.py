"""TrainSettings: names, JSON, messages."""

import json

import pytest

from focus.presets import Preset
from focus.training.settings import NAMES, TrainSettings


@pytest.mark.parametrize("name", NAMES)
def test_named_settings_survive_json(name, tmp_path):
    settings = TrainSettings.named(name)
    assert settings.name == name and TrainSettings.from_json(settings.to_json()) == settings
    settings.save(tmp_path / "settings.json")
    assert TrainSettings.load(tmp_path / "settings.json") == settings


def test_paper_and_authors_are_the_presets():
    assert TrainSettings.named("paper") == TrainSettings()
    assert TrainSettings.named("authors").preset == Preset.named("authors")
    assert TrainSettings().iterations == 300_000 + 30_000 + 200_000


def test_part_of_a_file_changes_its_base():
    text = json.dumps({"base": "tiny", "size": 64, "preset": {"em": {"iterations": 3}}})
    settings, tiny = TrainSettings.from_json(text), TrainSettings.named("tiny")
    assert settings.size == 64 and settings.preset.em.iterations == 3
    assert settings == tiny.replace(size=64, preset={"em": {"iterations": 3}})
    assert settings.preset.initialisation == tiny.preset.initialisation


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"sizes": 3}, ValueError, "expected keys among .*; got sizes"),
        ({"size": 31}, ValueError, r"TrainSettings\(\): expected size to be >= 32, got 31"),
        ({"size": "64"}, TypeError, "expected size to be an integer, got '64'"),
        ({"encoder": "vgg"}, ValueError, "expected encoder to be one of 'resnet50', 'small', got 'vgg'"),
        ({"dropout": 1.0}, ValueError, "expected dropout to be finite, >= 0 and < 1, got 1.0"),
        ({"preset": {"em": {"iteration": 1}}}, ValueError, "got preset.em.iteration"),
        ({"augmentation": {"flip": 2}}, ValueError, r"Augmentation\(\): expected flip to be"),
        ({"base": "huge"}, ValueError, "expected base to be one of paper, authors, tiny, got 'huge'"),
    ],
)
def test_what_is_wrong_is_named(change, error, message, tmp_path):
    with pytest.raises(error, match=message):
        TrainSettings.from_json(json.dumps(change))
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(change))
    with pytest.raises(error, match=r"wrong\.json: "):
        TrainSettings.load(path)


def test_no_such_name():
    with pytest.raises(ValueError, match="expected name to be one of paper, authors, tiny, got 'x'"):
        TrainSettings.named("x")
