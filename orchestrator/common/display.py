"""Output of a long computation: lines, progress bars and the view of a running study; numbers with their nouns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

Progress = Callable[[int, int], None]  # numbers of finished and of all items
View = tuple[Callable[[str], None], Callable[[Any], None]]  # takes lines, and the `Status` of a study


def counted(count: int, thing: str) -> str:
    """1, "fit" -> 1 fit; 12000, "fit" -> 12,000 fits."""
    return f"{count:,} {plural(count, thing)}"


def plural(count: float, thing: str) -> str:
    """A noun as it stands after a number: 1, "lane" -> lane; 2, "lane" -> lanes."""
    return thing if count == 1 else f"{thing}s"


def _no_line(line: str) -> None:
    """Ignore the line."""


@contextmanager
def _no_bar(title: str) -> Iterator[Progress]:
    yield lambda done, total: None


@contextmanager
def _no_view() -> Iterator[View]:
    yield _no_line, lambda status: None


@dataclass(frozen=True)
class Display:
    """Callbacks that receive the output of a long computation; each default prints nothing."""

    note: Callable[[str], None] = _no_line  # remarks
    bar: Callable[[str], AbstractContextManager[Progress]] = _no_bar
    view: Callable[[], AbstractContextManager[View]] = _no_view
    announce: Callable[[str], None] = _no_line  # what comes next
