"""An exported model on a dataset, image by image: scores, where they come from, and the worst cases first.

Whatever the model was trained or selected on is left out: of its own datasets only the hold-out cases are scored, and
no case that shares a group with its training data, or is a near-duplicate of it.
"""

from __future__ import annotations

import csv
import io
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from orchestrator.common.errors import BadData
from orchestrator.common.files import write_atomically
from orchestrator.data.cases import Case, Dataset
from orchestrator.data.images import read_image, read_mask
from orchestrator.results.case_scores import CaseScores, worst_first
from orchestrator.results.export.bundle import BundleConfig, ExportedModel
from orchestrator.results.views.plots import Tile, overlay_sheet
from orchestrator.scoring.components import count_polyps
from orchestrator.scoring.mask_scores import score_masks

# Why a case is not scored.
SEEN = "seen in training or selection"
RELATED = "of a group (video, patient) that was seen there"
NEAR_DUPLICATE = "near-duplicates, or of their group, of what was seen there"
WARM_UP = 3  # first predictions are slow


def datasets_seen(
    config: BundleConfig, datasets: Sequence[Dataset], known: Iterable[Dataset]
) -> tuple[tuple[Dataset, ...], list[str]]:
    """Further datasets that the model was trained on and that are known here; names of those that are not."""
    missing = {fingerprint: name for name, fingerprint in config.trained_on.items()}
    for dataset in datasets:
        missing.pop(dataset.fingerprint, None)
    found = [dataset for dataset in known if missing.pop(dataset.fingerprint, None) is not None]
    return tuple(found), sorted(missing.values())


def cases_to_score(
    config: BundleConfig, datasets: Sequence[Dataset], seen: Sequence[Dataset], group_of: Mapping[str, str]
) -> tuple[list[Case], dict[str, int]]:
    """Cases without a near-duplicate in training or selection, and how many of each dataset were left out for one.

    `seen`: what else the model was trained on; `group_of`: case id -> group of all of these, near-duplicates merged.
    Raises `BadData` naming each dataset of which nothing is left, or that has but the name of one that the model was
    trained on.
    """
    changed = [
        f"{one.name}: the model was trained on a dataset of this name with other images, groups or centers, so "
        "what it saw of this one is not known; name data that is new, under a name of its own"
        for one in datasets
        if config.trained_on.get(one.name, one.fingerprint) != one.fingerprint
    ]
    if changed:
        raise BadData("--data", changed)
    reasons = why_left_out(config, datasets, seen, group_of)
    kept: list[Case] = []
    left_out, problems = {}, []
    for dataset in datasets:
        cases = [case for case in dataset.cases if case.id not in reasons]
        if len(cases) < len(dataset.cases):
            left_out[dataset.name] = len(dataset.cases) - len(cases)
        if not cases:
            problems.append(
                f"{dataset.name}: the model was trained or selected on all of its cases, or on near-duplicates of "
                "them; name other data"
            )
        kept += cases
    if problems:
        raise BadData("--data", problems)
    return kept, left_out


def why_left_out(
    config: BundleConfig, datasets: Sequence[Dataset], seen: Sequence[Dataset], group_of: Mapping[str, str]
) -> dict[str, str]:
    """Case id -> the reason, for all that `cases_to_score` leaves out."""
    own = [one for one in (*datasets, *seen) if one.fingerprint in config.trained_on.values()]
    shown = [case for one in own for case in one.cases if case.id not in config.held_out]
    ids, groups = {case.id for case in shown}, {case.group for case in shown}
    merged, known = {group_of[id] for id in ids}, set(config.twins)
    reasons = {}
    for case in (case for dataset in datasets for case in dataset.cases):
        if case.id in ids:
            reasons[case.id] = SEEN
        elif case.group in groups:
            reasons[case.id] = RELATED
        elif case.id in known or group_of[case.id] in merged:
            reasons[case.id] = NEAR_DUPLICATE
    return reasons


def evaluate(
    bundle: ExportedModel,
    cases: Sequence[Case],
    group_of: Mapping[str, str],
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[CaseScores]:
    """Score each case: polyp class only, at the size of the file, at the bundle's own threshold."""
    for image in (read_image(case.image) for case in cases[:1] for _ in range(WARM_UP)):
        bundle.predict(image)
    for done, case in enumerate(cases, start=1):
        image, truth = read_image(case.image), read_mask(case.mask)
        began = time.perf_counter()
        _, mask = bundle.predict(image)
        seconds = time.perf_counter() - began
        polyps = count_polyps(mask, truth)
        yield CaseScores(case, group_of[case.id], score_masks(mask, truth, polyps), seconds, polyps)
        if on_progress:
            on_progress(done, len(cases))


def worst_sheet(
    bundle: ExportedModel, scored: Sequence[CaseScores], count: int, metric: str = "dice"
) -> bytes:
    """A PNG of the worst cases by one metric, with their Dice, truth and prediction outlined.

    Where polyps are wrong as well, images without one have half of the places at most: all of those that are wrong have
    a Dice of 0, and would leave no place for polyps that were missed.
    """
    tiles = []
    ordered = worst_first(scored, metric)
    chosen = mixed(ordered, count)
    for one in chosen:
        image = read_image(one.case.image)
        tiles.append(
            Tile(one.case.id, image, bundle.predict(image)[1], read_mask(one.case.mask), one.scores["dice"])
        )
    return overlay_sheet(tiles, worst_title(chosen, ordered, metric))


def worst_title(chosen: Sequence[CaseScores], ordered: Sequence[CaseScores], metric: str) -> str:
    """Title of the sheet of worst images; it says where worse images without a polyp were left out."""
    half = "" if chosen == ordered[: len(chosen)] else ", half of them at most without a polyp"
    return f"worst {len(chosen)} of {len(ordered)} images by {metric}{half}"


def mixed(ordered: Sequence[CaseScores], count: int) -> list[CaseScores]:
    """The first `count`, of which at most half are without a polyp while there are others; order is kept."""
    without = [one for one in ordered if one.case.polyp_fraction == 0]
    polyps = [one for one in ordered if one.case.polyp_fraction > 0]
    first = polyps[: max(count - len(without), count - count // 2)]
    chosen = {one.case.id for one in (*first, *without[: count - len(first)])}
    return [one for one in ordered if one.case.id in chosen]


def write_csv(scored: Sequence[CaseScores], path: Path, metric: str = "dice") -> None:
    """One row an image, worst first; near-duplicates are of one group; classes come last, if there are any."""
    has_classes = any(one.case.classes for one in scored)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(
        ["case", "group", "center", "polyp_fraction", *scored[0].scores, "seconds", *["class"] * has_classes]
    )
    for one in worst_first(scored, metric):
        case = one.case
        plain = [case.id, one.group, case.center or "", case.polyp_fraction]
        writer.writerow([*plain, *one.scores.values(), one.seconds, *[case.class_name] * has_classes])
    write_atomically(path, text.getvalue().encode(), sync=False)


def images_per_second(scored: Sequence[CaseScores]) -> float:
    """One over the median time of an image, alone in its batch, from decoded pixels to mask."""
    return 1 / statistics.median(one.seconds for one in scored)
