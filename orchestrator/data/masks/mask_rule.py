"""The user's rule for the masks of a dataset: colors or values that are polyp, and the meaning of EXIF tags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from PIL import ImageColor

from orchestrator.common.errors import BadData
from orchestrator.data.images import POLYP_ABOVE
from orchestrator.data.masks.levels import (
    BASIC,
    Level,
    Levels,
    RequestedColor,
    grey_levels,
    level_name,
    levels_of_colors,
    levels_of_values,
)
from orchestrator.data.masks.values import RIM_SPECKS, RINGING, RawMask, is_plain

NUMBER = r"-?\d+(?:\.\d+)?"
SINGLE = 1e-6  # largest rounding error of single-precision floats in decimals; below every label
HIGHEST = 1 << 32  # above every label
PICTURE = 0.1  # share of pixels near no level of the mask: more than rims can be
MANY = 12  # levels of a mask; more means a photograph or a map of probabilities
APPLY, IGNORE = "apply", "ignore"


@dataclass(frozen=True)
class Wanted:
    """A color or range of values that is polyp, and the name of its class, if any."""

    text: str  # as the user wrote it
    color: RequestedColor | None = None
    low: float = 0
    high: float = -1  # included
    label: str = ""

    def matches(self, level: Level, slack: int = 0) -> bool:
        """Whether a level is this color or in this range; `slack`: tolerance around a single value."""
        if isinstance(level, tuple):
            return self.color is not None and self.color.matches(level)
        if self.low == self.high:
            return abs(level - self.low) <= max(slack, SINGLE)
        return self.low <= level <= self.high

    def overlaps(self, other: Wanted) -> bool:
        """Whether both colors, or both ranges, could apply to one pixel."""
        if self.color is not None or other.color is not None:
            return self.color == other.color
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class MaskRule:
    """The user's rule; by default white is polyp, black is not, and other levels are rejected."""

    wanted: tuple[Wanted, ...] = ()
    invert: bool = False
    exif: str = ""  # APPLY, IGNORE or "": reject where sizes do not decide
    is_published: bool = (
        False  # stated by the archive, not by the user: black and white masks are read as such
    )

    @property
    def is_default(self) -> bool:
        return not self.wanted and not self.invert

    @property
    def by_color(self) -> bool:
        return any(one.color is not None for one in self.wanted)


BLACK_AND_WHITE = MaskRule()


@dataclass(frozen=True)
class MaskReading:
    """The interpretation of one mask by a rule."""

    polyp: np.ndarray  # bool (H, W), without EXIF rotation
    kind: str = (
        ""  # irregularity: "colors", "values", "picture", "transparent"; "alpha", "deep" are unambiguous
    )
    # name and pixels of each level, where a rule or a reader has to choose
    levels: tuple[tuple[str, int], ...] = ()
    exact: bool = True  # whether all pixels equal their levels
    met: tuple[str, ...] = ()  # parts of the rule that the mask contains, as the user wrote them
    classes: tuple[str, ...] = ()


def parse_rule(
    *,
    colors: Sequence[str] = (),
    values: Sequence[str] = (),
    classes: Sequence[str] = (),
    invert: bool = False,
    exif: str = "",
) -> MaskRule:
    """The rule from options of `data add`; one BadData lists all invalid words."""
    problems: list[str] = []
    wanted = [_color_of(word, "", problems) for word in _words(colors)]
    wanted += [_values_of(word, "", problems) for word in _words(values)]
    for word in _words(classes):
        label, equals, item = (text.strip() for text in word.partition("="))
        if not (label and equals and item):
            problems.append(f"--mask-classes: expected NAME=COLOR or NAME=VALUE, found {word!r}")
        else:
            number = re.match(rf"{NUMBER}(-{NUMBER})?$|nonzero$", item)
            wanted.append(_values_of(item, label, problems) if number else _color_of(item, label, problems))
    if len({one.color is None for one in wanted}) > 1:
        problems.append(
            "--mask-colors, --mask-values: expected colors or values, found both; use one of them"
        )
    problems += [
        f"--mask-classes: {one.text!r} of {one.label} and {other.text!r} of {other.label} are the same pixels"
        for one, other in combinations(wanted, 2)
        if one.label != other.label and one.overlaps(other)
    ]
    if exif not in ("", APPLY, IGNORE):
        problems.append(f"--exif: expected {APPLY} or {IGNORE}, found {exif!r}")
    if problems:
        raise BadData("masks", problems)
    return MaskRule(tuple(wanted), invert, exif)


def as_published(rule: MaskRule, classes: Sequence[str]) -> MaskRule:
    """The user's rule, or, if that is the default, the rule of an archive whose masks have these classes.

    A single label is read as polyp, without a class name.
    """
    if not classes or not rule.is_default:
        return rule
    published = parse_rule(classes=classes, exif=rule.exif)
    if len(classes) == 1:
        published = replace(published, wanted=(replace(published.wanted[0], label=""),))
    return replace(published, is_published=True)


def _words(texts: Sequence[str]) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def _color_of(word: str, label: str, problems: list[str]) -> Wanted:
    text = f"#{word}" if re.fullmatch(r"[0-9a-fA-F]{6}", word) else word
    if basic := BASIC.get(text.lower()):
        return Wanted(word, RequestedColor(basic, by_name=True), label=label)
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        option = "--mask-classes" if label else "--mask-colors"
        problems.append(f"{option}: expected a color such as red or #rrggbb, found {word!r}")
        red = green = blue = 0
    return Wanted(word, RequestedColor((red, green, blue), by_name=False), label=label)


def _values_of(word: str, label: str, problems: list[str]) -> Wanted:
    if word.lower() == "nonzero":
        return Wanted(word, None, SINGLE, HIGHEST, label)
    if found := re.fullmatch(rf"({NUMBER})(?:\s*-\s*({NUMBER}))?", word):
        low, high = float(found[1]), float(found[2] or found[1])
        if low <= high:
            return Wanted(word, None, low, high, label)
    problems.append(f"--mask-values: expected a number, a range such as 1-255, or nonzero, found {word!r}")
    return Wanted(word, None, 0, 0, label)


def read_by_rule(raw: RawMask, rule: MaskRule) -> MaskReading:
    """Interpretation of one mask by a rule: its polyp, and any irregularities."""
    is_plainly_read = not rule.wanted or (rule.is_published and is_plain(raw))
    reading = _black_and_white(raw) if is_plainly_read else _chosen(raw, rule)
    if not rule.invert:
        return reading
    return replace(reading, polyp=~reading.polyp)


def _black_and_white(raw: RawMask) -> MaskReading:
    polyp = grey_levels(raw) > POLYP_ABOVE
    if is_plain(raw):
        return MaskReading(polyp, raw.channel or ("deep" if raw.depth != 255 else ""))
    levels = levels_of_values(raw) if raw.colors is None else levels_of_colors(raw)
    kind = "transparent" if raw.has_hidden_colors else "values" if raw.colors is None else "colors"
    if kind != "transparent" and (levels.between > PICTURE or len(levels.keys) > MANY):
        kind = "picture"
    return MaskReading(polyp, kind, _named(levels), exact=levels.exact)


def _chosen(raw: RawMask, rule: MaskRule) -> MaskReading:
    """The polyp by nearest level; ranges compare exact values if nothing was lost, since a threshold is a range."""
    if rule.by_color:
        levels = levels_of_colors(raw, [one.color for one in rule.wanted if one.color is not None])
    elif not raw.labels:
        return replace(_black_and_white(raw), kind="colors")
    else:
        levels = levels_of_values(raw, [one.low for one in rule.wanted if one.low == one.high])
    slack = RINGING if raw.lossy else 0
    matches = [[one.matches(key, slack) for key in levels.keys] for one in rule.wanted]
    least = RIM_SPECKS if raw.lossy else 0
    met = [
        one
        for one, known in zip(rule.wanted, matches, strict=True)
        if sum(count for count, is_meant in zip(levels.counts, known, strict=True) if is_meant) > least
    ]
    polyp = _any(matches)[levels.of]
    ranges = [] if rule.by_color or raw.lossy else [one for one in rule.wanted if one.low < one.high]
    if ranges:
        singles = [known for one, known in zip(rule.wanted, matches, strict=True) if one not in ranges]
        polyp = _any(singles)[levels.of] if singles else np.zeros_like(polyp)
        polyp = polyp | np.any([(raw.values >= one.low) & (raw.values <= one.high) for one in ranges], axis=0)
    return MaskReading(
        polyp,
        raw.channel,
        _named(levels),
        levels.exact,
        tuple(one.text for one in met),
        tuple(dict.fromkeys(one.label for one in met if one.label)),
    )


def _any(lists: Sequence[Sequence[bool]]) -> np.ndarray:
    return np.asarray(np.array(lists).any(axis=0))


def _named(levels: Levels) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for key, count in zip(levels.keys, levels.counts, strict=True):
        counts[level_name(key)] = counts.get(level_name(key), 0) + count
    return tuple((name, count) for name, count in counts.items() if count)
