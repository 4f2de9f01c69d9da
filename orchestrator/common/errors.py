"""What a user can get wrong, as a tree. Everything outside this tree is a bug and keeps its traceback.

UserError            exit code 2
├── BadSpace         a search-space file
├── BadData          a dataset: files, pairs, groups
├── BadSplit         a split plan: too few groups, changed data
├── BadStudy         a study: unknown, made with other settings, nothing finished yet
├── BadMachine       what was asked does not fit this machine or cluster
│   └── MachineFault a disk, a network or the memory failed: nothing that was asked is wrong
├── BadBundle        an exported model that cannot be read
└── Several          more than one of these, told at once
FitFailed            one fit went wrong (diverged, worker died); the study goes on
└── OutOfMemory      on one worker: its peers may know nothing of it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from orchestrator.common.redaction import without_secrets


class UserError(Exception):
    """A mistake that the user can mend: where, and every problem found there; without the secrets of URLs."""

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

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), (self.where, self.problems)

    @property
    def each(self) -> tuple[UserError, ...]:
        """One message each."""
        return (self,)


class BadSpace(UserError):
    """A search-space file that cannot be used."""


class BadData(UserError):
    """Images, masks or groups that cannot be used."""


class BadSplit(UserError):
    """A split that cannot be made, or that does not fit the data any more."""


class BadStudy(UserError):
    """A study that does not exist, holds nothing yet, or was made with other settings."""


class BadMachine(UserError):
    """Something was asked for that this machine or cluster does not have."""


class MachineFault(BadMachine):
    """A disk, a network or the memory failed. It says nothing of what was tried: the same command goes on later."""


class BadBundle(UserError):
    """An exported model that cannot be read."""


class Several(UserError):
    """Mistakes in several places."""

    def __init__(self, mistakes: Sequence[UserError]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(f"{len(mistakes)} mistakes", [str(mistake) for mistake in mistakes])

    def __reduce__(self) -> tuple[type, tuple]:
        return type(self), (self.mistakes,)

    @property
    def each(self) -> tuple[UserError, ...]:
        return self.mistakes


class Mistakes:
    """Collects mistakes in places that do not hang on each other, so that a user hears of all at once."""

    def __init__(self) -> None:
        self.found: list[UserError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note a mistake that is met in here, and go on behind it."""
        try:
            yield
        except UserError as mistake:
            self.found.append(mistake)

    def tell(self) -> None:
        """Raise what was found: one mistake as it is, several as `Several`."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else Several(self.found)


class FitFailed(Exception):
    """One fit ended without a score; the message says why."""


class OutOfMemory(FitFailed):
    """The memory of one worker ran out; `again` says whether a next try would take fewer images at a time."""

    def __init__(self, message: str, again: bool = False) -> None:
        super().__init__(message)
        self.again = again
