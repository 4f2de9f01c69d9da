from __future__ import annotations

import pytest
from inline_lanes import InlineLanes

from orchestrator.common.display import Display
from orchestrator.protocols.fits import Wishes, plan_rows
from orchestrator.protocols.outcome.measured import measure
from orchestrator.protocols.plan import TablePlan
from orchestrator.protocols.protocol import load_protocol
from orchestrator.protocols.tuned import space_of, study_of, tune_rows
from orchestrator.protocols.work import TableWork
from orchestrator.search.store.trials import StudyTrial

PAPERS = ("attention-unet", "gmsrf", "parallel-res2net", "resunetpp")


def test_what_the_space_file_opens_is_searched_around_the_baseline(tiny):
    plan = tiny.plan()
    space = space_of(plan, plan.rows[1])
    assert set(space.search) == {"learning_rate", "base_channels"}
    assert space.fixed["image_size"] == 32 and space.fixed["threshold"] == 0.5
    assert space.configuration(space.baseline_params()).recipe == plan.rows[1].configuration.recipe


def test_a_parameter_that_the_row_sets_is_not_searched(tiny):
    plan = tiny.plan()
    space = space_of(plan, plan.rows[0])
    assert set(space.search) == {"learning_rate"} and space.fixed["base_channels"] == 4


def test_every_row_has_the_same_budget_and_rows_of_one_network_share_a_search(tiny):
    plan = tiny.plan()
    narrow, wider, rule = (study_of(plan, row, tiny.places, 5) for row in plan.rows)
    assert {one.spec.trials for one in (narrow, wider, rule)} == {5}
    assert wider.store.name == rule.store.name != narrow.store.name
    assert study_of(plan, plan.rows[0], tiny.places, 6).store.name != narrow.store.name


def test_the_tuned_networks_are_scored_on_the_images_of_the_table(tiny):
    run, _ = tiny.run(Wishes(only=("narrow",)))
    searched = []

    def search(study, work):
        searched.append(study.store.ledger.num_fits)
        assert study.store.snapshot().journal_damage is None
        (row,) = run.plan.rows
        records = tuple(study.store.ledger.read(spec.fit_id) for spec in row.fits)
        return StudyTrial(0, "complete", {"learning_rate": 0.003}, {}, row.configuration, records, 1, None)

    tuned = tune_rows(run.plan, tiny.places, 2, search, InlineLanes(TableWork(tiny.places)), Display())
    assert searched == [1]  # the paper's setting is lent, and not trained again
    row = measure(run, tuned)[1].rows[0]
    assert row.tuned[0].measured == row.cells[0].measured and row.tuned_params == {"learning_rate": 0.003}


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_of_the_papers_can_be_tuned_from_its_baseline(paper):
    protocol, wishes = load_protocol(paper), Wishes()
    table, scale = next(iter(protocol.tables.values())), protocol.scale("full")
    rows = plan_rows(protocol, table, scale, wishes, None)
    plan = TablePlan(protocol, "I", table, "full", scale, wishes, {}, {}, None, rows, {}, False)
    for row in rows:
        space = space_of(plan, row)
        made = space.configuration(space.baseline_params())
        assert (
            made.recipe == row.configuration.recipe
            and made.network_params == row.configuration.network_params
        )
