"""Imports on disks that are full, read-only or out of file descriptors: one sentence, and nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from packed import MASK, write_tree, zipped

from orchestrator.common.errors import BadData, MachineFault, UserError
from orchestrator.data.importing import disk_space as rooms
from orchestrator.data.importing import verify
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.sources import unpack as unpacking

NOISE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    files = {f"images/{n}.bmp": NOISE for n in range(20)} | {f"masks/{n}.bmp": MASK for n in range(20)}
    return write_tree(tmp_path / "source", files)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 kB; the source takes 90."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def left(home: Path) -> list[str]:
    return [path.name for path in (home / "datasets").iterdir()]


def command(home: Path, source: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    run = f"{before}{sys.executable} -m orchestrator data add X {source} --home {home}"
    return subprocess.run(["bash", "-c", run], capture_output=True, text=True)


@pytest.mark.parametrize("archive", [False, True])
def test_a_disk_that_is_too_small_is_said_in_bytes_with_its_path(small_disk, source, tmp_path, archive):
    path = zipped(source, tmp_path / "s.zip") if archive else source
    done = command(small_disk, path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "are missing" in done.stderr, done.stderr
    assert str(small_disk) in done.stderr
    assert left(small_disk) == []


def test_a_full_quota_that_shows_while_copying_leaves_nothing(small_disk, source, monkeypatch):
    free = type("Usage", (), {"free": 1 << 40})
    monkeypatch.setattr(rooms.shutil, "disk_usage", lambda _: free)
    with pytest.raises(
        MachineFault, match=r"No space left on device; the import needs [\d,]+ bytes, .* are free"
    ):
        add_dataset(small_disk, "X", source)
    assert left(small_disk) == []


def test_a_disk_that_takes_no_more_files_is_called_so(small_disk, source):
    subprocess.run(["mount", "-o", "remount,size=4m,nr_inodes=12", str(small_disk)], check=True)
    with pytest.raises(MachineFault, match="the disk's number of files, is used up"):
        add_dataset(small_disk, "X", source)
    assert left(small_disk) == []


def test_a_disk_that_cannot_be_written_to_is_called_so(small_disk, source):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = command(small_disk, source)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"{small_disk}/datasets: Read-only file system" in done.stderr


def test_a_limit_on_the_size_of_files_is_named(source, tmp_path):
    done = command(tmp_path / "home", source, "ulimit -f 1; ")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "File too large; raise the limit with `ulimit -f`" in done.stderr
    assert left(tmp_path / "home") == []


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_fault_of_the_machine_is_one_sentence_and_leaves_nothing(
    source, tmp_path, monkeypatch, number, form
):
    path = zipped(source, tmp_path / "s.zip") if form == "zip" else source
    monkeypatch.setattr(verify.shutil, "copyfileobj", failing(number))
    monkeypatch.setattr(unpacking, "_chunks", failing(number))
    with pytest.raises(MachineFault) as error:
        add_dataset(tmp_path / "home", "X", path)
    assert os.strerror(number) in str(error.value) and len(error.value.problems) == 1
    assert number not in (errno.ENOSPC, errno.EDQUOT) or "bytes" in str(error.value)
    assert str(tmp_path / "home") in error.value.where
    assert left(tmp_path / "home") == []


def test_a_file_that_cannot_be_opened_for_want_of_descriptors_is_not_called_damaged(
    source, tmp_path, monkeypatch
):
    monkeypatch.setattr("orchestrator.data.images.Image.open", failing(errno.EMFILE))
    with pytest.raises(MachineFault, match="Too many open files"):
        add_dataset(tmp_path / "home", "X", source)
    assert left(tmp_path / "home") == []


def test_after_room_is_made_the_same_command_imports(small_disk, source):
    assert command(small_disk, source).returncode == 2
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    assert len(add_dataset(small_disk, "X", source).cases) == 20


def test_a_refused_import_leaves_no_lock_and_one_that_waits_gets_its_turn(source, tmp_path):
    lock = tmp_path / "home/datasets/.X.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        waiting = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "orchestrator",
                "data",
                "add",
                "X",
                str(source),
                "--home",
                str(tmp_path / "home"),
            ]
        )
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=3)
        lock.unlink()
    assert waiting.wait(timeout=120) == 0
    (source / "masks/0.bmp").unlink()
    with pytest.raises(BadData, match="no mask has this stem"):
        add_dataset(tmp_path / "home", "Y", source)
    assert left(tmp_path / "home") == ["X"]


def test_a_name_that_no_file_system_takes_is_refused(source, tmp_path):
    with pytest.raises(UserError, match="at most 100"):
        add_dataset(tmp_path / "home", "x" * 300, source)
