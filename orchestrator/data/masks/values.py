"""Content of a mask file before any interpretation: grey levels, labels, colors or an alpha channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from orchestrator.data.images import (
    POLYP_ABOVE,
    decoding,
    is_tiff,
    luminance,
    only_page,
    orientation_of,
    refuse_animation,
    refuse_large,
    tiff_values,
)

DARK, BRIGHT = 32, 223  # grey levels up to which a pixel is clearly background, and from which clearly polyp
CHROMATIC = 64  # difference between the channels of a pixel from which it has a color
FEW = 16  # most levels of a mask without blur or lossy compression
RINGING = 24  # deviation that JPEG adds to an even area, in grey levels
JPEG_BLACK = 3  # highest value that JPEG gives to black
RIM = 8  # highest label; darker rims of published masks are at 9 and above, up to five pixels wide
RIM_SPECKS = 24  # pixels of an isolated dark speck in masks as published (largest: 14)
MAX_GREY_SHARE = 0.01  # away from outlines; none in five published sets
MAX_MIDDLE = 0.25  # share of grey pixels that may all be rims, in small upscaled frames
LOSSY_SPECKS = 300  # pixels of an isolated speck from JPEG of quality 30 (largest: 137)

Color = tuple[int, int, int]


@dataclass(frozen=True)
class RawMask:
    """A mask as stored in its file, without EXIF rotation."""

    values: np.ndarray  # (H, W), numbers: grey levels, labels, indices of a palette, or the alpha channel
    colors: np.ndarray | None  # uint8 (H, W, 3); None for grey masks
    orientation: int  # by EXIF, 1 to 8
    lossy: bool  # whether compression is lossy, as in JPEG
    depth: int = 255  # the value of white
    labels: bool = True  # whether `values` are stored numbers; otherwise the luminance of colors
    channel: str = ""  # "alpha" if only the alpha channel distinguishes polyp and background
    has_hidden_labels: bool = False  # whether `values` are indices of a palette that shows them all alike
    # whether some transparent pixels are not black, so that viewers and programs show different content
    has_hidden_colors: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]


def read_raw_mask(path: Path) -> RawMask:
    """The mask in a file; BadData if it does not decode, or is not an image."""
    with decoding(path):
        raw = _read_tiff(path) if is_tiff(path) else _read_pillow(path)
        if not np.isfinite(raw.values).all():
            raise ValueError("holds values that are not finite (NaN, infinite); write 0 there, or 255")
        return raw


def _read_pillow(path: Path) -> RawMask:
    with Image.open(path) as image:
        refuse_large(image.height, image.width)
        refuse_animation(image)
        image.load()
        lossy, turn = image.format in ("JPEG", "MPO", "WEBP"), orientation_of(image)
        if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
            pixels = np.asarray(image.convert("RGBA"))
            return _with_alpha(pixels[..., :3], pixels[..., 3], turn, lossy)
        if image.mode.startswith(("I", "F")):
            values = np.asarray(image)
            return RawMask(values, None, turn, lossy, depth=65535 if image.mode.startswith("I") else 1)
        if image.mode == "P":
            return _colored(np.asarray(image.convert("RGB")), turn, lossy, np.asarray(image))
        if image.mode in ("1", "L"):
            return RawMask(np.asarray(image.convert("L")), None, turn, lossy)
        return _colored(np.asarray(image.convert("RGB")), turn, lossy)


def _read_tiff(path: Path) -> RawMask:
    with tifffile.TiffFile(path) as file:
        page = only_page(file)
        pixels, turn = tiff_values(path, page), orientation_of(page)
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, 2)
        size = (page.imagelength, page.imagewidth)
        if pixels.shape[:2] != size or pixels.shape[2:] not in ((), (2,), (3,), (4,)):
            raise ValueError(f"expected {size[1]} x {size[0]} grey, RGB or RGBA, found {pixels.shape}")
        if page.dtype == np.bool_:
            pixels = pixels.astype(np.uint8) * np.uint8(255)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype == np.uint8:
            pixels = 255 - pixels
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and page.colormap is not None:
            palette = (page.colormap.T >> 8).astype(np.uint8)
            return _colored(palette[pixels], turn, False, pixels)
        if pixels.ndim == 2:
            depth = int(np.iinfo(pixels.dtype).max) if pixels.dtype.kind in "ui" else 1
            return RawMask(pixels, None, turn, False, depth)
        if pixels.dtype != np.uint8:
            raise ValueError(f"expected 8 bits per channel, found {page.dtype}; convert it to 8 bits")
        if pixels.shape[2] == 3:
            return _colored(pixels, turn, False)
        colors = pixels[..., [0, 0, 0]] if pixels.shape[2] == 2 else pixels[..., :3]
        return _with_alpha(colors, pixels[..., -1], turn, False)


def _colored(colors: np.ndarray, turn: int, lossy: bool, indices: np.ndarray | None = None) -> RawMask:
    """The mask, without colors if all are grey; its values are `indices` if colored, or if all look alike."""
    channels = cv2.split(np.ascontiguousarray(colors))
    highest, lowest = (pick(pick(*channels[:2]), channels[2]) for pick in (cv2.max, cv2.min))
    if (highest - lowest).max(initial=0) > CHROMATIC:
        values = luminance(colors) if indices is None else indices
        return RawMask(values, colors, turn, lossy, labels=indices is not None)
    grey = luminance(colors)
    if indices is not None and np.ptp(grey) == 0 and np.ptp(indices) > 0:
        return RawMask(indices, None, turn, lossy, has_hidden_labels=True)
    return RawMask(grey, None, turn, lossy)


def _with_alpha(colors: np.ndarray, alpha: np.ndarray, turn: int, lossy: bool) -> RawMask:
    if np.ptp(alpha) == 0:
        return _colored(colors, turn, lossy)
    if np.ptp(colors.reshape(-1, 3), axis=0).max() == 0:
        return RawMask(alpha, None, turn, lossy, channel="alpha")
    shown = np.where(alpha[..., None] == 0, np.uint8(0), colors)
    if np.array_equal(shown, colors):
        return _colored(colors, turn, lossy)
    return RawMask(alpha, shown, turn, lossy, has_hidden_colors=True)


def is_plain(raw: RawMask) -> bool:
    """Whether a mask contains only black, white and the rims between them.

    A rim is thin and touches something bright. A region that is flat inside, or isolated, is not a rim, whatever its
    size.
    """
    values = raw.values
    if raw.colors is not None or raw.has_hidden_colors or raw.has_hidden_labels:
        return False
    if raw.depth != 255:
        return set(np.unique(values).tolist()) <= {0, raw.depth}
    if values.max(initial=0) <= DARK:
        result: bool = values.max(initial=0) <= (JPEG_BLACK if raw.lossy else 0)
        return result
    between = (values > 0) & (values < BRIGHT)
    return not between.any() or not _has_regions(values, raw.lossy)


def _has_regions(values: np.ndarray, lossy: bool) -> bool:
    exact = not lossy and np.count_nonzero(np.bincount(values.ravel(), minlength=256)) <= FEW
    steps = cv2.morphologyEx(values, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    flat = steps <= (0 if exact else RINGING)
    middle = (values > DARK * (1 + lossy)) & (values < BRIGHT)
    if (
        (middle & flat).any()
        or middle.mean() > MAX_MIDDLE
        or _away_from_outlines(values, middle) > MAX_GREY_SHARE
    ):
        return True
    if exact and ((values > 0) & (values <= RIM) & flat).any():
        return True
    if not exact and ((values > RIM) & (values < BRIGHT)).sum() <= LOSSY_SPECKS:
        return False
    count, parts, facts, _ = cv2.connectedComponentsWithStats((values > RIM).astype(np.uint8), connectivity=8)
    apart = np.bincount(parts[values >= BRIGHT], minlength=count) == 0
    apart[0] = False  # the background
    areas = facts[:, cv2.CC_STAT_AREA]
    if not exact:
        return bool((apart & (areas > LOSSY_SPECKS)).any())
    dim = np.bincount(parts[values > DARK], minlength=count) > 0
    return bool((apart & (dim | (areas > RIM_SPECKS))).any())


def dark_share(raw: RawMask) -> float:
    """Share of pixels, 0 to 1, in even areas of dark grey: a wide rim, or a dim polyp."""
    values = raw.values
    dark = (values > 0) & (values <= DARK)
    if values.dtype != np.uint8 or not dark.any():
        return 0.0
    return float(
        np.mean(dark & (cv2.morphologyEx(values, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) == 0))
    )


def _away_from_outlines(values: np.ndarray, middle: np.ndarray) -> float:
    """Share of pixels that are grey and over two pixels from an outline: of noise, which is not flat."""
    polyp = (values > POLYP_ABOVE).astype(np.uint8)
    outline = cv2.morphologyEx(polyp, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))
    return float(np.mean(middle & (outline == 0)))
