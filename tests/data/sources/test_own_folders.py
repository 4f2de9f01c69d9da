"""Folders of one's own through the command line: what is recognised, what is asked for, and what is said."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packed import EMPTY, FRAME, MASK, Content, write_tree, zipped
from PIL import Image
from tree import add, groups, pairs, refused

from orchestrator.common.errors import BadData
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.sources.own_folders import EVIDENT
from orchestrator.data.sources.sets import SourceOptions

PATIENTS = ("patient0", "patient1")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"


def two(images: str, masks: str, names: tuple[str, ...] = ("1", "2")) -> dict[str, Content]:
    """Two pairs; `images` and `masks` are paths with {n}."""
    return pairs([images.format(n=n) for n in names], [masks.format(n=n) for n in names])


def stems(tmp_path: Path, files: dict[str, Content], *options: str) -> list[str]:
    return list(groups(add(tmp_path, files, *options)[0]))


@pytest.mark.parametrize(
    "folders",
    [
        *("images masks", "image mask", "imgs gts", "img gt", "frames GroundTruth", "Frame Ground_Truth"),
        *(
            "polyps annotations",
            "originals annotation",
            "Original segmentations",
            "INPUT Labels",
            "images label",
        ),
        *(
            "train/train train_gt/train_gt",
            "data/train_images data/train_masks",
            "JPEGImages SegmentationClass",
        ),
        *("images/train masks/train", "a/imagesTr a/labelsTr", "images masks/0"),
    ],
)
def test_folders_with_the_usual_names_are_found(tmp_path, folders):
    images, masks = folders.split()
    assert stems(tmp_path, two(f"{images}/{{n}}.jpg", f"{masks}/{{n}}.png")) == ["1", "2"]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        *[("{n}", name) for name in ("{n}_mask", "{n}_seg", "{n}_gt", "{n}-mask", "{n}_Mask", "{n} (mask)")],
        *[("{n}", name) for name in ("{n}_segmentation", "{n}_label", "{n}_groundtruth", "{n}_ground_truth")],
        *[
            ("{n}", name)
            for name in ("{n}.jpg", "{n}.JPG", "mask_{n}", "GT{n}", "{n}_annotation", "{n}_mask.jpg")
        ],
        *[("image_{n}", "mask_{n}"), ("img_000{n}", "img_{n}"), ("frame_00{n}", "{n}"), ("A b{n}", "a_b{n}")],
        *[("x{n}", "y{n}"), ("a{n}_orig", "a{n}_gt"), ("1_{n}_image", "1_{n}_mask")],
    ],
)
def test_masks_with_the_usual_names_find_their_images_and_it_is_said_how(tmp_path, image, mask):
    dataset, said = add(tmp_path, two(f"images/{image}.jpg", f"masks/{mask}.png"))
    assert list(groups(dataset)) == [image.format(n=n) for n in "12"]
    assert f"2 pairs by name: image and mask as {image.format(n=1)}.jpg and {mask.format(n=1)}.png" in said
    assert dataset.remarks[0] in said


def test_images_and_masks_may_share_a_folder(tmp_path):
    assert stems(tmp_path, two("{n}.jpg", "{n}_mask.png")) == ["1", "2"]


def test_images_and_masks_of_a_folder_may_differ_in_their_suffix_alone_if_it_is_said(tmp_path):
    drawn = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    files = {f"{n}.{suffix}": x for n in "12" for suffix, x in (("jpg", drawn), ("png", MASK))}
    said = refused(tmp_path, files)
    assert "--images '.' --masks '.' --pattern '{name}.png'" in said
    assert stems(tmp_path, files, "--images", ".", "--masks", ".", "--pattern", "{name}.png") == ["1", "2"]


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(("images", "masks"), [("hd", "truth"), ("set/hd", "set/truth/")])
def test_the_user_names_the_folders_and_how_masks_are_named(tmp_path, images, masks, archive):
    files = two("set/hd/{n}.jpg", "set/truth/{n}_m.png") | {"set/other/1.jpg": FRAME}
    options = ("--images", images, "--masks", masks, "--pattern", "{name}_m")
    assert list(groups(add(tmp_path, files, *options, archive=archive)[0])) == ["1", "2"]


def test_folders_may_be_named_by_absolute_paths(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for n in "12":
        (tmp_path / f"elsewhere/{n}.png").write_bytes(b"")
    files = two("hd/{n}.jpg", "truth/{n}.png")
    paths = [str(tmp_path / "source" / name) for name in ("hd", "truth")]
    assert stems(tmp_path, files, "--images", paths[0], "--masks", paths[1]) == ["1", "2"]
    said = refused(tmp_path / "b", files, "--images", paths[0], "--masks", str(tmp_path / "elsewhere"))
    assert "does not decode: it is empty" in said


@pytest.mark.parametrize(
    ("pattern", "mask"), [("m_{number}", "m_007"), ("{name}_x", "IMG_7_x"), ("{name}.bmp", "img_7")]
)
def test_a_pattern_may_name_the_number_or_the_suffix(tmp_path, pattern, mask):
    suffix = "bmp" if pattern.endswith("bmp") else "png"
    files = {"images/img_7.jpg": FRAME, f"masks/{mask}.{suffix}": MASK}
    assert stems(tmp_path, files, "--pattern", pattern) == ["img_7"]


@pytest.mark.parametrize("pattern", ["mask", "{nam}_m", "{name", "{}_m"])
def test_a_pattern_that_names_no_mask_is_refused(tmp_path, pattern):
    assert "expected the name of a mask with {name}" in refused(
        tmp_path, two("a/{n}.jpg", "b/{n}.png"), "--pattern", pattern
    )


def test_a_folder_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    said = refused(tmp_path, two("hd/{n}.jpg", "truth/{n}.png"), "--images", "hdd")
    assert (
        "--images hdd: expected a folder of the source" in said
        and "hd/ (2 images), truth/ (2 images)" in said
    )


# Two readings


def test_two_masks_for_each_image_are_refused_with_both_commands(tmp_path):
    files = two("images/{n}.jpg", "masks/{n}_mask.png") | two("images/{n}.jpg", "masks/{n}_seg.png")
    said = refused(tmp_path, files)
    assert "--pattern '{name}_mask'" in said and "--pattern '{name}_seg'" in said
    assert len(stems(tmp_path, {**files}, "--pattern", "{name}_seg", "--skip-bad")) == 2


def test_two_folders_of_masks_are_refused_with_both_commands(tmp_path):
    said = refused(tmp_path, two("images/{n}.jpg", "masks/{n}.png") | two("images/{n}.jpg", "gt/{n}.png"))
    assert "--images 'images' --masks 'gt'" in said and "--images 'images' --masks 'masks'" in said


def test_two_folders_of_images_are_refused_with_both_commands(tmp_path):
    said = refused(
        tmp_path, two("images/{n}.jpg", "masks/{n}.png") | two("original/{n}.jpg", "masks/{n}.png")
    )
    assert "--images 'images' --masks 'masks'" in said and "--images 'original' --masks 'masks'" in said


def test_one_mask_is_not_taken_for_two_images(tmp_path):
    files = {"images/a/1.jpg": FRAME, "images/b/1.jpg": FRAME, "masks/1.png": MASK}
    assert "masks/1.png matches 2 images by name" in refused(tmp_path, files)


def test_a_text_that_is_named_as_a_mask_makes_no_pair(tmp_path):
    assert "lacks a folder of masks" in refused(tmp_path, {"1.jpg": FRAME, "1_mask.txt": b"hello"})


def test_parts_that_clash_in_name_are_told_apart_by_their_path_and_do_not_race_for_one_file(tmp_path):
    files = {
        f"{top}/BKAI/WLI/{x}/1.png": y
        for top in ("one", "two")
        for x, y in (("images", FRAME), ("masks", MASK))
    }
    assert stems(tmp_path, files, "--part", "*") == ["one_BKAI_WLI_1", "two_BKAI_WLI_1"]


# Refusals


def test_a_refusal_shows_what_is_there_and_a_command_that_works(tmp_path):
    draw_dataset(tmp_path / "drawn", num_cases=4, size=64)
    files = {f"hd/{path.name}": path.read_bytes() for path in (tmp_path / "drawn/images").iterdir()}
    files |= {f"truth/x{path.name}": path.read_bytes() for path in (tmp_path / "drawn/masks").iterdir()}
    said = refused(tmp_path, {**files, "notes.txt": b"hello"})
    assert len(said.splitlines()) == 4 and max(map(len, said.splitlines())) < 300
    assert "but hd/ (4 images), truth/ (4 images); other files: 1 .txt" in said
    assert (
        f"orchestrator data add X {tmp_path / 'source'} --images 'hd' --masks 'truth' --pattern 'x{{name}}'"
        in said
    )
    assert (
        len(
            stems(
                tmp_path, files, "--images", "hd", "--masks", "truth", "--pattern", "x{name}", "--allow-empty"
            )
        )
        == 4
    )


def test_names_that_do_not_go_together_are_said_once_with_a_pattern_that_would(tmp_path):
    said = refused(tmp_path, two("images/k{n}.jpg", "masks/roi_k{n}_v2.png"))
    assert said.count("images/") == 1 and "--pattern 'roi_{name}_v2'" in said


def test_the_nearest_published_set_is_named_with_what_it_lacks(tmp_path):
    said = refused(tmp_path, {"CVC-300/bbdd/1.bmp": FRAME})
    assert "nearest: EndoScene" in said and "next to CVC-300/bbdd/ it lacks the folder of masks" in said


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "train/_annotations.coco.json",
            b'{"images": [], "annotations": [{"bbox": []}]}',
            "COCO annotations (only boxes",
        ),
        (
            "coco.json",
            b'{"images": [], "annotations": [{"segmentation": [[1, 2]]}]}',
            "annToMask of pycocotools",
        ),
        ("images/1.json", b'{"shapes": [], "imagePath": "1.jpg"}', "LabelMe annotations; make masks"),
        ("Annotations/1.xml", b"<annotation><bndbox></bndbox></annotation>", "Pascal VOC boxes"),
        ("labels/1.txt", b"0 0.5 0.5 0.25 0.25\n", "(YOLO)"),
        ("Annotations/1/1.txt", b"1\n34 56 78 90\n", "(LDPolypVideo has only boxes)"),
        ("scan.mp4", b"", "lacks a folder of masks"),
    ],
)
def test_annotations_that_are_no_masks_are_called_what_they_are(tmp_path, name, content, words):
    assert words in refused(tmp_path, {"images/1.jpg": FRAME, name: content})


def test_pointers_of_git_lfs_are_called_so_and_not_one_by_one(tmp_path):
    files: dict[str, Content] = {f"images/{n}.jpg": LFS for n in range(12)} | {
        f"masks/{n}.png": LFS for n in range(12)
    }
    said = refused(tmp_path, files)
    assert "and 21 more: does not decode: it is a Git LFS pointer" in said and "git lfs pull" in said
    assert len(said.splitlines()) == 3 and "the file'" not in said


# One folder for each patient


@pytest.mark.parametrize(
    "tree", ["images/{p} masks/{p}", "{p}/images {p}/masks", "set/{p}/frames set/{p}/gt", "{p} {p}"]
)
def test_a_folder_for_each_patient_is_a_group(tmp_path, tree):
    images, masks = tree.split()
    suffix = "_mask" if images == masks else ""
    files: dict[str, Content] = {}
    for p in PATIENTS:
        files |= two(f"{images.format(p=p)}/{{n}}.jpg", f"{masks.format(p=p)}/{{n}}{suffix}.png")
    dataset, said = add(tmp_path, files)
    assert groups(dataset) == {f"{p}_{n}": p for p in PATIENTS for n in "12"}
    assert dataset.groups_known and "2 groups from folder names: patient0, patient1" in said


def test_a_problem_says_whose_folder_its_file_is_in(tmp_path):
    files = {
        f"p{p}/{kind}/{n}.png": content
        for p in "12"
        for kind, content in (("frames", FRAME), ("gt", MASK))
        for n in "ab"
    }
    del files["p2/gt/b.png"]
    message = refused(tmp_path, files)
    assert "p2/frames/b.png: no mask has this stem" in message and "p1/frames" not in message


@pytest.mark.parametrize(
    ("name", "evident"),
    [
        *[
            (name, True)
            for name in ("Patient_A3", "p1", "case 7", "video012", "seq2_neg", "sub-01", "exam_2021-03-04")
        ],
        *[
            (name, False)
            for name in ("part1", "png2", "fold1", "batch_2", "anna", "C1", "12", "polypset3", "v2")
        ],
    ],
)
def test_names_of_folders_are_groups_only_where_they_say_so(name, evident):
    assert bool(EVIDENT.fullmatch(name)) == evident


def test_centers_are_known_from_folders_that_say_so(tmp_path):
    files = {
        f"{c}/{x}/{c}.png": y for c in ("center1", "center2") for x, y in (("images", FRAME), ("masks", MASK))
    }
    dataset, said = add(tmp_path, files)
    assert [case.center for case in dataset.cases] == [
        "center1",
        "center2",
    ] and "2 centers from folder names" in said


def test_class_folders_below_masks_hold_masks(tmp_path):
    assert stems(tmp_path, two("images/polyps/{n}.jpg", "masks/polyps/{n}.png")) == ["1", "2"]


def test_folders_of_other_names_are_groups_by_choice(tmp_path):
    files = {
        f"{x}/{p}/{n}.png": y for p in "ab" for n in "12" for x, y in (("images", FRAME), ("masks", MASK))
    }
    dataset, said = add(tmp_path, files)
    assert not dataset.groups_known and "import with --groups folders" in said
    assert set(groups(add(tmp_path / "again", files, "--groups", "folders")[0]).values()) == {"a", "b"}


def test_folders_are_no_groups_by_choice_and_cases_keep_their_names(tmp_path):
    files = {f"{p}/{x}/1.png": y for p in PATIENTS for x, y in (("images", FRAME), ("masks", MASK))}
    dataset, _ = add(tmp_path, files, "--groups", "none")
    assert groups(dataset) == {f"{p}_1": f"image:{p}_1" for p in PATIENTS} and not dataset.groups_known


def test_a_patient_in_train_and_test_is_one_group(tmp_path):
    files = {
        f"{s}/{x}/p1/1.png": y for s in ("train", "test") for x, y in (("images", FRAME), ("masks", MASK))
    }
    assert "--part '*'" in refused(tmp_path, files)
    dataset, _ = add(tmp_path, files, "--part", "*", "--groups", "folders")
    assert groups(dataset) == {"test_p1_1": "p1", "train_p1_1": "p1"}


def test_groups_from_folders_are_refused_where_there_is_one_folder(tmp_path):
    assert "expected a folder for each group" in refused(
        tmp_path, two("images/{n}.jpg", "masks/{n}.png"), "--groups", "folders"
    )


# Images without a mask, and what is left out


def test_images_without_a_mask_are_polyp_free_by_choice(tmp_path):
    files = two("images/{n}.jpg", "masks/{n}.png") | {"images/3.jpg": FRAME}
    assert "--without-mask empty" in refused(tmp_path, files)
    dataset, said = add(tmp_path, files, "--without-mask", "empty")
    assert [case.polyp_fraction > 0 for case in dataset.cases] == [True, True, False]
    assert "1 image without a mask is taken as polyp-free" in said


def test_masks_that_go_with_no_image_are_not_replaced_by_black_ones(tmp_path):
    files = two("images/k{n}.jpg", "masks/roi_k{n}_v2.png")
    assert "--pattern 'roi_{name}_v2'" in refused(tmp_path, files, "--without-mask", "empty", "--skip-bad")


def test_a_patient_without_any_mask_is_polyp_free_by_choice(tmp_path):
    files = {
        f"p{p}/{x}/{p}.png": y
        for p in "12"
        for x, y in (("images", FRAME), ("masks", MASK))
        if (p, x) != ("2", "masks")
    }
    assert "images/2.png: no mask has this stem" in refused(tmp_path, files)
    assert groups(add(tmp_path, files, "--without-mask", "empty")[0]) == {"1": "p1", "2": "p2"}


def test_files_that_are_no_images_are_passed_over_counted_and_named(tmp_path):
    litter = (
        "images/Thumbs.db",
        "images/Thumbs.db:encryptable",
        "masks/desktop.ini",
        ".DS_Store",
        "images/._1.jpg",
    )
    others = ("images/README.txt", "images/cases.csv", "masks/labels.json")
    files = two("images/{n}.jpg", "masks/{n}.png") | dict.fromkeys((*litter, *others), b"x")
    dataset, said = add(tmp_path, files)
    assert len(dataset.cases) == 2 and "8 files are ignored: images/README.txt, images/cases.csv" in said


def test_what_cannot_be_used_is_skipped_by_choice_and_kept_on_record(tmp_path):
    files = two("images/{n}.jpg", "masks/{n}.png") | {"images/torn.jpg": b"no image", "masks/torn.png": MASK}
    files |= {"images/lone.jpg": FRAME, "masks/orphan.png": MASK, "images/film.gif": b"GIF89a"}
    files |= {"images/empty.jpg": FRAME, "masks/empty.png": EMPTY}
    assert "--skip-bad leaves out" in refused(tmp_path, files)
    dataset, said = add(tmp_path, files, "--skip-bad")
    assert list(groups(dataset)) == ["1", "2"]
    assert [bad.file for bad in dataset.skipped] == [
        *("images/film.gif", "images/lone.jpg", "masks/orphan.png", "empty", "images/torn.jpg")
    ]
    assert "skipped 5 of 7 cases (71.4%)" in said and "skipped images/lone.jpg: no mask has this stem" in said
    assert {path.stem for path in (dataset.folder / "images").iterdir()} == {"1", "2"}
    record = json.loads((dataset.folder / "dataset.json").read_text())
    assert record["skipped"][1] == {"file": "images/lone.jpg", "why": "no mask has this stem", "stem": "lone"}


def test_a_dataset_with_skipped_files_is_known_again_until_one_of_them_is_mended(tmp_path):
    files = two("images/{n}.jpg", "masks/{n}.png") | {"images/3.jpg": b"no image", "masks/3.png": MASK}
    first, _ = add(tmp_path, files, "--skip-bad")
    assert add(tmp_path, files, "--skip-bad")[0] == first
    assert "choose another name" in refused(tmp_path, {**files, "images/3.jpg": FRAME}, "--skip-bad")


def test_rows_of_skipped_files_in_a_table_of_groups_are_no_mistake(tmp_path):
    files = two("images/{n}.jpg", "masks/{n}.png") | {"images/3.jpg": FRAME}
    table = tmp_path / "groups.csv"
    table.write_text("name,group\n1,a\n2,b\n3,c\n")
    assert groups(add(tmp_path, files, "--skip-bad", "--groups", str(table))[0]) == {"1": "a", "2": "b"}


def test_nothing_is_left_where_all_is_bad(tmp_path):
    assert "does not decode" in refused(tmp_path, {"images/1.jpg": b"x", "masks/1.png": b"x"}, "--skip-bad")


def test_a_damaged_file_of_an_archive_is_skipped_by_choice_with_its_mask(tmp_path):
    files = two("images/{n}.bmp", "masks/{n}.bmp", ("1", "2", "3"))
    files["images/2.bmp"] = np.full_like(FRAME, 77)
    archive = zipped(write_tree(tmp_path / "s", files), tmp_path / "a.zip", zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(bytes([77] * 99), bytes([78] * 99)))
    with pytest.raises(BadData, match=r"'images/2\.bmp' is damaged"):
        add_dataset(tmp_path / "home", "X", archive)
    dataset = add_dataset(tmp_path / "home", "X", archive, reading=SourceOptions(skip_bad=True))
    assert list(groups(dataset)) == ["1", "3"]
    assert [bad.file for bad in dataset.skipped] == ["images/2.bmp", "masks/2.bmp"]
    assert "skipped 1 of 3 cases" in dataset.remarks[-1]


def test_a_set_below_a_folder_whose_name_holds_such_a_word_is_found(tmp_path):
    assert stems(tmp_path, two("Kvasir-SEG/{n}.jpg", "Kvasir-SEG/{n}_mask.png")) == ["1", "2"]
    assert stems(tmp_path / "b", two("My-SEG/train/{n}.jpg", "My-SEG/train_gt/{n}.png")) == ["1", "2"]


def test_commands_that_are_suggested_keep_what_was_asked_for(tmp_path):
    files = {f"{s}/{x}.jpg": FRAME for s in ("train", "val") for x in ("images/k1", "masks/roi_k1_v2")}
    said = refused(tmp_path, files, "--part", "val", "--skip-bad")
    assert f"{tmp_path / 'source'} --part val --skip-bad --pattern 'roi_{{name}}_v2'" in said


def test_of_two_folders_of_masks_the_only_one_with_the_right_names_is_taken(tmp_path):
    files = two("images/{n}.jpg", "masks/{n}.png") | {"gt/other_a.png": MASK}
    dataset, said = add(tmp_path, files)
    assert list(groups(dataset)) == ["1", "2"] and "no mask of gt/ matches an image" in said


COMPOSED, DECOMPOSED = "polyp\u00e9", "polype\u0301"  # look the same
UMLAUT, OTHER_UMLAUT = "M\u00fcller", "Mu\u0308ller"


@pytest.mark.parametrize("other", [DECOMPOSED, DECOMPOSED.upper()])
@pytest.mark.parametrize("folders", ["images/{}.png masks/{}.png", "frames/{}.jpg gt/{}_seg.png"])
def test_two_names_that_differ_in_their_unicode_form_are_refused_with_both(tmp_path, other, folders):
    image, mask = folders.split()
    found = refused(tmp_path, two(image.replace("{}", "{n}"), mask.replace("{}", "{n}"), (COMPOSED, other)))
    assert "the Unicode form of their letters" in found
    assert ascii(COMPOSED) in found and ascii(other) in found


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (f"images/{COMPOSED}.png", f"masks/{DECOMPOSED}.png"),
        (f"Original/{COMPOSED}.tif", f"Ground Truth/{DECOMPOSED}.tif"),
        (f"images/{UMLAUT}/1.png", f"masks/{OTHER_UMLAUT}/1.png"),
    ],
)
def test_an_image_and_its_mask_go_together_whatever_unicode_form_their_names_have(tmp_path, image, mask):
    other = {image.replace(UMLAUT, "p2").replace(COMPOSED, "2"): FRAME}
    other |= {mask.replace(OTHER_UMLAUT, "p2").replace(DECOMPOSED, "2"): MASK}
    assert len(add(tmp_path, {image: FRAME, mask: MASK, **other})[0].cases) == 2


def test_a_patient_whose_folders_differ_in_unicode_form_is_one_group(tmp_path):
    images = [f"train/images/{UMLAUT}/1.png", f"test/images/{OTHER_UMLAUT}/2.png"]
    files = pairs(images, [name.replace("images", "masks") for name in images])
    dataset, _ = add(tmp_path, files, "--part", "*", "--groups", "folders")
    assert set(groups(dataset).values()) == {UMLAUT}


def test_links_that_lead_back_are_passed_over_counted_and_named(tmp_path):
    readme: dict[str, Content] = {"notes.txt": b"1"}
    write_tree(tmp_path / "elsewhere", two("i/{n}.png", "m/{n}.png"))
    (tmp_path / "elsewhere/i/loop").symlink_to("..")
    (tmp_path / "elsewhere/m/loop").symlink_to(".")
    dataset, printed = add(
        tmp_path, readme, "--images", f"{tmp_path}/elsewhere/i", "--masks", f"{tmp_path}/elsewhere/m"
    )
    assert len(dataset.cases) == 2
    assert "2 folders are ignored, as links" in printed.replace("\n", " ")
    assert "elsewhere/m/loop (the same as" in dataset.remarks[-1]


def test_folders_are_read_by_the_names_that_links_give_them(tmp_path):
    write_tree(tmp_path / "source", two("x/{n}.png", "y/{n}.png"))
    for name, target in (("images", "x"), ("masks", "y")):
        (tmp_path / "source" / name).symlink_to(target)
    dataset = add_dataset(tmp_path / "home", "X", tmp_path / "source")
    assert dataset.remarks == (
        "2 folders are ignored, as links: x (the same as images), y (the same as masks)",
    )
    named = SourceOptions(images="x", masks="masks")
    assert (
        add_dataset(tmp_path / "home", "Y", tmp_path / "source", reading=named).fingerprint
        == dataset.fingerprint
    )


@pytest.mark.parametrize("suffix", [".gif", ".pgm", ".npy", ".dcm"])
def test_masks_of_a_format_that_is_not_read_are_named_as_that(tmp_path, suffix):
    files: dict[str, Content] = {f"images/{n}.png": FRAME for n in "12"} | {
        f"masks/{n}{suffix}": b"1" for n in "12"
    }
    found = refused(tmp_path, files)
    assert f"convert them to PNG first: 2 {suffix} in masks/" in found
    assert "--without-mask" not in found


@pytest.mark.parametrize("pattern", ["{number:03d}_mask", "{name!r}", "{name:>9}"])
def test_a_pattern_with_a_format_is_refused_with_the_reason(tmp_path, pattern):
    assert "leading zeros do not matter" in refused(
        tmp_path, two("images/{n}.png", "masks/{n}.png"), "--pattern", pattern
    )


@pytest.mark.parametrize("side", ["images", "masks"])
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_an_animation_is_no_image_and_no_mask(tmp_path, side, suffix):
    files = two("images/{n}.png", "masks/{n}.png")
    del files[f"{side}/1.png"]
    first, *more = [Image.fromarray(np.full((24, 32, 3), n, np.uint8)) for n in (0, 99, 255)]
    write_tree(tmp_path, {"kept/x": b"1"})
    first.save(tmp_path / "kept" / f"1{suffix}", save_all=True, append_images=more, lossless=True)
    files[f"{side}/1{suffix}"] = (tmp_path / "kept" / f"1{suffix}").read_bytes()
    assert "found an animation of 3" in refused(tmp_path, files)


def test_pipes_are_refused_at_once(tmp_path):
    write_tree(tmp_path / "s", {"readme.txt": b"1"})
    for name in ("x.json", "x.zip", "y.png"):
        os.mkfifo(tmp_path / "s" / name)
    for source in (tmp_path / "s" / "x.zip", tmp_path / "s"):
        with pytest.raises(BadData, match=r"neither a file nor a folder|found no images with masks"):
            add_dataset(tmp_path / "home", "X", source)


def test_a_groups_file_that_is_not_there_is_refused_with_what_else_would_do(tmp_path):
    found = refused(tmp_path, two("images/{n}.png", "masks/{n}.png"), "--groups", "Folder")
    assert found == "--groups Folder: expected a CSV file, `folders` or `none`, found nothing there"


@pytest.mark.parametrize("stem", ["x" * 240, "\u00fc" * 115])
def test_a_name_that_leaves_no_room_for_those_of_its_results_is_refused(tmp_path, stem):
    files = two("images/{n}.png", "masks/{n}.png", ("1", stem))
    assert f"images/{stem}.png: expected a name of at most 220 bytes" in refused(tmp_path, files)
