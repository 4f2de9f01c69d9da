"""A study as CSV files: whole after every sync, the same after a restart."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from formula import carry_out, finish, formula_study, quality, row
from optuna.trial import TrialState

from orchestrator.common.files import append
from orchestrator.results.sinks.csv_files import CsvSink
from orchestrator.search.records.cut_fits import CutFit, append_cut_fit
from orchestrator.study.run import begin
from orchestrator.study.runnable_study import RunnableStudy

NAMES = ("trials", "folds", "epochs")


def read(study: RunnableStudy, name: str) -> list[dict[str, str]]:
    with (study.store.folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def study(tmp_path: Path) -> RunnableStudy:
    study = formula_study(tmp_path, num_trials=2)
    carry_out(study, [1e-4, 1e-3])
    return study


def test_a_trial_a_fold_and_an_epoch_is_a_row_each_with_its_scores_and_parameters(study: RunnableStudy):
    CsvSink(study.store).sync(is_last=True)
    first, second = read(study, "trials")
    assert (second["trial"], second["state"], second["folds_done"]) == ("1", "complete", "5")
    assert float(first["params_learning_rate"]) == 1e-4 and float(second["params_learning_rate"]) == 1e-3
    assert float(first["dice"]) == study.store.trials()[0].score().metrics["dice"]
    assert len(read(study, "folds")) == 10 and len(read(study, "epochs")) == 30
    assert {one["threshold"] for one in read(study, "folds")[:5]} == {first["threshold"]}
    assert [one["epoch"] for one in read(study, "epochs")[:3]] == ["1", "2", "3"]
    assert float(read(study, "epochs")[0]["val_dice"]) == quality(1e-4)


def test_what_grows_is_added_and_a_restart_gives_the_same_files(study: RunnableStudy):
    begun = formula_study(study.store.home.parent / "grown", num_trials=2)
    begin(begun)
    grown = CsvSink(begun.store)
    for rate in (1e-4, 1e-3):
        carry_out(begun, [rate])
        grown.sync(is_last=False)
    files = {name: (begun.store.folder / f"{name}.csv").read_bytes() for name in NAMES}
    CsvSink(begun.store).sync(is_last=True)
    assert {name: (begun.store.folder / f"{name}.csv").read_bytes() for name in NAMES} == files


def test_a_fold_of_an_open_trial_has_scores_of_its_own_threshold_until_the_trial_is_complete(tmp_path: Path):
    study = formula_study(tmp_path, num_trials=1)
    begin(study)
    finish(study, 1e-3, [0.5])
    sink = CsvSink(study.store)
    sink.sync(is_last=False)
    (fold,), (trial,) = read(study, "folds"), read(study, "trials")
    assert fold["own_threshold_dice"] and "dice" not in fold and trial["state"] == "open"
    append_cut_fit(study.store.ledger.cut_fits, CutFit(0, 1, "abc", [row(0, 0.1)]))
    study.store.optuna_study().tell(0, state=TrialState.PRUNED)
    sink.sync(is_last=True)
    (trial,) = read(study, "trials")
    assert (trial["state"], trial["folds_done"]) == ("stopped", "1") and "dice" not in trial
    assert [one["fit_id"] for one in read(study, "epochs")][-1] == "abc"


def test_a_disk_that_is_full_is_said_once_and_the_files_are_whole_when_there_is_room(
    study: RunnableStudy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(study.store.folder / "trials.csv"))

    sink = CsvSink(study.store)
    with monkeypatch.context() as patch:
        patch.setattr("orchestrator.results.sinks.csv_files.write_atomically", full)
        assert not sink.attempt(is_last=False) and not sink.attempt(is_last=False)
    assert caplog.text.count("cannot be written; nothing is lost") == 1
    assert sink.attempt(is_last=False) and "works again, and has what it lacked" in caplog.text
    assert [len(read(study, name)) for name in NAMES] == [2, 10, 30]


def test_a_file_that_was_damaged_is_written_anew_by_the_next_run(study: RunnableStudy):
    CsvSink(study.store).sync(is_last=True)
    append(study.store.folder / "epochs.csv", b"1,fold")
    CsvSink(study.store).sync(is_last=True)
    assert len(read(study, "epochs")) == 30
