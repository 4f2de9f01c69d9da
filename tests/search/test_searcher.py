"""The searcher with its standings, a ledger that is filled by formula, and no Ray."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from formula import FormulaWork, formula_study, quality
from optuna.trial import TrialState
from ray.tune.search import Searcher

from orchestrator.data.splits import group_of_case
from orchestrator.scoring.pending import scores_under
from orchestrator.search.choices import RuleName
from orchestrator.search.folds import fold_specs
from orchestrator.search.purse import Purse
from orchestrator.search.race_rules import Race
from orchestrator.search.searcher import OptunaSearcher, Room
from orchestrator.search.spending import Spending
from orchestrator.search.standings import Standings, read_verdicts
from orchestrator.study import Study

NUM_FOLDS = 5


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A home with drawn frames in it."""
    home = tmp_path_factory.mktemp("home")
    formula_study(home, num_trials=1)
    return home


class Engine:
    """What Tune, the lanes and the scheduler do, one visit after another."""

    def __init__(
        self,
        home: Path,
        folder: Path,
        *,
        num_trials: int | None = 4,
        seed: int = 0,
        race: RuleName = "none",
        sampler: str = "tpe",
        num_lanes: int = 1,
        **budget: Any,
    ) -> None:
        self.study: Study = formula_study(home, num_trials=num_trials, seed=seed, race=race, **budget)
        self.ledger = type(self.study.home.ledger)(folder / "ledger")
        folder.mkdir(exist_ok=True)
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(folder / "optuna.journal"))
        )
        stored = optuna.create_study(
            storage=storage, study_name="s", direction="maximize", load_if_exists=True
        )
        plan, self.log = self.study.plan, folder / "race.jsonl"
        self.groups = group_of_case(self.study.datasets, plan.twins)
        self.standings = Standings(self.ledger, self.study.space, plan, self.groups, race, self.log)
        self.purse = Purse(self.study.budget, Spending(self.ledger), lambda: num_lanes)
        self.searcher = OptunaSearcher(
            stored,
            self.study.space,
            self.standings,
            purse=self.purse,
            seed=seed,
            room=Room(NUM_FOLDS, lambda: num_lanes),
            sampler=sampler,
        )
        self.num_visits = 0

    def suggest(self) -> tuple[str, dict]:
        name = f"tune-{self.num_visits}"
        self.num_visits += 1
        return name, self.searcher.suggest(name)

    def train(self, visit: dict, folds: list[int] | None = None) -> None:
        specs = fold_specs(self.study.space.settings(visit["params"]), self.study.plan)
        for fold in visit["folds"] if folds is None else folds:
            FormulaWork(self.ledger)(specs[fold], None, 0, lambda row: True)  # type: ignore[arg-type]
            self.purse.spending.finish(self.ledger.read(specs[fold].fit_id))

    def run(self, num_visits: int = 1000) -> list[dict]:
        """Carry out visits until the searcher has no more, or so many."""
        visits = []
        while len(visits) < num_visits:
            name, visit = self.suggest()
            if visit == Searcher.FINISHED:
                return visits
            assert visit is not None
            self.train(visit)
            self.standings.judge(visit["number"])
            self.searcher.on_trial_complete(name, {})
            visits.append(visit)
        return visits

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.searcher.study.trials


def rates(visits: list[dict]) -> list[float]:
    """The learning rates that were asked for, in the order of the trials."""
    return [rate for _, rate in sorted({(v["number"], v["params"]["learning_rate"]) for v in visits})]


def test_the_papers_setting_is_always_trial_0_and_gets_all_folds(template, tmp_path):
    _, visit = Engine(template, tmp_path, race="paired").suggest()
    assert (visit["number"], visit["params"]["learning_rate"]) == (0, 1e-4)
    assert visit["folds"] == [0, 1, 2, 3, 4]


def test_a_new_setting_of_a_race_begins_with_one_fold(template, tmp_path):
    engine = Engine(template, tmp_path, race="paired")
    engine.run(1)
    assert engine.suggest()[1]["folds"] == [0]


def test_without_a_race_every_trial_gets_all_folds_in_one_visit(template, tmp_path):
    engine = Engine(template, tmp_path)
    assert [visit["folds"] for visit in engine.run()] == [[0, 1, 2, 3, 4]] * 4
    assert [trial.state for trial in engine.trials] == [TrialState.COMPLETE] * 4


def test_a_race_takes_fewer_folds_and_ends_with_all_folds_of_the_best(template, tmp_path):
    engine = Engine(template, tmp_path, num_trials=12, race="paired")
    visits = engine.run()
    assert sum(len(visit["folds"]) for visit in visits) < 12 * NUM_FOLDS / 2
    complete = [t for t in engine.trials if t.state == TrialState.COMPLETE]
    best = max(engine.trials, key=lambda t: quality(t.params["learning_rate"]))
    assert best in complete
    assert len(complete) < 12
    assert {t.state for t in engine.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_a_stopped_trial_is_told_with_an_honest_value_and_its_reason(template, tmp_path):
    engine = Engine(template, tmp_path, num_trials=8, race="paired")
    engine.run()
    stopped = [t for t in engine.trials if t.state == TrialState.PRUNED]
    for trial in stopped:
        found = quality(trial.params["learning_rate"])
        assert trial.value == pytest.approx(2 * found / (1 + found), abs=0.01)
        assert "Dice points against" in trial.user_attrs["stopped"]


def test_the_verdicts_can_be_replayed_from_log_and_ledger(template, tmp_path):
    engine = Engine(template, tmp_path, num_trials=8, race="paired")
    engine.run()
    plan = engine.study.plan
    again = Race("paired", [[engine.groups[case_id] for case_id in fold.val] for fold in plan.folds])
    lines = read_verdicts(engine.log)
    assert len(lines) >= 8
    for line in lines:
        records = [
            engine.ledger.read(engine.standings.fit_ids[line["trial"]][fold]) for fold in line["folds"]
        ]
        masks = engine.standings.scores[line["trial"]].masks
        dice = [scores_under(record.histograms, masks)["dice"] for record in records]
        again.see(line["trial"], dict(zip(line["folds"], dice, strict=True)))
        verdict = again.judge(line["trial"])
        assert (verdict.action, verdict.reason) == (line["action"], line["reason"])


def test_lanes_that_idle_at_the_end_are_given_several_folds(template, tmp_path):
    engine = Engine(template, tmp_path, num_trials=6, race="paired", num_lanes=4)
    visits = engine.run()
    new = [visit for visit in visits if visit["number"] and visit["folds"][0] == 0]
    assert {len(visit["folds"]) for visit in new} == {1}
    assert max(len(visit["folds"]) for visit in visits if visit["number"]) > 1


def test_more_lanes_more_visits_at_a_time(template, tmp_path):
    engine = Engine(template, tmp_path, num_trials=9, race="paired", num_lanes=3)
    visits = [engine.suggest()[1] for _ in range(6)]
    assert [visit is not None for visit in visits] == [True] * 4 + [False] * 2
    assert len({visit["number"] for visit in visits[:4]}) == 4


def test_the_budget_counts_trials_of_earlier_runs(template, tmp_path):
    Engine(template, tmp_path, num_trials=3).run()
    later = Engine(template, tmp_path)
    assert not later.searcher.is_over
    assert len(later.run()) == 1
    assert later.searcher.is_over
    assert later.suggest()[1] == Searcher.FINISHED


def test_a_budget_of_epochs_names_a_champion_with_all_folds_and_is_hardly_overdrawn(template, tmp_path):
    engine = Engine(template, tmp_path, num_trials=None, race="paired", epochs=90)
    engine.run()
    assert engine.purse.end.by == "epochs"
    assert 80 <= engine.purse.spending.spent().epochs <= 90
    best = max((t for t in engine.trials), key=lambda t: t.value)
    assert best.state == TrialState.COMPLETE
    assert TrialState.RUNNING not in {t.state for t in engine.trials}
    assert Engine(template, tmp_path, num_trials=None, race="paired", epochs=90).run() == []
    assert len(Engine(template, tmp_path, num_trials=None, race="paired", epochs=120).run()) >= 5


def test_when_the_hours_are_over_waiting_trials_wait_for_the_next_run(template, tmp_path):
    first = Engine(template, tmp_path, num_trials=12, race="paired", hours=1.0)
    first.run(5)
    assert len(first.standings.waiting) == 3
    first.purse.spending.started -= 3600
    first.run(1)
    assert first.purse.end.by == "hours"
    later = Engine(template, tmp_path, num_trials=12, race="paired", hours=1.0)
    assert not later.searcher.is_over and later.standings.waiting
    later.run()
    assert len(later.trials) == 12 and TrialState.RUNNING not in {t.state for t in later.trials}


def test_a_search_ends_by_itself_when_no_improvement_is_likely(template, tmp_path):
    engine = Engine(template, tmp_path, num_trials=80, race="paired", until_unlikely=True)
    engine.run()
    assert engine.purse.end.by == "until_unlikely" and len(engine.trials) < 60
    best = max(quality(t.params["learning_rate"]) for t in engine.trials if t.state == TrialState.COMPLETE)
    assert best > 0.98


def test_an_interrupted_trial_is_taken_up_under_its_number(template, tmp_path):
    first = Engine(template, tmp_path)
    first.run(2)
    before = first.suggest()[1]
    assert Engine(template, tmp_path).suggest()[1] == before


def test_a_trial_that_died_before_it_had_its_parameters_is_given_those_it_would_have_had(template, tmp_path):
    undisturbed = Engine(template, tmp_path / "a", num_trials=3).run()
    first = Engine(template, tmp_path / "b", num_trials=3)
    first.run(2)
    first.searcher.study.enqueue_trial({"learning_rate": undisturbed[2]["params"]["learning_rate"]})
    first.searcher.study.ask()  # killed here: it is in the journal, without its parameters
    assert rates(Engine(template, tmp_path / "b", num_trials=3).run()) == rates(undisturbed[2:])


def test_a_trial_that_was_interrupted_within_a_fold_stays_open(template, tmp_path):
    first = Engine(template, tmp_path)
    name, visit = first.suggest()
    first.train(visit, folds=[])
    first.searcher.on_trial_complete(name, {"number": 0})
    assert first.trials[0].state == TrialState.RUNNING


def test_a_fold_that_came_in_as_the_study_died_is_judged_first(template, tmp_path):
    first = Engine(template, tmp_path, race="paired")
    first.run(1)
    visit = first.suggest()[1]
    first.train(visit)  # on record, and killed before anybody judged
    again = Engine(template, tmp_path, race="paired")
    assert again.suggest()[1] == visit
    again.standings.judge(visit["number"])
    assert again.standings.is_judged(visit["number"])


def test_a_failed_trial_is_told_as_failed_with_its_error(template, tmp_path):
    first = Engine(template, tmp_path)
    name, _ = first.suggest()
    first.ledger.write_failure(0, "the loss became nan")
    first.searcher.on_trial_complete(name, error=True)
    assert first.trials[0].state == TrialState.FAIL
    assert first.trials[0].user_attrs["error"] == "the loss became nan"


@pytest.mark.parametrize("race", ["none", "paired"])
def test_a_study_that_is_killed_after_every_visit_is_the_one_that_nothing_disturbed(template, tmp_path, race):
    whole = Engine(template, tmp_path / "a", num_trials=9, race=race)
    visits = whole.run()
    parts: list[dict] = []
    while step := Engine(template, tmp_path / "b", num_trials=9, race=race).run(1):
        parts += step
    assert parts == visits
    other = Engine(template, tmp_path / "b", num_trials=9, race=race)
    assert [(t.state, t.params, t.value) for t in other.trials] == [
        (t.state, t.params, t.value) for t in whole.trials
    ]
    assert [line | {"at": 0} for line in read_verdicts(other.log)] == [
        line | {"at": 0} for line in read_verdicts(whole.log)
    ]


def test_a_verdict_that_was_half_written_is_left_out(template, tmp_path):
    engine = Engine(template, tmp_path)
    engine.run(1)
    before = read_verdicts(engine.log)
    with engine.log.open("a") as file:
        file.write(json.dumps(before[0])[:40])
    assert read_verdicts(engine.log) == before


def test_seeds_differ(template, tmp_path):
    asked = [rates(Engine(template, tmp_path / str(s), num_trials=3, seed=s).run())[1:] for s in (0, 1)]
    assert asked[0] != asked[1]
