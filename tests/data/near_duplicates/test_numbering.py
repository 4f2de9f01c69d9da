"""Numbers in names are believed where the pictures show that they follow a video, and only there."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data.near_duplicates import numbering
from orchestrator.data.near_duplicates.numbering import (
    neighbours,
    numberings,
    seams,
    ties_between,
    ties_of_lone_frames,
)
from orchestrator.data.splits.assign import tie


def frames(*numbers: int, stem: str = "video/") -> list[str]:
    return [f"{stem}{number}" for number in numbers]


def chain(*numbers: int, stem: str = "video/") -> list[tuple[str, str]]:
    """Twins that make one place of these frames."""
    return list(pairwise(frames(*numbers, stem=stem)))


def test_frames_between_two_of_one_place_are_tied_to_both_sides():
    ids = frames(*range(8, 17))
    tied = ties_between(ids, chain(8, 9, 10, 13, 14, 15, 16))
    assert tied == [("video/10", "video/11"), ("video/11", "video/12"), ("video/12", "video/13")]


def test_the_ends_of_a_place_are_not_guessed():
    assert ties_between(frames(*range(1, 13)), chain(2, 3, 4, 5) + chain(7, 8, 9, 10, 11)) == []


def test_numbers_that_do_not_follow_a_video_say_nothing():
    ids = frames(*range(1, 13))
    assert ties_between(ids, [("video/3", "video/5")]) == []
    assert ties_between(ids, chain(1, 2, 3, 4, 5, 6, 8)) == []  # 5 of 11 show the place of the next
    assert ties_between(ids, chain(1, 2, 3, 4, 5, 6, 7, 9)) == [
        ("video/7", "video/8"),
        ("video/8", "video/9"),
    ]


def test_a_place_seen_again_much_later_ties_nothing_in_between():
    count = numbering.MAX_BETWEEN
    ids = frames(*range(1, count + 42))
    near, far = (
        [*range(1, 21), *range(21 + count, 42 + count)],
        [*range(1, 21), *range(22 + count, 42 + count)],
    )
    assert len(ties_between(ids, chain(*near))) == count + 1
    assert ties_between(ids, chain(*far)) == []


def test_only_the_last_number_may_differ_and_datasets_are_kept_apart():
    names = [
        "a/seq2_10.1x",
        "a/seq2_9.1x",
        "a/seq2_9.2x",
        "a/seq1_007",
        "a/seq1_6",
        "b/seq1_8",
        "a/none",
        "1/none",
    ]
    assert numberings(names) == [
        ["a/seq2_10.1x"],
        ["a/seq2_9.1x", "a/seq2_9.2x"],
        ["a/seq1_6", "a/seq1_007"],
        ["b/seq1_8"],
    ]


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), max_size=60))
def test_what_is_tied_was_successive_and_lies_between_frames_of_one_place(links):
    ids = frames(*range(1, 31))
    near_duplicates = [(f"video/{one}", f"video/{other}") for one, other in links]
    place_of = tie({id: id for id in ids}, near_duplicates)
    for one, other in ties_between(reversed(ids), near_duplicates):
        low, high = sorted((ids.index(one), ids.index(other)))
        assert high == low + 1 and (one, other) not in near_duplicates
        assert {place_of[id] for id in ids[: low + 1]} & {place_of[id] for id in ids[high:]}


def test_neighbours_are_compared_where_numbers_follow_a_video_unless_they_are_tied():
    ids = frames(*range(1, 31))
    wanted = neighbours(ids, chain(*range(1, 13)) + chain(*range(14, 31)))
    apart = [(a, b) for a in range(1, 31) for b in range(a + 1, 31) if b - a <= numbering.WINDOW]
    sides = [(1 + (n >= 13) + (n > 13), n) for n in range(31)]
    assert wanted == [(f"video/{a}", f"video/{b}") for a, b in apart if sides[a][0] != sides[b][0]]
    assert neighbours(ids, chain(1, 2, 3)) == []


def test_frames_around_a_seam_are_looked_at_once_more_unless_they_are_tied():
    ids = frames(*range(1, 21))
    (seam,) = seams(ids, chain(*range(1, 10)) + chain(*range(10, 21)))
    first, last = frames(*range(5, 10)), frames(*range(10, 15))
    assert seam == [(one, other) for one in first for other in last]
    assert seams(ids, chain(*range(1, 21))) == [] == seams(ids, chain(1, 2, 3))


def hue(values: dict[int, float]):
    """Likeness by one number a frame: 1 where it is the same, 0.3 less for each that it is off."""

    def likeness(rows, columns):
        one, other = ([values[int(id.split("/")[1])] for id in ids] for ids in (rows, columns))
        return (1 - 0.3 * np.abs(np.subtract.outer(one, other))).astype(np.float32)

    return likeness


VIDEO = frames(*range(1, 22))
TWO_RECORDINGS = chain(*range(1, 10)) + chain(*range(12, 22))


@pytest.mark.parametrize(
    ("hues", "sides"),
    [
        ((0.0, 0.1), ("video/9", "video/9")),
        ((0.1, 1.0), ("video/9", "video/12")),
        ((0.9, 1.0), ("video/12", "video/12")),
        ((0.5, 0.5), (None, None)),  # as much like the one as like the other
        ((-3, 4), (None, None)),  # like neither
    ],
)
def test_lone_frames_go_with_the_recording_that_they_clearly_look_like(hues, sides):
    likeness = hue(
        dict.fromkeys(range(1, 10), 0.0)
        | dict(zip((10, 11), hues, strict=True))
        | dict.fromkeys(range(12, 22), 1.0)
    )
    lone = zip(("video/10", "video/11"), sides, strict=True)
    expected = sorted((min(pair), max(pair)) for pair in lone if pair[1])
    assert ties_of_lone_frames(VIDEO, TWO_RECORDINGS, likeness) == expected


def test_lone_frames_are_left_alone_in_long_rows_at_the_ends_and_beside_short_recordings():
    alike = hue(dict.fromkeys(range(1, 31), 0.0))
    assert (
        ties_of_lone_frames(
            frames(*range(1, 25)),
            chain(*range(1, 10)) + chain(*range(10 + numbering.MAX_LONE + 1, 25)),
            alike,
        )
        == []
    )
    assert ties_of_lone_frames(frames(*range(1, 12)), chain(*range(2, 11)), alike) == []
    far = hue(dict.fromkeys(range(1, 10), 0.0) | dict.fromkeys(range(10, 15), 1.0))
    assert ties_of_lone_frames(frames(*range(1, 15)), chain(*range(1, 10)) + chain(*range(11, 15)), far) == []
