from __future__ import annotations

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from orchestrator.common.errors import BadData
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.masks.values import read_raw_mask

FRAME = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


def encoded(suffix: str) -> bytes:
    buffer = io.BytesIO()
    if suffix == "tif":
        tifffile.imwrite(buffer, FRAME, photometric="rgb", compression="zlib")
    else:
        Image.fromarray(FRAME).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix))
    return buffer.getvalue()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut short, or with some bytes changed, most of them in the header."""
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        changed[rng.randrange(rng.choice((60, 300, len(content))))] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif"])
def test_a_damaged_file_is_read_as_an_image_or_refused_in_words(tmp_path: Path, suffix: str):
    rng, content = random.Random(0), encoded(suffix)
    path = tmp_path / f"frame.{suffix}"
    for _ in range(150):
        path.write_bytes(damaged(content, rng))
        try:
            image = read_image(path)
        except BadData as error:
            assert "does not decode" in str(error)
        else:
            assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8


def test_four_channels_planes_and_grey_become_three_channels(tmp_path):
    path = tmp_path / "frame.tif"
    alpha = np.dstack([FRAME, FRAME[..., 0]])
    tifffile.imwrite(path, alpha, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(read_image(path), FRAME)
    tifffile.imwrite(path, np.moveaxis(FRAME, 2, 0), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_image(path), FRAME)
    tifffile.imwrite(path, FRAME[..., 0], photometric="minisblack")
    assert np.array_equal(read_image(path), FRAME[..., [0, 0, 0]])


def test_palette_cmyk_grey_alpha_and_bilevel_images_become_three_channels(tmp_path):
    """As in 8-bit RGB; alpha is left out."""
    even = np.full((20, 30, 3), (204, 102, 51), np.uint8)
    for name, mode in (("p.png", "P"), ("a.png", "RGBA"), ("k.jpg", "CMYK"), ("a.webp", "RGBA")):
        Image.fromarray(even).convert(mode).save(tmp_path / name, quality=100)
        assert np.abs(read_image(tmp_path / name).astype(int) - even).max() <= 3, name
    for mode in ("L", "LA", "1"):
        grey = Image.fromarray(FRAME).convert("L").convert(mode)
        grey.save(tmp_path / "grey.png")
        expected = np.asarray(grey.convert("L"))
        assert np.array_equal(read_image(tmp_path / "grey.png"), expected[..., None].repeat(3, axis=2))


def test_sixteen_bits_of_rgb_png_lose_their_lower_half(tmp_path):
    deep = FRAME.astype(np.uint16) * 257
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    chunks = (
        b"IHDR" + struct.pack(">IIBBBBB", 30, 20, 16, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(raw),
        b"IEND",
    )
    written = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    assert np.array_equal(read_image(tmp_path / "deep.png"), FRAME)


def test_a_tiff_with_far_more_data_than_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, FRAME[:10, :10, 0], photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        tags = file.pages.first.tags
        tags["StripOffsets"].overwrite(path.stat().st_size)
        bomb = zlib.compress(bytes(100 << 20))
        tags["StripByteCounts"].overwrite(len(bomb))
    with path.open("ab") as file:
        file.write(bomb)
    with pytest.raises(BadData, match="has more data than its pixels need"):
        read_image(path)


@pytest.mark.parametrize("white", [0, 1])  # the value of Photometric: white is 0, black is 0
@pytest.mark.parametrize("compression", ["tiff_lzw", "group4", "tiff_deflate"])
def test_tiff_masks_of_every_usual_compression_are_read(tmp_path, compression, white):
    drawn = np.zeros((40, 50), np.uint8)
    drawn[10:20, 10:30] = 255
    image = Image.fromarray(drawn).convert("1" if compression == "group4" else "L")
    image.save(tmp_path / "mask.tif", compression=compression, tiffinfo={262: white})
    assert np.array_equal(read_mask(tmp_path / "mask.tif"), drawn > 0)
    assert np.array_equal(read_raw_mask(tmp_path / "mask.tif").values, drawn)


@pytest.mark.parametrize("compression", ["tiff_lzw", "jpeg"])
def test_tiff_frames_of_every_usual_compression_are_read(tmp_path, compression):
    smooth = np.full((32, 48, 3), (200, 90, 60), np.uint8)
    Image.fromarray(smooth).save(tmp_path / "frame.tif", compression=compression)
    assert np.abs(read_image(tmp_path / "frame.tif").astype(int) - smooth).max() <= 3
