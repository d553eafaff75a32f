"""Which iteration does what, counted by hand."""

import pytest

from focus.presets import Preset
from focus.training import Schedule

SMALL = Preset().replace(
    initialisation={"iterations": 4, "learning_rate": 0.1, "decay": 0.5, "decay_every": 2},
    pretraining={"iterations": 3, "learning_rate": 0.03, "decay": 0.5, "decay_every": 2},
    em={
        "iterations": 7,
        "segmentation_steps": 2,
        "reconstruction_steps": 3,
        "decay_every": 3,
        "reconstruction_decay": 0.5,
        "segmentation_decay": 0.1,
    },
)
R = 0.1 * 0.25  # of EM: two decays of the initialisation
S = R * 0.06
EXPECTED = [
    *[("initialisation", "initialisation", "reconstruction", rate) for rate in (0.1, 0.1, 0.05, 0.05)],
    *[("pretraining", "pretraining", "segmentation", rate) for rate in (0.03, 0.03, 0.015)],
    *[("em", step, step, rate) for step, rate in [
        ("segmentation", S), ("segmentation", S), ("reconstruction", R),
        ("reconstruction", R / 2), ("reconstruction", R / 2), ("segmentation", S / 10),
        ("segmentation", S / 100),
    ]],
]  # fmt: skip


def test_every_iteration():
    schedule = Schedule(SMALL)
    assert schedule.total == 14 and schedule.ends == {4: "initialisation", 7: "pretraining", 14: "em"}
    for iteration, (stage, step, trained, rate) in enumerate(EXPECTED):
        moment = schedule.at(iteration)
        assert (moment.stage, moment.step, moment.trained) == (stage, step, trained)
        assert moment.rate == pytest.approx(rate, rel=1e-12)
    assert [schedule.at(i).local for i in range(14)] == [0, 1, 2, 3, 0, 1, 2, 0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("first, skipped", [("pretraining", 4), ("em", 7)])
def test_from_a_later_stage(first, skipped):
    schedule = Schedule(SMALL, first)
    assert [schedule.at(i) for i in range(schedule.total)] == [Schedule(SMALL).at(i) for i in range(skipped, 14)]


def test_without_segmentation():
    """No pre-training, and EM trains the reconstruction network only."""
    schedule = Schedule(SMALL, segmentation=False)
    assert schedule.lengths == {"initialisation": 4, "em": 7}
    assert {schedule.at(i).trained for i in range(11)} == {"reconstruction"}
    assert [schedule.at(i).rate for i in range(4, 11)] == pytest.approx([R, R, R, R / 2, R / 2, R / 2, R / 4])


def test_papers_schedule():
    schedule = Schedule(Preset())
    assert schedule.total == 530_000
    em = 330_000
    assert schedule.at(em).trained == schedule.at(em + 4999).trained == "segmentation"
    assert schedule.at(em + 5000).trained == schedule.at(em + 29_999).trained == "reconstruction"
    assert schedule.at(em + 30_000).trained == "segmentation"
    assert schedule.at(em).rate == pytest.approx(0.06 * 0.1 * 0.99**60)
    assert schedule.at(em + 199_999).rate == pytest.approx(0.1 * 0.99**60 * 0.99**39)


@pytest.mark.parametrize("iteration", [-1, 14])
def test_no_such_iteration(iteration):
    with pytest.raises(ValueError, match=r"expected iteration to be in 0\.\.13, got"):
        Schedule(SMALL).at(iteration)


def test_no_such_stage():
    with pytest.raises(ValueError, match="expected first to be one of initialisation, pretraining, em, got 'last'"):
        Schedule(SMALL, "last")
