"""A paper's tables as a file says them: data, split, networks, recipe, scores, published numbers."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from orchestrator.common.errors import BadData
from orchestrator.common.names import hint
from orchestrator.scoring.papers.registry import PAPER_SCORES

FOLDER = Path(__file__).parent
Measure = Literal["parameters", "operations", "fps"]
Part = Literal["test", "validation", "all", "none"]
ScaleName = Literal["smoke", "small", "full"]
Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Frozen):
    """A column of a table: a score of `PAPER_SCORES`, or a size or speed of a network."""

    name: str
    score: str | None = None
    measure: Measure | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Column:
        if (self.score is None) == (self.measure is None):
            raise ValueError(f"column {self.name}: expected one of score and measure")
        if self.score is not None and self.score not in PAPER_SCORES:
            raise ValueError(f"column {self.name}: no score is named {self.score}")
        return self


class ScoredSet(_Frozen):
    """Images that a table scores networks on, under the name that the table prints."""

    name: str
    data: str = ""  # the dataset in datasets.toml; "": `name`
    part: Part = "all"  # of the split of the training set, or the whole dataset
    centers: tuple[str, ...] = ()  # of these centers alone
    images: int | None = None  # as the paper had

    @property
    def dataset(self) -> str:
        return self.data or self.name


class PaperRow(_Frozen):
    """A network of a table: a shipped search space, whose baseline the recipe of the protocol changes."""

    space: str
    params: dict[str, Any] = {}  # of the network
    recipe: dict[str, Any] = {}  # instead of the protocol's
    reads: Literal["map", "mask"] | None = None  # what the scores read, instead of their programs' way
    rule: bool = False  # blank images with too few white pixels, as validation images choose
    imagenet: bool = False  # the paper starts from weights of ImageNet
    starts_from: str = ""  # other weights that the paper starts from
    is_beyond: bool = False  # no row of the paper


class PaperTable(_Frozen):
    """One table of a paper."""

    caption: str
    tests: tuple[ScoredSet, ...]
    columns: tuple[Column, ...]
    train: str | None = None  # dataset; None: nothing is trained
    centers: tuple[str, ...] = ()  # of the training dataset; (): all
    split: Literal["80/10/10", "80/20", "five-fold"] = "80/10/10"
    rows: tuple[str, ...] = ()  # (): all of the paper
    notes: tuple[str, ...] = ()  # what a reader must know of its numbers
    published: dict[str, dict[str, tuple[Number, ...]]]  # row -> test set -> a number for each column

    @model_validator(mode="after")
    def _fits(self) -> PaperTable:
        names = {one.name for one in self.tests}
        for row, sets in self.published.items():
            for test, numbers in sets.items():
                if test not in names or len(numbers) != len(self.columns):
                    raise ValueError(
                        f"published.{row}.{test}: not a test set, or not {len(self.columns)} numbers"
                    )
        if problems := [*self._not_scored()]:
            raise ValueError("; ".join(problems))
        return self

    def _not_scored(self) -> Iterator[str]:
        """Problems of a table's test sets: duplicate names, parts and scores that cannot be scored."""
        names = [one.name for one in self.tests]
        yield from (
            f"{name}: two test sets have this name" for name in sorted({*names}) if names.count(name) > 1
        )
        for test in self.tests:
            if self.train is None and test.part != "none":
                yield f'{test.name}: nothing is trained, so nothing is scored; expected train, or part = "none"'
            elif test.part == "test" and self.split != "80/10/10":
                yield f'{test.name}: split = "{self.split}" has no test part; expected part = "validation"'
            elif test.part in ("test", "validation") and test.dataset != self.train:
                yield f"{test.name}: a {test.part} part is of {self.train}, which is trained on; found {test.dataset}"
            if test.part == "none" and (scores := [one.name for one in self.columns if one.measure is None]):
                yield f'{test.name}: part = "none" has no images, so no {", ".join(scores)}'

    def number(self, row: str, test: str, column: int) -> float | None:
        """The number that the paper prints; None where it prints nothing."""
        numbers = self.published.get(row, {}).get(test)
        return None if numbers is None or math.isnan(numbers[column]) else numbers[column]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of all datasets that the table needs, the training set first."""
        needed = [self.train] if self.train else []
        needed += [one.dataset for one in self.tests if one.part != "none"]
        return tuple(dict.fromkeys(needed))


class Scale(_Frozen):
    """Limits that a scale sets on images, epochs and folds of a protocol; None: as in the paper."""

    about: str = ""
    image_size: int | None = None  # at most
    epochs: int | None = None  # at most
    batch_size: int | None = None  # at most
    train_images: int | None = None
    val_images: int | None = None
    test_images: int | None = None
    folds: int | None = None
    imagenet: bool = False  # start from ImageNet weights where the paper does
    trials: int = 20  # of every row, with --tuned
    rows: dict[str, dict[str, Any]] = {}  # row -> recipe


class Protocol(_Frozen):
    """A paper: its tables, split, networks, recipe and scores."""

    name: str
    title: str
    citation: str
    also: tuple[str, ...] = ()  # further names to type
    not_stated: tuple[str, ...] = ()  # what had to be decided here, to train
    recipe: dict[str, Any]
    rows: dict[str, PaperRow]
    tables: dict[str, PaperTable]
    scales: dict[ScaleName, Scale] = {}

    @model_validator(mode="after")
    def _fits(self) -> Protocol:
        for name, table in self.tables.items():
            named = {*table.rows, *table.published}
            if unknown := named - self.rows.keys():
                raise ValueError(f"tables.{name}: no row is named {', '.join(sorted(unknown))}")
        for name, scale in self.scales.items():
            if unknown := scale.rows.keys() - self.rows.keys():
                raise ValueError(f"scales.{name}.rows: no row is named {', '.join(sorted(unknown))}")
        return self

    def table(self, name: str) -> PaperTable:
        """The table of that name. Raises `BadData` with the names that there are."""
        wanted = name.lower().removeprefix("table ").strip()
        spelled = {one.lower(): table for one, table in self.tables.items()} | self.tables
        wanted = next((one for one in OTHER_NUMERALS.get(wanted, ()) if one in spelled), wanted)
        found = spelled.get(name, spelled.get(wanted))
        if found is None:
            known = ", ".join(self.tables)
            raise BadData("reproduce", f"{self.name} has no table {name!r}; known: {known}")
        return found

    def rows_of(self, table: PaperTable) -> dict[str, PaperRow]:
        """Name -> row, in the order of the table."""
        return {name: self.rows[name] for name in table.rows or self.rows}

    def scale(self, name: ScaleName) -> Scale:
        """The scale of that name, as this paper changes it."""
        own = self.scales[name].model_dump(exclude_unset=True) if name in self.scales else {}
        return Scale.model_validate({**_scales()[name], **own})


OTHER_NUMERALS = {"1": ("i",), "2": ("ii",), "i": ("1",), "ii": ("2",)}  # of tables


@cache
def _scales() -> Mapping[str, dict[str, Any]]:
    return tomllib.loads((FOLDER / "scales.toml").read_text("utf-8"))


def names() -> tuple[str, ...]:
    """Names of the papers, as users type them."""
    return tuple(sorted(file.stem for file in (FOLDER / "papers").glob("*.toml")))


def load_protocol(given: str) -> Protocol:
    """A paper by its name, or by a protocol file of the user's own. Raises `BadData` for neither, and for mistakes."""
    file = _file_of(given)
    try:
        content = tomllib.loads(file.read_text("utf-8"))
        return Protocol.model_validate({"name": file.stem, **content})
    except ValidationError as error:
        if {"search", "fixed", "baseline"} & content.keys():
            raise BadData(
                str(file),
                "expected a protocol, with rows and tables, found a search space: `search` takes that",
            ) from error
        raise BadData(str(file), [_in_words(one) for one in error.errors()]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadData(str(file), f"expected TOML, found something else: {error}") from error


def _in_words(finding: Any) -> str:
    """Problem of a key of a protocol, from a finding of pydantic."""
    where = ".".join(map(str, finding["loc"])) or "file"
    if finding["type"] == "missing":
        return f"{where}: expected, found none"
    if finding["type"] == "extra_forbidden":
        return f"{where}: no key of a protocol has this name"
    return f"{where}: {finding['msg'].removeprefix('Value error, ').replace('Input should be', 'expected')}"


def _file_of(given: str) -> Path:
    if given.endswith(".toml") or "/" in given:
        file = Path(given).expanduser()
        if not file.is_file():
            raise BadData(
                "reproduce", f"expected a protocol file, or the name of a paper, found no file {given}"
            )
        return file
    files = {name: FOLDER / "papers" / f"{name}.toml" for name in names()}
    spelled = {other: name for name in names() for other in (name, *_other_names(files[name]))}
    if (name := spelled.get(given.lower())) is None:
        raise BadData(
            "reproduce", f"no paper is named {given!r}; {hint(given, [*spelled])}known: {', '.join(files)}"
        )
    return files[name]


@cache
def _other_names(file: Path) -> tuple[str, ...]:
    return tuple(tomllib.loads(file.read_text("utf-8")).get("also", ()))
