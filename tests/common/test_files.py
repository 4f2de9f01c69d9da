"""Writing on a disk that is full: /dev/full takes nothing, and a limit on the size of files comes in the middle."""

from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.common.faults import machine_fault
from orchestrator.common.files import appearing, append, hidden_folder_for, size_text, write_atomically
from orchestrator.search.store.optuna_storage import open_journal
from orchestrator.training.checkpoint import save_checkpoint

BIG = bytes(1 << 20)


@contextmanager
def limited(num_bytes: int) -> Iterator[None]:
    """No file grows beyond so many bytes: the rest of a write fails with EFBIG, as it would with ENOSPC."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def test_a_file_that_cannot_be_written_whole_leaves_the_old_one_and_nothing_else(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    with limited(1000), pytest.raises(OSError) as failure:
        write_atomically(tmp_path / "a", BIG)
    assert (failure.value.errno, failure.value.filename) == (errno.EFBIG, str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == b"old" and files_in(tmp_path) == ["a"]


def test_a_folder_that_cannot_be_filled_does_not_appear(tmp_path):
    with limited(1000), pytest.raises(OSError), appearing(tmp_path / "record") as folder:
        (folder / "small").write_bytes(b"1")
        (folder / "big").write_bytes(BIG)
    assert files_in(tmp_path) == []


def test_a_line_is_added_whole_or_not_at_all(tmp_path):
    append(tmp_path / "log", b"one\n")
    with limited(1000), pytest.raises(OSError, match="log"):
        append(tmp_path / "log", BIG)
    append(tmp_path / "log", b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


def test_a_checkpoint_that_does_not_fit_names_its_file_and_keeps_the_last_one(tmp_path):
    state = {"network": {"w": torch.zeros(100)}, "best_epoch": 0}
    save_checkpoint(tmp_path, "fit", state, None)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with limited(10_000), pytest.raises((OSError, RuntimeError)) as failure:
        save_checkpoint(tmp_path, "fit", state | {"network": {"w": torch.zeros(100_000)}}, None)
    hidden = failure.value if isinstance(failure.value, OSError) else failure.value.__context__
    assert hidden.filename == str(tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").read_bytes() == before and files_in(tmp_path) == ["checkpoint.pt"]


def test_a_journal_reads_after_a_full_disk(tmp_path):
    storage = open_journal(tmp_path / "journal")
    study = storage.create_new_study([1], "s")
    with limited((tmp_path / "journal").stat().st_size + 20), pytest.raises(OSError, match="journal"):
        storage.set_study_user_attr(study, "much", "x" * 100)
    again = open_journal(tmp_path / "journal")
    again.set_study_user_attr(again.get_study_id_from_name("s"), "a", 1)
    assert open_journal(tmp_path / "journal").get_study_user_attrs(study) == {"a": 1}


def test_a_full_device_is_a_fault_of_the_machine_for_whatever_writes():
    def savez() -> None:
        with Path("/dev/full").open("wb") as file:
            np.savez(file, a=np.zeros(100_000))

    def save() -> None:
        with Path("/dev/full").open("wb") as file:
            torch.save({"a": torch.zeros(100_000)}, file)

    for write in (savez, save, lambda: torch.save({"a": torch.zeros(100_000)}, "/dev/full")):
        with pytest.raises((OSError, RuntimeError)) as failure:
            write()
        assert "free space" in str(machine_fault(failure.value))


def test_sizes_are_in_the_unit_that_shows_them():
    assert [size_text(n) for n in (12, 98_304, 4.2e9)] == ["12 bytes", "98.3 kB", "4.2 GB"]


def test_what_a_killed_process_has_left_is_swept_and_what_another_one_fills_is_not(tmp_path):
    folder = tmp_path / "model"
    for name in (".model.12345678.partial", ".other.12345678.partial"):
        (tmp_path / name).mkdir()
    with hidden_folder_for(folder) as first, hidden_folder_for(folder) as second:
        assert {path.name for path in tmp_path.iterdir()} == {
            first.name,
            second.name,
            ".other.12345678.partial",
        }
        first.rename(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".other.12345678.partial"}
