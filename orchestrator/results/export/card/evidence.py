"""Sections on how well the model does on what, how it was searched for, what it costs, and what its data is."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.data.stated_fields import FIELDS
from orchestrator.data.statement import NOT_STATED
from orchestrator.results.views.score_lines import ScoreLine, interval_text, score_table
from orchestrator.scoring.components import PolypCounts
from orchestrator.scoring.distances import TOLERANCE
from orchestrator.scoring.formatting import percent, with_ends
from orchestrator.scoring.metrics import REGISTRY
from orchestrator.scoring.statistics import Share

Interval = tuple[float, float]
TIMED_ON = "Timed on"
VIDEO = 25  # images a second, of PAL; NTSC has 30
WIDTH = 116  # characters of a line
OUTLINES = (
    f"nsd: the share of both outlines that lies within {100 * TOLERANCE:.2f} % of the frame's diagonal of the "
    "other one; boundary_f: the harmonic mean of the two shares. hausdorff95: what 95 % of either outline stays "
    "within, the larger of the two; hausdorff: the largest gap; normalised: as shares of the diagonal. lesion_f1: "
    "of connected areas, a match being an overlap (IoU) above one half. Where only the prediction or only the "
    "truth is empty, the distance is the diagonal and the other scores are 0; where both are, the distance is 0 "
    "and the others are 100. Masks are compared at the size of the image's file, so a pixel is not the same in "
    "all datasets."
)
FAILURES = "failures"  # folder of the pictures in an export
LOWEST = "The lowest Dice of all validation images, then low ones with a picture that was kept."


@dataclass(frozen=True)
class Detection:
    """Sensitivity and specificity of images, and counts of polyps as objects."""

    found: Share  # with a polyp, of which the mask touches some
    left_empty: Share  # without a polyp, that got no mask
    polyps: PolypCounts | None = (
        None  # as objects, in all predictions of validation images; None: not counted
    )
    num_repeats: int = 1  # how many networks have predicted each image
    outside: Mapping[str, PolypCounts] = field(default_factory=dict)  # of images outside the folds, by set


@dataclass(frozen=True)
class Failure:
    """One of the images with the lowest Dice."""

    case_id: str
    dice: float
    picture: bytes | None = None  # JPEG


@dataclass(frozen=True)
class Evidence:
    """Facts on a model besides mean scores: intervals, strata, cost, search, failures, owners' statements."""

    intervals: Mapping[str, Mapping[str, tuple[float, Interval]]]  # images -> metric -> mean, 95 % interval
    strata: Sequence[ScoreLine]  # validation images by dataset, center, size, presence
    detection: Detection  # of validation images
    calibration_error: float | None  # of pixels, 0 to 1
    metrics: Mapping[str, float]  # parameters, gmacs, fps, where known
    search: Sequence[str]  # sentences
    space: str  # TOML
    of_masks: Mapping[str, tuple[float, Interval]] = field(
        default_factory=dict
    )  # metrics of validation images that only masks give
    failures: Sequence[Failure] = ()
    timed_on: str = "the machine where it was trained"  # what fps are of
    statements: Mapping[str, Mapping[str, str]] = field(
        default_factory=dict
    )  # dataset -> what its owner states


def intended_use() -> str:
    """Intended use, and use that is not intended."""
    return """\
## Intended use

For researchers who study polyp segmentation: to compare methods, to repeat the results below, to train on. Users know
how to read scores with their intervals. Out of scope: diagnosis, treatment, screening, any decision about a patient,
and use during colonoscopy; other organs, capsule endoscopy and other modes of light than those of the data below."""


def intervals(evidence: Evidence, alone: str = "") -> str:
    """Section on the intervals of all scores; `alone`: whose networks those of masks are, if not of all."""
    tables = [_interval_table(name, rows) for name, rows in evidence.intervals.items()]
    if evidence.of_masks:
        tables.append(_interval_table("validation images, by outlines and polyps", evidence.of_masks))
        tables += [paragraph(alone.strip())] if alone else []
    if evidence.of_masks or evidence.detection.outside:
        tables.append(paragraph(OUTLINES))
    return "\n\n".join(
        [
            "### Intervals of all scores",
            paragraph(
                "95 %, over whole groups where they are known; in percent, distances in pixels. Masks of validation "
                "images use what the other folds chose, if anything; all others use what the trial chose."
            ),
            *tables,
        ]
    )


def paragraph(text: str) -> str:
    """Text in lines of one length, for people who read the file as it is."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _interval_table(name: str, rows: Mapping[str, tuple[float, Interval]]) -> str:
    lines = [f"| {name} | mean | 95 % |", "| --- | ---: | ---: |"]
    for metric, (mean, ends) in rows.items():
        of_registry = REGISTRY[metric]
        unit = " (pixels)" if of_registry.unit == "pixels" else ""
        lines.append(
            f"| {metric}{unit} | {of_registry.text(mean)} | {interval_text(ends, of_registry.text)} |"
        )
    return "\n".join(lines)


def strata(evidence: Evidence, alone: str = "") -> str:
    """Scores by size, center and presence, and images that are right as a whole; `alone` as for `intervals`."""
    table = score_table(evidence.strata) if evidence.strata else "All validation images are of one kind."
    error = evidence.calibration_error
    calibrated = (
        "Its calibration is not known."
        if error is None or not math.isfinite(error)
        else f"Expected calibration error of pixels: {error:.3f} (0 is best)."
    )
    polyps = "\n\n".join([paragraph(_per_polyp(evidence.detection)), *_outside_polyps(evidence.detection)])
    return f"""\
## Where it does well and where it does not

Validation images, each by the network that was not trained on it; in percent.{alone}

{table}

{paragraph(_per_image(evidence.detection))}

{polyps}

{calibrated}"""


def _per_image(detection: Detection) -> str:
    """Sensitivity and specificity of images."""
    touched = _share("sensitivity", detection.found, "images with a polyp have a mask that touches it")
    left_empty = _share("specificity", detection.left_empty, "images without a polyp have no mask")
    return f"Per image: {touched}; {left_empty}."


def _per_polyp(detection: Detection) -> str:
    """Sensitivity and false positives of polyps as objects, or what counting them takes."""
    if detection.polyps is None:
        return (
            "Polyps as objects were not counted: that needs the networks of all folds, which are kept for the best "
            "trials, and a study that no other process works on. `orchestrator evaluate` counts them on any dataset."
        )
    again = f" Each image counts {detection.num_repeats} times, once per repeat." * (
        detection.num_repeats > 1
    )
    return detection.polyps.sentence() + again


def _outside_polyps(detection: Detection) -> list[str]:
    """Polyps as objects in the hold-out and in external datasets, a paragraph each, where they were counted."""
    return [paragraph(f"{name}: {counts.sentence()}") for name, counts in detection.outside.items()]


def _share(name: str, share: Share, what: str) -> str:
    """A rate as text: "sensitivity 95.0 %, 95 % 80.0 to 99.0 (19 of 20 images ...)"."""
    if not share.total:
        return f"{name} is unknown, because there are no such images"
    value = f"{100 * share.num / share.total:.1f} %{with_ends(share.interval)}"
    return f"{name} {value} ({share.num} of {share.total} {what})"


def failures(evidence: Evidence) -> str:
    """The images with the lowest Dice; pictures where their probability map was kept."""
    rows = []
    for number, one in enumerate(evidence.failures, start=1):
        picture = f"![{one.case_id}]({FAILURES}/{picture_name(number)})" if one.picture else "–"
        rows.append(f"| `{one.case_id}` | {percent(one.dice)} | {picture} |")
    head = ["| validation image | Dice | truth blue, prediction yellow |", "| --- | ---: | --- |"]
    return "\n".join(["## Failures", "", LOWEST, "", *head, *rows])


def picture_name(number: int) -> str:
    return f"{number:02d}.jpg"


def search(evidence: Evidence) -> str:
    """Space, sampler, race, budget, trials."""
    lines = "\n".join(f"- {line}" for line in evidence.search)
    return f"## How it was searched for\n\n{lines}\n\n```toml\n{evidence.space.strip()}\n```"


def cost(evidence: Evidence) -> str:
    """Size and speed of one network."""
    known = evidence.metrics
    parts = [f"{known['parameters'] / 1e6:.2f} million parameters"] if "parameters" in known else []
    parts += [f"{known['gmacs']:.2f} GMACs an image"] if "gmacs" in known else []
    size = f"One network: {', '.join(parts) if parts else 'not measured'}."
    return f"## Size and speed\n\n{size}\n{latency(known.get('fps'), evidence.timed_on)}"


def latency(fps: float | None, machine: str) -> str:
    """Time of one image on a machine, as text for people who look at video."""
    if not fps:
        return "How long an image takes was not measured."
    pace = "keeps up with" if fps >= VIDEO else "is slower than"
    return paragraph(
        f"{TIMED_ON} {machine}, an image takes {1000 / fps:.1f} ms, {fps:.3g} images a second: the network alone "
        f"{pace} a colonoscopy video of {VIDEO} images a second there. Reading an image, resizing it and drawing its "
        "mask come on top, and other machines differ: `orchestrator evaluate` measures it where it runs."
    )


def licences(evidence: Evidence) -> str:
    """Section on the licences that the owners of the data state; that of the weights is not stated."""
    rows = [_statement(dataset, said) for dataset, said in evidence.statements.items()]
    return "\n".join(
        [
            *("## Licences and origin of the data", ""),
            "Licence of the weights: not stated. The terms of the data may bind whoever uses them.",
            *("", *rows),
        ]
    )


def _statement(dataset: str, said: Mapping[str, str]) -> str:
    """One line with the statements of a dataset's owner; fields that are not stated come last."""
    parts = [f"{field}: {said[field]}" for field in FIELDS if field in said]
    missing = ", ".join(field for field in FIELDS if field not in said)
    parts += [f"{NOT_STATED}: {missing}"] if missing else []
    return f"- {dataset}: {'; '.join(parts)}"


def citation(study: str, program: str) -> str:
    """How to cite the model."""
    return f"""\
## Citation

Cite the datasets as their owners ask, the paper of the network, and the software: polyp-orchestrator {program}, study
`{study}`. Contact: whoever gave this folder to you."""
