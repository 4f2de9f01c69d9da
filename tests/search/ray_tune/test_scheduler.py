"""The scheduler, told of epochs as lanes tell them."""

from __future__ import annotations

from pathlib import Path

import pytest
from formula import row
from ray.tune.schedulers import TrialScheduler
from visits import DiskStudy

from orchestrator.search.ray_tune.scheduler import EngineScheduler

DICE = (0.1, 0.1, 0.1)  # of an epoch; the incumbent's are far above
HOPELESS = [row(epoch, dice) for epoch, dice in enumerate(DICE)]


@pytest.fixture
def disk(tmp_path: Path) -> DiskStudy:
    """The paper's setting has all its folds; another one has none."""
    disk = DiskStudy(tmp_path, tmp_path / "disk", race="paired")
    disk.run(num_visits=1)
    return disk


def listen(disk: DiskStudy, *told: list[dict]) -> list[str]:
    """What a scheduler of its own makes of another setting's first fold, told in so many parts."""
    _, visit = disk.suggest()
    number, fold = visit["number"], visit["folds"][0]
    disk.state.best_dice[disk.state.fit_ids[0][fold]] = 0.95
    fit_id = disk.state.fit_ids[number][fold]
    scheduler = EngineScheduler(disk.engine)
    news = ({"fold": fold, "fit_id": fit_id, "rows": rows, "done": False} for rows in told)
    return [
        scheduler.on_trial_result(None, None, {"number": number, "updates": [one], "all_finished": False})
        for one in news
    ]


def test_who_starts_anew_knows_what_finished_fits_have_gained(disk: DiskStudy, tmp_path: Path):
    assert len(DiskStudy(tmp_path, tmp_path / "disk", race="paired").state.curves) == 5


def test_a_fit_is_cut_at_the_same_epoch_however_its_epochs_come_in(disk: DiskStudy):
    assert listen(disk, HOPELESS) == [TrialScheduler.STOP]
    together = disk.state.verdicts[max(disk.state.verdicts)]
    assert together.numbers["epoch"] == 1  # of three: the first after a third of the schedule


def test_a_trial_that_is_far_ahead_on_another_fold_is_not_cut_within_this_one(disk: DiskStudy):
    state, number = disk.state, 1
    _, visit = disk.suggest()
    assert visit["number"] == number and visit["folds"][0] == 0
    state.best_dice |= {state.fit_ids[0][0]: 0.95, state.fit_ids[0][1]: 0.1}
    state.best_dice[state.fit_ids[number][1]] = 0.95
    for seen, is_cut in (((), True), ((1,), False)):
        state.seen[number] = seen
        assert (disk.engine._cut(number, 0, DICE[:2]) is not None) == is_cut
