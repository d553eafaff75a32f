"""The segmentation network: the answers of the authors' program, files of its weights, sizes, dropout."""

import pytest
import torch
from networks import pattern, picture

from focus.networks import SegmentationNetwork

# What the authors' UNet answers at width 4 with the weights of `pattern`: mean, and six values of the first mask.
AUTHORS_MEAN = 0.08245913
AUTHORS = [0.07982095, 0.11200343, 0.11673283, 0.12569802, 0.12682578, 0.78750944]


@pytest.fixture
def network():
    network = SegmentationNetwork(2).eval()
    network.load_state_dict(pattern(network.state_dict()))
    return network


def authors_names():
    """Names and shapes of the authors' UNet at width 4, in its own order."""
    channels = [4, 8, 16, 32, 64]

    def convolution(name, inputs, outputs, number):
        yield f"{name}.{number}.weight", (outputs, inputs, 3, 3)
        yield f"{name}.{number}.bias", (outputs,)
        for key in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.{number + 1}.{key}", (outputs,)
        yield f"{name}.{number + 1}.num_batches_tracked", ()

    def double(name, inputs, outputs):
        yield from convolution(name, inputs, outputs, 0)
        yield from convolution(name, outputs, outputs, 3)

    for level in range(5):
        nested = ".0" if level >= 3 else ""
        yield from double(f"Conv{level + 1}.double_conv{nested}", channels[level - 1] if level else 6, channels[level])
    for level in (5, 4, 3, 2):
        yield from convolution(f"Up{level}.up", channels[level - 1], channels[level - 2], 1)
        yield from double(f"Up_conv{level}.double_conv", channels[level - 1], channels[level - 2])
    yield "Conv.weight", (1, 4, 1, 1)
    yield "Conv.bias", (1,)


def authors_state():
    kinds = {True: torch.int64, False: torch.float32}
    return pattern({key: torch.zeros(shape, dtype=kinds["num_" in key]) for key, shape in authors_names()})


def test_authors_numbers(tmp_path):
    torch.save(authors_state(), tmp_path / "unet.pth")
    network = SegmentationNetwork(4).eval()
    network.load_authors(tmp_path / "unet.pth")
    x = picture(2, 6, 48, 64)
    with torch.no_grad():
        mask = network(x[:, :3], x[:, 3:])
    assert mask.mean().item() == pytest.approx(AUTHORS_MEAN, rel=1e-4)
    torch.testing.assert_close(mask[0, 0, ::11, ::13].flatten()[:6], torch.tensor(AUTHORS), rtol=1e-3, atol=1e-5)


def test_load_authors_names_what_does_not_fit(tmp_path):
    state = authors_state()
    state["Up6.up.1.weight"] = state.pop("Up5.up.1.weight")
    torch.save(state, tmp_path / "unet.pth")
    with pytest.raises(ValueError, match=r"1 missing: up\.0\.0\.weight; 1 unexpected: Up6\.up\.1\.weight"):
        SegmentationNetwork(4).load_authors(tmp_path / "unet.pth")


@pytest.mark.parametrize("size", [(224, 224), (112, 112), (48, 80), (37, 50), (5, 1)])
def test_sizes(network, size):
    render, photo = torch.rand(2, 2, 3, *size)
    mask = network(render, photo)
    assert mask.shape == (2, 1, *size)
    assert (mask > 0).all() and (mask < 1).all()
    extend = lambda x: torch.nn.functional.pad(x, (0, -size[1] % 16, 0, -size[0] % 16))
    whole = network(extend(render), extend(photo))
    torch.testing.assert_close(mask, whole[:, :, : size[0], : size[1]])
    assert torch.equal(mask, torch.sigmoid(network.logits(render, photo)))


def test_render_and_photo_are_told_apart(network):
    render, photo = torch.rand(2, 1, 3, 32, 32)
    assert not torch.allclose(network(render, photo), network(photo, render))


def test_dropout_is_random_in_training_only():
    torch.manual_seed(0)
    network = SegmentationNetwork(2)
    x = torch.rand(2, 3, 32, 32)
    assert not torch.equal(network(x, x), network(x, x))
    assert torch.equal(network.eval()(x, x), network(x, x))
    steady = SegmentationNetwork(2, dropout=0.0)
    assert torch.equal(steady(x, x), steady(x, x))


def test_learns():
    torch.manual_seed(0)
    network = SegmentationNetwork(4, dropout=0.0)
    render, photo = picture(2, 6, 32, 32).split(3, dim=1)
    target = (photo[:, :1] > 0.5).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network.logits(render, photo), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
