"""A sheet of augmented frames with the outlines of their masks: what a fit sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from orchestrator.common.errors import BadData, BadSpace
from orchestrator.common.files import write_atomically
from orchestrator.data.augmentation.library_pipelines import canonical
from orchestrator.data.augmentation.library_pipelines import problems as library_problems
from orchestrator.data.augmentation.names import NAMES, is_of_library
from orchestrator.data.augmentation.pipelines import case_seed, pipeline
from orchestrator.data.cache.frames import read_sized
from orchestrator.data.cases import Case, Dataset
from orchestrator.results.views.overlay import no_png, outlined, png

NUM_EPOCHS = 5
GAP = 6  # pixels between tiles
PAPER, INK = (255, 255, 255), (20, 20, 20)


@dataclass(frozen=True)
class Preview:
    """A drawn sheet: its file, number of cases, input size and pipelines."""

    file: Path
    num_cases: int
    size: int  # input side in pixels
    pipelines: tuple[str, ...]


def checked_pipelines(augmentation: str, size: int, file: Path) -> tuple[str, ...]:
    """Pipelines that a name stands for. Raises `BadData` with all mistakes in the name and in the file."""
    problems = []
    try:
        augmentation = canonical(augmentation, Path.cwd())
    except (ValueError, BadData, BadSpace) as refused:
        problems.append(f"--augmentation: {refused}")
    else:
        wrong = library_problems(augmentation, size) if is_of_library(augmentation) else ()
        problems += [f"--augmentation: {problem}" for problem in wrong]
        if augmentation not in (*NAMES, "all") and not is_of_library(augmentation):
            problems.append(
                f"--augmentation: no pipeline is named {augmentation!r}; known: {', '.join(NAMES)} and all, "
                "'albumentations:[...]' and 'file:NAME.json'"
            )
    problems += no_png("--out", file)
    if problems:
        raise BadData("data preview", problems)
    return tuple(one for one in NAMES if one != "none") if augmentation == "all" else (augmentation,)


def draw_preview(
    dataset: Dataset,
    pipelines: Sequence[str],
    file: Path,
    *,
    size: int,
    num_cases: int,
    epoch: int,
    seed: int,
) -> Preview:
    """Write the sheet of cases that are spread over a dataset; `epoch` counts from 0."""
    shown = spread(dataset.cases, num_cases)
    write_atomically(file, png(sheet(shown, pipelines, size, epoch, seed)), sync=False)
    return Preview(file, len(shown), size, tuple(pipelines))


def spread(cases: Sequence[Case], count: int) -> tuple[Case, ...]:
    """`count` of the cases, or all if fewer, at even distances from first to last."""
    places = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return tuple(cases[place] for place in places)


def sheet(
    cases: Sequence[Case], pipelines: Sequence[str], size: int, epoch: int, seed: int = 0
) -> NDArray[np.uint8]:
    """RGB uint8 (H, W, 3): a row for each case, first the frame, then inputs of fits with this seed.

    One pipeline: in NUM_EPOCHS epochs from `epoch` on. Several: each of them in that epoch. `epoch` counts from 0,
    the titles from 1.
    """
    columns = [(pipelines[0], epoch + later) for later in range(NUM_EPOCHS)]
    titles = [f"epoch {number + 1}" for _, number in columns]
    if len(pipelines) > 1:
        columns = [(name, epoch) for name in pipelines]
        titles = [name.partition(":")[0] for name in pipelines]
    rows = [
        [tile(case, "none", size, 0, seed), *(tile(case, name, size, at, seed) for name, at in columns)]
        for case in cases
    ]
    return _laid_out(rows, ["original", *titles], [case.id for case in cases])


def tile(case: Case, name: str, size: int, epoch: int, seed: int) -> NDArray[np.uint8]:
    """RGB uint8 (size, size, 3): training input of this epoch, with the outline of its mask."""
    change = pipeline(name, size)
    image, mask = change(*read_sized(case, change.source_size), case_seed(seed, epoch, case.id))
    return outlined(image, mask.astype(bool))


def _laid_out(
    rows: list[list[NDArray[np.uint8]]], titles: Sequence[str], labels: Sequence[str]
) -> NDArray[np.uint8]:
    side = len(rows[0][0])
    font = ImageFont.load_default(max(10, side // 16))
    line = max(10, side // 16) + 2 * GAP
    step = side + GAP
    paper = Image.new("RGB", (GAP + step * len(titles), line + (step + line) * len(rows)), PAPER)
    draw = ImageDraw.Draw(paper)
    for column, title in enumerate(titles):
        draw.text((GAP + column * step, GAP), title, INK, font)
    for row, (tiles, label) in enumerate(zip(rows, labels, strict=True)):
        top = line + row * (step + line)
        for column, pixels in enumerate(tiles):
            paper.paste(Image.fromarray(pixels), (GAP + column * step, top))
        draw.text((GAP, top + side + GAP), label, INK, font)
    return np.asarray(paper)
