from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from orchestrator import models
from orchestrator.cli import app
from orchestrator.common.errors import BadData, BadMachine
from orchestrator.data.spelling import folded
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.predict import predict_files
from orchestrator.results.export.prediction.device import TorchSession, network_of, on_device
from orchestrator.results.export.prediction.inputs import find_inputs, unique_names
from orchestrator.results.export.prediction.videos import _times
from orchestrator.results.export.write import write_bundle
from orchestrator.results.views.overlay import png
from orchestrator.scoring.postprocess import PostProcess


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
    bundle = ExportedModel.load(exported)
    first, second = predict_files(bundle, [images], tmp_path / "out").done
    assert (first.mask.name, second.mask.name) == ("a_mask.png", "b_mask.png")
    written = cv2.imread(str(first.mask), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, bundle.predict(photo)[1] * np.uint8(255))
    assert first.polyp_fraction == (written > 0).mean()
    assert cv2.imread(str(second.overlay)).shape == (30, 56, 3)


def test_progress_counts_every_image(exported: Path, images: Path, tmp_path: Path):
    seen: list[tuple[int, int]] = []
    predict_files(ExportedModel.load(exported), [images], tmp_path / "out", lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]


def test_files_that_do_not_decode_are_named_after_the_others_are_done(exported: Path, images: Path, tmp_path):
    (images / "broken.png").write_bytes(b"nothing")
    (images / "empty.jpg").write_bytes(b"")
    found = predict_files(ExportedModel.load(exported), [images], tmp_path / "out")
    assert [path.name for path in found.failed] == ["broken.png", "empty.jpg"]
    assert (
        "the file" not in "".join(found.failed.values())
        and "it is empty" in found.failed[images / "empty.jpg"]
    )
    assert len(list((tmp_path / "out").glob("*_mask.png"))) == 2
    with pytest.raises(BadData, match="2 of 4 images are done"):
        found.refuse_failed()


def test_results_lie_as_the_images_do_and_every_kind_of_image_is_found(
    exported: Path, images: Path, photo, tmp_path: Path
):
    (images / "sub" / "deep").mkdir(parents=True)
    for name in ("w.webp", "sub/x.JPG", "sub/deep/a.png", "sub/deep/a.bmp", "sub/t.TIF"):
        Image.fromarray(photo).save(images / name)
    found = predict_files(ExportedModel.load(exported), [images], tmp_path / "out")
    names = {one.mask.relative_to(tmp_path / "out").as_posix() for one in found.done}
    deep = {"sub/deep/a.bmp_mask.png", "sub/deep/a.png_mask.png"}
    assert names == {"a_mask.png", "b_mask.png", "w_mask.png", "sub/x_mask.png", "sub/t_mask.png"} | deep


def test_what_is_passed_over_is_counted_and_named_with_the_way_out(images: Path):
    for name in (".DS_Store", "Thumbs.db", "scan.dcm", "set.zip"):
        (images / name).write_bytes(b"1")
    os.mkfifo(images / "pipe.png")
    (images / "gone.png").symlink_to("nowhere")
    line = find_inputs([images]).passed_over_line()
    assert line.startswith("passed over 5 files: ") and ", notes.txt, " in line and "Thumbs" not in line
    assert all(why in line for why in ("DICOM", "unpack", "neither a file nor a folder", "link to nothing"))


def test_an_animation_is_not_predicted_by_its_first_picture(exported: Path, tmp_path: Path):
    first, second = (Image.fromarray(np.full((40, 40, 3), n, np.uint8)) for n in (9, 99))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    found = predict_files(ExportedModel.load(exported), [tmp_path / "a.png"], tmp_path / "out")
    assert "found an animation of 2" in found.failed[tmp_path / "a.png"]


def test_links_that_lead_back_are_passed_over_and_named(images: Path):
    (images / "loop").symlink_to(".")
    assert "loop (the same folder as .)" in find_inputs([images]).passed_over_line()


def test_results_of_names_that_differ_in_their_unicode_form_are_told_apart(tmp_path: Path):
    files = [tmp_path / "\u00e9.png", tmp_path / "e\u0301.png"]
    assert len({folded(name) for name in unique_names(files, tmp_path)}) == 2


def clip(path: Path, frames: list[np.ndarray], rate: float = 12.5) -> Path:
    """A lossless video of RGB frames."""
    height, width = frames[0].shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), rate, (width, height))
    for frame in frames:
        video.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    video.release()
    return path


def frames_of(path: Path) -> tuple[list[np.ndarray], float]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return frames, video.get(cv2.CAP_PROP_FPS)


def test_a_video_becomes_a_video_of_masks_and_one_to_look_at_at_its_rate(
    exported: Path, photo, tmp_path: Path
):
    seen: list[tuple[int, int]] = []
    source = clip(tmp_path / "clip.avi", [photo, photo[::-1].copy(), 255 - photo])
    bundle = ExportedModel.load(exported)
    (video,) = predict_files(
        bundle, [source], tmp_path / "out", lambda *step: seen.append(step), probabilities=True
    ).videos
    given, _ = frames_of(source)
    masks, rate = frames_of(tmp_path / "out" / "clip_mask.mkv")
    assert rate == video.frames_per_second == 12.5 and len(masks) == len(video.frames) == 3
    for mask, image in zip(masks, given, strict=True):
        np.testing.assert_array_equal(mask[..., 0], bundle.predict(image)[1] * np.uint8(255))
    overlays, rate = frames_of(tmp_path / "out" / "clip_overlay.mp4")
    assert rate == 12.5 and len(overlays) == 3 and overlays[0].shape == photo.shape
    shades, _ = frames_of(tmp_path / "out" / "clip_probability.mkv")
    assert np.abs(shades[0][..., 0] / 255 - bundle.predict(given[0])[0]).max() < 0.003
    assert seen[-1] == (3, 3) and {one.name for one in (tmp_path / "out").iterdir()} == {
        *("clip_mask.mkv", "clip_overlay.mp4", "clip_probability.mkv", "polyps.csv")
    }


def late(path: Path, image: np.ndarray) -> Path:
    """A video of six equal frames at 25 a second, of which the last three come half a second late."""
    height, width = image.shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for _ in range(6):
        video.write(image)
    video.release()
    stored = path.read_bytes()
    for number in (3, 4, 5):  # Matroska: track, milliseconds, flags, and the JPEG begins
        on_time, moved = (
            b"\x81" + struct.pack(">h", 40 * number + more) + b"\x80\xff\xd8" for more in (0, 500)
        )
        assert stored.count(on_time) == 1
        stored = stored.replace(on_time, moved)
    path.write_bytes(stored)
    return path


def test_frames_of_a_video_whose_rate_varies_have_their_own_times(exported: Path, tmp_path: Path):
    source = late(tmp_path / "late.mkv", np.zeros((40, 56, 3), np.uint8))
    found = predict_files(ExportedModel.load(exported), [source], tmp_path / "out")
    rows = csv.DictReader((tmp_path / "out" / "polyps.csv").read_text().splitlines())
    assert [row["seconds"] for row in rows] == ["0.000", "0.040", "0.080", "0.620", "0.660", "0.700"]
    assert "its frame rate varies" in " ".join(found.lines()) and "up to 0.50 s off" in " ".join(
        found.lines()
    )


def test_frames_of_a_file_without_times_are_timed_by_the_rate_and_that_is_said():
    assert _times([0.0, 0.0, 0.0], 25) == ((0.0, 0.04, 0.08), False)
    assert _times([0.0, 0.5], 25) == ((0.0, 0.5), True)


def test_a_folder_that_cannot_be_made_is_named(exported: Path, images: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BadData, match=r"--out .*file/out: expected a folder at .*file, found a file"):
        predict_files(ExportedModel.load(exported), [images], tmp_path / "file" / "out")


def test_a_video_of_odd_size_loses_no_row_and_no_column(exported: Path, photo, tmp_path: Path):
    odd = photo[: photo.shape[0] // 2 * 2 - 1, : photo.shape[1] // 2 * 2 - 1].copy()
    height, width = odd.shape[:2]
    source = tmp_path / "odd.avi"
    code = cv2.VideoWriter.fourcc(*"MJPG")
    video = cv2.VideoWriter(str(source), cv2.CAP_OPENCV_MJPEG, code, 10.0, (width, height))
    video.write(odd)
    video.release()
    bundle = ExportedModel.load(exported)
    done = predict_files(bundle, [source], tmp_path / "out")
    (given,), (mask,) = frames_of(source)[0], frames_of(tmp_path / "out" / "odd_mask.mkv")[0]
    assert given.shape[:2] == (height, width) and mask.shape[:2] == (height + 1, width + 1)
    expected = bundle.predict(given)[1] * np.uint8(255)
    np.testing.assert_array_equal(mask[:height, :width, 0], expected)
    assert "1 more row below and 1 more column to" in " ".join(done.lines())


def test_a_video_that_breaks_off_or_is_none_is_named_and_leaves_nothing(
    exported: Path, photo, tmp_path: Path
):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 56, 3), dtype=np.uint8)
    whole = clip(tmp_path / "whole.avi", list(noise))
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mov").touch()
    (tmp_path / "a.png").write_bytes(png(photo))
    found = predict_files(ExportedModel.load(exported), [tmp_path], tmp_path / "out")
    told = {path.name: why for path, why in found.failed.items()}
    assert told["empty.mov"] == "it is empty (0 bytes)" and "does not decode as a video" in told["text.mp4"]
    assert "expected 30 frames" in told["cut.avi"]
    assert len(list((tmp_path / "out").iterdir())) == 3
    with pytest.raises(BadData, match="1 of 4 files are done"):
        found.refuse_failed()


QUIETLY = """
import sys
from pathlib import Path
from orchestrator.results.export.prediction.videos import num_frames, opened
assert num_frames(Path(sys.argv[1])) == 0 and num_frames(Path(sys.argv[2])) == 30
with opened(Path(sys.argv[2])) as (frames, _, _):
    assert 0 < len(list(frames)) < 30
"""


def test_ffmpeg_writes_no_lines_of_its_own_about_damaged_videos(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 56, 3), dtype=np.uint8)
    whole, text = clip(tmp_path / "cut.mkv", list(noise)), tmp_path / "text.mp4"
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    text.write_text("no video")
    done = subprocess.run([sys.executable, "-c", QUIETLY, text, whole], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_table_has_the_area_and_the_number_of_polyps_of_every_image(
    exported: Path, images: Path, tmp_path: Path
):
    clip(images / "c.avi", [np.zeros((40, 56, 3), np.uint8)] * 2, rate=5)
    found = predict_files(ExportedModel.load(exported), [images], tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "polyps.csv").read_text().splitlines()))
    assert [(Path(row["file"]).name, row["frame"], row["seconds"]) for row in rows] == [
        *(("a.png", "", ""), ("b.png", "", "")),
        *(("c.avi", "1", "0.000"), ("c.avi", "2", "0.200")),
    ]
    mask = cv2.imread(str(found.done[0].mask), cv2.IMREAD_UNCHANGED) > 0
    assert int(rows[0]["polyp_pixels"]) == mask.sum() and float(rows[0]["polyp_fraction"]) == mask.mean()
    assert int(rows[0]["polyp_count"]) == cv2.connectedComponents(mask.astype(np.uint8))[0] - 1


def test_maps_of_probabilities_have_sixteen_bits(exported: Path, images: Path, photo, tmp_path: Path):
    bundle = ExportedModel.load(exported)
    first, _ = predict_files(bundle, [images], tmp_path / "out", probabilities=True).done
    stored = cv2.imread(str(first.probability), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16 and first.probability.name == "a_probability.png"
    np.testing.assert_allclose(stored / 65535, bundle.predict(photo)[0], atol=1e-5)


@pytest.mark.slow
def test_the_weights_of_a_bundle_predict_in_pytorch_what_its_graph_does(photo: np.ndarray, tmp_path: Path):
    torch.manual_seed(0)
    networks = [models.build("unet", base_channels=4) for _ in range(2)]
    folder = write_bundle(
        tmp_path / "pair",
        networks,
        network_name="unet",
        network_params={"base_channels": 4},
        image_size=32,
        masks=PostProcess(),
        trained_on={},
        held_out=(),
        card="",
    )
    bundle = ExportedModel.load(folder)
    moved = replace(bundle, session=TorchSession(network_of(bundle), torch.device("cpu")))
    np.testing.assert_allclose(moved.predict(photo)[0], bundle.predict(photo)[0], atol=1e-5)
    assert on_device(bundle, "cpu") == (bundle, "the CPU (ONNX Runtime)")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_no_reason_to_take_the_cpu_in_silence(exported: Path):
    with pytest.raises(BadMachine, match="expected a GPU"):
        on_device(ExportedModel.load(exported), "cuda")
    assert on_device(ExportedModel.load(exported), "auto")[1].startswith("the CPU")


def test_paths_without_images_are_all_named_before_anything_is_written(
    exported: Path, images: Path, tmp_path
):
    (tmp_path / "bare").mkdir()
    with pytest.raises(BadData) as caught:
        predict_files(
            ExportedModel.load(exported), [images, tmp_path / "bare", tmp_path / "gone"], tmp_path / "out"
        )
    assert len(caught.value.problems) == 2 and not (tmp_path / "out").exists()


def test_an_image_is_never_replaced_by_a_mask_or_an_overlay(exported: Path, images: Path):
    for name in ("a_mask.png", "b_overlay.png"):
        (images / name).write_bytes((images / "a.png").read_bytes())
    before = sorted(images.iterdir())
    with pytest.raises(BadData) as refused:
        predict_files(ExportedModel.load(exported), [images], images)
    assert [Path(problem.split()[0]).name for problem in refused.value.problems] == [
        "a_mask.png",
        "b_overlay.png",
    ]
    assert sorted(images.iterdir()) == before


def test_results_of_an_earlier_run_below_the_images_are_no_images(exported: Path, images: Path):
    bundle = ExportedModel.load(exported)
    first, second = (predict_files(bundle, [images], images / "out") for _ in range(2))
    assert first.done == second.done and len(first.done) == 2
    assert "out (where results go, with 5 files)" in second.inputs.passed_over_line()


@pytest.mark.parametrize("out", [str, os.path.relpath])
def test_results_between_the_images_are_no_images_the_next_time(exported: Path, images: Path, out):
    bundle = ExportedModel.load(exported)
    (images / "broken.png").unlink(missing_ok=True)
    first, second = (predict_files(bundle, [images], Path(out(images))) for _ in range(2))
    assert [one.image for one in first.done] == [one.image for one in second.done]
    assert set(second.inputs.passed_over.values()) >= {"result of an earlier prediction"}


@pytest.mark.parametrize("first", ["masks", "."])
def test_results_of_an_earlier_run_in_another_folder_are_no_images(exported: Path, images: Path, first: str):
    bundle = ExportedModel.load(exported)
    good = find_inputs([images]).images
    (images / "broken.png").unlink(missing_ok=True)
    before = predict_files(bundle, [images], images / first, probabilities=True)
    again = predict_files(bundle, [images], images / "others")
    assert [one.image for one in again.done] == [one.image for one in before.done] and good
    results = [why for why in again.inputs.passed_over.values() if why == "result of an earlier prediction"]
    assert len(results) == 3 * len(before.done)


def test_a_file_that_is_given_twice_is_done_once(images: Path):
    given = [images / "a.png", images, images / ".." / "images" / "a.png"]
    assert len(find_inputs(given).images) == 2


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a.png", "b.png"], ["a", "b"]),
        (["one/a.png", "two/a.png"], ["one/a", "two/a"]),
        (["a.png", "a.jpg", "b.png"], ["a.png", "a.jpg", "b"]),
        (["a.png", "a.jpg", "a.png.bmp"], ["a.png.7f0712", "a.jpg", "a.png.bmp"]),
        (["one/a.png", "one_a.png", "a.png"], ["one/a", "one_a", "a"]),
    ],
)
def test_names_never_clash(files: list[str], names: list[str]):
    assert list(unique_names([Path("/x", file) for file in files], Path("/x"))) == names


def test_names_that_differ_in_case_alone_and_long_ones_have_digits_of_their_own():
    names = unique_names([Path("/x/a.png"), Path("/x/A.png"), Path("/x", "b" * 250 + ".png")], Path("/x"))
    assert len({name.casefold() for name in names}) == 3 and max(map(len, names)) < 210
    assert unique_names([Path("/x/A.png"), Path("/x/B.png"), Path("/x/a.png")], Path("/x"))[::2] == (
        names[1],
        names[0],
    )


def test_the_command_line_says_what_it_did_not_do_and_ends_with_2_where_an_image_failed(
    exported: Path, images: Path, tmp_path: Path
):
    words = ["predict", str(exported), str(images), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0 and "passed over 1 file: notes.txt" in told.stderr and "2 masks" in told.stdout
    (images / "broken.png").write_bytes(b"nothing")
    told = CliRunner().invoke(app, [*words, "--json"])
    said = json.loads(told.stdout)
    assert isinstance(told.exception, BadData) and len(said["images"]) == 2
    assert said["failed"][0]["image"] == str(images / "broken.png")
    assert said["passed_over"] == [{"file": str(images / "notes.txt"), "reason": ""}]


def test_masks_lie_on_the_upright_image_and_how_many_are_not_stored_so_is_reported(
    exported: Path, photo, tmp_path: Path
):
    exif = Image.Exif()
    exif[274] = 6
    for name, tags in (("turned.png", exif), ("plain.png", Image.Exif())):
        Image.fromarray(photo).save(tmp_path / name, exif=tags)
    words = ["predict", str(exported), *(str(tmp_path / name) for name in ("turned.png", "plain.png"))]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert "EXIF: 1 of 2 images are not stored upright; their masks are" in done.stderr
    turned = cv2.imread(str(tmp_path / "out/turned_mask.png"), cv2.IMREAD_UNCHANGED)
    assert turned.shape == photo.shape[1::-1]
