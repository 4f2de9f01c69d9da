"""Pairs of images and masks by file name; irregular names are reported, ambiguous ones rejected."""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.data.images import EXTENSIONS
from orchestrator.data.spelling import folded

MASK_WORD = (
    r"(?:ground[ _-]?truths?|masks?|segmentations?|segmented|segm|segs?|gts?|labels?|lbls?"
    r"|annotations?|annots?|anns?)"
)
IMAGE_WORD = r"(?:images?|imgs?|im|frames?|originals?|orig|inputs?|pictures?|photos?|raw|rgb)"
JOINT = r"[ ._-]+"
LOOSE = " (ignoring capitals, separators, leading zeros and Unicode form)"
BY_NUMBER = "the number in both names"
FIELDS = {"name", "number"}
MAX_TRIED = 200  # names from which a pattern is guessed

Form = str  # relation of a mask's name to its image's: "{name}_mask"


@dataclass(frozen=True)
class Matched:
    """Result of matching the files of one folder of images and one of masks."""

    pairs: tuple[tuple[Path, Path], ...] = ()  # image, mask
    forms: tuple[Form, ...] = ()  # one for each pair
    without_mask: tuple[Path, ...] = ()
    without_image: tuple[Path, ...] = ()
    doubled: tuple[tuple[Path, Path], ...] = ()  # a file, and an earlier one with the same stem
    readings: tuple[tuple[Form, int], ...] = ()  # if an image has several masks: forms, and images of each


def match(frames: Sequence[Path], masks: Sequence[Path], pattern: str = "") -> Matched:
    """Pairs by `pattern`, or by common names: 1 with 1, 1_mask, mask_1, 1.jpg.png, image_1 with gt_1."""
    if pattern:
        return _by_pattern(frames, masks, pattern)
    frames, doubled = _once(frames)
    masks, more = _once(masks)
    found = _assigned(frames, masks, lambda key: key)
    several = [drawn for drawn in found.values() if len(drawn) > 1]
    if several:
        counts = Counter(form for drawn in several for _, form in drawn)
        return Matched(readings=tuple(sorted(counts.items())))
    rest = [path for path in frames if path not in found], _left(masks, found)
    loose = _assigned(*rest, _loosened)
    found |= {
        frame: [(mask, f"{form}{LOOSE}")] for frame, ((mask, form), *others) in loose.items() if not others
    }
    found = found or _by_number(frames, masks)
    return _matched(frames, masks, {frame: drawn[0] for frame, drawn in found.items()}, doubled + more)


def separate_masks(files: Sequence[Path], pattern: str = "") -> tuple[list[Path], list[Path]]:
    """Images and masks of a folder with both; a mask is a file named after another file, if there is any."""
    if pattern:
        named = _expected(files, pattern)
        masks = [
            path for path in files if any(frame != path for frame in named.get(_shown(path, pattern), ()))
        ]
        return [path for path in files if path not in masks], masks
    forms = set()
    by_key = defaultdict(set)
    for path in files:
        for key, _ in _frame_keys(path.stem):
            by_key[key].add(path)
    for path in files:
        forms |= {form for key, form in _mask_keys(path.stem) if form != "{name}" and by_key[key] - {path}}
    masks = [path for path in files if forms & {form for _, form in _mask_keys(path.stem)}]
    return [path for path in files if path not in set(masks)], masks


def check_pattern(pattern: str) -> None:
    """Raise BadData for a pattern that cannot name a mask."""
    try:
        parts = [part for part in string.Formatter().parse(pattern) if part[1] is not None]
    except ValueError:
        parts = []
    if any(format or conversion for _, _, format, conversion in parts):
        raise BadData(
            f"--pattern {pattern}",
            "expected {name} and {number} without a format such as :03d, as leading zeros do not matter",
        )
    fields = {field for _, field, _, _ in parts}
    if not fields or not fields <= FIELDS:
        raise BadData(
            f"--pattern {pattern}",
            "expected the name of a mask with {name}, the name of its image without suffix, or {number}, the last "
            "number in it; as in '{name}_mask', 'mask_{number}' or '{name}.png'",
        )


def guessed_pattern(frames: Sequence[Path], masks: Sequence[Path]) -> str:
    """A pattern by which most of these images have a mask, or ""; to be confirmed by the user."""
    tried = set()
    for frame in sorted(frames, key=lambda path: -len(path.stem))[:MAX_TRIED]:
        for mask in masks[:MAX_TRIED]:
            head, found, tail = mask.stem.partition(frame.stem)
            pattern = f"{_braced(head)}{{name}}{_braced(tail)}"
            if found and pattern not in tried:
                tried.add(pattern)
                if 2 * len(match(frames, masks, pattern).pairs) > len(frames):
                    return pattern
    return ""


def as_pattern(form: Form) -> str:
    """The pattern that is equivalent to a form: `mask_{number}` for `image_{name} with mask_{name}`."""
    image, _, mask = form.rpartition(" with ")
    return mask.replace("{name}", "{number}") if image else form


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _once(paths: Sequence[Path]) -> tuple[list[Path], list[tuple[Path, Path]]]:
    """The first file of each stem; pairs of every further file and the first."""
    first: dict[str, Path] = {}
    doubled = []
    for path in sorted(paths):
        if first.setdefault(path.stem, path) is not path:
            doubled.append((path, first[path.stem]))
    return list(first.values()), doubled


def _left(masks: Sequence[Path], found: dict[Path, list[tuple[Path, Form]]]) -> list[Path]:
    taken = {mask for drawn in found.values() for mask, _ in drawn}
    return [path for path in masks if path not in taken]


def _assigned(
    frames: Sequence[Path], masks: Sequence[Path], same: Callable[[str], str]
) -> dict[Path, list[tuple[Path, Form]]]:
    """Masks by image; a mask goes to the image that needs the fewest parts of names removed, if there is just one."""
    by_key: dict[str, list[tuple[int, Path, Form]]] = defaultdict(list)
    for frame in frames:
        for rank, (key, form) in enumerate(_frame_keys(frame.stem)):
            by_key[same(key)].append((rank, frame, form))
    found: dict[Path, list[tuple[Path, Form]]] = defaultdict(list)
    for mask in masks:
        options = [
            (rank + (form != "{name}"), frame, form if own == "{name}" else f"{own} with {form}")
            for key, form in _mask_keys(mask.stem)
            for rank, frame, own in by_key[same(key)]
        ]
        nearest = [option for option in options if option[0] == min(options)[0]]
        if len({frame for _, frame, _ in nearest}) == 1:
            found[nearest[0][1]].append((mask, nearest[0][2]))
    return dict(found)


def _frame_keys(stem: str) -> Iterator[tuple[str, Form]]:
    yield stem, "{name}"
    yield from _without(stem, IMAGE_WORD)


def _mask_keys(stem: str) -> Iterator[tuple[str, Form]]:
    yield stem, "{name}"
    yield from _without(stem, MASK_WORD)
    inner = Path(stem)
    if inner.suffix.lower() in EXTENSIONS:
        yield inner.stem, f"{{name}}{inner.suffix}"
        yield from ((key, f"{form}{inner.suffix}") for key, form in _without(inner.stem, MASK_WORD))


def _without(stem: str, word: str) -> Iterator[tuple[str, Form]]:
    """The stem without such a word at its end or start, where a separator or a digit adjoins it."""
    if tail := re.fullmatch(rf"(?i)(.*?)((?:{JOINT}|(?<=\d))\(?{word}\)?)", stem):
        yield tail[1], f"{{name}}{_braced(tail[2])}"
    elif head := re.fullmatch(rf"(?i)({word}(?:{JOINT}|(?=\d)))(.+)", stem):
        yield head[2], f"{_braced(head[1])}{{name}}"
    elif re.fullmatch(rf"(?i){word}", stem):
        yield "", _braced(stem)


def _loosened(key: str) -> str:
    key = re.sub(JOINT, "_", folded(key))
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), key)


def _by_number(frames: Sequence[Path], masks: Sequence[Path]) -> dict[Path, list[tuple[Path, Form]]]:
    """All images with all masks, if names differ in one number only and both sides have the same numbers."""
    numbered, drawn = _numbers(frames), _numbers(masks)
    if not numbered or numbered.keys() != drawn.keys():
        return {}
    return {numbered[n]: [(drawn[n], BY_NUMBER)] for n in numbered}


def _numbers(paths: Sequence[Path]) -> dict[int, Path]:
    split = [re.fullmatch(r"(.*?)(\d+)(\D*)", path.stem) for path in paths]
    around = {(found[1], found[3]) if found else None for found in split}
    if len(around) != 1 or None in around:
        return {}
    by_number = {int(found[2]): path for found, path in zip(split, paths, strict=True) if found}
    return by_number if len(by_number) == len(paths) else {}


def _by_pattern(frames: Sequence[Path], masks: Sequence[Path], pattern: str) -> Matched:
    drawn, doubled = ({}, []) if not masks else _by_shown(masks, pattern)
    frames, more = _once(frames)
    found = {
        frame: (drawn[shown], pattern)
        for shown, here in _expected(frames, pattern).items()
        for frame in here
        if shown in drawn
    }
    return _matched(frames, list(drawn.values()), found, doubled + more)


def _by_shown(masks: Sequence[Path], pattern: str) -> tuple[dict[str, Path], list[tuple[Path, Path]]]:
    first: dict[str, Path] = {}
    doubled = []
    for mask in sorted(masks):
        if first.setdefault(_shown(mask, pattern), mask) is not mask:
            doubled.append((mask, first[_shown(mask, pattern)]))
    return first, doubled


def _expected(frames: Sequence[Path], pattern: str) -> dict[str, list[Path]]:
    """Images by the name that the pattern gives to their masks."""
    expected: dict[str, list[Path]] = defaultdict(list)
    for frame in frames:
        numbers = re.findall(r"\d+", frame.stem) or [""]
        expected[_cleaned(pattern.format(name=frame.stem, number=numbers[-1]), pattern)].append(frame)
    return expected


def _shown(mask: Path, pattern: str) -> str:
    """The part of a mask's name that is compared with a pattern: with suffix if the pattern has one."""
    with_suffix = Path(pattern).suffix.lower() in EXTENSIONS
    return _cleaned(mask.name if with_suffix else mask.stem, pattern)


def _cleaned(name: str, pattern: str) -> str:
    return _loosened(name) if "{number}" in pattern else folded(name)


def _matched(
    frames: Sequence[Path],
    masks: Sequence[Path],
    found: dict[Path, tuple[Path, Form]],
    doubled: Sequence[tuple[Path, Path]],
) -> Matched:
    """The result of matching. An image with the stem of another is listed once, and not as one without a mask."""
    taken = {mask for mask, _ in found.values()}
    return Matched(
        pairs=tuple((frame, mask) for frame, (mask, _) in found.items()),
        forms=tuple(form for _, form in found.values()),
        without_mask=tuple(path for path in frames if path not in found),
        without_image=tuple(path for path in masks if path not in taken),
        doubled=tuple(doubled),
    )
