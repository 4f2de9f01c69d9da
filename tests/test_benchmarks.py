"""The collection of benchmarks: what its table says of rows, failures and two revisions."""

from __future__ import annotations

from pathlib import Path

from bench import BENCHMARKS, Benchmark, compared, is_commit, lines, run
from rows import Row, load_rows, save_rows

FOLDER = Path(__file__).parent / "benchmarks"
FASTER = Row("a step", "another program", "s", ours=(1.0, 2.0, 4.0), theirs=(3.0, 8.0, 8.0))
RATE = Row("images", "another loader", "images/s", ours=(200.0,), theirs=(100.0,), is_rate=True)


def test_a_ratio_is_how_many_times_as_good_ours_is_round_by_round():
    assert FASTER.ratios == [3.0, 4.0, 2.0]
    assert RATE.ratios == [2.0]


def test_the_table_has_the_median_ratio_with_its_spread():
    assert list(lines({"step": [FASTER]}))[-1].split(" | ")[2:5] == [
        "3 (2 to 4) times",
        "2 (1 to 4)",
        "8 (3 to 8)",
    ]


def test_rows_come_back_from_their_file(tmp_path):
    save_rows(tmp_path / "rows.json", [FASTER, RATE])
    assert load_rows(tmp_path / "rows.json") == [FASTER, RATE]


def test_a_program_that_fails_leaves_its_last_line_in_the_table(tmp_path):
    why = run(Benchmark("threshold_sweep", "--cases 0"), tmp_path, FOLDER.parents[1], minutes=1)
    assert isinstance(why, str) and "need to be 1 or more" in why
    assert "not measured" in list(lines({"score_speed": why}))[-1]


def test_a_revision_that_took_twice_as_long_is_half_as_good():
    slower = Row(FASTER.what, FASTER.against, "s", ours=(4.0,), theirs=(8.0,))
    assert compared([([FASTER], [slower])]).endswith("| 2 (1 to 4) | 4 | s | 2.00 (1.00 to 4.00) |")
    fewer = Row(RATE.what, RATE.against, "images/s", ours=(50.0,), theirs=(100.0,), is_rate=True)
    assert compared([([RATE], [fewer])]).endswith("| 200 | 50 | images/s | 4.00 |")


def test_a_figure_with_two_alternatives_is_compared_once():
    again = Row(FASTER.what, "a third program", "s", ours=FASTER.ours, theirs=(1.0,))
    assert len(compared([([FASTER, again], [FASTER])]).splitlines()) == 3


def test_a_revision_that_does_not_exist_is_refused_before_anything_runs():
    assert is_commit("HEAD") and not is_commit("no-such-commit") and not is_commit("")


def test_every_program_that_is_run_is_there_and_saves_its_rows():
    programs = [(FOLDER / f"{benchmark.name}.py").read_text() for benchmark in BENCHMARKS]
    assert all("add_rows_option(" in text and "save_rows(" in text for text in programs)
