"""Masks drawn from outlines: white inside a polygon, its points included, black elsewhere."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from orchestrator.common.display import counted
from orchestrator.common.errors import BadData
from orchestrator.data.images import image_size
from orchestrator.data.outlines.read import Outlined, Outlines, Polygon

SHOWN = 3  # names in a message


def draw_masks(
    outlines: Outlines, files: Mapping[str, Sequence[Path]], into: Path
) -> dict[str, tuple[Path, ...]]:
    """Folder, next to the images, -> masks drawn below `into`.

    Raises `BadData` if annotations are no outlines, have several labels, or are of images of another size.
    """
    if problems := _problems(outlines):
        raise BadData(f"{outlines.tool} annotations", problems)
    place_of = {path: folder for folder, paths in files.items() for path in paths}
    drawn: dict[str, list[Path]] = defaultdict(list)
    wrong = []
    for image, outlined in sorted(outlines.images.items()):
        size = image_size(image)
        if outlined.size not in (None, size):
            wrong.append(f"{image.name} is {size[1]} x {size[0]}, its outlines are for {_shown(outlined)}")
            continue
        folder = f"{place_of[image]}/masks".strip("/")
        mask = into / folder / f"{image.stem}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        draw_mask(outlined.polygons, size).save(mask)
        drawn[folder].append(mask)
    if wrong:
        raise BadData(f"{outlines.tool} annotations", _some(wrong))
    return {folder: tuple(paths) for folder, paths in drawn.items()}


def draw_mask(polygons: Sequence[Polygon], size: tuple[int, int]) -> Image.Image:
    """Grey image of this height and width, 255 inside the polygons."""
    mask = Image.new("L", (size[1], size[0]))
    for polygon in polygons:
        ImageDraw.Draw(mask).polygon(polygon, fill=255, outline=255)
    return mask


def drawn_remark(outlines: Outlines) -> str:
    """A sentence on the outlines from which masks were drawn."""
    (label, count), *_ = outlines.labels.items()
    empty = sum(not one.polygons for one in outlines.images.values())
    without = f"; polyp-free: {counted(empty, 'image')} without an outline" if empty else ""
    return (
        f"masks were drawn from {count} {outlines.tool} outlines with the label {label}, in {outlines.num_files} "
        f"file{'s' * (outlines.num_files > 1)}{without}"
    )


def _problems(outlines: Outlines) -> list[str]:
    problems = []
    if outlines.undrawn:
        kinds = ", ".join(f"{n} as {kind}" for kind, n in outlines.undrawn.most_common())
        problems.append(f"expected polygons alone, found {kinds}; export masks as PNG instead, and add these")
    if len(outlines.labels) > 1:
        labels = ", ".join(f"{label} ({n})" for label, n in outlines.labels.most_common())
        problems.append(
            f"expected one label, that of polyps, found {labels}; remove what is not a polyp, or export masks"
        )
    if outlines.unknown:
        problems.append(f"found no image for {_some(outlines.unknown)}")
    return problems


def _shown(outlined: Outlined) -> str:
    height, width = outlined.size or (0, 0)
    return f"{width} x {height}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
