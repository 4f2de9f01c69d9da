"""Atomic save and resume of one fit: after kill -9 at any moment, at most the epoch in flight is lost.

A folder holds `checkpoint.pt` and the weights of the best epoch that it speaks of. Weights are written first and
under the epoch's own name, so a checkpoint never points at weights of another epoch. Checkpoints are not forced to
disk: where the power fails one may be cut short, and its fit starts anew.
"""

from __future__ import annotations

import logging
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from orchestrator.common.files import replacing, write_atomically

logger = logging.getLogger(__name__)


class WrongCheckpoint(Exception):
    """The folder holds the checkpoint of another fit."""


def save_checkpoint(folder: Path, fit_id: str, state: dict[str, Any], best: dict[str, Tensor] | None) -> None:
    """Save the state after an epoch; `best` are the weights of `state["best_epoch"]` if this epoch is the best."""
    folder.mkdir(parents=True, exist_ok=True)
    best_file = folder / f"best-{state['best_epoch']}.safetensors"
    if best is not None:
        write_atomically(best_file, save({name: value.contiguous() for name, value in best.items()}))
    with replacing(
        folder / "checkpoint.pt", sync=False
    ) as file:  # Python's file names a full disk, torch's does not
        torch.save({"fit_id": fit_id, **state}, file)
    for old in folder.glob("best-*.safetensors"):
        if old != best_file:
            old.unlink(missing_ok=True)


def load_checkpoint(folder: Path, fit_id: str) -> dict[str, Any] | None:
    """Return the last saved state, on the CPU, or None where there is none, or one that was damaged.

    Raises `WrongCheckpoint` if it belongs to another fit: to go on from it would report that fit's score.
    """
    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    if (why := _damage(path)) is not None:
        logger.warning("%s %s: its fit starts anew", path, why)
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["fit_id"] != fit_id:
        raise WrongCheckpoint(f"{path} belongs to fit {state['fit_id']}, not to {fit_id}")
    try:
        load_best(folder, state["best_epoch"])
    except (SafetensorError, FileNotFoundError) as error:
        logger.warning("%s: the weights of its best epoch do not read: %s; its fit starts anew", path, error)
        return None
    return state


def _damage(path: Path) -> str | None:
    """Why a file of torch is not what was written, by its checksums."""
    if not zipfile.is_zipfile(path):  # what ends it is missing
        return "was cut short, as when the power fails"
    try:
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:
        return f"was damaged: {error}"
    return f"was damaged in {wrong}" if wrong is not None else None


def load_best(folder: Path, epoch: int) -> dict[str, Tensor]:
    """Return the weights of the best epoch."""
    return load_file(folder / f"best-{epoch}.safetensors")
