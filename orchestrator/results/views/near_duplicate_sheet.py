"""Sheets of frames that show the same place, side by side: an audit for leaks is judged by eye."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from orchestrator.data.images import read_image
from orchestrator.data.near_duplicates.find import Leaks, NearDuplicate
from orchestrator.results.views.augmentation_preview import GAP, INK, PAPER

ACROSS, DOWN = 3, 8  # pairs on a page
MAX_PAGES = 10
SIDE = 220  # pixels of a frame on the sheet
LINE = 13  # pixels of a line of text; three lines under each pair


def in_order(leaks: Leaks) -> tuple[NearDuplicate, ...]:
    """Pairs between datasets first, then those within one; in both, those with the fewest places first."""
    return tuple(
        sorted(
            leaks.near_duplicates,
            key=lambda pair: (
                _dataset(pair.one) == _dataset(pair.other),
                pair.num_places,
                pair,
            ),
        )
    )


def pages(leaks: Leaks) -> Iterator[NDArray[np.uint8]]:
    """Pages RGB uint8 (H, W, 3), at most MAX_PAGES, of ACROSS x DOWN pairs each, `in_order`.

    Under a pair: both case ids, the kind, the number of places, and the similarity of the pictures when
    aligned.
    """
    images = {case.id: case.image for dataset in leaks.datasets for case in dataset.cases}
    near_duplicates = iter(in_order(leaks))
    for _ in range(MAX_PAGES):
        page = list(islice(near_duplicates, ACROSS * DOWN))
        if not page:
            return
        yield _page(
            [
                (
                    pair,
                    [read_image(images[id]) for id in (pair.one, pair.other)],
                )
                for pair in page
            ]
        )


def _page(pairs: Sequence[tuple[NearDuplicate, list[NDArray[np.uint8]]]]) -> NDArray[np.uint8]:
    wide, high = 2 * SIDE + 3 * GAP, SIDE + 3 * LINE + 2 * GAP
    rows = -(-len(pairs) // ACROSS)
    paper = Image.new("RGB", (min(len(pairs), ACROSS) * wide, rows * high + GAP), PAPER)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(LINE - 2)
    for place, (pair, frames) in enumerate(pairs):
        left, top = place % ACROSS * wide + GAP, place // ACROSS * high + GAP
        for column, frame in enumerate(frames):
            tile = ImageOps.pad(Image.fromarray(frame), (SIDE, SIDE), color=PAPER)
            paper.paste(tile, (left + column * (SIDE + GAP), top))
        kind = f"{pair.kind}, mirrored" if pair.mirrored else pair.kind
        facts = f"{kind}, {pair.num_places} places, likeness {pair.likeness:.2f}"
        if pair.kind == "same video":
            facts = "same video, by their numbers alone"
        for line, text in enumerate((pair.one, pair.other, facts)):
            draw.text((left, top + SIDE + line * LINE), text, INK, font)
    return np.asarray(paper)


def _dataset(case_id: str) -> str:
    return case_id.split("/")[0]
