"""Published archives of 2026 and their kin, drawn small: what `data add` makes of each, or says of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import published as of
import pytest
from packed import Content, write_tree
from tree import add, groups, refused
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.data.images import read_mask
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.published.about import ABOUT
from orchestrator.data.sources.layouts import LAYOUTS

Draw = Callable[[], dict[str, Content]]


@dataclass(frozen=True)
class Expected:
    draw: Draw
    options: Sequence[str] = ()
    title: str = "images and masks"
    cases: int = 2
    groups: set[str] = field(default_factory=set)  # those that are known
    centers: set[str] = field(default_factory=set)
    parts: dict[str, int] = field(default_factory=dict)
    says: Sequence[str] = ()


ALL = ("--part", "*")
SUN = Expected(
    lambda: of.sun_seg("SUN-SEG/"),
    ALL,
    "SUN-SEG",
    6,
    groups={"case1", "case10", "case3", "case9"},
    parts={
        "TrainDataset": 3,
        "TestEasyDataset/Seen": 1,
        "TestEasyDataset/Unseen": 1,
        "TestHardDataset/Unseen": 1,
    },
    says=("--splits published", "Edge/ (6 images): outlines", "frames are of the SUN database"),
)
PICCOLO = Expected(
    lambda: of.piccolo("piccolo dataset-release0.1/{}"),
    ALL,
    "PICCOLO",
    5,
    groups={"001", "002", "003", "014"},
    says=("void/ (5 images): pixels outside the field of view", "--splits published"),
)
POLYPDB = Expected(
    lambda: of.polypdb(of.BY_CENTER), (), "PolypDB", 5, centers={"BKAI", "Karolinska", "Simula"}
)
READ = {
    "BKAI, PNG": Expected(
        lambda: of.bkai("png"),
        (),
        "BKAI-IGH NeoPolyp",
        3,
        says=("red 7 % (neoplastic)", "test/test/ (1 image)"),
    ),
    "BKAI, JPEG": Expected(
        lambda: of.bkai("jpeg"), (), "BKAI-IGH NeoPolyp", 3, says=("(non-neoplastic), as the archive states",)
    ),
    "BKAI, folders once": Expected(
        lambda: {
            name.replace("train/", "", 1).replace("train_gt/", "", 1): x for name, x in of.bkai("png").items()
        },
        (),
        "BKAI-IGH NeoPolyp",
        3,
        says=("green 3 % (non-neoplastic)",),
    ),
    "SUN-SEG": SUN,
    "SUN-SEG, training part": Expected(
        lambda: of.sun_seg("SUN-SEG/"), ("--part", "TrainDataset"), "SUN-SEG", 3, groups={"case1", "case10"}
    ),
    "HyperKvasir": Expected(
        lambda: of.kvasir("segmented-images/") | of.images("unlabeled-images/images/{}.jpg", ["u"]),
        (),
        "Kvasir-SEG",
        3,
        says=("HyperKvasir (segmented-images)", "not read: unlabeled-images/images/ (1 image)"),
    ),
    "Kvasir-Sessile": Expected(
        of.sessile, (), "Kvasir-SEG", 3, parts={"train": 2, "val": 1}, says=("train (2), val (1)",)
    ),
    "PolypDB by center": POLYPDB,
    "PolypDB in both orders": Expected(
        lambda: of.polypdb(of.BY_CENTER, of.BY_MODALITY),
        (),
        "PolypDB",
        5,
        centers=POLYPDB.centers,
        says=("PolypDB/PolypDB_modality_wise/ (10 images): the same images by modality",),
    ),
    "PolypDB of one hospital": Expected(
        lambda: of.polypdb(of.BY_CENTER),
        ("--part", "PolypDB_center_wise/Simula"),
        "PolypDB",
        2,
        centers={"Simula"},
    ),
    "PolypDB by the name of a hospital": Expected(
        lambda: of.polypdb(of.BY_CENTER, of.BY_MODALITY), ("--part", "bkai"), "PolypDB", 2, centers={"BKAI"}
    ),
    "PolypDB as its README": Expected(
        lambda: of.polypdb("{center}/{modality}", masks="annotations"),
        (),
        "PolypDB",
        5,
        centers=POLYPDB.centers,
    ),
    "PICCOLO": PICCOLO,
    "PICCOLO, folders twice": Expected(
        lambda: of.piccolo("{0}/{0}"), ALL, "PICCOLO", 5, groups=PICCOLO.groups, says=PICCOLO.says
    ),
    "EndoSceneStill": Expected(
        of.endoscene,
        ALL,
        "EndoScene",
        4,
        says=("CVC-612 holds the frames of CVC-ClinicDB", "gtlumen/ (4 images): masks of the lumen"),
    ),
    "PolypGen": Expected(
        of.polypgen,
        (),
        "PolypGen",
        7,
        groups={"seq1", "seq10", "seq3_neg"},
        centers={"C1", "C3", "C4"},
        says=("(3 without polyp)", "frames with boxes drawn on them", "the single frames once more"),
    ),
    "PolypGen sequences": Expected(
        lambda: {name: x for name, x in of.polypgen().items() if "sequenceData" in name},
        (),
        "PolypGen",
        4,
        groups={"seq1", "seq10", "seq3_neg"},
    ),
    "nnU-Net": Expected(
        lambda: of.nnunet(0, labels=b'{"background": 0, "polyp": 1}'),
        (),
        "nnU-Net raw",
        says=("polyp is 1, as the archive states", "1 6 % (polyp)"),
    ),
    "nnU-Net 1": Expected(
        lambda: of.nnunet(0, labels=b'{"0": "background", "1": "polyp"}'), (), "nnU-Net raw"
    ),
    "mmsegmentation": Expected(
        lambda: of.pairs("img_dir/train/{}.jpg", "ann_dir/train/{}.png", "12", lambda n: of.mask(n, 1)),
        ("--mask-values", "1"),
        "mmsegmentation",
    ),
    "CVC-VideoClinicDB": Expected(of.video_clinic, (), "CVC-VideoClinicDB", 4, groups={"1", "2"}),
    "one folder": Expected(lambda: of.named("{}.jpg", "{}_mask.png")),
    "image_1 and mask_1": Expected(lambda: of.named("images/image_{}.jpg", "masks/mask_{}.png")),
}
READ |= {
    f"images/ and {masks}/": Expected(lambda masks=masks: of.named("images/{}.jpg", masks + "/{}.png"))  # type: ignore[misc]
    for masks in ("gt", "labels", "annotations", "masks", "Ground Truth", "segmentation")
}
READ |= {
    f"{images}/ and masks/": Expected(lambda images=images: of.named(images + "/{}.jpg", "masks/{}.png"))  # type: ignore[misc]
    for images in ("frames", "imgs")
}
READ |= {
    f"X and {name.format('X')}": Expected(lambda name=name: of.named("images/{}.jpg", f"masks/{name}.png"))  # type: ignore[misc]
    for name in ("{}_seg", "{}_gt", "{}-mask", "{}_Mask", "{}_segmentation", "{}.jpg")
}


@pytest.mark.parametrize("name", READ)
def test_an_archive_is_recognised_with_groups_centers_and_parts(tmp_path, name):
    expected = READ[name]
    dataset, said = add(tmp_path, expected.draw(), *expected.options)
    known = {group for group in groups(dataset).values() if not group.startswith("image:")}
    assert f"recognised as {expected.title} (" in said and len(dataset.cases) == expected.cases
    assert known == expected.groups and {case.center for case in dataset.cases} - {None} == expected.centers
    if expected.parts:
        assert Counter(case.part for case in dataset.cases) == expected.parts
    assert [text for text in expected.says if text not in " ".join(said.split())] == [], said


RAR = b"Rar!\x1a\x07\x01\x00" + bytes(64)
OUTLINE = b'{"shapes": [{"points": [[1, 1], [9, 1], [9, 9]]}], "imagePath": "1.jpg"}'
REFUSED = {
    "SUN-SEG whole": (lambda: of.sun_seg(), "--part 'TrainDataset', or all of them: --part '*'"),
    "SUN with masks apart": (of.sun_apart, "reorganize.sh of github.com/GewelsJI/VPS"),
    "SUN": (
        lambda: of.images("part1/case1/{}.jpg", "12") | {"annotation_txt/case1.txt": b"1.jpg 1,2,3,4,0"},
        "masks of its frames are in SUN-SEG",
    ),
    "HyperKvasir without segmented images": (
        lambda: of.images("labeled-images/lower-gi-tract/pathological-findings/polyps/{}.jpg", "12"),
        "its segmented-images have",
    ),
    "images in a folder of polyps": (
        lambda: of.images("set/polyps/{}.jpg", "12"),
        "--images 'set/polyps' --masks",
    ),
    "LDPolypVideo": (of.ldpolypvideo, "boxes, not masks"),
    "PICCOLO as downloaded": (lambda: {"piccolo dataset.rar": RAR}, "unpack piccolo dataset.rar (RAR)"),
    "nnU-Net by channel": (lambda: of.nnunet(0, 1, 2, labels=b"{}"), "merge them into one RGB image"),
    "nnU-Net of volumes": (
        lambda: {"imagesTr/a_0000.nii.gz": b"\x1f\x8b", "labelsTr/a.nii.gz": b"\x1f\x8b"},
        "convert them to PNG first",
    ),
    "labels 0 and 1": (
        lambda: of.pairs("images/{}.jpg", "masks/{}.png", "12", lambda n: of.mask(n, 1)),
        "--mask-values 1",
    ),
    "inverted masks": (
        lambda: of.pairs("images/{}.jpg", "masks/{}.png", "12", lambda n: 255 - of.mask(n)),
        "--invert-masks",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_cannot_be_read_is_refused_in_four_lines_with_what_to_do(tmp_path, name):
    draw, advice = REFUSED[name]
    said = refused(tmp_path, draw())
    assert advice in said and len(said.splitlines()) <= 4
    if "no images with masks" in said:
        assert "orchestrator data layouts" in said


@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_red_and_green_of_bkai_are_polyp_of_their_class(tmp_path, suffix):
    dataset, _ = add(tmp_path, of.bkai(suffix))
    found = {case.id.removeprefix("X/"): case for case in dataset.cases}
    assert [case.classes for case in found.values()] == [
        ("neoplastic",),
        ("non-neoplastic",),
        ("neoplastic", "non-neoplastic"),
    ]
    for name, case in found.items():
        polyp, drawn = of.polyp(name), read_mask(case.mask)
        assert 2 * np.sum(polyp & drawn) / (polyp.sum() + drawn.sum()) > (0.97 if suffix == "jpeg" else 0.999)


def test_bkai_with_black_and_white_masks_is_read_as_such(tmp_path):
    files = of.pairs("train/train/{}.jpeg", "train_gt/train_gt/{}.png", "ab")
    dataset, said = add(tmp_path, files)
    assert dataset.cases[0].classes == () and "masks: polyp is" not in said
    assert dataset.cases[0].polyp_fraction == of.polyp("train/train/{}.jpega").mean()


def test_what_the_user_states_of_colors_replaces_what_the_archive_states(tmp_path):
    files = {name: x for name, x in of.bkai("png").items() if "0af3" not in name}
    dataset, said = add(tmp_path, files, "--mask-colors", "red")
    assert "green" in said and "(background)" in said and dataset.cases[0].classes == ()


def test_a_color_that_the_archive_does_not_state_is_refused_until_the_user_says_what_it_is(tmp_path):
    name = "0a5f3601ad4f13ccf1f4b331a412fc44"
    files = of.bkai("png") | {f"train_gt/train_gt/{name}.png": of.colored(name, of.RED, (0, 0, 255))}
    assert f"1 of 3 masks ({name}) have blue, which the archive does not state" in refused(tmp_path, files)
    assert "blue" in add(tmp_path, files, "--mask-colors", "red,green")[1]


def test_lists_of_other_images_or_with_an_image_twice_give_no_parts(tmp_path):
    twice = of.sessile() | {"sessile-main-Kvasir-SEG/test.txt": of.KVASIR[0].encode()}
    dataset, said = add(tmp_path, twice)
    assert {case.part for case in dataset.cases} == {""} and "1 image twice: not used" in said
    other = of.kvasir("") | {"train.txt": b"a\nb", "val.txt": b"c"}
    assert {case.part for case in add(tmp_path / "other", other)[0].cases} == {""}


def test_images_that_another_dataset_holds_are_counted(tmp_path):
    add_dataset(tmp_path / "home", "Kvasir-SEG", write_tree(tmp_path / "kvasir", of.kvasir("")))
    assert "3 of its 3 images are also in Kvasir-SEG" in add(tmp_path, of.kvasir(""))[1]
    assert "are also in" not in add(tmp_path / "other", of.kvasir(""))[1]


def test_a_damaged_dataset_does_not_fail_the_import_of_another(tmp_path):
    add_dataset(tmp_path / "home", "Old", write_tree(tmp_path / "kvasir", of.kvasir("")))
    (tmp_path / "home/datasets/Old/dataset.json").write_text("{")
    assert "are also in" not in add(tmp_path, of.kvasir(""))[1]


def test_every_layout_is_described_and_documented():
    titles = {layout.title for layout in LAYOUTS}
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    assert titles == set(ABOUT)
    assert [title for title in titles if f"| {title}" not in page and "without" not in title] == []


def test_layouts_are_listed_with_what_is_known_of_each():
    said = " ".join(CliRunner().invoke(app, ["data", "layouts"]).output.split())
    assert "PolypGen: masks black and white; frames without polyp; groups sequences" in said
    assert "terms CC-BY-4.0 (synapse.org, syn26376615); --part frames" in said
    listed = json.loads(CliRunner().invoke(app, ["data", "layouts", "--json"]).output)
    assert {one["name"] for one in listed} == set(ABOUT)
