"""The levels of a mask (grey levels, labels or colors): what they are called, and which pixel is of which."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from PIL import ImageColor

from orchestrator.data.masks import CHROMATIC, DARK, FEW, RINGING, Color, Drawn

Level = int | float | Color
MAX_LEVELS = 64  # of one mask; a picture has more
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
NEAR = 60  # how far a color may be from one that bears its name


@dataclass(frozen=True)
class Levels:
    """Every pixel of a mask by the level it is nearest to."""

    keys: tuple[Level, ...]
    counts: tuple[int, ...]  # pixels
    of: np.ndarray  # (H, W): position in `keys`
    exact: bool = True  # every pixel has its level to the very value
    between: float = 0.0  # share of pixels that are near no level, 0 to 1


def levels_of_values(drawn: Drawn, wanted: Sequence[int] = ()) -> Levels:
    """Levels that fill an area, exact where the mask is; `wanted` ones too, where JPEG left nothing near them."""
    found, places, counts = np.unique(drawn.values, return_inverse=True, return_counts=True)
    places = places.reshape(drawn.shape)
    if len(found) <= FEW and not drawn.lossy:
        return Levels(tuple(found.tolist()), tuple(counts.tolist()), places)
    keys = _flat_values(drawn, wanted)
    apart = np.abs(found[:, None].astype(float) - np.array(keys, float))
    nearest, distance = apart.argmin(axis=1), apart.min(axis=1)
    return _levels(keys, nearest, distance > RINGING, counts, places)


def _flat_values(drawn: Drawn, wanted: Sequence[int]) -> list[int | float]:
    values = drawn.values
    if values.dtype.kind not in "u" or values.dtype.itemsize > 2:
        found, counts = np.unique(values, return_counts=True)
    else:
        steps = cv2.morphologyEx(values, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        flat = values[steps <= (RINGING if drawn.lossy else 0)]
        found, counts = np.unique(flat if flat.size else values, return_counts=True)
    near = RINGING if drawn.lossy and values.max() > DARK else 0
    keys: list[int | float] = []
    for value in found[np.argsort(-counts, kind="stable")].tolist():
        if len(keys) < MAX_LEVELS and all(abs(value - key) > near for key in keys):
            keys.append(value)
    keys += [value for value in wanted if all(abs(value - key) > near for key in keys)]
    return sorted(keys)


def levels_of_colors(drawn: Drawn, wanted: Sequence[Color] = ()) -> Levels:
    """The same for colors; a pixel between two belongs to the nearer one."""
    colors = drawn.colors if drawn.colors is not None else np.repeat(grey_levels(drawn)[..., None], 3, axis=2)
    packed = colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    places = places.reshape(packed.shape)
    rgb = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(int)
    if len(found) <= FEW and not drawn.lossy:
        keys = [_color(one) for one in rgb]
        return Levels(tuple(keys), tuple(counts.tolist()), places)
    keys = _flat_colors(colors, packed, drawn.lossy)
    keys += [one for one in wanted if not any(answers(key, one) for key in keys)]
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
    """From each distinct value, or color, of a mask: its nearest key, whether that is far, its count."""
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
        color = (one >> 16, one >> 8 & 255, one & 255)
        if len(keys) < MAX_LEVELS and not (lossy and any(_apart(color, key) <= CHROMATIC for key in keys)):
            keys.append(color)
    return keys if any(_apart(key, BASIC["black"]) <= CHROMATIC for key in keys) else [*keys, BASIC["black"]]


def grey_levels(drawn: Drawn) -> np.ndarray:
    """uint8 (H, W): values on the scale from black to white."""
    if drawn.depth == 255:
        return drawn.values.astype(np.uint8)
    return np.clip(drawn.values / drawn.depth * 255, 0, 255).astype(np.uint8)


def answers(color: Color, asked: Color) -> bool:
    """Whether a color of a mask is meant by the one that was asked for: a basic one by its hue, others by nearness."""
    if asked in BASIC.values():
        return _hue_name(color) == _hue_name(asked)
    return _apart(color, asked) <= NEAR


def level_name(level: Level) -> str:
    """red, #800000, 100"""
    if not isinstance(level, tuple):
        return f"{level:g}"
    near = min(BASIC, key=lambda name: _apart(BASIC[name], level))
    return near if _apart(BASIC[near], level) <= NEAR else "#{:02x}{:02x}{:02x}".format(*level)


def merged(counts: Mapping[str, int]) -> dict[str, int]:
    """Pixels by name of level, those of one level together that JPEG left a little different in every mask."""
    kept: dict[str, int] = {}
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        same = next((other for other in kept if _alike(name, other)), name)
        kept[same] = kept.get(same, 0) + count
    return kept


def _alike(one: str, other: str) -> bool:
    colors = [
        BASIC.get(name) or (ImageColor.getrgb(name) if name[0] == "#" else None) for name in (one, other)
    ]
    if colors[0] is not None and colors[1] is not None:
        return _apart(colors[0][:3], colors[1][:3]) <= CHROMATIC
    return colors == [None, None] and abs(float(one) - float(other)) <= RINGING


@cache
def _hue_name(color: Color) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    if value < 0.2:
        return "black"
    if saturation < 0.25:
        return "white" if value > 0.8 else "grey"
    return next((name for limit, name in HUES if hue * 360 < limit), "red")


def _apart(one: Sequence[int], other: Sequence[int]) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def _color(rgb: np.ndarray) -> Color:
    return int(rgb[0]), int(rgb[1]), int(rgb[2])
