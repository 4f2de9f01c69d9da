from __future__ import annotations

import json
from dataclasses import replace

from rich.console import Console, Group
from rich.table import Table

from orchestrator.results.views.score_lines import ScoreLine
from orchestrator.results.views.tables import (
    LeaderboardRow,
    comparison_table,
    leaderboard,
    leaderboard_dicts,
    ranked_rows,
    score_dicts,
    score_table,
    versus_table,
)
from orchestrator.search.records.partial_score import PartialScore
from orchestrator.search.significance import PairedTest
from orchestrator.selection.comparison import Comparison

ROWS = [
    LeaderboardRow(
        0,
        "complete",
        {"learning_rate": 1e-3},
        5,
        5,
        3.5,
        {"dice": 0.81, "iou": 0.72},
        0.8049,
        (0.79, 0.83),
        0.5,
    ),
    LeaderboardRow(1, "failed", {"learning_rate": 0.9}, 1, 5, 0.2, error="loss was nan [epoch 2]"),
    LeaderboardRow(
        2,
        "complete",
        {"learning_rate": 3.12e-4, "network": "unet"},
        5,
        5,
        4.0,
        {"dice": 0.85, "iou": 0.71},
        0.8449,
        (float("-inf"), float("inf")),
        131 / 256,
        {"test": 0.84, "CVC-ClinicDB": 0.6},
    ),
    LeaderboardRow(
        3, "complete", {"learning_rate": 1e-2}, 5, 5, 4.0, {"dice": 0.81, "iou": 0.70}, threshold=0.4
    ),
    LeaderboardRow(4, "open", {"learning_rate": 2e-2}, 2, 5, 1.0),
]


def cells(shown: Group | Table) -> list[list[str]]:
    """The header and the rows of a table, or of the first of several."""
    table = shown.renderables[0] if isinstance(shown, Group) else shown
    assert isinstance(table, Table)
    heads = [str(column.header) for column in table.columns]
    return [
        heads,
        *(
            [str(cell) for cell in row]
            for row in zip(*(column.cells for column in table.columns), strict=True)
        ),
    ]


def test_the_best_comes_first_equals_by_age_and_trials_without_a_score_last():
    assert [(rank, row.number) for rank, row in ranked_rows(ROWS)] == [
        (1, 2),
        (2, 0),
        (3, 3),
        (None, 1),
        (None, 4),
    ]


def test_another_metric_ranks_otherwise():
    assert ranked_rows(ROWS, "iou")[0][1].number == 0


def test_test_and_unseen_scores_stand_beside_those_of_the_folds():
    head, first, *_ = cells(leaderboard(ROWS, "study"))
    assert dict(zip(head, first, strict=True)) == {
        "": "1",
        "trial": "2",
        "dice": "85.00",
        "iou": "71.00",
        "cross-fitted dice, 95 %": "84.5 (unknown)",
        "at": "0.512",
        "test": "84.00",
        "CVC-ClinicDB": "60.00",
        "folds": "5/5",
        "min": "4.0",
        "configuration": "learning_rate 0.000312  network unet",
    }


def test_a_failed_trial_shows_its_error_and_dashes():
    failed = cells(leaderboard(ROWS, "study"))[4]
    assert failed[-1] == "failed: loss was nan [epoch 2]  learning_rate 0.9" and failed[2] == "–"


def test_numbers_are_whole_on_a_narrow_terminal():
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(leaderboard(ROWS, "study"))
    words = captured.get().split()
    for word in (
        "85.00",
        "72.00",
        "80.5",
        "(79.0-83.0)",
        "(unknown)",
        "0.512",
        "84.00",
        "60.00",
        "5/5",
        "4.0",
    ):
        assert word in words


MANY = {f"parameter_{number}": 1.5 for number in range(8)}
FINALISTS = [
    LeaderboardRow(
        number,
        "complete",
        MANY,
        5,
        5,
        3.5,
        {"dice": 0.7, "iou": 0.6},
        0.69,
        (0.6, 0.8),
        0.5,
        {"test": 0.6} if number == 1 else {},
        fresh=0.71,
        both=0.69,
    )
    for number in range(5)
]
STOPPED = LeaderboardRow(
    5, "stopped", MANY, 1, 5, 0.5, error="worse, p = 0.01", partial=PartialScore(1, 5, 0.2822, -0.041, 0)
)


def printed(width: int, *rows: LeaderboardRow) -> list[str]:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(leaderboard(rows or [*FINALISTS, STOPPED], "study", width=width))
    return captured.get().splitlines()


def test_on_80_columns_the_configurations_have_a_table_of_their_own_and_a_trial_takes_few_lines():
    lines = printed(80)
    assert len(lines) < 60 and max(map(len, lines)) <= 80
    assert any(line.split()[:2] == ["1", "0"] and "(60.0-80.0)" in line for line in lines)
    assert "configuration" in " ".join(printed(250)[:4]), "beside the numbers, where there is room"
    assert len(printed(140)) < 36


def test_on_80_columns_why_a_trial_was_stopped_has_the_whole_width():
    outside = {"test": 0.6, "CVC-ClinicDB": 0.5, "ETIS-LaribPolypDB": 0.5, "PolypGen": 0.5}
    lines = printed(80, replace(FINALISTS[0], outside=outside), STOPPED)
    below = next(place for place, line in enumerate(lines) if line.split() == ["trial", "configuration"])
    why = "stopped after 1 of 5 folds (dice 28.22 there):"
    assert any(why in line for line in lines[below:]) and len(lines) < 40


def test_on_80_columns_no_number_of_a_comparison_is_cut():
    places = ("validation", "CVC-ClinicDB")
    rows = [
        Comparison(
            place,
            "lite:5",
            "unet:2",
            425,
            407,
            0.8259,
            0.5433,
            -0.2826,
            (-0.3864, -0.1789),
            2.9e-59,
            0.00019,
            0.00057,
            0.9917,
        )
        for place in places
    ]
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(comparison_table(rows, "differences", width=80))
    words = captured.get().split()
    for word in (
        "425",
        "407",
        "54.33",
        "82.59",
        "-28.26",
        "-38.64",
        "-17.89",
        "2.9e-59",
        "0.00019",
        "0.00057",
        "99.17",
    ):
        assert word in words
    assert captured.get().count("unet:2") == captured.get().count("lite:5") == 1, "in the title alone"


def test_a_stopped_trial_is_shown_with_what_it_has_shown_and_has_no_score():
    shown = "stopped after 1 of 5 folds (dice 28.22 there): worse, p = 0.01"
    assert shown in " ".join(" ".join(printed(80)).split())
    *_, last = leaderboard_dicts([*FINALISTS, STOPPED])
    assert last["scores"] == {} and last["partial"]["dice_on_seen_folds"] == 0.2822


def test_below_the_leaderboard_stands_what_its_columns_are():
    text = " ".join(" ".join(printed(140)).split())
    assert "search and re-evaluation: all fits of both, at one threshold" in text
    assert "may be below either" in text and "Ranks go by search and re-evaluation, then by dice." in text
    alone = Console(width=140, color_system=None)
    with alone.capture() as captured:
        alone.print(leaderboard(ROWS, "study"))
    assert "re-evaluation" not in captured.get() and "Ranks go by dice." in captured.get()


def test_the_leaderboard_is_json_without_infinities():
    text = json.dumps(leaderboard_dicts(ROWS), allow_nan=False)
    first = json.loads(text)[0]
    assert (first["rank"], first["trial"], first["interval"], first["outside"]["test"]) == (1, 2, None, 0.84)


def test_the_winner_table_shows_every_line_in_order():
    shown = [
        ScoreLine("fold 0", 20, {"dice": 0.8}),
        ScoreLine("all folds", 100, {"dice": 0.81, "f2": 0.7}, (0.7, 0.9)),
    ]
    _, fold, total = cells(score_table(shown, "trial 2"))
    assert fold == ["fold 0", "20", "80.00", "–", "–", "–", "–", "–", "–"]
    assert total == ["all folds", "100", "81.00", "–", "–", "–", "70.00", "–", "70.0-90.0"]
    assert json.loads(json.dumps(score_dicts(shown)))[1]["interval"] == [0.7, 0.9]


def test_an_empty_study_is_an_empty_table():
    assert len(cells(leaderboard([], "study"))) == 1


def test_the_lead_is_the_difference_of_two_numbers_of_the_table():
    row = PairedTest(2, 3, 0.0364, (-0.02, 0.1094), 0.03, 0.29, 0.37, 0.75)
    table = versus_table([row], 2, {2: 0.5522, 3: 0.5158}, "dice", num_compared=4)
    assert cells(table)[1][:3] == ["3", "51.58", "+3.64"]
    assert "dice of cross-validation is 55.22" in str(table.title)
    assert "p corrected for the 4 with all folds" in str(table.title)
