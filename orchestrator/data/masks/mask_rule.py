"""What a user says about the masks of a dataset: which colors or values are polyp, and how EXIF tags are meant."""

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
    Asked,
    Level,
    Levels,
    grey_levels,
    level_name,
    levels_of_colors,
    levels_of_values,
)
from orchestrator.data.masks.values import RIM_SPECKS, RINGING, Drawn, is_plain

NUMBER = r"-?\d+(?:\.\d+)?"
SINGLE = 1e-6  # how far floats of single precision, written in decimals, are apart at most; below every label
HIGHEST = 1 << 32  # above every label
PICTURE = 0.1  # share of pixels that are near no level of the mask: more than rims can be
MANY = 12  # levels of a mask; more is a picture or a map of probabilities
APPLY, IGNORE = "apply", "ignore"


@dataclass(frozen=True)
class Wanted:
    """One color or range of values that is polyp, and the class it stands for, if any."""

    text: str  # as the user wrote it
    color: Asked | None = None
    low: float = 0
    high: float = -1  # included
    label: str = ""

    def means(self, level: Level, slack: int = 0) -> bool:
        """`slack`: how far a level may be from a single value."""
        if isinstance(level, tuple):
            return self.color is not None and self.color.means(level)
        if self.low == self.high:
            return abs(level - self.low) <= max(slack, SINGLE)
        return self.low <= level <= self.high

    def overlaps(self, other: Wanted) -> bool:
        """Whether a pixel may be meant by both."""
        if self.color is not None or other.color is not None:
            return self.color == other.color
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class MaskRule:
    """Without anything: white is polyp, black is not, and what is neither is refused."""

    wanted: tuple[Wanted, ...] = ()
    invert: bool = False
    exif: str = ""  # APPLY, IGNORE or "": where sizes do not tell, refuse

    @property
    def is_default(self) -> bool:
        return not self.wanted and not self.invert

    @property
    def by_color(self) -> bool:
        return any(one.color is not None for one in self.wanted)


BLACK_AND_WHITE = MaskRule()


@dataclass(frozen=True)
class Reading:
    """What a rule makes of one mask."""

    polyp: np.ndarray  # bool (H, W), not turned
    kind: str = ""  # why it is not plain: "colors", "values", "picture", "transparent"; "alpha", "deep" are read anyway
    levels: tuple[
        tuple[str, int], ...
    ] = ()  # name and pixels of each, where a rule or a reader has to choose
    exact: bool = True  # levels are to the very value
    met: tuple[str, ...] = ()  # what of the rule was found, as the user wrote it
    classes: tuple[str, ...] = ()


def parse_rule(
    *,
    colors: Sequence[str] = (),
    values: Sequence[str] = (),
    classes: Sequence[str] = (),
    invert: bool = False,
    exif: str = "",
) -> MaskRule:
    """From the words of `data add`; every word that cannot be understood comes in one BadData."""
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


def _words(texts: Sequence[str]) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]


def _color_of(word: str, label: str, problems: list[str]) -> Wanted:
    text = f"#{word}" if re.fullmatch(r"[0-9a-fA-F]{6}", word) else word
    if basic := BASIC.get(text.lower()):
        return Wanted(word, Asked(basic, by_name=True), label=label)
    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        option = "--mask-classes" if label else "--mask-colors"
        problems.append(f"{option}: expected a color such as red or #rrggbb, found {word!r}")
        red = green = blue = 0
    return Wanted(word, Asked((red, green, blue), by_name=False), label=label)


def _values_of(word: str, label: str, problems: list[str]) -> Wanted:
    if word.lower() == "nonzero":
        return Wanted(word, None, SINGLE, HIGHEST, label)
    if found := re.fullmatch(rf"({NUMBER})(?:\s*-\s*({NUMBER}))?", word):
        low, high = float(found[1]), float(found[2] or found[1])
        if low <= high:
            return Wanted(word, None, low, high, label)
    problems.append(f"--mask-values: expected a number, a range such as 1-255, or nonzero, found {word!r}")
    return Wanted(word, None, 0, 0, label)


def read_by_rule(drawn: Drawn, rule: MaskRule) -> Reading:
    """The polyp of one mask, and what had to be known for it."""
    reading = _chosen(drawn, rule) if rule.wanted else _black_and_white(drawn)
    if not rule.invert:
        return reading
    return replace(reading, polyp=~reading.polyp)


def _black_and_white(drawn: Drawn) -> Reading:
    polyp = grey_levels(drawn) > POLYP_ABOVE
    if is_plain(drawn):
        return Reading(polyp, drawn.channel or ("deep" if drawn.depth != 255 else ""))
    levels = levels_of_values(drawn) if drawn.colors is None else levels_of_colors(drawn)
    kind = "transparent" if drawn.seen_through else "values" if drawn.colors is None else "colors"
    if kind != "transparent" and (levels.between > PICTURE or len(levels.keys) > MANY):
        kind = "picture"
    return Reading(polyp, kind, _named(levels), exact=levels.exact)


def _chosen(drawn: Drawn, rule: MaskRule) -> Reading:
    """By nearness, but ranges of values to the very value where nothing was lost: a threshold is one."""
    if rule.by_color:
        levels = levels_of_colors(drawn, [one.color for one in rule.wanted if one.color is not None])
    elif not drawn.labels:
        return replace(_black_and_white(drawn), kind="colors")
    else:
        levels = levels_of_values(drawn, [one.low for one in rule.wanted if one.low == one.high])
    slack = RINGING if drawn.lossy else 0
    means = [[one.means(key, slack) for key in levels.keys] for one in rule.wanted]
    least = RIM_SPECKS if drawn.lossy else 0
    met = [
        one
        for one, known in zip(rule.wanted, means, strict=True)
        if sum(count for count, is_meant in zip(levels.counts, known, strict=True) if is_meant) > least
    ]
    polyp = _any(means)[levels.of]
    ranges = [] if rule.by_color or drawn.lossy else [one for one in rule.wanted if one.low < one.high]
    if ranges:
        singles = [known for one, known in zip(rule.wanted, means, strict=True) if one not in ranges]
        polyp = _any(singles)[levels.of] if singles else np.zeros_like(polyp)
        polyp = polyp | np.any(
            [(drawn.values >= one.low) & (drawn.values <= one.high) for one in ranges], axis=0
        )
    return Reading(
        polyp,
        drawn.channel,
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
