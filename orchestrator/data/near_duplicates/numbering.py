"""Frames numbered as in a video: frames between two frames of one place belong to the same recording.

A blurred frame, or one filled by a wall, cannot be recognised; its neighbours show where it belongs. Numbers follow a
video if most frames show the same place as the next one. Otherwise, as in collections of single frames or with hashes
as names, numbers are ignored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from orchestrator.data.splits.assign import tie

WINDOW = 16  # following frames that each frame is always compared with
NUM_AROUND = 5  # frames on either side of an apparent cut that are compared once more
MAX_LONE = 3  # successive frames that may be attached to the recording before or after them
MIN_RECORDING = 5  # frames of a recording that lone frames can be attached to
REACH, NUM_COMPARED = 12, 5  # distance within which its frames are searched, and how many are compared
MIN_LEAD = 0.1  # by which one side must exceed the other in likeness, which is at most one
MAX_BETWEEN = 10  # successive frames without recognisable content
LAST_NUMBER = re.compile(r"(\d+)([^\d/]*)$")

Pair = tuple[str, str]  # case ids
Likeness = Callable[
    [Sequence[str], Sequence[str]], NDArray[np.float32]
]  # (R, C), rows and columns are frames


def ties_between(case_ids: Iterable[str], near_duplicates: Iterable[Pair]) -> list[Pair]:
    """Pairs of successive frames, sorted, that tie up to MAX_BETWEEN frames to the near-duplicates around them."""
    case_ids, near_duplicates = sorted(case_ids), list(near_duplicates)
    place_of = tie({id: id for id in case_ids}, near_duplicates)
    known = {tuple(sorted(pair)) for pair in near_duplicates}
    tied = {
        (min(pair), max(pair))
        for frames in numberings(case_ids)
        if _follows_a_video(frames, place_of)
        for pair in _between(frames, place_of)
    }
    return sorted(tied - known)


def neighbours(case_ids: Iterable[str], near_duplicates: Iterable[Pair]) -> list[Pair]:
    """Pairs of frames at most WINDOW apart that are not tied yet, where numbers follow a video."""
    case_ids = list(case_ids)
    place_of = tie({id: id for id in case_ids}, near_duplicates)
    return [
        (frame, following)
        for frames in numberings(case_ids)
        if _follows_a_video(frames, place_of)
        for index, frame in enumerate(frames)
        for following in frames[index + 1 : index + 1 + WINDOW]
        if place_of[frame] != place_of[following]
    ]


def seams(case_ids: Iterable[str], near_duplicates: Iterable[Pair]) -> list[list[Pair]]:
    """Untied pairs around each apparent cut: a frame that is not tied to the next, where numbers follow a video."""
    case_ids = list(case_ids)
    place_of = tie({id: id for id in case_ids}, near_duplicates)
    return [
        [
            (before, after)
            for before in frames[max(0, index - NUM_AROUND) : index]
            for after in frames[index : index + NUM_AROUND]
            if place_of[before] != place_of[after]
        ]
        for frames in numberings(case_ids)
        if _follows_a_video(frames, place_of)
        for index in range(1, len(frames))
        if place_of[frames[index - 1]] != place_of[frames[index]]
    ]


def ties_of_lone_frames(
    case_ids: Iterable[str], near_duplicates: Iterable[Pair], likeness: Likeness
) -> list[Pair]:
    """Pairs that attach up to MAX_LONE successive untied frames to the recording before or after them.

    The more similar recording is chosen, if clearly so, and if its own frames are not much more similar to each other.
    """
    case_ids = list(case_ids)
    place_of = tie({id: id for id in case_ids}, near_duplicates)
    sizes = Counter(place_of.values())
    return sorted(
        (min(frame, partner), max(frame, partner))
        for frames in numberings(case_ids)
        if _follows_a_video(frames, place_of)
        for lone, sides in _lone_runs(frames, place_of, sizes)
        for frame, partner in _ties_of_run(lone, sides, likeness)
        if sizes[place_of[partner]] >= MIN_RECORDING
    )


def _lone_runs(
    frames: Sequence[str], place_of: Mapping[str, str], sizes: Mapping[str, int]
) -> Iterator[tuple[Sequence[str], tuple[Sequence[str], Sequence[str]]]]:
    """Runs of untied frames, and the nearest frames of the recordings before and after."""
    row_of = {frame: number for number, frame in enumerate(frames)}
    for is_lone, row in groupby(frames, lambda frame: sizes[place_of[frame]] == 1):
        lone = list(row)
        start, stop = row_of[lone[0]], row_of[lone[-1]] + 1
        if not is_lone or len(lone) > MAX_LONE or start == 0 or stop == len(frames):
            continue
        before, after = frames[max(0, start - REACH) : start][::-1], frames[stop : stop + REACH]
        sides = [
            [frame for frame in side if place_of[frame] == place_of[side[0]]] for side in (before, after)
        ]
        if place_of[before[0]] != place_of[after[0]]:
            yield lone, (sides[0][:NUM_COMPARED], sides[1][:NUM_COMPARED])


def _ties_of_run(
    lone: Sequence[str], sides: tuple[Sequence[str], Sequence[str]], likeness: Likeness
) -> Iterator[Pair]:
    alike = np.stack([likeness(lone, side).max(axis=1) for side in sides])
    leaning = alike[0] - alike[1]  # to the recording before
    cut = int(np.argmax([leaning[:cut].sum() - leaning[cut:].sum() for cut in range(len(lone) + 1)]))
    for number, frame in enumerate(lone):
        side = int(number >= cut)
        prefix = alike[side, number] - alike[1 - side, number]
        if prefix > MIN_LEAD and alike[side, number] > _coherence(sides[side], likeness) - MIN_LEAD:
            yield frame, sides[side][0]


def _coherence(frames: Sequence[str], likeness: Likeness) -> float:
    """The likeness of the least typical of these frames to its most similar other frame."""
    alike = likeness(frames, frames) - np.diag(np.full(len(frames), np.inf))
    return float(alike.max(axis=1).min())


def numberings(case_ids: Iterable[str]) -> list[list[str]]:
    """Lists of cases whose ids differ in their last number only, in the order of that number."""
    found: dict[Pair, list[tuple[int, str]]] = {}
    for id in case_ids:
        if match := LAST_NUMBER.search(id):
            found.setdefault((id[: match.start()], match[2]), []).append((int(match[1]), id))
    return [[id for _, id in sorted(numbered)] for numbered in found.values()]


def _follows_a_video(frames: Sequence[str], place_of: Mapping[str, str]) -> bool:
    """Whether more than half of all frames show the place of the next frame."""
    alike = sum(place_of[one] == place_of[following] for one, following in pairwise(frames))
    return 2 * alike > len(frames) - 1


def _between(frames: Sequence[str], place_of: Mapping[str, str]) -> Iterator[Pair]:
    last: dict[str, int] = {}
    for index, frame in enumerate(frames):
        before = last.get(place_of[frame], index)
        if 1 < index - before <= MAX_BETWEEN + 1:
            yield from pairwise(frames[before : index + 1])
        last[place_of[frame]] = index
