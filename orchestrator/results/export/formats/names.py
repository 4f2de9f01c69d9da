"""The forms in which a network can be exported, and which of them are made unasked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.common.errors import BadBundle
from orchestrator.common.names import meant
from orchestrator.scoring.postprocess import PostProcess

FORMATS = {
    "onnx": "model.onnx: the network alone, float32 (B, 3, S, S) to logits; always made, `predict` runs it",
    "pipeline": "pipeline.onnx: an image of any size in, its mask out",
    "torch-export": "model.pt2: for torch.export.load, without our code",
    "fp16": "model.fp16.onnx: half the size, the same inputs and outputs",
    "int8": "model.int8.onnx: a quarter of the size, faster on CPUs with VNNI, calibrated on training images",
    "triton": "triton/: a model repository for Triton Inference Server",
}
# What serves without further code, made in seconds from what is there. The others cost images, minutes or accuracy.
DEFAULT = ("onnx", "pipeline")
OPTION = "--formats"
FACTS = "formats.json"  # what is known of each file: size, difference, loss of Dice
MADE = "made"  # in it: the study, trial and version that the export comes from
WITH_IMAGES = ("fp16", "int8")  # whose loss of Dice is measured on images of the study
NEEDS_LABELS = "fill_holes or min_component_area need connected components, which ONNX has no operator for"


def formats_of(text: str | None, masks: PostProcess | None = None) -> tuple[str, ...]:
    """Comma-separated names in the order of `FORMATS`, with model.onnx; None: the default, as far as `masks` allow.

    Raises `BadBundle` naming each name that is unknown, and what masks by these rules cannot be exported as.
    """
    reason = None if masks is None else why_no_pipeline(masks)
    if text is None:
        return tuple(name for name in DEFAULT if name != "pipeline" or reason is None)
    asked = {name.strip() for name in text.split(",") if name.strip()}
    problems = [_unknown(name) for name in sorted(asked - set(FORMATS))]
    if not asked:
        problems.append(f"expected one or more of {', '.join(FORMATS)}, found none")
    if "pipeline" in asked and reason is not None:
        problems.append(
            f"pipeline: {reason}; leave it out, and use predict.py of the export, which does both"
        )
    if problems:
        raise BadBundle(OPTION, problems)
    return tuple(name for name in FORMATS if name in asked or name == "onnx")


def need_images(formats: Sequence[str]) -> bool:
    """Whether any of these formats needs images of the study, for calibration or for measuring."""
    return any(name in WITH_IMAGES for name in formats)


def only_with_export(folder: str | Path | None, option: str = OPTION) -> None:
    """Raises `BadBundle` where an option of an export is given without a folder to export to."""
    if folder is None:
        raise BadBundle(option, "expected --export FOLDER with it, found none")


def why_no_pipeline(masks: PostProcess) -> str | None:
    """Reason why masks by these rules cannot be made inside ONNX; None where they can."""
    return NEEDS_LABELS if masks.fill_holes or masks.min_component_area else None


def format_lines(folder: Path, formats: Sequence[str], masks: PostProcess) -> Iterator[str]:
    """Lines on an export: why it has no pipeline.onnx, and size and Dice of each form of fewer bits."""
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if "pipeline" not in formats and (reason := why_no_pipeline(masks)):
        yield f"no pipeline.onnx: {reason}; use predict.py"
    for name, known in facts.items():
        if "loss_of_dice" in known:
            yield (
                f"{name}: {known['bytes'] / 1e6:.1f} MB; Dice {100 * known['dice']:.2f} against "
                f"{100 * known['dice_of_model']:.2f} % of model.onnx, over {known['num_images']} images "
                f"({known['images']})"
            )


def _unknown(name: str) -> str:
    return f"no format is named {name!r}; known: {', '.join(FORMATS)}{meant(name, FORMATS)}"
