"""A study over several networks, from first trials to leaderboard; fits are scored by a formula."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from formula import FormulaJobRunner, formula_study

from orchestrator.common.errors import BadStudy
from orchestrator.results.best_trial import choose
from orchestrator.results.report.gather import study_facts
from orchestrator.results.report.prose import methods
from orchestrator.results.report.study_tables import by_network_table
from orchestrator.results.views.by_network import network_sentence, network_table, networks_of
from orchestrator.results.views.study_scores import board
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.budget.usage import ResourceUsage
from orchestrator.search.engine import LaneCapacity, Visit
from orchestrator.search.goals.goals import secondary_goals
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.samplers.draw import refuse_unless_allowed
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.space_changes import changes
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.warm_start import Earlier, best_of_study, fit_in
from orchestrator.study.run import begin, make_engine
from orchestrator.study.runnable_study import RunnableStudy

SPACE = parse_space("""
network = { choice = ["unet", "resunet_pp", "colonsegnet"] }
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
[fixed]
batch_size = 2
epochs = 3
image_size = 32
[baseline]
learning_rate = 1e-4
[unet.search]
base_channels = { choice = [4, 8] }
[unet.baseline]
base_channels = 4
learning_rate = 3e-4
[resunet_pp.fixed]
base_channels = 8
batch_size = 4
[colonsegnet.search]
learning_rate = { log_uniform = [1e-4, 1e-2] }
[colonsegnet.baseline]
learning_rate = 1e-3
""")


def study_at(home: Path, num_trials: int = 8, warm: tuple[dict, ...] = ()) -> RunnableStudy:
    study = replace(formula_study(home, num_trials=num_trials, race="paired"), space=SPACE)
    return replace(study, warm_start_configurations=warm)


def carry_on(study: RunnableStudy, num_visits: int = 1000) -> None:
    """What lanes do, in this process; a run that ends after so many visits is as if it had been killed."""
    begin(study)
    gate = BudgetGate(study.budget, ResourceUsage(study.store.ledger))
    engine = make_engine(study, LaneCapacity(len(study.plan.folds)), gate)
    work = FormulaJobRunner(study.store.ledger, noise=0.1)
    for _ in range(num_visits):
        visit = engine.ask()
        if not isinstance(visit, Visit):
            return
        configuration = study.space.configuration(engine.trials.params(visit.number))
        for fold in visit.folds:
            work(fold_specs(configuration, study.plan)[fold], torch.device("cpu"), 0, lambda row: True)
            if engine.finish(visit.number, fold).action == "stop":
                break
        engine.end(visit.number)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    study = study_at(tmp_path_factory.mktemp("home"))
    carry_on(study)
    return study


def networks(trials: list[StudyTrial]) -> list[str]:
    return [trial.configuration.network for trial in trials]


def test_the_first_trials_are_the_baselines_and_then_networks_are_tried_equally_often(
    finished: RunnableStudy,
):
    trials = finished.store.trials()
    assert networks(trials[:3]) == ["unet", "resunet_pp", "colonsegnet"]
    assert [trial.params for trial in trials[:3]] == [SPACE.baseline_params(one) for one in SPACE.networks]
    assert [*Counter(networks(trials[:6])).values()] == [2, 2, 2]


def test_optuna_has_the_parameters_of_the_network_alone_and_results_have_plain_names(finished: RunnableStudy):
    own = {"unet": {"unet.base_channels", "learning_rate"}, "resunet_pp": {"learning_rate"}}
    for trial, stored in zip(finished.store.trials(), finished.store.stored_trials(), strict=True):
        names = own.get(trial.configuration.network, {"colonsegnet.learning_rate"})
        assert stored.params.keys() == stored.distributions.keys() == {"network"} | names
        assert trial.searched.keys() == {name.rpartition(".")[2] for name in stored.params}


def test_a_fit_is_named_as_in_a_study_of_its_network_alone(finished: RunnableStudy):
    trial = finished.store.trials()[1]
    alone = parse_space("""
    network = "resunet_pp"
    search.learning_rate = { log_uniform = [1e-5, 1e-1] }
    fixed = { batch_size = 4, epochs = 3, image_size = 32, base_channels = 8 }
    baseline.learning_rate = 1e-4
    """)
    specs = fold_specs(alone.configuration(alone.baseline_params()), finished.plan)
    assert [record.fit_id for record in trial.records] == [spec.fit_id for spec in specs][
        : len(trial.records)
    ]


def test_a_study_that_was_interrupted_asks_for_the_same(finished: RunnableStudy, tmp_path: Path):
    again = study_at(tmp_path)
    for _ in range(40):
        carry_on(again, num_visits=1)
    asked = [(trial.params, trial.state) for trial in finished.store.stored_trials()]
    assert [(trial.params, trial.state) for trial in again.store.stored_trials()] == asked


def test_the_leaderboard_has_the_best_of_each_network_and_how_far_it_is_behind(finished: RunnableStudy):
    snapshot = finished.store.snapshot()
    rows = board(snapshot)
    found = networks_of(snapshot, rows)
    assert sorted(one.network for one in found) == sorted(SPACE.networks)
    assert sum(one.num_trials for one in found) == len(rows) == 8
    best, *others = found
    assert best.trial == snapshot.ranked()[0][0].number and best.lead is None and best.verdict == "the best"
    for one in (one for one in others if one.lead is not None):
        assert one.lead.trial == best.trial and one.lead.other == one.trial
        assert one.lead.difference > 0 and one.verdict.startswith("-")
    assert network_table(found).row_count == 3 and found[0].network in network_sentence(found)


@pytest.mark.parametrize("network", SPACE.networks)
def test_the_best_of_one_network_is_the_one_that_the_leaderboard_has_of_it(
    finished: RunnableStudy, network: str
):
    snapshot = finished.store.snapshot()
    found = {one.network: one for one in networks_of(snapshot, board(snapshot))}[network]
    if found.score is None:
        with pytest.raises(BadStudy, match=f"network {network}: it has no finished trial"):
            choose(snapshot, network=network)
        return
    choice = choose(snapshot, network=network)
    assert choice.trial.number == found.trial and choice.trial.configuration.network == network
    assert choice.is_named and f"finished trials of {network}." in choice.selection.reason.replace(
        "trial ", "trials "
    )
    assert f"Trial {found.trial} is the " in choice.selection.reason


def test_a_study_of_one_network_begins_with_the_best_of_that_network_of_a_study_over_several(
    finished: RunnableStudy,
):
    snapshot = finished.store.snapshot()
    done = {trial.number: trial.configuration.network for trial, _ in snapshot.feasible()}
    for network in {*done.values()}:
        of_one = {one.source for one in best_of_study(snapshot, [network])}
        assert of_one == {f"trial {number} of formula" for number, of in done.items() if of == network}
    assert best_of_study(snapshot, ["pranet"]) == best_of_study(snapshot)  # which says why they do not fit


def test_a_limit_that_nothing_keeps_is_answered_with_what_the_smallest_network_costs(finished: RunnableStudy):
    limits = secondary_goals((), (), ("parameters<=10",))
    with pytest.raises(
        BadStudy, match=r"the smallest costs: parameters [\d,]+ \((unet|resunet_pp|colonsegnet)\)"
    ):
        refuse_unless_allowed(SPACE, limits, 0)


def test_recommended_configurations_come_after_the_baselines(tmp_path: Path):
    earlier = [
        Earlier("trial 3 of other", {"network": "colonsegnet", "learning_rate": 2e-3}),
        Earlier("trial 4 of other", {"network": "unet", "learning_rate": 2e-3}),
        Earlier("trial 5 of other", {"network": "colonsegnet", "learning_rate": 0.1}),
    ]
    fitted = fit_in(SPACE, earlier, study_at(tmp_path).secondary)
    assert fitted.configurations == (
        {"network": "colonsegnet", "colonsegnet.learning_rate": 2e-3},
        {"network": "unet", "learning_rate": 2e-3, "unet.base_channels": 4},
    )
    assert fitted.lines[0] == "trial 3 of other becomes trial 3" and "does not fit" in fitted.lines[2]
    study = study_at(tmp_path, 5, fitted.configurations)
    carry_on(study)
    assert [trial.params for trial in study.store.stored_trials()][3:] == [*fitted.configurations]


def test_what_changed_in_the_tables_of_a_network_is_named():
    now = parse_space(SPACE.text.replace("batch_size = 4", "batch_size = 8").replace("[4, 8]", "[4, 16]"))
    said = changes(SPACE, now)
    assert "resunet_pp.fixed.batch_size: was 4, now 8" in said
    assert any(line.startswith("unet.search.base_channels: was ") for line in said)


def test_a_report_tells_of_every_network(finished: RunnableStudy):
    facts = study_facts(finished.store.snapshot(), counts_network=False)
    assert [one.network for one in facts.networks] == [row[0] for row in by_network_table(facts)[1:]]
    assert "the first 3 being the baselines of the networks" in methods(facts)
    assert facts.log_scaled == {"learning_rate"}
    assert facts.chosen_network == facts.networks[0].network or facts.champion is None


def test_what_is_held_back_for_a_fit_goes_by_the_length_of_fits_of_its_network(finished: RunnableStudy):
    gate = BudgetGate(finished.budget, ResourceUsage(finished.store.ledger))
    engine = make_engine(finished, LaneCapacity(len(finished.plan.folds)), gate)
    state, unet = engine.state, engine.state.fit_ids[0][0]
    state.seconds = {number: 20.0 if number == 0 else 0.5 for number in state.seconds}
    assert state.seconds_of_fit(unet) == 20 and state.seconds_of_fit("unknown") is None
    gate.usage.fits = {}
    assert gate.usage.left_of([unet]) == pytest.approx(20)  # a mean fit took a second
    assert gate.time_left() is None
