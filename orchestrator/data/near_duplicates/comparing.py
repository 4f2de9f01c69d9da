"""Compare the frames of datasets pairwise, in as many processes as there are cores.

Landmarks first, then shortlists, then alignments. A process is sent names and numbers alone, and reads landmarks from
disk, frame by frame: its memory does not grow with their number.
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
from orchestrator.data.cases import Case
from orchestrator.data.images import read_image
from orchestrator.data.importing.verify import NUM_THREADS, Progress
from orchestrator.data.near_duplicates.align import Alignment, Sight, align, find_map, mirror, sight, support
from orchestrator.data.near_duplicates.descriptors import Floats
from orchestrator.data.near_duplicates.landmark_files import KEPT, LandmarkFiles, look
from orchestrator.data.near_duplicates.landmarks import find_landmarks
from orchestrator.data.near_duplicates.numbering import neighbours, seams
from orchestrator.data.near_duplicates.shortlist import Looks, shortlist

# Distinct places that one map must explain. Of 63,000 pairs of frames from different hospitals 53 have 5, 9 have 6, 2
# have 7, none has 8; neighbours in a video are far fewer, and likely to show one place.
MIN_PLACES, MIN_PLACES_OF_NEIGHBOURS = 8, 7
MIN_PLACES_AND_SUPPORT = 13  # of neighbours, too: of those 63,000 pairs three have as much
NUM_WIDE, WIDE_SUPPORT = 1000, 2.5  # landmarks of the second look, and how wide they are
# Of 1,100 pairs across the true cuts of CVC-ClinicDB, and of every second frame of it, the last false one has 11.1.
MIN_WIDE_PLACES, MIN_WIDE_PLACES_AND_SUPPORT = 6, 14
SAME_LIKENESS, SAME_OVERLAP = 0.9, 0.8  # from which two frames are one, cut or encoded in another way
NUM_SURE = 12  # partners of a frame that are aligned in any case; those further down the list only if
NUM_STRONGEST = 200  # so many of their landmarks tell of a map
CHUNK = 100  # pairs that a process takes at once
FEW = 100  # frames that are not worth starting processes for
SAMPLE = 4  # frames a core that are timed before it is said how long all will take
COMPARISON = 0.6  # what comparing a frame takes, of what finding its landmarks takes; measured

Kind = Literal["same frame", "same scene", "same video"]  # the last: told by their numbers alone
KINDS = get_args(Kind)
Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Forecast = Callable[[float], None]  # is given seconds
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
    """Counts frames that are looked at, then compared; forecasts once how long all will take."""

    def __init__(
        self, num_looks: int, num_compared: int, on_progress: Progress | None, forecast: Forecast
    ) -> None:
        self._total, self._work = num_looks + num_compared, num_looks + COMPARISON * num_compared
        self._on_progress, self._forecast = on_progress, forecast
        self._frames = self._worked = 0.0
        self._began: float | None = None
        self._is_told = False

    def looked(self) -> None:
        """One frame more has landmarks."""
        self._add(1, 1)

    def compared(self, frames: float) -> None:
        """So many frames more are compared; parts count."""
        self._add(frames, COMPARISON)

    def _add(self, frames: float, cost: float) -> None:
        self._frames += frames
        if self._on_progress:
            self._on_progress(min(round(self._frames), self._total), self._total)
        if self._began is None:  # what comes first waits for processes to start
            self._began = time.monotonic()
            return
        self._worked += frames * cost
        if not self._is_told and self._worked >= min(SAMPLE * NUM_THREADS, self._work / 2):
            self._is_told = True
            self._forecast((time.monotonic() - self._began) / self._worked * self._work)


@contextmanager
def workers(num_frames: int) -> Iterator[Run]:
    """A `map` over processes; in this process where there are few frames."""
    if num_frames <= FEW:
        with threadpool_limits(1, "blas"):
            yield map
        return
    pool = ProcessPoolExecutor(NUM_THREADS, mp_context=get_context("spawn"), initializer=_settle)
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


def _settle() -> None:
    """One thread for each process, which leaves Ctrl-C to its parent and does not outlive it."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    threadpool_limits(1, "blas")  # for as long as the process lives
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def look_at(
    cases: Sequence[Case], files: LandmarkFiles, missing: Sequence[range], run: Run, meter: Meter
) -> None:
    """Find the landmarks of the shards that are missing, and keep each as soon as it is whole."""
    records = iter(run(look, [cases[index] for shard in missing for index in shard]))
    for shard in missing:
        kept = []
        for _ in shard:
            kept.append(next(records))
            meter.looked()
        files.write(shard[0], kept)


def compare(one: LandmarkFiles, other: LandmarkFiles, run: Run, meter: Meter) -> list[Match]:
    """Frames of two datasets that show the same place; sorted."""
    with threadpool_limits(NUM_THREADS, "blas"):
        entries = shortlist(one.looks(), other.looks())
    return _checked(one, other, entries, run, meter, one.num_frames + other.num_frames)


def compare_within(files: LandmarkFiles, looks: Looks, run: Run, meter: Meter) -> list[Match]:
    """Frames of one dataset, whose looks are these, that show the same place; sorted."""
    with threadpool_limits(NUM_THREADS, "blas"):
        entries = shortlist(looks, None)
    return _checked(files, files, entries, run, meter, files.num_frames)


def compare_neighbours(
    files: LandmarkFiles, names: Sequence[str], found: Sequence[Match], run: Run, meter: Meter
) -> list[Match]:
    """Further frames of one dataset that show the same place: neighbours, where numbers in names follow a video."""
    pairs = neighbours(names, [(names[match.i], names[match.j]) for match in found])
    index = {name: index for index, name in enumerate(names)}
    wanted = sorted(sorted((index[one], index[other])) for one, other in pairs)
    entries = np.array([(*pair, 0, 0) for pair in wanted], np.int32).reshape(-1, 4)
    return _checked(files, files, entries, run, meter, 0, are_neighbours=True)


def compare_at_seams(
    cases: Sequence[Case], names: Sequence[str], found: Sequence[Match], run: Run
) -> list[Match]:
    """Further frames of one dataset that show the same place: where a video seems cut, by a second, wider look.

    Wide descriptors tell more of a frame that is blurred, dark or filled by a wall; there are more of them, too. They
    are not kept: seams are few.
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


def _checked(
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
        meter.compared(num_frames / len(tasks))
        for match in found:
            pair = match.i, match.j
            if pair not in best or match.alignment.num_matches > best[pair].alignment.num_matches:
                best[pair] = match
    return [best[pair] for pair in sorted(best)]


def _check(task: tuple[LandmarkFiles, LandmarkFiles, Entries, bool]) -> list[Match]:
    one, other, entries, are_neighbours = task
    found = []
    for i, j, is_mirrored, rank in entries.tolist():
        first, second = one.sight(i), other.sight(j)
        first = mirror(first) if is_mirrored else first
        if rank >= NUM_SURE and find_map(first, second, NUM_STRONGEST) is None:
            continue
        mapped = find_map(first, second)
        if mapped and (
            _is_enough_of_neighbours(first, second, *mapped) if are_neighbours else mapped[1] >= MIN_PLACES
        ):
            found.append(Match(i, j, bool(is_mirrored), align(first, second, *mapped)))
    return found


def _is_enough_of_neighbours(one: Sight, other: Sight, affine: Floats, num_places: int) -> bool:
    return (
        num_places >= MIN_PLACES_OF_NEIGHBOURS
        or num_places + support(one, other, affine) >= MIN_PLACES_AND_SUPPORT
    )


def _check_seam(pairs: Sequence[tuple[int, int, Path, Path]]) -> list[Match]:
    found = []
    for i, j, one, other in pairs:
        first, second = _wide_sight(one), _wide_sight(other)
        mapped = find_map(first, second)
        if mapped and mapped[1] >= MIN_WIDE_PLACES and _has_support(first, second, *mapped):
            found.append(Match(i, j, False, align(first, second, *mapped)))
    return found


def _has_support(one: Sight, other: Sight, affine: Floats, num_places: int) -> bool:
    return num_places + support(one, other, affine) >= MIN_WIDE_PLACES_AND_SUPPORT


@lru_cache(KEPT)
def _wide_sight(image: Path) -> Sight:
    return sight(find_landmarks(read_image(image), NUM_WIDE, WIDE_SUPPORT))
