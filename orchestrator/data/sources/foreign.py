"""Annotations that are no masks: what they are, and what makes masks of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

MAX_BYTES = 64 << 20  # of a JSON file that is opened to see what it is
LOOKED_AT = 20  # files of a kind; the first that reads decides
NUMBERS = re.compile(rb"[\s\d.eE+-]+")


def annotations_found(files: Mapping[str, Sequence[Path]]) -> str:
    """One sentence about COCO, LabelMe, Pascal VOC, YOLO or box files below a source; "" where there are none."""
    by_suffix: dict[str, list[Path]] = {}
    for paths in files.values():
        for path in paths:
            by_suffix.setdefault(path.suffix.lower(), []).append(path)
    readers = {".json": _json_kind, ".xml": _xml_kind, ".txt": _txt_kind}
    for suffix, kind_of in readers.items():
        found = by_suffix.get(suffix, [])
        for path in found[:LOOKED_AT]:
            if kind := kind_of(path):
                return f"{len(found)} {suffix} file{'s' * (len(found) > 1)} as {path.name}: {kind}"
    return ""


def _json_kind(path: Path) -> str:
    content = _start(path, MAX_BYTES)
    try:
        found = json.loads(content) if len(content) < MAX_BYTES else {}
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    if {"images", "annotations"} <= found.keys():
        polygons = any(one.get("segmentation") for one in _dicts(found["annotations"]))
        outlines = "outlines" if polygons else "boxes alone, which are no masks"
        return (
            f"COCO annotations ({outlines}), as Roboflow and CVAT export them; export masks as PNG instead"
            + (", or draw them with annToMask of pycocotools" if polygons else "")
        )
    if {"shapes", "imagePath"} <= found.keys():
        return (
            "LabelMe annotations; make masks of them with labelme_export_json or labelme2voc, and add these"
        )
    if any(isinstance(one, dict) and {"filename", "regions"} <= one.keys() for one in found.values()):
        return "outlines of the VGG Image Annotator; draw masks as PNG from them, and add these"
    boxes = [one for one in found.values() if isinstance(one, dict) and "bbox" in one]
    return "boxes, which are no masks" if boxes else ""


def _dicts(found: object) -> Iterable[dict]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _xml_kind(path: Path) -> str:
    content = _start(path)
    if b"<bndbox>" in content:
        return "Pascal VOC boxes, which are no masks; a set for detection cannot train segmentation"
    return "outlines of CVAT; export them as segmentation masks" if b"<polygon" in content else ""


def _txt_kind(path: Path) -> str:
    """YOLO has a class and four shares, or an outline, in each line; LDPolypVideo a count and then boxes in pixels."""
    content = _start(path)
    if not content.strip() or not NUMBERS.fullmatch(content):
        return ""
    rows = [line.split() for line in content.splitlines() if line.strip()]
    boxes = "boxes, which are no masks; a set for detection cannot train segmentation"
    if len(rows[0]) == 1 and all(len(row) == 4 for row in rows[1:]):
        return f"{boxes} (LDPolypVideo has no others)" if len(rows) > 1 else boxes
    if all(len(row) == 5 for row in rows):
        return f"{boxes} (YOLO)"
    if all(len(row) > 6 and len(row) % 2 for row in rows):
        return "outlines as YOLO has them; draw masks as PNG from them, and add these"
    return ""


def _start(path: Path, size: int = 1 << 16) -> bytes:
    try:
        if not path.is_file():  # a pipe would wait for a writer
            return b""
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""
