"""The cases of an epoch, and their order: each once, or drawn so that every class of cases has an equal share.

cases     each case once
centers   as many cases from every center; a dataset that names no centers counts as one
presence  as many frames with a polyp as without

An epoch has the same number of cases in each mode. The cases of a class come in random order, all of them
before any comes again, however many epochs that takes; a case that comes twice in one epoch gets another
random augmentation.
All follows from seed and epoch, whatever the number of workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from orchestrator.data.cases import Case

Sampling = Literal["cases", "centers", "presence"]
Key = tuple[int, str]  # epoch, case id: what determines an augmentation

# Added to the epoch of a case that is taken again: no recipe has so many epochs.
AGAIN = 1_000_000


def class_of(case: Case, sampling: Sampling) -> str:
    """The class of cases that a case belongs to."""
    match sampling:
        case "centers":
            return case.dataset if case.center is None else f"{case.dataset}/{case.center}"
        case "presence":
            return "with a polyp" if case.polyp_fraction > 0 else "without a polyp"
        case "cases":
            return ""


def sampling_problem(sampling: Sampling, train: Iterable[Case]) -> str | None:
    """Reason why the training cases of a fold cannot be sampled in this mode; None if they can."""
    found = sorted({class_of(case, sampling) for case in train})
    if sampling == "cases" or len(found) > 1:
        return None
    if sampling == "centers":
        return (
            f"sampling = 'centers' needs training cases of two centers or datasets, found those of {found[0]} alone; "
            "centers are given when a dataset is added, with --groups"
        )
    return (
        f"sampling = 'presence' needs training frames with a polyp and without, found only frames {found[0]}"
    )


def epoch_keys(case_ids: Sequence[str], seed: int, epoch: int) -> list[Key]:
    """Each case once, in random order."""
    order = np.random.default_rng((seed, epoch)).permutation(len(case_ids))
    return [(epoch, case_ids[index]) for index in order]


def balanced_keys(classes: Mapping[str, Sequence[str]], seed: int, epoch: int) -> list[Key]:
    """Keys of as many cases as the classes have, an equal share of each class, in random order.

    `classes`: case ids by class. A remainder that cannot be shared equally goes to other classes each epoch.
    """
    total, count = sum(map(len, classes.values())), len(classes)
    keys: list[Key] = []
    for place, name in enumerate(sorted(classes)):
        shares = [total // count + ((place + one) % count < total % count) for one in range(epoch + 1)]
        taken = _taken(classes[name], (seed, place), sum(shares[:-1]), shares[-1])
        times: Counter[str] = Counter()
        for case_id in taken:
            keys.append((epoch + times[case_id] * AGAIN, case_id))
            times[case_id] += 1
    return [keys[index] for index in np.random.default_rng((seed, epoch)).permutation(len(keys))]


def _taken(case_ids: Sequence[str], seed: tuple[int, int], start: int, number: int) -> list[str]:
    """`number` cases from index `start` on, in an endless sequence of permutations of all."""
    size = len(case_ids)
    first, last = start // size, (start + number - 1) // size
    row = [
        case_ids[index]
        for turn in range(first, last + 1)
        for index in np.random.default_rng((*seed, turn)).permutation(size)
    ]
    return row[start - first * size :][:number]
