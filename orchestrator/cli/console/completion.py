"""What a shell completes: datasets and studies of the home, networks and search spaces that come with the program.

Names are read from folders alone, so that a press of the tab key waits for no library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2]
DEFAULT_HOME = Path.home() / ".orchestrator"
Completed = Callable[[Any, Any, str], list[str]]


def _home(context: Any) -> Path:
    given = context.params.get("home") or os.environ.get("ORCHESTRATOR_HOME") or DEFAULT_HOME
    return Path(given).expanduser()


def dataset_names(home: Path) -> list[str]:
    """Datasets of a home."""
    return sorted(file.parent.name for file in (home / "datasets").glob("[!.]*/dataset.json"))


def study_names(home: Path) -> list[str]:
    """Studies of a home."""
    return sorted(file.parent.name for file in (home / "studies").glob("[!.]*/study.json"))


def space_names() -> list[str]:
    """Search spaces that come with the program."""
    return sorted(file.stem for file in (PACKAGE / "search_spaces").glob("*.toml"))


def _items(names: Iterable[str], begun: str) -> list[str]:
    return [name for name in names if name.startswith(begun)]


def _datasets(context: Any, param: Any, begun: str) -> list[str]:
    return _items(dataset_names(_home(context)), begun)


def _studies(context: Any, param: Any, begun: str) -> list[str]:
    return _items(study_names(_home(context)), begun)


def _spaces(context: Any, param: Any, begun: str) -> list[str]:
    files = (str(path) for path in Path().glob(f"{begun}*") if path.is_dir() or path.suffix == ".toml")
    return [*_items(space_names(), begun), *sorted(files)]


def _names(context: Any, param: Any, begun: str) -> list[str]:
    """Of `data show NAME`, `models show NAME`, `studies remove NAME`."""
    callback = getattr(context.command.callback, "__name__", "")
    if callback == "models_show":
        return _items(space_names(), begun)
    return (
        _studies(context, param, begun)
        if callback.startswith("studies")
        else _datasets(context, param, begun)
    )


COMPLETED: dict[str, Completed] = {
    "data": _datasets,
    "unseen": _datasets,
    "names": _datasets,
    "name": _names,
    "study": _studies,
    "studies": _studies,
    "warm_start": _studies,
    "file": _spaces,
    "space": _spaces,
}
