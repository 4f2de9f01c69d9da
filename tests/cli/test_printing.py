"""Progress in a log file: nothing about what is over within a minute, then a line a minute with what is left."""

from __future__ import annotations

import pytest

from orchestrator.cli.console import printing as screen


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


def test_a_command_that_is_quick_tells_a_log_file_nothing(capsys: pytest.CaptureFixture[str]):
    with screen.bar("frames") as on_progress:
        on_progress(1, 2)
        on_progress(2, 2)
    assert capsys.readouterr().err == ""
