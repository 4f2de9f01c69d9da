"""Finished fits by content hash: one record each on the storage path, the only truth on resume.

A record is a folder that appears whole, by one rename, when its fit is finished: `record.json` (settings, curves),
`histograms.npz` (scores at every threshold) and `weights.safetensors`. Half a record does not exist.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.files import appearing, write_atomically
from orchestrator.training.memory import Memory
from orchestrator.training.recipe import FitSpec


@dataclass(frozen=True)
class FitRecord:
    """One finished fit."""

    fit_id: str
    spec: FitSpec
    folder: Path
    curves: tuple[dict[str, float], ...]  # one row an epoch
    best_epoch: int
    seconds: float  # training and validation, over all resumes
    device: str
    world_size: int
    case_ids: tuple[str, ...]  # validation cases, in the order of the histograms
    histograms: np.ndarray  # (N, 2, 256) at the masks' own sizes
    examples: dict[
        str, np.ndarray
    ]  # case id -> probability bins uint8 (S, S): a few cases to look at, worst first
    versions: dict[str, str]
    inference_ms: float | None = None  # of one image, on the device of the fit, where the study asked for it

    @property
    def micro_batch(self) -> int | None:
        """The fewest images that a worker took at a time; None in records that do not tell."""
        return min((int(row["micro_batch"]) for row in self.curves if "micro_batch" in row), default=None)

    @property
    def weights(self) -> Path:
        """The weights of the best epoch; pruned for trials that cannot be champion any more."""
        return self.folder / "weights.safetensors"


@dataclass(frozen=True)
class ScoreRecord:
    """One finished network, scored on cases that neither training nor selection saw."""

    fit_id: str  # or of several networks, as `scored_as` names them
    name: str  # "test", or the unseen dataset's
    case_ids: tuple[str, ...]
    histograms: np.ndarray  # (N, 2, 256)


def scored_as(fit_ids: Sequence[str]) -> str:
    """The name of several networks whose probabilities are averaged; a single one keeps its own."""
    if len(fit_ids) == 1:
        return fit_ids[0]
    return hashlib.sha256("\n".join(fit_ids).encode()).hexdigest()[:20]


class Ledger:
    """The records of one study."""

    def __init__(self, folder: Path) -> None:
        self.fits = folder / "fits"
        self.scores = folder / "scores"
        self.running = folder / "running"
        self.failures = folder / "failures"
        self.memory = Memory(folder / "memory")  # how many images at a time fit

    def checkpoints(self, fit_id: str) -> Path:
        """The folder of an unfinished fit's checkpoints."""
        return self.running / fit_id

    def has(self, fit_id: str) -> bool:
        return (self.fits / fit_id / "record.json").exists()

    def read(self, fit_id: str) -> FitRecord:
        folder = self.fits / fit_id
        stored = json.loads((folder / "record.json").read_text())
        return FitRecord(
            fit_id=fit_id,
            spec=FitSpec.model_validate(stored["spec"]),
            folder=folder,
            curves=tuple(stored["curves"]),
            best_epoch=stored["best_epoch"],
            seconds=stored["seconds"],
            device=stored["device"],
            world_size=stored["world_size"],
            case_ids=tuple(stored["case_ids"]),
            histograms=_read_arrays(folder / "histograms.npz")["histograms"],
            examples=_read_arrays(folder / "examples.npz"),
            versions=stored["versions"],
            inference_ms=stored.get("inference_ms"),
        )

    def curves(self) -> Iterator[tuple[list[float], int]]:
        """Validation Dice by epoch, and the epochs of the schedule, of every finished fit that was validated."""
        for file in sorted(self.fits.glob("[!.]*/record.json")):
            stored = json.loads(file.read_text())
            if stored["case_ids"]:
                yield [row["val_dice"] for row in stored["curves"]], stored["spec"]["recipe"]["epochs"]

    def write(
        self,
        spec: FitSpec,
        plain: dict[str, Any],
        histograms: np.ndarray,
        examples: dict[str, np.ndarray],
        weights: bytes,
    ) -> None:
        """Write a finished fit, then forget its checkpoints. `plain` holds the JSON fields of `FitRecord`."""
        record = {"fit_id": spec.fit_id, "spec": spec.model_dump(mode="json"), **plain}
        self._appear(
            self.fits / spec.fit_id,
            {
                "record.json": _json(record),
                "histograms.npz": {"histograms": histograms},
                "examples.npz": examples,
                "weights.safetensors": weights,
            },
        )
        shutil.rmtree(self.checkpoints(spec.fit_id), ignore_errors=True)

    def sweep(self) -> None:
        """Forget checkpoints of finished fits: a kill may have come between a record and their removal."""
        for folder in self.running.glob("*"):
            if self.has(folder.name):
                shutil.rmtree(folder)

    def write_failure(self, number: int, error: str) -> None:
        """Remember why a trial failed."""
        self.failures.mkdir(parents=True, exist_ok=True)
        write_atomically(self.failures / f"{number}.txt", error.encode())

    def forget_failure(self, number: int) -> None:
        (self.failures / f"{number}.txt").unlink(missing_ok=True)

    def failure(self, number: int) -> str | None:
        """Why a trial failed, or None if nothing was written of it."""
        path = self.failures / f"{number}.txt"
        return path.read_text() if path.exists() else None

    def score_folder(self, fit_id: str, case_ids: Sequence[str]) -> Path:
        """The place of one network's scores on one list of cases."""
        cases = hashlib.sha256("\n".join(case_ids).encode()).hexdigest()[:12]
        return self.scores / f"{fit_id}-{cases}"

    def has_scores(self, fit_id: str, case_ids: Sequence[str]) -> bool:
        return (self.score_folder(fit_id, case_ids) / "record.json").exists()

    def read_scores(self, fit_id: str, case_ids: Sequence[str]) -> ScoreRecord:
        folder = self.score_folder(fit_id, case_ids)
        stored = json.loads((folder / "record.json").read_text())
        histograms = _read_arrays(folder / "histograms.npz")["histograms"]
        return ScoreRecord(fit_id, stored["name"], tuple(stored["case_ids"]), histograms)

    def write_scores(self, scores: ScoreRecord) -> None:
        record = {"fit_id": scores.fit_id, "name": scores.name, "case_ids": scores.case_ids}
        folder = self.score_folder(scores.fit_id, scores.case_ids)
        self._appear(
            folder, {"record.json": _json(record), "histograms.npz": {"histograms": scores.histograms}}
        )

    def drop_weights(self, fit_ids: Iterable[str]) -> None:
        """Delete the weights of some fits; their scores stay."""
        for fit_id in fit_ids:
            (self.fits / fit_id / "weights.safetensors").unlink(missing_ok=True)

    def drop_checkpoints(self, fit_ids: Iterable[str]) -> None:
        """Forget how far some unfinished fits have come."""
        for fit_id in fit_ids:
            shutil.rmtree(self.checkpoints(fit_id), ignore_errors=True)

    def _appear(self, folder: Path, files: dict[str, bytes | dict[str, np.ndarray]]) -> None:
        """Make `folder` with `files` in it, whole or not at all. A record that is there already is left as it is."""
        with appearing(folder) as partial:
            for name, content in files.items():
                with (partial / name).open("wb") as file:
                    if isinstance(content, bytes):
                        file.write(content)
                    else:
                        np.savez_compressed(file, allow_pickle=False, **content)  # type: ignore[arg-type]  # stubs
                    file.flush()
                    os.fsync(file.fileno())


def _json(record: dict[str, Any]) -> bytes:
    return json.dumps(record, indent=1).encode()


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
