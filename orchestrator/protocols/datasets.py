"""Datasets of a home that are used for those of a paper, and the differences between them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from orchestrator.common.display import counted
from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset, list_datasets
from orchestrator.protocols.protocol import FOLDER, PaperTable


class Known(BaseModel):
    """A dataset of the papers: number of images, source, further names and stand-ins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    source: str
    also: tuple[str, ...] = ()  # further names
    stand_ins: tuple[str, ...] = ()


@cache
def known_datasets() -> Mapping[str, Known]:
    """Name -> dataset of the papers."""
    content = tomllib.loads((FOLDER / "datasets.toml").read_text("utf-8"))
    return {name: Known.model_validate(one) for name, one in content.items()}


@dataclass(frozen=True)
class Taken:
    """A dataset of a home that is used for a dataset of a paper."""

    wanted: str
    dataset: Dataset
    stands_in: bool  # another dataset than the paper's
    is_given: bool = False  # by --data, and not known by its name or layout

    @property
    def difference(self) -> str | None:
        """Sentence on the difference between this dataset and the paper's; None if there is none."""
        known, found = known_datasets().get(self.wanted), len(self.dataset.cases)
        if self.is_given:
            return f"{self.dataset.name} ({counted(found, 'image')}) is used as {self.wanted}, as --data says"
        if self.stands_in:
            used = f"{self.dataset.name} ({counted(found, 'image')}) is used"
            return f"{used} in place of {self.wanted}, which is not here"
        if known is not None and known.images != found:
            return f"{self.wanted}: {found:,} of {known.images:,} images"
        return None


@dataclass(frozen=True)
class MissingDataset:
    """A dataset of a paper that the home lacks, and the command that would add it."""

    wanted: str

    @property
    def remedy(self) -> str:
        known = known_datasets().get(self.wanted)
        source = f" ({known.source})" if known is not None else ""
        return (
            f"{self.wanted}{source}: add it with `orchestrator data add {self.wanted} FILE`, or name one that is here "
            f"with --data {self.wanted}=NAME"
        )


def take_datasets(
    table: PaperTable, home: Path, given: Mapping[str, str]
) -> tuple[dict[str, Taken], dict[str, MissingDataset]]:
    """Dataset of the home for each one of a table (given, by name, by layout, or a stand-in); missing ones.

    Raises `BadData` where `given` names no dataset of the home, and where the training set is missing.
    """
    here = list_datasets(home)
    refuse_unknown(here, given, home)
    taken: dict[str, Taken] = {}
    missing: dict[str, MissingDataset] = {}
    for wanted in table.datasets:
        found = _find(wanted, here, given)
        if found is None:
            missing[wanted] = MissingDataset(wanted)
        else:
            taken[wanted] = found
    if table.train in missing:
        raise BadData(str(home), [one.remedy for one in missing.values()])
    return taken, missing


def refuse_unknown(here: Sequence[Dataset], given: Mapping[str, str], home: Path) -> None:
    """Raise `BadData` for a --data that names no dataset of the home."""
    names = ", ".join(one.name for one in here) or "none yet"
    problems = [
        f"{wanted}={name}: no dataset is named {name} in {home}; known: {names}"
        for wanted, name in given.items()
        if name not in {one.name for one in here}
    ]
    if problems:
        raise BadData("--data", problems)


def _find(wanted: str, here: Sequence[Dataset], given: Mapping[str, str]) -> Taken | None:
    if wanted in given:
        (dataset,) = [one for one in here if one.name == given[wanted]]
        is_other = _recognised(wanted, [dataset]) is None
        return Taken(wanted, dataset, stands_in=False, is_given=is_other)
    if (dataset := _recognised(wanted, here)) is not None:  # type: ignore[assignment]
        return Taken(wanted, dataset, stands_in=False)
    for other in known_datasets()[wanted].stand_ins if wanted in known_datasets() else ():
        if (dataset := _recognised(other, here)) is not None:  # type: ignore[assignment]
            return Taken(wanted, dataset, stands_in=True)
    return None


def _recognised(wanted: str, here: Sequence[Dataset]) -> Dataset | None:
    """The dataset of this name in any spelling; else the largest one of this layout; else None."""
    known = known_datasets().get(wanted)
    names = {_letters(name) for name in (wanted, *(known.also if known else ()))}
    if by_name := [one for one in here if _letters(one.name) in names]:
        return by_name[0]
    by_layout = [one for one in here if re.match(rf"{re.escape(wanted)}\b", one.layout)]
    return max(by_layout, key=lambda one: len(one.cases), default=None)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
