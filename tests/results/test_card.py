from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from orchestrator.data.splits import TwinCounts
from orchestrator.results.bundle import Bundle
from orchestrator.results.card import (
    DataFacts,
    Making,
    ModelFacts,
    ScoreLine,
    SplitFacts,
    TrainingFacts,
    interval_text,
    model_card,
    what_it_says,
)
from orchestrator.results.overlay import png
from orchestrator.scoring.choice import MaskChoice
from orchestrator.scoring.postprocess import PostProcess

MODEL = ModelFacts(
    study="unet-Kvasir-SEG",
    trial=7,
    network="unet",
    summary="U-Net: an encoder and a decoder with skip connections.",
    weights="fold 2, the fold with the median Dice",
    params={"learning_rate": 1e-3, "augmentation": "flips"},
    image_size=64,
    masks=PostProcess(131 / 256),
    choice=MaskChoice(),
    training=(TrainingFacts("fold 2", 720, 180, 60, 41, 80, {"optimizer": "adam", "seed": 3}),),
)
DATA = [
    DataFacts("Kvasir-SEG", "ab" * 16, 1000, None, "trained on", (720,)),
    DataFacts("CVC-ClinicDB", "cd" * 16, 612, 29, "never trained on"),
]
SPLIT = SplitFacts(
    "five-fold-ungrouped",
    "ef" * 16,
    5,
    1,
    100,
    1000,
    900,
    groups_known=False,
    num_twins=None,
    num_unseen_twins=0,
    dropped={},
)
FOLDS = [ScoreLine(f"fold {fold}", 180, {"dice": 0.8 + fold / 100}) for fold in range(5)]
TOTAL = ScoreLine("cross-validated", 900, {"dice": 0.8211, "iou": 0.75}, (0.80, 0.84))
OUTSIDE = [
    ScoreLine("hold-out test", 99, {"dice": 0.81}, (0.76, 0.85)),
    ScoreLine("unseen CVC-ClinicDB", 612, {"dice": 0.61}, (-float("inf"), float("inf"))),
]
MAKING = Making(
    "orchestrator search x.toml",
    "abc123",
    "2 CPU cores",
    {"torch": "2.14.1", "ray": "2.60"},
    "2026-11-21",
    12,
)


def card(
    model: ModelFacts = MODEL,
    data: list[DataFacts] = DATA,
    split: SplitFacts = SPLIT,
    outside: list[ScoreLine] = OUTSIDE,
) -> str:
    return model_card(model, data, split, FOLDS, TOTAL, outside, MAKING)


def test_source_test_and_unseen_scores_stand_in_one_table():
    rows = [line for line in card().splitlines() if line.startswith("|") and "." in line]
    names = [row.split("|")[1].strip() for row in rows]
    assert names == [
        *(line.name for line in FOLDS),
        "cross-validated",
        "hold-out test",
        "unseen CVC-ClinicDB",
    ]
    assert "| cross-validated | 900 | 82.11 | 75.00 | – | – | – | – | 80.00 to 84.00 |" in rows


@pytest.mark.parametrize(
    "fact",
    [
        "not a medical device",
        "ab" * 16,
        "cd" * 16,
        "ef" * 16,
        "131/256",
        "torch 2.14.1",
        "abc123",
        "trial 7",
        "12 trials",
        "1000 images, less 100 held out for the test, leaves 900 for the folds",
        "trained on 720 images and validated on 180",
        "ran 60 of the 80 epochs of its schedule and has the weights of epoch 41",
        'optimizer = "adam"',
    ],
)
def test_the_card_says(fact: str):
    assert fact.lower() in " ".join(card().split()).lower()


def test_unknown_groups_are_a_limit_and_known_ones_are_not():
    assert "may be far too good" in card()
    assert "may be far too good" not in card(split=dataclasses.replace(SPLIT, groups_known=True))


def test_the_card_says_how_many_twins_there_were_or_that_nobody_looked():
    assert "Near-identical images were not looked for." in card()
    looked = dataclasses.replace(SPLIT, num_twins=TwinCounts(17, 3), num_unseen_twins=2)
    text = card(split=looked)
    assert "17 pairs within datasets and 3 between them were found" in text
    assert "2 unseen images were dropped" in text and "not looked for" not in text


def test_a_model_without_outside_scores_says_so():
    text = card(data=DATA[:1], split=dataclasses.replace(SPLIT, num_test=0), outside=[])
    assert "there is no score that is free of this" in text and "expect it to do worse there" in text


def test_a_model_that_was_not_scored_on_what_was_set_aside_says_so():
    for text in (
        card(data=DATA[:1], outside=[]),
        card(split=dataclasses.replace(SPLIT, num_test=0), outside=[]),
    ):
        assert "not scored yet on the images that were set aside" in text


def test_a_mean_of_networks_is_called_one_and_has_no_cross_validated_score():
    text = card(model=dataclasses.replace(MODEL, members=5, tta="flips"))
    assert "the mean over 5 networks and the image and its three flips; `model.onnx` does this itself" in text
    assert "**Of their mean there is no such score**" in text and "`0.` to `4.`: take one at a time" in text
    assert "Of their mean" not in card() and "take one at a time" not in card() and "does this" not in card()
    alone = card(
        model=dataclasses.replace(MODEL, members=5),
        data=DATA[:1],
        split=dataclasses.replace(SPLIT, num_test=0),
        outside=[],
    )
    assert "the mean of the networks has no score at all" in alone


def test_a_card_says_the_same_whenever_and_by_whatever_command_it_is_written():
    again = dataclasses.replace(MAKING, command="orchestrator best --export b", date="2031-01-01")
    cards = [model_card(MODEL, DATA, SPLIT, FOLDS, TOTAL, OUTSIDE, making) for making in (MAKING, again)]
    assert cards[0] != cards[1] and what_it_says(cards[0]) == what_it_says(cards[1])
    assert f"revision {MAKING.git_revision}" in what_it_says(cards[0])
    assert what_it_says(cards[0]) != what_it_says(card(outside=[]))


def test_small_sets_are_named_as_limits():
    few = [dataclasses.replace(MODEL.training[0], num_images=count) for count in (119, 120)]
    text = card(model=dataclasses.replace(MODEL, training=few[1:]))
    assert "It was trained on 120 images, which is few" in text and "99 images are too few" in text
    text = card(model=dataclasses.replace(MODEL, training=few, members=2))
    assert "Each of its networks was trained on 119 to 120 images, which is few" in text


def test_images_that_are_in_no_fold_are_counted_on_the_way_to_training():
    text = card(split=dataclasses.replace(SPLIT, num_in_folds=880))
    assert "1000 images, less 100 held out for the test, less 20 in no fold, leaves 880" in text


def test_rules_for_holes_components_and_small_polyps_are_told_where_there_are_any():
    rules = PostProcess(131 / 256, reference_area=0.01, fill_holes=True, min_component_area=0.002)
    text = card(model=dataclasses.replace(MODEL, masks=rules, choice=MaskChoice(reference_area=None)))
    assert "Holes in a mask are filled." in text and "below 0.200% of the frame are dropped" in text
    assert "no more than 1.000% has a probability of 0.5117" in text and "validation images chose" in text
    assert "leaves out the further rules" in text and "leaves out" not in card()
    assert "Holes" not in card() and "dropped" not in card()


def test_a_threshold_that_was_not_swept_is_called_a_setting():
    assert "a setting of the trial" in card(model=dataclasses.replace(MODEL, choice=MaskChoice(131 / 256)))


def test_an_interval_of_one_group_is_unknown():
    assert interval_text((-float("inf"), float("inf"))) == "unknown" and interval_text(None) == "–"


def test_the_program_in_the_card_gives_the_mask_of_the_bundle(
    exported: Path, photo: np.ndarray, tmp_path: Path, monkeypatch
):
    folder = Path(shutil.copytree(exported, tmp_path / "bundle"))
    (folder / "image.png").write_bytes(png(photo))
    monkeypatch.chdir(folder)
    names: dict[str, np.ndarray] = {}
    exec(card().split("```python\n")[1].split("```")[0], names)
    np.testing.assert_array_equal(names["mask"], Bundle.load(folder).predict(photo)[1])
