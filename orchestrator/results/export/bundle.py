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

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from orchestrator.common.errors import BadBundle
from orchestrator.common.user_documents import parse_json
from orchestrator.data.resize import resize_image, resize_probability
from orchestrator.results.export.bundle_files import (
    LARGEST,
    file_problem,
    first_line,
    graph_problems,
    open_session,
    require_folder,
    sha256,
    weights_problems,
)
from orchestrator.scoring.postprocess import PostProcess

WEIGHT_FILES = ("model.safetensors", "model.onnx")
FILES = (*WEIGHT_FILES, "config.json", "model_card.md")
NAME = (
    r"^[A-Za-z0-9_][A-Za-z0-9_.:#-]{0,99}$"  # of a network; module:function#digest of one of the user's own
)
SHA256 = re.compile(r"[0-9a-f]{64}")
LARGEST_SIDE = 4096  # pixels that a network sees
MOST_MEMBERS = 1000
SHOWN = 20  # problems of a config, at most


class Normalization(BaseModel):
    """Scaling of pixels before the network; any further normalization is part of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(default=255, gt=0, le=65535, description="uint8 values are divided by this")


class PostRules(BaseModel):
    """Post-processing of a mask besides the threshold; see `orchestrator.scoring.postprocess`."""

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

    network: str = Field(pattern=NAME)
    network_params: dict[str, Any]
    share: int = Field(1, ge=1, le=MOST_MEMBERS, description="it counts so many times")


class BundleConfig(BaseModel):
    """The content of config.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["polyp-bundle"] = "polyp-bundle"
    format_version: Literal[1] = 1
    network: str = Field(pattern=NAME)
    network_params: dict[str, Any]
    members: int = Field(
        1,
        ge=1,
        le=MOST_MEMBERS,
        description="networks whose probabilities model.onnx averages; of more than one, model.safetensors "
        "names the weights of each with its number in front: 0.NAME, 1.NAME",
    )
    networks: tuple[MemberNetwork, ...] = Field(
        (), description="the network of each member, and how often it counts; empty: all are alike"
    )
    tta: Literal["none", "flips"] = Field(
        "none", description="flips: model.onnx averages the probabilities of an image and its three flips"
    )
    image_size: int = Field(
        ge=1, le=LARGEST_SIDE, description="side of the square that the network sees, in pixels"
    )
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
        if digests.keys() != set(WEIGHT_FILES) or not all(map(SHA256.fullmatch, digests.values())):
            raise ValueError(
                f"must hold digests, of 64 hex digits, of {' and '.join(WEIGHT_FILES)}, and of nothing else"
            )
        return digests

    @model_validator(mode="after")
    def _counts_its_members(self) -> Self:
        if self.networks and len(self.networks) != self.members:
            raise ValueError(
                f"networks: expected {self.members}, as members says, found {len(self.networks)}"
            )
        return self


@dataclass(frozen=True)
class ExportedModel:
    """A model that was exported, ready to predict."""

    folder: Path
    config: BundleConfig
    session: onnxruntime.InferenceSession

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.resolve().name

    @classmethod
    def load(cls, folder: Path) -> ExportedModel:
        """Read a bundle; BadBundle names every file that is missing, unreadable or not what it was."""
        require_folder(folder)
        refused = {name: problem for name in FILES if (problem := file_problem(folder, name))}
        problems = [f"{name}: {problem}" for name, problem in refused.items()]
        config = None if "config.json" in refused else _read_config(folder / "config.json", problems)
        session = None
        if config is not None:
            session = _opened(
                folder, config, [name for name in WEIGHT_FILES if name not in refused], problems
            )
        if problems or config is None or session is None:
            raise BadBundle(
                str(folder), [*problems, "export the model again with `orchestrator best --export`"]
            )
        return cls(folder, config, session)

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
        try:
            (logits,) = self.session.run(
                ["logits"], {"image": scaled.transpose(2, 0, 1)[None].astype(np.float32)}
            )
        except Exception as error:  # the runtime's exceptions have no class in common
            raise BadBundle(str(self.folder), f"model.onnx does not run: {first_line(error)}") from error
        side = self.config.image_size
        if logits.shape != (1, 1, side, side) or not np.isfinite(logits).all():
            found = "values that are not finite" if logits.shape == (1, 1, side, side) else str(logits.shape)
            raise BadBundle(
                str(self.folder), f"model.onnx: expected logits (1, 1, {side}, {side}), found {found}"
            )
        return _sigmoid(logits[0, 0])


# Models that an earlier version registered in MLflow import the class by this name.
Bundle = ExportedModel


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds the config of a bundle, whatever else is wrong with it."""
    path = folder / "config.json"
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return b'"polyp-bundle"' in file.read(LARGEST["config.json"])


def _read_config(path: Path, problems: list[str]) -> BundleConfig | None:
    try:
        return BundleConfig.model_validate(parse_json(path.read_bytes()))
    except ValidationError as error:
        found = error.errors(include_url=False)
        for problem in found[:SHOWN]:
            key = ".".join(str(part) for part in problem["loc"])
            problems.append(
                f"config.json: {key + ': ' if key else ''}{problem['msg'].removeprefix('Value error, ')}"
            )
        problems += [f"config.json: and {len(found) - SHOWN} more problems"] if len(found) > SHOWN else []
    except ValueError as error:
        problems.append(f"config.json: Invalid JSON: {error}")
    return None


def _opened(
    folder: Path, config: BundleConfig, names: Sequence[str], problems: list[str]
) -> onnxruntime.InferenceSession | None:
    """A session of the graph, where those of the weight files that are there are what the config says of them."""
    changed = [name for name in sorted(names) if sha256(folder / name) != config.sha256[name]]
    problems += [
        f"{name}: its SHA-256 is not the one in config.json; it was damaged or changed" for name in changed
    ]
    if "model.safetensors" in names and "model.safetensors" not in changed:
        problems += weights_problems(folder / "model.safetensors", config.members)
    if "model.onnx" not in names or "model.onnx" in changed:
        return None
    graph = (folder / "model.onnx").read_bytes()
    if refused := graph_problems(graph, config.image_size):
        problems += [f"model.onnx: {problem}" for problem in refused]
        return None
    try:
        return open_session(graph)
    except ValueError as error:
        problems.append(f"model.onnx: {error}")
        return None


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = (1 / (1 + np.exp(-logits.clip(-80, 80)))).astype(np.float32)
    return result
