"""What in a mask is polyp: read where it is plain, refused with counts and the way out where it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile
from packed import zipped
from PIL import Image

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset, load_dataset
from orchestrator.data.images import read_mask
from orchestrator.data.importing.check import check_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.masks.mask_rule import parse_rule

SHAPE = (60, 80)
LEFT, RIGHT = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
LEFT[10:30, 10:30] = True
RIGHT[30:50, 50:69] = True
BOTH = LEFT | RIGHT
GREY = LEFT * np.uint8(255)
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def painted(left: tuple[int, ...], right: tuple[int, ...] = (0, 0, 0)) -> np.ndarray:
    return (LEFT[..., None] * np.array(left, np.uint8)) + (RIGHT[..., None] * np.array(right, np.uint8))


def palette(colors: Mapping[int, tuple[int, ...]]) -> Image.Image:
    """Labels 1 on the left and 2 on the right, shown in colors."""
    image = Image.fromarray(LEFT * np.uint8(1) + RIGHT * np.uint8(2), "P")
    image.putpalette([channel for index in range(3) for channel in colors.get(index, (0, 0, 0))])
    return image


def source(tmp_path: Path, *masks: np.ndarray | Image.Image, suffix: str = ".png") -> Path:
    for kind in ("images", "masks"):
        (tmp_path / "s" / kind).mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(masks):
        Image.new("RGB", SHAPE[::-1], (200, 90, 60)).save(tmp_path / f"s/images/c{number}.png")
        path = tmp_path / f"s/masks/c{number}{suffix}"
        if suffix == ".tif":
            tifffile.imwrite(path, mask)
        else:
            (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(path, quality=75)
    return tmp_path / "s"


def add(tmp_path: Path, *masks: np.ndarray | Image.Image, suffix: str = ".png", **options: object) -> Dataset:
    rule = parse_rule(**options)  # type: ignore[arg-type]
    return add_dataset(tmp_path / "home", "X", source(tmp_path, *masks, suffix=suffix), rule=rule)


def refusal(tmp_path: Path, *masks: np.ndarray | Image.Image, suffix: str = ".png", **options: object) -> str:
    with pytest.raises(BadData) as error:
        add(tmp_path, *masks, suffix=suffix, **options)
    assert not list((tmp_path / "home/datasets").glob("X*"))
    return "\n".join(error.value.problems)


def polyps(dataset: Dataset) -> list[np.ndarray]:
    return [read_mask(case.mask) for case in dataset.cases]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (
            painted(RED, GREEN),
            "have colors: black 84 %, red 8 %, green 8 % of their pixels",
        ),
        (painted(WHITE, RED), "--mask-colors white,red"),
        (painted((128, 0, 0)), "--mask-colors '#800000'"),
        (palette({1: (128, 0, 0), 2: (0, 128, 0)}), "--mask-colors '#800000,#008000'"),
        (LEFT * np.uint8(1), "0 92 %, 1 8 % of their pixels; say which are polyp, as in --mask-values 1"),
        (LEFT * np.uint8(1) + RIGHT * np.uint8(2), "--mask-values 1,2"),
        (LEFT * np.uint8(100) + RIGHT * np.uint8(200), "--mask-values 100,200"),
        (GREY + RIGHT * np.uint8(1), "--mask-values 1 (next to such numbers 255"),
        (palette({}), "0 84 %, 1 8 %, 2 8 % of their pixels; say which are polyp, as in --mask-values 1,2"),
        (np.dstack([painted(WHITE), 255 - GREY]), "have transparent pixels that are not black"),
        (np.dstack([painted(WHITE) * 0 + 77, LEFT * np.uint8(128)]), "0 92 %, 128 8 %"),
        (
            LEFT * np.uint16(255),
            "0 92 %, 255 8 % of their pixels; say which are polyp, as in --mask-values 255",
        ),
    ],
)
def test_what_is_neither_black_nor_white_is_counted_and_refused_with_the_way_out(tmp_path, mask, words):
    assert words in refusal(tmp_path, mask)


def test_labels_that_a_palette_shows_alike_are_not_taken_for_an_empty_mask(tmp_path):
    black = Image.fromarray(GREY, "P")
    black.putpalette([0] * 768)
    assert "0 92 %, 255 8 % of their pixels; say which are polyp, as in --mask-values 255" in refusal(
        tmp_path, black
    )
    assert np.array_equal(polyps(add(tmp_path, black, values=["255"]))[0], LEFT)


@pytest.mark.parametrize(
    ("extra", "size"),
    [(grey, size) for grey in (RED, BLUE, (100, 100, 100), (40, 40, 40)) for size in (3, 1)]
    + [((1, 1, 1), 3)],
)
def test_no_second_polyp_is_too_small_or_too_dim_to_be_named(tmp_path, extra, size):
    mask = painted(WHITE)
    mask[40 : 40 + size, 60 : 60 + size] = extra
    assert "of 2 masks (c1) have" in refusal(tmp_path, painted(WHITE), mask)


def test_a_dim_polyp_that_touches_a_bright_one_is_no_rim(tmp_path):
    mask = GREY.copy()
    mask[10:30, 30:36] = 90
    assert "0 89 %, 255 8 %, 90 2 %" in refusal(tmp_path, mask)


def test_rims_are_read_as_they_always_were_and_counted(tmp_path):
    mask = GREY.copy()
    mask[9, 10:30], mask[30, 10:30] = 90, 160
    dataset = add(tmp_path, mask, GREY)
    assert [polyp.sum() for polyp in polyps(dataset)] == [420, 400]
    assert dataset.cases[0].mask.read_bytes() == (tmp_path / "s/masks/c0.png").read_bytes()
    assert dataset.remarks == (
        "1 mask with grey rims, 0.83 % of their pixels; values above 127 of 255 are polyp",
    )


@pytest.mark.parametrize("quality", [95, 75, 50])
def test_jpeg_masks_of_white_polyps_are_plain(tmp_path, quality):
    for number in range(4):
        path = source(tmp_path, GREY, suffix=".jpg") / "masks/c0.jpg"
        Image.fromarray(np.roll(np.dstack([GREY] * 3), number, axis=(0, 1))).save(path, quality=quality)
        dataset = add_dataset(tmp_path / f"home{number}", "X", tmp_path / "s")
        assert np.array_equal(polyps(dataset)[0], np.roll(LEFT, number, axis=(0, 1)))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_colors_that_are_named_are_polyp_and_what_else_there_is_is_reported(tmp_path, suffix):
    masks = painted(RED, GREEN), painted(BLUE, RED), painted(GREEN)
    dataset = add(tmp_path, *masks, suffix=suffix, colors=["red,green"])
    for found, expected in zip(polyps(dataset), (BOTH, RIGHT, LEFT), strict=True):
        assert (found != expected).mean() < (0.005 if suffix == ".jpg" else 1e-9)
    assert dataset.remarks[0].startswith("masks: polyp is red, green; levels are black 86 %")
    assert "blue 3 %" in dataset.remarks[0]


@pytest.mark.parametrize(
    ("mask", "options", "expected"),
    [
        (painted((128, 0, 0), (224, 224, 192)), {"colors": ["#800000"]}, LEFT),
        (painted((128, 0, 0)), {"colors": ["red"]}, LEFT),
        (painted((0, 128, 0), WHITE), {"colors": ["green", "white"]}, BOTH),
        (LEFT * np.uint8(1) + RIGHT * np.uint8(2), {"values": ["2"]}, RIGHT),
        (LEFT * np.uint8(1) + RIGHT * np.uint8(2), {"values": ["nonzero"]}, BOTH),
        (LEFT * np.uint8(100) + RIGHT * np.uint8(200), {"values": ["1-255"]}, BOTH),
        (LEFT * np.uint16(300) + RIGHT * np.uint16(7), {"values": ["300"]}, LEFT),
        (palette({1: (128, 0, 0), 2: (0, 128, 0)}), {"values": ["1"]}, LEFT),
        (palette({1: (128, 0, 0), 2: (0, 128, 0)}), {"colors": ["008000"]}, RIGHT),
        (255 - GREY, {"invert": True}, LEFT),
        (painted(RED), {"colors": ["black"], "invert": True}, LEFT),
        (np.dstack([painted((255, 255, 255)), 255 - GREY]), {"values": ["1-255"]}, ~LEFT),
    ],
)  # fmt: skip
def test_what_is_polyp_is_what_the_user_says(tmp_path, mask, options, expected):
    dataset = add(tmp_path, mask, **options)
    assert np.array_equal(polyps(dataset)[0], expected)
    assert dataset.remarks and load_dataset(tmp_path / "home", "X") == dataset
    assert check_dataset(dataset) == []


def test_levels_that_jpeg_left_a_little_different_are_named_and_taken_together(tmp_path):
    masks = [LEFT * np.uint8(255) + RIGHT * np.uint8(value) for value in (98, 100, 103)]
    assert "255 8 %, 98 8 % of their pixels" in refusal(tmp_path, *masks, suffix=".jpg")
    found = polyps(add(tmp_path, *masks, suffix=".jpg", values=["100"]))
    assert all((polyp != RIGHT).mean() < 0.03 for polyp in found)


def test_pictures_and_maps_of_probability_are_refused_as_such(tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (*SHAPE, 3), np.uint8)
    probability = np.tile(np.linspace(0, 255, SHAPE[1]).astype(np.uint8), (SHAPE[0], 1))
    assert "3 of 3 masks (c0, c1, c2) seem to be photographs" in refusal(
        tmp_path, picture, picture[..., 0], probability
    )
    assert polyps(add(tmp_path, probability, values=["128-255"]))[0].mean() == 0.5


def test_a_name_that_stands_for_two_colors_of_a_set_is_refused(tmp_path):
    words = "red could be any of #ff0000, #800000; give those that are polyp by number"
    masks = painted(RED), painted(RED, (128, 0, 0))
    assert words in refusal(tmp_path, *masks, colors=["red"])
    assert [polyp.sum() for polyp in polyps(add(tmp_path, *masks, colors=["#ff0000"]))] == [400, 400]


def test_rims_between_colors_or_labels_belong_to_the_nearer_one(tmp_path):
    mask, grey = painted(RED, GREEN), LEFT * np.uint8(100) + RIGHT * np.uint8(255)
    mask[9, 10:30], mask[30, 10:30] = (100, 0, 0), (200, 0, 0)
    grey[9, 10:30], grey[30, 10:30] = 40, 60
    assert polyps(add(tmp_path / "a", mask, colors=["red"]))[0].sum() == 420
    assert polyps(add(tmp_path / "b", grey, values=["100"]))[0].sum() == 420


def test_in_jpeg_masks_labels_are_told_apart_by_nearness(tmp_path):
    mask = LEFT * np.uint8(100) + RIGHT * np.uint8(200)
    for number, (values, expected) in enumerate((("100", LEFT), ("100,200", BOTH), ("nonzero", BOTH))):
        found = polyps(add(tmp_path / str(number), mask, suffix=".jpg", values=[values]))[0]
        assert (found != expected).mean() < 0.03


@pytest.mark.parametrize(
    ("mask", "suffix", "remark"),
    [
        (np.dstack([painted(WHITE) * 0, GREY]), ".png", "1 mask with the polyp in the alpha channel"),
        (
            np.dstack([painted(WHITE) * 0 + 255, GREY]),
            ".png",
            "1 mask with the polyp in the alpha channel",
        ),
        (LEFT * np.uint16(65535), ".png", "1 mask of more than 8 bits; the highest value is polyp"),
        (LEFT * np.uint16(65535), ".tif", "1 mask of more than 8 bits; the highest value is polyp"),
        (LEFT.astype(np.float32), ".tif", "1 mask of more than 8 bits; the highest value is polyp"),
    ],
)
def test_masks_with_one_meaning_are_read_and_how_is_reported(tmp_path, mask, suffix, remark):
    dataset = add(tmp_path, mask, suffix=suffix)
    assert np.array_equal(polyps(dataset)[0], LEFT)
    assert dataset.remarks[0].startswith(remark)


def test_masks_that_cover_most_of_most_frames_are_refused_unless_that_is_meant(tmp_path):
    inverted = [255 - GREY, 255 - GREY, GREY]
    assert "in 2 of 3 masks (c0, c1), as in inverted masks" in refusal(tmp_path, *inverted)
    assert "leave out --invert-masks" in refusal(tmp_path, GREY, GREY, 255 - GREY, invert=True)
    meant = add(tmp_path, *inverted, values=["128-255"])
    assert "polyps cover more than half of the frame in 2 masks: c0, c1" in meant.remarks
    assert [polyp.mean() > 0.5 for polyp in polyps(meant)] == [True, True, False]


def test_words_that_name_nothing_are_refused_all_at_once(tmp_path):
    with pytest.raises(BadData) as error:
        parse_rule(colors=["rd,#12345"], values=["5-1", "x"], classes=["red"], exif="maybe")
    assert [problem.rsplit(" ", 1)[1] for problem in error.value.problems] == [
        "'rd'", "'#12345'", "'5-1'", "'x'", "'red'", "them", "'maybe'",
    ]  # fmt: skip
    assert "no mask has blue; found black 84 %, red 8 %, green 8 %" in refusal(
        tmp_path, painted(RED, GREEN), colors=["red,blue"]
    )
    assert "have colors: black 92 %, red 8 %" in refusal(tmp_path, painted(RED), values=["1"])


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_classes_are_kept_as_a_column_of_the_case(tmp_path, suffix):
    classes = ["neoplastic=red,benign=green"]
    masks = painted(RED), painted(GREEN, RED), painted(GREEN)
    dataset = add(tmp_path, *masks, suffix=suffix, classes=classes)
    names = [case.class_name for case in load_dataset(tmp_path / "home", "X").cases]
    assert names == ["neoplastic", "neoplastic + benign", "benign"]
    assert "polyp is red (neoplastic), green (benign)" in dataset.remarks[0]


def test_the_choice_is_part_of_the_fingerprint_as_far_as_it_changes_pixels(tmp_path):
    colored = add(tmp_path / "a", painted(RED, GREEN), colors=["red,green"])
    labels = add(tmp_path / "b", LEFT * np.uint8(1) + RIGHT * np.uint8(2), values=["1,2"])
    one_class = add(tmp_path / "c", painted(RED, GREEN), colors=["red"])
    assert colored.fingerprint == labels.fingerprint != one_class.fingerprint
    as_found, as_said = add(tmp_path / "d", GREY), add(tmp_path / "e", GREY, values=["128-255"])
    assert as_found.fingerprint == as_said.fingerprint
    assert add(tmp_path / "a", painted(RED, GREEN), colors=["red,green"]) == colored
    with pytest.raises(BadData, match="has other images, masks, groups, centers or classes"):
        add(tmp_path / "a", painted(RED, GREEN), colors=["red"])


def test_a_killed_import_is_not_taken_up_under_another_rule(tmp_path):
    from orchestrator.data.importing.verify import copy_verified
    from orchestrator.data.sources.pairs import Pair

    folder = source(tmp_path, painted(RED, GREEN))
    pair = Pair("c0", folder / "images/c0.png", folder / "masks/c0.png")
    for colors, area in (("red", LEFT), ("red,green", BOTH)):
        facts, _ = copy_verified(
            [pair], tmp_path / "partial", allow_empty=False, rule=parse_rule(colors=[colors])
        )
        assert facts["c0"].polyp_fraction == area.mean()


def test_the_few_masks_that_are_unlike_the_others_can_be_skipped_and_most_cannot(tmp_path):
    from orchestrator.data.sources.sets import SourceOptions

    folder = source(tmp_path, GREY, GREY, GREY, painted(WHITE, RED))
    for _ in range(2):  # the second time as it is
        dataset = add_dataset(tmp_path / "home", "X", folder, reading=SourceOptions(skip_bad=True))
        assert [case.id for case in dataset.cases] == ["X/c0", "X/c1", "X/c2"]
    assert [str(bad) for bad in dataset.skipped] == [
        "c3: mask is not black and white, but has black 84 %, white 8 %, red 8 %"
    ]
    with pytest.raises(BadData, match="2 of 3 masks"):
        mixed = source(tmp_path / "most", GREY, painted(RED), painted(RED))
        add_dataset(tmp_path / "home", "Y", mixed, reading=SourceOptions(skip_bad=True))


def test_wide_dark_rims_are_read_as_they_always_were_and_counted(tmp_path):
    """As in frames 1 to 4 of CVC-ClinicDB."""
    mask = GREY.copy()
    mask[10:30, 30:45] = 11
    dataset = add(tmp_path, mask)
    assert np.array_equal(polyps(dataset)[0], LEFT)
    assert dataset.remarks[0].startswith("1 mask with even areas of dark grey, 5 % of their pixels")


def test_masks_in_an_archive_are_read_by_the_same_rule(tmp_path):
    folder = source(tmp_path, painted(RED, GREEN), painted(GREEN))
    packed = zipped(folder, tmp_path / "s.zip")
    rule = parse_rule(colors=["red,green"])
    from_zip = add_dataset(tmp_path / "a", "X", packed, rule=rule)
    assert [polyp.sum() for polyp in polyps(from_zip)] == [780, 400]
    assert from_zip.fingerprint == add_dataset(tmp_path / "b", "X", folder, rule=rule).fingerprint


def test_a_dataset_of_an_earlier_version_reads_as_it_did(tmp_path):
    dataset = add(tmp_path, GREY)
    manifest = dataset.folder / "dataset.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({key: content[key] for key in content.keys() - {"remarks", "skipped"}}))
    assert load_dataset(tmp_path / "home", "X") == dataset


def test_a_border_around_most_masks_is_refused_unless_it_is_meant_and_around_one_is_named(tmp_path):
    framed = GREY.copy()
    framed[[0, 1, -1], :] = framed[:, [0, -1, -2]] = 255
    assert "the whole edge of the frame is polyp in 2 of 3 masks (c0, c1)" in refusal(
        tmp_path, framed, framed, GREY
    )
    (one,) = add(tmp_path / "one", framed, GREY, GREY).remarks
    assert one == "the whole edge of the frame is polyp in 1 mask: c0; check for a border"


def test_a_label_255_beside_small_ones_is_not_suggested_as_polyp(tmp_path):
    labels = LEFT * np.uint8(1)
    labels[:4] = 255
    assert "--mask-values 1 (next to such numbers 255 often marks" in refusal(tmp_path, labels)


def test_masks_of_numbers_that_are_none_are_refused(tmp_path):
    values = np.where(LEFT, np.float32(1), np.float32("nan"))
    assert "holds values that are not finite" in refusal(tmp_path, values, suffix=".tif")


@pytest.mark.parametrize("classes", ["a=255,b=255", "a=1-9,b=5", "a=nonzero,b=1", "a=red,b=red"])
def test_one_pixel_is_of_one_class(classes):
    with pytest.raises(BadData, match="are the same pixels"):
        parse_rule(classes=[classes])
    assert len(parse_rule(classes=["a=1,a=2,b=3-4,c=-1"]).wanted) == 4


@pytest.mark.parametrize("values", ["0.3", "0.2-0.4", "nonzero", "-1"])
def test_values_of_masks_of_floats_and_negative_labels_are_named_as_they_are_suggested(tmp_path, values):
    mask = LEFT * (np.int32(-1) if values == "-1" else np.float32(0.3))
    assert values not in ("0.3", "-1") or f"--mask-values {values}" in refusal(tmp_path, mask, suffix=".tif")
    (polyp,) = polyps(add(tmp_path, mask, suffix=".tif", values=[values]))
    assert np.array_equal(polyp, LEFT > 0)
