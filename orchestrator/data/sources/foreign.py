"""Annotations that are not masks: their format, and how to convert them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.data.outlines.read import dicts_in

MAX_BYTES = 64 << 20  # of a JSON file that is opened to find its format
MAX_TRIED = 20  # files per suffix; the first one that is recognised decides
NUMBERS = re.compile(rb"[\s\d.eE+-]+")


def annotations_found(files: Mapping[str, Sequence[Path]]) -> str:
    """One sentence about COCO, LabelMe, Pascal VOC, YOLO or box files below a source; "" if there are none."""
    by_suffix: dict[str, list[Path]] = {}
    for paths in files.values():
        for path in paths:
            by_suffix.setdefault(path.suffix.lower(), []).append(path)
    readers = {".json": _json_kind, ".xml": _xml_kind, ".txt": _txt_kind}
    for suffix, kind_of in readers.items():
        found = by_suffix.get(suffix, [])
        for path in found[:MAX_TRIED]:
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
        polygons = any(one.get("segmentation") for one in dicts_in(found["annotations"]))
        outlines = "outlines" if polygons else "only boxes, not masks"
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
    return "boxes, not masks" if boxes else ""


def _xml_kind(path: Path) -> str:
    content = _start(path)
    if b"<bndbox>" in content:
        return "Pascal VOC boxes, not masks; a detection dataset cannot train segmentation"
    return "outlines of CVAT; export them as segmentation masks" if b"<polygon" in content else ""


def _txt_kind(path: Path) -> str:
    """Kind of a text file: YOLO has a class and four shares, or an outline, per line; LDPolypVideo a count, boxes."""
    content = _start(path)
    if not content.strip() or not NUMBERS.fullmatch(content):
        return ""
    rows = [line.split() for line in content.splitlines() if line.strip()]
    boxes = "boxes, not masks; a detection dataset cannot train segmentation"
    if len(rows[0]) == 1 and all(len(row) == 4 for row in rows[1:]):
        return f"{boxes} (LDPolypVideo has only boxes)" if len(rows) > 1 else boxes
    if all(len(row) == 5 for row in rows):
        return f"{boxes} (YOLO)"
    if all(len(row) > 6 and len(row) % 2 for row in rows):
        return "YOLO outlines; draw masks as PNG from them, and add these"
    return ""


def _start(path: Path, size: int = 1 << 16) -> bytes:
    try:
        if not path.is_file():  # a pipe would wait for a writer
            return b""
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""
