"""Streams: every item once an epoch, the same batches whoever makes them and wherever they begin."""

import multiprocessing
from itertools import islice

import numpy as np
import pytest
import torch
from sources import Numbered, numbers

from focus.data import Batch, Skipped, Stream
from focus.data.cache import SharedCache
from focus.data.source import join
from focus.processes import context

WORKERS = 2


def first(stream, count):
    iterator = iter(stream)
    try:
        return [numbers(batch) for batch in islice(iterator, count)]
    finally:
        iterator.close()


def flat(parts):
    return [number for part in parts for number in part]


def by_the_formula(n, size, seed, iteration):
    """Position p is item perm(seed, p // n)[p % n]."""
    result = []
    for position in range(iteration * size, (iteration + 1) * size):
        epoch = position // n
        result.append(1000 * epoch + int(np.random.default_rng([seed, epoch]).permutation(n)[position % n]))
    return result


@pytest.mark.parametrize(("n", "size"), [(10, 4), (7, 7), (3, 8), (5, 1)])
def test_positions_follow_the_formula(n, size):
    assert first(Stream(Numbered(n), size, 6), 9) == [by_the_formula(n, size, 6, t) for t in range(9)]


def test_an_epoch_has_every_item_once_and_epochs_differ():
    order = flat(first(Stream(Numbered(12), 4, 1), 9))
    epochs = [order[i : i + 12] for i in (0, 12, 24)]
    for number, epoch in enumerate(epochs):
        assert sorted(epoch) == [1000 * number + index for index in range(12)]
    items = [[value % 1000 for value in epoch] for epoch in epochs]
    assert items[0] != items[1] != items[2]
    assert order != flat(first(Stream(Numbered(12), 4, 2), 9))


def test_ranks_share_the_batch_of_one_process():
    whole = first(Stream(Numbered(10), 6, 3), 5)
    shares = [first(Stream(Numbered(10), 6, 3, rank=rank, world=3), 5) for rank in range(3)]
    assert [flat(parts) for parts in zip(*shares, strict=True)] == whole


@pytest.mark.parametrize("unusable", [(), (2, 3, 9)])
def test_a_stream_goes_on_where_another_stopped(unusable):
    """Also where the first had already found out what cannot be used."""
    whole = first(Stream(Numbered(10, unusable), 4, 8), 9)
    for start in (1, 4, 8):
        assert first(Stream(Numbered(10, unusable), 4, 8, start=start), 9 - start) == whole[start:]


def test_worker_processes_change_nothing_and_end_with_the_iterator():
    before = set(multiprocessing.active_children())
    expected, stream = Stream(Numbered(10, [4]), 4, 8), Stream(Numbered(10, [4]), 4, 8, workers=WORKERS)
    assert first(stream, 6) == first(expected, 6)
    assert stream.skipped == expected.skipped == [Skipped("4.jpg", "damaged picture")]
    assert stream.replaced == expected.replaced == 2  # once in each epoch
    assert set(multiprocessing.active_children()) == before


def test_items_that_cannot_be_had_are_replaced_by_the_next_and_counted():
    plain = flat(first(Stream(Numbered(10), 5, 2), 4))
    source = Numbered(10, [3, 4, 9])
    stream = Stream(source, 5, 2)
    replacement = {3: 5, 4: 5, 9: 0}
    assert flat(first(stream, 4)) == [n - n % 1000 + replacement.get(n % 1000, n % 1000) for n in plain]
    assert sorted(stream.skipped) == [Skipped(f"{k}.jpg", "damaged picture") for k in (3, 4, 9)]
    assert stream.replaced == 2 * (2 + 1 + 1)  # 3 is replaced by 4, and that by 5
    assert source.asked == 4 + 3  # each is tried once


def test_a_source_without_usable_items_is_an_error():
    with pytest.raises(RuntimeError, match=r"none of the 3 items of the source can be used; .*damaged picture"):
        first(Stream(Numbered(3, range(3)), 2, 0), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": Numbered(0)}, "expected a source with items"),
        ({"batch_size": 0}, "batch_size to be a multiple of world, 1, got 0"),
        ({"batch_size": 3, "world": 2}, "batch_size to be a multiple of world, 2, got 3"),
        ({"rank": 1}, r"expected rank to be in 0\.\.0, got 1"),
        ({"seed": -1}, "expected seed to be >= 0, got -1"),
        ({"start": -1}, "expected start to be >= 0"),
        ({"workers": -1}, "expected workers to be >= 0"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        Stream(**{"source": Numbered(4), "batch_size": 2} | arguments)


def test_joined_batches_have_the_fields_that_all_have():
    part = Batch(torch.zeros(2, 3, 4, 4), torch.zeros(2, 68, 2), visible=torch.ones(2, 1, 4, 4))
    joined = join([part, part._replace(face=torch.ones(2, 1, 4, 4))])
    assert len(joined.image) == len(joined.landmarks) == len(joined.visible) == 4 and joined.face is None
    assert join([part]) is part
    with pytest.raises(ValueError, match="expected batches, got none"):
        join([])


def test_the_cache_is_shared_and_keeps_what_fits():
    cache = SharedCache(4, 100)
    other = context().Process(target=cache.put, args=(2, np.arange(60, dtype=np.uint8)))
    other.start()
    other.join(30)
    assert other.exitcode == 0
    shared = context().get_start_method() == "fork"
    assert (cache.get(2) is not None) == shared
    cache.put(2, np.arange(60, dtype=np.uint8))
    cache.put(0, np.zeros(41, np.uint8))  # 101 bytes in all
    cache.put(1, np.full(40, 7, np.uint8))
    assert cache.get(0) is None and cache.get(3) is None and cache.kept == 2
    assert np.array_equal(cache.get(2), np.arange(60)) and np.array_equal(cache.get(1), np.full(40, 7))
    nothing = SharedCache(4, 0)
    nothing.put(1, np.zeros(1, np.uint8))
    assert nothing.get(1) is None and nothing.kept == 0
