"""The folder of a study: paths of its files, the lock of the process that writes, repair after kill -9."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.common.errors import BadStudy
from orchestrator.common.network_files import look_in
from orchestrator.search.goals.network_sizes import NetworkSizes
from orchestrator.search.records.ledger import Ledger

LONGEST_NAME = 240  # file systems end at 255, and a nested study adds to it
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def hold(folder: Path, where: str, why: str) -> FileLock:
    """Create and lock a folder. Raises `BadStudy`, with `where` and `why`, if another process has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise BadStudy(where, f"{why}; wait for it, or stop it") from None
    return lock


@dataclass(frozen=True)
class StudyFolder:
    """The folder of one study: its name, its files, and the lock for writing them."""

    home: Path
    name: str
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise BadStudy("--study", f"needs letters, digits, '.', '_' and '-', found {self.name!r}")
        if len(self.name) > LONGEST_NAME:
            raise BadStudy(
                "--study",
                f"needs at most {LONGEST_NAME} characters, found {len(self.name)}: {self.name[:30]}...",
            )
        object.__setattr__(self, "folder", self.home / "studies" / self.name)
        look_in(self.home)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "ledger")

    @property
    def network_sizes(self) -> NetworkSizes:
        """Sizes of networks, stored outside of the study's folder, which reading commands do not change."""
        return NetworkSizes(self.home / "derived" / self.name / "network_sizes.json")

    @property
    def space_file(self) -> Path:
        return self.folder / "space.toml"

    @property
    def splits_file(self) -> Path:
        return self.folder / "splits.json"

    @property
    def journal_file(self) -> Path:
        return self.folder / "optuna.journal"

    @property
    def race_file(self) -> Path:
        return self.folder / "race.jsonl"

    @property
    def status_file(self) -> Path:
        return self.folder / "status.json"

    @property
    def speeds_file(self) -> Path:
        return self.folder / "speeds.json"

    @property
    def manifest_file(self) -> Path:
        return self.folder / "study.json"

    @property
    def champion_file(self) -> Path:
        return self.folder / "champion.json"

    @property
    def warm_start_file(self) -> Path:
        return self.folder / "warm_start.json"

    @property
    def manifest_copy(self) -> Path:
        """A second copy of the manifest, since the first may be damaged."""
        return self.folder / "ledger" / "study.json"

    def exists(self) -> bool:
        return self.manifest_file.exists() or self.manifest_copy.exists()

    def lock(self) -> FileLock:
        """Lock the study; a lock ends with its process. Raises `BadStudy` if another process has it."""
        return hold(self.folder, self.name, "is being worked on by another process")

    def repair(self) -> None:
        """Remove what killed processes leave behind. Needs the lock.

        That is: the journal's own lock, for which a search would wait half a minute; half-written last lines,
        after which others could not be read; files that were never renamed to their place; and files of Ray
        from earlier runs, which no run continues.
        """
        for path in [*self.folder.rglob("*.partial"), self.folder / "tune", self.folder / "train"]:
            if path.is_dir():
                shutil.rmtree(
                    path, ignore_errors=True
                )  # what outlives its study for a moment may still write there
            else:
                path.unlink(missing_ok=True)
        self.journal_file.with_name(f"{self.journal_file.name}.lock").unlink(missing_ok=True)
        (self.folder / "told.txt").unlink(
            missing_ok=True
        )  # of earlier versions, which nothing reads any more
        for path in (self.journal_file, self.race_file, self.ledger.cut_fits):
            if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
                with path.open("r+b") as file:
                    file.truncate(content.rfind(b"\n") + 1)
