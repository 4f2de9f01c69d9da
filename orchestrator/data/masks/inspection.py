"""Inspection of an image and its mask: sizes, polyp, and whether the mask can be kept unchanged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from orchestrator.common.errors import BadData
from orchestrator.common.stored_json import sha256_of
from orchestrator.data.images import POLYP_ABOVE, mask_bytes, read_stored, turned
from orchestrator.data.masks.levels import grey_levels
from orchestrator.data.masks.mask_rule import BLACK_AND_WHITE, MaskReading, MaskRule, read_by_rule
from orchestrator.data.masks.upright import Turn, turn_of
from orchestrator.data.masks.values import BRIGHT, DARK, RawMask, dark_share, is_plain, read_raw_mask

READ_ANYWAY = ("alpha", "deep")  # kinds of masks that are unambiguous
T = TypeVar("T")


@dataclass(frozen=True)
class Facts:
    """Properties of an image and its mask, upright."""

    height: int
    width: int
    mask_height: int
    mask_width: int
    polyp_fraction: float  # 0 to 1
    edge: float  # share of polyp among the outermost pixels, 0 to 1
    rims: float  # share of grey pixels of a plain mask, 0 to 1
    dark: float  # share of nearly black pixels in even areas of a plain mask, 0 to 1
    kind: str  # of the mask: `Reading.kind`
    levels: dict[str, int]  # pixels by name of color or value
    exact: bool  # whether all pixels equal their levels
    met: list[str]  # parts of the rule that the mask contains
    classes: list[str]
    orientations: list[int]  # EXIF of image and mask
    turn: str  # `Turn.known`
    drawn_again: bool  # whether the mask is stored as our own black and white NAME.bmp
    sha256: str  # of the bytes of both files, as stored
    image_sha256: str
    mask_sha256: str
    pixels: str  # digest of the decoded image; the next is that of the polyp
    polyp: str


def inspect_pair(image: Path, mask: Path, rule: MaskRule = BLACK_AND_WHITE) -> tuple[Facts, bytes | None]:
    """Facts, and bytes of the mask to store, None to keep its file; BadData for files that do not decode."""
    stored, image_problems = _tried(read_stored, image)
    raw, mask_problems = _tried(read_raw_mask, mask)
    if stored is None or raw is None:
        raise BadData(image.stem, image_problems + mask_problems)
    frame = (*stored.pixels.shape[:2], stored.orientation)
    reading = read_by_rule(raw, rule)
    turn = turn_of(frame, (*raw.shape, raw.orientation), reading.polyp, rule.exif)
    polyp = turned(reading.polyp, turn.orientation)
    unclear = reading.kind not in ("", *READ_ANYWAY)
    kept = None if unclear or _can_stay(raw, reading, turn, rule) else mask_bytes(polyp)
    height, width = frame[:2] if frame[2] < 5 else frame[1::-1]
    digests = sha256_of(image), sha256_of(mask) if kept is None else hashlib.sha256(kept).hexdigest()
    return Facts(
        height=height,
        width=width,
        mask_height=polyp.shape[0],
        mask_width=polyp.shape[1],
        polyp_fraction=float(polyp.mean()),
        edge=_edge(polyp),
        rims=_rims(raw) if kept is None else 0.0,
        dark=dark_share(raw) if kept is None and not reading.kind else 0.0,
        kind=reading.kind,
        levels=dict(reading.levels),
        exact=reading.exact,
        met=list(reading.met),
        classes=list(reading.classes),
        orientations=[frame[2], raw.orientation],
        turn=turn.known,
        drawn_again=kept is not None,
        sha256=pair_sha256(*digests),
        image_sha256=digests[0],
        mask_sha256=digests[1],
        pixels=_digest(turned(stored.pixels, stored.orientation)),
        polyp=_digest(polyp),
    ), kept


def _can_stay(raw: RawMask, reading: MaskReading, turn: Turn, rule: MaskRule) -> bool:
    """Whether `read_mask` of the original file gives this polyp."""
    if reading.kind or turn.orientation != raw.orientation:
        return False
    if rule.is_default:
        return True
    same = raw.depth == 255 and np.array_equal(reading.polyp, grey_levels(raw) > POLYP_ABOVE)
    return same and is_plain(raw)


def _digest(pixels: np.ndarray) -> str:
    """32 hex digits of a hash of shape and values."""
    content = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    content.update(pixels.tobytes())
    return content.hexdigest()


def _edge(polyp: np.ndarray) -> float:
    ring = np.ones(polyp.shape, bool)
    ring[1:-1, 1:-1] = False
    return float(polyp[ring].mean())


def _rims(raw: RawMask) -> float:
    return float(np.mean((raw.values > DARK) & (raw.values < BRIGHT)))


def pair_sha256(image_sha256: str, mask_sha256: str) -> str:
    """64 hex digits of a hash of an image's and its mask's digests."""
    return hashlib.sha256(f"{image_sha256} {mask_sha256}".encode()).hexdigest()


def _tried(read: Callable[[Path], T], path: Path) -> tuple[T | None, list[str]]:
    try:
        return read(path), []
    except BadData as error:
        return None, [f"{path.parent.name}/{path.name}: {problem}" for problem in error.problems]
