"""The pictures of a finished trial: cases from worst to best, learning curves, Dice against the threshold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from orchestrator.data.cases import Case
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.resize import resize_probability
from orchestrator.results.views.plots import Tile, learning_curves, overlay_sheet, threshold_curve
from orchestrator.scoring.histograms import NUM_BINS
from orchestrator.scoring.metrics import scores_of_masks
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.fit_jobs import NUM_EXAMPLES
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.trials import StudyTrial

MAX_SHOWN = 6  # folds on the sheet of examples, which takes a second each to draw


def trial_pictures(trial: StudyTrial, score: TrialScore, cases: Mapping[str, Case]) -> dict[str, bytes]:
    """File name -> PNG; `cases` by id."""
    title = f"trial {trial.number}, {trial.configuration.network}"
    shown = trial.records[:MAX_SHOWN]
    which = "each fold" if shown == trial.records else f"the first {MAX_SHOWN} of {len(trial.records)} folds,"
    tiles = [
        example_tile(cases[case_id], bins, score.masks)
        for record in shown
        for case_id, bins in record.examples.items()
    ]
    sizes = [len(record.case_ids) for record in trial.records]
    sheet = f"{title}: {which} from worst to best at its own threshold"
    examples = {"examples.png": overlay_sheet(tiles, sheet, columns=NUM_EXAMPLES)} if tiles else {}
    return examples | {
        "learning_curves.png": learning_curves(
            {_fold_name(record): record.curves for record in trial.records}, title
        ),
        "threshold.png": threshold_curve(
            np.concatenate([record.histograms for record in trial.records]),
            np.repeat(np.arange(len(sizes)), sizes),
            score.masks,
            title,
        ),
    }


def _fold_name(record: FitRecord) -> str:
    return f"fold {record.spec.fold}" if record.spec.fold.isdigit() else record.spec.fold


def example_tile(case: Case, bins: np.ndarray, masks: PostProcess) -> Tile:
    middle = (bins.astype(np.float32) + np.float32(0.5)) / np.float32(NUM_BINS)
    probability = resize_probability(middle, case.height, case.width)
    truth, mask = read_mask(case.mask), masks.apply(probability)
    dice = scores_of_masks(mask, truth)["dice"]
    return Tile(case.id.split("/", 1)[1], read_image(case.image), mask, truth, dice)
