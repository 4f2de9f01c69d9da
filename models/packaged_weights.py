"""ImageNet weights that come in packages of the package index, for encoders that can start without a model hub.

packaged_weights.json names them, by timm's names of the encoders: the package, its file, and the file's SHA-256, by
which fits that start from it are named. A package's code is never imported: its file is found and read. It has the
names of the code that it was trained with; its tensors are those of timm's network in the same order and shapes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import torch
from torch import Tensor

EXTRA = "polyp-orchestrator[weights]"
ENTRY = "_conv_stem.weight"  # a tensor that has this name in packages, and none in timm


@dataclass(frozen=True)
class PackagedWeights:
    """A file of an installed package."""

    package: str
    file: str
    sha256: str

    def path(self, encoder: str) -> Path:
        """Where it lies. FileNotFoundError: the package is not installed. ValueError: it holds another file."""
        try:
            path = Path(str(distribution(self.package).locate_file(self.file)))
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except (PackageNotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(
                f"the ImageNet weights of {encoder!r} are in the package {self.package}, which is not installed: "
                f"pip install '{EXTRA}'; or use weights = PATH for those of a local file, "
                "or pretrained = false for random ones"
            ) from error
        if found != self.sha256:
            raise ValueError(
                f"{path} is not the published file of {self.package}: expected SHA-256 {self.sha256}, found {found}; "
                f"pip install --force-reinstall '{EXTRA}' brings it"
            )
        return path


@cache
def _known() -> dict[str, PackagedWeights]:
    text = Path(__file__).with_suffix(".json").read_text("utf-8")
    return {encoder: PackagedWeights(**entry) for encoder, entry in json.loads(text).items()}


def packaged(encoder: str) -> PackagedWeights | None:
    """The package with the ImageNet weights of an encoder of timm, where there is one."""
    return _known().get(encoder.removesuffix(".in1k"))


def in_timms_names(state: dict[str, Tensor], encoder: str, path: Path) -> dict[str, Tensor]:
    """Tensors as read from a package's file, in timm's names; those of other files as they are.

    ValueError: they are not those of the encoder, one by one.
    """
    if ENTRY not in state:
        return state
    import timm

    with torch.device("meta"):
        wanted = timm.create_model(encoder).state_dict()
    differing = [
        f"{theirs} {tuple(value.shape)} for {ours} {tuple(wanted[ours].shape)}"
        for (theirs, value), ours in zip(state.items(), wanted, strict=False)
        if value.shape != wanted[ours].shape
    ]
    if differing or len(state) != len(wanted):
        raise ValueError(
            f"weights: {path} has {len(state)} tensors, expected the {len(wanted)} of {encoder} in their order; "
            f"{len(differing)} have other shapes" + (f", such as {differing[0]}" if differing else "")
        )
    return dict(zip(wanted, state.values(), strict=True))
