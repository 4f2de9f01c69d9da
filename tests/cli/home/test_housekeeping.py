"""What a home holds, and what of it can be removed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from formula import formula_study

from orchestrator.cli import main
from orchestrator.data.cache.frames import CachedCases, cached_cases
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.search.records.status import Status, write_status
from orchestrator.search.store.derived import DerivedFiles, folder_of_rules
from orchestrator.search.store.study_store import StudyStore
from orchestrator.study.housekeeping import freeable, refuse_busy, studies_with

Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    study = formula_study(tmp_path, num_trials=1)
    study.store.begin(study.space, study.plan, study.spec)
    return study.store


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


def ray_session(home: Path, seconds_ago: float) -> Path:
    """Of a process that is not on this machine, with a log that it last wrote then."""
    folder = home / "ray-0" / "session_2026_1_999999999"
    folder.mkdir(parents=True)
    (folder / "log").write_text("content")
    for path in (folder / "log", folder):
        os.utime(path, (time.time() - seconds_ago,) * 2)
    return folder


def a_dataset(home: Path, name: str) -> Dataset:
    return add_dataset(home, name, home / "frames", allow_empty=True)


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
    ray_session(store.home, seconds_ago=7200)
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


def test_a_study_behind_a_link_is_neither_removed_nor_forgotten(run: Run, store: StudyStore, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    store.folder.rename(elsewhere)
    store.folder.symlink_to(elsewhere)
    code, _, said = run(f"studies remove {store.name} --yes")
    assert code == 2 and f"is a link to {elsewhere}" in said and "Traceback" not in said
    assert (elsewhere / "study.json").exists() and store.folder.is_symlink()


def test_a_dataset_behind_a_link_is_neither_removed_nor_forgotten(
    run: Run, store: StudyStore, tmp_path: Path
):
    dataset = a_dataset(store.home, "of-another-home")
    dataset.folder.rename(tmp_path / "theirs")
    dataset.folder.symlink_to(tmp_path / "theirs")
    code, _, said = run("data remove of-another-home --yes")
    assert code == 2 and "is a link to" in said and (tmp_path / "theirs" / "dataset.json").exists()
    assert dataset.folder.is_symlink()


def test_a_dataset_that_is_being_read_is_not_removed(run: Run, store: StudyStore):
    dataset = a_dataset(store.home, "in-use")
    cases = cached_cases([dataset], 64, store.home / "cache")
    code, _, said = run("data remove in-use --yes")
    assert code == 2 and "is being read" in said and dataset.folder.exists()
    del cases
    assert run("data remove in-use --yes")[0] == 0 and not dataset.folder.exists()


def test_clean_leaves_a_cache_that_is_read_when_it_comes_to_that(run: Run, store: StudyStore):
    dataset, cache = a_dataset(store.home, "gone"), store.home / "cache"
    cases = cached_cases([dataset], 64, cache)  # also of another home that shares the cache
    shutil.rmtree(store.home / "datasets")
    assert not [one for one in freeable(store.home, cache) if "pixels" in one.what]
    del cases
    found = [one for one in freeable(store.home, cache) if "64 pixels" in one.what]
    cases = CachedCases([dataset], 64, cache)
    assert [one.remove() for one in found] == [0] and found[0].paths[0].exists()
    del cases
    assert [one.remove() for one in found] == [found[0].num_bytes] and not found[0].paths[0].exists()


def test_clean_leaves_what_a_study_needs_that_was_resumed_meanwhile(run: Run, store: StudyStore):
    (store.folder / "tune").mkdir()
    (store.folder / "tune" / "file").write_text("content")
    (store.home / "derived" / store.name).mkdir(parents=True)
    (store.home / "derived" / store.name / "file").write_text("content")
    found = freeable(store.home, store.home / "cache")
    with store.lock():
        assert [one.remove() for one in found] == [0, 0] and (store.folder / "tune" / "file").exists()
        assert freeable(store.home, store.home / "cache") == []
    assert [one.remove() for one in found] == [7, 7]


def test_folders_behind_links_are_not_freed(store: StudyStore, run: Run, tmp_path: Path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch" / "file").write_text("content")
    (store.home / "derived").mkdir()
    for link in (store.folder / "tune", store.home / "derived" / store.name, store.home / "derived" / "old"):
        link.symlink_to(tmp_path / "scratch")
    assert freeable(store.home, store.home / "cache") == []


def test_computed_scores_that_nobody_finds_again_are_pruned_and_counted(run: Run, store: StudyStore):
    folder = store.home / "derived" / store.name
    mine, *stale = files = [
        folder / folder_of_rules() / ("a" * 40),
        folder / f"rules-{'0' * 16}" / ("b" * 40),
        folder / ("c" * 40),
        store.home / "derived" / "gone" / "sound.json",
    ]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("content")
    said = json.loads(run("data cache --prune --json")[1])["scores"]
    assert {one["what"]: one["bytes"] for one in said} == {
        "scores computed from the records of removed study gone": 7,
        f"scores of study {store.name} that another version of the code computed": 14,
    }
    assert mine.exists() and not any(file.exists() for file in stale)
    assert "removed scores" not in run("data cache --prune")[1]


def test_computed_scores_of_a_study_without_its_data_are_pruned(run: Run, store: StudyStore):
    DerivedFiles(store.home / "derived" / store.name).keep("a" * 40, {})
    shutil.rmtree(next((store.home / "datasets").iterdir()))
    assert "whose data is gone or has changed" in run("data cache --prune")[1]
    assert not (store.home / "derived" / store.name).exists()


def test_a_ray_of_another_container_that_writes_its_logs_is_left_alone(run: Run, store: StudyStore):
    folder = ray_session(store.home, seconds_ago=60)
    assert run("clean --yes")[0] == 0 and (folder / "log").exists()


def test_the_study_of_an_outer_fold_is_removed_with_the_whole_study_alone(run: Run, store: StudyStore):
    inner = store.folder.with_name(f"{store.name}.outer-1")
    shutil.copytree(store.folder, inner)
    code, _, said = run(f"studies remove {inner.name} --yes")
    assert code == 2 and f"an outer fold of study {store.name}" in said and inner.exists()
    assert run(f"studies remove {store.name} --yes")[0] == 0 and not inner.exists()


def test_a_removal_that_was_killed_is_brought_to_its_end(run: Run, store: StudyStore):
    for room in ("studies", "datasets", "derived"):
        (store.home / room / ".removed-a-1").mkdir(parents=True)
        (store.home / room / ".removed-a-1" / "file").write_text("content")
    assert len(freeable(store.home, store.home / "cache")) == 3 and run("clean --yes")[0] == 0
    assert freeable(store.home, store.home / "cache") == [] and store.exists()


def test_trials_that_stay_in_a_database_are_named_when_their_study_is_removed(run: Run, store: StudyStore):
    record = json.loads(store.manifest_file.read_text())
    for file in (store.manifest_file, store.manifest_copy):
        text = json.dumps(record).replace('"storage": null', '"storage": "postgresql://me@host/db"')
        file.write_text(text)
    name = store.name_in_database(store.study_id)
    code, said, _ = run(f"studies remove {store.name} --yes")
    assert code == 0 and "postgresql://me@host/db" in said and name in said


@pytest.mark.parametrize("name", ["../datasets/drawn", "/tmp", ".", "..", ".removed-a-1", ""])
def test_what_is_no_name_removes_nothing(run: Run, store: StudyStore, name: str):
    for command in ("studies remove", "data remove"):
        code, _, said = run(f"{command} {shlex.quote(name)} --yes")
        assert code == 2 and "Traceback" not in said and store.exists()


@pytest.mark.parametrize("command", ["studies", "data list", "clean"])
def test_a_mistyped_home_is_named_and_not_made(run: Run, store: StudyStore, tmp_path: Path, command: str):
    code, said, _ = run(f"{command} --home {tmp_path / 'hmoe'}")
    assert code == 0 and f"{tmp_path / 'hmoe'}, a folder that is not there: no" in said
    assert not (tmp_path / "hmoe").exists()
