"""The scheduler, told of epochs as lanes tell them."""

from __future__ import annotations

from pathlib import Path

import pytest
from formula import row
from ray.tune.schedulers import TrialScheduler
from visits import Engine

from orchestrator.search.ray_tune.scheduler import RaceScheduler

DICE = (0.1, 0.1, 0.1)  # of an epoch; the incumbent's are far above
HOPELESS = [row(epoch, dice) for epoch, dice in enumerate(DICE)]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """The paper's setting has all its folds; another one has none."""
    engine = Engine(tmp_path, tmp_path / "engine", race="paired")
    engine.run(num_visits=1)
    return engine


def listen(engine: Engine, *told: list[dict]) -> list[str]:
    """What a scheduler of its own makes of another setting's first fold, told in so many parts."""
    _, visit = engine.suggest()
    number, fold = visit["number"], visit["folds"][0]
    engine.standings.best_dice[engine.standings.fit_ids[0][fold]] = 0.95
    fit_id = engine.standings.fit_ids[number][fold]
    scheduler = RaceScheduler(engine.standings)
    news = ({"fold": fold, "fit_id": fit_id, "rows": rows, "done": False} for rows in told)
    return [
        scheduler.on_trial_result(None, None, {"number": number, "news": [one], "all_finished": False})
        for one in news
    ]


def test_who_starts_anew_knows_what_finished_fits_have_gained(engine: Engine):
    assert len(RaceScheduler(engine.standings).finished) == 5


def test_a_fit_is_cut_at_the_same_epoch_however_its_epochs_come_in(engine: Engine):
    assert listen(engine, HOPELESS) == [TrialScheduler.STOP]
    together = engine.standings.verdicts[max(engine.standings.verdicts)]
    assert together.numbers["epoch"] == 1  # of three: the first after a third of the schedule


def test_a_trial_that_is_far_ahead_on_another_fold_is_not_cut_within_this_one(engine: Engine):
    standings, number = engine.standings, 1
    _, visit = engine.suggest()
    assert visit["number"] == number and visit["folds"][0] == 0
    standings.best_dice |= {standings.fit_ids[0][0]: 0.95, standings.fit_ids[0][1]: 0.1}
    standings.best_dice[standings.fit_ids[number][1]] = 0.95
    for seen, is_cut in (((), True), ((1,), False)):
        standings.seen[number] = seen
        scheduler = RaceScheduler(standings)
        assert scheduler._is_hopeless(number, 0, dict(enumerate(DICE[:2]))) == is_cut
