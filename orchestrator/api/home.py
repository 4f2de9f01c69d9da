"""Where a home is, and how names and paths may be given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

PathLike = str | Path
DEFAULT_HOME = Path.home() / ".orchestrator"


def as_names(names: str | Sequence[str]) -> tuple[str, ...]:
    """Names, of which one alone may be given as it is."""
    return (names,) if isinstance(names, str) else tuple(names)


def home_folder(home: PathLike | None = None) -> Path:
    """Where datasets and studies live: as given, else ORCHESTRATOR_HOME, else ~/.orchestrator."""
    return Path(home or os.environ.get("ORCHESTRATOR_HOME") or DEFAULT_HOME).expanduser().resolve()


def cache_folder(cache: PathLike | None, home: Path) -> Path:
    """Where decoded images are kept: as given, else HOME/cache."""
    return Path(cache).expanduser().absolute() if cache else home / "cache"
