"""Progress in a log file: nothing about what is over within a minute, then a line a minute with what is left."""

from __future__ import annotations

import sys
from io import BytesIO, TextIOWrapper

import pytest
from rich.console import Console
from rich.table import Table

from orchestrator.cli import main
from orchestrator.terminal import printing as screen


def test_a_log_file_is_told_what_is_left_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    now = [1000.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    with screen.bar("frames") as on_progress:
        for done in range(1, 1001):
            now[0] += 0.25
            on_progress(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 24
    assert lines[0] == "frames: 40 of 1,000, about 4 min left"
    assert lines[-1] == "frames: 960 of 1,000, about 10 s left"


def test_the_start_of_processes_is_not_taken_for_the_pace_of_the_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    now = [1000.0]
    monkeypatch.setattr(screen.time, "monotonic", lambda: now[0])
    with screen.bar("frames") as on_progress:
        now[0] += 12
        for done in range(1, 51):
            on_progress(done, 60)
            now[0] += 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["frames: 1 of 60", "frames: 11 of 60, about 49 s left"]


def test_a_command_that_is_quick_tells_a_log_file_nothing(capsys: pytest.CaptureFixture[str]):
    with screen.bar("frames") as on_progress:
        on_progress(1, 2)
        on_progress(2, 2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("command", ["-h", "search -h", "models", "models --json", "space check smoke"])
def test_a_terminal_that_is_not_utf_8_is_written_to_all_the_same(
    encoding: str, command: str, monkeypatch: pytest.MonkeyPatch
):
    streams = [TextIOWrapper(BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    monkeypatch.setattr(sys, "argv", ["orchestrator", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and b"Traceback" not in streams[1].buffer.getvalue()


def test_signs_that_an_encoding_lacks_are_spelled_and_others_kept():
    stream = TextIOWrapper(BytesIO(), encoding="latin-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        screen.encodable()
    stream.write("– … ● ± × 中")
    stream.flush()
    assert stream.buffer.getvalue().decode("latin-1") == "- . # ± × \\u4e2d"


def test_a_table_is_wider_than_a_narrow_terminal_rather_than_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(screen, "out", Console(width=20))
    table = Table()
    for _ in range(5):
        table.add_column("dice", min_width=6, overflow="fold")
    table.add_row(*("100.00" for _ in range(5)))
    screen.show_table(table)
    assert capsys.readouterr().out.count("100.00") == 5
