"""An exported model as a folder, and how to run it: ONNX Runtime, NumPy and OpenCV, no torch.

model.onnx          input image: float32 (B, 3, S, S), RGB in [0, 1]; output logits: float32 (B, 1, S, S)
                    of several networks and views it averages probabilities itself: see `members` and `tta`
model.safetensors   the same weights, for training on
config.json         BundleConfig below
model_card.md       what it is, how well it works, what it must not be used for

An image becomes a mask like this: resize to S x S (orchestrator.data.resize), divide by 255, run, sigmoid,
resize the probabilities back to the size of the image, then `PostProcess.apply`: compare with the threshold,
unless config.json has rules for holes, small components or small polyps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.errors import BadBundle
from orchestrator.scoring.postprocess import PostProcess

WEIGHT_FILES = ("model.safetensors", "model.onnx")
FILES = (*WEIGHT_FILES, "config.json", "model_card.md")


class Normalization(BaseModel):
    """What happens to pixels before the network; anything further, it does itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(default=255, gt=0, description="uint8 values are divided by this")


class PostRules(BaseModel):
    """What makes a mask besides the threshold; see `orchestrator.scoring.postprocess`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    white_level: float | None = Field(
        default=None, description="pixels are white from this probability; null: the threshold"
    )
    reference_area: float = Field(
        default=0.0, description="share of the frame that white must exceed, else no polyp"
    )
    fill_holes: bool = False
    min_component_area: float = Field(
        default=0.0, description="share of the frame; smaller components are dropped"
    )

    @classmethod
    def of(cls, masks: PostProcess) -> PostRules:
        """The rules of `masks`, its threshold left out."""
        return cls.model_validate(
            {key: value for key, value in masks.as_dict().items() if key != "threshold"}
        )


class MemberNetwork(BaseModel):
    """One of several networks that are averaged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    network_params: dict[str, Any]
    share: int = Field(1, ge=1, description="it counts so many times")


class BundleConfig(BaseModel):
    """The content of config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["polyp-bundle"] = "polyp-bundle"
    format_version: Literal[1] = 1
    network: str
    network_params: dict[str, Any]
    members: int = Field(
        1,
        ge=1,
        description="networks whose probabilities model.onnx averages; of more than one, model.safetensors "
        "names the weights of each with its number in front: 0.NAME, 1.NAME",
    )
    networks: tuple[MemberNetwork, ...] = Field(
        (), description="the network of each member, and how often it counts; empty: all are alike"
    )
    tta: Literal["none", "flips"] = Field(
        "none", description="flips: model.onnx averages the probabilities of an image and its three flips"
    )
    image_size: int = Field(ge=1, description="side of the square that the network sees, in pixels")
    normalization: Normalization = Normalization()
    threshold: float = Field(gt=0, lt=1, description="a pixel is polyp at this probability and above; k/256")
    post_processing: PostRules = PostRules()
    trained_on: dict[str, str] = Field(
        description="name -> fingerprint of datasets that training or selection saw"
    )
    held_out: tuple[str, ...] = Field(
        description="ids of the cases of those datasets that neither of them saw"
    )
    twins: tuple[str, ...] = Field(
        (), description="ids of cases of other datasets that show what training or selection saw"
    )
    sha256: dict[str, str] = Field(description="digests of the weight files")

    @property
    def masks(self) -> PostProcess:
        """Threshold and rules together."""
        return PostProcess(threshold=self.threshold, **self.post_processing.model_dump())

    @model_validator(mode="after")
    def _makes_masks(self) -> Self:
        assert self.masks
        return self

    @field_validator("sha256")
    @classmethod
    def _covers_the_weights(cls, digests: dict[str, str]) -> dict[str, str]:
        if missing := sorted(set(WEIGHT_FILES) - digests.keys()):
            raise ValueError(f"must hold digests of {', '.join(WEIGHT_FILES)}, lacks {', '.join(missing)}")
        return digests


@dataclass(frozen=True)
class Bundle:
    """A model that was exported, ready to predict."""

    folder: Path
    config: BundleConfig
    session: onnxruntime.InferenceSession

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """Read a bundle; BadBundle names every file that is missing, unreadable or not what it was."""
        if not folder.is_dir():
            raise BadBundle(str(folder), "expected the folder of an exported model, found no such folder")
        problems = [f"{name}: missing" for name in FILES if not (folder / name).is_file()]
        config = _read_config(folder / "config.json", problems)
        if config is not None:
            problems += _changed_files(folder, config)
        if problems or config is None:
            raise BadBundle(
                str(folder), [*problems, "export the model again with `orchestrator best --export`"]
            )
        return cls(folder, config, _session(folder / "model.onnx"))

    def predict(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """RGB uint8 (H, W, 3) -> probability float32 (H, W) in [0, 1] and mask bool (H, W)."""
        probability = resize_probability(self.network_map(image), *image.shape[:2])
        return probability, self.config.masks.apply(probability)  # the very mask that scoring counts

    def network_map(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """RGB uint8 (H, W, 3) -> probability float32 in [0, 1], the square that the network itself makes."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"expected RGB uint8 (H, W, 3), got {image.dtype} {image.shape}")
        scaled = (
            resize_image(image, self.config.image_size).astype(np.float32) / self.config.normalization.scale
        )
        (logits,) = self.session.run(
            ["logits"], {"image": scaled.transpose(2, 0, 1)[None].astype(np.float32)}
        )
        return _sigmoid(logits[0, 0])


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds the config of a bundle, whatever else is wrong with it."""
    path = folder / "config.json"
    return path.is_file() and '"polyp-bundle"' in path.read_text(encoding="utf-8", errors="replace")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(path: Path, problems: list[str]) -> BundleConfig | None:
    if not path.is_file():
        return None
    try:
        return BundleConfig.model_validate_json(path.read_bytes())
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            key = ".".join(str(part) for part in problem["loc"])
            problems.append(
                f"config.json: {key + ': ' if key else ''}{problem['msg'].removeprefix('Value error, ')}"
            )
        return None


def _changed_files(folder: Path, config: BundleConfig) -> list[str]:
    return [
        f"{name}: its SHA-256 is not the one in config.json; it was damaged or changed"
        for name, digest in sorted(config.sha256.items())
        if (folder / name).is_file() and sha256(folder / name) != digest
    ]


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: hints about graph optimization help nobody here
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    return (1 / (1 + np.exp(-logits.clip(-80, 80)))).astype(np.float32)
