"""The report of studies on disk: its numbers are those of other commands, and each kind of study has a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from finished import finished_study
from formula import SPACE, carry_out, finish, formula_study

import orchestrator as po
from orchestrator.cli import app, main
from orchestrator.results.report.checklists.filled import filled
from orchestrator.results.report.facts import CUT, StudyFacts
from orchestrator.results.report.figures.fits import rows_of
from orchestrator.results.report.files import Report, make_report, report_files
from orchestrator.results.report.gather import study_facts
from orchestrator.results.views.study_scores import board
from orchestrator.search.records.cut_fits import CutFit, append_cut_fit
from orchestrator.search.significance import false_claim
from orchestrator.search.space.space_file import parse_space
from orchestrator.selection.nested import Nested, OuterFold, remember_nested
from orchestrator.study.runnable_study import RunnableStudy

RATES = (1e-4, 1e-3, 3e-3, 2e-2, 5e-4)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RunnableStudy:
    """Five trials with all their folds, the champion scored on a hold-out and an external dataset."""
    return finished_study(tmp_path_factory.mktemp("home"), RATES)[0]


@pytest.fixture(scope="module")
def facts(study: RunnableStudy) -> StudyFacts:
    return study_facts(study.store.snapshot())


@pytest.fixture
def command(study: RunnableStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`orchestrator report` on that study, in a folder of its own."""

    def run(*words: str, code: int = 0) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["orchestrator", "report", *words, "--home", str(study.store.home)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == code
        return tmp_path

    return run


def page_of(study: RunnableStudy) -> str:
    return make_report([study.store.snapshot()]).page


def test_numbers_of_trials_are_those_of_the_leaderboard(study: RunnableStudy, facts: StudyFacts):
    rows = {
        row["trial"]: row
        for row in po.load_study(study.store.name, home=study.store.home).leaderboard(as_dicts=True)
    }
    for trial in facts.trials:
        row = rows[trial.number]
        assert (trial.dice, trial.cross_fitted) == (row["scores"]["dice"], row["cross_fitted"])
        assert list(trial.interval or ()) == row["interval"] and trial.hours == pytest.approx(
            row["minutes"] / 60
        )


def test_numbers_of_the_champion_are_those_of_best(study: RunnableStudy, facts: StudyFacts):
    best = po.load_study(study.store.name, home=study.store.home).best()
    champion = facts.champion
    assert champion is not None and (champion.trial, champion.threshold) == (best.number, best.threshold)
    shown = {line.name: (line.num_cases, dict(line.scores)) for line in (*champion.folds, *champion.scores)}
    assert shown == {line["name"]: (line["num_cases"], line["scores"]) for line in best.scores}
    assert {"hold-out test", "far (unseen)"} < shown.keys() and facts.selection == best.reasons


def test_every_image_of_the_datasets_is_accounted_for(study: RunnableStudy, facts: StudyFacts):
    near, far = facts.datasets
    assert near.num_in_folds + near.num_test + near.num_dropped == near.num_cases == 24
    assert far.role == "external" and far.num_cases == 6
    assert facts.splits == tuple((f.name, len(f.train), len(f.val)) for f in study.plan.folds)


def test_the_command_writes_page_tables_methods_and_checklists(command: Callable[..., Path], capsys):
    folder = command(
        "--out", "a/page.html", "--latex", "t.tex", "--csv", "-", "--methods", "m.txt", "--checklist", "claim"
    )
    assert (folder / "a" / "page.html").read_text().startswith("<!doctype html>")
    assert (
        r"\toprule" in (folder / "t.tex").read_text() and "We trained unet" in (folder / "m.txt").read_text()
    )
    assert "Of 44 items" in (folder / "a" / "page-claim.md").read_text()
    told = capsys.readouterr()
    assert told.out.startswith("Method,Data,n,DSC") and "claim, study formula: Of 44 items" in told.err


def test_nothing_is_left_to_write_on_sources_once_they_are_stated(facts: StudyFacts):
    def states(**card: str) -> dict[str, str]:
        datasets = tuple(replace(one, card=card) for one in facts.datasets)
        return {one.number: one.state for one in filled("claim", replace(facts, datasets=datasets))}

    licensed = states(licence="CC0", source="made", dates="2020")
    assert licensed["7"] == "filled in part" == licensed["8"] and licensed["16"] == "for you to write"
    stated = states(
        licence="CC0", source="made", dates="2020", centers="one", inclusion="all", annotators="one"
    )
    assert stated["7"] == "filled" == stated["8"] == stated["16"] == stated["17"] == stated["5"]


@pytest.mark.parametrize(
    ("spans", "rows"),
    [
        ([(0, 0.0, 10.0), (0, 10.0, 20.0), (1, 0.0, 5.0)], [(0, 1), (0, 1), (0, 1)]),
        ([(0, 0.0, 10.0), (0, 5.0, 20.0), (0, 11.0, 15.0)], [(0, 2), (1, 2), (0, 2)]),
        ([(0, 9.5, 20.0), (0, 0.0, 10.0)], [(0, 1), (0, 1)]),
    ],
)
def test_fits_of_a_trial_at_the_same_time_do_not_hide_each_other(
    spans: list[tuple[int, float, float]], rows: list[tuple[int, int]]
):
    assert rows_of(spans) == rows


def test_json_has_the_numbers_and_what_was_written(command: Callable[..., Path], capsys, facts: StudyFacts):
    folder = command("formula", "--json", "--checklist", "midl")
    said = json.loads(capsys.readouterr().out)
    (one,) = said["studies"]
    assert facts.champion is not None and one["champion"] == facts.champion.trial
    assert sum(one["checklists"]["midl"].values()) == 21 and one["fits"] == {"search": 15}
    assert said["files"] == [str(folder / "report.html"), str(folder / "report-midl.md")]


def test_what_cannot_be_written_is_refused_at_once_with_every_reason(
    command: Callable[..., Path], capsys, tmp_path: Path
):
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    command("formula", "nobody", "--out", "mine.html", "--checklist", "quaide", "--checklist", "clam", code=2)
    told = " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "mine.html").read_text() == "<p>mine</p>"
    for reason in (
        "'nobody'",
        "QUAIDE (Gut 2025;74:153) are not public",
        "found clam",
        "is not a report of this program",
    ):
        assert reason in told


def test_a_report_is_written_again_in_its_place(study: RunnableStudy, tmp_path: Path):
    stored = po.load_study(study.store.name, home=study.store.home)
    first, again = (stored.report(tmp_path / "r.html") for _ in range(2))
    assert isinstance(first, Report) and first.text("csv") == again.text("csv")
    assert (tmp_path / "r.html").read_text() == again.page


def test_plots_and_page_are_files_for_a_sink(study: RunnableStudy):
    files = report_files(study.store.snapshot())
    names = {"history", "race_timeline", "importance", "slices", "parallel_coordinates", "folds"}
    assert {"report.html"} | {
        f"{name}.{kind}" for name in names for kind in ("svg", "png")
    } == files.keys() | {f"parallel_coordinates.{kind}" for kind in ("svg", "png")}
    assert files["history.svg"].startswith(b"<svg") and files["history.png"].startswith(b"\x89PNG")


def test_the_command_to_do_it_again_is_one_that_the_program_takes(facts: StudyFacts):
    (search,) = (line for line in facts.commands if line.startswith("orchestrator search"))
    words = search.split()[1:]
    assert words[:2] == ["search", "space.toml"]
    parsed = typer.main.get_command(app).commands["search"].make_context("search", words[1:])  # type: ignore[attr-defined]
    assert parsed.params["data"] == ["drawn"] and parsed.params["unseen"] == ["far"]
    assert parsed.params["trials"] == len(RATES) and parsed.params["rescore"] == 0


def test_several_studies_are_compared_with_the_first(study: RunnableStudy, tmp_path: Path):
    other = replace(study, store=type(study.store)(study.store.home, "second"))
    carry_out(other, RATES[:2])
    made = make_report([one.store.snapshot() for one in (study, other)])
    (row,) = (row for row in made.compared.rows if row.where == "validation")
    assert (row.reference.split(":")[0], row.other.split(":")[0]) == ("formula", "second")
    assert row.p_false_claim is not None and 0 <= row.p_false_claim <= 0.5
    assert "Comparison of the studies" in made.page and 'id="study-2"' in made.page


def test_a_study_that_was_only_begun_has_a_page(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=3)
    study.store.begin(study.space, study.plan, study.spec)
    page = page_of(study)
    assert "No trial has begun yet" in page and "No trial has all its folds yet" in page
    assert "not running, and not ended" in page


def test_a_study_without_a_finished_trial_has_a_page(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=3)
    study.store.begin(study.space, study.plan, study.spec)
    finish(study, 1e-3, [0.5])
    page = page_of(study)
    assert "No trial has all its folds yet" in page and 'id="history"' in page and ">1/5<" in page


def test_a_study_with_limits_that_no_trial_keeps_has_a_page(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=2).with_options(constraints=("parameters<=10",))
    carry_out(study, RATES[:2])
    assert "No finished trial meets the limits of the study (parameters&lt;=10)" in page_of(study)


def test_a_study_with_several_objectives_shows_its_front(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=3).with_options(objectives=("mean", "inference_ms"))
    carry_out(study, RATES[:3])
    page = page_of(study)
    assert 'id="front"' in page and "Pareto front" in page and "<th>inference_ms</th>" in page
    assert "FPS" in page


def test_a_study_that_chooses_among_networks_has_a_page(tmp_path: Path):
    text = SPACE.text.replace('"unet"', '{ choice = ["unet", "resunet"] }')
    space = parse_space(text.replace("[baseline]", '[baseline]\nnetwork = "unet"'))
    study = replace(formula_study(tmp_path, num_trials=2), space=space)
    study.store.begin(study.space, study.plan, study.spec)
    optuna = study.store.optuna_study()
    optuna.enqueue_trial({"network": "resunet", "learning_rate": 1e-3})
    finish(study, 1e-3, [0.5] * 5)
    page = page_of(study)
    assert "unet, resunet" in page and "No other trial has all its folds" in page


def test_a_nested_estimate_is_on_the_page(study: RunnableStudy):
    fold = OuterFold("formula.outer-1", 0, 0.5, 6, {"dice": 0.7}, 0.8)
    remember_nested(study.store, Nested((fold, fold), "2 trials", {"dice": 0.7}, (0.6, 0.8)))
    page = page_of(study)
    (study.store.folder / "nested.json").unlink()
    assert "What the whole procedure gives" in page and "Nested estimate: Dice 70.00 (60.00 to 80.00)" in page


def test_a_study_whose_trials_are_in_a_database_has_the_same_numbers(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=2).with_options(storage=f"sqlite:///{tmp_path}/trials.db")
    carry_out(study, RATES[:2])
    facts = study_facts(study.store.snapshot())
    assert len(facts.trials) == 2 and facts.champion is not None and facts.champion.trial == 1


def test_fits_that_were_cut_are_part_of_the_cost(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=2)
    carry_out(study, RATES[:1])
    rows = [{"epoch": 0, "val_dice": 0.1, "train_loss": 1.0, "seconds": 1800.0}]
    done = next(iter(study.store.snapshot().stored())).fit_id
    for fit_id in ("0" * 20, done):  # the second one was trained to its end later
        append_cut_fit(study.store.ledger.cut_fits, CutFit(0, 1, fit_id, rows))
    (cut,) = (one for one in study_facts(study.store.snapshot()).costs if one.kind == CUT)
    assert (cut.num_fits, cut.hours) == (1, 0.5)
    (row,) = board(study.store.snapshot())
    assert row.minutes == pytest.approx(30 + sum(one.seconds for one in study.store.snapshot().stored()) / 60)


def test_damaged_files_are_named_on_the_page(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=2)
    carry_out(study, RATES[:2])
    record = next(iter(study.store.snapshot().stored())).folder / "record.json"
    record.write_text("{")
    assert "Damaged files:" in page_of(study)


def test_a_false_claim_is_likely_where_the_difference_is_noise():
    rng, groups = np.random.default_rng(0), [str(k) for k in range(200)]
    noise = rng.normal(0, 0.1, 200)
    sure = false_claim(noise - noise.mean() + 0.05, groups, [0.05, 0.04, 0.06, 0.05, 0.05], 0.25)
    none = false_claim(noise - noise.mean() + 1e-5, groups, [0.02, -0.02, 0.03, -0.03, 1e-5], 0.25)
    assert sure is not None and sure < 1e-3
    assert none is not None and none == pytest.approx(0.5, abs=0.05)


def test_a_false_claim_is_not_smaller_than_half_where_folds_name_the_other_system():
    values, groups = np.full(20, 0.01), [str(k) for k in range(20)]
    assert false_claim(values + np.linspace(-1e-3, 1e-3, 20), groups, [-0.01, -0.02, -0.01], 0.5) == 0.5
    assert false_claim(values, ["one"] * 20, (), None) is None
