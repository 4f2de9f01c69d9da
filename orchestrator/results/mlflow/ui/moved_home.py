"""A home that was moved or copied: its MLflow database still names artifacts by the old folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

# Of MLflow's tables; what a release does not have is passed over.
COLUMNS = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
ARTIFACTS = "mlartifacts"


def mend_moved_home(home: Path) -> tuple[Path, int] | None:
    """Correct the paths of artifacts in the home's MLflow database where the home was moved.

    Returns the old folder and the number of changed entries; None if nothing was changed. A symbolic link, or
    another mount of the very same folder, is left as it is.
    """
    file = home / "mlflow.db"
    if not file.exists():
        return None
    with closing(sqlite3.connect(file, timeout=60)) as database, database:
        olds = sorted({old for old in _homes(database) if not _is_same(old / ARTIFACTS, home / ARTIFACTS)})
        changed = sum(_rewrite(database, str(old), str(home)) for old in olds)
    return (olds[0], changed) if changed else None


def _homes(database: sqlite3.Connection) -> Iterator[Path]:
    """Folders of homes in which experiments of the database have their artifacts."""
    if not _columns(database, "experiments"):
        return
    for (location,) in database.execute("SELECT DISTINCT artifact_location FROM experiments"):
        folder = Path(str(location or "").removeprefix("file://"))
        if folder.is_absolute() and folder.name == ARTIFACTS:
            yield folder.parent


def _is_same(old: Path, new: Path) -> bool:
    try:
        return old.samefile(new)
    except OSError:  # the old one is gone, or nothing was stored yet
        return old == new


def _rewrite(database: sqlite3.Connection, old: str, new: str) -> int:
    changed = 0
    for table, names in COLUMNS.items():
        for name in names:
            if name not in _columns(database, table):
                continue
            for mark in ("", "file://"):
                was, now = f"{mark}{old}/", f"{mark}{new}/"
                changed += database.execute(
                    f"UPDATE {table} SET {name} = ? || substr({name}, ?) WHERE substr({name}, 1, ?) = ?",
                    (now, len(was) + 1, len(was), was),
                ).rowcount
    return changed


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
