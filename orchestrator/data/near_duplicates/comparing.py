"""Pairwise comparison of frames, in one process per core.

Landmarks first, then shortlists, then alignments. A process receives only names and numbers, and reads landmarks from
disk frame by frame: its memory does not grow with the number of frames.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from orchestrator.common.allocator import keep_freed_memory
from orchestrator.common.display import Progress
from orchestrator.data.cases import Case
from orchestrator.data.images import read_image
from orchestrator.data.importing.verify import NUM_THREADS
from orchestrator.data.near_duplicates.align import (
    Alignment,
    FrameFeatures,
    align,
    find_map,
    frame_features,
    mirror,
    support,
)
from orchestrator.data.near_duplicates.descriptors import Floats
from orchestrator.data.near_duplicates.landmark_files import KEPT, LandmarkFiles, landmark_record
from orchestrator.data.near_duplicates.landmarks import find_landmarks
from orchestrator.data.near_duplicates.numbering import neighbours, seams
from orchestrator.data.near_duplicates.shortlist import GlobalDescriptors, shortlist

# Distinct places that one map must explain. Of 63,000 pairs of frames from different hospitals 53 have 5, 9 have 6,
# 2 have 7, none has 8; neighbours in a video are far fewer pairs, and likely to show one place.
MIN_PLACES, MIN_PLACES_OF_NEIGHBOURS = 8, 7
MIN_PLACES_AND_SUPPORT = 13  # of neighbours, too: three of those 63,000 pairs reach it
NUM_WIDE, WIDE_SUPPORT = 1000, 2.5  # landmarks of the second pass, and the size of their patches
# Of 1,100 pairs across the true cuts of CVC-ClinicDB, and of every second frame of it, the best false pair has 11.1.
MIN_WIDE_PLACES, MIN_WIDE_PLACES_AND_SUPPORT = 6, 14
SAME_LIKENESS, SAME_OVERLAP = 0.9, 0.8  # from which two frames are one frame, cropped or encoded differently
NUM_SURE = 12  # partners of a frame that are always aligned; those of lower rank only if
NUM_STRONGEST = 200  # so many of their landmarks already yield a map
CHUNK = 100  # pairs per task of a process
FEW = 100  # frames up to which no processes are started
SAMPLE = 4  # frames per core that are timed before the forecast
COMPARISON = 0.6  # cost of comparing a frame relative to finding its landmarks; measured

Kind = Literal["same frame", "same scene", "same video"]  # the last follows from frame numbers alone
KINDS = get_args(Kind)
Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Forecast = Callable[[float], None]  # called with seconds
Entries = NDArray[np.int32]  # (P, 4): i, j, whether mirrored, rank


class Match(NamedTuple):
    """Frame i of one dataset shows the place of frame j of the other."""

    i: int
    j: int
    mirrored: bool
    alignment: Alignment

    @property
    def kind(self) -> Kind:
        same = self.alignment.likeness >= SAME_LIKENESS and self.alignment.overlap >= SAME_OVERLAP
        return "same frame" if same else "same scene"


class Meter:
    """Progress over frames described and frames compared, with one forecast of the total time."""

    def __init__(
        self, num_described: int, num_compared: int, on_progress: Progress | None, forecast: Forecast
    ) -> None:
        self._total, self._work = num_described + num_compared, num_described + COMPARISON * num_compared
        self._on_progress, self._forecast = on_progress, forecast
        self._frames = self._worked = 0.0
        self._began: float | None = None
        self._has_forecast = False

    def count_landmarks(self) -> None:
        """Count a frame whose landmarks are found."""
        self._add(1, 1)

    def count_compared(self, frames: float) -> None:
        """Count frames as compared; fractions are possible."""
        self._add(frames, COMPARISON)

    def _add(self, frames: float, cost: float) -> None:
        self._frames += frames
        if self._on_progress:
            self._on_progress(min(round(self._frames), self._total), self._total)
        if self._began is None:  # the first frame waits for the start of processes
            self._began = time.monotonic()
            return
        self._worked += frames * cost
        if not self._has_forecast and self._worked >= min(SAMPLE * NUM_THREADS, self._work / 2):
            self._has_forecast = True
            self._forecast((time.monotonic() - self._began) / self._worked * self._work)


@contextmanager
def workers(num_frames: int) -> Iterator[Run]:
    """Context with a `map` over processes; over few frames the built-in `map`."""
    if num_frames <= FEW:
        with threadpool_limits(1, "blas"):
            yield map
        return
    pool = ProcessPoolExecutor(NUM_THREADS, mp_context=get_context("spawn"), initializer=_init_worker)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _init_worker() -> None:
    """Initialise a worker: one thread, Ctrl-C left to the parent, no life after the parent."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(1, "blas")  # for as long as the process lives
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def find_all_landmarks(
    cases: Sequence[Case], files: LandmarkFiles, missing: Sequence[range], run: Run, meter: Meter
) -> None:
    """Find the landmarks of the missing shards, and write each shard as soon as it is complete."""
    records = iter(run(landmark_record, [cases[index] for shard in missing for index in shard]))
    for shard in missing:
        kept = []
        for _ in shard:
            kept.append(next(records))
            meter.count_landmarks()
        files.write(shard[0], kept)


def compare(one: LandmarkFiles, other: LandmarkFiles, run: Run, meter: Meter) -> list[Match]:
    """Frames of two datasets that show the same place; sorted."""
    with threadpool_limits(NUM_THREADS, "blas"):
        entries = shortlist(one.global_descriptors(), other.global_descriptors())
    return _align_entries(one, other, entries, run, meter, one.num_frames + other.num_frames)


def compare_within(
    files: LandmarkFiles, global_descriptors: GlobalDescriptors, run: Run, meter: Meter
) -> list[Match]:
    """Frames of one dataset that show the same place; sorted."""
    with threadpool_limits(NUM_THREADS, "blas"):
        entries = shortlist(global_descriptors, None)
    return _align_entries(files, files, entries, run, meter, files.num_frames)


def compare_neighbours(
    files: LandmarkFiles, names: Sequence[str], found: Sequence[Match], run: Run, meter: Meter
) -> list[Match]:
    """Further matches within one dataset: neighbouring frames, where the numbers in names follow a video."""
    pairs = neighbours(names, [(names[match.i], names[match.j]) for match in found])
    index = {name: index for index, name in enumerate(names)}
    wanted = sorted(sorted((index[one], index[other])) for one, other in pairs)
    entries = np.array([(*pair, 0, 0) for pair in wanted], np.int32).reshape(-1, 4)
    return _align_entries(files, files, entries, run, meter, 0, are_neighbours=True)


def compare_at_seams(
    cases: Sequence[Case], names: Sequence[str], found: Sequence[Match], run: Run
) -> list[Match]:
    """Further matches within one dataset: across apparent cuts of a video, by a second pass with wide patches.

    Wide descriptors say more about a frame that is blurred, dark or filled by a wall, and there are more of them. They
    are not cached: apparent cuts are few.
    """
    index = {name: number for number, name in enumerate(names)}
    tasks, known = [], set[tuple[int, int]]()
    for seam in seams(names, [(names[match.i], names[match.j]) for match in found]):
        pairs = {
            (min(pair), max(pair)) for pair in ((index[one], index[other]) for one, other in seam)
        } - known
        tasks.append([(i, j, cases[i].image, cases[j].image) for i, j in sorted(pairs)])
        known |= pairs
    return sorted(match for matches in run(_check_seam, tasks) for match in matches)


def _align_entries(
    one: LandmarkFiles,
    other: LandmarkFiles,
    entries: Entries,
    run: Run,
    meter: Meter,
    num_frames: int,
    *,
    are_neighbours: bool = False,
) -> list[Match]:
    chunks = [entries[start : start + CHUNK] for start in range(0, len(entries), CHUNK)]
    tasks = [(one, other, chunk, are_neighbours) for chunk in chunks]
    best: dict[tuple[int, int], Match] = {}
    for found in run(_check, tasks):
        meter.count_compared(num_frames / len(tasks))
        for match in found:
            pair = match.i, match.j
            if pair not in best or match.alignment.num_matches > best[pair].alignment.num_matches:
                best[pair] = match
    return [best[pair] for pair in sorted(best)]


def _check(task: tuple[LandmarkFiles, LandmarkFiles, Entries, bool]) -> list[Match]:
    one, other, entries, are_neighbours = task
    found = []
    for i, j, is_mirrored, rank in entries.tolist():
        first, second = one.frame_features(i), other.frame_features(j)
        first = mirror(first) if is_mirrored else first
        if rank >= NUM_SURE and find_map(first, second, NUM_STRONGEST) is None:
            continue
        mapped = find_map(first, second)
        if mapped and (
            _is_enough_of_neighbours(first, second, *mapped) if are_neighbours else mapped[1] >= MIN_PLACES
        ):
            found.append(Match(i, j, bool(is_mirrored), align(first, second, *mapped)))
    return found


def _is_enough_of_neighbours(
    one: FrameFeatures, other: FrameFeatures, affine: Floats, num_places: int
) -> bool:
    return (
        num_places >= MIN_PLACES_OF_NEIGHBOURS
        or num_places + support(one, other, affine) >= MIN_PLACES_AND_SUPPORT
    )


def _check_seam(pairs: Sequence[tuple[int, int, Path, Path]]) -> list[Match]:
    found = []
    for i, j, one, other in pairs:
        first, second = _wide_features(one), _wide_features(other)
        mapped = find_map(first, second)
        if mapped and mapped[1] >= MIN_WIDE_PLACES and _has_support(first, second, *mapped):
            found.append(Match(i, j, False, align(first, second, *mapped)))
    return found


def _has_support(one: FrameFeatures, other: FrameFeatures, affine: Floats, num_places: int) -> bool:
    return num_places + support(one, other, affine) >= MIN_WIDE_PLACES_AND_SUPPORT


@lru_cache(KEPT)
def _wide_features(image: Path) -> FrameFeatures:
    return frame_features(find_landmarks(read_image(image), NUM_WIDE, WIDE_SUPPORT))
