"""Checks of a protocol and of the data at hand: parameters of rows, images trained and tested on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from orchestrator.common.errors import BadData, BadSpace
from orchestrator.protocols.datasets import Taken
from orchestrator.protocols.protocol import PaperRow, PaperTable, Protocol, Scale
from orchestrator.protocols.splits import of_centers
from orchestrator.scoring.papers.registry import PAPER_SCORES
from orchestrator.search.space.checks import find_problems
from orchestrator.search.space.keys import NETWORK
from orchestrator.search.space.parameters import REGISTRY
from orchestrator.search.space.space import SearchSpace
from orchestrator.search.space.toml_file import read_tables


def check_row(protocol: Protocol, name: str, row: PaperRow, scale: Scale, space: SearchSpace) -> None:
    """Raises `BadSpace` for keys and values that the network of the row does not take."""
    networks = [str(one.baseline_params()[NETWORK]) for one in space.members]
    if len(networks) > 1:
        raise BadSpace(row.space, f"has {len(networks)} networks, but a row is one: {', '.join(networks)}")
    values = {**protocol.recipe, **row.recipe, **scale.rows.get(name, {}), **row.params}
    problems: list[str] = []
    tables, _ = read_tables({NETWORK: networks[0], "fixed": values}, problems, REGISTRY)
    if problems := find_problems(tables, problems):
        raise BadSpace(f"{protocol.name}, row {name}", [one.replace("fixed.", "", 1) for one in problems])


def check_apart(table: PaperTable, taken: Mapping[str, Taken]) -> None:
    """Raises `BadData` where images to test on are also those to train on, or where there are none."""
    if table.train in taken and (problems := [*_not_apart(table, taken)]):
        raise BadData("test images", problems)


def _not_apart(table: PaperTable, taken: Mapping[str, Taken]) -> Iterator[str]:
    source = taken[table.train or ""].dataset
    trained = {case.id for case in of_centers(source, table.centers)}
    for test in table.tests:
        if test.part != "all" or test.dataset not in taken:
            continue
        dataset = taken[test.dataset].dataset
        cases = of_centers(dataset, test.centers)
        knows = ", ".join(sorted({one.center for one in dataset.cases if one.center})) or "no centers"
        if not cases:
            yield f"{test.name}: {dataset.name} has no images of {', '.join(test.centers)}; it knows {knows}"
        elif dataset.fingerprint == source.fingerprint and not trained.isdisjoint(case.id for case in cases):
            centers = f", which knows {knows}," if test.centers else ""
            yield (
                f"{test.name}: images of {dataset.name}{centers} are trained on; name others with --data "
                f"{test.dataset}=NAME"
            )


def check_enough(table: PaperTable, images: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Raises `BadData` for columns that need more images than a fold has. `images`: test set -> fold -> case ids."""
    problems = [
        f"{test}: {column.name} needs {least} images or more, found {fewest}"
        for test, folds in images.items()
        for column in table.columns
        if column.score
        and (fewest := min(map(len, folds))) < (least := PAPER_SCORES[column.score].num_needed)
    ]
    if problems:
        raise BadData("test images", problems)
