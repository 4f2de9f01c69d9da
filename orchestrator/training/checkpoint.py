"""Atomic save and resume of one fit: after kill -9 at any time, at most the current epoch is lost.

A folder has `checkpoint.pt` and the weights of the best epoch that it refers to. Weights are written first and
under the epoch's own name, so a checkpoint never refers to weights of another epoch. Checkpoints are not synced to
disk: a power failure may truncate one, and its fit then restarts.
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
    """Raised for a folder with the checkpoint of another fit."""


def save_checkpoint(folder: Path, fit_id: str, state: dict[str, Any], best: dict[str, Tensor] | None) -> None:
    """Save the state after an epoch; `best`: the weights of `state["best_epoch"]` if this epoch is the best."""
    folder.mkdir(parents=True, exist_ok=True)
    best_file = folder / f"best-{state['best_epoch']}.safetensors"
    if best is not None:
        write_atomically(best_file, save({name: value.contiguous() for name, value in best.items()}))
    with replacing(
        # Python's file reports a full disk, torch's does not
        folder / "checkpoint.pt",
        sync=False,
    ) as file:
        torch.save({"fit_id": fit_id, **state}, file)
    for old in folder.glob("best-*.safetensors"):
        if old != best_file:
            old.unlink(missing_ok=True)


def load_checkpoint(folder: Path, fit_id: str) -> dict[str, Any] | None:
    """Return the last saved state, on the CPU; None if there is none, or it is damaged.

    Raises `WrongCheckpoint` if it belongs to another fit, whose score would be reported otherwise.
    """
    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    if (why := _damage(path)) is not None:
        logger.warning("%s %s: its fit restarts", path, why)
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if state["fit_id"] != fit_id:
        raise WrongCheckpoint(f"{path} belongs to fit {state['fit_id']}, not to {fit_id}")
    try:
        load_best(folder, state["best_epoch"])
    except (SafetensorError, FileNotFoundError) as error:
        logger.warning("%s: the weights of its best epoch are unreadable: %s; its fit restarts", path, error)
        return None
    return state


def _damage(path: Path) -> str | None:
    """The damage to a file of torch according to its checksums; None if it is intact."""
    if not zipfile.is_zipfile(path):  # the central directory at its end is missing
        return "was truncated, as after a power failure"
    try:
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:
        return f"was damaged: {error}"
    return f"was damaged in {wrong}" if wrong is not None else None


def load_best(folder: Path, epoch: int) -> dict[str, Tensor]:
    """Return the weights of the best epoch."""
    return load_file(folder / f"best-{epoch}.safetensors")
