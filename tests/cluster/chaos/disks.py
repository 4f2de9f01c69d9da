"""Disks of the home run full or can only be read any more, and work again later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shell import wait_until

from chaos.disturbed_study import FAULT, DisturbedStudy
from chaos.faults import fault

SIZE = "48m"  # of a disk


class Disk:
    """A disk of its own at a folder of the home."""

    def __init__(self, disturbed: DisturbedStudy, folder: Path, size: str = SIZE) -> None:
        self.folder, self.ballast = folder, folder / ".ballast"
        folder.mkdir(parents=True, exist_ok=True)
        self._run("mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(folder))
        disturbed.stack.callback(self._run, "umount", "-l", str(folder))

    def fill(self) -> None:
        """To the last page."""
        with self.ballast.open("wb", buffering=0) as file:
            for size in (2**20, 4096, 1):
                with suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    def free(self) -> None:
        self.ballast.unlink()

    def lock(self) -> None:
        """Let nobody write; as soon as nobody has a file open to write to it."""
        words = ("mount", "-o", "remount,ro", str(self.folder))
        wait_until(lambda: not subprocess.run(words, capture_output=True).returncode, lambda: "is busy", 60)

    def unlock(self) -> None:
        self._run("mount", "-o", "remount,rw", str(self.folder))

    def _run(self, *words: str) -> None:
        subprocess.run(words, check=True, capture_output=True)


class BreakingDisk(Disk):
    """An ext4 of its own, which the kernel makes read-only as it does after an error of the device.

    Whoever has files open can write no more either, where a disk of memory that is busy cannot be made read-only.
    """

    def __init__(self, disturbed: DisturbedStudy, folder: Path) -> None:
        self.folder, self.image = folder, disturbed.folder / "disk.img"
        folder.mkdir(parents=True, exist_ok=True)
        self._run("truncate", "--size", SIZE, str(self.image))
        self._run("mkfs.ext4", "-q", str(self.image))
        self._mount()
        (folder / "lost+found").rmdir()
        disturbed.stack.callback(self._run, "umount", "-l", str(folder))

    def _mount(self) -> None:
        self._run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.folder))

    def lock(self) -> None:
        os.sync()  # what a crash would lose is not the matter here
        self._run("mount", "-o", "remount,abort", str(self.folder))

    def unlock(self) -> None:
        words = ("umount", str(self.folder))
        wait_until(lambda: not subprocess.run(words, capture_output=True).returncode, lambda: "is busy", 60)
        self._mount()


def affected(
    disturbed: DisturbedStudy, disk: Disk, act: Callable[[], None], undo: Callable[[], None], text: str
) -> None:
    """In mid-search; the search ends, or bears it. Then all is well again, and the same command is given."""
    disturbed.start()
    disturbed.until_train()
    disturbed.disturb(f"{disk.folder.relative_to(disturbed.folder)} {text}", act)
    code = disturbed.end(FAULT, 0)
    assert code == 0 or str(disturbed.home) in disturbed.last_output(), disturbed.last_output()
    if code == 0:
        disturbed.say("it was borne")
    undo()
    disturbed.say("all is well again")
    disturbed.start()
    if code:
        disturbed.recover(since=disturbed.begun)
    disturbed.end(0)


PARTS: dict[str, tuple[str, Callable[[DisturbedStudy], Path]]] = {
    "checkpoint": ("checkpoints", lambda disturbed: disturbed.study.ledger.running),
    "ledger": ("the ledger", lambda disturbed: disturbed.study.ledger.fits),
    "journal": ("the study (journal, status, ledger)", lambda disturbed: disturbed.study.folder),
    "home": ("the whole home", lambda disturbed: disturbed.home),
}


def disk_of(disturbed: DisturbedStudy, part: str, kind: type[Disk] = Disk) -> Disk:
    if part in ("journal", "home"):
        disturbed.uri = f"sqlite:///{disturbed.folder}/mlflow.db"  # its own troubles are those of "mlflow"
    disk = kind(disturbed, PARTS[part][1](disturbed))
    if part in ("journal", "home"):
        disturbed.fill_home()
    return disk


def becoming_full(part: str) -> Callable[[DisturbedStudy], None]:
    def act(disturbed: DisturbedStudy) -> None:
        disk = disk_of(disturbed, part)
        affected(disturbed, disk, disk.fill, disk.free, "is full")

    return act


def becoming_read_only(part: str) -> Callable[[DisturbedStudy], None]:
    def act(disturbed: DisturbedStudy) -> None:
        disk = disk_of(disturbed, part, BreakingDisk)
        affected(disturbed, disk, disk.lock, disk.unlock, "is read-only")

    return act


for name, (what, _) in PARTS.items():
    fault(f"full-{name}", f"the disk of {what} is full, and has room again", "disk")(becoming_full(name))
    fault(f"ro-{name}", f"the disk of {what} is read-only, and is not again", "disk")(
        becoming_read_only(name)
    )


@fault("full-cache", "the disk of the cache is full when frames are decoded, and has room again", "disk")
def full_cache(disturbed: DisturbedStudy) -> None:
    disk = Disk(disturbed, disturbed.home / "cache", "64k")
    disturbed.start()
    disturbed.end(FAULT)
    assert str(disturbed.home / "cache") in disturbed.last_output()
    subprocess.run(["mount", "-o", "remount,size=48m", str(disk.folder)], check=True)
    disturbed.say("there is room")
    disturbed.finish()


@fault("ro-cache", "the disk of the cache is read-only when frames are decoded, and is not again", "disk")
def read_only_cache(disturbed: DisturbedStudy) -> None:
    disk = Disk(disturbed, disturbed.home / "cache")
    disk.lock()
    disturbed.start()
    disturbed.end(FAULT)
    assert str(disturbed.home / "cache") in disturbed.last_output()
    disk.unlock()
    disturbed.say("it can be written to")
    disturbed.finish()
