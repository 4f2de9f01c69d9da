from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from packed import EMPTY, FRAME, MASK, tarred, write_tree, zipped
from PIL import Image

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset, list_datasets
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.importing.check import check_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.sources.layouts import LAYOUTS
from orchestrator.data.sources.pairs import Pair
from orchestrator.data.sources.sequences import CLINIC as CLINIC_SEQUENCES
from orchestrator.data.sources.sequences import clinic_sequences, whole_clinic_sequences

CLINIC_FRAME, CLINIC_MASK = np.full((288, 384, 3), 90, np.uint8), np.tile(MASK, (12, 12))
KVASIR = {
    "Kvasir-SEG/images/cju0qkwl35piu0993l0dewei2.jpg": FRAME,
    "Kvasir-SEG/images/ck2bxiswtxuw80838qkisqjwz.jpg": FRAME,
    "Kvasir-SEG/masks/cju0qkwl35piu0993l0dewei2.jpg": MASK,
    "Kvasir-SEG/masks/ck2bxiswtxuw80838qkisqjwz.jpg": MASK,
    "Kvasir-SEG/kavsir_bboxes.json": b"{}",
    "__MACOSX/Kvasir-SEG/images/._ck2bxiswtxuw80838qkisqjwz.jpg": b"resource fork",
    "Kvasir-SEG/.DS_Store": b"finder",
}
CLINIC = {
    "CVC-ClinicDB/README.txt": b"Frames 1 to 612",
    **{f"CVC-ClinicDB/Original/{n}.tif": CLINIC_FRAME for n in (1, 25, 26, 612)},
    **{f"CVC-ClinicDB/Ground Truth/{n}.tif": CLINIC_MASK for n in (1, 25, 26, 612)},
}
COLON = {f"CVC-ColonDB/{name}.bmp": FRAME if name.isdigit() else MASK for name in ("1", "p1", "s1", "c1")}
ETIS = {"ETIS-LaribPolypDB/1.tif": FRAME, "Ground Truth/p1.tif": MASK}
ENDOSCENE = {
    "CVC-EndoSceneStill/CVC-300/bbdd/1.bmp": FRAME,
    "CVC-EndoSceneStill/CVC-300/gtpolyp/1.bmp": MASK,
    "CVC-EndoSceneStill/CVC-300/gtlumen/1.bmp": MASK,
    "CVC-EndoSceneStill/CVC-612/bbdd/1.bmp": FRAME,
    "CVC-EndoSceneStill/CVC-612/gtpolyp/1.tif": MASK,
}
PRANET = {
    "TrainDataset/image/1.png": CLINIC_FRAME,
    "TrainDataset/mask/1.png": CLINIC_MASK,
    "TrainDataset/image/cju0qkwl35piu0993l0dewei2.png": FRAME,
    "TrainDataset/mask/cju0qkwl35piu0993l0dewei2.png": MASK,
    "TestDataset/CVC-300/images/149.png": FRAME,
    "TestDataset/CVC-300/masks/149.png": MASK,
    "TestDataset/CVC-ClinicDB/images/30.png": CLINIC_FRAME,
    "TestDataset/CVC-ClinicDB/masks/30.png": CLINIC_MASK,
}
TOP = "PolypGen2021_MultiCenterData_v3"
POLYPGEN = {
    f"{TOP}/data_C1/images_C1/100H0050.jpg": FRAME,
    f"{TOP}/data_C1/masks_C1/100H0050_mask.jpg": MASK,
    f"{TOP}/data_C1/bbox_image_C1/957OLCV1_100H0002_mask_bbox.jpg": FRAME,
    f"{TOP}/data_C3/images_C3/C3_EndoCV2021_00489_.jpg": FRAME,
    f"{TOP}/data_C3/masks_C3/C3_EndoCV2021_00489_mask.jpg": MASK,
    f"{TOP}/data_C4/images_C4/31_endocv2021_positive_329 2.jpg": FRAME,
    f"{TOP}/data_C4/masks_C4/31_endocv2021_positive_329 2_mask.jpg": EMPTY,
    f"{TOP}/data_C6/images_C6/EndoCV2021_C6_0100011.jpg": FRAME,
    f"{TOP}/data_C6/masks_C6/EndoCV2021_C6_0100011_mask.jpg": MASK,
    f"{TOP}/sequenceData/positive/seq2/images_seq2/0_endocv2021_positive_1.jpg": FRAME,
    f"{TOP}/sequenceData/positive/seq2/masks_seq2/0_endocv2021_positive_1_mask.jpg": MASK,
    f"{TOP}/sequenceData/positive/seq2/masks_seq2/0_endocv2021_positive_1.txt": b"polyp 1 2 3 4",
    f"{TOP}/sequenceData/negativeOnly/seq1_neg/1.jpg": FRAME,
    f"{TOP}/sequenceData/negativeOnly/seq2_neg/1.jpg": FRAME,
    f"{TOP}/imagesAll_positive/100H0050.jpg": FRAME,
    f"{TOP}/codes/convert2vocFromMask.py": b"",
}
UUID = "03b5d73c-d096-4d5c-af50-39c218425fcd"
ENDOTECT = {f"segmented/images/{UUID}.jpg": FRAME, f"segmented/masks/{UUID}.png": EMPTY}
MEDICO = {
    "Medico_automatic_polyp_segmentation_challenge_test_data/images/a.jpg": FRAME,
    "Medico_automatic_polyp_segmentation_challenge_test_data/masks/a.jpg": MASK,
}
ANY = {"images/A b.JPG": FRAME, "masks/A b_mask.PNG": MASK}

PUBLISHED = [
    (KVASIR, "Kvasir-SEG", ["cju0qkwl35piu0993l0dewei2", "ck2bxiswtxuw80838qkisqjwz"]),
    (CLINIC, "CVC-ClinicDB", ["1", "25", "26", "612"]),
    (COLON, "CVC-ColonDB", ["1"]),
    (ETIS, "ETIS-LaribPolypDB", ["1"]),
    (ENDOTECT, "EndoTect 2020", [UUID]),
    (MEDICO, "Medico 2020", ["a"]),
    (ANY, "images and masks", ["A b"]),
]


def stems(dataset: Dataset) -> list[str]:
    return [case.id.removeprefix(f"{dataset.name}/") for case in dataset.cases]


def refusal(home: Path, source: Path, **options: object) -> str:
    """What is wrong with a source; whatever it was, nothing of it is left."""
    with pytest.raises(BadData) as error:
        add_dataset(home, "X", source, **options)  # type: ignore[arg-type]
    assert list((home / "datasets").iterdir()) == []
    return "\n".join(error.value.problems)


@pytest.mark.parametrize(("files", "title", "names"), PUBLISHED, ids=[title for _, title, _ in PUBLISHED])
@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz"])
def test_a_published_archive_is_recognised_by_what_is_inside(tmp_path, files, title, names, form):
    folder = write_tree(tmp_path / "source", files)
    source = {
        "folder": lambda: folder,
        "zip": lambda: zipped(folder, tmp_path / "some download"),
        "tar": lambda: tarred(folder, tmp_path / "other.bin"),
        "tar.gz": lambda: tarred(folder, tmp_path / "download.tar.gz"),
    }[form]()
    dataset = add_dataset(tmp_path / "home", "X", source)
    assert dataset.layout.startswith(f"{title} (")
    assert stems(dataset) == names
    assert check_dataset(dataset) == []
    assert [p.name for p in (tmp_path / "home/datasets").iterdir()] == ["X"]


def test_an_archive_and_its_folder_make_the_same_dataset(tmp_path):
    folder = write_tree(tmp_path / "source", CLINIC)
    first = add_dataset(tmp_path / "home", "X", folder)
    assert add_dataset(tmp_path / "home", "X", zipped(folder, tmp_path / "x.zip")) == first


def test_every_layout_is_tried_by_a_test():
    tried = {title for _, title, _ in PUBLISHED} | {"EndoScene", "PraNet bundle", "PolypGen"}
    tried |= {
        "SUN-SEG",
        "BKAI-IGH NeoPolyp",
        "PolypDB",
        "PICCOLO",
        "nnU-Net raw",
        "mmsegmentation",
    }  # test_layouts.py
    tried |= {"CVC-VideoClinicDB"}  # test_published.py
    assert {layout.title for layout in LAYOUTS} - tried == {"PolypGen without its folders"}


# CVC-ClinicDB


def test_frames_of_clinic_get_their_published_sequences(tmp_path):
    dataset = add_dataset(tmp_path / "home", "X", write_tree(tmp_path / "source", CLINIC))
    assert [case.group for case in dataset.cases] == ["X/1", "X/1", "X/2", "X/29"]
    assert dataset.groups_known


def test_the_29_sequences_are_those_of_the_published_table():
    sequences = [int(CLINIC_SEQUENCES[str(frame)]) for frame in range(1, 613)]
    assert sequences == sorted(sequences)
    assert [sequences.count(n) for n in range(1, 30)] == [
        *(25, 25, 17, 11, 25, 23, 25, 26, 22, 6, 22, 25, 25, 20, 20),
        *(25, 21, 20, 25, 20, 19, 19, 12, 25, 25, 18, 25, 20, 21),
    ]


def clinic_pairs(folder: Path, frames: range, size: tuple[int, int] = (288, 384)) -> list[Pair]:
    image = write_tree(folder, {"frame.png": np.zeros((*size, 3), np.uint8)}) / "frame.png"
    return [Pair(str(frame), image, image) for frame in frames]


def test_sequences_are_given_to_frames_of_the_right_size_and_number_alone(tmp_path):
    assert len(clinic_sequences(clinic_pairs(tmp_path, range(1, 613)))) == 612
    assert clinic_sequences(clinic_pairs(tmp_path, range(1, 614))) == {}
    assert clinic_sequences(clinic_pairs(tmp_path, range(1, 613), (500, 574))) == {}


def test_a_folder_of_numbered_frames_is_taken_for_clinic_only_if_all_612_are_there(tmp_path):
    assert len(whole_clinic_sequences(clinic_pairs(tmp_path, range(1, 613)))) == 612
    assert whole_clinic_sequences(clinic_pairs(tmp_path, range(1, 612))) == {}


def test_two_forms_of_the_same_frames_are_told_apart_and_one_is_picked(tmp_path):
    files = {f"TIF/{folder}/1.tif": CLINIC_FRAME for folder in ("Original",)}
    files |= {"TIF/Ground Truth/1.tif": CLINIC_MASK, "PNG/Ground Truth/1.png": CLINIC_MASK}
    files |= {"PNG/Original/1.png": CLINIC_FRAME, "metadata.csv": b"frame_id,sequence_id\n1,1\n"}
    source = write_tree(tmp_path / "source", files)
    said = refusal(tmp_path / "home", source)
    assert "holds several sets; pick one or more as parts" in said
    assert "'PNG' (CVC-ClinicDB, 1 frame), 'TIF' (CVC-ClinicDB, 1 frame)" in said
    (case,) = add_dataset(tmp_path / "home", "X", source, parts=["png"]).cases
    assert (case.image.name, case.group) == ("1.png", "X/1")


# PolypGen


def test_polypgen_has_its_centers_sequences_and_frames_without_polyp(tmp_path):
    dataset = add_dataset(
        tmp_path / "home", "X", zipped(write_tree(tmp_path / "s", POLYPGEN), tmp_path / "z")
    )
    facts = {
        stem: (c.group, c.center, c.polyp_fraction > 0)
        for stem, c in zip(stems(dataset), dataset.cases, strict=True)
    }
    assert facts == {
        "0_endocv2021_positive_1": ("X/seq2", None, True),
        "100H0050": ("X/image:100H0050", "C1", True),
        "31_endocv2021_positive_329 2": ("X/image:31_endocv2021_positive_329 2", "C4", False),
        "C3_EndoCV2021_00489": ("X/image:C3_EndoCV2021_00489", "C3", True),
        "EndoCV2021_C6_0100011": ("X/image:EndoCV2021_C6_0100011", "C6", True),
        "seq1_neg_1": ("X/seq1_neg", None, False),
        "seq2_neg_1": ("X/seq2_neg", None, False),
    }
    assert not dataset.groups_known  # of single frames the patients are not told


def test_parts_of_polypgen_can_be_picked(tmp_path):
    source = write_tree(tmp_path / "source", POLYPGEN)
    dataset = add_dataset(tmp_path / "home", "X", source, parts=["sequences", "negatives"])
    assert {case.group for case in dataset.cases} == {"X/seq2", "X/seq1_neg", "X/seq2_neg"}
    assert dataset.groups_known
    assert "found no part named 'C9'; its parts: 'frames'" in refusal(tmp_path / "h2", source, parts=["C9"])


def test_a_mask_that_the_archive_left_out_is_black_and_of_the_size_of_its_upright_frame(tmp_path):
    turned = Image.Exif()
    turned[274] = 6
    folder = tmp_path / "seq1_neg"
    folder.mkdir()
    wide = np.zeros((300, 700, 3), np.uint8)
    Image.fromarray(wide).save(folder / "a.jpg")
    Image.fromarray(wide).save(folder / "b.jpg", exif=turned)
    dataset = add_dataset(tmp_path / "home", "X", tmp_path, parts=["negatives"])
    assert [read_mask(case.mask).shape for case in dataset.cases] == [(300, 700), (700, 300)]
    assert not any(read_mask(case.mask).any() for case in dataset.cases)
    assert all(case.mask.stat().st_size < 10_000 for case in dataset.cases)


def test_a_damaged_frame_without_a_mask_is_refused_in_words(tmp_path):
    source = write_tree(tmp_path / "source", {"seq1_neg/a.jpg": b"no image", "seq1_neg/b.jpg": FRAME})
    assert "seq1_neg/a.jpg: does not decode" in refusal(tmp_path / "home", source)


@pytest.mark.parametrize("frame", ["C3_EndoCV2021_00489_", "C3_EndoCV2021_00489]", "C3_EndoCV2021_00489"])
@pytest.mark.parametrize("mask", ["C3_EndoCV2021_00489_mask", "C3_EndoCV2021_00489__mask", "{frame}"])
@pytest.mark.parametrize("folders", [("images_C3", "masks_C3"), ("images", "masks")])
def test_the_frame_that_polypgen_misspells_finds_its_mask(tmp_path, frame, mask, folders):
    files = {f"{folders[0]}/{frame}.jpg": FRAME, f"{folders[1]}/{mask.format(frame=frame)}.jpg": MASK}
    (case,) = add_dataset(tmp_path / "home", "X", write_tree(tmp_path / "source", files)).cases
    assert (case.id, case.center) == ("X/C3_EndoCV2021_00489", "C3")


def test_copies_of_polypgen_without_folders_keep_their_centers(tmp_path):
    names = {
        "106OLCV1_100H0014": "C1",
        "EndoCV2021_001010": "C2",
        "C3_EndoCV2021_0077": "C3",
        "35_endocv2021_negative_1005": "C4",
        "EndoCV2021_C5_50000054": "C5",
        "EndoCV2021_C6_0100011": "C6",
    }
    files = {f"images/{name}.jpg": FRAME for name in names} | {f"masks/{name}.jpg": EMPTY for name in names}
    dataset = add_dataset(tmp_path / "home", "X", write_tree(tmp_path / "source", files))
    assert {stem: case.center for stem, case in zip(stems(dataset), dataset.cases, strict=True)} == names
    assert not dataset.groups_known


# Bundles


@pytest.mark.parametrize("part", ["TrainDataset", "TestDataset/CVC-300", "TestDataset/CVC-ClinicDB"])
def test_a_part_of_the_pranet_bundle_is_picked(tmp_path, part):
    source = zipped(write_tree(tmp_path / "source", PRANET), tmp_path / "bundle.zip")
    said = refusal(tmp_path / "home", source)
    assert f"'{part}' (PraNet bundle, " in said
    dataset = add_dataset(tmp_path / "home", "X", source, parts=[part])
    assert dataset.layout.endswith(f"; {part})")
    expected = {
        "TrainDataset": ["X/1", "X/image:cju0qkwl35piu0993l0dewei2"],
        "TestDataset/CVC-300": ["X/image:149"],
    }
    assert [case.group for case in dataset.cases] == expected.get(part, ["X/2"])
    assert dataset.groups_known == (part == "TestDataset/CVC-ClinicDB")


@pytest.mark.parametrize(
    ("part", "picked"),
    [
        ("X", ["A b"]),
        ("y", ["a_y_A b", "b_y_A b"]),
        ("a", ["x_A b", "y_A b"]),
        ("?/y", ["a_y_A b", "b_y_A b"]),
    ],
)
def test_a_part_is_picked_by_what_its_name_ends_or_begins_with(tmp_path, part, picked):
    files = {f"{top}/{name}": x for top in ("a/x", "a/y", "b/y") for name, x in ANY.items()}
    source = write_tree(tmp_path / "source", files)
    assert stems(add_dataset(tmp_path / "home", "One", source, parts=[part])) == picked


def test_several_parts_are_joined_and_frames_of_one_name_told_apart(tmp_path):
    source = write_tree(tmp_path / "source", ENDOSCENE)
    assert "'CVC-300' (EndoScene, 1 frame), 'CVC-612' (EndoScene, 1 frame)" in refusal(tmp_path / "h", source)
    dataset = add_dataset(tmp_path / "home", "X", source, parts=["CVC-300", "CVC-612"])
    assert stems(dataset) == ["CVC-300_1", "CVC-612_1"]
    assert [path.name for path in sorted((dataset.folder / "masks").iterdir())] == [
        "CVC-300_1.bmp",
        "CVC-612_1.tif",
    ]


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_archives_in_a_folder_or_an_archive_are_unpacked_too(tmp_path, form):
    outer = tmp_path / "outer"
    outer.mkdir()
    for name in ("TrainDataset", "TestDataset"):
        files = {path: content for path, content in PRANET.items() if path.startswith(name)}
        zipped(write_tree(tmp_path / name, files), outer / f"{name}.zip")
    source = outer if form == "folder" else zipped(outer, tmp_path / "outer.zip")
    assert stems(add_dataset(tmp_path / "home", "X", source, parts=["TestDataset/CVC-300"])) == ["149"]
    assert sorted(path.name for path in outer.iterdir()) == ["TestDataset.zip", "TrainDataset.zip"]


def test_images_and_masks_may_come_in_an_archive_each(tmp_path):
    outer = tmp_path / "outer"
    outer.mkdir()
    zipped(write_tree(tmp_path / "i", {"images/a.png": FRAME}), outer / "images.zip")
    zipped(write_tree(tmp_path / "m", {"a.png": MASK}), outer / "masks.zip")
    assert stems(add_dataset(tmp_path / "home", "X", outer)) == ["a"]


def test_an_archive_beside_its_unpacked_folder_is_left_alone(tmp_path):
    source = write_tree(tmp_path / "source", ANY)
    (source / "original.zip").write_bytes(b"PK\x03\x04 and then nothing")
    assert stems(add_dataset(tmp_path / "home", "X", source)) == ["A b"]


def test_archives_nested_too_deep_are_refused(tmp_path):
    path = zipped(write_tree(tmp_path / "source", ANY), tmp_path / "0.zip")
    for level in range(1, 4):
        folder = tmp_path / f"level{level}"
        folder.mkdir()
        shutil.copy(path, folder)
        path = zipped(folder, tmp_path / f"{level}.zip")
    assert "more than 2 deep" in refusal(tmp_path / "home", path)


# Groups, and what does not fit


def test_a_csv_of_groups_overrides_the_archive_and_leaves_its_centers(tmp_path):
    source = write_tree(tmp_path / "source", {name: x for name, x in POLYPGEN.items() if "_C1/" in name})
    (tmp_path / "g.csv").write_text("name,group\n100H0050,patient7\n")
    dataset = add_dataset(tmp_path / "home", "X", source, groups=tmp_path / "g.csv")
    assert [(case.group, case.center) for case in dataset.cases] == [("X/patient7", "C1")]
    assert dataset.groups_known


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "source").mkdir()
    assert "it is empty" in refusal(tmp_path / "home", tmp_path / "source")


def test_stems_that_differ_in_case_alone_are_refused(tmp_path):
    files = {
        f"{folder}/{stem}.png": FRAME if folder == "images" else MASK
        for folder in ("images", "masks")
        for stem in ("a", "A")
    }
    said = refusal(tmp_path / "home", write_tree(tmp_path / "source", files))
    assert "images/a.png: images/A.png has the same stem, but for upper and lower case" in said


def test_a_file_of_impossible_size_is_refused_unread(tmp_path):
    source = write_tree(tmp_path / "source", ANY)
    os.truncate(source / "images/A b.JPG", 1 << 30)
    assert "images/A b.JPG: expected at most 536,870,912 bytes" in refusal(tmp_path / "home", source)


def test_a_folder_that_links_to_itself_is_read_once(tmp_path):
    source = write_tree(tmp_path / "source", ANY)
    (source / "again").symlink_to(source)
    assert stems(add_dataset(tmp_path / "home", "X", source)) == ["A b"]


# What a kill leaves


def test_what_a_killed_import_unpacked_is_no_dataset_and_goes_with_the_next_import(tmp_path):
    left = write_tree(tmp_path / "home/datasets/.Killed.unpacked", ANY)
    (left / "dataset.json").write_text(json.dumps({"name": "Killed"}))
    busy = write_tree(tmp_path / "home/datasets/.Busy.unpacked", ANY)
    assert list_datasets(tmp_path / "home") == ()
    with FileLock(tmp_path / "home/datasets/.Busy.lock"):
        add_dataset(tmp_path / "home", "X", write_tree(tmp_path / "source", ANY))
    assert not left.exists()
    assert busy.exists()


SLOW_IMPORT = """
import sys, time
from pathlib import Path
from orchestrator.data.importing.dataset import add_dataset
add_dataset(Path(sys.argv[1]), "X", Path(sys.argv[2]),
            on_progress=lambda done, total: (print(done, total, flush=True), time.sleep(0.05)))
"""


def test_an_import_killed_while_it_unpacks_leaves_no_dataset_and_starts_anew(tmp_path):
    files = {f"{sub}/{n}.png": x for n in range(20) for sub, x in (("images", FRAME), ("masks", MASK))}
    archive = zipped(write_tree(tmp_path / "source", files), tmp_path / "a.zip")
    home = tmp_path / "home"
    command = [sys.executable, "-c", SLOW_IMPORT, str(home), str(archive)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "10 40":
            pass
        process.kill()
    assert (home / "datasets/.X.unpacked").exists()
    assert list_datasets(home) == ()
    assert len(add_dataset(home, "X", archive).cases) == 20
    assert {path.name for path in (home / "datasets").iterdir()} == {"X"}


def test_a_frame_keeps_its_bytes_on_the_way_through_an_archive(tmp_path):
    source = write_tree(tmp_path / "source", ANY)
    (case,) = add_dataset(tmp_path / "home", "X", zipped(source, tmp_path / "x.zip")).cases
    assert case.image.read_bytes() == (source / "images/A b.JPG").read_bytes()
    assert read_image(case.image).shape == FRAME.shape


# Real files, where there are any


def real(name: str) -> Path:
    folder = Path(os.environ.get("POLYP_DATA", "../shared/data/polyps")) / name
    if not folder.exists():
        pytest.skip(f"no real data in {folder}; set POLYP_DATA")
    return folder


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_original_files_of_clinic_and_polypgen_are_recognised_with_groups_and_centers(tmp_path, form):
    source = real("_raw_samples")
    if form == "zip":
        source = zipped(source, tmp_path / "raw.zip")
    clinic = add_dataset(tmp_path / "home", "Clinic", source, parts=["CVC-ClinicDB"])
    assert clinic.groups_known and len(clinic.cases) == 10
    assert {case.id: case.group for case in clinic.cases}["Clinic/612"] == "Clinic/29"
    polypgen = add_dataset(tmp_path / "home", "PolypGen", source, parts=["frames"])
    assert [case.center for case in polypgen.cases] == ["C4", "C4", "C3", "C2"]


def test_the_sequences_of_the_real_clinic_frames_are_those_of_its_readme():
    with (real("CVC-ClinicDB") / "meta.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 524
    assert all(CLINIC_SEQUENCES[str(int(row["name"]))] == row["sequence_or_center"] for row in rows)


def test_the_centers_of_the_real_polypgen_frames_are_those_of_its_list(tmp_path):
    source = real("PolypGen")
    with (source / "meta.csv").open(newline="") as file:
        known = {row["name"]: row["sequence_or_center"] for row in csv.DictReader(file)}
    dataset = add_dataset(tmp_path / "home", "X", source)
    assert {stem: case.center for stem, case in zip(stems(dataset), dataset.cases, strict=True)} == known
