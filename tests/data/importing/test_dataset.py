from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from packed import write_tree
from PIL import Image

from orchestrator.common.errors import BadData
from orchestrator.data.cases import Dataset, list_datasets, load_dataset, load_datasets
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.importing.check import check_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset

FRAME = np.full((24, 32, 3), (200, 90, 60), np.uint8)
MASK = np.zeros((24, 32), np.uint8)
MASK[8:16, 10:20] = 255


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two good pairs, named as published sets name theirs."""
    folder = tmp_path / "source"
    for name in ("1", "positive_329 2"):
        put(folder / "images" / f"{name}.jpg", FRAME)
        put(folder / "masks" / f"{name}.png", MASK)
    return folder


def put(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def problems(home: Path, source: Path, **options: object) -> str:
    with pytest.raises(BadData) as error:
        add_dataset(home, "Clinic", source, **options)  # type: ignore[arg-type]
    return "\n".join(error.value.problems)


def test_a_folder_becomes_a_dataset_with_its_original_bytes(tmp_path, source):
    dataset = add_dataset(tmp_path / "home", "Clinic", source)
    assert [case.id for case in dataset.cases] == ["Clinic/1", "Clinic/positive_329 2"]
    assert [(case.height, case.width, case.polyp_fraction) for case in dataset.cases] == [
        (24, 32, 80 / 768)
    ] * 2
    for case in dataset.cases:
        assert case.image.read_bytes() == (source / "images" / case.image.name).read_bytes()
    assert load_dataset(tmp_path / "home", "Clinic") == dataset
    assert check_dataset(dataset) == []


def test_every_problem_of_every_file_comes_at_once(tmp_path, source):
    put(source / "images/lonely.jpg", FRAME)
    put(source / "masks/orphan.png", MASK)
    put(source / "images/twice.jpg", FRAME)
    put(source / "images/twice.png", FRAME)
    put(source / "images/small.jpg", FRAME[:20])
    put(source / "masks/small.png", MASK)
    (source / "images/film.gif").write_bytes(b"GIF89a")
    (source / "images/1.jpg").write_bytes(b"not an image either")
    found = problems(tmp_path, source)
    for words in (
        "images/lonely.jpg: no mask has this stem",
        "masks/orphan.png: no image has this stem",
        "images/twice.png: twice.jpg has the same stem",
        "images/film.gif: expected one of .jpg",
        "images/1.jpg: does not decode",
        "small: image is 32 x 20, mask is 32 x 24",
    ):
        assert words in found


def test_a_refused_folder_leaves_nothing_behind(tmp_path, source):
    put(source / "images/lonely.jpg", FRAME)
    problems(tmp_path, source)
    assert list_datasets(tmp_path) == ()
    assert list((tmp_path / "datasets").iterdir()) == []


@pytest.mark.parametrize("name", ["1.jpg", "1.png", "1.bmp", "1.tif"])
def test_a_truncated_image_is_refused(tmp_path, source, name):
    (source / "images/1.jpg").unlink()
    noise = np.random.default_rng(0).integers(0, 255, FRAME.shape, np.uint8)
    path = put(source / "images" / name, noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert f"images/{name}: does not decode" in problems(tmp_path, source)


def test_an_empty_mask_is_refused_unless_allowed(tmp_path, source):
    put(source / "masks/1.png", MASK * 0)
    assert "1: mask is empty" in problems(tmp_path, source)
    assert add_dataset(tmp_path, "Clinic", source, allow_empty=True).cases[0].polyp_fraction == 0


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (MASK // 255, "neither black nor white: 0 90 %, 1 10 % of their pixels"),
        (MASK // 255 * 76, "neither black nor white: 0 90 %, 76 10 % of their pixels"),
        (np.full_like(MASK, 255), "covers the whole frame"),
        (np.tile(np.arange(32, dtype=np.uint8) * 8, (24, 1)), "seem to be photographs"),
    ],
)
def test_a_mask_that_is_none_is_refused_even_where_empty_ones_are_allowed(tmp_path, source, mask, words):
    put(source / "masks/1.png", mask)
    assert words in problems(tmp_path, source, allow_empty=True)


def test_grey_outlines_and_ringing_of_jpeg_masks_are_accepted(tmp_path, source):
    smooth = Image.fromarray(MASK).resize((128, 96), Image.Resampling.BILINEAR)
    (source / "masks/1.png").unlink()
    put(source / "images/1.jpg", np.zeros((96, 128, 3), np.uint8))
    put(source / "masks/1.jpg", np.asarray(smooth.convert("RGB")), quality=75)
    dataset = add_dataset(tmp_path, "Clinic", source)
    assert dataset.cases[0].polyp_fraction == pytest.approx(80 / 768, rel=0.1)


def test_masks_of_one_and_three_channels_a_palette_and_one_bit_read_alike(tmp_path):
    plain = Image.fromarray(MASK)
    for mode in ("L", "RGB", "RGBA", "P", "1"):
        plain.convert(mode).save(tmp_path / f"{mode}.png")
        assert np.array_equal(read_mask(tmp_path / f"{mode}.png"), MASK > 0)


def test_grey_values_up_to_127_are_no_polyp(tmp_path):
    values = np.array([[0, 1, 127, 128, 255]], np.uint8)
    assert read_mask(put(tmp_path / "m.png", values)).tolist() == [[False, False, False, True, True]]


def test_an_rgb_tiff_that_is_tagged_as_grey_keeps_its_colors(tmp_path):
    path = tmp_path / "frame.tif"
    tifffile.imwrite(path, FRAME, photometric="minisblack", planarconfig="contig")
    assert np.array_equal(read_image(path), FRAME)


def test_grey_bilevel_and_inverted_tiffs_are_read(tmp_path):
    path = tmp_path / "mask.tif"
    for stored in (MASK, MASK > 0):
        tifffile.imwrite(path, stored, photometric="minisblack")
        assert np.array_equal(read_mask(path), MASK > 0)
    tifffile.imwrite(path, 255 - MASK, photometric="miniswhite")
    assert np.array_equal(read_mask(path), MASK > 0)


@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_sixteen_bits_are_refused(tmp_path, suffix):
    path = put(tmp_path / f"deep.{suffix}", MASK.astype(np.uint16) * 257)
    with pytest.raises(BadData, match="expected 8 bits per channel"):
        read_image(path)


def test_an_image_is_turned_as_its_exif_tag_says(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    frame = FRAME.copy()
    frame[:, :16] = 0
    upright = read_image(put(tmp_path / "turned.png", frame, exif=exif))
    assert upright.shape == (32, 24, 3)
    assert upright[:16].max() == 0


@pytest.mark.parametrize("size", [(9_000, 9_900), (10_000, 10_000), (40_000, 40_000)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, size):
    path = tmp_path / "bomb.png"
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0), b"IDAT")
    written = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(written))
    with pytest.raises(BadData, match="pixels"):
        read_image(path)


def test_groups_and_centers_come_from_a_csv(tmp_path, source):
    (tmp_path / "g.csv").write_text("name,group,center\n1,12,C1\npositive_329 2,,\n")
    dataset = add_dataset(tmp_path, "Clinic", source, groups=tmp_path / "g.csv")
    assert not dataset.groups_known  # of one case none is known
    assert [case.group for case in dataset.cases] == ["Clinic/12", "Clinic/image:positive_329 2"]
    assert [case.center for case in dataset.cases] == ["C1", None]


def test_without_a_csv_every_case_is_its_own_group(tmp_path, source):
    dataset = add_dataset(tmp_path, "Clinic", source)
    assert not dataset.groups_known
    assert len({case.group for case in dataset.cases}) == 2


def test_a_csv_that_does_not_fit_is_refused(tmp_path, source):
    (tmp_path / "g.csv").write_text("name,video\n1,a\n1,b\nghost,c\n")
    found = problems(tmp_path, source, groups=tmp_path / "g.csv", group_column="video")
    for words in ("contradict each other: '1'", "without a case: 'ghost'", "without a row: 'positive_329 2'"):
        assert words in found


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden", "a/b"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path, source, name):
    with pytest.raises(BadData, match="expected a dataset name"):
        add_dataset(tmp_path, name, source)


@pytest.mark.parametrize("name", ["test", "validation"])
def test_a_dataset_is_not_named_as_a_part_of_every_study(tmp_path, source, name):
    with pytest.raises(BadData, match="choose another name"):
        add_dataset(tmp_path, name, source)


def test_folders_may_be_named_in_the_singular_and_extensions_in_capitals(tmp_path):
    put(tmp_path / "s/Image/a.JPG", FRAME, format="JPEG")
    put(tmp_path / "s/mask/a.PNG", MASK)
    assert [case.id for case in add_dataset(tmp_path, "Clinic", tmp_path / "s").cases] == ["Clinic/a"]


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadData, match="found nothing there"):
        add_dataset(tmp_path, "Clinic", tmp_path / "nowhere")


def test_adding_the_same_content_again_changes_nothing(tmp_path, source):
    first = add_dataset(tmp_path, "Clinic", source)
    assert add_dataset(tmp_path, "Clinic", source) == first
    assert add_dataset(tmp_path, "Twin", source).fingerprint == first.fingerprint


@pytest.mark.parametrize("other", ["group\n{},b\n{},b", "group,center\n{},a,north\n{},a,north"])
def test_other_groups_or_centers_make_another_fingerprint(tmp_path, source, other):
    found = []
    for name, table in (("one", "group\n{},a\n{},a"), ("other", other)):
        (tmp_path / f"{name}.csv").write_text("name," + table.format("1", "positive_329 2") + "\n")
        found.append(add_dataset(tmp_path, name, source, groups=tmp_path / f"{name}.csv").fingerprint)
    assert len(set(found)) == 2


def test_other_content_under_a_known_name_is_refused(tmp_path, source):
    add_dataset(tmp_path, "Clinic", source)
    put(source / "masks/1.png", 255 - MASK)
    assert "choose another name" in problems(tmp_path, source)


def test_unknown_names_are_listed_beside_the_known_ones(tmp_path, source):
    add_dataset(tmp_path, "Clinic", source)
    with pytest.raises(BadData) as error:
        load_datasets(tmp_path, ["Clinic", "Klinik", "Spital"])
    assert [problem.split(";")[1] for problem in error.value.problems] == [
        " did you mean Clinic? known: Clinic",
        " known: Clinic",
    ]


def test_a_check_names_what_was_changed_lost_or_slipped_in(tmp_path, source):
    dataset = add_dataset(tmp_path, "Clinic", source)
    put(dataset.cases[0].mask, 255 - MASK)
    dataset.cases[1].image.unlink()
    put(dataset.folder / "images/new.jpg", FRAME)
    assert check_dataset(dataset) == [
        "Clinic/1: the bytes are not those that were imported",
        "images/positive_329 2.jpg: is missing",
        "images/new.jpg: was not imported",
    ]


SLOW_IMPORT = """
import sys, time
from pathlib import Path
from orchestrator.data.importing.dataset import add_dataset
add_dataset(Path(sys.argv[1]), "Drawn", Path(sys.argv[2]), allow_empty=True,
            on_progress=lambda done, total: (print(done, flush=True), time.sleep(0.05)))
"""


def test_a_killed_import_is_invisible_and_taken_up_where_it_was(tmp_path):
    draw_dataset(tmp_path / "drawn", num_cases=30, size=40)
    home = tmp_path / "home"
    command = [sys.executable, "-c", SLOW_IMPORT, str(home), str(tmp_path / "drawn")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any(line.strip() == "10" for line in process.stdout)
        process.send_signal(signal.SIGKILL)
    assert list_datasets(home) == ()
    copies = home / "datasets/.Drawn.partial/images"
    before = {path: path.stat().st_mtime_ns for path in sorted(copies.iterdir())[:9]}
    time.sleep(0.01)
    seen: list[int] = []
    dataset = add_dataset(
        home, "Drawn", tmp_path / "drawn", allow_empty=True, on_progress=lambda done, _: seen.append(done)
    )
    assert seen == list(range(1, 31))
    assert check_dataset(dataset) == []
    assert {dataset.folder / "images" / p.name: t for p, t in before.items()} == {
        dataset.folder / "images" / p.name: (dataset.folder / "images" / p.name).stat().st_mtime_ns
        for p in before
    }
    assert not (dataset.folder / "journal.jsonl").exists()


def real(name: str) -> Path:
    folder = Path(os.environ.get("POLYP_DATA", "../shared/data/polyps")) / name
    if not folder.exists():
        pytest.skip(f"no real data in {folder}; set POLYP_DATA")
    return folder


def test_the_real_clinic_set_imports_with_its_video_sequences(tmp_path):
    source = real("CVC-ClinicDB")
    dataset = add_dataset(
        tmp_path, "CVC-ClinicDB", source, groups=source / "meta.csv", group_column="sequence_or_center"
    )
    assert len(dataset.cases) == 524
    assert dataset.groups_known
    assert {(case.height, case.width) for case in dataset.cases} == {(288, 384)}
    assert len({case.group for case in dataset.cases}) == 24


@pytest.mark.parametrize(
    ("name", "num_empty"), [("PolypGen", 22), ("EndoTect2020", 17), ("ETIS-LaribPolypDB", 0)]
)
def test_real_sets_of_many_sizes_and_mask_formats_import(tmp_path, name, num_empty):
    dataset = add_dataset(tmp_path, name, real(name), allow_empty=True)
    assert sum(case.polyp_fraction == 0 for case in dataset.cases) == num_empty


def test_the_original_clinic_tiffs_are_read_in_color():
    folder = real("_raw_samples") / "CVC-ClinicDB"
    frame = read_image(folder / "Original/42.tif").astype(int)
    assert frame.shape == (288, 384, 3)
    assert np.abs(frame[..., 0] - frame[..., 2]).mean() > 20
    assert 0 < read_mask(folder / "Ground Truth/42.tif").mean() < 0.5


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("image", "../../../secret", r"expected the name of a file in images/"),
        ("mask", "/etc/hostname", r"expected the name of a file in masks/"),
        ("image", "a\0b", "expected the name of a file"),
        ("height", -1, "expected height, width"),
        ("polyp_fraction", float("nan"), "from 0 to 1"),
    ],
)
def test_a_manifest_names_files_of_its_dataset_only(tmp_path, key: str, value: object, why: str):
    source = write_tree(tmp_path / "s", {"images/1.png": FRAME, "masks/1.png": MASK})
    manifest = add_dataset(tmp_path / "home", "X", source).folder / "dataset.json"
    content = json.loads(manifest.read_text())
    content["cases"][0][key] = value
    manifest.write_text(json.dumps(content))
    with pytest.raises(BadData, match=why):
        load_dataset(tmp_path / "home", "X")


def edited(tmp_path: Path, source: Path, edit: Callable[[dict[str, Any]], object]) -> Dataset:
    """A dataset whose record was edited by hand."""
    (tmp_path / "g.csv").write_text("name,group,center\n1,12,C1\npositive_329 2,13,\n")
    file = add_dataset(tmp_path, "Clinic", source, groups=tmp_path / "g.csv").folder / "dataset.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return load_dataset(tmp_path, "Clinic")


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record["cases"][0].update(group="Clinic/13"),
        lambda record: record["cases"][0].update(center="C2"),
        lambda record: record["cases"].pop(),
        lambda record: record.update(fingerprint="0" * 32),
    ],
)
def test_a_record_that_was_edited_is_found_out_by_a_check(tmp_path, source, edit):
    assert check_dataset(edited(tmp_path, source, lambda record: record)) == []
    shutil.rmtree(tmp_path / "datasets")
    found = check_dataset(edited(tmp_path, source, edit))
    assert "dataset.json: cases, groups or centers are not those that were imported" in found


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda record: record.update(cases=[]), "lists no case"),
        (lambda record: record.update(cases=record["cases"] * 2), "lists a case more than once"),
    ],
)
def test_a_record_without_cases_or_with_one_twice_is_refused(tmp_path, source, edit, words):
    with pytest.raises(BadData, match=words):
        edited(tmp_path, source, edit)


def test_a_dataset_that_was_copied_by_hand_is_named_by_a_check(tmp_path, source):
    dataset = add_dataset(tmp_path, "Clinic", source)
    shutil.copytree(dataset.folder, dataset.folder.with_name("copy"))
    (problem,) = check_dataset(load_dataset(tmp_path, "copy"))
    assert "is of 'Clinic', but in folder 'copy'" in problem
