"""Masks of images by the files of this folder alone. Needs numpy, onnxruntime and Pillow, and nothing else.

    python predict.py IMAGE_OR_FOLDER... --out masks

writes NAME_mask.png, 0 and 255, for each image, at its size and upright; in subfolders as the images are; and
polyps.csv with pixels, share of the frame and number of polyps of each. They are the masks and the table that
`orchestrator predict` writes. Files of other kinds, and results of an earlier run, are passed over, and named.
Exit code 2 if an image could not be read. For research only.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import argparse
import csv
import hashlib
import json
import os
import struct
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
TABLE = "polyps.csv"
HEADER = ("file", "frame", "seconds", "width", "height", "polyp_pixels", "polyp_fraction", "polyp_count")
RESULTS = ("_mask.png", "_overlay.png", "_probability.png")
WHOLE = np.float32(2048)  # OpenCV interpolates bytes in whole 1/2048
MOST = 89_000_000  # pixels of an image
Image.MAX_IMAGE_PIXELS = None  # `read_rgb` has its own limit, before anything is decoded
UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError),
    *(struct.error, zlib.error, NotImplementedError),
)


class Model:
    """The network of this folder, with the settings of its config for images and masks."""

    def __init__(self, folder=HERE, provider="CPUExecutionProvider"):
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=[provider])

    def predict(self, image):
        """RGB uint8 (H, W, 3) -> probability float32 (H, W) in [0, 1] and mask bool (H, W)."""
        small = resized(image, self.config["image_size"])
        batch = small.transpose(2, 0, 1)[None].astype(np.float32)
        batch /= np.float32(self.config["normalization"]["scale"])
        (logits,) = self.session.run(["logits"], {"image": batch})
        small_map = (1 / (1 + np.exp(-logits[0, 0].clip(-80, 80)))).astype(np.float32)
        probability = enlarged(small_map, *image.shape[:2])
        return probability, self.mask(probability)

    def mask(self, probability):
        """Probability (H, W) -> mask bool (H, W), by the threshold and the rules of the config."""
        rules, threshold = self.config["post_processing"], self.config["threshold"]
        white_level = threshold if rules["white_level"] is None else rules["white_level"]
        white = filtered(probability >= np.float32(white_level), rules)
        if np.count_nonzero(white) <= rules["reference_area"] * white.size:
            return np.zeros_like(white)
        return filtered(probability >= np.float32(threshold), rules)


def read_rgb(path):
    """Image file -> RGB uint8 (H, W, 3), upright. ValueError: 16 bits, several pictures, too many pixels."""
    with Image.open(path) as image:
        if image.width * image.height > MOST:
            raise ValueError(f"expected at most {MOST:,} pixels, found {image.width * image.height:,}")
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"expected 8 bits a channel, found mode {image.mode}")
        refuse_tiff(getattr(image, "tag_v2", {}))
        num_frames = getattr(image, "n_frames", 1)
        if num_frames > 1 and image.format != "MPO":
            raise ValueError(f"expected one picture, found {num_frames}")
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def refuse_tiff(tags):
    """Raise ValueError for bits and colors of a TIFF that `orchestrator predict` does not read."""
    if max(tags.get(258, (8,))) > 8:  # bits of each sample
        raise ValueError("expected 8 bits a channel, found more")
    if tags.get(262) in (3, 5, 8, 9, 10) or (tags.get(262) == 6 and tags.get(259) not in (6, 7)):
        raise ValueError("expected a grey or RGB picture, found other colors; save it as PNG")


def resized(image, size):
    """uint8 (H, W, 3) -> uint8 (size, size, 3): area average where neither side grows, else linear; as OpenCV does."""
    height, width = image.shape[:2]
    if height < size or width < size:
        return interpolated(image, size)
    columns = averaged(image.transpose(1, 0, 2), size).transpose(1, 0, 2)
    means = averaged(columns, size)
    halves = (height, width) == (2 * size, 2 * size)
    return (np.floor(means + np.float32(0.5)) if halves else np.rint(means)).astype(np.uint8)


def averaged(lines, size):
    """(N, M, 3) -> float32 (size, M, 3): each output line is the average of the lines that it covers."""
    length = len(lines)
    start = np.arange(size) * length  # in parts of a line, of which `size` make one
    total = np.zeros((size, *lines.shape[1:]), np.float32)
    for step in range(-(-length // size) + 1):
        line = start // size + step
        overlap = np.minimum(line * size + size, start + length) - np.maximum(line * size, start)
        share = overlap.clip(0).astype(np.float32) / np.float32(length)
        total += share[:, None, None] * lines[np.minimum(line, length - 1)]
    return total


def interpolated(image, size):
    """uint8 (H, W, 3) -> uint8 (size, size, 3), linear in integer arithmetic, rounded like OpenCV."""
    (left, right), part, outside = neighbours(image.shape[1], size)
    part = np.where(outside, np.float32(0), part)
    first, second = (np.rint(one).astype(np.int64)[:, None] for one in (WHOLE - part, part))
    (upper, lower), part, _ = neighbours(image.shape[0], size)
    sums = [image[rows][:, left] * first + image[rows][:, right] * second for rows in (upper, lower)]
    shares = [np.rint(one).astype(np.int64)[:, None, None] for one in (WHOLE - part, part)]
    quarters = ((shares[0] * (sums[0] >> 4)) >> 16) + ((shares[1] * (sums[1] >> 4)) >> 16)
    return ((quarters + 2) >> 2).astype(np.uint8)


def neighbours(length, size):
    """Two input pixels of each output pixel, weight of the second in 1/2048, whether beyond outer centers."""
    place = (((np.arange(size) + 0.5) * (length / size)) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    pixels = (first.clip(0, length - 1), (first + 1).clip(0, length - 1))
    return pixels, (place - np.floor(place)) * WHOLE, (first < 0) | (first >= length - 1)


def enlarged(small, height, width):
    """float32 (h, w) -> float32 (height, width), linear between pixel centers."""
    (left, right), part, _ = neighbours(small.shape[1], width)
    part = part / WHOLE
    rows = small[:, left] * (1 - part) + small[:, right] * part
    (upper, lower), part, _ = neighbours(small.shape[0], height)
    part = (part / WHOLE)[:, None]
    return rows[upper] * (1 - part) + rows[lower] * part


def filtered(mask, rules):
    """Mask bool (H, W), its holes filled and its small components removed where the rules say so."""
    if rules["fill_holes"]:
        mask = mask | enclosed(mask)
    if rules["min_component_area"]:
        row, start, end, piece = pieces(mask, 1)
        area = np.bincount(piece, end - start, minlength=1)
        kept = area[piece] >= rules["min_component_area"] * mask.size
        mask = painted(mask.shape, row[kept], start[kept], end[kept])
    return mask


def enclosed(mask):
    """Holes of a mask, bool (H, W): background that has no path by 4 neighbours to the edge of the frame."""
    height, width = mask.shape
    row, start, end, piece = pieces(~mask, 0)
    at_edge = (row == 0) | (row == height - 1) | (start == 0) | (end == width)
    inside = ~np.isin(piece, piece[at_edge])
    return painted(mask.shape, row[inside], start[inside], end[inside])


def pieces(mask, reach):
    """Runs of True in the rows of a mask with their component: row, start, end, number of the component.

    reach 1: pixels that touch at a corner are connected; 0: they are not.
    """
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row, start = np.nonzero(edges == 1)
    end = np.nonzero(edges == -1)[1]
    parent = list(range(len(row)))

    def root(run):
        while parent[run] != run:
            parent[run] = run = parent[parent[run]]
        return run

    first = np.searchsorted(row, np.arange(len(mask) + 1)).tolist()
    starts, ends = start.tolist(), end.tolist()
    for number in range(1, len(mask)):
        above, below = first[number - 1], first[number]
        while above < first[number] and below < first[number + 1]:
            if starts[above] < ends[below] + reach and starts[below] < ends[above] + reach:
                parent[root(above)] = root(below)
            if ends[above] < ends[below]:
                above += 1
            else:
                below += 1
    return row, start, end, np.array([root(run) for run in range(len(row))], np.int64)


def painted(shape, row, start, end):
    """Mask of this shape, bool (H, W): True in these runs."""
    edges = np.zeros((shape[0], shape[1] + 1), np.int8)
    edges[row, start] += 1
    edges[row, end] -= 1
    return np.cumsum(edges, axis=1, dtype=np.int8)[:, :-1] > 0


def found(paths, out):
    """Image -> its path below the results, and other files: images as given, of folders all images below.

    No images: files below `out`, results next to or below the table of an earlier run, and what operating
    systems leave behind, such as ._1.jpg.
    """
    images: dict[Path, Path] = {}
    others: list[Path] = []
    for path in paths:
        files = [*below(path, out.resolve())] if path.is_dir() else [path]
        earlier = {file.parent for file in files if is_table(file) and plain(file.parent) != plain(out)}
        for file in files:
            is_result = file.name.endswith(RESULTS) and earlier.intersection(file.parents)
            if path.is_dir() and (is_result or file.suffix.lower() not in IMAGES):
                others.append(file)
            else:
                images.setdefault(file.resolve(), plain(file))
    folders = [plain(path if path.is_dir() else path.parent) for path in paths]
    return named(images.values(), os.path.commonpath(folders)), others


def is_table(file):
    """Whether a file is the table of an earlier run, of this program or of `orchestrator predict`."""
    if file.name != TABLE or not file.is_file():
        return False
    with file.open("rb") as text:
        return text.read(1000).startswith(",".join(HEADER).encode())


def plain(path):
    """Absolute path without following links, since results are named as the images were."""
    return Path(os.path.normpath(path.absolute()))


def below(top, out):
    """All files below a folder, but not below `out`; links are followed, but no folder is read twice."""
    entered = {out} - {Path(top).resolve()}
    for folder, folders, names in os.walk(top, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := Path(folder).resolve()) in entered:
            folders.clear()
            continue
        entered.add(real)
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith((".", "~$")))


def named(files, base):
    """Image -> path of its mask without suffix; where two would be alike, with it, and then with digits."""
    levels = {file.relative_to(base): 0 for file in files}
    while True:
        alike = {place: name_of(place, level).casefold() for place, level in levels.items()}
        times = Counter(alike.values())
        if len(times) == len(levels):
            return {Path(base, place): name_of(place, level) for place, level in levels.items()}
        levels = {place: min(2, level + (times[alike[place]] > 1)) for place, level in levels.items()}


def name_of(place, level):
    """Name of a result: sub/a for sub/a.png; at level 1 sub/a.png; at 2, or if too long, with six digits."""
    name = place.name if level else place.stem
    if level == 2 or len(os.fsencode(name)) > 200:
        digits = hashlib.sha256(os.fsencode(place)).hexdigest()[:6]
        name = f"{os.fsdecode(os.fsencode(name)[:200])}.{digits}"
    return (place.parent / name).as_posix()


def write_mask(model, file, path):
    """Write the mask of one image as PNG; returns its row of the table."""
    mask = model.predict(read_rgb(file))[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    pixels, count = int(np.count_nonzero(mask)), len(np.unique(pieces(mask, 1)[3]))
    return file, "", "", mask.shape[1], mask.shape[0], pixels, pixels / mask.size, count


def write_table(rows, out):
    """Write polyps.csv with these rows, complete or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f".{TABLE}.{os.getpid()}"
    with partial.open("w", newline="", encoding="utf-8") as text:
        csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    partial.replace(out / TABLE)


def main():
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("paths", nargs="+", type=Path, help="images, or folders with images at any depth")
    options.add_argument("--out", required=True, type=Path, help="folder for masks")
    options.add_argument("--provider", default="CPUExecutionProvider", help="of ONNX Runtime")
    given = options.parse_args()
    images, others = found(given.paths, given.out)
    paths = {file: given.out / f"{place}_mask.png" for file, place in images.items()}
    if lost := {path.resolve() for path in (*paths.values(), given.out / TABLE)} & {
        file.resolve() for file in images
    }:
        options.error(
            f"{min(lost)} is one of the images, and would be replaced; name another folder for --out"
        )
    model, rows, failed = Model(provider=given.provider), [], {}
    for file, path in paths.items():
        try:
            rows.append(write_mask(model, file, path))
        except UNREADABLE as error:
            failed[file] = error
    if images:
        write_table(rows, given.out)
    print(f"{len(rows)} masks in {given.out}{f', areas and counts in {TABLE}' if images else ''}")
    if others:
        what = "files that are not images, or results of an earlier run"
        print(f"passed over {len(others)} {what}: {named_some(others)}", file=sys.stderr)
    for file, problem in failed.items():
        print(f"not done: {file}: {problem}", file=sys.stderr)
    if not images:
        print(f"expected images ({', '.join(IMAGES)}), found none", file=sys.stderr)
    return 2 if failed or not images else 0


def named_some(files):
    """Names of the first ten files, and the number of the others, as text."""
    more = f" and {len(files) - 10} more" if len(files) > 10 else ""
    return ", ".join(file.name for file in files[:10]) + more


if __name__ == "__main__":
    sys.exit(main())
