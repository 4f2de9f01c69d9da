from __future__ import annotations

from dataclasses import replace

from formula import carry_out, formula_study
from rich.console import Console

from orchestrator.results.views.short_leaderboard import short_leaderboard
from orchestrator.results.views.study_scores import board
from orchestrator.results.views.tables import LeaderboardRow
from orchestrator.search.progress.recorded import recorded_status
from orchestrator.search.records.partial_score import PartialScore

SEARCHED = {"learning_rate": 3.12e-4, "network": "unet", "loss": "bce_dice", "weight_decay": 1e-4}
FIRST = LeaderboardRow(0, "complete", SEARCHED, 5, 5, 3.5, {"dice": 0.7, "iou": 0.6}, 0.6912, (0.6, 0.8), 0.5)
CHAMPION = replace(
    FIRST,
    number=1,
    searched=SEARCHED | {"learning_rate": 1e-3},
    scores={"dice": 0.71, "iou": 0.6},
    outside={"test": 0.6, "PolypGen": 0.5},
)
STOPPED = LeaderboardRow(
    2,
    "stopped",
    SEARCHED | {"loss": "dice"},
    1,
    5,
    0.5,
    error="worse",
    partial=PartialScore(1, 5, 0.2822, -0.041, 0),
)


def printed(*rows: LeaderboardRow, width: int = 80) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(short_leaderboard(rows, "study", width=width))
    return captured.get().splitlines()


def test_a_trial_takes_two_lines_of_80_columns_at_most():
    searched = {f"parameter_{number}": f"value-{number}" * 9 for number in range(8)}
    rows = [replace(FIRST, number=number, searched=searched | {"seed": number}) for number in range(9)]
    some, more = printed(*rows[:4]), printed(*rows)
    assert max(map(len, more)) <= 80 and len(more) - len(some) <= 2 * 5


def test_there_is_one_dice_column_and_the_best_comes_first():
    lines = printed(FIRST, CHAMPION)
    (head,) = (line for line in lines if "configuration" in line)
    assert head.split() == ["trial", "dice", "folds", "configuration"]
    assert [line.split()[:4] for line in lines if "5/5" in line] == [
        ["1", "1", "71.00", "5/5"],
        ["2", "0", "70.00", "5/5"],
    ]


def test_what_all_trials_share_is_said_once_above_the_table():
    text = "\n".join(printed(FIRST, CHAMPION))
    assert "in all trials: network unet  loss bce_dice  weight_decay 0.0001" in text
    assert text.count("weight_decay") == 1 and "learning_rate 0.001" in text


def test_a_stopped_trial_has_no_dice_but_what_its_folds_have_shown():
    lines = printed(FIRST, STOPPED)
    (row,) = (number for number, line in enumerate(lines) if line.split()[:1] == ["2"])
    assert lines[row].split()[1:3] == ["–", "1/5"]
    assert "stopped: 28.22 on 1 of 5 folds" in lines[row + 1]


def test_finalists_are_ranked_by_a_score_that_has_a_column():
    finalists = replace(FIRST, fresh=0.73, both=0.72), replace(CHAMPION, fresh=0.70, both=0.705)
    lines = printed(*finalists)
    assert next(line.split()[:4] for line in lines if "5/5" in line) == ["1", "0", "70.00", "72.00"]
    assert "Ranks go by the score with re-evaluation, then by dice." in " ".join(lines)


def test_scores_outside_the_search_are_those_of_the_champion():
    text = " ".join(printed(FIRST, CHAMPION))
    assert (
        "trial 1 is the champion; its dice on images outside the search: hold-out 60.00, PolypGen 50.00"
        in " ".join(text.split())
    )


def test_status_and_leaderboard_agree_on_every_trial(tmp_path):
    study = formula_study(tmp_path, num_trials=3)
    carry_out(study, [1e-4, 1e-3, 1e-2])
    snapshot = study.store.snapshot()
    rows = {row.number: (row.scores["dice"], row.folds_done, row.state) for row in board(snapshot)}
    views = {view.number: (view.dice, view.num_done, view.state) for view in recorded_status(snapshot).trials}
    assert rows == views and len(rows) == 3
    text = " ".join(printed(*board(snapshot)))
    assert all(f"{100 * dice:.2f}" in text for dice, *_ in views.values())
