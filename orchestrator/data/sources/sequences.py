"""Video sequences, patients and centers of published frames, from their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.data.images import image_size
from orchestrator.data.sources.pairs import Membership, Pair

Members = Callable[[Sequence[Pair]], Mapping[str, Membership]]

# Frames of the 29 sequences in their order, from the README of CVC-ClinicDB (Bernal et al. 2015).
CLINIC_LENGTHS = (
    *(25, 25, 17, 11, 25, 23, 25, 26, 22, 6, 22, 25, 25, 20, 20),
    *(25, 21, 20, 25, 20, 19, 19, 12, 25, 25, 18, 25, 20, 21),
)
CLINIC_SIZE = (288, 384)
# First frame -> sequence, from the README of CVC-ColonDB (Bernal et al. 2012); some numbers are not used.
COLON_SEQUENCES = {
    **{1: 1, 39: 2, 61: 3, 77: 5, 98: 6, 149: 7, 156: 9, 204: 10, 209: 11, 264: 14, 274: 15},
    **{301: 4, 321: 8, 341: 12, 361: 13},
}
COLON_LAST_FRAME = 380
COLON_SIZE = (500, 574)

# Names of single frames in copies of PolypGen without its folders; C1, C2 and C4 are inferred (Ali et al. 2023).
POLYPGEN_CENTERS = {
    "C1": r"(\d+OLCV1_)?100[A-Z]\d{4}",
    "C2": r"EndoCV2021_\d+",
    "C3": r"C3_EndoCV2021_\d+",
    "C4": r"\d+_endocv2021_(positive|negative)_\d+( \d+)?",
    "C5": r"EndoCV2021_C5_\d+",
    "C6": r"EndoCV2021_C6_\d+",
}
PICCOLO = (
    r"(?P<patient>\d{3})_VP\d+_frame\d+"  # patient, video of a lesion, frame (Sanchez-Peralta et al. 2020)
)


def _by_frame(sequence_of_first: Mapping[int, int], last: int) -> dict[str, str]:
    """Frame number, 1 to `last` -> sequence."""
    firsts = sorted(sequence_of_first)
    return {
        str(frame): str(sequence_of_first[max(first for first in firsts if first <= frame)])
        for frame in range(1, last + 1)
    }


CLINIC = _by_frame(
    {first + 1: n for n, first in enumerate(accumulate((0, *CLINIC_LENGTHS[:-1])), start=1)},
    sum(CLINIC_LENGTHS),
)
COLON = _by_frame(COLON_SEQUENCES, COLON_LAST_FRAME)


def clinic_sequences(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Stem -> sequence for pairs named 1 to 612; empty unless each of them is 384 x 288."""
    return _numbered(pairs, CLINIC, CLINIC_SIZE)


def colon_sequences(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Stem -> sequence for pairs named 1 to 380; empty unless each of them is 574 x 500."""
    return _numbered(pairs, COLON, COLON_SIZE)


def _numbered(
    pairs: Sequence[Pair], sequences: Mapping[str, str], size: tuple[int, int]
) -> dict[str, Membership]:
    frames = {pair.stem: str(int(pair.stem)) for pair in pairs if re.fullmatch("[0-9]+", pair.stem)}
    if not all(frame in sequences for frame in frames.values()):
        return {}
    if any(_size(pair.image) != size for pair in pairs if pair.stem in frames):
        return {}
    return {stem: Membership(group=sequences[frame]) for stem, frame in frames.items()}


def whole_clinic_sequences(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Sequences if the frames are all 612 of CVC-ClinicDB; smaller sets named by number are ambiguous."""
    return clinic_sequences(pairs) if _frames(pairs) == CLINIC.keys() else {}


def whole_sequences(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Sequences if the frames are all 612 of CVC-ClinicDB, or all 380 of CVC-ColonDB."""
    colon = colon_sequences(pairs) if _frames(pairs) == COLON.keys() else {}
    return colon or whole_clinic_sequences(pairs)


def _frames(pairs: Sequence[Pair]) -> set[str]:
    return {str(int(pair.stem)) if re.fullmatch("[0-9]+", pair.stem) else pair.stem for pair in pairs}


def polypgen_centers(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Stem -> center for frames with names of PolypGen's single frames."""
    return {
        pair.stem: Membership(center=center)
        for pair in pairs
        for center, pattern in POLYPGEN_CENTERS.items()
        if re.fullmatch(pattern, pair.stem)
    }


def piccolo_patients(pairs: Sequence[Pair]) -> dict[str, Membership]:
    """Stem -> patient for frames named 001_VP1_frame0000; all lesions of a patient are one group."""
    found = {pair.stem: re.fullmatch(PICCOLO, pair.stem) for pair in pairs}
    return {stem: Membership(group=match["patient"]) for stem, match in found.items() if match}


def no_members(pairs: Sequence[Pair]) -> dict[str, Membership]:
    return {}


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except BadData:  # reported for the file itself when it is decoded
        return None
