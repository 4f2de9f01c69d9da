"""How a study looks on a terminal, in a log file and to `orchestrator status`."""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import replace

import pytest
from formula import formula_study
from rich.console import Console
from visits import DiskStudy

from orchestrator.cli import main
from orchestrator.scoring.formatting import duration
from orchestrator.search.records import status as status_module
from orchestrator.search.records.partial_score import PartialScore
from orchestrator.search.records.status import (
    Best,
    FoldView,
    LaneCount,
    Left,
    Named,
    Status,
    TrialView,
    write_status,
)
from orchestrator.search.store.study_store import StudyStore
from orchestrator.terminal.live import OVER, WORDS, picture, progress_line, study_view

DONE, NONE = FoldView("done", dice=0.8), FoldView()
IN_FLIGHT = FoldView("running", 12, 60, val_dice=0.713)


def trial(number: int, state: str, dice: float | None, *folds: FoldView) -> TrialView:
    return TrialView(number, state, dice, folds, {"learning_rate": 1.234e-3}, None)  # type: ignore[arg-type]


STATUS = Status(
    "polyps",
    "searching",
    "paired",
    "40 trials",
    started=0.0,
    heartbeat=7300.0,
    pid=7,
    host="here",
    trials=(
        trial(3, "complete", 0.8123, DONE, DONE, DONE),
        replace(
            trial(5, "running", None, DONE, IN_FLIGHT, FoldView("queued")), partial=PartialScore(1, 3, 0.8)
        ),
        replace(trial(4, "waiting", None, DONE, NONE, NONE), partial=PartialScore(1, 3, 0.7)),
        replace(trial(1, "stopped", None, DONE, NONE, NONE), partial=PartialScore(1, 3, 0.65), estimate=0.6),
    ),
    best=Best(3, 0.8123, (0.79, 0.83), 3, 0.8049),
    lanes=LaneCount(4, 4, 3, 2),
    fits_done=6,
    epochs_done=312,
    gpu_hours=1.5,
    gpus_per_lane=1.0,
    epochs_per_second=0.5,
    images_per_second=123.4,
    left=Left(5400.0, 20.0, "20 fits: 10 new trials x 1.5 fits, 2.0 in flight, 3 for the finalists"),
)


def terminal(width: int = 120, height: int = 40, encoding: str = "utf-8") -> Console:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    return Console(file=file, force_terminal=True, width=width, height=height, color_system=None)


def drawn(console: Console, status: Status = STATUS) -> list[str]:
    with console.capture() as capture:
        console.print(picture(status, console, console.height - 8))
    return capture.get().splitlines()


def test_the_picture_shows_trials_by_rank_with_their_folds():
    lines = drawn(terminal())
    assert lines[0].startswith("polyps: searching  2 h 01 min")
    assert [line.split()[:3] for line in lines[2:6]] == [
        ["3", "81.23", "●●●"],
        ["5", "●◐○", "running"],
        ["4", "●··", "waiting"],
        ["1", "●××", "stopped"],
    ]
    assert "stopped 65.00 on 1/3" in lines[5] and "60.00" not in "".join(lines)
    assert "running 12/60 val 71.3" in lines[3] and "learning_rate 0.00123" in lines[3]
    assert lines[6] == "folds: ● done  ◐ in training  ○ next  × stopped  · not yet"
    assert lines[7].startswith(
        "best trial 3: dice 81.23 over 3 folds, cross-fitted 80.49 (95 % 79.00 to 83.00)"
    )
    assert "3 of 4 lanes busy, 2 fits waiting, 0.5 epochs/s, 123 images/s" in lines[8]
    assert lines[9].startswith("about 1 h 30 min left (20 fits:")


@pytest.mark.parametrize("width", [120, 40, 12])
def test_a_terminal_without_unicode_gets_plain_text(width):
    text = "\n".join(drawn(terminal(width=width, encoding="ascii")))
    assert text.isascii() and (width < 40 or "#>o" in text)
    assert "…" in "\n".join(drawn(terminal(width=40)))


def test_a_score_by_another_objective_is_not_called_dice():
    of_worst = replace(
        STATUS, objective="worst-fold dice", trials=(replace(STATUS.trials[0], objective=0.7),)
    )
    lines = drawn(terminal(), replace(of_worst, best=Best(3, 0.7, None, 3)))
    assert lines[1].split()[:4] == ["trial", "worst-fold", "dice", "dice"]
    assert lines[2].split()[:3] == ["3", "70.00", "81.23"]
    assert lines[4].startswith("best trial 3: worst-fold dice 70.00 over")


def test_a_study_that_is_over_names_its_champion_by_both_scorings():
    over = replace(STATUS, state="ended", champion=Named(1, 0.8, 0.79))
    assert "champion trial 1: dice 80.00 in the search, 79.00 re-evaluated" in progress_line(over)
    assert "80.00 in the search;" in progress_line(replace(over, champion=Named(1, 0.8)))


def test_a_small_terminal_shows_the_best_and_those_in_flight():
    many = replace(STATUS, trials=tuple(trial(n, "stopped", 0.9, DONE) for n in range(6, 90)) + STATUS.trials)
    lines = drawn(terminal(width=80, height=20), many)
    assert len(lines) < 20 and max(map(len, lines)) <= 80
    assert any("●◐○" in line and "running" in line for line in lines)
    assert "and 76 more" in [line.strip() for line in lines]


def test_the_line_of_a_log_tells_the_same():
    line = progress_line(STATUS)
    assert line.startswith("4 trials (1 running, 1 complete, 1 waiting, 1 stopped); 6 fits, 312 epochs")
    assert "1.5 GPU-hours" in line and "0.1 lane-hours" in progress_line(
        replace(STATUS, gpu_hours=0.1, gpus_per_lane=0.0)
    )
    assert (
        "best trial 3: dice 81.23" in line and "about 1 h 30 min left" in line and "until 40 trials" in line
    )


def test_a_log_says_at_once_that_others_hold_the_cluster_and_does_not_repeat_it(capsys):
    crowded = replace(STATUS, lanes=LaneCount(4, 0, 0, 5, crowded=True))
    with study_view(every_s=3600, console=Console(width=400)) as (_, show):
        for status in (STATUS, crowded, crowded, STATUS, crowded):
            show(status)
    said = capsys.readouterr().out
    assert said.count("no lane could start: other jobs hold the resources of the cluster; 5 fits to do") == 2
    assert said.count("\n") == 2


def test_every_state_has_words_and_an_end_has_no_time_left():
    assert WORDS.keys() == set(status_module.State.__args__) and set(OVER) == set(status_module.OVER)
    for state in OVER:
        assert "left" not in drawn(terminal(), replace(STATUS, state=state, end="40 of 40"))[-1]


def test_time_is_reported_shortly():
    assert [duration(s) for s in (0.4, 59, 60, 3599, 3600, 90_061)] == [
        "0 s",
        "59 s",
        "1 min",
        "59 min",
        "1 h 00 min",
        "25 h 01 min",
    ]


def test_in_a_log_file_there_are_lines_and_now_and_then_one_of_progress():
    console = Console(file=io.StringIO(), width=140, soft_wrap=True)
    with study_view(every_s=0.0, console=console) as (say, show):
        say("trial 0 fold 1  dice 0.5")
        show(STATUS)
    with study_view(every_s=1000.0, console=console) as (_, show):
        show(STATUS)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "00:00  trial 0 fold 1  dice 0.5"
    assert len(lines) == 2 and lines[1].startswith("00:00  4 trials")


def test_a_log_that_is_silent_is_told_how_far_the_search_is(monkeypatch: pytest.MonkeyPatch):
    console, now = Console(file=io.StringIO(), width=400), [0.0]
    monkeypatch.setattr("orchestrator.terminal.live.time.monotonic", lambda: now[0])
    with study_view(console=console) as (say, show):
        for now[0] in range(1, 121):
            show(replace(STATUS, state="starting"))
            if now[0] == 40:
                say("trial 0 fold 1")
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line[:5] for line in lines] == ["00:40", "01:25"] and "starting lanes; 4 trials" in lines[1]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_numbers_are_whole_on_a_narrow_terminal(width: int):
    long = replace(STATUS, trials=tuple(replace(one, params={"p" * 60: 1}) for one in STATUS.trials))
    assert any("81.23" in line for line in drawn(terminal(width=width), long)[1:5])


def test_on_a_terminal_lines_stand_above_the_picture():
    console = terminal()
    with study_view(console=console) as (say, show):
        show(STATUS)
        say("trial 0 fold 1  dice 0.5")
    console.file.flush()
    text = console.file.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "●◐○" in text and "trial 0 fold 1  dice 0.5" in text


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with a study of which three visits are on record."""
    home = tmp_path_factory.mktemp("home")
    study = StudyStore(home, "raced")
    disk = DiskStudy(home, study.folder, num_trials=8, race="paired")
    study.begin(disk.study.space, disk.study.plan)
    disk.run(3)
    formula_study(home, num_trials=1).store.begin(disk.study.space, disk.study.plan)
    return home


@pytest.fixture
def run(home, monkeypatch, capsys):
    def run(*words: str) -> str:
        monkeypatch.setenv("ORCHESTRATOR_HOME", str(home))
        monkeypatch.setattr(sys, "argv", ["orchestrator", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        done = capsys.readouterr()
        assert ended.value.code in (0, None), done.err
        return done.out

    return run


def test_status_of_a_running_study_is_what_it_last_said(run, home):
    file = StudyStore(home, "raced").status_file
    write_status(file, replace(STATUS, heartbeat=time.time()))
    try:
        assert "polyps: searching" in run("status", "raced")
        told = json.loads(run("status", "raced", "--json"))
        assert (told["state"], told["lanes"]["busy"], len(told["trials"])) == ("searching", 3, 4)
    finally:
        file.unlink()


def test_status_of_a_killed_study_comes_from_ledger_and_journal(run, home, monkeypatch):
    monkeypatch.setattr("orchestrator.search.records.status.LOOK_AGAIN_S", 0.0)
    file = StudyStore(home, "raced").status_file
    write_status(file, replace(STATUS, study="raced", heartbeat=time.time() - 600))
    try:
        text = run("status", "raced", "--watch")
        told = json.loads(run("status", "raced", "--watch", "--json"))
    finally:
        file.unlink()
    assert "raced: killed, or its machine is gone; the same command continues from here" in text
    assert "process 7 on here, last heard from at" in text
    assert told["state"] == "killed" and told["fits_done"] == 7
    assert [view["number"] for view in told["trials"] if view["state"] == "complete"] == [0]


def test_status_of_a_study_in_which_nothing_has_happened(run):
    assert "no finished fold yet" in run("status", "formula")
