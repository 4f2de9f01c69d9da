"""Masks drawn from the outlines of LabelMe and COCO files."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from packed import Content
from published import HEIGHT, WIDTH, frame
from tree import add, refused

from orchestrator.data.images import read_mask

EMPTY = np.zeros((HEIGHT, WIDTH), np.uint8)
SQUARE = [[20, 10], [49, 10], [49, 39], [20, 39]]  # 30 x 30 pixels


def labelme(*shapes: dict[str, Any], image: str = "1.jpg", **fields: Any) -> bytes:
    return json.dumps({"imagePath": image, "imageData": None, "shapes": shapes, **fields}).encode()


def shape(points: Any = SQUARE, label: str = "polyp", kind: str = "polygon") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind}


def coco(*segmentations: Any, **size: int) -> bytes:
    images = [{"id": n, "file_name": f"{n}.jpg", **size} for n in (1, 2)]
    drawn = [
        {"id": n, "image_id": 1, "category_id": 7, "segmentation": one} for n, one in enumerate(segmentations)
    ]
    return json.dumps(
        {"images": images, "annotations": drawn, "categories": [{"id": 7, "name": "polyp"}]}
    ).encode()


FLAT = [x for point in SQUARE for x in point]
IMAGES: dict[str, Content] = {"train/1.jpg": frame("1"), "train/2.jpg": frame("2")}


@pytest.mark.parametrize("folder", ["", "images/", "set/images/"])
def test_masks_are_drawn_from_labelme_beside_the_images(tmp_path, folder):
    files: dict[str, Content] = {f"{folder}{n}.jpg": frame(n) for n in "12"}
    files |= {f"{folder}1.json": labelme(shape(), shape([[60, 50], [69, 50], [69, 59], [60, 59]]))}
    files |= {f"{folder}2.json": labelme(shape(), imageHeight=64, imageWidth=80)}  # names 1.jpg
    dataset, said = add(tmp_path, files)
    assert [int(read_mask(case.mask).sum()) for case in dataset.cases] == [900 + 100, 900]
    assert "drawn from 3 LabelMe outlines with the label polyp, in 2 files" in said


def test_masks_are_drawn_from_coco_and_an_image_without_outline_shows_no_polyp(tmp_path):
    files = IMAGES | {"train/_annotations.coco.json": coco([FLAT], height=64, width=80)}
    dataset, said = add(tmp_path, files, "--allow-empty")
    assert [int(read_mask(case.mask).sum()) for case in dataset.cases] == [900, 0]
    assert "polyp-free: 1 image without an outline" in said
    assert "mask is empty" in refused(tmp_path / "strict", files)


def test_coco_of_an_archive_with_parts_is_picked_by_part(tmp_path):
    files = {
        name.replace("train", part): x
        for part in ("train", "test")
        for name, x in (IMAGES | {"train/_annotations.coco.json": coco([FLAT])}).items()
    }
    dataset, said = add(tmp_path, files, "--part", "*", "--allow-empty", archive=True)
    assert [case.part for case in dataset.cases] == ["test", "test", "train", "train"], said
    assert "--splits published" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            labelme(shape(), shape(label="tool")),
            "expected one label, that of polyps, found polyp (1), tool (1)",
        ),
        (labelme(shape(), shape([[1, 1], [9, 9]], kind="rectangle")), "found 1 as rectangle"),
        (
            labelme(shape(), imageHeight=640, imageWidth=800),
            "1.jpg is 80 x 64, its outlines are for 800 x 640",
        ),
        (coco([FLAT], {"counts": "abc", "size": [64, 80]}), "found 1 as run lengths"),
        (coco([FLAT], []), "found 1 as box"),
    ],
)
def test_annotations_that_are_not_outlines_of_polyps_alone_are_refused(tmp_path, content, words):
    assert words in refused(tmp_path, {"1.jpg": frame("1"), "2.jpg": frame("2"), "1.json": content})


def test_annotations_of_images_that_are_missing_are_named(tmp_path):
    files = IMAGES | {"train/a.json": coco([FLAT]).replace(b"2.jpg", b"gone.jpg")}
    assert "found no image for gone.jpg" in refused(tmp_path, files)


def test_masks_of_an_archive_are_read_even_if_there_are_outlines(tmp_path):
    files: dict[str, Content] = {"images/1.jpg": frame("1"), "images/1.json": labelme(shape())}
    dataset, said = add(tmp_path, files | {"masks/1.png": EMPTY}, "--allow-empty")
    assert "drawn" not in said and dataset.cases[0].polyp_fraction == 0
