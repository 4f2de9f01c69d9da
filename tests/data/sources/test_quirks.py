"""What published files do and a loader must survive, one test or more for each; the rest is where it says.

1 TIFFs tagged as grey      test_cases.py: an RGB TIFF that is tagged as grey keeps its colors
2 masks with grey rims      here, and test_cases.py: grey values up to 127 are no polyp
3 JPEG masks                here, and test_cases.py: grey outlines and ringing of JPEG masks
4 mixed mask formats        here
5 names                     here, and test_archives.py: PolypGen, Kvasir-SEG
6 frames without a polyp    test_archives.py: PolypGen; test_cases.py: an empty mask is refused unless allowed
7 many sizes                here
8 one frame twice           here; finding them is the business of leaks
9 video neighbours          test_archives.py: sequences of CVC-ClinicDB and PolypGen
10 EXIF                     here, and test_exif.py
11 borders and overlays     here
12 tiny, huge, many polyps  here
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from packed import FRAME, MASK, write_tree
from PIL import Image

from orchestrator.data.images import read_image, read_mask
from orchestrator.data.importing.dataset import add_dataset


def test_a_grey_rim_does_not_make_the_polyp_larger(tmp_path):
    """Quirk 2: frames 1 to 4 of CVC-ClinicDB would grow by 37 to 44 % if anything above 0 were polyp."""
    rim = np.zeros((100, 100), np.uint8)
    rim[30:71, 30:71] = 90
    rim[31:70, 31:70] = 255
    source = write_tree(
        tmp_path / "s", {"images/1.png": np.zeros((100, 100, 3), np.uint8), "masks/1.png": rim}
    )
    (case,) = add_dataset(tmp_path / "home", "X", source).cases
    assert case.polyp_fraction == 39 * 39 / 10_000
    assert read_mask(case.mask).sum() == 39 * 39


def test_a_jpeg_mask_of_three_channels_is_read_as_if_it_were_exact(tmp_path):
    """Quirk 3: values 0 to 10 and 245 to 255 around an outline that lies on the blocks of the coder or not."""
    exact = np.zeros((96, 128), np.uint8)
    exact[19:70, 33:101] = 255
    Image.fromarray(np.dstack([exact] * 3)).save(tmp_path / "m.jpg", quality=90)
    stored = np.asarray(Image.open(tmp_path / "m.jpg"))
    assert not set(np.unique(stored)) <= {0, 255}
    assert np.array_equal(read_mask(tmp_path / "m.jpg"), exact > 0)


def test_masks_of_one_folder_may_differ_in_format(tmp_path):
    """Quirk 4: JPEG of one and of three channels, PNG of one, three and four, beside a palette and one bit."""
    plain = Image.fromarray(MASK)
    forms = ["L.jpg", "RGB.jpg", "L.png", "RGB.png", "RGBA.png", "P.png", "1.png", "L.bmp", "L.tif"]
    source = write_tree(tmp_path / "s", {f"images/{form.replace('.', '_')}.png": FRAME for form in forms})
    (source / "masks").mkdir()
    for form in forms:
        mode, suffix = form.split(".")
        plain.convert(mode).save(source / f"masks/{mode}_{suffix}.{suffix}", quality=95)
    cases = add_dataset(tmp_path / "home", "X", source).cases
    assert len(cases) == len(forms)
    assert all(np.array_equal(read_mask(case.mask), MASK > 0) for case in cases)


@pytest.mark.parametrize(
    ("frames", "masks"),
    [
        (["1.jpg", "10.jpg", "100.jpg", "2.jpg"], ["1.png", "10.png", "100.png", "2.png"]),
        (["a 2.jpg", "a.b.jpg", "a.jpg"], ["a 2_mask.jpg", "a.b_mask.jpg", "a_mask.jpg"]),
        (["a_mask.JPG", "x.JPEG"], ["a_mask.PNG", "x_mask.Bmp"]),
        (["\u00e9t\u00e9.png"], ["\u00e9t\u00e9.png"]),
    ],
)
def test_names_pair_whatever_they_look_like(tmp_path, frames, masks):
    """Quirk 5."""
    files = {f"images/{name}": FRAME for name in frames} | {f"masks/{name}": MASK for name in masks}
    cases = add_dataset(tmp_path / "home", "X", write_tree(tmp_path / "s", files)).cases
    assert [case.id for case in cases] == sorted(f"X/{Path(name).stem}" for name in frames)


def test_every_frame_keeps_its_own_size(tmp_path):
    """Quirk 7: from 332 x 487 to 1920 x 1080, portrait too."""
    sizes = [(487, 332), (1080, 1920), (64, 64), (640, 360)]
    files = {}
    for number, (height, width) in enumerate(sizes):
        files[f"images/{number}.png"] = np.zeros((height, width, 3), np.uint8)
        files[f"masks/{number}.png"] = np.eye(height, width, dtype=np.uint8) * 255
    cases = add_dataset(tmp_path / "home", "X", write_tree(tmp_path / "s", files)).cases
    assert [(case.height, case.width) for case in cases] == sizes


def test_one_frame_under_two_names_is_two_cases_of_the_same_bytes(tmp_path):
    """Quirk 8."""
    files = {f"images/{name}.png": FRAME for name in "ab"} | {f"masks/{name}.png": MASK for name in "ab"}
    one, two = add_dataset(tmp_path / "home", "X", write_tree(tmp_path / "s", files)).cases
    assert one.sha256 == two.sha256 and one.group != two.group


def test_exif_that_does_not_turn_the_frame_changes_nothing(tmp_path):
    """Quirk 10: maker, model, date, and Orientation 1, which means upright."""
    exif = Image.Exif()
    exif[271], exif[272], exif[306], exif[274] = "OLYMPUS", "CV-190", "2019:01:01 10:00:00", 1
    wide = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    Image.fromarray(wide).save(tmp_path / "with.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "with.png"), wide)


def test_borders_and_overlays_are_kept_as_they_are(tmp_path):
    """Quirk 11: nothing is cropped, filled or taken for a polyp: a dark rim, a green box, burnt-in text."""
    frame = np.full((96, 128, 3), (150, 60, 50), np.uint8)
    frame[:, :20] = frame[:, -20:] = 6
    frame[70:, :30] = (10, 200, 30)
    frame[4:10, 40:90:2] = 255
    path = write_tree(tmp_path, {"frame.png": frame}) / "frame.png"
    assert np.array_equal(read_image(path), frame)


@pytest.mark.parametrize("share", [2 / 9216, 0.003, 0.81])
def test_a_polyp_may_be_two_pixels_or_most_of_the_frame(tmp_path, share):
    """Quirk 12."""
    mask = np.zeros(96 * 96, np.uint8)
    mask[: round(share * mask.size)] = 255
    frame = np.zeros((96, 96, 3), np.uint8)
    files = {"images/1.png": frame, "masks/1.png": mask.reshape(96, 96)}
    files |= {"images/2.png": frame, "masks/2.png": np.eye(96, dtype=np.uint8) * 255}
    case, _ = add_dataset(tmp_path / "home", "X", write_tree(tmp_path / "s", files)).cases
    assert case.polyp_fraction == pytest.approx(share, abs=1 / 9216)


def test_several_polyps_in_one_mask_all_count(tmp_path):
    """Quirk 12: 48 masks of Kvasir-SEG have more than one component."""
    mask = np.zeros((60, 60), np.uint8)
    for corner in (5, 25, 45):
        mask[corner : corner + 4, corner : corner + 4] = 255
    assert read_mask(write_tree(tmp_path, {"m.png": mask}) / "m.png").sum() == 3 * 16
