"""Datasets: the same on every node as on the driver, with every file as imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.common.display import counted
from orchestrator.data.cache.intact import refuse_changed
from orchestrator.data.cases import load_datasets
from orchestrator.doctor.checks.findings import Result, failure, ok


def fingerprints(home: Path, names: Sequence[str]) -> dict[str, str]:
    """Fingerprints of these datasets by name. Raises `BadData` for an unknown one."""
    return {dataset.name: dataset.fingerprint for dataset in load_datasets(home, names)}


def equal(home: Path, cache: Path, expected: Mapping[str, str]) -> Iterator[Result]:
    """Compare with the driver's fingerprints; files that were not yet checked on this node are read."""
    if not expected:
        return
    datasets = load_datasets(home, [*expected])
    other = [one for one in datasets if one.fingerprint != expected[one.name]]
    for one in other:
        yield failure(
            f"dataset {one.name} is {one.fingerprint[:12]}, the driver's {expected[one.name][:12]}",
            f"check whether {home} is the same folder on all nodes; otherwise add the dataset again",
        )
    sound = [one for one in datasets if one not in other]
    refuse_changed(sound, cache)
    for one in sound:
        yield ok(
            f"dataset {one.name}: {counted(len(one.cases), 'case')} as imported, fingerprint {one.fingerprint[:12]}"
        )
