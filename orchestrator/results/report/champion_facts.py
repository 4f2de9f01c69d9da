"""The trial that `best` names: the lines of its table, and its validation images one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from orchestrator.data.cases import Case
from orchestrator.results.case_scores import CaseScores, breakdown, worst_first
from orchestrator.results.report.facts import ChampionFacts, WorstCase
from orchestrator.results.views.overlay import outlined
from orchestrator.results.views.score_lines import ScoreLine
from orchestrator.results.views.study_scores import fold_lines, outside_label, outside_lines, validation_line
from orchestrator.results.views.trial_pictures import example_tile
from orchestrator.scoring.metrics import OF_MASKS
from orchestrator.scoring.pending_cases import sweep
from orchestrator.scoring.statistics import Share
from orchestrator.search.goals.model_cost import Cost
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.space.space import Configuration
from orchestrator.search.store.snapshot import StudySnapshot
from orchestrator.search.store.trials import StudyTrial
from orchestrator.selection.mask_values import MaskValues, masks_on_record, polyps_of
from orchestrator.training.recipe import Recipe

ALWAYS_SHOWN = (
    *("image_size", "epochs", "batch_size", "learning_rate", "optimizer", "weight_decay", "schedule", "loss"),
    "augmentation",
)
NUM_WORST, NUM_PICTURES = 12, 8
SIDE, QUALITY = 400, 85  # pixels and JPEG quality of a picture


def champion_facts(snapshot: StudySnapshot, number: int) -> ChampionFacts:
    """The facts of a trial with all its folds."""
    trial = next(one for one in snapshot.trials if one.number == number)
    score, record = snapshot.finished_score(trial), snapshot.champion_fit(trial)
    histograms = np.concatenate([one.histograms for one in trial.records])
    scored = _scored(snapshot, score)
    ordered = worst_first(scored)
    with_polyp = [one for one in scored if one.case.polyp_fraction > 0]
    without = [one for one in scored if one.case.polyp_fraction == 0]
    masks = masks_on_record(snapshot, trial, [record], score.masks)
    outside = outside_lines(snapshot, [record], score.masks)
    of_masks = {outside_label(name): found for name, found in masks.outside.items()}
    validation = validation_line(snapshot, score)
    if masks.validation is not None:
        of_masks[validation.name] = masks.validation
    return ChampionFacts(
        trial=number,
        network=_network(snapshot, trial, record),
        params=trial.params,
        recipe=shown_of_training(trial.configuration.recipe),
        options=shown_of_network(trial.configuration),
        folds=tuple(fold_lines(snapshot, trial, score)),
        scores=tuple(_with_masks(line, of_masks.get(line.name)) for line in (validation, *outside)),
        polyps={name: polyps_of(snapshot, found) for name, found in of_masks.items()},
        strata=tuple(breakdown(scored)[1:]),
        dice=score.dice_of_case,
        histograms=histograms.sum(axis=0, dtype=np.int64),
        by_threshold=sweep(histograms, [score.masks.reference_area], white_level=score.masks.white_level)[
            :, 0
        ],
        threshold=score.threshold,
        is_swept=trial.configuration.masks.threshold is None,
        is_cross_fitted=score.is_cross_fitted,
        found=_share(with_polyp, lambda one: one.scores["recall"] > 0),
        left_empty=_share(without, lambda one: one.scores["dice"] == 1),
        worst=tuple(map(_worst, ordered[:NUM_WORST])),
        pictures=_pictures(trial, score, ordered),
        missing=_missing(snapshot, len(outside)),
    )


def network_metrics(snapshot: StudySnapshot, number: int, *, counts: bool) -> dict[str, float]:
    """Parameters, trained ones and GMACs of a trial's network (if `counts`), images per second if timed."""
    trial = next(one for one in snapshot.trials if one.number == number)
    found: dict[str, float] = {}
    if counts:
        sizes = snapshot.network_sizes
        found = {name: Cost(name, sizes)(trial.configuration) or 0.0 for name in ("parameters", "gmacs")}  # type: ignore[arg-type]
        found["trained"] = float(sizes.num_trained(trial.configuration))
    milliseconds = Cost("inference_ms")(trial.configuration, trial.inference_ms)
    return found | ({} if milliseconds is None else {"fps": 1000 / milliseconds})


def shown_of_training(recipe: Recipe) -> dict[str, object]:
    """Fields of a recipe that papers always state, and all others in effect that are not at their default."""
    departures = recipe.departures
    return {
        name: getattr(recipe, name)
        for name in Recipe.model_fields
        if name in departures or name in ALWAYS_SHOWN
    }


def shown_of_network(configuration: Configuration) -> dict[str, object]:
    """Encoder of a network, where it can be chosen, and its parameters that are not at their default."""
    from orchestrator import models

    defaults = {name: one.default for name, one in models.params(configuration.network).items()}
    values = defaults | configuration.network_params
    return {
        name: value
        for name, value in values.items()
        if value != defaults.get(name) or (name == "encoder" and value is not None)
    }


def _network(snapshot: StudySnapshot, trial: StudyTrial, record: FitRecord) -> str:
    if len(trial.records) == 1:
        return f"that of the only fold of trial {trial.number}"
    name = snapshot.plan.folds[int(record.spec.fold)].name
    return f"that of {name} of trial {trial.number}, the fold of median Dice"


def _scored(snapshot: StudySnapshot, score: TrialScore) -> list[CaseScores]:
    cases = {case.id: case for dataset in snapshot.datasets for case in dataset.cases}
    groups = snapshot.groups_of(score.case_ids)
    return [
        CaseScores(
            cases[case_id],
            group,
            {name: float(values[place]) for name, values in score.values_of_case.items()},
            0.0,
        )
        for place, (case_id, group) in enumerate(zip(score.case_ids, groups, strict=True))
    ]


def _with_masks(line: ScoreLine, scored: MaskValues | None) -> ScoreLine:
    """The line with means of the metrics of masks, if an export has scored them."""
    if scored is None:
        return line
    return replace(
        line, scores={**line.scores, **{name: float(scored.by_case(name).mean()) for name in OF_MASKS}}
    )


def _share(scored: Sequence[CaseScores], holds: Callable[[CaseScores], bool]) -> Share:
    return Share.of([holds(one) for one in scored], [one.group for one in scored])


def _worst(one: CaseScores) -> WorstCase:
    return WorstCase(one.case.id, one.scores["dice"], one.case.polyp_fraction)


def _pictures(
    trial: StudyTrial, score: TrialScore, ordered: Sequence[CaseScores]
) -> tuple[tuple[WorstCase, bytes], ...]:
    """Pictures of cases in the quarter of lowest Dice whose map a fit kept, as it does of its worst one."""
    kept = {case_id: bins for record in trial.records for case_id, bins in record.examples.items()}
    low = [one for one in ordered[: math.ceil(len(ordered) / 4)] if one.case.id in kept]
    return tuple((_worst(one), _picture(one.case, kept[one.case.id], score)) for one in low[:NUM_PICTURES])


def _picture(case: Case, bins: NDArray[np.uint8], score: TrialScore) -> bytes:
    """The image with the truth in blue and the prediction in yellow, JPEG."""
    tile = example_tile(case, bins, score.masks)
    scale = SIDE / max(tile.image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in tile.image.shape[:2])
    size = (width, height)
    image = cv2.resize(tile.image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    masks = [
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
        for mask in (tile.prediction, tile.truth)
    ]
    drawn = cv2.cvtColor(outlined(image, *masks, width=2), cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not encoded:
        raise RuntimeError(f"OpenCV could not encode an image of shape {drawn.shape}")
    return data.tobytes()


def _missing(snapshot: StudySnapshot, num_scored: int) -> str | None:
    if not snapshot.outside_cases:
        return "No image was held out, and no external dataset was given: no score is free of the choice among trials."
    if num_scored < len(snapshot.outside_cases):
        return (
            "Not scored yet on all images outside the folds: that is done once, when the search is over; the same "
            "`orchestrator search` continues."
        )
    return None
