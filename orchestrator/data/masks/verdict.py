"""Problems of the masks of a set, and remarks, from the facts of all pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from orchestrator.data.masks.inspection import READ_ANYWAY, Facts
from orchestrator.data.masks.levels import color_named, hue_name, merged
from orchestrator.data.masks.mask_rule import MaskRule
from orchestrator.data.masks.upright import OPEN, turn_problems, turn_remarks
from orchestrator.data.masks.values import DARK, RINGING

FRAMED = 0.9  # share of polyp among the outermost pixels from which a mask has a border
MOST_LABELS = 50  # highest number of a class or polyp; higher values are grey levels
STRANGE = (
    0.02  # share of unknown colors among those that are not black; JPEG makes less of them along outlines
)
VOID = "#e0e0c0"  # of Pascal VOC's palette
MOST_SHOWN = 6  # levels in a message


def problems_of_pair(facts: Facts, stem: str, *, allow_empty: bool) -> list[str]:
    """Problems that make a decoded pair unusable for training and scoring; empty if there are none."""
    problems = []
    if (facts.height, facts.width) != (facts.mask_height, facts.mask_width):
        image, mask = (f" (EXIF Orientation {turn})" if turn != 1 else "" for turn in facts.orientations)
        problems.append(
            f"image is {facts.width} x {facts.height}{image}, mask is {facts.mask_width} x {facts.mask_height}{mask}; "
            f"expected the same size{', which no interpretation of the tags gives' if image or mask else ''}"
        )
    if facts.kind in ("", *READ_ANYWAY):
        if facts.polyp_fraction == 0 and not allow_empty:
            problems.append("mask is empty; if frames without a polyp are expected, use --allow-empty")
        elif facts.polyp_fraction == 1:
            problems.append("mask covers the whole frame; expected some background")
    return [f"{stem}: {problem}" for problem in problems]


def unclear_pairs(facts: Mapping[str, Facts]) -> dict[str, list[str]]:
    """Problems by stem of pairs that cannot be read like the majority of a set; empty if most cannot be read."""
    found = {stem: one for stem, one in facts.items() if is_unclear(one)}
    if 2 * len(found) >= len(facts):
        return {}
    return {stem: [f"{stem}: {_why_unclear(one)}"] for stem, one in found.items()}


def _why_unclear(facts: Facts) -> str:
    if facts.turn == OPEN:
        image, mask = facts.orientations
        return f"EXIF Orientation is {image} for the image and {mask} for its mask"
    return f"mask is not black and white, but has {_shares(_counted([facts])) or 'too many levels'}"


def is_unclear(facts: Facts) -> bool:
    """Whether the user must say which levels are polyp, or how the mask is rotated."""
    return facts.kind not in ("", *READ_ANYWAY) or facts.turn == OPEN


def problems_of_set(facts: Mapping[str, Facts], rule: MaskRule) -> list[str]:
    """Problems that concern the set as a whole, each with its remedy."""
    by_kind: dict[str, dict[str, Facts]] = {}
    for stem, one in facts.items():
        if one.kind not in ("", *READ_ANYWAY):
            by_kind.setdefault(one.kind, {})[stem] = one
    plain = any(not one.kind and one.polyp_fraction for one in facts.values())
    problems = [_unclear(kind, found, len(facts), plain) for kind, found in sorted(by_kind.items())]
    if rule.is_published:  # a part of an archive need not have every class
        problems += _unstated(facts, rule)
    else:
        problems += _never_met(facts, rule) + _ambiguous(facts, rule)
    if not problems and (not rule.wanted or rule.is_published):
        problems += _mostly_covered(facts, rule) or _framed(facts)
    known = {stem: one.turn for stem, one in facts.items()}
    tags = {stem: (one.orientations[0], one.orientations[1]) for stem, one in facts.items()}
    return problems + turn_problems(known, tags)


def _unclear(kind: str, found: Mapping[str, Facts], num_masks: int, plain: bool) -> str:
    counts = _counted(found.values())
    shown = _shares(counts)
    others = [name for name, _ in counts.most_common(MOST_SHOWN)][1:]
    head = f"{len(found)} of {num_masks} masks ({_some(found)})"
    if kind == "colors":
        names = [*(["white"] if plain and "white" not in others else []), *others]
        known = [name for name in names if name != VOID] or names
        ignored = f" ({VOID} is Pascal VOC's color for pixels to be ignored)" * (known != names)
        return (
            f"{head} have colors: {shown} of their pixels; say which are polyp, as in --mask-colors "
            f"{_quoted(known)}, or keep them apart with --mask-classes{ignored}"
        )
    if kind == "values":
        values = sorted({*map(float, others), *([255.0] if plain else [])})
        ignored = ""
        if not plain and len(values) > 1 and values[-1] == 255 and values[-2] <= MOST_LABELS:
            values, ignored = values[:-1], " (next to such numbers 255 often marks pixels to be ignored)"
        return (
            f"{head} have values that are neither black nor white: {shown} of their pixels; say which are polyp, "
            f"as in --mask-values {_as_option(values, all(one.exact for one in found.values()))}{ignored}"
        )
    if kind == "picture":
        return (
            f"{head} seem to be photographs or grey maps: too many pixels are between all levels; if images and "
            "masks were exchanged, exchange them; if polyps were painted over frames, export masks without frames; "
            "if these are probabilities, give the range that is polyp, as in --mask-values 128-255"
        )
    return (
        f"{head} have transparent pixels that are not black: {shown} where they are opaque; --mask-values 1-255 takes "
        "opaque pixels as polyp, --mask-colors takes colors of opaque pixels"
    )


def _unstated(facts: Mapping[str, Facts], rule: MaskRule) -> list[str]:
    """A problem if masks have areas in colors that the archive does not state: the user says what they are."""
    counts = _counted(facts.values()) if rule.by_color else Counter[str]()
    colors = {name: color for name in counts if (color := color_named(name)) and hue_name(color) != "black"}
    strange = {name for name, color in colors.items() if not any(one.matches(color) for one in rule.wanted)}
    total = sum(counts[name] for name in colors)
    if not total or sum(counts[name] for name in strange) <= STRANGE * total:
        return []
    having = [stem for stem, one in facts.items() if strange & one.levels.keys()]
    known = ", ".join(f"{one.text} ({one.label})" for one in rule.wanted)
    return [
        f"{len(having)} of {len(facts)} masks ({_some(having)}) have {', '.join(sorted(strange))}, which the archive "
        f"does not state, apart from {known}; say which colors are polyp, with --mask-colors or --mask-classes"
    ]


def _as_option(values: Sequence[float], exact: bool) -> str:
    """An option value for all of these, with the rims between them if there are any."""
    bright = [value for value in values if value > DARK]
    if exact or not bright:
        return ",".join(f"{value:g}" for value in values) or "nonzero"
    return f"{max(DARK + 1, bright[0] / 2):.0f}-{max(255, bright[-1]):.0f}"


def _never_met(facts: Mapping[str, Facts], rule: MaskRule) -> list[str]:
    met = {text for one in facts.values() for text in one.met}
    missing = [one.text for one in rule.wanted if one.text not in met]
    if not missing or not facts:
        return []
    option = "--mask-colors" if rule.by_color else "--mask-values"
    return [
        f"{option}: no mask has {', '.join(missing)}; found {_shares(_counted(facts.values()))} of all pixels"
    ]


def _ambiguous(facts: Mapping[str, Facts], rule: MaskRule) -> list[str]:
    """Problems of color names that could mean several of the colors found."""
    names = [name for name in _counted(facts.values()) if color_named(name)] if rule.by_color else []
    problems = []
    for one in rule.wanted:
        found = [name for name in names if one.color and one.color.matches(color_named(name) or (0, 0, 0))]
        if len(found) > 1 and one.color and one.color.by_name:
            numbers = ["#{:02x}{:02x}{:02x}".format(*(color_named(name) or (0, 0, 0))) for name in found]
            problems.append(
                f"--mask-colors: {one.text} could be any of {', '.join(numbers)}; give those that are polyp by number"
            )
    return problems


def _mostly_covered(facts: Mapping[str, Facts], rule: MaskRule) -> list[str]:
    """A problem if polyps fill most of the frame in most masks, which usually means inverted masks."""
    drawn = {stem: one for stem, one in facts.items() if one.polyp_fraction}
    large = {stem: one for stem, one in drawn.items() if one.polyp_fraction > 0.5}
    if 2 * len(large) <= len(drawn):
        return []
    remedy = "leave out --invert-masks" if rule.invert else "if black is polyp, use --invert-masks"
    insist = "0-127" if rule.invert else "128-255"
    return [
        f"polyps cover more than half of the frame in {len(large)} of {len(drawn)} masks ({_some(large)}), as in "
        f"inverted masks; {remedy}; if polyps are really that large, use --mask-values {insist}"
    ]


def _framed(facts: Mapping[str, Facts]) -> list[str]:
    """A problem if most masks are polyp along the whole edge: a border. In published masks at most a third is."""
    drawn = [stem for stem, one in facts.items() if one.polyp_fraction]
    framed = [stem for stem in drawn if facts[stem].edge > FRAMED]
    if 2 * len(framed) <= len(drawn):
        return []
    return [
        f"the whole edge of the frame is polyp in {len(framed)} of {len(drawn)} masks ({_some(framed)}), as in masks "
        "that were saved with a border; export them without it; if polyps really lie there, use --mask-values 128-255"
    ]


def remarks_of_set(facts: Mapping[str, Facts], rule: MaskRule) -> list[str]:
    """One sentence for each way of reading masks that is not obvious."""
    remarks = []
    if rule.wanted and not (rule.is_published and not any(one.levels for one in facts.values())):
        polyp = ", ".join(f"{one.text} ({one.label})" if one.label else one.text for one in rule.wanted)
        but = "all but " if rule.invert else ""
        stated = ", as the archive states" if rule.is_published else ""
        slack = 0 if all(one.exact for one in facts.values()) else RINGING
        levels = _shares(_counted(facts.values()), lambda name: _use_of(name, rule, slack))
        remarks.append(f"masks: polyp is {but}{polyp}{stated}; levels are {levels}")
    elif rule.invert:
        remarks.append("masks: inverted, black is polyp")
    for kind, text in (
        ("alpha", "with the polyp in the alpha channel; opaque pixels are polyp"),
        ("deep", "of more than 8 bits; the highest value is polyp"),
    ):
        if count := sum(one.kind == kind for one in facts.values()):
            remarks.append(f"{_masks(count)} {text}")
    if rims := [one.rims for one in facts.values() if one.rims]:
        remarks.append(
            f"{_masks(len(rims))} with grey rims, {_percent(sum(rims) / len(rims))} of their pixels; "
            "values above 127 of 255 are polyp"
        )
    if dark := [one.dark for one in facts.values() if one.dark]:
        remarks.append(
            f"{_masks(len(dark))} with even areas of dark grey, {_percent(sum(dark) / len(dark))} of their pixels, "
            "which count as background"
        )
    large = [stem for stem, one in facts.items() if one.polyp_fraction > 0.5]
    if large:
        doubt = "" if rule.wanted else "; check whether these are inverted"
        remarks.append(
            f"polyps cover more than half of the frame in {_masks(len(large))}: {_some(large)}{doubt}"
        )
    if framed := [stem for stem, one in facts.items() if one.edge > FRAMED and stem not in large]:
        remarks.append(
            f"the whole edge of the frame is polyp in {_masks(len(framed))}: {_some(framed)}; check for a border"
        )
    return remarks + turn_remarks({stem: one.turn for stem, one in facts.items()})


def _counted(facts: Iterable[Facts]) -> Counter[str]:
    counts: Counter[str] = Counter()
    exact = True
    for one in facts:
        counts.update(one.levels)
        exact &= one.exact
    return counts if exact else Counter(merged(counts))


def _use_of(level: str, rule: MaskRule, slack: int) -> str:
    """Class that the pixels of a level count as, in brackets: (neoplastic), (polyp) or (background)."""
    color = color_named(level)
    known = color if color is not None else float(level)
    found = next((one for one in rule.wanted if one.matches(known, slack)), None)
    is_polyp = (found is not None) != rule.invert
    return f" ({found.label if found and found.label else 'polyp'})" if is_polyp else " (background)"


def _shares(counts: Counter[str], use_of: Callable[[str], str] = lambda name: "") -> str:
    total = sum(counts.values())
    shown = [
        f"{name} {_percent(count / total)}{use_of(name)}" for name, count in counts.most_common(MOST_SHOWN)
    ]
    rest = f" and {len(counts) - MOST_SHOWN} more" if len(counts) > MOST_SHOWN else ""
    return ", ".join(shown) + rest


def _masks(count: int) -> str:
    return f"{count} mask{'s' * (count != 1)}"


def _percent(share: float) -> str:
    """A share as text: 71 %, 0.4 %, below 0.01 %."""
    if share >= 0.01:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.2g} %" if share >= 1e-4 else "below 0.01 %"


def _quoted(names: Iterable[str]) -> str:
    text = ",".join(names)
    return f"'{text}'" if "#" in text else text


def _some(stems: Iterable[str]) -> str:
    names = list(stems)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
