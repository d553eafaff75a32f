"""One step after the other: what is trained when, what a broken step leaves alone, what a checkpoint brings back."""

import copy
from functools import partial

import pytest
import torch
from training_runs import TinySource, assert_same_weights, tiny_autoencoder, tiny_settings, weights_of

from focus.training import Checkpoints, Schedule, Trainer
from focus.training.processes import Processes
from focus.training.steps import Steps

SOURCE = TinySource()


def trainer_of(settings=None, first="initialisation"):
    settings = tiny_settings() if settings is None else settings
    torch.manual_seed(settings.seed)
    schedule = Schedule(settings.preset, first, settings.mask == "segmentation")
    return Trainer(tiny_autoencoder(settings), None, settings, schedule, Processes("cpu"))


def batch_of(iteration):
    return SOURCE.batch([iteration % 6, (iteration + 1) % 6], iteration)


def changed(before, after):
    """Which parts have other weights or statistics."""
    return {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}


def test_who_learns_when():
    trainer = trainer_of()
    for iteration in range(trainer.schedule.total):
        before = weights_of(trainer.autoencoder)
        done = trainer.step(batch_of(iteration))
        part = "encoder" if done.moment.trained == "reconstruction" else "segmenter"
        assert done.moment == trainer.schedule.at(iteration) and not done.skipped
        assert changed(before, weights_of(trainer.autoencoder)) == {part}
        for name in ("encoder", "segmenter"):
            network = getattr(trainer.autoencoder, name)
            assert all(module.training == (name == part) for module in network.modules())
            assert all(parameter.requires_grad == (name == part) for parameter in network.parameters())
            assert all(parameter.grad is None for parameter in network.parameters())
    assert (trainer.iteration, trainer.skipped) == (12, 0)


def test_steps_are_those_of_the_schedule(monkeypatch):
    asked = []
    for name in ("initialisation", "pretraining", "segmentation", "reconstruction"):
        original = getattr(Steps, name)
        monkeypatch.setattr(
            Steps, name, lambda self, batch, name=name, step=original: asked.append(name) or step(self, batch)
        )
    trainer = trainer_of()
    for iteration in range(trainer.schedule.total):
        trainer.step(batch_of(iteration))
    em = ["segmentation", "segmentation", "reconstruction"] * 2
    assert asked == ["initialisation"] * 4 + ["pretraining"] * 3 + em[:5]


@pytest.mark.parametrize("optimizer", ["adadelta", "adam"])
def test_one_step_by_hand(optimizer):
    """The optimizer's own step on the gradient of the step's loss, clipped, at the schedule's rate."""
    settings = tiny_settings(optimizer=optimizer, clip_norm=0.05)
    trainer, other = trainer_of(settings), tiny_autoencoder(settings)
    other.segmenter.eval().requires_grad_(False)
    steps = Steps(other, None, settings)
    make = {"adadelta": torch.optim.Adadelta, "adam": partial(torch.optim.Adam, fused=True)}[optimizer]
    by_hand = make(other.encoder.parameters(), lr=0.1)
    for iteration, rate in enumerate([0.1, 0.1, 0.1 * 0.99, 0.1 * 0.99]):
        done = trainer.step(batch_of(iteration))
        by_hand.param_groups[0]["lr"] = rate
        made = steps.initialisation(batch_of(iteration))
        by_hand.zero_grad()
        made.loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(other.encoder.parameters(), 0.05)
        by_hand.step()
        assert norm > 0.05 and done.values["gradient_norm"] == norm and done.values["loss"] == made.loss
    for key, value in weights_of(trainer.autoencoder.encoder).items():
        torch.testing.assert_close(value, other.encoder.state_dict()[key], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("broken", ["photo", "loss", "gradient"])
@pytest.mark.parametrize("iteration", [1, 5, 8])
def test_a_step_that_is_not_finite_changes_nothing(iteration, broken, monkeypatch):
    """Weights, batch statistics and the optimizer's memory: the run goes on as if that batch had not been."""
    trainer = trainer_of()
    for number in range(iteration):
        trainer.step(batch_of(number))
    before = copy.deepcopy(trainer.state())
    with monkeypatch.context() as patch:
        batch = batch_of(iteration)
        if broken == "photo":
            batch.image[0, 0, 3, 3] = torch.nan
        else:
            step = trainer.schedule.at(iteration).step
            original = getattr(Steps, step)

            def spoilt(self, batch):
                made = original(self, batch)
                if broken == "loss":
                    return made._replace(loss=made.loss + torch.inf)
                made.loss.register_hook(lambda gradient: gradient * torch.nan)
                return made

            patch.setattr(Steps, step, spoilt)
        assert trainer.step(batch).skipped
    after = trainer.state()
    for key, value in before[0].items():
        if not key.startswith("random") and (key in after[0] or not key.startswith("optimizer")):
            assert torch.equal(value, after[0][key]), key
    assert (trainer.iteration, trainer.skipped, trainer.skipped_in_row) == (iteration + 1, 1, 1)
    assert not trainer.step(batch_of(iteration + 1)).skipped
    assert (trainer.skipped, trainer.skipped_in_row) == (1, 0)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Runs with both optimizers, and what they saved on the way."""
    runs = {}
    for optimizer in ("adadelta", "adam"):
        settings = tiny_settings(optimizer=optimizer)
        trainer, checkpoints = trainer_of(settings), Checkpoints(tmp_path_factory.mktemp(optimizer), keep=99)
        for iteration in range(trainer.schedule.total):
            checkpoints.save(iteration, *trainer.state())
            trainer.step(batch_of(iteration))
        checkpoints.save(trainer.iteration, *trainer.state())
        runs[optimizer] = settings, checkpoints.paths()[::-1], weights_of(trainer.autoencoder)
    return runs


@pytest.mark.parametrize(
    "optimizer, stop", [(optimizer, stop) for optimizer in ("adadelta", "adam") for stop in (3, 6, 9)]
    + [("adadelta", stop) for stop in (0, 4, 7, 12)],
)  # fmt: skip
def test_a_checkpoint_brings_everything_back(stop, optimizer, saved):
    """Through a file, in each stage, between them, before and after all of them: bit for bit, dropout too."""
    settings, paths, weights = saved[optimizer]
    other = trainer_of(settings.replace(seed=99))
    torch.rand(7)
    other.restore(Checkpoints.read(paths[stop]))
    assert other.iteration == stop
    for iteration in range(stop, 12):
        other.step(batch_of(iteration))
    assert_same_weights(weights, weights_of(other.autoencoder))


def test_resting_between_steps_changes_nothing():
    one, other = trainer_of(), trainer_of()
    for trainer in (one, other):
        torch.manual_seed(5)
        for iteration in range(12):
            if trainer is other:
                with torch.no_grad():
                    assert not trainer.rest()(batch_of(0).image).mask.requires_grad
                assert not any(module.training for module in trainer.autoencoder.modules())
            trainer.step(batch_of(iteration))
    assert_same_weights(weights_of(one.autoencoder), weights_of(other.autoencoder))


def test_networks_of_other_sizes(tmp_path):
    trainer = trainer_of()
    path = Checkpoints(tmp_path).save(0, *trainer.state())
    with pytest.raises(ValueError, match=f"expected .*{path.name} to be of the same networks"):
        trainer_of(tiny_settings(segmentation_width=3)).restore(Checkpoints.read(path))


def test_without_segmentation_network():
    trainer = trainer_of(tiny_settings(mask="raster"))
    steps = [trainer.step(batch_of(iteration)).moment.step for iteration in range(trainer.schedule.total)]
    assert steps == ["initialisation"] * 4 + ["reconstruction"] * 5


@pytest.mark.parametrize(
    "name, message",
    [
        ("tpu", "expected device to be cpu, cuda or cuda:N, got 'tpu'"),
        ("cpu:0", "expected device to be cpu, cuda or cuda:N, got 'cpu:0'"),
        ("cuda:99", "expected 100 GPUs for device 'cuda:99', torch sees"),
    ],
)
def test_devices(name, message):
    with pytest.raises(ValueError, match=message):
        Processes(name)
