"""Frames that were numbered as a video ran: what lies between two frames of one place is of the same recording.

A blurred frame, or one that a wall fills, shows nothing that it could be known by; its neighbours tell where it
belongs. Whether the numbers of a dataset follow a video is seen in the pictures: most frames show the place of the next
one. Where they do not, as in collections of single frames or under names that are hashes, numbers say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from orchestrator.data.deal import tie

MAX_BETWEEN = 10  # frames in a row that show nothing known
LAST_NUMBER = re.compile(r"(\d+)([^\d/]*)$")

Pair = tuple[str, str]  # case ids


def in_between(case_ids: Iterable[str], twins: Iterable[Pair]) -> list[Pair]:
    """Pairs of successive frames, sorted, that tie up to MAX_BETWEEN frames to the twins before and after them."""
    case_ids, twins = sorted(case_ids), list(twins)
    place_of = tie({id: id for id in case_ids}, twins)
    known = {tuple(sorted(pair)) for pair in twins}
    tied = {
        (min(pair), max(pair))
        for frames in numberings(case_ids)
        if _follows_a_video(frames, place_of)
        for pair in _between(frames, place_of)
    }
    return sorted(tied - known)


def numberings(case_ids: Iterable[str]) -> list[list[str]]:
    """Cases whose ids differ in their last number alone, in the order of that number."""
    found: dict[Pair, list[tuple[int, str]]] = {}
    for id in case_ids:
        if match := LAST_NUMBER.search(id):
            found.setdefault((id[: match.start()], match[2]), []).append((int(match[1]), id))
    return [[id for _, id in sorted(numbered)] for numbered in found.values()]


def _follows_a_video(frames: Sequence[str], place_of: Mapping[str, str]) -> bool:
    """Whether more than half of all frames show the place of the next."""
    alike = sum(place_of[one] == place_of[following] for one, following in pairwise(frames))
    return 2 * alike > len(frames) - 1


def _between(frames: Sequence[str], place_of: Mapping[str, str]) -> Iterator[Pair]:
    last: dict[str, int] = {}
    for index, frame in enumerate(frames):
        before = last.get(place_of[frame], index)
        if 1 < index - before <= MAX_BETWEEN + 1:
            yield from pairwise(frames[before : index + 1])
        last[place_of[frame]] = index
