"""Numbers in names are believed where the pictures show that they follow a video, and only there."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.data import numbering
from orchestrator.data.deal import tie
from orchestrator.data.numbering import in_between, numberings


def frames(*numbers: int, stem: str = "video/") -> list[str]:
    return [f"{stem}{number}" for number in numbers]


def chain(*numbers: int, stem: str = "video/") -> list[tuple[str, str]]:
    """Twins that make one place of these frames."""
    return list(pairwise(frames(*numbers, stem=stem)))


def test_frames_between_two_of_one_place_are_tied_to_both_sides():
    ids = frames(*range(8, 17))
    told = in_between(ids, chain(8, 9, 10, 13, 14, 15, 16))
    assert told == [("video/10", "video/11"), ("video/11", "video/12"), ("video/12", "video/13")]


def test_the_ends_of_a_place_are_not_guessed():
    assert in_between(frames(*range(1, 13)), chain(2, 3, 4, 5) + chain(7, 8, 9, 10, 11)) == []


def test_numbers_that_do_not_follow_a_video_say_nothing():
    ids = frames(*range(1, 13))
    assert in_between(ids, [("video/3", "video/5")]) == []
    assert in_between(ids, chain(1, 2, 3, 4, 5, 6, 8)) == []  # 5 of 11 show the place of the next
    assert in_between(ids, chain(1, 2, 3, 4, 5, 6, 7, 9)) == [("video/7", "video/8"), ("video/8", "video/9")]


def test_a_place_seen_again_much_later_ties_nothing_in_between():
    count = numbering.MAX_BETWEEN
    ids = frames(*range(1, count + 42))
    near, far = (
        [*range(1, 21), *range(21 + count, 42 + count)],
        [*range(1, 21), *range(22 + count, 42 + count)],
    )
    assert len(in_between(ids, chain(*near))) == count + 1
    assert in_between(ids, chain(*far)) == []


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
    twins = [(f"video/{one}", f"video/{other}") for one, other in links]
    place_of = tie({id: id for id in ids}, twins)
    for one, other in in_between(reversed(ids), twins):
        low, high = sorted((ids.index(one), ids.index(other)))
        assert high == low + 1 and (one, other) not in twins
        assert {place_of[id] for id in ids[: low + 1]} & {place_of[id] for id in ids[high:]}
