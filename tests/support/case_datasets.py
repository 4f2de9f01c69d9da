"""Datasets without files: cases with groups, centers and polyp areas, by hand and at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from orchestrator.data.cases import Case, Dataset
from orchestrator.data.splits.assign import gather
from orchestrator.data.splits.balance import Group

NearDuplicates = list[tuple[str, str]]


def case(dataset: str, stem: str, group: str, polyp_fraction: float, center: str | None = None) -> Case:
    return Case(
        id=f"{dataset}/{stem}",
        dataset=dataset,
        group=f"{dataset}/{group}",
        center=center,
        image=Path(f"{stem}.jpg"),
        mask=Path(f"{stem}.png"),
        height=8,
        width=8,
        polyp_fraction=polyp_fraction,
        sha256="",
    )


def dataset(
    groups: Sequence[Sequence[float]],
    name: str = "Clinic",
    groups_known: bool = True,
    centers: Sequence[str | None] = (None,),
) -> Dataset:
    """One case for every polyp fraction; center after center is dealt to group after group."""
    cases = [
        case(name, f"{g}-{i}", f"g{g}", area, centers[g % len(centers)])
        for g, areas in enumerate(groups)
        for i, area in enumerate(areas)
    ]
    return Dataset(name, Path(), tuple(cases), fingerprint=f"print of {name}", groups_known=groups_known)


SINGLES = dataset([[0.0 if i % 10 == 0 else i / 100] for i in range(60)], groups_known=False)
VIDEOS = dataset([[0.1 * (g % 5)] * (1 + g % 4) for g in range(20)])
CENTERS = dataset([[0.1, 0.2]] * 9, "Gen", centers=("C1", "C2", "C3"))

SEQUENCES = (5, 6, 7, 8, 10, 12, 14, 16, 22, 27, 30, 35, 40, 49, 55)  # frames of fifteen videos


def groups_of(sizes: Sequence[int]) -> list[Group]:
    """Groups of so many cases, with areas at random, some of them without a polyp."""
    random = Random(0)
    data = dataset([[max(0.0, random.uniform(-0.1, 0.4)) for _ in range(size)] for size in sizes])
    return gather(data.cases, {c.id: c.group for c in data.cases}, {c.id: c.dataset for c in data.cases})


areas = st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.5]), min_size=1, max_size=9)
datasets = st.lists(areas, min_size=6, max_size=30).map(dataset)


@dataclass(frozen=True)
class World:
    """What a plan is asked for: datasets to train on, one that is unseen, and pairs that show one scene."""

    sources: tuple[Dataset, ...]
    unseen: Dataset
    near_duplicates: NearDuplicates

    def cases(self) -> list[Case]:
        return [case for dataset in (*self.sources, self.unseen) for case in dataset.cases]

    def component_of(self) -> dict[str, int]:
        """Case id -> what it may not be parted from: found by another algorithm than the one under test."""
        cases = self.cases()
        place = {case.id: index for index, case in enumerate(cases)}
        by_group = {case.group: index for index, case in enumerate(cases)}
        edges = [(place[case.id], by_group[case.group]) for case in cases]
        edges += [(place[one], place[other]) for one, other in self.near_duplicates]
        rows, columns = np.array(edges).T
        graph = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(cases), len(cases)))
        return dict(zip(place, connected_components(graph, directed=False)[1].tolist(), strict=True))


def _world(seed: int) -> World:
    """Two or three datasets of two centers, of which groups may span both; an unseen one; up to six twins."""
    random = Random(seed)

    def drawn(name: str, least: int) -> Dataset:
        sizes = [random.randint(1, 4) for _ in range(random.randint(least, 14))]
        groups = [random.choices([0.0, 0.01, 0.1, 0.5], k=size) for size in sizes]
        made = dataset(groups, name, centers=("c0", "c1"))
        moved = random.choices(made.cases, k=random.randint(0, 2))
        return replace(
            made, cases=tuple(replace(case, center="c1") if case in moved else case for case in made.cases)
        )

    sources = tuple(drawn(name, 8) for name in ("A", "B", "C")[: random.randint(2, 3)])
    unseen = drawn("U", 4)
    ids = [case.id for data in (*sources, unseen) for case in data.cases]
    near_duplicates = [(random.choice(ids), random.choice(ids)) for _ in range(random.randint(0, 6))]
    return World(sources, unseen, near_duplicates)


# From a seed, for drawing every case apart takes a hundred times as long.
worlds = st.integers(0, 2**32).map(_world)
