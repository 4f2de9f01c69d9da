"""Outlines in JSON files of LabelMe and COCO (Roboflow, CVAT): polygons, labels, other annotations."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from orchestrator.data.images import EXTENSIONS

Files = Mapping[str, Sequence[Path]]  # folder below the source -> files
Polygon = tuple[tuple[float, float], ...]  # x, y in pixels

MAX_BYTES = 256 << 20  # of a JSON file


@dataclass
class Outlined:
    """An image that an annotation file lists; without polygons it shows no polyp."""

    polygons: list[Polygon] = field(default_factory=list)
    size: tuple[int, int] | None = None  # height, width as the file states


@dataclass
class Outlines:
    """All outlines of a source."""

    tool: str = ""
    images: dict[Path, Outlined] = field(default_factory=lambda: defaultdict(Outlined))
    labels: Counter[str] = field(default_factory=Counter)
    undrawn: Counter[str] = field(default_factory=Counter)  # kinds of annotations that are no outlines
    num_files: int = 0
    unknown: list[str] = field(default_factory=list)  # images that are listed and not found


def read_outlines(files: Files) -> Outlines | None:
    """The outlines in the JSON files of a source; None if no image has any."""
    found = Outlines()
    by_name = _images_by_name(files)
    for folder, paths in files.items():
        for path in paths:
            content = _content(path) if path.suffix.lower() == ".json" else None
            if content is None:
                continue
            if {"shapes", "imagePath"} <= content.keys():
                image = _image_of_stem(paths, path.stem) or _image(by_name, folder, str(content["imagePath"]))
                _add_labelme(found, content, image)
            elif {"images", "annotations"} <= content.keys():
                _add_coco(found, content, partial(_image, by_name, folder))
    return found if any(one.polygons for one in found.images.values()) else None


def _add_labelme(found: Outlines, content: Mapping[str, Any], image: Path | None) -> None:
    found.tool, found.num_files = "LabelMe", found.num_files + 1
    if image is None:
        found.unknown.append(str(content["imagePath"]))
        return
    outlined = found.images[image]
    outlined.size = _size(content.get("imageHeight"), content.get("imageWidth"))
    for shape in dicts_in(content["shapes"]):
        kind = str(shape.get("shape_type") or "polygon")
        points = _points(shape.get("points"))
        if kind == "polygon" and points:
            outlined.polygons.append(points)
            found.labels[str(shape.get("label"))] += 1
        else:
            found.undrawn[kind] += 1


def _add_coco(found: Outlines, content: Mapping[str, Any], image_of: Callable[[str], Path | None]) -> None:
    found.tool, found.num_files = "COCO", found.num_files + 1
    label_of = {one.get("id"): str(one.get("name")) for one in dicts_in(content.get("categories"))}
    by_id: dict[Any, Outlined] = {}
    for one in dicts_in(content["images"]):
        image = image_of(str(one.get("file_name")))
        if image is None:
            found.unknown.append(str(one.get("file_name")))
            continue
        by_id[one.get("id")] = found.images[image]
        by_id[one.get("id")].size = _size(one.get("height"), one.get("width"))
    for one in dicts_in(content["annotations"]):
        outlined, drawn = by_id.get(one.get("image_id")), one.get("segmentation")
        polygons = [_flat_points(part) for part in drawn] if isinstance(drawn, list) else []
        if outlined is not None and polygons and all(polygons):
            outlined.polygons += [polygon for polygon in polygons if polygon]
            found.labels[label_of.get(one.get("category_id"), str(one.get("category_id")))] += 1
        elif outlined is not None:
            found.undrawn["run lengths" if isinstance(drawn, dict) else "box"] += 1


def _images_by_name(files: Files) -> dict[str, list[tuple[str, Path]]]:
    by_name: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for folder, paths in files.items():
        for path in paths:
            by_name[path.name].append((folder, path))
    return by_name


def _image_of_stem(paths: Sequence[Path], stem: str) -> Path | None:
    """The image next to a file of LabelMe with the same stem: 1.jpg for 1.json, even if that names another."""
    return next((path for path in paths if path.stem == stem and path.suffix.lower() in EXTENSIONS), None)


def _image(by_name: Mapping[str, Sequence[tuple[str, Path]]], folder: str, name: str) -> Path | None:
    """The image that a file in `folder` names: in that folder, or the only one of that name."""
    candidates = by_name.get(PurePosixPath(name.replace("\\", "/")).name, ())
    here = [path for place, path in candidates if place == folder]
    return here[0] if here else candidates[0][1] if len(candidates) == 1 else None


def _content(path: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, RecursionError):
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            content = json.loads(path.read_bytes())
            return content if isinstance(content, dict) else None
    return None


def dicts_in(found: object) -> Iterator[dict[str, Any]]:
    """Members of a JSON list that are objects; nothing of any other value."""
    return (one for one in found if isinstance(one, dict)) if isinstance(found, list) else iter(())


def _size(height: object, width: object) -> tuple[int, int] | None:
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def _points(found: object) -> Polygon:
    """Polygon of points [[x, y], ...]; () for fewer than three points, or other content."""
    with suppress(TypeError, ValueError):
        points = tuple((float(x), float(y)) for x, y in found)  # type: ignore[attr-defined]
        return points if len(points) >= 3 else ()
    return ()


def _flat_points(found: object) -> Polygon:
    """Polygon of coordinates [x, y, x, y, ...]; () for fewer than three points, or other content."""
    flat = found if isinstance(found, list) else []
    return _points(list(zip(flat[::2], flat[1::2], strict=True))) if len(flat) % 2 == 0 else ()
