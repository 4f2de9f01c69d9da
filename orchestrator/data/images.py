"""Image and mask files as arrays; unreadable files are rejected with the reason."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

from orchestrator.common.errors import BadData
from orchestrator.common.faults import machine_fault
from orchestrator.data.disguise import seems_to_be

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 89_000_000  # just below the size at which Pillow suspects a decompression bomb
MAX_TIFF_SLACK = 1 << 16  # bytes that compression may add to noise
POLYP_ABOVE = 127  # some published masks have grey rims: "not zero" would enlarge their polyps by up to 44 %
ORIENTATION = 0x0112  # EXIF tag; SIDEWAYS are its values that swap height and width
SIDEWAYS = (5, 6, 7, 8)
# Orientation -> steps over rows and columns, after both are swapped where it is sideways.
FLIPS = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}
JPEG = (tifffile.COMPRESSION.OJPEG, tifffile.COMPRESSION.JPEG)
RUN_LENGTHS = 1  # BI_RLE8 of the BMP format

# Pillow's own warning would be printed before our error for images above MAX_PIXELS, without a file name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Raised by Pillow and tifffile for damaged files.
DECODE_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error),
    *(ArithmeticError, LookupError, TypeError, NotImplementedError),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)


@dataclass(frozen=True)
class StoredImage:
    """An image as stored in its file, without EXIF rotation."""

    pixels: np.ndarray  # (H, W) or (H, W, channels)
    orientation: int = 1  # by EXIF, 1 to 8; 1 is upright


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3), RGB, rotated upright by its EXIF tag; grey values are repeated over the channels."""
    stored = _read(path, "RGB")
    pixels = turned(stored.pixels, stored.orientation)
    return (
        np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., :3])
    )


def read_stored(path: Path) -> StoredImage:
    """An image as stored; BadData if it does not decode completely, or is one of several in its file."""
    refuse_animated(path)
    return _read(path, "RGB")


def read_mask(path: Path) -> np.ndarray:
    """bool (H, W), true on the polyp: values above 127; upright."""
    return read_grey_mask(path) > POLYP_ABOVE


def read_grey_mask(path: Path) -> np.ndarray:
    """uint8 (H, W), upright; the luminance of masks with color channels."""
    stored = _read(path, "L")
    pixels = turned(stored.pixels, stored.orientation)
    return np.ascontiguousarray(pixels if pixels.ndim == 2 else luminance(pixels[..., :3]))


def luminance(colors: np.ndarray) -> np.ndarray:
    """Luminance of RGB pixels: uint8 (H, W, 3) -> uint8 (H, W)."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(colors)).convert("L"))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright view, without a copy, of stored pixels (H, W, ...) with this EXIF orientation."""
    if orientation in SIDEWAYS:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = FLIPS[orientation]
    return pixels[::rows, ::columns]


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels, upright, from the header alone; BadData without a valid header."""
    with decoding(path):
        if is_tiff(path):
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                size, orientation = (page.imagelength, page.imagewidth), orientation_of(page)
        else:
            with Image.open(path) as image:
                size, orientation = (image.height, image.width), orientation_of(image)
        return size[::-1] if orientation in SIDEWAYS else size


def orientation(path: Path) -> int:
    """EXIF orientation, 1 to 8, from the header alone; BadData without a valid header."""
    with decoding(path):
        if is_tiff(path):
            with tifffile.TiffFile(path) as file:
                return orientation_of(file.pages.first)
        with Image.open(path) as image:
            return orientation_of(image)


def write_black_mask(path: Path, height: int, width: int) -> None:
    """Write a mask without a polyp, with the same bytes on every machine."""
    path.write_bytes(mask_bytes(np.zeros((height, width), bool)))


def mask_bytes(polyp: np.ndarray) -> bytes:
    """bool (H, W) -> a run-length coded BMP of 0 and 255: small, and the same bytes on every machine.

    Our own encoder, because the bytes determine the fingerprint of a dataset, and PNG encoders differ.
    """
    height, width = polyp.shape
    coded: dict[bytes, bytes] = {}  # neighbouring rows are often equal
    rows = (np.ascontiguousarray(row) for row in polyp[::-1])
    pixels = b"".join(
        coded.get(key) or coded.setdefault(key, _runs(row)) for row in rows for key in [row.tobytes()]
    )
    pixels += b"\x00\x01"
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))
    offset = 14 + 40 + len(palette)
    header = struct.pack("<2sIII", b"BM", offset + len(pixels), 0, offset)
    header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, RUN_LENGTHS, len(pixels), 0, 0, 256, 0)
    return header + palette + pixels


def _runs(row: np.ndarray) -> bytes:
    """bool (W) -> pairs of length, 1 to 255, and value, and the end-of-row marker."""
    edges = np.concatenate([[0], np.flatnonzero(row[1:] != row[:-1]) + 1, [len(row)]])
    coded = b""
    for start, end in pairwise(edges.tolist()):
        value = b"\xff" if row[start] else b"\x00"
        whole, rest = divmod(end - start, 255)
        coded += (b"\xff" + value) * whole + (bytes((rest,)) + value) * (rest > 0)
    return coded + b"\x00\x00"


def is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def orientation_of(picture: Image.Image | tifffile.TiffPage) -> int:
    """EXIF orientation, 1 to 8, of an open file; invalid values count as upright, as in viewers."""
    if isinstance(picture, tifffile.TiffPage):
        found = picture.tags.valueof(ORIENTATION, 1)
    else:
        found = picture.getexif().get(ORIENTATION, 1)
    return found if found in FLIPS else 1


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Context in which errors of Pillow and tifffile for damaged files become BadData."""
    if path.exists() and not path.is_file():  # a pipe would wait for a writer
        raise BadData(str(path), f"does not decode: it is {seems_to_be(path)}")
    try:
        yield
    except DECODE_ERRORS as error:
        if (fault := machine_fault(error)) is not None:  # not caused by the file
            raise fault from error
        raise BadData(str(path), f"does not decode: {_reason(error, path)}") from error


def _reason(error: Exception, path: Path) -> str:
    """The reason in words that follow the path in a message."""
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"expected at most {MAX_PIXELS:,} pixels, found more than twice as many"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if path.is_file() and path.stat().st_size == 0:
        return "it is empty (0 bytes)"
    if found := seems_to_be(path):
        return f"it is {found}"
    if isinstance(error, UnidentifiedImageError):
        return "unknown image format"
    return " ".join(str(error).replace(str(path), path.name).split()) or type(error).__name__


def _read(path: Path, mode: str) -> StoredImage:
    """A stored image, uint8 (H, W) or (H, W, 3 or more); BadData: damaged, over 8 bits or MAX_PIXELS."""
    with decoding(path):
        return _read_tiff(path) if is_tiff(path) else _read_pillow(path, mode)


def _read_pillow(path: Path, mode: str) -> StoredImage:
    with Image.open(path) as image:
        refuse_large(image.height, image.width)
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"expected 8 bits per channel, found mode {image.mode}; convert it to 8 bits")
        image.load()
        return StoredImage(np.asarray(image.convert(mode)), orientation_of(image))


def _read_tiff(path: Path) -> StoredImage:
    """A TIFF read by tifffile: Pillow rejects RGB frames that are tagged MinIsBlack, and OpenCV reads them as grey."""
    with tifffile.TiffFile(path) as file:
        page = only_page(file)
        if page.axes not in ("YX", "YXS", "SYX") or not _is_grey_or_rgb(page):
            found = getattr(page.photometric, "name", page.photometric)
            raise ValueError(
                f"expected a grey or RGB picture, found axes {page.axes}, {found}; save it as PNG"
            )
        if page.dtype not in (np.uint8, np.bool_):
            raise ValueError(f"expected 8 bits per channel, found {page.dtype}; convert it to 8 bits")
        pixels = tiff_values(path, page)
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, 2)
        expected = [(page.imagelength, page.imagewidth, *channels) for channels in ((), (3,), (4,))]
        if pixels.shape not in expected:
            raise ValueError(
                f"expected {page.imagewidth} x {page.imagelength} grey, RGB or RGBA, found {pixels.shape}"
            )
        pixels = pixels.astype(np.uint8) * (255 if page.dtype == np.bool_ else 1)
        white = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        return StoredImage(255 - pixels if white else pixels, orientation_of(page))


def tiff_values(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    """Values of a page as stored; by Pillow for LZW, CCITT and JPEG: tifffile needs a package for these."""
    try:
        return np.asarray(page.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
    with Image.open(path) as image:
        image.load()
        values = np.asarray(image)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:  # which Pillow has inverted
        values = ~values if values.dtype == np.bool_ else np.iinfo(values.dtype).max - values
    return np.moveaxis(values, 2, 0) if page.axes == "SYX" else values


def _is_grey_or_rgb(page: tifffile.TiffPage) -> bool:
    """Whether the decoded values of a page are grey or RGB: not CMYK, L*a*b*, YCbCr or palette indices."""
    known = tifffile.PHOTOMETRIC
    if page.photometric == known.YCBCR:
        return page.compression in JPEG  # which decodes to RGB
    return page.photometric not in (known.PALETTE, known.SEPARATED, known.CIELAB, known.ICCLAB, known.ITULAB)


def only_page(file: tifffile.TiffFile) -> tifffile.TiffPage:
    """The page of a TIFF with one page, of a size that can be decoded; ValueError otherwise."""
    if len(file.pages) != 1:
        raise ValueError(f"expected one page, found {len(file.pages)}")
    page = file.pages.first
    refuse_large(page.imagelength, page.imagewidth)
    if sum(page.databytecounts) > page.nbytes + MAX_TIFF_SLACK:
        raise ValueError("has more data than its pixels need, like a decompression bomb")
    return page


def refuse_animated(path: Path) -> None:
    """Raise BadData for an animation, of which `read_image` would read only the first image."""
    with decoding(path):
        if not is_tiff(path):
            with Image.open(path) as image:
                refuse_animation(image)


def refuse_animation(image: Image.Image) -> None:
    """Raise ValueError for an animated PNG, WebP or GIF; further images of an MPO are previews and allowed."""
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ValueError(f"expected one picture, found an animation of {frames}; save each as a file")


def refuse_large(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(f"expected at most {MAX_PIXELS:,} pixels, found {width} x {height}")
