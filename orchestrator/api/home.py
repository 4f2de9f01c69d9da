"""Folders of a home and its cache, and names given as arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

PathLike = str | Path
DEFAULT_HOME = Path.home() / ".orchestrator"


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple; a single name may be given as a string."""
    return (names,) if isinstance(names, str) else tuple(names)


def home_folder(home: PathLike | None = None) -> Path:
    """Folder of datasets and studies: as given, else ORCHESTRATOR_HOME, else ~/.orchestrator."""
    return Path(home or os.environ.get("ORCHESTRATOR_HOME") or DEFAULT_HOME).expanduser().resolve()


def cache_folder(cache: PathLike | None, home: Path) -> Path:
    """Folder of decoded images: as given, else HOME/cache."""
    return Path(cache).expanduser().absolute() if cache else home / "cache"
