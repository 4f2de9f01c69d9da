"""model.fp16.onnx and model.int8.onnx: fewer bits, and what they cost in Dice on images of the study."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from orchestrator.data.cases import Case
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.scoring.metrics import scores_of_masks
from orchestrator.scoring.postprocess import PostProcess


@dataclass(frozen=True)
class StudyImages:
    """Cases of a study that an export may look at."""

    calibration: Sequence[Case]  # that the network was trained on
    measured: Sequence[Case]
    said: str  # which these are: "hold-out test"


@dataclass(frozen=True)
class Loss:
    """Dice of a network of fewer bits and of model.onnx, over the same images, by the same rule for masks."""

    dice: float
    dice_of_model: float  # of model.onnx
    num_images: int
    images: str

    @property
    def loss_of_dice(self) -> float:
        return self.dice_of_model - self.dice


@contextmanager
def quietly() -> Iterator[None]:
    """Context in which onnxruntime's tools log errors only, no warning of layers without a smaller form."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    onnxruntime.set_default_logger_severity(3)  # error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(2)  # warning, as it is when a program begins


@quietly()
def write_half(network: onnx.ModelProto, path: Path) -> None:
    """Write the network with weights and sums of 16 bits; inputs and outputs stay float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copied = onnx.ModelProto()
    copied.CopyFrom(network)
    onnx.save(convert_float_to_float16(copied, keep_io_types=True), path)


@quietly()
def write_int8(source: Path, path: Path, images: StudyImages, size: int, scale: float) -> None:
    """Write weights and activations of 8 bits, ranges from training images; QDQ, one scale a channel."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            _Frames(images.calibration, size, scale),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    """Frames as the network sees them, one at a time."""

    def __init__(self, cases: Sequence[Case], size: int, scale: float) -> None:
        self.batches: Iterator[dict[str, NDArray[np.float32]]] = (
            {"image": _batch(read_image(case.image), size, scale)} for case in cases
        )

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self.batches, None)


def losses(
    model: Path, others: Sequence[Path], images: StudyImages, size: int, scale: float, masks: PostProcess
) -> dict[str, Loss]:
    """The loss of Dice of each other network against `model`, by file name; float32 batches in, logits out."""
    run = {path.name: _runner(path) for path in (model, *others)}
    dice: dict[str, list[float]] = {name: [] for name in run}
    for case in images.measured:
        image, truth = read_image(case.image), read_mask(case.mask)
        batch = _batch(image, size, scale)
        for name, logits in run.items():
            probability = 1 / (1 + np.exp(-logits(batch)[0, 0].clip(-80, 80).astype(np.float32)))
            mask = masks.apply(resize_probability(probability, *truth.shape))
            dice[name].append(scores_of_masks(mask, truth)["dice"])
    means = {name: float(np.mean(values)) for name, values in dice.items()}
    return {
        path.name: Loss(means[path.name], means[model.name], len(images.measured), images.said)
        for path in others
    }


def _batch(image: NDArray[np.uint8], size: int, scale: float) -> NDArray[np.float32]:
    small = resize_image(image, size).astype(np.float32) / scale
    return small.transpose(2, 0, 1)[None].astype(np.float32)


def _runner(path: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(["logits"], {"image": batch})[0]
