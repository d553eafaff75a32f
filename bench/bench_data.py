"""Data: synthetic faces and photographs, images per second of one process and of streams with worker processes.

Rounds are of wall time where several processes work, of CPU time where one does. Photographs are drawn ones, 512 px,
JPEG, so that no data has to be there.
"""

import csv
from itertools import islice
from time import perf_counter

import cv2
import numpy as np
import pytest
from PIL import Image

from .clock import CLOCK
from .race import ONE

BATCH, BATCHES = 16, 6
PHOTOS, PHOTO_SIDE = 64, 512
SIZES = [224, 112]

pytestmark = pytest.mark.benchmark(timer=CLOCK, group="data: images per second")
ONE_THREAD = pytest.mark.parametrize("place", [ONE], indirect=True, ids=["1_thread"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs with landmarks: the demo's, turned in brightness so that none is like the other."""
    from focus.demo import demo_photo

    image, points = demo_photo()
    place = tmp_path_factory.mktemp("photos")
    scale = PHOTO_SIDE / image.shape[0]
    image = cv2.resize(image, (PHOTO_SIDE, PHOTO_SIDE), interpolation=cv2.INTER_AREA)
    names = [f"{index:03d}.jpg" for index in range(PHOTOS)]
    for index, name in enumerate(names):
        Image.fromarray((image * (1 - index / 200)).astype(np.uint8)).save(place / name, quality=92)
    with (place / "landmarks.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *(f"{axis}{k}" for k in range(68) for axis in "xy")])
        table.writerows([name, *(points * scale - 0.5).reshape(-1)] for name in names)
    return place


def report(benchmark, images, seconds=None):
    """Images per second into the result; of the median round where no seconds are given."""
    seconds = benchmark.stats.stats.median if seconds is None else seconds
    benchmark.extra_info |= {"images": images, "images_per_second": round(images / seconds, 1)}


@ONE_THREAD
@pytest.mark.parametrize("size", SIZES)
def test_synthetic_faces(benchmark, place, size):
    """Drawn, not kept; a face without its mask would be fast and wrong."""
    from focus.data import SyntheticSource

    CLOCK.choose(place.device, place.threads)
    source = SyntheticSource(10**6, size, seed=1, fresh=True, vertices=False)
    batch = source.batch(range(BATCH), 0)
    assert 0.02 < batch.visible.mean() < batch.face.mean() < 0.9
    starts = iter(range(BATCH, 10**6, BATCH))

    def draw():
        first = next(starts)
        CLOCK.run(lambda: source.batch(range(first, first + BATCH), 0))

    benchmark.pedantic(draw, rounds=BATCHES, iterations=1)
    report(benchmark, BATCH)


@ONE_THREAD
@pytest.mark.parametrize("kept", [False, True], ids=["read", "kept"])
@pytest.mark.parametrize("size", SIZES)
def test_photographs(benchmark, place, size, kept, folder):
    """Augmented: read and decoded, or from memory."""
    from focus.data import Augmentation, PhotoSource

    CLOCK.choose(place.device, place.threads)
    source = PhotoSource(folder, size=size, augmentation=Augmentation(), cache_bytes=kept << 30)
    indices = list(range(PHOTOS))
    first = source.batch(indices, 0)
    assert len(first.image) == PHOTOS and first.image.std() > 0.1
    benchmark.pedantic(lambda: CLOCK.run(lambda: source.batch(indices, 1)), rounds=3, iterations=1)
    report(benchmark, PHOTOS)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["synthetic", "photographs"])
def test_streams(benchmark, kind, size, workers, folder):
    """From worker processes, by wall time, after the first batches have come."""
    from focus.data import Augmentation, PhotoSource, Stream, SyntheticSource

    if kind == "synthetic":
        source = SyntheticSource(10**6, size, seed=2, fresh=True, augmentation=Augmentation(), vertices=False)
    else:
        source = PhotoSource(folder, size=size, augmentation=Augmentation())
    batches = iter(Stream(source, BATCH, workers=workers))
    count = 4 * BATCHES if kind == "synthetic" else 12 * BATCHES
    for _ in range(2 + 3 * workers):  # what was made ahead, and the processes' first steps
        next(batches)
    CLOCK.choose("cpu", 2)
    seconds = []

    def take():
        start = perf_counter()
        CLOCK.run(lambda: [None for _ in islice(batches, count)])
        seconds.append(perf_counter() - start)

    benchmark.pedantic(take, rounds=1, iterations=1)
    batches.close()
    report(benchmark, count * BATCH, seconds[0])
