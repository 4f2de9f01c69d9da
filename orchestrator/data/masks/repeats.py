"""Masks that several images of a set share: usually a mistake.

Frames without a polyp legitimately share an empty mask, and copies of a frame with different brightness share theirs,
so this is a remark, and an error only if nearly all images have the same mask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from orchestrator.data.masks.inspection import Facts
from orchestrator.data.masks.mask_rule import MaskRule

NEARLY_ALL = 0.9  # share of the images with a polyp
FEW = 50  # images below which one mask for all is allowed: a short clip may have one
SHOWN = 3  # masks, and images of each, in a message


def problems_of_repeats(facts: Mapping[str, Facts], rule: MaskRule) -> list[str]:
    """An error if nearly all images have the same mask, with the remedy."""
    drawn = {stem: one for stem, one in facts.items() if one.polyp_fraction}
    largest = max(_shared_masks(drawn), key=len, default=[])
    if rule.wanted or len(largest) < max(FEW, NEARLY_ALL * len(drawn)):
        return []
    return [
        f"{len(largest)} of {len(drawn)} images with a polyp have exactly the same mask ({_some(largest)}); "
        "export the masks again, one per image; if this is intended, use --mask-values 128-255"
    ]


def remarks_on_repeats(facts: Mapping[str, Facts]) -> list[str]:
    """A remark on masks that several images share, with the names of the images."""
    shared = _shared_masks({stem: one for stem, one in facts.items() if one.polyp_fraction})
    if not shared:
        return []
    return [
        f"{sum(map(len, shared))} images have exactly the same mask as other images ({_listed(shared)}); check "
        "whether these are copies of one frame, or masks were mixed up"
    ]


def _shared_masks(drawn: Mapping[str, Facts]) -> list[list[str]]:
    """Stems for each mask of several images, most images first; of identical images one is listed."""
    by_mask: dict[str, dict[str, str]] = defaultdict(dict)
    for stem, one in drawn.items():
        by_mask[one.polyp].setdefault(one.pixels, stem)
    shared = [list(stems.values()) for stems in by_mask.values() if len(stems) > 1]
    return sorted(shared, key=lambda stems: -len(stems))


def _listed(groups: Sequence[Sequence[str]]) -> str:
    rest = f"; and {len(groups) - SHOWN} more such" if len(groups) > SHOWN else ""
    return "; ".join(_some(stems) for stems in groups[:SHOWN]) + rest


def _some(stems: Sequence[str]) -> str:
    return ", ".join(stems[:SHOWN]) + (f" and {len(stems) - SHOWN} more" if len(stems) > SHOWN else "")
