"""The levels of a mask (grey levels, labels or colors): their names, and the level of each pixel."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from orchestrator.data.masks.values import CHROMATIC, DARK, FEW, RINGING, Color, RawMask

Level = int | float | Color
MAX_LEVELS = 64  # of one mask; a photograph has more
MAX_COLORS = 1 << 16  # the same, including the variations that JPEG adds
BASIC: dict[str, Color] = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}
HUES = (
    (20, "red"),
    (40, "orange"),
    (75, "yellow"),
    (165, "green"),
    (195, "cyan"),
    (270, "blue"),
    (345, "magenta"),
)
NEAR = 60  # largest distance of a color from the one whose name it gets


@dataclass(frozen=True)
class RequestedColor:
    """A color requested by the user: by name the whole hue, otherwise similar colors."""

    color: Color
    by_name: bool

    def matches(self, found: Color) -> bool:
        if self.by_name:
            return hue_name(found) == hue_name(self.color)
        return _distance(found, self.color) <= NEAR


@dataclass(frozen=True)
class Levels:
    """Every pixel of a mask by its nearest level."""

    keys: tuple[Level, ...]
    counts: tuple[int, ...]  # pixels
    of: np.ndarray  # (H, W): position in `keys`
    exact: bool = True  # whether every pixel equals its level
    between: float = 0.0  # share of pixels near no level, 0 to 1


def levels_of_values(raw: RawMask, wanted: Sequence[float] = ()) -> Levels:
    """Levels that fill an area, and `wanted` ones; values in between belong to the nearer level.

    Few distinct values are a level each, except rims once `wanted` is known.
    """
    found, places, counts = np.unique(raw.values, return_inverse=True, return_counts=True)
    places = places.reshape(raw.shape)
    has_rims = wanted and raw.depth == 255 and found[-1] > DARK
    if len(found) <= FEW and not raw.lossy and not has_rims:
        return Levels(tuple(found.tolist()), tuple(counts.tolist()), places)
    keys = _flat_values(raw, wanted)
    apart = np.abs(found[:, None].astype(float) - np.array(keys, float))
    nearest, distance = apart.argmin(axis=1), apart.min(axis=1)
    return _levels(keys, nearest, distance > RINGING, counts, places)


def _flat_values(raw: RawMask, wanted: Sequence[float]) -> list[int | float]:
    values = raw.values
    if values.dtype.kind not in "u" or values.dtype.itemsize > 2:
        found, counts = np.unique(values, return_counts=True)
    else:
        steps = cv2.morphologyEx(values, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        flat = values[steps <= (RINGING if raw.lossy else 0)]
        found, counts = np.unique(flat if flat.size else values, return_counts=True)
    near = RINGING if raw.lossy and values.max() > DARK else 0
    keys: list[int | float] = []
    for value in found[np.argsort(-counts, kind="stable")].tolist():
        if len(keys) < MAX_LEVELS and all(abs(value - key) > near for key in keys):
            keys.append(value)
    keys += [value for value in wanted if all(abs(value - key) > near for key in keys)]
    return sorted(keys)


def levels_of_colors(raw: RawMask, wanted: Sequence[RequestedColor] = ()) -> Levels:
    """Levels of colors that fill an area, and of `wanted`; without `wanted` none beyond MAX_COLORS colors."""
    colors = raw.colors if raw.colors is not None else np.repeat(grey_levels(raw)[..., None], 3, axis=2)
    packed = colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    places = places.reshape(packed.shape)
    if len(found) <= FEW and not raw.lossy and not wanted:
        return Levels(tuple(_color(int(one)) for one in found), tuple(counts.tolist()), places)
    if len(found) > MAX_COLORS and not wanted:
        return Levels((), (), np.zeros(raw.shape, int), exact=False, between=1.0)
    keys = _flat_colors(colors, packed, raw.lossy)
    keys += [one.color for one in wanted if not any(one.matches(key) for key in keys)]
    rgb = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(int)
    nearest = np.zeros(len(rgb), int)
    best = np.full(len(rgb), np.inf)
    for position, key in enumerate(keys):
        distance = ((rgb - np.array(key)) ** 2).sum(axis=1)
        nearest[distance < best] = position
        best = np.minimum(best, distance)
    return _levels(keys, nearest, best > CHROMATIC**2, counts, places)


def _levels(
    keys: Sequence[Level], nearest: np.ndarray, far: np.ndarray, counts: np.ndarray, places: np.ndarray
) -> Levels:
    """Levels from each distinct value or color of a mask: its nearest key, whether that is far, its count."""
    of_keys = np.bincount(nearest, weights=counts, minlength=len(keys)).astype(int)
    between = float(counts[far].sum() / counts.sum())
    return Levels(tuple(keys), tuple(of_keys.tolist()), nearest[places], exact=False, between=between)


def _flat_colors(colors: np.ndarray, packed: np.ndarray, lossy: bool) -> list[Color]:
    steps = cv2.morphologyEx(np.ascontiguousarray(colors), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)).max(
        axis=2
    )
    flat = packed[steps <= (RINGING if lossy else 0)]
    found, counts = np.unique(flat if flat.size else packed, return_counts=True)
    keys: list[Color] = []
    for one in found[np.argsort(-counts, kind="stable")].tolist():
        color = _color(one)
        if not (lossy and any(_distance(color, key) <= CHROMATIC for key in keys)):
            keys.append(color)
        if len(keys) == MAX_LEVELS:
            break
    return (
        keys if any(_distance(key, BASIC["black"]) <= CHROMATIC for key in keys) else [*keys, BASIC["black"]]
    )


def grey_levels(raw: RawMask) -> np.ndarray:
    """uint8 (H, W): values scaled so that black is 0 and white is 255."""
    if raw.depth == 255:
        return raw.values.astype(np.uint8)
    return np.clip(raw.values / raw.depth * 255, 0, 255).astype(np.uint8)


def level_name(level: Level) -> str:
    """Name of a level: red, #800000, 100."""
    if not isinstance(level, tuple):
        return f"{level:g}"
    near = min(BASIC, key=lambda name: _distance(BASIC[name], level))
    return near if _distance(BASIC[near], level) <= NEAR else "#{:02x}{:02x}{:02x}".format(*level)


def merged(counts: Mapping[str, int]) -> dict[str, int]:
    """Pixels by name of level; names of levels that differ only by JPEG artefacts are merged."""
    kept: dict[str, int] = {}
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        same = next((other for other in kept if _alike(name, other)), name)
        kept[same] = kept.get(same, 0) + count
    return kept


def _alike(one: str, other: str) -> bool:
    color, other_color = color_named(one), color_named(other)
    if color is None or other_color is None:
        return color == other_color and abs(float(one) - float(other)) <= RINGING
    return _distance(color, other_color) <= CHROMATIC


def color_named(name: str) -> Color | None:
    """The color with this `level_name`; None for a value."""
    if name in BASIC:
        return BASIC[name]
    return _color(int(name[1:], 16)) if name.startswith("#") else None


@cache
def hue_name(color: Color) -> str:
    """Name of a hue, red for bright and dark red; black, grey or white without a hue."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    if value < 0.2:
        return "black"
    if saturation < 0.25:
        return "white" if value > 0.8 else "grey"
    return next((name for limit, name in HUES if hue * 360 < limit), "red")


def _distance(one: Sequence[int], other: Sequence[int]) -> float:
    return math.dist(one, other)


def _color(packed: int) -> Color:
    return packed >> 16, packed >> 8 & 255, packed & 255
