"""Images of a dataset that other datasets of the home hold as well, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.data.cases import Dataset


def count_copies(dataset: Dataset, others: Sequence[Dataset]) -> dict[str, int]:
    """Name of another dataset -> images of `dataset` that it holds too; a re-encoded image is not counted."""
    images = [case.image_sha256 for case in dataset.cases if case.image_sha256]
    counts = {}
    for other in others:
        known = {case.image_sha256 for case in other.cases}
        if other.name != dataset.name and (same := sum(image in known for image in images)):
            counts[other.name] = same
    return counts
