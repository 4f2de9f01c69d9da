"""Images of a dataset that other datasets of the home hold as well, byte by byte."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset, known_names, load_dataset


def count_copies(dataset: Dataset, home: Path) -> dict[str, int]:
    """Name of another dataset -> number of images of `dataset` in it; a re-encoded image is not counted.

    A damaged dataset is skipped: it is reported when it is used.
    """
    images = [case.image_sha256 for case in dataset.cases if case.image_sha256]
    counts = {}
    for name in known_names(home):
        with suppress(BadData):
            known = {case.image_sha256 for case in load_dataset(home, name).cases}
            if name != dataset.name and (same := sum(image in known for image in images)):
                counts[name] = same
    return counts
