"""What a second search on a machine takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ray_cluster.claims import Claim, claimed, share

ALL = frozenset(range(8))


def claim(cpus: int, ids: frozenset[int] = ALL, gpus: tuple[str, ...] = ()) -> Claim:
    return Claim(1, cpus, tuple(ids), gpus)


@pytest.mark.parametrize(
    ("others", "cpus", "ids", "left"),
    [
        ([], 8, ALL, 8),
        ([claim(3)], 8, ALL, 5),
        ([claim(3)], 4, ALL, 4),  # a quota of four
        ([claim(4, frozenset(range(4)))], 4, frozenset(range(4, 8)), 4),  # bound to other cores
        ([claim(8)], 8, ALL, 4),  # nothing is left: even shares
        ([claim(8), claim(4)], 8, ALL, 2),
        ([claim(1, frozenset({0}))], 1, frozenset({0}), 1),
    ],
)
def test_a_search_takes_what_others_leave_and_shares_evenly_where_that_is_nothing(others, cpus, ids, left):
    assert share(others, cpus, ids, ()).cpus == left


def test_gpus_of_others_are_left_alone_unless_they_have_all():
    gpus = ("0", "1", "2")
    assert share([claim(1, gpus=("0",))], 8, ALL, gpus).gpus == ("1", "2")
    assert share([claim(1, gpus=("0",))], 8, ALL, gpus, num_gpus=1).gpus == ("1",)
    assert share([claim(1, gpus=gpus)], 8, ALL, gpus).gpus == gpus


def test_a_claim_counts_as_long_as_its_process_lives_and_not_longer(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "claims"
    monkeypatch.setenv("ORCHESTRATOR_CLAIMS", str(folder))
    script = "from orchestrator.ray_cluster.claims import claimed\n"
    script += "with claimed(('7',)) as c: print(c.cpus, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        cpus = int(first.stdout.readline())
        with claimed(("6", "7")) as second:
            assert second.gpus == ("6",) and second.cpus == max(1, cpus // 2)
        assert f"other searches run on this machine (process {first.pid})" in caplog.text
        first.kill()
    with claimed(("6", "7")) as third:
        assert third.gpus == ("6", "7") and third.cpus == cpus
    assert list(folder.glob("*.json")) == []


def test_a_folder_of_somebody_else_is_not_used_and_that_is_said(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "open to all"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("ORCHESTRATOR_CLAIMS", str(folder))
    with claimed() as mine:
        assert mine.cpus >= 1 and not [*Path(folder).iterdir()]
    assert "other searches on this machine are not counted" in caplog.text


def test_a_claim_that_does_not_read_is_no_claim(tmp_path, monkeypatch):
    folder = tmp_path / "claims"
    folder.mkdir(mode=0o700)
    (folder / "1.json").write_text(json.dumps({"pid": 1}))
    monkeypatch.setenv("ORCHESTRATOR_CLAIMS", str(folder))
    with claimed() as mine:
        assert mine.cpus >= 1
