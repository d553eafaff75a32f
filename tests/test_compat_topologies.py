"""`TopologyCache`: when a face tensor is known again, and when it must not be."""

import copy
import pickle

import numpy as np
import pytest
import torch

from focus_kernels import Topology
from focus_kernels.compat._topologies import TopologyCache


def ring(count, dtype=torch.int32):
    """`count` faces around vertex 0, on count + 1 vertices."""
    k = torch.arange(count)
    return torch.stack([torch.zeros_like(k), 1 + k, 1 + (k + 1) % count], 1).to(dtype)


def check(topology, faces, num_vertices):
    assert topology.num_vertices == num_vertices
    assert topology.faces.tolist() == faces.tolist()


def test_the_same_tensor_gives_the_same_object(device):
    cache, faces = TopologyCache(), ring(5).to(device)
    first = cache.look_up(faces, 6)
    check(first, faces, 6)
    assert cache.look_up(faces, 6) is first


def test_the_same_tensor_is_not_read_again(monkeypatch):
    cache, faces = TopologyCache(), ring(5)
    first = cache.look_up(faces, 6)
    monkeypatch.setattr(TopologyCache, "_by_contents", lambda *_: pytest.fail("contents were compared"))
    assert cache.look_up(faces, 6) is first
    assert cache.look_up(faces[:], 6) is first  # a view of all of it


def test_an_edit_in_place_gives_a_new_one():
    cache, faces = TopologyCache(), ring(5)
    first = cache.look_up(faces, 6)
    faces[0] = torch.tensor([2, 1, 0])
    second = cache.look_up(faces, 6)
    assert second is not first
    check(second, faces, 6)


def test_an_edit_through_a_view_is_seen():
    cache, base = TopologyCache(), torch.stack([ring(5), ring(5)])
    first = cache.look_up(base[1], 6)
    base[1, 0] = torch.tensor([2, 1, 0])
    assert cache.look_up(base[1], 6) is not first
    check(cache.look_up(base[1], 6), base[1], 6)


def test_an_edit_and_its_return_give_the_first_contents():
    cache, faces = TopologyCache(), ring(5)
    cache.look_up(faces, 6)
    faces.add_(1).sub_(1)
    check(cache.look_up(faces, 6), faces, 6)


def test_a_detached_alias_after_an_edit_is_not_mistaken():
    """`.data` counts its own edits, from 0."""
    cache, faces = TopologyCache(), ring(5)
    cache.look_up(faces, 6)
    faces[0] = torch.tensor([2, 1, 0])
    check(cache.look_up(faces.data, 6), faces, 6)


def test_equal_contents_elsewhere_give_the_same_object():
    cache, faces = TopologyCache(), ring(5)
    first = cache.look_up(faces, 6)
    assert cache.look_up(faces.clone(), 6) is first


@pytest.mark.parametrize("dtype", [torch.int64, torch.int16, torch.int8, torch.uint8])
def test_integer_dtypes_share_a_topology(dtype):
    cache = TopologyCache()
    first = cache.look_up(ring(5), 6)
    assert cache.look_up(ring(5, dtype), 6) is first
    other = TopologyCache()
    check(other.look_up(ring(5, dtype), 6), ring(5), 6)


def test_numbers_equal_only_modulo_2_to_the_32_are_refused():
    cache = TopologyCache()
    cache.look_up(ring(5), 6)
    with pytest.raises(ValueError, match="faces to be in"):
        cache.look_up(ring(5, torch.int64) + 2**32, 6)


def test_another_number_of_vertices_gives_another():
    cache, faces = TopologyCache(), ring(5)
    first, second = cache.look_up(faces, 6), cache.look_up(faces, 9)
    check(first, faces, 6)
    check(second, faces, 9)
    assert cache.look_up(faces, 6) is first
    assert cache.look_up(faces, np.int64(9)) is second


def test_transposes_and_strides_are_told_apart():
    cache, square = TopologyCache(), torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8]])
    for faces in (
        square,
        square.t(),
        square.flip(0),
        square.expand(3, 3),
        square[:2],
        square[1:],
        square[:, [2, 1, 0]],
    ):
        check(cache.look_up(faces, 9), faces, 9)
    storage = torch.arange(9)
    for faces in (storage.view(3, 3), storage.view(3, 3).t(), storage.as_strided((2, 3), (3, 1))):
        check(cache.look_up(faces, 9), faces, 9)


def test_inference_tensors_are_compared_by_contents():
    cache = TopologyCache()
    with torch.inference_mode():
        faces = ring(5)
        first = cache.look_up(faces, 6)
        assert cache.look_up(faces, 6) is first
        faces[0] = torch.tensor([2, 1, 0])
        check(cache.look_up(faces, 6), faces, 6)
    assert not first.faces.is_inference()


def test_a_topology_made_in_inference_mode_serves_outside():
    cache, faces = TopologyCache(), ring(5)
    with torch.inference_mode():
        first = cache.look_up(faces, 6)
    assert cache.look_up(faces, 6) is first


def test_uncounted_edits_are_seen_on_request():
    cache, array = TopologyCache(), ring(5).numpy()
    first = cache.look_up(torch.from_numpy(array), 6, counted=False)
    assert cache.look_up(torch.from_numpy(array), 6, counted=False) is first
    array[0] = [2, 1, 0]
    second = cache.look_up(torch.from_numpy(array), 6, counted=False)
    assert second is not first
    check(second, array, 6)
    array[0] = [0, 1, 2]
    assert cache.look_up(torch.from_numpy(array), 6, counted=False) is first


def test_an_uncounted_look_up_does_not_vouch_for_later_ones():
    cache, array = TopologyCache(), ring(5).numpy()
    cache.look_up(torch.from_numpy(array), 6, counted=False)
    array[0] = [2, 1, 0]
    check(cache.look_up(torch.from_numpy(array), 6), array, 6)


@pytest.mark.parametrize("most", [1, 3])
def test_at_most_so_many_are_kept_the_latest_used(most):
    cache = TopologyCache(most=most)
    meshes = [ring(3 + k) for k in range(most)]
    first = [cache.look_up(faces, 30) for faces in meshes]
    assert [cache.look_up(faces, 30) for faces in meshes] == first
    cache.look_up(ring(20), 30)  # the oldest goes
    for faces, topology in list(zip(meshes, first, strict=True))[1:]:
        assert cache.look_up(faces, 30) is topology
    assert cache.look_up(meshes[0], 30) is not first[0]


def test_copies_of_one_mesh_do_not_push_others_out():
    cache, rare = TopologyCache(most=2), ring(4)
    first, often = cache.look_up(rare, 30), cache.look_up(ring(5), 30)
    for _ in range(10):
        assert cache.look_up(ring(5), 30) is often
    assert cache.look_up(rare, 30) is first


def test_memory_used_again_is_not_mistaken():
    """Freed and allocated again at one size, faces often come to lie where others lay."""
    cache = TopologyCache(most=2)
    for k in range(40):
        faces = ring(6).roll(k, 0)
        check(cache.look_up(faces, 7), faces, 7)
        del faces


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda cache: pickle.loads(pickle.dumps(cache))])
def test_copies_and_pickles_start_empty(duplicate):
    """An address in a copy would be one of memory that the copy does not hold."""
    cache, faces = TopologyCache(most=2), ring(5)
    first = cache.look_up(faces, 6)
    again = duplicate(cache)
    assert again.look_up(faces, 6) is not first
    check(again.look_up(faces, 6), faces, 6)
    kept = [again.look_up(ring(3 + k), 30) for k in range(3)]
    assert again.look_up(ring(3), 30) is not kept[0]  # `most` went along


def test_no_faces():
    cache, empty = TopologyCache(), torch.zeros(0, 3, dtype=torch.int64)
    assert cache.look_up(empty, 0).num_faces == 0
    assert cache.look_up(empty, 5).num_vertices == 5
    assert cache.look_up(empty, 5) is cache.look_up(torch.zeros(0, 3, dtype=torch.int32), 5)


@pytest.mark.parametrize(
    ("faces", "num_vertices"),
    [
        (ring(5).tolist(), 6),
        (ring(5).numpy(), 6),
        (ring(5).float(), 6),
        (ring(5) > 1, 6),
        (ring(5), 6.0),
        (ring(5), True),
        (ring(5), torch.tensor(6)),
        (ring(5), None),
        (ring(5)[:, :2], 6),
        (ring(5)[0], 6),
        (ring(5)[None], 6),
        (ring(5), 5),
        (ring(5), -1),
        (ring(5) - 1, 6),
    ],
)
def test_errors_are_those_of_topology_also_when_equal_faces_are_known(faces, num_vertices):
    cache = TopologyCache()
    cache.look_up(ring(5), 6)
    with pytest.raises((TypeError, ValueError)) as theirs:
        Topology(faces, num_vertices)
    with pytest.raises(type(theirs.value)) as ours:
        cache.look_up(faces, num_vertices)
    assert str(ours.value) == str(theirs.value)


def test_sparse_faces_are_refused_by_name():
    with pytest.raises(TypeError, match=r"Topology\(\): expected faces to be a dense"):
        TopologyCache().look_up(ring(5).to_sparse(), 6)


def test_threads_get_what_they_ask_for():
    from concurrent.futures import ThreadPoolExecutor

    cache, meshes = TopologyCache(most=2), [ring(3 + k) for k in range(4)]

    def many(start):
        for k in range(50):
            faces = meshes[(start + k) % 4]
            check(cache.look_up(faces, 30), faces, 30)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(many, k) for k in range(4)]:
            done.result()
