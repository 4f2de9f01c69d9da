"""Errors that users can correct, as a tree. Everything outside this tree is a bug and keeps its traceback.

UserError            exit code 2
├── BadSpace         a search-space file
├── BadData          a dataset: files, pairs, groups
├── BadSplit         a split plan: too few groups, changed data
├── BadStudy         a study: unknown, created with another configuration, nothing finished yet
├── BadMachine       a request that does not fit this machine or cluster
│   └── MachineFault a disk, a network or the memory failed: the request itself is valid
├── BadBundle        an exported model that cannot be read
└── Several          several of these, reported at once
FitFailed            one fit failed (diverged, worker died); the study continues
└── OutOfMemory      on one worker; its peers may not have noticed
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from orchestrator.common.redaction import without_secrets


class UserError(Exception):
    """A mistake that the user can correct: where, and every problem found there; secrets of URLs are removed."""

    def __init__(self, where: str, problems: str | Sequence[str]) -> None:
        self.where = without_secrets(where)
        found = (problems,) if isinstance(problems, str) else problems
        self.problems = tuple(without_secrets(problem) for problem in found)
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.where}: {self.problems[0]}"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        return f"{self.where}: {len(self.problems)} problems{lines}"

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.where, self.problems)

    @property
    def each(self) -> tuple[UserError, ...]:
        """This error, or the errors that it combines."""
        return (self,)


class BadSpace(UserError):
    """A search-space file that cannot be used."""


class BadData(UserError):
    """Images, masks or groups that cannot be used."""


class BadSplit(UserError):
    """A split that cannot be made, or that does not fit the data."""


class BadStudy(UserError):
    """A study that does not exist, has no results yet, or was created with another configuration."""


class BadMachine(UserError):
    """A request for something that this machine or cluster does not have."""


class MachineFault(BadMachine):
    """A disk, a network or the memory failed. The request is valid: the same command continues later."""


class BadBundle(UserError):
    """An exported model that cannot be read."""


class Several(UserError):
    """Mistakes in several places."""

    def __init__(self, mistakes: Sequence[UserError]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(f"{len(mistakes)} mistakes", [str(mistake) for mistake in mistakes])

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.mistakes,)

    @property
    def each(self) -> tuple[UserError, ...]:
        return self.mistakes


class Mistakes:
    """Collects mistakes from independent places, so that all are reported at once."""

    def __init__(self) -> None:
        self.found: list[UserError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Context that records a mistake and continues after the block."""
        try:
            yield
        except UserError as mistake:
            self.found += mistake.each  # flat: one that combines several is not one more level

    def raise_all(self) -> None:
        """Raise what was recorded: a single mistake as it is, several as `Several`."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else Several(self.found)


class FitFailed(Exception):
    """One fit ended without a score; the message has the reason."""


class OutOfMemory(FitFailed):
    """The memory of one worker ran out; `again`: whether another attempt would take fewer images at a time."""

    def __init__(self, message: str, again: bool = False) -> None:
        super().__init__(message)
        self.again = again
