"""pipeline.onnx and predict.py: the masks of `orchestrator predict`, without its code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from orchestrator import models
from orchestrator.common.errors import BadBundle, BadData
from orchestrator.data.images import read_image
from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.results.export.bundle import ExportedModel
from orchestrator.results.export.formats import standalone
from orchestrator.results.export.formats.names import formats_of
from orchestrator.results.export.formats.pipeline import pipeline
from orchestrator.results.export.predict import predict_files
from orchestrator.results.export.write import write_bundle
from orchestrator.scoring.postprocess import PostProcess

SIDE = 32
# Height and width: both shrink, one grows, both grow, halves, the network's own, one line, a large frame.
SHAPES = [(40, 56), (31, 90), (90, 31), (20, 25), (64, 64), (32, 32), (32, 97), (1, 50), (1, 1), (540, 960)]
RULES = [
    PostProcess(131 / 256),
    PostProcess(175 / 256, reference_area=0.6),
    PostProcess(120 / 256, white_level=180 / 256, reference_area=0.4),
]


def frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    """RGB of smooth random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def export(
    folder: Path,
    network: nn.Module,
    masks: PostProcess = RULES[0],
    side: int = SIDE,
    formats: tuple[str, ...] = ("onnx", "pipeline"),
) -> Path:
    return write_bundle(
        folder,
        [network],
        network_name="tiny",
        network_params={},
        image_size=side,
        masks=masks,
        trained_on={},
        held_out=(),
        card="# Card\n",
        formats=formats,
        metadata={"study": "colon"},
    )


def session_of(graph: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    source = graph if isinstance(graph, Path) else graph.SerializeToString()
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def bundle(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("pipeline") / "bundle", network)


@pytest.mark.parametrize("masks", RULES)
def test_a_pipeline_makes_our_masks_at_every_size(bundle: Path, masks: PostProcess):
    ours = ExportedModel.load(bundle)
    run = session_of(pipeline(onnx.load(bundle / "model.onnx"), SIDE, 255, masks, {}))
    areas, differ = [], 0
    for seed, shape in enumerate(SHAPES):
        image = frame(*shape, seed)
        expected = ours.predict(image)[0]
        probability, mask = run.run(["probability", "mask"], {"image": image})
        np.testing.assert_allclose(probability, expected, atol=2e-3)
        assert mask.dtype == np.uint8 and mask.shape == shape
        areas.append(mask.mean())
        differ += np.sum(mask != masks.apply(expected))
    assert differ <= 1e-4 * sum(height * width for height, width in SHAPES)
    assert 0 < np.mean(areas) < 1 and (masks.reference_area == 0 or 0 in areas)


def test_a_pipeline_says_what_goes_in_and_comes_out(bundle: Path):
    told = session_of(bundle / "pipeline.onnx").get_modelmeta().custom_metadata_map
    assert told["color_order"] == "RGB" and "uint8 (height, width, 3)" in told["input"]
    assert told["threshold"] == str(131 / 256) and told["study"] == "colon" and told["network"] == "tiny"
    assert told["version"] and json.loads(told["post_processing"])["reference_area"] == 0


def test_masks_that_onnx_cannot_make_are_refused_when_asked_for_and_left_out_when_not():
    masks = PostProcess(0.5, fill_holes=True)
    assert formats_of(None, masks) == ("onnx",) and formats_of(None, RULES[1]) == ("onnx", "pipeline")
    with pytest.raises(
        BadBundle, match=r"pipeline: fill_holes .* no operator for; leave it out, and use predict\.py"
    ):
        formats_of("pipeline,fp16", masks)
    with pytest.raises(BadBundle, match="did you mean int8") as caught:
        formats_of("int4,coreml")
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("side", [32, 97])
def test_predict_py_resizes_byte_for_byte_as_we_do(side: int):
    for seed, shape in enumerate([*SHAPES, (97, 194), (194, 194), (1080, 1920)]):
        image = frame(*shape, seed)
        differ = np.abs(standalone.resized(image, side).astype(int) - resize_image(image, side))
        assert differ.max() <= 1 and differ.mean() < 0.005
        grown = np.random.default_rng(seed).random((side, side), dtype=np.float32)
        np.testing.assert_allclose(
            standalone.enlarged(grown, *shape), resize_probability(grown, *shape), atol=5e-5
        )


def test_predict_py_applies_every_rule_for_masks():
    generator = np.random.default_rng(0)
    for number in range(48):
        size = generator.integers(5, 70, 2)
        small = generator.random(size // 3 + 2, dtype=np.float32)
        probability = cv2.resize(small, (int(size[1]), int(size[0])))
        rules = {
            "fill_holes": bool(number % 2),
            "min_component_area": (0.0, 0.01, 0.06)[number % 3],
            "reference_area": (0.0, 0.1, 0.4)[number // 3 % 3],
            "white_level": (None, 150 / 256)[number // 2 % 2],
        }
        model = standalone.Model.__new__(standalone.Model)
        model.config = {"threshold": 0.5, "post_processing": rules}
        np.testing.assert_array_equal(model.mask(probability), PostProcess(0.5, **rules).apply(probability))


# Whatever predict.py needs must be there without these.
BLOCKER = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "orchestrator", "cv2", "tifffile", "onnx", "scipy"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
"""


def predict_py(bundle: Path, paths: list[Path], out: Path, site: Path) -> subprocess.CompletedProcess[str]:
    (site / "sitecustomize.py").write_text(BLOCKER)
    return subprocess.run(
        [sys.executable, bundle / "predict.py", *paths, "--out", out],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )


def test_predict_py_gives_the_masks_of_predict_with_numpy_onnxruntime_and_pillow_alone(
    bundle: Path, tmp_path: Path
):
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    names = ("a.png", "sub/a.jpg", "b.tif", "c.webp", "c.png")
    for seed, (name, shape) in enumerate(zip(names, SHAPES, strict=False)):
        Image.fromarray(frame(*shape, seed)).save(images / name)
    (images / "broken.png").write_bytes(b"nothing")
    ours = predict_files(ExportedModel.load(bundle), [images], tmp_path / "ours")
    done = predict_py(bundle, [images], tmp_path / "theirs", tmp_path)
    assert done.returncode == 2 and "5 masks" in done.stdout and "broken.png" in done.stderr, done.stderr
    for one in ours.done:
        theirs = tmp_path / "theirs" / one.mask.relative_to(tmp_path / "ours")
        np.testing.assert_array_equal(np.array(Image.open(theirs)), np.array(Image.open(one.mask)))
    assert (tmp_path / "theirs" / "polyps.csv").read_bytes() == (
        tmp_path / "ours" / "polyps.csv"
    ).read_bytes()


def test_masks_that_predict_py_left_in_another_folder_are_images_neither_to_it_nor_to_predict(
    bundle: Path, tmp_path: Path
):
    (images := tmp_path / "images").mkdir()
    Image.fromarray(frame(20, 25)).save(images / "a.png")
    for out in ("first", "second"):
        done = predict_py(bundle, [images], images / out, tmp_path)
        assert done.returncode == 0 and "1 masks" in done.stdout, done.stderr
    assert "results of an earlier run: a_mask.png, polyps.csv" in done.stderr
    ours = predict_files(ExportedModel.load(bundle), [images], images / "third")
    assert [one.image.name for one in ours.done] == ["a.png"]


def test_predict_py_names_masks_and_passes_over_files_as_predict_does(bundle: Path, tmp_path: Path):
    left, right, site = tmp_path / "in" / "left", tmp_path / "in" / "right", tmp_path / "site"
    for folder in (left, right, site):
        folder.mkdir(parents=True)
    for name in ("a.png", "a.JPG", "a.png.png", "._a.png", "movie.txt"):
        Image.fromarray(frame(20, 25)).save(left / name, "PNG")
    Image.fromarray(frame(20, 25)).save(right / "a.png")
    (left / "loop").symlink_to(left)
    Image.new("1", (14_000, 14_000)).save(left / "bomb.png")
    ours = predict_files(ExportedModel.load(bundle), [left, right], tmp_path / "ours")
    for _ in range(2):  # masks of the first time are no images of the second
        done = predict_py(bundle, [left, right], left / "out", site)
        assert done.returncode == 2 and "4 masks" in done.stdout, done.stderr
        assert "bomb.png: expected at most 89,000,000 pixels" in done.stderr
        assert (
            "passed over 1 files that are not images, or results of an earlier run: movie.txt" in done.stderr
        )
    theirs = {path.relative_to(left / "out") for path in (left / "out").rglob("*.png")}
    assert theirs == {one.mask.relative_to(tmp_path / "ours") for one in ours.done} and len(theirs) == 4


def test_predict_py_replaces_no_image_by_a_mask(bundle: Path, tmp_path: Path):
    for name in ("a.png", "a_mask.png"):
        Image.fromarray(frame(20, 25)).save(tmp_path / name)
    before = (tmp_path / "a_mask.png").read_bytes()
    done = predict_py(bundle, [tmp_path], tmp_path, tmp_path)
    assert done.returncode == 2 and "would be replaced" in done.stderr
    assert (tmp_path / "a_mask.png").read_bytes() == before


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr", "P"])
def test_a_tiff_of_other_colors_is_refused_by_predict_and_predict_py(mode: str, tmp_path: Path):
    path = tmp_path / "a.tif"
    photo = Image.fromarray(frame(20, 25))
    (photo.quantize(8) if mode == "P" else photo.convert(mode)).save(path)
    with pytest.raises(BadData, match="expected a grey or RGB picture"):
        read_image(path)
    with pytest.raises(ValueError, match="expected a grey or RGB picture"):
        standalone.read_rgb(path)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "unet" else pytest.mark.slow) for name in models.names()],
)
def test_a_network_of_ours_becomes_a_pipeline(name: str, tmp_path: Path):
    torch.manual_seed(0)
    small = {"unet": {"base_channels": 4}}.get(name, {})
    pretrained = {"pretrained": False} if "pretrained" in models.params(name) else {}
    network = models.build(name, **small, **pretrained)
    folder = export(tmp_path / "bundle", network, side=models.stride(name) * (2 if name == "unet" else 4))
    image = frame(75, 130)
    expected, _ = ExportedModel.load(folder).predict(image)
    (found,) = session_of(folder / "pipeline.onnx").run(["probability"], {"image": image})
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.skipif("POLYP_DATA" not in os.environ, reason="POLYP_DATA names no folder with real images")
def test_a_pipeline_makes_our_masks_of_real_images(network: nn.Module, tmp_path: Path):
    folder = export(tmp_path / "bundle", network, side=352)
    ours, run = ExportedModel.load(folder), session_of(folder / "pipeline.onnx")
    same = total = 0
    for files in (sorted(one.iterdir()) for one in Path(os.environ["POLYP_DATA"]).glob("*/images")):
        for file in files[:: max(1, len(files) // 12)]:
            image = read_image(file)
            (mask,) = run.run(["mask"], {"image": image})
            same, total = same + np.sum(mask == ours.predict(image)[1]), total + mask.size
    assert total > 0 and same / total >= 0.9999
