"""Image and mask lie on each other whatever their Orientation tags say, or the pair is refused with the remedy."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset
from orchestrator.data.images import image_size, read_image, read_mask, turned
from orchestrator.data.importing.check import check_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.masks.mask_rule import parse_rule

BACK = {6: 8, 8: 6}  # the other orientations undo themselves
SCENE = np.zeros((24, 32), np.uint8)  # upright; no turn and no mirror image of it is the same
SCENE[4:10, 4:18] = SCENE[10:20, 4:8] = 255


def tag(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def lay(scene: np.ndarray, orientation: int) -> np.ndarray:
    """What a file with that tag stores of an upright scene."""
    return np.ascontiguousarray(turned(scene, BACK.get(orientation, orientation)))


def put(path: Path, pixels: np.ndarray, orientation: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack", extratags=[(274, "H", 1, orientation, True)])
    else:
        options = {"lossless": True} if path.suffix == ".webp" else {"quality": 95}
        Image.fromarray(pixels).save(path, exif=tag(orientation), **options)


def imported(tmp_path: Path, *pairs: tuple[np.ndarray, int, np.ndarray, int], exif: str = "") -> Dataset:
    for number, (image, by_image, mask, by_mask) in enumerate(pairs):
        put(tmp_path / f"s/images/{number:02}.png", image, by_image)
        put(tmp_path / f"s/masks/{number:02}.png", mask, by_mask)
    return add_dataset(tmp_path / "home", "X", tmp_path / "s", rule=parse_rule(exif=exif))


def together(dataset: Dataset) -> list[bool]:
    """Whether image and mask show the same scene, case by case."""
    return [
        np.array_equal(read_image(case.image)[..., 0] > 127, read_mask(case.mask)) for case in dataset.cases
    ]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_all_eight_orientations_are_turned_upright_in_images_and_masks_alike(tmp_path, suffix):
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}{suffix}"
        put(path, lay(SCENE, orientation), orientation)
        assert np.array_equal(read_image(path)[..., 0] > 127, SCENE > 127)
        assert np.array_equal(read_mask(path), SCENE > 127)
        assert image_size(path) == SCENE.shape


def test_a_turn_is_the_one_that_pillow_makes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    for orientation in range(1, 9):
        put(tmp_path / "x.png", pixels, orientation)
        with Image.open(tmp_path / "x.png") as image:
            assert np.array_equal(turned(pixels, orientation), ImageOps.exif_transpose(image))


@pytest.mark.parametrize("exif", ["apply", "ignore"])
def test_all_pairs_of_tags_are_read_as_the_user_says(tmp_path, exif):
    """Masks were drawn on the frame as viewers show it (apply), or on the stored pixels (ignore)."""
    pairs = [
        (lay(SCENE, image), image, lay(SCENE, mask if exif == "apply" else image), mask)
        for image, mask in product(range(1, 9), repeat=2)
    ]
    dataset = imported(tmp_path, *pairs, exif=exif)
    assert all(together(dataset)) and len(dataset.cases) == 64
    assert {(case.height, case.width) for case in dataset.cases} == {SCENE.shape}
    assert check_dataset(dataset) == []
    assert any(f"(--exif {exif})" in remark for remark in dataset.remarks)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("drawn", ["apply", "ignore"])
def test_without_a_word_a_pair_is_read_rightly_or_refused(tmp_path, drawn, square):
    scene = SCENE[:, :24] if square else SCENE
    for number, (image, mask) in enumerate(product(range(1, 9), repeat=2)):
        pair = (lay(scene, image), image, lay(scene, mask if drawn == "apply" else image), mask)
        try:
            dataset = imported(tmp_path / str(number), pair)
        except BadData as error:
            assert image != mask and "--exif ignore" in str(error) and "--exif apply" in str(error)
            assert square or (image > 4) == (mask > 4)
        else:
            assert all(together(dataset))
            assert not square or image == mask


def test_what_sizes_tell_is_counted_with_the_reason(tmp_path):
    stored, own = (lay(SCENE, 6), 6, lay(SCENE, 6), 1), (lay(SCENE, 8), 8, SCENE, 1)
    dataset = imported(tmp_path, stored, own, own)
    assert all(together(dataset))
    assert dataset.remarks == (
        "EXIF, 2 pairs: each image and mask is rotated by its own Orientation, since only this fits their sizes",
        "EXIF, 1 pair: each mask was drawn on the stored pixels, since only this fits their sizes, "
        "and is rotated like its image",
    )


def test_a_refusal_says_what_the_other_pairs_tell(tmp_path):
    with pytest.raises(BadData, match=r"differs in 1 pair,.*01 .image 3, mask 1.*drawn: 1 on stored pixels"):
        imported(tmp_path, (lay(SCENE, 6), 6, lay(SCENE, 6), 1), (lay(SCENE, 3), 3, SCENE, 1))


def test_a_pair_that_no_turn_fits_is_refused_by_name_of_the_tags(tmp_path):
    with pytest.raises(BadData, match=r"image is 24 x 32 .EXIF Orientation 6., mask is 32 x 24 .EXIF"):
        imported(tmp_path, (SCENE, 6, lay(SCENE, 6), 6))


def test_a_mask_without_a_polyp_lies_on_any_frame(tmp_path):
    put(tmp_path / "s/images/1.png", SCENE, 3)
    put(tmp_path / "s/masks/1.png", SCENE * 0, 1)
    assert add_dataset(tmp_path / "home", "X", tmp_path / "s", allow_empty=True).cases[0].polyp_fraction == 0
