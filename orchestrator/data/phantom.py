"""Synthetic polyps for the demo and the tests: video sequences from several centers, with exact masks.

A sequence is one piece of gut wall: a height field (folds around a lumen, bumps, maybe a polyp) and a color.
A frame is that wall, moved a little, lit from the camera, seen through the optics of its center.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from orchestrator.common.errors import BadData
from orchestrator.common.files import write_atomically

Array: TypeAlias = np.ndarray[Any, Any]

CANVAS = 1.5  # side of the drawn wall, in frames: the range of the moving camera
LONGEST_SEQUENCE = 4  # frames
POLYP_FREE_EVERY = 10  # one sequence in so many has no polyp


@dataclass(frozen=True)
class Center:
    """Common properties of the frames of one hospital."""

    aspect: float  # width / height
    cast: tuple[float, float, float]  # gain of R, G, B
    gamma: float
    zoom: float
    corner: float  # share of the height covered by the black corners
    round_view: bool  # a circle instead of an octagon
    black: float  # value outside the field of view, 0 to 1
    blur: float  # pixels at a height of 160
    noise: float


@dataclass(frozen=True)
class Wall:
    """One piece of gut wall on a canvas of (H, W)."""

    color: Array  # float32 (H, W, 3), RGB
    height: Array  # float32 (H, W), in half frame heights
    polyp: Array  # float32 (H, W), 1 inside


def draw_dataset(
    folder: Path,
    *,
    num_cases: int,
    size: int = 160,
    num_centers: int = 3,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write images/, masks/ and groups.csv (name, group, center); `size` is the height of a frame in pixels.

    The same arguments give the same pixels. BadData for a folder that is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadData(str(folder), "expected a new or empty folder to draw into, found files; name another")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "images").mkdir(parents=True)
    (partial / "masks").mkdir()
    rows = []
    for name, group, center, image, mask in _frames(num_cases, size, num_centers, seed):
        _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        write_atomically(partial / "images" / f"{name}.jpg", jpeg.tobytes(), sync=False)
        write_atomically(
            partial / "masks" / f"{name}.png", cv2.imencode(".png", mask)[1].tobytes(), sync=False
        )
        rows.append((name, group, center))
        if on_progress:
            on_progress(len(rows), num_cases)
    with (partial / "groups.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "group", "center"), *rows])
    partial.replace(folder)


def _frames(
    num_cases: int, size: int, num_centers: int, seed: int
) -> Iterator[tuple[str, str, str, Array, Array]]:
    """Yield (name, group, center, image uint8 (H, W, 3), mask uint8 (H, W) of 0 and 255), case after case."""
    centers = [_center(np.random.default_rng([seed, 1, index]), index) for index in range(num_centers)]
    drawn = sequence = 0
    while drawn < num_cases:
        rng = np.random.default_rng([seed, 2, sequence])
        number = sequence % num_centers
        wall = _wall(rng, size, centers[number].aspect, with_polyp=sequence % POLYP_FREE_EVERY != 2)
        num_frames = min(int(rng.integers(2, LONGEST_SEQUENCE + 1)), num_cases - drawn)
        for frame in range(num_frames):
            image, mask = _frame(rng, wall, centers[number], size)
            yield (
                f"video{sequence:03d}_frame{frame}",
                f"video{sequence:03d}",
                f"center{number + 1}",
                image,
                mask,
            )
        drawn += num_frames
        sequence += 1


def _center(rng: np.random.Generator, index: int) -> Center:
    hue = 2 * np.pi * (index * 0.382 + 0.1 * rng.random())  # golden steps keep neighbours apart
    red, green, blue = (1 + 0.10 * np.cos(hue + shift) for shift in (0, 2.1, 4.2))
    return Center(
        aspect=(1.25, 1.0, 1.1)[index % 3],
        cast=(float(red), float(green), float(blue)),
        gamma=float(rng.uniform(0.85, 1.2)),
        zoom=(1.0, 1.25, 0.9)[index % 3],
        corner=float(rng.uniform(0.1, 0.3)),
        round_view=index % 3 == 1,
        black=(0.02, 0.0, 0.08)[index % 3],
        blur=float(rng.uniform(0.3, 0.9)),
        noise=float(rng.uniform(0.006, 0.018)),
    )


def _grid(height: int, width: int, *, extent: float) -> tuple[Array, Array]:
    """x and y of every pixel, float32 (H, W); y runs from -extent to extent, x in the same unit."""
    step = 2 * extent / height
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) * step
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) * step
    return np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> Array:
    """Smooth noise of mean 0 and deviation near 1, with `cells` bumps along the height."""
    grid = rng.standard_normal((cells + 3, round(cells * shape[1] / shape[0]) + 3), dtype=np.float32)
    return cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def _wall(rng: np.random.Generator, size: int, aspect: float, *, with_polyp: bool) -> Wall:
    """A wall with folds around a lumen, vessels, patches of other color and, optionally, one polyp."""
    shape = (round(CANVAS * size), round(CANVAS * size * aspect))
    x, y = _grid(*shape, extent=CANVAS)
    folds, depth = _folds(rng, x, y)
    bumps = ((0.030, 4), (0.010, 12), (0.0022, 50))  # how high, how many
    height = folds + sum(high * _noise(rng, shape, cells) for high, cells in bumps)
    color = _mucosa(rng, shape)
    polyp = np.zeros(shape, np.float32)
    if with_polyp:
        polyp, dome, shadow, tone = _polyp(rng, x, y)
        skin = cv2.blur(color, (size // 3, size // 3)) * tone
        height = height * (1 - 0.6 * cv2.GaussianBlur(polyp, (0, 0), size / 50)) + dome
        color = (color * (1 - polyp[..., None]) + skin * polyp[..., None]) * shadow[..., None]
        depth = depth * (1 - polyp) + polyp * np.maximum(depth, 0.75)
    # Without blur the step between polyp and wall would cause dotted glints.
    smooth = cv2.GaussianBlur(height.astype(np.float32), (0, 0), size / 160)
    return Wall(color * depth[..., None], smooth, polyp)


def _folds(rng: np.random.Generator, x: Array, y: Array) -> tuple[Array, Array]:
    """Height of the folds, and brightness by depth: dark in the lumen, which may lie outside the frame."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5)
    radius = np.hypot(x - distance * np.cos(angle), y - distance * np.sin(angle))
    radius = radius * (1 + 0.10 * _noise(rng, x.shape, 3)) + 0.04 * _noise(rng, x.shape, 7)
    phase = rng.uniform(5, 8) * np.log(np.maximum(radius, 0) + 0.3) + rng.uniform(0, 6)
    crest = (0.5 + 0.5 * np.cos(phase)) ** 3 * np.clip(0.7 + 0.5 * _noise(rng, x.shape, 3), 0, 1.3)
    depth = 1 - 0.85 * np.exp(-((np.maximum(radius, 0) / rng.uniform(0.3, 0.5)) ** 2))
    return rng.uniform(0.12, 0.28) * crest * np.clip(radius, 0.2, 1), depth


def _mucosa(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Color of the wall, float32 (H, W, 3): pink, cloudy, crossed by vessels, here and there inflamed."""
    base = np.array([0.84, 0.50, 0.42], np.float32) * rng.uniform(0.92, 1.06, 3).astype(np.float32)
    clouds = 0.05 * _noise(rng, shape, 4) + 0.035 * _noise(rng, shape, 10) + 0.025 * _noise(rng, shape, 40)
    color = base * (1 + clouds[..., None] * np.array([0.7, 1.3, 1.2], np.float32))
    inflamed = np.clip(_noise(rng, shape, 4) - 0.9, 0, 0.8)[..., None]
    color = color * (1 - inflamed * np.array([0.08, 0.40, 0.34], np.float32))
    vessels = _vessels(rng, shape)[..., None]
    result: Array = color * (1 - vessels * np.array([0.12, 0.42, 0.34], np.float32))
    return result


def _vessels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Branching lines, float32 (H, W) from 0 to about 0.6."""
    lines = np.zeros(shape, np.uint8)
    unit = shape[0] / 240
    for _ in range(int(rng.integers(4, 9))):
        start, angle = rng.uniform(0, 1, 2) * (shape[1], shape[0]), rng.uniform(0, 2 * np.pi)
        for branch in range(3):
            turns = angle + rng.normal(0, 0.6 * branch) + np.cumsum(rng.normal(0, 0.22, 26))
            path = start + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * 5 * unit, axis=0)
            thickness = max(1, round((2.0 - 0.5 * branch) * unit))
            cv2.polylines(lines, [path.round().astype(np.int32)], False, 255, thickness, cv2.LINE_AA)
            start = path[int(rng.integers(4, 18))]
    return cv2.GaussianBlur(lines, (0, 0), 0.8 * unit + 0.2).astype(np.float32) / 255 * rng.uniform(0.4, 0.8)


def _polyp(rng: np.random.Generator, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """Mask, height of the dome, shadow around it (all (H, W)), tint of its skin (H, W, 3)."""
    radius = np.exp(rng.uniform(np.log(0.16), np.log(0.60)))
    tilt, slimness = rng.uniform(0, np.pi), rng.uniform(0.62, 1.0)
    dx, dy = x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.45, 0.45)
    along = (dx * np.cos(tilt) + dy * np.sin(tilt)) * slimness
    across = (dy * np.cos(tilt) - dx * np.sin(tilt)) / slimness
    theta = np.arctan2(across, along)
    rim = 1 + sum(rng.normal(0, 0.16 / k) * np.cos(k * theta + rng.uniform(0, 6)) for k in (2, 3, 4, 5))
    u = np.hypot(along, across) / (radius * rim)
    mask = (u < 1).astype(np.float32)
    lobes = 1 + 0.14 * _noise(rng, x.shape, 9)
    dome = rng.uniform(0.4, 0.85) * radius * np.clip(1 - u**2, 0, 1) ** rng.uniform(0.75, 1.1) * lobes
    shadow = 1 - rng.uniform(0.08, 0.30) * np.exp(-(((u - 1.04) / 0.11) ** 2))
    redness, warmth = rng.uniform(0.72, 1.12), rng.uniform(0.92, 1.08)
    base = np.array([0.5 + 0.5 * redness, redness, redness * warmth], np.float32) * rng.uniform(0.95, 1.08)
    pits = (
        0.055 * _noise(rng, x.shape, 34) + 0.045 * _noise(rng, x.shape, 70) + 0.04 * _noise(rng, x.shape, 8)
    )
    tone = base * (1 + pits[..., None] * np.array([0.7, 1.3, 1.3], np.float32))
    return mask, dome.astype(np.float32), shadow.astype(np.float32), tone.astype(np.float32)


def _frame(rng: np.random.Generator, wall: Wall, center: Center, size: int) -> tuple[Array, Array]:
    """One view of the wall: image uint8 (H, W, 3) and mask uint8 (H, W)."""
    height, width = size, round(size * center.aspect)
    move: Array = cv2.getRotationMatrix2D(
        (wall.polyp.shape[1] / 2, wall.polyp.shape[0] / 2),
        rng.normal(0, 4),
        center.zoom * np.exp(rng.normal(0, 0.04)),
    )
    move[:, 2] += np.array([width - wall.polyp.shape[1], height - wall.polyp.shape[0]]) / 2
    move[:, 2] += rng.normal(0, 0.03, 2) * size

    def seen(plane: Array) -> Array:
        return cv2.warpAffine(
            plane, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )

    view = _view(height, width, center)
    diffuse, shine = _light(rng, seen(wall.height) * center.zoom)
    image = seen(wall.color) * diffuse[..., None] + shine[..., None]
    image = np.clip(image * center.cast, 0, 1) ** center.gamma
    image = image * view[..., None] + center.black * (1 - view[..., None])
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), max(0.2, center.blur * size / 160))
    image = image + rng.normal(0, center.noise, image.shape)
    mask = (seen(wall.polyp) > 0.5) & (view > 0.5)
    return (np.clip(image, 0, 1) * 255).round().astype(np.uint8), mask.astype(np.uint8) * 255


def _light(rng: np.random.Generator, height: Array) -> tuple[Array, Array]:
    """Diffuse light with its fall-off, and specular glints, both (H, W), for a lamp next to the lens."""
    x, y = _grid(height.shape[0], height.shape[1], extent=1)
    scale = height.shape[0] / 2 / 8  # Sobel sums over eight pixels
    slope_x, slope_y = cv2.Sobel(height, -1, 1, 0) * scale, cv2.Sobel(height, -1, 0, 1) * scale
    lamp_x, lamp_y = rng.normal(0, 0.12, 2)
    to_lamp_x, to_lamp_y, to_lamp_z = lamp_x - x, lamp_y - y, 1.1
    length = np.sqrt(to_lamp_x**2 + to_lamp_y**2 + to_lamp_z**2)
    steepness = np.sqrt(slope_x**2 + slope_y**2 + 1)
    facing = (to_lamp_z - slope_x * to_lamp_x - slope_y * to_lamp_y) / (length * steepness)
    diffuse = (0.22 + 0.95 * np.clip(facing, 0, 1)) * 1.32 / (1 + 0.30 * (length**2 - to_lamp_z**2))
    tilt_x, tilt_y = slope_x - 0.75 * to_lamp_x, slope_y - 0.75 * to_lamp_y  # zero where the lamp is mirrored
    gloss = np.exp(-(tilt_x**2 + tilt_y**2) / 0.012)
    wet = np.clip(_noise(rng, height.shape, 16) + 0.2, 0, 1)
    return diffuse, 0.9 * gloss * wet


def _view(height: int, width: int, center: Center) -> Array:
    """1 in the field of view, 0 in the black corners, float32 (H, W)."""
    x, y = _grid(height, width, extent=1)
    half_width = width / height
    if center.round_view:
        inside = 1.22 * max(1.0, half_width) - np.hypot(x, y)
    else:
        inside = (half_width + 1 - 2 * center.corner) - (np.abs(x) + np.abs(y))
    return np.clip(inside * height / 4 + 0.5, 0, 1).astype(np.float32)
