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

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import isfunction
from typing import Any, TypeVar

from orchestrator.common.redaction import without_secrets

# Options of other programs, and of commands alone: they stay. Every other option is a parameter of the same name, but
# those that are called otherwise in Python.
_STAY = "artifacts-destination champion host index-url markdown no-champion overwrite shm-size stop upgrade"
_FLAGS = (
    "allow-empty dry-run imagenet invert-masks log near-duplicates probabilities refit skip-bad tuned until-unlikely "
    "whole-groups"
)
STAY, FLAGS = frozenset(_STAY.split()), frozenset(_FLAGS.split())
OTHERWISE = {
    "allowed-host": "allowed_hosts",
    "checklist": "checklists",
    "constraint": "constraints",
    "objective": "objectives",
    "paper-score": "paper_scores",
    "part": "parts",
    "set": "parameters",
    "study": "name",
    "worker": "workers",
}
VALUES = {"no-near-duplicates": "near_duplicates=False", "random": "imagenet=False", "yes": "replace=True"}
MAPPINGS = ("data", "weights")  # --data NAME=OTHER is data={NAME: OTHER}
# What follows an option as its value; any other word goes on with the sentence.
WORDS = (
    "apply asha auto cpu cuda empty folders folds frames gmacs greedy holdout ignore inference_ms local none one-se "
    "paired parameters published refuse small smoke"
)
VALUE = (
    r"'[^']*'|https?://[^\s,;)]+|[^\s,;=']+=(?:NAME|FILE)\b|[A-Z]+(?![\w=])|\d+(?:-\d+)?(?![\w.])|[^\s,;]+\.json\b"
    rf"|(?:{'|'.join(WORDS.split())})(?![\w-])"
)
# Commands stay as they are typed.
COMMAND = r"`[^`]*`|\borchestrator [a-z][^,;\n]*"
OPTION = re.compile(
    rf"(?P<command>{COMMAND})|(?<![\w-])--(?P<name>[a-z][a-z0-9-]*)(?P<colon>:)?(?: (?P<value>{VALUE}))?"
)


def for_python(text: str, renamed: Mapping[str, str] | None = None) -> str:
    """A text on options with parameters in their places: "--max-gb 3" is "max_gb=3", "--refit" is "refit=True".

    Commands in it, and options of other programs, stay. `renamed`: option without its dashes -> another parameter.
    """

    def spelled(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        parameter = _parameter(name, renamed or {}) if name else None
        if parameter is None:
            return found[0]
        if found["colon"]:
            return f"{parameter}:" + (f" {value}" if value else "")
        if value is None:
            return VALUES.get(name) or f"{parameter}={'True' if name in FLAGS else ''}"
        if name in FLAGS or name in VALUES:
            return f"{VALUES.get(name, f'{parameter}=True')} {value}"
        return f"{parameter}={_value(name, value)}"

    return OPTION.sub(spelled, text)


def _parameter(option: str, renamed: Mapping[str, str]) -> str | None:
    """Name of the parameter for an option; None for an option that is never a parameter."""
    if option in STAY:
        return None
    if option in VALUES:
        return VALUES[option].partition("=")[0]
    return renamed.get(option) or OTHERWISE.get(option) or option.replace("-", "_")


def _value(option: str, value: str) -> str:
    name, is_pair, other = value.strip("'").partition("=")
    if is_pair and option in MAPPINGS:
        return f"{{{name!r}: {other}}}"
    return value if value.isdecimal() or value.isupper() or value.startswith("'") else repr(value)


class UserError(Exception):
    """A mistake that the user can correct: where, and every problem found there; secrets of URLs are removed.

    Texts name options of the command line; once `name_parameters` is called, parameters.
    """

    def __init__(self, where: str, problems: str | Sequence[str]) -> None:
        self._where = without_secrets(where)
        found = (problems,) if isinstance(problems, str) else problems
        self._problems = tuple(without_secrets(problem) for problem in found)
        self._renamed: Mapping[str, str] | None = None  # None: on the command line
        super().__init__(str(self))

    @property
    def where(self) -> str:
        """The place of the mistake: a file, a dataset, an option."""
        if self._renamed is None:
            return self._where
        option, blank, rest = self._where.partition(" ")
        if blank and "," not in option and option.startswith("--"):
            return f"{for_python(option, self._renamed).partition('=')[0]}={rest!r}"
        return re.sub(r"=(True|False)?(?=,|$)", "", for_python(self._where, self._renamed))

    @property
    def problems(self) -> tuple[str, ...]:
        """Every problem found there, a sentence each."""
        if self._renamed is None:
            return self._problems
        return tuple(for_python(problem, self._renamed) for problem in self._problems)

    def name_parameters(self, renamed: Mapping[str, str]) -> None:
        """Name parameters from now on; `renamed`: option without its dashes -> parameter, where it is called otherwise.

        Names that an inner function has set before take precedence.
        """
        self._renamed = {**renamed, **(self._renamed or {})}

    def name_options(self) -> None:
        """Name options from now on."""
        self._renamed = None

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.where}: {self.problems[0]}"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        return f"{self.where}: {len(self.problems)} problems{lines}"

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self._where, self._problems)

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
        super().__init__(f"{len(mistakes)} mistakes", [])

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(str(mistake) for mistake in self.mistakes)

    def name_parameters(self, renamed: Mapping[str, str]) -> None:
        for mistake in self.mistakes:
            mistake.name_parameters(renamed)

    def name_options(self) -> None:
        for mistake in self.mistakes:
            mistake.name_options()

    def __reduce__(self) -> tuple[type, tuple[Any, ...]]:
        return type(self), (self.mistakes,)

    @property
    def each(self) -> tuple[UserError, ...]:
        return self.mistakes


@contextmanager
def python_errors(**renamed: str) -> Iterator[None]:
    """Context, or decorator of a function, whose mistakes name parameters of Python in place of options.

    `renamed`: option without its dashes -> parameter, where this function calls it otherwise.
    """
    try:
        yield
    except UserError as mistake:
        mistake.name_parameters(renamed)
        raise


Class = TypeVar("Class", bound=type)


def python_errors_of(cls: Class) -> Class:
    """A class whose constructor, public methods and properties raise mistakes that name parameters of Python."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isfunction(member):
            setattr(cls, name, python_errors()(member))
        elif isinstance(member, property) and member.fget is not None:
            setattr(cls, name, property(python_errors()(member.fget), doc=member.__doc__))
    return cls


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
        """Raise the recorded mistakes, if any: a single one as it is, several as `Several`."""
        if self.found:
            raise self.found[0] if len(self.found) == 1 else Several(self.found)


class FitFailed(Exception):
    """One fit ended without a score; the message has the reason."""


class OutOfMemory(FitFailed):
    """The memory of one worker ran out; `again`: whether another attempt would take fewer images at a time."""

    def __init__(self, message: str, again: bool = False) -> None:
        super().__init__(message)
        self.again = again
