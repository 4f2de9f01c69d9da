"""Image and mask files -> arrays; what cannot be read is refused in words."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps

from orchestrator.errors import BadData

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 89_000_000  # just under the size at which Pillow suspects a decompression bomb
MAX_TIFF_SLACK = 1 << 16  # bytes that compression may add to noise
POLYP_ABOVE = 127  # some published masks hold grey rims: "not zero" would enlarge their polyps by up to 44 %
ORIENTATION = 0x0112  # EXIF tag; SIDEWAYS are its values that swap height and width
SIDEWAYS = (5, 6, 7, 8)
RUN_LENGTHS = 1  # BI_RLE8 of the BMP format

# What Pillow and tifffile raise on damaged files.
DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error),
    *(ArithmeticError, LookupError, TypeError, NotImplementedError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3), RGB, turned upright by its EXIF tag; grey files are repeated over the channels."""
    pixels = _read(path, "RGB")
    return (
        np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., :3])
    )


def read_mask(path: Path) -> np.ndarray:
    """bool (H, W), true on the polyp: values above 127."""
    return read_grey_mask(path) > POLYP_ABOVE


def read_grey_mask(path: Path) -> np.ndarray:
    """uint8 (H, W) as stored; the luminance where a mask has color channels."""
    pixels = _read(path, "L")
    return pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels[..., :3]).convert("L"))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels, upright, from the header alone; BadData where there is no such header."""
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                return page.imagelength, page.imagewidth
        with Image.open(path) as image:
            turned = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
            return (image.width, image.height) if turned else (image.height, image.width)
    except DECODE_ERRORS as error:
        raise BadData(str(path), f"does not decode: {_reason(error, path)}") from error


def write_black_mask(path: Path, height: int, width: int) -> None:
    """A mask without a polyp, as a run-length coded BMP: small, and the same bytes on every machine.

    Coded by hand as the bytes of a dataset are its fingerprint, and PNG encoders differ.
    """
    row = b"\xff\x00" * (width // 255) + bytes((width % 255, 0)) * (width % 255 > 0) + b"\x00\x00"
    pixels = row * height + b"\x00\x01"
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))
    offset = 14 + 40 + len(palette)
    header = struct.pack("<2sIII", b"BM", offset + len(pixels), 0, offset)
    header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, RUN_LENGTHS, len(pixels), 0, 0, 256, 0)
    path.write_bytes(header + palette + pixels)


def _reason(error: Exception, path: Path) -> str:
    return " ".join(str(error).replace(str(path), "the file").split()) or type(error).__name__


def _read(path: Path, mode: str) -> np.ndarray:
    """uint8 (H, W) or (H, W, 3 or more); refused: damaged, deeper than 8 bits, more than MAX_PIXELS."""
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            return _read_tiff(path)
        return _read_pillow(path, mode)
    except DECODE_ERRORS as error:
        raise BadData(str(path), f"does not decode: {_reason(error, path)}") from error


def _read_pillow(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        _refuse_large(image.height, image.width)
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"expected 8 bits a channel, found mode {image.mode}; convert it to 8 bits")
        image.load()
        return np.asarray(ImageOps.exif_transpose(image).convert(mode))


def _read_tiff(path: Path) -> np.ndarray:
    """By tifffile: Pillow refuses, and OpenCV reads as grey, RGB frames that are tagged MinIsBlack."""
    with tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise ValueError(f"expected one page, found {len(file.pages)}")
        page = file.pages.first
        _refuse_large(page.imagelength, page.imagewidth)
        if page.axes not in ("YX", "YXS", "SYX") or page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            raise ValueError(f"expected a grey or RGB picture, found axes {page.axes}; save it as PNG")
        if page.dtype not in (np.uint8, np.bool_):
            raise ValueError(f"expected 8 bits a channel, found {page.dtype}; convert it to 8 bits")
        if (turn := page.tags.valueof("Orientation", 1)) != 1:
            raise ValueError(f"expected an upright TIFF, found Orientation {turn}; save it upright")
        if sum(page.databytecounts) > page.nbytes + MAX_TIFF_SLACK:
            raise ValueError("holds more data than its pixels need, as a decompression bomb does")
        pixels = page.asarray()
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, 2)
        expected = [(page.imagelength, page.imagewidth, *channels) for channels in ((), (3,), (4,))]
        if pixels.shape not in expected:
            raise ValueError(
                f"expected {page.imagewidth} x {page.imagelength} grey, RGB or RGBA, found {pixels.shape}"
            )
        pixels = pixels.astype(np.uint8) * (255 if page.dtype == np.bool_ else 1)
        return 255 - pixels if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else pixels


def _refuse_large(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"expected at most {MAX_PIXELS:,} pixels, found {width} x {height}")
