"""A table that is killed: what was finished is not trained again, and the same command fills every row."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from shell import Shell, wait_until
from tiny_protocol import TINY

from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

pytestmark = pytest.mark.slow


def test_a_table_goes_on_after_a_kill_and_trains_no_finished_fit_again(tmp_path: Path):
    home = tmp_path / "home"
    for seed, name in enumerate(("kvasir", "cvc-612")):
        draw_dataset(tmp_path / name, num_cases=40, size=48, seed=seed)
        add_dataset(home, name, tmp_path / name, allow_empty=True)
    (tmp_path / "tiny.toml").write_text(TINY)
    shell = Shell(home, Path(tempfile.mkdtemp(prefix="ray-")))  # short enough for Ray's sockets
    out, fits = tmp_path / "RESULTS.md", home / "reproduced" / "fits"
    words = ("reproduce", tmp_path / "tiny.toml", "I", "--address", "local", "--device", "cpu", "--out", out)
    try:
        with shell.running(*words, "--lanes", "1", "--seeds", "3") as (process, _):
            wait_until(
                lambda: len(records(fits)) > 0 or process.poll() is not None, lambda: "no fit was finished"
            )
            for pid in shell.processes():
                os.kill(pid, signal.SIGKILL)
            process.wait(60)
        before = records(fits)
        assert 0 < len(before) < 6 and not out.exists()
        shell.run(*words, "--seeds", "3")
    finally:
        shell.close()
        shutil.rmtree(shell.ray, ignore_errors=True)
    after = records(fits)
    assert len(after) == 6 and after.items() >= before.items()
    (table,) = json.loads(out.with_suffix(".json").read_text()).values()
    rows = [row for one in table["sets"][:2] for row in one["rows"]]
    assert all(cell["measured"] is not None for row in rows for cell in row["cells"])
    assert "| narrow | published | 0.9000 |" in out.read_text()


def records(fits: Path) -> dict[str, int]:
    """Fit -> when its record was written."""
    return {file.parent.name: file.stat().st_mtime_ns for file in fits.glob("[!.]*/record.json")}
