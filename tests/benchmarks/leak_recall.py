"""Which frames of one place `find_near_duplicates` finds on real images, against the maps that came with them.

    python tests/benchmarks/leak_recall.py
    python tests/benchmarks/leak_recall.py --only CVC-ClinicDB --json

CVC-ClinicDB            Its 29 video sequences: precision and recall over all pairs of frames that groups put together,
                        and over neighbours, frames with consecutive numbers of one sequence.
ETIS-LaribPolypDB       The same with its scenes, told by eye.
Kvasir-SEG, EndoTect    Pairs that show one frame twice, one of them between the two sets; how many of the pairs found
                        in Kvasir-SEG are in its list of near duplicates, too. That list is not complete.
copies                  Frames of all these sets and of PolypGen in all eight symmetries, as they are and with one to
                        three changes: cut, lit, scaled or made square, blurred, written on, encoded anew. Recall of the
                        pairs of a copy and its original, and false pairs: of a copy and a frame that its original is
                        not tied to, by what is found without copies or by the maps.

ClinicDB's sequences are also judged where only every second, or third, frame is there, as in videos that were sampled
less often, and in halves.

Images and maps (meta.csv) are read in POLYP_DATA, default ../shared/data/polyps. The search is told no map; of names it
uses the numbers, where the pictures show that they follow a video. What the pictures tell alone stands beside it.
Nothing is asserted; a set takes minutes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from orchestrator.data.cases import Dataset
from orchestrator.data.images import read_image
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.near_duplicates.find import Leaks, find_near_duplicates
from orchestrator.data.splits.assign import merge
from orchestrator.results.views.augmentation_preview import spread

POLYPS = Path(
    os.environ.get("POLYP_DATA", Path(__file__).resolve().parents[3] / "shared" / "data" / "polyps")
)
SHARED = ("EndoTect2020/2b9a40af-bad5-4bc1-9b11-8052fbdefb0c", "Kvasir-SEG/cju3xwpgviwlx0871rwm15q7v")
SETS = ("CVC-ClinicDB", "ETIS-LaribPolypDB", "Kvasir-SEG", "EndoTect2020", "PolypGen")
Image = np.ndarray[Any, np.dtype[np.uint8]]


class Copy(NamedTuple):
    original: str  # case id
    symmetry: int
    changes: tuple[str, ...]


Rows = dict[str, dict[str, str]]  # of meta.csv, by case id


def meta(name: str) -> Rows:
    with (POLYPS / name / "meta.csv").open(newline="", encoding="utf-8") as file:
        return {f"{name}/{row['name']}": row for row in csv.DictReader(file)}


def sequences(leaks: Leaks, source: str = "") -> dict[str, float]:
    """Precision and recall of what twins alone put together, against the sequences of the map of `source`."""
    pictures = replace(
        leaks,
        near_duplicates=tuple(pair for pair in leaks.near_duplicates if pair.kind != "same video"),
    )
    seen = {f"{what}, pictures alone": value for what, value in _shares(pictures, source).items()}
    return {**_shares(leaks, source), **seen}


def _shares(leaks: Leaks, source: str) -> dict[str, float]:
    name = leaks.datasets[0].name
    there = {case.id for case in leaks.datasets[0].cases}
    rows = {
        f"{name}/{row['name']}": row
        for row in meta(source or name).values()
        if f"{name}/{row['name']}" in there
    }
    group = merge([replace(case, group=case.id) for case in leaks.datasets[0].cases], leaks.pairs)
    truth = {id: row["sequence_or_center"] for id, row in rows.items() if row["sequence_or_center"]}
    same = {pair for pair in combinations(sorted(truth), 2) if truth[pair[0]] == truth[pair[1]]}
    joined = {pair for pair in combinations(sorted(truth), 2) if group[pair[0]] == group[pair[1]]}
    near = {pair for pair in same if abs(int(rows[pair[0]]["name"]) - int(rows[pair[1]]["name"])) == 1}
    return {
        "precision": len(joined & same) / max(1, len(joined)),
        "recall": len(joined & same) / len(same),
        "recall of neighbours": len(joined & near) / max(1, len(near)),
    }


def known_pairs(leaks: Leaks) -> dict[str, float]:
    """How many known pairs are found, and how many found pairs are known."""
    rows = meta("Kvasir-SEG")
    pair = {id: f"Kvasir-SEG/{row['same_frame_as']}" for id, row in rows.items() if row["same_frame_as"]}
    known = {(min(a, b), max(a, b)) for a, b in pair.items() if b in rows}
    found = {(a.one, a.other) for a in leaks.between("Kvasir-SEG", "Kvasir-SEG")}
    groups = [{rows[id]["near_dup_group"] for id in pair} for pair in found]
    listed = sum(len(group) == 1 and group != {""} for group in groups)
    between = {(a.one, a.other) for a in leaks.between("EndoTect2020", "Kvasir-SEG")}
    return {
        "same frame, known": len(known),
        "same frame, found": len(known & found),
        "pairs in Kvasir-SEG": len(found),
        "of these listed": listed,
        "pairs between the sets": len(between),
        "of these known, one of 1": int(SHARED in between),
    }


def symmetric(frame: Image, symmetry: int) -> Image:
    """0 to 7: so many quarter turns, from 4 on of the mirrored frame."""
    return np.ascontiguousarray(np.rot90(frame[:, ::-1] if symmetry >= 4 else frame, symmetry % 4))


def cut(frame: Image, rng: np.random.Generator) -> Image:
    height, width = frame.shape[:2]
    share = rng.uniform(0.7, 0.9)
    high, wide = int(height * share), int(width * share)
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    return frame[top : top + high, left : left + wide]


def lit(frame: Image, rng: np.random.Generator) -> Image:
    gain = rng.choice([rng.uniform(0.6, 0.8), rng.uniform(1.2, 1.5)])
    return (255 * (frame / 255) ** rng.uniform(0.8, 1.25) * gain).clip(0, 255).astype(np.uint8)


def scaled(frame: Image, rng: np.random.Generator) -> Image:
    """To a square, or by a factor."""
    height, width = frame.shape[:2]
    factor = max(rng.uniform(0.4, 1.5), 160 / min(height, width))
    shape = (256, 256) if rng.random() < 0.5 else (int(width * factor), int(height * factor))
    return cv2.resize(frame, shape, interpolation=cv2.INTER_AREA)


def blurred(frame: Image, rng: np.random.Generator) -> Image:
    return cv2.GaussianBlur(
        frame, (0, 0), rng.uniform(0.002, 0.006) * (frame.shape[0] * frame.shape[1]) ** 0.5
    )


def written_on(frame: Image, rng: np.random.Generator) -> Image:
    frame, (height, width) = frame.copy(), frame.shape[:2]
    for line, text in enumerate(("12/03/2015 10:44", "PATIENT 4711", "[C1] 0.8x")):
        place = int(0.03 * width), int(height * (0.08 + 0.07 * line))
        cv2.putText(
            frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, height / 600, (255, 255, 255), max(1, height // 300)
        )
    return frame


def encoded(frame: Image, rng: np.random.Generator) -> Image:
    return cv2.imdecode(
        cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 70))])[1], 1
    )


CHANGES = (cut, lit, scaled, blurred, written_on, encoded)


def make_copies(folder: Path, datasets: Sequence[Dataset], num_frames: int) -> dict[str, Copy]:
    """Write 15 copies of so many frames of each dataset; by case id: the original, the symmetry, the changes."""
    rng, made = np.random.default_rng(0), {}
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for case in (one for dataset in datasets for one in spread(dataset.cases, num_frames)):
        frame = np.ascontiguousarray(read_image(case.image)[..., ::-1])
        for symmetry, is_changed in [(k, 0) for k in range(1, 8)] + [(k, 1) for k in range(8)]:
            copy = symmetric(frame, symmetry)
            changes = sorted(rng.permutation(len(CHANGES))[: rng.integers(1, 4)]) if is_changed else []
            for change in changes:
                copy = CHANGES[change](copy, rng)
            stem = f"{rng.bytes(6).hex()}"
            made[f"copies/{stem}"] = Copy(
                case.id, symmetry, tuple(CHANGES[change].__name__ for change in changes)
            )
            cv2.imwrite(str(folder / "images" / f"{stem}.png"), copy)
            mask = np.zeros(copy.shape[:2], np.uint8)
            mask[: len(mask) // 3] = 255
            cv2.imwrite(str(folder / "masks" / f"{stem}.png"), mask)
    return made


def copies(home: Path, num_frames: int) -> dict[str, float]:
    datasets = [add_dataset(home, name, POLYPS / name, allow_empty=True) for name in SETS]
    made = make_copies(home / "copies", datasets, num_frames)
    leaks = find_near_duplicates([*datasets, add_dataset(home, "copies", home / "copies")], home / "cache")
    others = [pair for pair in leaks.near_duplicates if not (pair.one in made or pair.other in made)]
    rows = {id: row for name in SETS for id, row in meta(name).items()}
    group = merge(
        [replace(case, group=case.id) for dataset in datasets for case in dataset.cases],
        [(pair.one, pair.other) for pair in others],
    )
    found, false = set(), 0
    for pair in leaks.near_duplicates:
        copy, frame = (pair.one, pair.other) if pair.one in made else (pair.other, pair.one)
        if copy in made and frame not in made:
            original = made[copy].original
            found |= {copy} if frame == original else set()
            scene = {f"{id.split('/')[0]} {rows[id]['sequence_or_center'] or id}" for id in (frame, original)}
            false += group[frame] != group[original] and len(scene) == 2

    def recall(wanted: Callable[[Copy], bool]) -> float:
        ids = [id for id, copy in made.items() if wanted(copy)]
        return sum(id in found for id in ids) / max(1, len(ids))

    return {
        "copies": len(made),
        "recall": recall(lambda copy: True),
        "recall, unchanged": recall(lambda copy: not copy.changes),
        "recall, mirrored": recall(lambda copy: copy.symmetry >= 4),
        **{
            f"recall, {one.__name__.replace('_', ' ')}": recall(
                lambda copy, one=one: one.__name__ in copy.changes
            )
            for one in CHANGES
        },
        "false pairs": false,
    }


def sampled(home: Path) -> dict[str, float]:
    """Precision and recall in parts of ClinicDB, as sets of their own."""
    source, found = POLYPS / "CVC-ClinicDB", {}
    numbers = sorted(int(path.stem) for path in (source / "images").iterdir())
    middle = len(numbers) // 2
    parts = {
        "every second": numbers[::2],
        "every third": numbers[::3],
        "first half": numbers[:middle],
        "second half": numbers[middle:],
    }
    for part, kept in parts.items():
        folder = home / part
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True)
            for path in (source / name).iterdir():
                if int(path.stem) in set(kept):
                    shutil.copy(path, folder / name)
        dataset = add_dataset(home, "-".join(part.split()), folder)
        shares = sequences(find_near_duplicates([dataset], home / "cache"), "CVC-ClinicDB")
        found |= {f"{what}, {part}": shares[what] for what in ("precision", "recall")}
    return found


CHECKS: dict[str, tuple[tuple[str, ...], Callable[[Leaks], dict[str, float]]]] = {
    "CVC-ClinicDB": (("CVC-ClinicDB",), sequences),
    "ETIS-LaribPolypDB": (("ETIS-LaribPolypDB",), sequences),
    "Kvasir-SEG": (("Kvasir-SEG", "EndoTect2020"), known_pairs),
}


def measure(check: str, home: Path, num_frames: int) -> dict[str, float]:
    if check == "copies":
        return copies(home, num_frames)
    if check == "sampled":
        return sampled(home)
    names, judge = CHECKS[check]
    datasets = [add_dataset(home, name, POLYPS / name, allow_empty=True) for name in names]
    began = time.perf_counter()
    leaks = find_near_duplicates(datasets, home / "cache")
    seconds = round(time.perf_counter() - began)
    return {**judge(leaks), "cases": sum(len(one.cases) for one in datasets), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description="Twins found in real images, against known maps.")
    known = [*CHECKS, "copies", "sampled"]
    parser.add_argument("--only", choices=known, nargs="+", default=known)
    parser.add_argument("--frames", type=int, default=20, help="of each set that are copied, 15 times each")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args()
    if missing := [name for name in SETS if not (POLYPS / name).is_dir()]:
        print(f"nothing measured: {POLYPS} has no {', '.join(missing)}; POLYP_DATA says where they are")
        return
    with tempfile.TemporaryDirectory() as home:
        rows: dict[str, Any] = {check: measure(check, Path(home), options.frames) for check in options.only}
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("frames", "what", title=f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    table.add_column("found", justify="right")
    for check, found in rows.items():
        for what, value in found.items():
            table.add_row(check, what, f"{value:.3f}" if isinstance(value, float) else str(value))
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    main()
