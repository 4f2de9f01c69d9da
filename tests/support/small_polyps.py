"""Real frames as JPEGs whose shorter side has 256 pixels, to carry to a machine with a GPU: `small_polyps.py FROM TO`.

FROM holds folders of datasets with images/ and masks/, as POLYP_DATA does. 1,500 frames take 25 MB, masks included.
Folders and file names stay, so that `data add` recognises each as it does the originals.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from orchestrator.data.images import read_grey_mask, read_image

SIDE, QUALITY = 256, 88


def shrink(source: Path, target: Path) -> int:
    """Write the small frames and masks of one dataset; returns the bytes of its folder."""
    for kind, read in (("images", read_image), ("masks", read_grey_mask)):
        (target / kind).mkdir(parents=True, exist_ok=True)
        for file in sorted((source / kind).iterdir()):
            pixels = read(file)
            factor = SIDE / min(pixels.shape[:2])
            if factor < 1:
                size = tuple(round(side * factor) for side in pixels.shape[1::-1])
                pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
            if kind == "images":
                quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
                cv2.imwrite(
                    str(target / kind / f"{file.stem}.jpg"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality
                )
            else:
                cv2.imwrite(str(target / kind / f"{file.stem}.png"), (pixels > 127).astype("uint8") * 255)
    return sum(file.stat().st_size for file in target.rglob("*.*"))


def main(source: Path, target: Path) -> None:
    for folder in sorted(path for path in source.iterdir() if (path / "masks").is_dir()):
        print(f"{folder.name}: {shrink(folder, target / folder.name) / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
