"""The cases of a table: split by image as the papers split them, or by group, and thinned out for smaller scales.

Images are drawn by a hash of their file names: the same ones on every machine, whatever the name of the
dataset.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from orchestrator.common.errors import BadSplit
from orchestrator.data.cases import Case, Dataset
from orchestrator.data.splits.split_plan import Fold, SplitPlan, fingerprints
from orchestrator.protocols.protocol import PaperTable, Scale

SHARES = {"80/10/10": (0.1, 0.1), "80/20": (0.2, 0.0)}  # of validation and of test images
NUM_FOLDS = 5
THINNED = "not drawn at this scale"


def split_table(
    table: PaperTable, dataset: Dataset, scale: Scale, group_of: Mapping[str, str] | None = None
) -> SplitPlan:
    """The folds of a table. `group_of`: case id -> group that stays whole; None: by image, as the papers split.

    Raises `BadSplit` for too few images or groups.
    """
    cases = of_centers(dataset, table.centers)
    if len(cases) < 10:
        raise BadSplit(
            dataset.name, f"a split needs 10 images or more of the table's centers, found {len(cases)}"
        )
    units = _units(cases, group_of)
    if table.split == "five-fold":
        parts = _five_parts(units)
        folds = [_fold(place, cases, parts[place], (), scale) for place in range(scale.folds or NUM_FOLDS)]
    else:
        val_share, test_share = SHARES[table.split]
        test, rest = _first(units, test_share, len(cases))
        val, _ = _first(rest, val_share, len(cases))
        folds = [_fold(0, cases, val, test, scale)]
    if problems := [f"{fold.name}: too few groups" for fold in folds if not fold.train or not fold.val]:
        raise BadSplit(dataset.name, problems)
    used = {id for fold in folds for id in (*fold.train, *fold.val, *fold.test)}
    unused = tuple(sorted(case.id for case in dataset.cases if case.id not in used))
    return SplitPlan(
        kind=f"{table.split.replace('/', '-')}{'' if group_of is None else '-groups'}",
        seed=None,
        datasets=fingerprints([dataset]),
        unseen={},
        groups_known=dataset.groups_known,
        near_duplicates=None,
        folds=tuple(folds),
        test=folds[0].test,
        dropped={THINNED: unused} if unused else {},
    )


def of_centers(dataset: Dataset, centers: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these centers; all cases if no center is given, or if the dataset has none."""
    if not centers or all(case.center is None for case in dataset.cases):
        return dataset.cases
    return tuple(case for case in dataset.cases if case.center in centers)


def drawn(cases: Sequence[Case], most: int | None) -> tuple[str, ...]:
    """Ids of `most` cases, drawn by the hash of their file names, sorted; None: ids of all cases."""
    chosen = sorted(cases, key=_order)[: len(cases) if most is None else most]
    return tuple(sorted(case.id for case in chosen))


def _order(case: Case) -> str:
    """Hash of a case's file name, which orders the drawing; the name of the dataset has no part in it."""
    return hashlib.sha256(case.id.partition("/")[2].encode()).hexdigest()


def _units(cases: Sequence[Case], group_of: Mapping[str, str] | None) -> list[list[Case]]:
    """Images, or whole groups of images, in the order in which they are drawn."""
    units: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases, key=_order):
        units[case.id if group_of is None else group_of[case.id]].append(case)
    return list(units.values())


def _first(units: list[list[Case]], share: float, total: int) -> tuple[list[Case], list[list[Case]]]:
    """Cases of the first units, about `share` of `total` cases, and the remaining units."""
    taken: list[Case] = []
    for place, unit in enumerate(units):
        if len(taken) + len(unit) / 2 > share * total:
            return taken, units[place:]
        taken += unit
    return taken, []


def _five_parts(units: list[list[Case]]) -> list[list[Case]]:
    """Five parts of similar size."""
    parts: list[list[Case]] = [[] for _ in range(NUM_FOLDS)]
    for unit in units:
        min(parts, key=len).extend(unit)
    return parts


def _fold(place: int, cases: Sequence[Case], val: Sequence[Case], test: Sequence[Case], scale: Scale) -> Fold:
    apart = {case.id for case in (*val, *test)}
    return Fold(
        index=place,
        name=f"fold {place}",
        train=drawn([case for case in cases if case.id not in apart], scale.train_images),
        val=drawn(val, scale.val_images),
        test=drawn(test, scale.test_images),
        dropped={},
    )
