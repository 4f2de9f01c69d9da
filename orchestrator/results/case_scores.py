"""Scores of single images: their means, their breakdown by kind of image, and the worst cases first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.data.cases import Case
from orchestrator.results.views.score_lines import ScoreLine
from orchestrator.scoring.components import PolypCounts
from orchestrator.scoring.metrics import METRICS, REGISTRY
from orchestrator.scoring.statistics import cluster_interval

# Share of the frame that a polyp covers; fixed, so that breakdowns of different datasets can be compared.
SIZES = {
    "small polyp, below 3 %": (0.0, 0.03),
    "medium polyp": (0.03, 0.12),
    "large polyp, from 12 %": (0.12, 1.01),
}
NO_POLYP = "no polyp"


@dataclass(frozen=True)
class CaseScores:
    """Scores of one image at its original size."""

    case: Case
    group: str  # the case's own, merged with its near-duplicates
    scores: Mapping[str, float]  # metric of the registry -> share in [0, 1], or pixels
    seconds: float  # of resizing and prediction, without reading the file
    polyps: PolypCounts | None = None  # where masks were at hand, not counts of pixels alone


def means(scored: Sequence[CaseScores]) -> dict[str, tuple[float, tuple[float, float]]]:
    """Mean of every score over images, with its 95 % interval, which resamples whole groups."""
    groups = [one.group for one in scored]
    return {
        name: (float(values.mean()), cluster_interval(values, groups))
        for name in scored[0].scores
        for values in [np.array([one.scores[name] for one in scored])]
    }


def breakdown(scored: Sequence[CaseScores], metric: str = "dice") -> list[ScoreLine]:
    """Lines of scores: all cases, then parts by dataset, center, class, polyp size and presence.

    A part that holds all cases is left out. Intervals are those of `metric`.
    """
    parts: dict[str, list[CaseScores]] = {}
    for one in scored:
        case = one.case
        names = [f"dataset {case.dataset}", f"center {case.center or 'unknown'}", size_of(case)]
        names += [f"class {case.class_name}"] if case.classes else []
        for name in names if case.polyp_fraction == 0 else [*names, "with polyp"]:
            parts.setdefault(name, []).append(one)
    order = ("dataset", "center", "class", *SIZES, "with polyp", NO_POLYP)
    rank = {name: next(i for i, start in enumerate(order) if name.startswith(start)) for name in parts}
    lines = [_line("all", scored, metric)]
    for name in sorted(parts, key=lambda name: (rank[name], name)):
        if len(parts[name]) < len(scored):
            lines.append(_line(name, parts[name], metric))
    return lines


def size_of(case: Case) -> str:
    """Size class of a case, by the share of the frame that its polyps cover together."""
    if case.polyp_fraction == 0:
        return NO_POLYP
    return next(name for name, (low, high) in SIZES.items() if low <= case.polyp_fraction < high)


def worst_first(scored: Sequence[CaseScores], metric: str = "dice") -> list[CaseScores]:
    """Cases from the worst score (lowest share or largest distance) on; of equals, the larger polyp first."""
    sign = 1 if REGISTRY[metric].maximise else -1
    return sorted(scored, key=lambda one: (sign * one.scores[metric], -one.case.polyp_fraction, one.case.id))


def _line(name: str, scored: Sequence[CaseScores], metric: str) -> ScoreLine:
    found = means(scored)
    shown = METRICS if metric in METRICS else (*METRICS, metric)
    return ScoreLine(name, len(scored), {one: found[one][0] for one in shown}, found[metric][1])
