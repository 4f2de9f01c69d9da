"""Miniatures of published archives: folders, file names and mask encodings of the originals, with drawn frames.

Names and encodings are from public loaders and readmes of the datasets; no image of any dataset is contained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from zlib import crc32

import numpy as np
from packed import Content

HEIGHT, WIDTH = 64, 80
Color = tuple[int, int, int]
RED, GREEN, WHITE = (255, 0, 0), (0, 255, 0), (255, 255, 255)


def frame(name: str) -> np.ndarray:
    """uint8 (H, W, 3): mucosa-colored, different for every name."""
    draw = np.random.default_rng(crc32(name.encode()))
    coarse = draw.integers(-40, 40, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
    return (np.array((190, 100, 80)) + coarse).clip(0, 255).astype(np.uint8)


def polyp(name: str) -> np.ndarray:
    """bool (H, W): an ellipse, different for every name."""
    draw = np.random.default_rng(crc32(name.encode()))
    y, x, ry, rx = draw.uniform((20, 20, 8, 8), (44, 60, 14, 16))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray(((rows - y) / ry) ** 2 + ((columns - x) / rx) ** 2 < 1)


def mask(name: str, inside: int = 255) -> np.ndarray:
    """uint8 (H, W): `inside` in the polyp, 0 elsewhere."""
    return polyp(name).astype(np.uint8) * np.uint8(inside)


def colored(name: str, *colors: Color) -> np.ndarray:
    """uint8 (H, W, 3): the polyp in one color, or in stripes of several; black elsewhere."""
    stripes = np.array(colors, np.uint8)[np.arange(WIDTH) * len(colors) // WIDTH]
    return polyp(name)[..., None] * stripes


def pairs(
    image: str, drawn: str, names: Iterable[str], encode: Callable[[str], np.ndarray] = mask
) -> dict[str, Content]:
    """Images and masks by path; `{}` in both patterns is the name."""
    files: dict[str, Content] = {}
    for name in names:
        files |= {image.format(name): frame(image + name), drawn.format(name): encode(image + name)}
    return files


def images(pattern: str, names: Iterable[str]) -> dict[str, Content]:
    return {pattern.format(name): frame(pattern + name) for name in names}


def bkai(suffix: str) -> dict[str, Content]:
    """BKAI-IGH NeoPolyp as on Kaggle: red is neoplastic, green is not."""
    names = {
        "0a5f3601ad4f13ccf1f4b331a412fc44": (RED,),
        "0af3feff05dec1eb3a70b145a7d8d3b6": (GREEN,),
        "0b0c9f4a6b5e7d120b0c9f4a6b5e7d12": (RED, GREEN),
    }
    files = images("test/test/{}.jpeg", ["280a9a0f1c2d3e4f280a9a0f1c2d3e4f"])
    for name, colors in names.items():
        files[f"train/train/{name}.jpeg"] = frame(name)
        files[f"train_gt/train_gt/{name}.{suffix}"] = colored(name, *colors)
    return files | {"sample_submission.csv": b"Id,Expected\n"}


SUN_PARTS = {
    "TrainDataset": ("case1_1", "case1_3", "case10_1"),
    "TestEasyDataset/Seen": ("case1_2",),
    "TestEasyDataset/Unseen": ("case3_1",),
    "TestHardDataset/Unseen": ("case9_1",),
}


def sun_seg(top: str = "") -> dict[str, Content]:
    files: dict[str, Content] = {}
    for part, clips in SUN_PARTS.items():
        for clip in clips:
            name = f"case_M_20181001100941_0U62372100109341_{clip}_a2_ayy_image0001"
            files |= pairs(f"{top}{part}/Frame/{clip}/{{}}.jpg", f"{top}{part}/GT/{clip}/{{}}.png", [name])
            files |= {f"{top}{part}/{kind}/{clip}/{name}.png": mask(clip) for kind in ("Edge", "Scribble")}
        files[f"{top}{part}/Classification/classification.txt"] = b"case1_1 low_grade_adenoma\n"
        files[f"{top}{part}/Detection/bbox_annotation.json"] = b"{}"
    return files


def sun_apart() -> dict[str, Content]:
    """Frames of the SUN database beside masks of SUN-SEG, as both are downloaded."""
    files = images("SUN-Positive/case1/{}.jpg", ["a1", "a2"])
    files["SUN-SEG-Annotation/TrainDataset/GT/case1_1/a1.png"] = mask("a1")
    return files | {"SUN-SEG-Annotation/TrainDataset/GT/case1_2/a2.png": mask("a2")}


KVASIR = ["cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4", "cju0qx73cjw570799j4n5cjze"]


def kvasir(top: str) -> dict[str, Content]:
    """Kvasir-SEG and its relatives: JPEG masks with three channels."""
    return pairs(
        f"{top}images/{{}}.jpg", f"{top}masks/{{}}.jpg", KVASIR, lambda name: np.dstack([mask(name)] * 3)
    )


def sessile() -> dict[str, Content]:
    top = "sessile-main-Kvasir-SEG/"
    lists = {"train.txt": "\n".join(KVASIR[:2]).encode(), "val.txt": f"{KVASIR[2]}.jpg\n".encode()}
    return (
        kvasir(top)
        | {f"{top}{name}": text for name, text in lists.items()}
        | {f"{top}bbox/{KVASIR[0]}.csv": b"class_name,xmin,ymin,xmax,ymax\npolyp,1,2,3,4\n"}
    )


POLYPDB = (("BKAI", "BLI"), ("BKAI", "WLI"), ("Karolinska", "WLI"), ("Simula", "NBI"), ("Simula", "WLI"))


def polypdb(*patterns: str, masks: str = "masks") -> dict[str, Content]:
    files: dict[str, Content] = {}
    for center, modality in POLYPDB:
        for pattern in patterns:
            top = pattern.format(center=center, modality=modality)
            name = f"{center}_{modality}_7"
            files |= {f"{top}/images/{name}.jpg": frame(name), f"{top}/{masks}/{name}.jpg": mask(name)}
            files[f"{top}/bbox/{name}.txt"] = b"0 0.5 0.5 0.1 0.1"
    return files


BY_CENTER = "PolypDB/PolypDB_center_wise/{center}/{modality}"
BY_MODALITY = "PolypDB/PolypDB_modality_wise/{modality}"
PICCOLO = {
    "train": ("001_VP1_frame0000", "001_VP2_frame0010", "014_VP1_frame0000"),
    "validation": ("002_VP3_frame0000",),
    "test": ("003_VP4_frame0001",),
}


def piccolo(top: str) -> dict[str, Content]:
    files: dict[str, Content] = {"clinical metadata_release0.1.csv": b"CODE - LESION,CODE - VIDEO\n"}
    for part, names in PICCOLO.items():
        place = top.format(part)
        files |= pairs(f"{place}/polyps/{{}}.png", f"{place}/masks/{{}}_Corrected.tif", names)
        files |= {f"{place}/void/{name}_Void.tif": mask(name) for name in names}
    return files


def endoscene() -> dict[str, Content]:
    files: dict[str, Content] = {}
    for part, suffix in (("CVC-300", "bmp"), ("CVC-612", "tif")):
        top = f"CVC-EndoSceneStill/{part}"
        files |= pairs(f"{top}/bbdd/{{}}.bmp", f"{top}/gtpolyp/{{}}.{suffix}", "12")
        files |= {
            f"{top}/{kind}/{name}.bmp": mask(kind) for kind in ("gtlumen", "gtspecular") for name in "12"
        }
    return files


def polypgen() -> dict[str, Content]:
    top = "PolypGen2021_MultiCenterData_v3"
    singles = {"C1": "177OLCV1_100H0040", "C3": "C3_EndoCV2021_00416", "C4": "31_endocv2021_positive_329 2"}
    files: dict[str, Content] = {}
    for center, name in singles.items():
        place = f"{top}/data_{center}"
        files |= pairs(f"{place}/images_{center}/{{}}.jpg", f"{place}/masks_{center}/{{}}_mask.jpg", [name])
        files[f"{place}/bbox_{center}/{name}_mask.txt"] = b"polyp 1 2 3 4"
        files[f"{place}/bbox_image_{center}/{name}_mask_bbox.jpg"] = frame(name)
        files[f"{top}/imagesAll_positive/{name}.jpg"] = frame(name)
    place = f"{top}/sequenceData"
    for name in ("seq1", "seq10"):
        here, empty = f"{place}/positive/{name}", (lambda name: mask(name, 0))
        files |= pairs(
            f"{here}/images_{name}/{{}}.jpg",
            f"{here}/masks_{name}/{{}}_mask.jpg",
            [f"{name}_5"],
            empty if name == "seq1" else mask,
        )
    return files | images(f"{place}/negativeOnly/seq3_neg/{{}}.jpg", ["a1", "a2"])


def ldpolypvideo() -> dict[str, Content]:
    files = images("TrainValid/TrainValid/Images/1/{}.jpg", ["0001", "0002"])
    top = "TrainValid/TrainValid/Annotations/1"
    return files | {f"{top}/0001.txt": b"1\n10 20 40 50\n", f"{top}/0002.txt": b"0\n"}


def nnunet(*channels: int, labels: bytes) -> dict[str, Content]:
    top = "Dataset501_Polyp"
    files: dict[str, Content] = {f"{top}/dataset.json": b'{"labels": ' + labels + b"}"}
    for case in ("kvasir_001", "kvasir_002"):
        for channel in channels:
            files[f"{top}/imagesTr/{case}_{channel:04}.png"] = frame(f"{case}{channel}")
        files[f"{top}/labelsTr/{case}.png"] = mask(case, 1)
    return files


def video_clinic() -> dict[str, Content]:
    files: dict[str, Content] = {}
    for video in "12":
        top = f"CVC-VideoClinicDBtrain_valid/{video}/{video}"
        files |= pairs(f"{top}-{{}}.png", f"{top}-{{}}_Polyp.tif", "12")
    return files


def named(image: str, drawn: str) -> dict[str, Content]:
    return pairs(image, drawn, ["a1", "b2"])
