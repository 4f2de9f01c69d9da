"""Files of a study that were damaged: what is said of them, what still shows, and how the study goes on."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from damages import DAMAGES
from formula import FormulaJobRunner, carry_out, formula_study
from optuna.trial import TrialState

from orchestrator.cli import main
from orchestrator.common.errors import MachineFault
from orchestrator.data.splits.split_file import write_plan
from orchestrator.search.budget.gate import BudgetGate
from orchestrator.search.engine import LaneCapacity
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.race.verdict_log import read_verdicts
from orchestrator.search.records.status import Status, write_status
from orchestrator.search.store.damage import damage
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import Champion, champion_fit
from orchestrator.selection.reevaluation import Reevaluation, remember
from orchestrator.study.repair import restore
from orchestrator.study.run import _usage, make_engine

RATES = (1e-3, 1e-2, 1e-4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a study of three finished trials, and every file that a study can have."""
    home = tmp_path_factory.mktemp("whole")
    made = formula_study(home, num_trials=3)
    carry_out(made, RATES)
    study = made.store
    for trial in study.optuna_study().trials:
        study.ledger.trials.write(trial)
    standing = study.ranked()
    study.choose_champion(Champion(0, champion_fit(standing[0][0]).fit_id))
    remember(study, Reevaluation(2, tuple(trial.number for trial, _ in standing), (0,), {}))
    write_plan(study.plan(), study.folder / "splits-again.json")
    lines = [
        {
            "at": 1.0,
            "trial": number,
            "folds": [0],
            "action": "go",
            "reason": "so",
            "against": None,
            "numbers": {},
        }
        for number in range(3)
    ]
    study.race_file.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    study.speeds_file.write_text('["could not be timed", "neither"]')
    write_status(study.status_file, Status("formula", "ended", "none", "3 trials", 1.0, 2.0, 1, "here"))
    return home


@pytest.fixture
def study(whole, tmp_path) -> StudyStore:
    shutil.copytree(whole, tmp_path / "home")
    return StudyStore(tmp_path / "home", "formula")


@pytest.fixture
def run(study, monkeypatch, capsys):
    def run(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *shlex.split(line), "--home", str(study.home)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, "".join(capsys.readouterr())

    return run


def record_of(study: StudyStore, trial: int = 1, fold: int = 2) -> Path:
    return study.trials()[trial].records[fold].folder


FILES = [
    "study.json",
    "space.toml",
    "splits.json",
    "splits-again.json",
    "warm_start.json",
    "champion.json",
    "rescored.json",
    "race.jsonl",
    "status.json",
    "speeds.json",
    "optuna.journal",
    "ledger/study.json",
    "ledger/trials/1.json",
    "record.json",
    "histograms.npz",
    "examples.npz",
    "weights.safetensors",
]
SEEN = {"study.json", "splits-again.json", "status.json", "speeds.json", "ledger/study.json"}


def spoil(study: StudyStore, name: str, kind: str) -> Path:
    file = study.folder / name
    if not file.exists() and "/" not in name:
        file = record_of(study) / name
    DAMAGES[kind](file)
    return file


def shows(run, study: StudyStore, name: str, kind: str, commands: tuple[str, ...]) -> None:
    file = spoil(study, name, kind)
    before = {path: path.stat().st_mtime_ns for path in study.folder.rglob("*") if path.is_file()}
    for command in commands:
        code, said = run(f"{command} formula")
        assert code in (0, 2) and "Traceback" not in said
        assert code == 0 or file.name in said, said
    assert {path: path.stat().st_mtime_ns for path in study.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_short_is_named_and_nothing_is_changed_by_who_reads(run, study, name: str):
    shows(run, study, name, "halved", ("leaderboard",))


@pytest.mark.parametrize("name", ["record.json", "histograms.npz", "examples.npz", "weights.safetensors"])
def test_a_trial_is_never_scored_on_fewer_folds_than_it_has(run, study, name: str):
    folder = spoil(study, name, "halved").parent
    code, said = run("leaderboard --json")
    assert code == 0 and f"{folder} ({name}" in said and "the same `orchestrator search`" in said
    (row,) = [
        row for row in json.loads(said[said.index("[\n") :].split("\n]")[0] + "\n]") if row["trial"] == 1
    ]
    assert row["folds_done"] == 4 and row["scores"] == {}


@pytest.mark.parametrize("kind", [*DAMAGES, "gone", "bad line"])
def test_trials_show_though_the_journal_is_damaged_and_it_is_rebuilt_under_the_same_numbers(study, kind: str):
    before = [(t.number, t.state, t.params, t.values) for t in study.stored_trials()]
    if kind == "gone":
        study.journal_file.unlink()
    elif kind == "bad line":
        lines = study.journal_file.read_bytes().split(b"\n")
        study.journal_file.write_bytes(b"\n".join([*lines[:5], b'{"op_code": 4, "wor', *lines[6:]]))
    else:
        DAMAGES[kind](study.journal_file)
    assert [(t.number, t.state, t.params, t.values) for t in study.stored_trials()] == before
    assert str(study.journal_file) in "\n".join(damage(study.snapshot()))
    restore(study)
    assert [(t.number, t.state, t.params, t.values) for t in study.optuna_study().trials] == before
    assert damage(study.snapshot()) == []
    assert (study.ledger.aside / "optuna.journal.1").exists() == (kind != "gone")


def test_a_journal_that_ends_in_half_a_line_is_no_damage(study):
    with study.journal_file.open("a") as journal:
        journal.write('{"op_code": 4, "wor')
    assert damage(study.snapshot()) == [] and len(study.stored_trials()) == 3


def test_an_empty_journal_of_an_earlier_version_is_no_empty_leaderboard(run, study):
    shutil.rmtree(study.ledger.trials.folder)
    study.journal_file.write_bytes(b"")
    code, said = run("leaderboard formula")
    assert code == 2 and "optuna.journal: is empty, and 15 fits are on record" in said
    restore(study)  # what the search asks follows from its seed
    assert study.stored_trials() == []


def test_an_open_trial_is_open_again_in_a_journal_that_was_rebuilt(study):
    trial = study.optuna_study().ask()
    study.space().sample(trial)
    study.ledger.trials.write(study.optuna_study().trials[3])
    study.journal_file.unlink()
    restore(study)
    again = study.optuna_study().trials[3]
    assert (again.state, again.params) == (TrialState.RUNNING, trial.params)


def test_a_trial_whose_own_record_is_damaged_too_keeps_its_number(study):
    (study.ledger.trials.folder / "1.json").write_bytes(b"")
    study.journal_file.unlink()
    restore(study)
    assert [t.state for t in study.optuna_study().trials] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]


def test_a_damaged_fit_of_a_finished_trial_is_trained_again_and_no_other(study):
    made = formula_study(study.home, num_trials=3)
    before = [trial.number for trial, _ in study.ranked()]
    folder = spoil(study, "record.json", "emptied").parent
    assert len(study.ranked()) == 2
    restore(study)
    engine = make_engine(made, LaneCapacity(5), BudgetGate(made.budget, _usage(made), lambda: 1))
    lost = engine.trials.lost()
    assert lost.keys() == {folder.name} and engine.is_over
    FormulaJobRunner(study.ledger)(lost[folder.name], None, 0, lambda row: True)
    assert [trial.number for trial, _ in study.ranked()] == before
    assert engine.trials.lost() == {} and (study.ledger.aside / f"{folder.name}.1").is_dir()


@pytest.mark.parametrize(
    "name", ["champion.json", "rescored.json", "splits-again.json", "speeds.json", "status.json"]
)
@pytest.mark.parametrize("kind", ["emptied", "another type"])
def test_what_a_search_can_make_again_is_set_aside(study, name: str, kind: str):
    spoil(study, name, kind)
    restore(study)
    assert not (study.folder / name).exists() and (study.ledger.aside / f"{name}.1").exists()


@pytest.mark.parametrize("name", ["study.json", "space.toml", "splits.json"])
@pytest.mark.parametrize("kind", DAMAGES)
def test_what_a_study_is_made_of_is_written_anew_by_the_same_search(study, name: str, kind: str):
    before, made = (study.folder / name).read_bytes(), formula_study(study.home, num_trials=3)
    spoil(study, name, kind)
    study.begin(made.space, made.plan, made.spec)
    assert (study.folder / name).read_bytes() == before


def test_a_space_that_was_edited_is_not_taken_for_that_of_the_study(study):
    text = study.space_file.read_text()
    study.space_file.write_text(text.replace("epochs = 3", "epochs = 4"))
    with pytest.raises(Exception, match="is not what the study was made of"):
        study.space()


def test_lines_of_the_race_that_do_not_read_are_left_out_and_kept_aside(study):
    good = study.race_file.read_text()
    study.race_file.write_text(f"{good}not a verdict\n{{}}\n")
    assert [line["trial"] for line in read_verdicts(study.race_file)] == [0, 1, 2]
    assert "race.jsonl: 2 lines left out, which cannot be read" in "\n".join(damage(study.snapshot()))
    restore(study)
    assert study.race_file.read_text() == good and damage(study.snapshot()) == []


def test_a_node_that_sees_other_files_is_at_fault_and_no_trial_is(study):
    (dataset,), _ = study.datasets()
    dataset.cases[0].image.write_bytes(b"other")
    work = FitJobRunner(study.home, study.home / "cache", study.ledger)
    with pytest.raises(MachineFault, match="not the bytes that were imported"):
        work._cases({dataset.name: dataset.fingerprint}, 32)
