"""What a hurt study lacks, or has twice, beside one that nobody disturbed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """In words; nothing, if all is well."""

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    num_again: int = 0  # epochs that were trained twice, for they were in flight


def differences(
    found: Mapping[str, Any], calm: Mapping[str, Any], begun: Sequence[tuple[str, int]], num_allowed: int
) -> Comparison:
    """Compare two outcomes; `begun` are the epochs of the first as they were begun.

    num_allowed: epochs that may have been trained twice.
    """
    lost = [f"{name} differ" for name in calm if found[name] != calm[name]]
    lost += [f"fit {fit_id}" for fit_id in calm["fits"].keys() - found["fits"].keys()]
    lost += [f"run {run}" for run in _names(calm).keys() - _names(found).keys()]
    doubled = [f"run {run}" for run, times in (_names(found) - _names(calm)).items() if times]
    doubled += [f"fit {fit_id} is new" for fit_id in found["fits"].keys() - calm["fits"].keys()]
    num_again = len(begun) - len({*begun})
    if num_again > num_allowed:
        doubled.append(f"{num_again} epochs, {num_allowed} may be")
    return Comparison(tuple(lost), tuple(doubled), num_again)


def _names(outcome: Mapping[str, Any]) -> Counter[tuple[Any, ...]]:
    """Role, trial, fit and champion of every run of MLflow."""
    return Counter(run[:4] for run in outcome["runs"])
