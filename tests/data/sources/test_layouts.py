"""Published archives beside those of test_archives.py, rebuilt small, through the command line."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from packed import FRAME, MASK, write_tree
from tree import add, groups, pairs, refused

from orchestrator.data.sources.layouts import LAYOUTS
from orchestrator.data.sources.pairs import Pair
from orchestrator.data.sources.sequences import (
    colon_sequences,
    piccolo_patients,
    whole_clinic_sequences,
    whole_sequences,
)

SUN = {
    f"{top}/{kind}/{clip}/image_0{n}.{'jpg' if kind == 'Frame' else 'png'}": FRAME
    if kind == "Frame"
    else MASK
    for top, clips in (
        ("TrainDataset", ("case1_1", "case1_3", "case2_1")),
        ("TestEasyDataset/Seen", ("case1_2",)),
        ("TestHardDataset/Unseen", ("case9_1",)),
    )
    for clip in clips
    for kind in ("Frame", "GT", "Edge", "Scribble", "Polygon")
    for n in (1, 2)
} | {
    "TrainDataset/Classification/classification.txt": b"case1_1 0",
    "TrainDataset/Detection/bbox.json": b"{}",
}


@pytest.mark.parametrize("archive", [False, True])
def test_clips_of_one_case_of_sun_seg_are_one_group_and_other_annotations_are_named(tmp_path, archive):
    dataset, said = add(tmp_path, SUN, "--part", "TrainDataset", archive=archive)
    assert set(groups(dataset).values()) == {"case1", "case2"} and len(dataset.cases) == 6
    assert dataset.groups_known
    assert "Edge/ (10 images): outlines" in said and "Scribble/ (10 images): scribbles" in said


def test_parts_of_sun_seg_are_picked_by_their_first_or_last_word(tmp_path):
    said = refused(tmp_path, SUN)
    assert "'TestEasyDataset/Seen' (SUN-SEG, 2 frames)" in said
    dataset, _ = add(tmp_path, SUN, "--part", "TestEasyDataset", "--part", "Unseen")
    assert set(groups(dataset).values()) == {"case1", "case9"}


def test_sun_seg_may_be_one_part_alone(tmp_path):
    files = {
        name.removeprefix("TrainDataset/"): x for name, x in SUN.items() if name.startswith("TrainDataset")
    }
    dataset, said = add(tmp_path, files)
    assert "recognised as SUN-SEG" in said and set(groups(dataset).values()) == {"case1", "case2"}


def test_bkai_is_recognised_and_its_images_without_masks_are_named(tmp_path):
    files = pairs(["train/train/0a.jpeg", "test/test/0c.jpeg"], ["train_gt/train_gt/0a.jpeg"])
    dataset, said = add(tmp_path, files | {"sample_submission.csv": b"Id,Expected"})
    assert list(groups(dataset)) == ["0a"]
    assert "recognised as BKAI-IGH NeoPolyp" in said and "not read: test/test/ (1 image)" in said


POLYPDB = pairs(
    [
        f"PolypDB/PolypDB_center_wise/{c}/{m}/images/{c}_{m}_0.jpg"
        for c in ("BKAI", "Simula")
        for m in ("NBI", "WLI")
    ]
    + [
        f"PolypDB/PolypDB_modality_wise/{m}/images/{c}_{m}_0.jpg"
        for c in ("BKAI", "Simula")
        for m in ("NBI", "WLI")
    ],
    [
        f"PolypDB/PolypDB_center_wise/{c}/{m}/masks/{c}_{m}_0.jpg"
        for c in ("BKAI", "Simula")
        for m in ("NBI", "WLI")
    ]
    + [
        f"PolypDB/PolypDB_modality_wise/{m}/masks/{c}_{m}_0.jpg"
        for c in ("BKAI", "Simula")
        for m in ("NBI", "WLI")
    ],
)


def test_a_tree_of_polypdb_is_picked_by_its_name_and_knows_its_centers(tmp_path):
    dataset, _ = add(tmp_path, POLYPDB, "--part", "PolypDB_center_wise")
    assert [case.center for case in dataset.cases] == ["BKAI", "BKAI", "Simula", "Simula"]
    assert [case.id for case in dataset.cases] == [
        f"X/{c}_{m}_0" for c in ("BKAI", "Simula") for m in ("NBI", "WLI")
    ]


def test_the_two_orders_of_polypdb_are_not_joined(tmp_path):
    said = refused(tmp_path, POLYPDB, "--part", "WLI")
    assert "holds the same images in 2 orders" in said and "PolypDB_modality_wise/WLI" in said
    dataset, _ = add(tmp_path, POLYPDB, "--part", "PolypDB_center_wise/*/WLI")
    assert list(groups(dataset)) == ["BKAI_WLI_0", "Simula_WLI_0"]


@pytest.mark.parametrize("tree", ["{c}/", "{c}/WLI/"])
def test_polypdb_as_its_readme_names_the_folders(tmp_path, tree):
    names = [tree.format(c=center) for center in ("Karolinska", "Simula")]
    files = pairs([f"{name}images/1.jpg" for name in names], [f"{name}annotations/1.png" for name in names])
    dataset, _ = add(tmp_path, files | {f"{names[0]}bounding_boxes/1.txt": b""}, "--part", "*")
    assert [case.center for case in dataset.cases] == ["Karolinska", "Simula"]


@pytest.mark.parametrize("top", ["", "train/", "piccolo dataset-release0.1/train/train/"])
def test_piccolo_groups_its_frames_by_patient(tmp_path, top):
    names = ("001_VP1_frame0000", "001_VP2_frame0010", "014_VP1_frame0000")
    files = pairs([f"{top}polyps/{n}.png" for n in names], [f"{top}masks/{n}_Corrected.tif" for n in names])
    files |= {f"{top}void/{name}_Void.tif": MASK for name in names}
    dataset, said = add(tmp_path, files)
    assert groups(dataset) == dict(zip(names, ("001", "001", "014"), strict=True))
    assert "recognised as PICCOLO" in said and "void/ (3 images)" in said


def test_an_image_of_piccolo_without_a_mask_is_skipped_by_choice(tmp_path):
    files = pairs(
        ["polyps/001_VP1_frame0000.png", "polyps/001_VP1_frame0001.png"],
        ["masks/001_VP1_frame0000_Corrected.tif"],
    )
    assert "polyps/001_VP1_frame0001.png: no mask has this stem" in refused(tmp_path, files)
    dataset, said = add(tmp_path, files, "--skip-bad")
    assert len(dataset.cases) == 1 and "skipped 1 of 2 cases (50.0%)" in said


def test_nnunet_raw_is_paired_by_the_name_of_the_case(tmp_path):
    files = pairs(["imagesTr/kvasir_001_0000.png", "imagesTs/kvasir_2_0000.png"], ["labelsTr/kvasir_001.png"])
    dataset, said = add(tmp_path, files | {"dataset.json": b"{}"})
    assert list(groups(dataset)) == ["kvasir_001"] and "recognised as nnU-Net raw" in said
    assert "not read: imagesTs/ (1 image)" in said


def test_mmsegmentation_is_joined_from_its_parts(tmp_path):
    files = pairs(
        ["data/img_dir/train/1.jpg", "data/img_dir/val/2.jpg"],
        ["data/ann_dir/train/1.png", "data/ann_dir/val/2.png"],
    )
    assert "'train' (mmsegmentation, 1 frame), 'val' (mmsegmentation, 1 frame)" in refused(tmp_path, files)
    assert list(groups(add(tmp_path, files, "--part", "train", "--part", "val")[0])) == ["1", "2"]


@pytest.mark.parametrize("top", ["CVC-EndoSceneStill/CVC-612/", "CVC-612/", ""])
def test_endoscene_is_recognised_at_every_depth(tmp_path, top):
    dataset, said = add(tmp_path, pairs([f"{top}bbdd/1.bmp"], [f"{top}gtpolyp/1.tif", f"{top}gtlumen/1.tif"]))
    assert "recognised as EndoScene" in said and f"not read: {top}gtlumen/ (1 image)" in said
    assert groups(dataset) == {"1": "image:1"}  # one frame of 612 says nothing about its video


def test_sequences_of_endoscene_are_those_of_clinic_where_all_its_frames_are_there():
    endoscene = [layout for layout in LAYOUTS if layout.title == "EndoScene"]
    assert [layout.members for layout in endoscene] == [whole_clinic_sequences] * 2


def test_masks_of_bkai_are_read_by_their_colors(tmp_path):
    red = np.stack([MASK, MASK * 0, MASK * 0], 2)
    files = {"train/train/a.jpeg": FRAME, "train_gt/train_gt/a.png": red}
    assert add(tmp_path, files, "--mask-colors", "red")[0].cases[0].polyp_fraction == (MASK > 0).mean()


def test_labels_of_nnunet_are_read_by_their_value(tmp_path):
    files = {"imagesTr/a_0000.png": FRAME, "labelsTr/a.png": MASK // 255}
    assert add(tmp_path, files, "--mask-values", "1")[0].cases[0].polyp_fraction > 0


def test_hyperkvasir_has_its_segmented_images_found_among_the_others(tmp_path):
    name = "cju0qkwl35piu0993l0dewei2"
    files = pairs(
        [
            f"segmented-images/images/{name}.jpg",
            "unlabeled-images/images/1.jpg",
            "labeled-images/polyps/a.jpg",
        ],
        [f"segmented-images/masks/{name}.jpg"],
    )
    dataset, said = add(tmp_path, files | {"segmented-images/bounding-boxes.json": b"{}"})
    assert list(groups(dataset)) == [name] and "recognised as Kvasir-SEG" in said
    assert "unlabeled-images/images/ (1 image)" in said


# CVC-ColonDB


@cache
def colon_frame() -> bytes:
    import cv2

    return cv2.imencode(".png", np.full((500, 574, 3), 90, np.uint8))[1].tobytes()


def colon_pairs(folder: Path, frames: range, content: bytes) -> list[Pair]:
    folder.mkdir(exist_ok=True)
    (folder / "frame.png").write_bytes(content)
    return [Pair(str(frame), folder / "frame.png", folder / "frame.png") for frame in frames]


def test_the_15_sequences_of_colondb_are_those_of_its_readme(tmp_path):
    found = colon_sequences(colon_pairs(tmp_path, range(1, 381), colon_frame()))
    last = {1: 38, 2: 60, 3: 76, 5: 97, 6: 148, 7: 155, 9: 203, 10: 208, 11: 263, 14: 273, 15: 300, 4: 320}
    last |= {8: 340, 12: 360, 13: 380}
    runs = [found[str(frame)].group for frame in range(1, 381)]
    assert {int(group): len(runs) - runs[::-1].index(group) for group in dict.fromkeys(runs)} == last
    assert sum(one != two for one, two in pairwise(runs)) == 14


def test_sequences_of_colondb_need_its_numbers_and_its_size(tmp_path):
    assert colon_sequences(colon_pairs(tmp_path, range(1, 382), colon_frame())) == {}
    assert (
        colon_sequences(
            colon_pairs(
                tmp_path / "small",
                range(1, 381),
                (write_tree(tmp_path, {"a.png": FRAME}) / "a.png").read_bytes(),
            )
        )
        == {}
    )
    assert len(whole_sequences(colon_pairs(tmp_path, range(1, 381), colon_frame()))) == 380
    assert whole_sequences(colon_pairs(tmp_path, range(1, 380), colon_frame())) == {}


@pytest.mark.parametrize(
    "names",
    [
        "CVC-ColonDB/{n}.png CVC-ColonDB/p{n}.png",
        "TestDataset/CVC-ColonDB/images/{n}.png TestDataset/CVC-ColonDB/masks/{n}.png",
    ],
)
def test_frames_of_colondb_get_their_published_sequences(tmp_path, names):
    image, mask = names.split()
    drawn = np.zeros((500, 574), np.uint8)
    drawn[100:200, 100:200] = 255
    files = {image.format(n=n): colon_frame() for n in (38, 39, 300, 301)}
    files |= {mask.format(n=n): drawn for n in (38, 39, 300, 301)}
    dataset, _ = add(tmp_path, files)
    assert groups(dataset) == {"38": "1", "39": "2", "300": "15", "301": "4"} and dataset.groups_known


def test_frames_named_otherwise_are_no_patients_of_piccolo(tmp_path):
    assert piccolo_patients([Pair("frame_1", tmp_path, tmp_path)]) == {}
