"""Disks of the home run full or can only be read any more, and work again later."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from shell import wait_until

from chaos.faults import fault
from chaos.scene import FAULT, Scene

SIZE = "48m"  # of a disk


class Disk:
    """A disk of its own at a folder of the home."""

    def __init__(self, scene: Scene, folder: Path, size: str = SIZE) -> None:
        self.folder, self.ballast = folder, folder / ".ballast"
        folder.mkdir(parents=True, exist_ok=True)
        self._run("mount", "-t", "tmpfs", "-o", f"size={size}", "chaos", str(folder))
        scene.stack.callback(self._run, "umount", "-l", str(folder))

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

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.folder, self.image = folder, scene.folder / "disk.img"
        folder.mkdir(parents=True, exist_ok=True)
        self._run("truncate", "--size", SIZE, str(self.image))
        self._run("mkfs.ext4", "-q", str(self.image))
        self._mount()
        (folder / "lost+found").rmdir()
        scene.stack.callback(self._run, "umount", "-l", str(folder))

    def _mount(self) -> None:
        self._run("mount", "-o", "loop,errors=remount-ro", str(self.image), str(self.folder))

    def lock(self) -> None:
        os.sync()  # what a crash would lose is not the matter here
        self._run("mount", "-o", "remount,abort", str(self.folder))

    def unlock(self) -> None:
        words = ("umount", str(self.folder))
        wait_until(lambda: not subprocess.run(words, capture_output=True).returncode, lambda: "is busy", 60)
        self._mount()


def hurt(scene: Scene, disk: Disk, act: Callable[[], None], undo: Callable[[], None], text: str) -> None:
    """In mid-search; the search ends, or bears it. Then all is well again, and the same command is given."""
    scene.start()
    scene.until_train()
    scene.strike(f"{disk.folder.relative_to(scene.folder)} {text}", act)
    code = scene.end(FAULT, 0)
    assert code == 0 or str(scene.home) in scene.last_words(), scene.last_words()
    if code == 0:
        scene.say("it was borne")
    undo()
    scene.say("all is well again")
    scene.start()
    if code:
        scene.recover(since=scene.begun)
    scene.end(0)


PARTS: dict[str, tuple[str, Callable[[Scene], Path]]] = {
    "checkpoint": ("checkpoints", lambda scene: scene.study.ledger.running),
    "ledger": ("the ledger", lambda scene: scene.study.ledger.fits),
    "journal": ("the study (journal, status, ledger)", lambda scene: scene.study.folder),
    "home": ("the whole home", lambda scene: scene.home),
}


def disk_of(scene: Scene, part: str, kind: type[Disk] = Disk) -> Disk:
    if part in ("journal", "home"):
        scene.uri = f"sqlite:///{scene.folder}/mlflow.db"  # its own troubles are those of "mlflow"
    disk = kind(scene, PARTS[part][1](scene))
    if part in ("journal", "home"):
        scene.fill_home()
    return disk


def becoming_full(part: str) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        disk = disk_of(scene, part)
        hurt(scene, disk, disk.fill, disk.free, "is full")

    return act


def becoming_read_only(part: str) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        disk = disk_of(scene, part, BreakingDisk)
        hurt(scene, disk, disk.lock, disk.unlock, "is read-only")

    return act


for name, (what, _) in PARTS.items():
    fault(f"full-{name}", f"the disk of {what} is full, and has room again", "disk")(becoming_full(name))
    fault(f"ro-{name}", f"the disk of {what} is read-only, and is not again", "disk")(
        becoming_read_only(name)
    )


@fault("full-cache", "the disk of the cache is full when frames are decoded, and has room again", "disk")
def full_cache(scene: Scene) -> None:
    disk = Disk(scene, scene.home / "cache", "64k")
    scene.start()
    scene.end(FAULT)
    assert str(scene.home / "cache") in scene.last_words()
    subprocess.run(["mount", "-o", "remount,size=48m", str(disk.folder)], check=True)
    scene.say("there is room")
    scene.finish()


@fault("ro-cache", "the disk of the cache is read-only when frames are decoded, and is not again", "disk")
def read_only_cache(scene: Scene) -> None:
    disk = Disk(scene, scene.home / "cache")
    disk.lock()
    scene.start()
    scene.end(FAULT)
    assert str(scene.home / "cache") in scene.last_words()
    disk.unlock()
    scene.say("it can be written to")
    scene.finish()
