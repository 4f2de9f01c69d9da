"""What a home holds, and what of it can be removed."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from formula import formula_study

from orchestrator.cli import main
from orchestrator.search.records.status import Status, write_status
from orchestrator.search.store.study_store import StudyStore
from orchestrator.study.housekeeping import freeable, refuse_busy, studies_with

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    study = formula_study(tmp_path, num_trials=1)
    study.home.begin(study.space, study.plan, study.spec)
    return study.home


@pytest.fixture
def run(store: StudyStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(store.home))
    monkeypatch.setattr("orchestrator.study.housekeeping.temp_folder", lambda: store.home / "ray-0")

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["orchestrator", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return run


def test_studies_are_listed_with_state_and_size(run: Run, store: StudyStore):
    (row,) = json.loads(run("studies --json")[1])
    assert (row["name"], row["state"], row["trials"]) == (store.name, "killed", 0)
    assert row["bytes"] > 0 and store.name in run("studies")[1]


def test_a_study_is_removed_with_what_is_computed_of_it_and_nothing_else(run: Run, store: StudyStore):
    other = store.home / "studies" / f"{store.name}-2"
    derived = store.home / "derived" / store.name
    for folder in (other, derived):
        folder.mkdir(parents=True)
    code, said, _ = run(f"studies remove {store.name} --yes")
    assert code == 0 and f"removed study {store.name}" in said
    assert not store.folder.exists() and not derived.exists() and other.exists()


def test_nothing_is_removed_where_nobody_can_be_asked(run: Run, store: StudyStore):
    code, _, said = run(f"studies remove {store.name}")
    assert code == 2 and "--yes" in said and store.exists()


def test_a_study_that_somebody_works_on_is_not_removed(run: Run, store: StudyStore):
    now = time.time()
    write_status(store.status_file, Status(store.name, "searching", "paired", "", now, now, 7, "elsewhere"))
    code, _, said = run(f"studies remove {store.name} --yes")
    assert code == 2 and "process 7 on elsewhere" in said and store.exists()
    store.status_file.unlink()
    with store.lock():
        code, _, said = run(f"studies remove {store.name} --yes")
    assert code == 2 and "worked on" in said and store.exists()
    refuse_busy(store)


def test_a_dataset_that_a_study_needs_is_not_removed(run: Run, store: StudyStore):
    (needed,) = store.record().made_of.datasets
    assert studies_with(store.home, needed) == [store.name]
    assert studies_with(store.home, f"{needed}-2") == []


def test_clean_frees_what_is_made_again_and_keeps_records_and_checkpoints_to_go_on_from(
    run: Run, store: StudyStore
):
    for folder in ("tune/run", "train/run", "ledger/running/fit"):
        (store.folder / folder).mkdir(parents=True)
        (store.folder / folder / "file").write_text("content")
    (store.home / "ray-0" / "session_2026_1_999999999").mkdir(parents=True)
    (store.home / "ray-0" / "session_2026_1_999999999" / "log").write_text("content")
    dry = json.loads(run("clean --dry-run --json")[1])
    assert not dry["removed"] and {part["bytes"] for part in dry["parts"]} == {14, 7}
    code, said, _ = run("clean --yes")
    assert code == 0 and "freed" in said and freeable(store.home, store.home / "cache") == []
    assert (store.folder / "ledger/running/fit/file").exists() and store.exists()


def test_checkpoints_of_a_study_that_has_ended_are_freed(run: Run, store: StudyStore):
    (store.ledger.running / "fit").mkdir(parents=True)
    (store.ledger.running / "fit" / "file").write_text("content")
    store.champion_file.write_text("{}")
    write_status(store.status_file, Status(store.name, "ended", "paired", "", 0, 0, 7, "here"))
    assert run("clean --yes")[0] == 0 and not store.ledger.running.exists() and store.exists()
