"""Runs of training that take a second: a source and networks that are nearly nothing. Also a program, for runs to kill:

python training_runs.py OUT SAVES_BEFORE_DEATH
"""

import os
import signal
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

import focus.networks.weights as weights
import focus.training.run as run
from focus.autoencoder import FaceAutoencoder
from focus.data.batch import Batch
from focus.decoder import ThetaLayout, decode
from focus.face_model import FaceModel
from focus.networks import SegmentationNetwork
from focus.training.settings import TrainSettings

SIZE = 32
# No term with F: the recognizer alone would take longer than all the rest.
WITHOUT_F = {"reconstruction_weights": {"perceptual": 0}, "segmentation_weights": {"distance": 0, "preserve": 0}}
STAGES = {
    "initialisation": {"iterations": 4, "decay_every": 2},
    "pretraining": {"iterations": 3, "decay_every": 2},
    "em": {"iterations": 5, "segmentation_steps": 2, "reconstruction_steps": 1, "decay_every": 2},
}
TOTAL = 12


class TinyEncoder(nn.Module):
    """Means of 8 x 8 px, batch normalisation (statistics are part of a run), and a small linear layer."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs
        self.norm = nn.BatchNorm1d(48)
        self.head = nn.Linear(48, outputs)
        nn.init.normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)

    def forward(self, images):
        return self.head(self.norm(nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)))


class TinySource:
    """Waves of colour, other ones in each epoch, with the landmarks of the mean face."""

    def __init__(self, count=6, size=SIZE):
        self.count, self.size = count, size
        theta = torch.zeros(1, ThetaLayout.of(face_model()).total)
        self.landmarks = decode(face_model(), theta, size=size).landmarks[0]

    def __len__(self):
        return self.count

    def batch(self, indices, epoch):
        rows = []
        for index in indices:
            rng = np.random.default_rng([epoch, index])
            small = torch.from_numpy(rng.random((1, 3, 4, 4), np.float32))
            rows.append(nn.functional.interpolate(small, self.size, mode="bilinear"))
        image = torch.cat(rows)
        return Batch(image, self.landmarks.expand(len(indices), -1, -1).clone(), visible=image[:, :1])


@lru_cache
def face_model():
    return FaceModel.load(level=0)


def tiny_settings(**changes):
    settings = TrainSettings().replace(
        name="tiny test",
        size=SIZE,
        level=0,
        segmentation_width=2,
        workers=0,
        log_every=2,
        image_every=5,
        checkpoint_every=1000,
        validate_every=6,
        preset={"batch_size": 2, **WITHOUT_F, **STAGES},
    )
    return settings.replace(**changes)


def tiny_autoencoder(settings, model=None, path=None):
    """Takes the place of `make_autoencoder`."""
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        encoder = TinyEncoder(ThetaLayout.of(face_model()).total)
        segmenter = None
        if settings.mask == "segmentation":
            segmenter = SegmentationNetwork(settings.segmentation_width, settings.dropout)
    return FaceAutoencoder(encoder, segmenter, face_model(), settings.preset, settings.size)


def use_tiny_networks(set_attribute=setattr):
    set_attribute(run, "make_autoencoder", tiny_autoencoder)
    set_attribute(weights, "_CLASSES", {**weights._CLASSES, "TinyEncoder": ("training_runs", ("outputs",))})


def tiny_run(out, settings=None, **keywords):
    settings = tiny_settings() if settings is None else settings
    return run.train(settings, out=out, **{"source": TinySource(), "shown": False} | keywords)


def weights_of(autoencoder):
    return {key: value.clone() for key, value in autoencoder.state_dict().items()}


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


def main():
    """A run that kills itself with SIGKILL: in the middle of writing the N-th checkpoint, or, for 0, never."""
    out, fatal = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    use_tiny_networks()
    sync, count = os.fsync, 0

    def fsync(descriptor):  # write_tensors calls it when all is written, but not yet renamed
        nonlocal count
        if ".tmp" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            count += 1
            if count == fatal:
                os.ftruncate(descriptor, 1000)
                os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = fsync
    settings = tiny_settings(checkpoint_every=1)
    if fatal == 0:  # somebody else will kill it, sooner or later
        iterations = settings.preset.em.iterations + 10_000
        settings = settings.replace(preset={"em": {"iterations": iterations}})
    tiny_run(out, settings, resume=True)


if __name__ == "__main__":
    main()
