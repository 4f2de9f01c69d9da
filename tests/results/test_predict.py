from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from orchestrator.errors import BadData
from orchestrator.results.bundle import Bundle
from orchestrator.results.overlay import png
from orchestrator.results.predict import find_images, predict_files, unique_names


@pytest.fixture
def images(tmp_path: Path, photo: np.ndarray) -> Path:
    """A folder of two images and a text."""
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(photo))
    (folder / "b.png").write_bytes(png(photo[:30, ::-1]))
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_every_image_gets_a_mask_of_its_size_and_an_overlay(
    exported: Path, images: Path, photo, tmp_path: Path
):
    bundle = Bundle.load(exported)
    masks = predict_files(bundle, [images], tmp_path / "out")
    assert [mask.name for mask in masks] == ["a_mask.png", "b_mask.png"]
    written = cv2.imread(str(masks[0]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, bundle.predict(photo)[1] * np.uint8(255))
    assert cv2.imread(str(tmp_path / "out" / "b_overlay.png")).shape == (30, 56, 3)


def test_progress_counts_every_image(exported: Path, images: Path, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    predict_files(Bundle.load(exported), [images], tmp_path / "out", lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]


def test_files_that_do_not_decode_are_reported_after_the_others_are_done(
    exported: Path, images: Path, tmp_path
):
    (images / "broken.png").write_bytes(b"nothing")
    (images / "empty.jpg").write_bytes(b"")
    with pytest.raises(BadData) as caught:
        predict_files(Bundle.load(exported), [images], tmp_path / "out")
    assert [Path(problem.split(":")[0]).name for problem in caught.value.problems] == [
        "broken.png",
        "empty.jpg",
    ]
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 2


def test_paths_without_images_are_all_named_before_anything_is_written(
    exported: Path, images: Path, tmp_path
):
    (tmp_path / "bare").mkdir()
    with pytest.raises(BadData) as caught:
        predict_files(Bundle.load(exported), [images, tmp_path / "bare", tmp_path / "gone"], tmp_path / "out")
    assert len(caught.value.problems) == 2 and not (tmp_path / "out").exists()


def test_an_image_is_never_replaced_by_a_mask_or_an_overlay(exported: Path, images: Path):
    for name in ("a_mask.png", "b_overlay.png"):
        (images / name).write_bytes((images / "a.png").read_bytes())
    before = sorted(images.iterdir())
    with pytest.raises(BadData) as refused:
        predict_files(Bundle.load(exported), [images], images)
    assert [Path(problem.split()[0]).name for problem in refused.value.problems] == [
        "a_mask.png",
        "b_overlay.png",
    ]
    assert sorted(images.iterdir()) == before


def test_a_file_that_is_given_twice_is_done_once(images: Path):
    assert len(find_images([images / "a.png", images, images / ".." / "images" / "a.png"])) == 2


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["/x/a.png", "/x/b.png"], ["a", "b"]),
        (["/x/one/a.png", "/x/two/a.png"], ["one_a", "two_a"]),
        (["/x/a.png", "/x/a.jpg"], ["00001_a", "00002_a"]),
        (["/x/a.png", "/x/A.png"], ["00001_a", "00002_A"]),
        (["/x/one/a.png", "/x/one_a.png", "/x/a.png"], ["00001_a", "00002_one_a", "00003_a"]),
    ],
)
def test_names_never_clash(files: list[str], names: list[str]):
    assert unique_names([Path(file) for file in files]) == names
