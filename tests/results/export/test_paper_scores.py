from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset
from orchestrator.data.images import read_grey_mask, read_image
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.paper_scores import asked_for, paper_scores_of
from orchestrator.scoring.papers.registry import PAPER_SCORES


def scores(bundle: ExportedModel, dataset: Dataset, *names: str) -> list[float]:
    return paper_scores_of(bundle, dataset.cases, asked_for(names, len(dataset.cases)))


def predictions(bundle: ExportedModel, dataset: Dataset, index: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Probability maps (index 0) or masks (index 1) of all cases, with the masks as stored."""
    return [
        (np.asarray(bundle.predict(read_image(case.image))[index], np.float32), read_grey_mask(case.mask))
        for case in dataset.cases
    ]


def test_the_endocv_toolbox_scores_the_exported_mask_and_the_map_only_where_asked(
    exported: Path, drawn: Dataset
):
    bundle = ExportedModel.load(exported)
    masks, maps = predictions(bundle, drawn, 1), predictions(bundle, drawn, 0)
    of_mask, of_map = scores(bundle, drawn, "ppv_endocv", "ppv_endocv@map")
    assert of_mask == PAPER_SCORES["ppv_endocv"](masks) == scores(bundle, drawn, "ppv_endocv@mask")[0]
    assert of_map == PAPER_SCORES["ppv_endocv"](maps) != of_mask


def test_pranets_scores_read_the_map_and_those_of_uacanet_cut_it(exported: Path, drawn: Dataset):
    bundle = ExportedModel.load(exported)
    found = dict(
        zip(
            names := ("dice_pranet", "dice_pranet@mask", "dice_uacanet", "weighted_f_pranet"),
            scores(bundle, drawn, *names),
            strict=True,
        )
    )
    assert found["dice_pranet"] == PAPER_SCORES["dice_pranet"](predictions(bundle, drawn, 0))
    assert found["dice_pranet@mask"] == PAPER_SCORES["dice_pranet"](predictions(bundle, drawn, 1))
    assert len(set(found.values())) == 4


@pytest.mark.parametrize(
    ("name", "size"), [("dice_gmsrf", 256), ("dice_colonsegnet", 512), ("iou_two_class", 256)]
)
def test_programs_that_score_at_a_size_of_their_own_get_the_networks_map_at_that_size(
    exported: Path, drawn: Dataset, name: str, size: int
):
    bundle = ExportedModel.load(exported)
    pairs = [
        (cv2.resize(bundle.network_map(read_image(case.image)), (size, size)), read_grey_mask(case.mask))
        for case in drawn.cases
    ]
    assert scores(bundle, drawn, name) == [PAPER_SCORES[name](pairs)]
    assert asked_for([name], 16)[0].explained.startswith(f"of the probability map at {size} x {size}; ")


def test_all_that_is_wrong_with_the_names_is_said_at_once():
    with pytest.raises(BadData) as refused:
        asked_for(["dcie", "dice_pranet@maks", "dice_mediaeval", "iou_mediaeval", "dice_image"], 16)
    unknown, *others = refused.value.problems
    assert "no score is named dcie; known: " in unknown and "dice_pranet" in unknown
    assert others == [
        "dice_pranet@maks: expected dice_pranet or dice_pranet@map or dice_pranet@mask",
        "dice_mediaeval needs 17 images, found 16",
        "iou_mediaeval needs 17 images, found 16",
    ]


def test_nothing_is_predicted_where_no_score_is_asked_for(exported: Path, drawn: Dataset):
    assert scores(ExportedModel.load(exported), drawn) == []
