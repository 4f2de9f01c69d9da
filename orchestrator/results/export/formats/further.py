"""The files of an export besides the network itself: made from model.onnx, checked against it, and described."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from torch import nn

from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.results.export.formats.names import FACTS, MADE
from orchestrator.results.export.formats.pipeline import pipeline
from orchestrator.results.export.formats.triton import write_repository
from orchestrator.scoring.postprocess import PostProcess

PREDICT = "predict.py"
NAMES = {
    "pipeline": "pipeline.onnx",
    "torch-export": "model.pt2",
    "fp16": "model.fp16.onnx",
    "int8": "model.int8.onnx",
    "triton": "triton",
}
FURTHER = (
    *NAMES.values(),
    PREDICT,
    FACTS,
)  # what may lie in an export besides the files that every export has
CLOSE = 1e-3  # probabilities that are so near the threshold may be either side of it
SIZES = ((0.8, 1.1), (1.7, 2.3))  # of images that a pipeline is checked on, in sides of the network's square


@dataclass(frozen=True)
class Source:
    """The exported network, and the parameters that make masks of images by it."""

    prediction: nn.Module  # float32 (B, 3, size, size) in [0, 1] -> logits
    name: str
    size: int
    scale: float
    masks: PostProcess


def write_further(
    folder: Path, source: Source, formats: Sequence[str], metadata: Mapping[str, str], images: Any = None
) -> None:
    """Add predict.py, these formats and formats.json to a folder with model.onnx.

    `images`: a `StudyImages`, needed for fp16 and int8. RuntimeError where a file disagrees with model.onnx.
    """
    shutil.copyfile(Path(__file__).with_name("standalone.py"), folder / PREDICT)
    facts: dict[str, dict[str, Any]] = {}
    if "pipeline" in formats:
        facts[NAMES["pipeline"]] = _write_pipeline(folder, source, metadata)
    if "torch-export" in formats:
        from orchestrator.results.export.formats.torch_program import write_program

        path = folder / NAMES["torch-export"]
        facts[path.name] = {
            "largest_difference_of_logits": write_program(source.prediction, source.size, path)
        }
    facts |= _write_fewer_bits(folder, source, formats, images)
    if "triton" in formats:
        graph = folder / NAMES["pipeline"]
        write_repository(
            graph if graph.exists() else folder / "model.onnx", source.name, folder / NAMES["triton"]
        )
    sizes = {name: {"bytes": (folder / name).stat().st_size} for name in ("model.onnx", *facts)}
    content: dict[str, dict[str, Any]] = {name: known | facts.get(name, {}) for name, known in sizes.items()}
    content[MADE] = dict(metadata)
    (folder / FACTS).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_pipeline(folder: Path, source: Source, metadata: Mapping[str, str]) -> dict[str, Any]:
    network = onnx.load(folder / "model.onnx")
    whole = pipeline(network, source.size, source.scale, source.masks, metadata)
    path = folder / NAMES["pipeline"]
    onnx.save(whole, path)
    difference = _pipeline_difference(folder, path, source)
    return {"largest_difference_of_probabilities": difference}


def _pipeline_difference(folder: Path, path: Path, source: Source) -> float:
    """Largest difference in probability between pipeline.onnx and our own steps, on random images.

    The images are larger and smaller than the input. RuntimeError for a difference that is too large.
    """
    network, whole = (
        onnxruntime.InferenceSession(one, providers=["CPUExecutionProvider"])
        for one in (folder / "model.onnx", path)
    )
    generator, differences = np.random.default_rng(0), []
    for height, width in ((int(a * source.size) + 1, int(b * source.size) + 1) for a, b in SIZES):
        image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = _our_probability(network, image, source)
        found, mask = whole.run(["probability", "mask"], {"image": image})
        differences.append(float(np.abs(found - expected).max()))
        clear = np.abs(expected - source.masks.threshold) > CLOSE
        same = (mask == source.masks.apply(expected)) | ~clear
        if not differences[-1] <= CLOSE or not (same.all() or source.masks.reference_area):
            raise RuntimeError(f"{path.name} differs from our own steps by {differences[-1]:.2g}")
    return max(differences)


def _our_probability(
    network: onnxruntime.InferenceSession, image: NDArray[np.uint8], source: Source
) -> NDArray[np.float32]:
    small = (resize_image(image, source.size).astype(np.float32) / source.scale).astype(np.float32)
    (logits,) = network.run(["logits"], {"image": small.transpose(2, 0, 1)[None]})
    probability = (1 / (1 + np.exp(-logits[0, 0].clip(-80, 80)))).astype(np.float32)
    return resize_probability(probability, *image.shape[:2])


def _write_fewer_bits(
    folder: Path, source: Source, formats: Sequence[str], images: Any
) -> dict[str, dict[str, Any]]:
    """Write fp16 and int8; returns the facts of each by file name, its loss of Dice among them."""
    made = [folder / NAMES[name] for name in ("fp16", "int8") if name in formats]
    if not made:
        return {}
    from orchestrator.results.export.formats.fewer_bits import losses, write_half, write_int8

    if images is None:
        raise ValueError("fp16 and int8 are measured on images, and none were given")
    model = folder / "model.onnx"
    if "fp16" in formats:
        write_half(onnx.load(model), folder / NAMES["fp16"])
    if "int8" in formats:
        write_int8(model, folder / NAMES["int8"], images, source.size, source.scale)
    found = losses(model, made, images, source.size, source.scale, source.masks)
    facts = {name: asdict(loss) | {"loss_of_dice": loss.loss_of_dice} for name, loss in found.items()}
    if "int8" in formats:
        facts[NAMES["int8"]]["calibrated_on"] = len(images.calibration)
    return facts
