"""A study that is shown is read once, without torch, and what was derived before is no more than a saving of time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from formula import FormulaJobRunner, carry_out, formula_study

from orchestrator.results.views.study_scores import board
from orchestrator.results.views.tables import leaderboard_dicts
from orchestrator.search.progress.recorded import recorded_status
from orchestrator.search.progress.trial_views import replayed_views
from orchestrator.search.store import derived_scores
from orchestrator.search.store.damage import damage
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.study_store import StudyStore
from orchestrator.selection.ranking import select_trial

COMMANDS = ("status formula", "leaderboard formula", "best formula", "compare formula:0 formula:1")
HEAVY = {"torch", "ray", "mlflow", "timm", "matplotlib", "scipy.stats", "scipy.spatial", "sqlalchemy"}
# Prints every file below the home that was opened, and the heavy modules that were imported.
WATCHED = """
import json, sys
opened = []
sys.addaudithook(lambda event, of: opened.append(str(of[0])) if event == "open" else None)
from orchestrator.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code
home = sys.argv[-1]
print("\\n" + json.dumps([[one for one in opened if one.startswith(home)], [*sys.modules]]))
"""


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    study = formula_study(tmp_path, num_trials=3)
    carry_out(study, (1e-4, 1e-3, 1e-2), lambda ledger: FormulaJobRunner(ledger, noise=0.1))
    return study.store


def watched(store: StudyStore, command: str) -> tuple[list[str], set[str]]:
    arguments = [*command.split(), "--json", "--home", str(store.home)]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    opened, modules = json.loads(done.stdout.splitlines()[-1])
    return opened, set(modules)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_file_of_a_study_is_opened_twice_and_torch_never_imported(store: StudyStore, command: str):
    opened, modules = watched(store, command)
    in_study = Counter(one for one in opened if one.startswith(str(store.folder)))
    assert not HEAVY & modules
    if not command.startswith("status"):  # that looks for a sign of life first
        assert in_study and not {file: times for file, times in in_study.items() if times > 1}


def everything(snapshot: StudySnapshot) -> tuple[object, ...]:
    rows, choice = leaderboard_dicts(board(snapshot)), select_trial(snapshot, snapshot.ranked())
    return rows, choice, recorded_status(snapshot)


def test_what_was_derived_before_is_the_same_when_it_is_gone_or_damaged(store: StudyStore):
    first = everything(store.snapshot())
    assert everything(store.snapshot()) == first
    for file in filter(Path.is_file, (store.home / "derived" / "formula").rglob("*")):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert everything(store.snapshot()) == first


def test_a_record_that_changed_after_it_was_read_is_read_again(store: StudyStore):
    store.snapshot().trials  # noqa: B018  # remembered as sound
    (record, *_) = store.trials()[1].records
    (record.folder / "histograms.npz").write_bytes(b"x")
    assert [len(trial.records) for trial in store.trials()] == [5, 4, 5]
    assert str(record.folder) in " ".join(map(str, store.snapshot().damaged_records))
    assert damage(store.snapshot())[0].startswith("1 record cannot be read and is treated as missing: ")


def test_a_status_without_the_race_is_that_of_the_race(store: StudyStore):
    found = recorded_status(store.snapshot())
    assert (found.trials, found.best) == replayed_views(store.snapshot(), "none")


def test_a_status_that_replays_the_race_scores_no_trial_anew(
    store: StudyStore, monkeypatch: pytest.MonkeyPatch
):
    first = replayed_views(store.snapshot(), "paired")
    monkeypatch.setattr(derived_scores, "score_trial", lambda *_: pytest.fail("scored anew"))
    assert replayed_views(store.snapshot(), "paired") == first
