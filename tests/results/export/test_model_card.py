from __future__ import annotations

import ast
import dataclasses
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from huggingface_hub import ModelCard
from PIL import Image

from orchestrator.data.images import read_image
from orchestrator.data.splits.split_plan import NearDuplicateCounts
from orchestrator.results.export.card.evidence import Detection, Evidence, Failure
from orchestrator.results.export.card.facts import DataFacts, Making, ModelFacts, SplitFacts, TrainingFacts
from orchestrator.results.export.card.scoring import scores
from orchestrator.results.export.card.use import how_made
from orchestrator.results.export.formats import standalone
from orchestrator.results.export.model_card import model_card, what_it_says
from orchestrator.results.views.score_lines import ScoreLine, interval_text, score_table
from orchestrator.scoring.components import PolypCounts
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.statistics import Share
from orchestrator.training.recipe import Recipe

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
    num_near_duplicates=None,
    num_unseen_near_duplicates=0,
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


def test_a_card_lists_what_had_an_effect_and_not_the_momentum_of_another_optimizer():
    recipe = Recipe(optimizer="adam").model_dump(mode="json")
    made = how_made(
        dataclasses.replace(MODEL, training=(dataclasses.replace(MODEL.training[0], recipe=recipe),)), MAKING
    )
    assert 'optimizer = "adam"' in made and "schedule" in made and "momentum" not in made


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


EVIDENCE = Evidence(
    intervals={"validation images": {"recall": (0.91, (0.87, 0.94))}},
    strata=[ScoreLine("small polyp, below 3 %", 40, {"dice": 0.5}, (0.4, 0.6))],
    of_masks={"nsd": (0.8, (0.75, 0.85)), "hausdorff95": (12.3, (-math.inf, math.inf))},
    detection=Detection(
        Share(19, 20, (0.8, 0.99)),
        Share(3, 4),
        PolypCounts(25, 18, 20, images=24, interval=(0.6, 0.81)),
        2,
        {"ETIS (unseen)": PolypCounts(8, 2, 5, images=7)},
    ),
    calibration_error=0.0312,
    metrics={"parameters": 31_040_000.0, "gmacs": 54.5, "fps": 25.0},
    search=("12 trials: 4 complete, 8 stopped.",),
    space='network = "unet"\n',
    failures=[Failure("Kvasir-SEG/a", 0.01), Failure("Kvasir-SEG/b", 0.02, b"jpeg")],
    statements={"Kvasir-SEG": {"licence": "research only"}},
)


@pytest.mark.parametrize(
    "fact",
    [
        "| recall | 91.00 | 87.00 to 94.00 |",
        "| small polyp, below 3 % | 40 | 50.00",
        "sensitivity 95.0 %, 95 % 80.0 to 99.0 (19 of 20 images with a polyp",
        "specificity 75.0 % (3 of 4 images without a polyp",
        "Polyps as objects: 18 of 25 found (sensitivity 72.0 %, 95 % 60.0 to 81.0)",
        "Each image counts 2 times, once per repeat.",
        "ETIS (unseen): Polyps as objects: 2 of 8 found (sensitivity 25.0 %)",
        "| nsd | 80.00 | 75.00 to 85.00 |",
        "| hausdorff95 (pixels) | 12.30 | unknown |",
        "calibration error of pixels: 0.031",
        "31.04 million parameters, 54.50 GMACs",
        "an image takes 40.0 ms, 25 images a second: the network alone keeps up with",
        "12 trials: 4 complete, 8 stopped.",
        "| `Kvasir-SEG/b` | 2.00 | ![Kvasir-SEG/b](failures/02.jpg) |",
        "Kvasir-SEG: licence: research only; not stated: source, annotators",
        "For researchers who study polyp segmentation",
    ],
)
def test_the_card_shows_the_evidence(fact: str):
    text = model_card(MODEL, DATA, SPLIT, FOLDS, TOTAL, OUTSIDE, MAKING, evidence=EVIDENCE)
    assert fact in " ".join(text.split())


def test_scores_that_are_not_of_the_mean_over_trials_say_whose_they_are():
    several = dataclasses.replace(MODEL, members=5, num_trials=2)
    told = [
        " ".join(model_card(model, DATA, SPLIT, FOLDS, TOTAL, OUTSIDE, MAKING, evidence=EVIDENCE).split())
        for model in (MODEL, several)
    ]
    assert [text.count("These are of the networks of trial 7 alone.") for text in told] == [0, 2]


def test_what_a_distance_of_a_missed_polyp_is_and_what_is_near_is_said_in_lines_that_people_can_read():
    text = model_card(MODEL, DATA, SPLIT, FOLDS, TOTAL, OUTSIDE, MAKING, evidence=EVIDENCE)
    assert "within 0.75 % of the frame's diagonal" in " ".join(text.split())
    prose = [
        line for line in text.split("## Scores")[1].split("## Failures")[0].splitlines() if "|" not in line
    ]
    assert max(map(len, prose)) <= 120


def test_polyps_that_were_not_counted_are_no_number():
    detection = dataclasses.replace(EVIDENCE.detection, polyps=None)
    evidence = dataclasses.replace(EVIDENCE, detection=detection)
    text = model_card(MODEL, DATA, SPLIT, FOLDS, TOTAL, OUTSIDE, MAKING, evidence=evidence)
    assert "Polyps as objects were not counted" in text and "25 found" not in text


def test_a_model_hub_reads_what_stands_on_top_of_the_card():
    metadata = ModelCard(card()).data
    assert (metadata.library_name, metadata.pipeline_tag) == ("onnx", "image-segmentation")
    assert metadata.datasets == ["Kvasir-SEG"] and "dice" in metadata.metrics
    told = {one.dataset_name: one for one in metadata.eval_results if one.metric_type == "dice"}
    assert told["hold-out test"].metric_value == 0.81 and told["hold-out test"].dataset_split == "test"


def test_unknown_groups_are_a_limit_and_known_ones_are_not():
    assert "may be far too good" in card()
    assert "may be far too good" not in card(split=dataclasses.replace(SPLIT, groups_known=True))


def test_the_card_says_how_many_twins_there_were_or_that_nobody_looked():
    assert "Near-identical images were not looked for." in card()
    looked = dataclasses.replace(
        SPLIT, num_near_duplicates=NearDuplicateCounts(17, 3), num_unseen_near_duplicates=2
    )
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
    here = [dataclasses.replace(EVIDENCE, metrics={"fps": fps}, timed_on="2 cores") for fps in (9.81, 30)]
    timed = [model_card(MODEL, DATA, SPLIT, FOLDS, TOTAL, OUTSIDE, MAKING, evidence=known) for known in here]
    assert "Timed on 2 cores, an image takes 101.9 ms, 9.81 images a second" in timed[0]
    assert what_it_says(timed[0]) == what_it_says(timed[1]) and "other machines differ" not in what_it_says(
        timed[0]
    )
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
    assert "Holes" not in card() and "dropped" not in card()


def test_a_threshold_that_was_not_swept_is_called_a_configuration():
    assert "a parameter of the trial" in card(model=dataclasses.replace(MODEL, choice=MaskChoice(131 / 256)))


def test_an_interval_of_one_group_is_unknown():
    assert interval_text((-float("inf"), float("inf"))) == "unknown" and interval_text(None) == "–"


def pillow(path: Path, image: np.ndarray, mode: str = "RGB", orientation: int = 1, **options: object) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).convert(mode).save(path, exif=exif, **options)


def tiff(
    path: Path, image: np.ndarray, photometric: str = "rgb", orientation: int = 1, **options: object
) -> None:
    tags = [("Orientation", "H", 1, orientation, True)] if orientation != 1 else []
    tifffile.imwrite(path, image, photometric=photometric, extratags=tags, **options)


def opaque(photo: np.ndarray) -> np.ndarray:
    return np.dstack([photo, np.arange(photo.size // 3, dtype=np.uint8).reshape(photo.shape[:2])])


KINDS = {
    "grey.jpg": lambda path, photo: pillow(path, photo, "L"),
    "cmyk.jpg": lambda path, photo: pillow(path, photo, "CMYK"),
    "progressive.jpg": lambda path, photo: pillow(path, photo, progressive=True, quality=50),
    **{
        f"turned {number}.{suffix}": lambda path, photo, number=number: pillow(
            path, photo, orientation=number
        )
        for number in range(1, 9)
        for suffix in ("jpg", "png", "webp")
    },
    **{
        f"{mode}.png": lambda path, photo, mode=mode: pillow(path, photo, mode)
        for mode in ("1", "L", "LA", "P")
    },
    "alpha.png": lambda path, photo: Image.fromarray(opaque(photo)).save(path),
    "alpha.webp": lambda path, photo: Image.fromarray(opaque(photo)).save(path, lossless=True),
    "transparent.png": lambda path, photo: Image.fromarray(photo).convert("P").save(path, transparency=3),
    "frame.bmp": lambda path, photo: Image.fromarray(photo).save(path),
    "deep.png": lambda path, photo: Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(path),
    "rgb.tif": lambda path, photo: tiff(path, photo, compression="zlib"),
    "alpha.TIFF": lambda path, photo: tiff(path, opaque(photo), extrasamples=["unassalpha"]),
    "tagged as grey.tif": lambda path, photo: tiff(path, photo, "minisblack", planarconfig="contig"),
    "planes.tif": lambda path, photo: tiff(path, np.moveaxis(photo, 2, 0), planarconfig="separate"),
    "grey.tif": lambda path, photo: tiff(path, photo[..., 0], "minisblack"),
    "bits.tif": lambda path, photo: tiff(path, photo[..., 0] > 99, "minisblack"),
    "inverted.tif": lambda path, photo: tiff(path, photo[..., 0], "miniswhite"),
    "inverted bits.tif": lambda path, photo: tiff(path, photo[..., 0] > 99, "miniswhite"),
    "turned.tif": lambda path, photo: tiff(path, photo, orientation=6),
    "deep.tif": lambda path, photo: tiff(path, photo.astype(np.uint16) * 257),
    "deep grey.tif": lambda path, photo: tiff(path, photo[..., 0].astype(np.uint16) * 257, "minisblack"),
}


# What Pillow does not read as tifffile does; predict.py needs nothing but Pillow, and must then refuse.
REFUSED = ("deep", "tagged as grey", "planes", "inverted", "bits.tif")


@pytest.mark.parametrize("name", KINDS)
def test_predict_py_reads_every_kind_of_image_as_we_do_or_refuses_it(
    photo: np.ndarray, tmp_path: Path, name: str
):
    KINDS[name](tmp_path / name, photo)
    try:
        image = standalone.read_rgb(tmp_path / name)
    except standalone.UNREADABLE:
        assert name.startswith(REFUSED)
    else:
        np.testing.assert_array_equal(image, read_image(tmp_path / name))


def test_the_card_names_what_predict_py_needs():
    tree = ast.walk(ast.parse(Path(standalone.__file__).read_text(encoding="utf-8")))
    imports = [node for node in tree if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {
        node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports
    }
    needed = {{"PIL": "pillow"}.get(name, name) for name in names if name not in sys.stdlib_module_names}
    (said,) = re.findall(r"`pip install ([^`]*)`", card())
    assert set(said.split()) == needed


def test_an_interval_says_over_how_many_groups_it_is_and_when_these_are_few():
    few = ScoreLine("hold-out test", 40, {"dice": 0.8}, (0.3, 0.95), num_groups=2)
    many = ScoreLine("cross-validation", 400, {"dice": 0.8}, (0.7, 0.9), num_groups=20)
    assert "(2 groups) |" in score_table([few]) and "(20 groups) |" in score_table([many])
    assert "An interval over 2 groups (videos, patients) is hardly informative" in scores([many, few], "")
    assert "hardly informative" not in scores([many], "")
