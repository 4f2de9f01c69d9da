"""Finished fits by content hash, one record each on the storage path: the only source of truth on resume.

A record is a folder that appears whole, by one rename, when its fit is finished: `record.json` (specification, curves),
`histograms.npz` (scores at every threshold) and `weights.safetensors`. Half a record does not exist, and one that was
damaged since counts as none: its fit is trained again, and what is left of it is set aside in `damaged/`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.common.errors import BadStudy
from orchestrator.common.files import appearing, write_atomically
from orchestrator.common.stored_json import Unreadable
from orchestrator.search.records.fit_records import (
    EXAMPLES,
    FOLLOWED,
    HISTOGRAMS,
    WEIGHTS,
    FitRecord,
    FitSummary,
    ScoreRecord,
    as_files,
    check,
    damage,
    is_sound,
    packed,
    read_checked,
    read_fit,
    read_scores,
    summary_of,
    weights_damage,
)
from orchestrator.search.records.trial_records import TrialRecords
from orchestrator.training.batch_memory import Memory
from orchestrator.training.recipe import FitSpec

logger = logging.getLogger(__name__)
REMEDY = "the same `orchestrator search` sets it aside and trains it again"


class Ledger:
    """Records of one study."""

    def __init__(self, folder: Path) -> None:
        self.fits = folder / "fits"
        self.scores = folder / "scores"
        self.running = folder / "running"
        self.failures = folder / "failures"
        self.aside = folder / "damaged"
        self.trials = TrialRecords(folder / "trials")
        self.cut_fits = folder / "cut_fits.jsonl"
        self.memory = Memory(folder / "memory")  # how many images at a time fit

    @property
    def num_fits(self) -> int:
        """Number of records, unreadable ones included."""
        return len(folders(self.fits))

    def checkpoints(self, fit_id: str) -> Path:
        """Folder of the checkpoints of an unfinished fit."""
        return self.running / fit_id

    def has(self, fit_id: str) -> bool:
        """Whether a fit has a readable record."""
        return is_sound(self.fits / fit_id)

    def read(self, fit_id: str) -> FitRecord:
        folder = self.fits / fit_id
        try:
            return read_checked(folder)
        except Unreadable as error:
            raise BadStudy(str(folder), f"{error}; {REMEDY}") from error

    def summary(self, fit_id: str) -> FitSummary:
        """What the search needs of a finished fit, from memory once its record was checked."""
        found = check(self.fits / fit_id)
        return (
            found.summary
            if found is not None and found.summary is not None
            else summary_of(self.read(fit_id))
        )

    def find(self, fit_id: str) -> FitRecord | None:
        """The record of a fit, cached; None if there is none or it is unreadable."""
        folder = self.fits / fit_id
        try:
            return read_checked(folder) if folder.is_dir() else None
        except Unreadable:
            return None

    def summaries(self) -> Iterator[FitSummary]:
        """Summaries of all fits whose record reads, by name; each record is read once in a process."""
        for folder in folders(self.fits):
            if (found := check(folder)) is not None and found.summary is not None:
                yield found.summary

    def damaged(self, *, thorough: bool = False) -> dict[Path, str]:
        """Unreadable records with the reason; `thorough`: weights are read completely as well."""
        fits = folders(self.fits)  # once: a lane that outlives a killed driver may be writing another
        found = {folder: damage(folder) for folder in (*fits, *folders(self.scores))}
        if thorough:
            for folder in fits:
                found[folder] = found[folder] or weights_damage(read_fit(folder))
        return {folder: why for folder, why in found.items() if why is not None}

    def set_aside(self, folder: Path) -> Path:
        """Move a damaged record to a folder that is not searched; returns its new path."""
        self.aside.mkdir(parents=True, exist_ok=True)
        place = 1
        while (target := self.aside / f"{folder.name}.{place}").exists():
            place += 1
        folder.rename(target)
        return target

    def write(
        self,
        spec: FitSpec,
        plain: dict[str, Any],
        histograms: np.ndarray,
        examples: dict[str, np.ndarray],
        weights: bytes,
        followed: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write a finished fit, then delete its checkpoints. `plain`: the JSON fields of `FitRecord`."""
        record = {"fit_id": spec.fit_id, "spec": spec.model_dump(mode="json"), **plain}
        companions = {
            HISTOGRAMS: packed({"histograms": histograms}),
            EXAMPLES: packed(examples),
            WEIGHTS: weights,
        } | ({FOLLOWED: packed(followed)} if followed else {})
        self._appear(self.fits / spec.fit_id, as_files(record, companions))
        shutil.rmtree(self.checkpoints(spec.fit_id), ignore_errors=True)

    def sweep(self) -> None:
        """Delete checkpoints of finished fits that a kill left behind."""
        for folder in self.running.glob("*"):
            if self.has(folder.name):
                shutil.rmtree(folder)

    def write_failure(self, number: int, error: str) -> None:
        """Write the reason why a trial failed."""
        self.failures.mkdir(parents=True, exist_ok=True)
        write_atomically(self.failures / f"{number}.txt", error.encode())

    def forget_failure(self, number: int) -> None:
        (self.failures / f"{number}.txt").unlink(missing_ok=True)

    def failure(self, number: int) -> str | None:
        """The reason why a trial failed, or None."""
        path = self.failures / f"{number}.txt"
        return path.read_text(errors="replace") if path.exists() else None

    def score_folder(self, fit_id: str, case_ids: Sequence[str]) -> Path:
        """Folder of the scores of one network on one list of cases."""
        cases = hashlib.sha256("\n".join(case_ids).encode()).hexdigest()[:12]
        return self.scores / f"{fit_id}-{cases}"

    def has_scores(self, fit_id: str, case_ids: Sequence[str]) -> bool:
        """Whether there is a readable record of these scores."""
        return is_sound(self.score_folder(fit_id, case_ids))

    def read_scores(self, fit_id: str, case_ids: Sequence[str]) -> ScoreRecord:
        folder = self.score_folder(fit_id, case_ids)
        try:
            return read_scores(folder)
        except Unreadable as error:
            raise BadStudy(str(folder), f"{error}; the same `orchestrator search` scores it again") from error

    def write_scores(self, scores: ScoreRecord) -> None:
        record = {"fit_id": scores.fit_id, "name": scores.name, "case_ids": scores.case_ids}
        folder = self.score_folder(scores.fit_id, scores.case_ids)
        self._appear(folder, as_files(record, {HISTOGRAMS: packed({"histograms": scores.histograms})}))

    def drop_weights(self, fit_ids: Iterable[str]) -> None:
        """Delete weights; scores stay."""
        for fit_id in fit_ids:
            (self.fits / fit_id / WEIGHTS).unlink(missing_ok=True)

    def drop_checkpoints(self, fit_ids: Iterable[str]) -> None:
        """Delete checkpoints of unfinished fits."""
        for fit_id in fit_ids:
            shutil.rmtree(self.checkpoints(fit_id), ignore_errors=True)

    def _appear(self, folder: Path, files: dict[str, bytes]) -> None:
        """Write `folder` with `files` atomically; a readable record that exists already stays."""
        if (why := damage(folder)) is not None:
            logger.warning("%s: %s; it is kept as %s", folder, why, self.set_aside(folder))
        with appearing(folder) as partial:
            for name, content in files.items():
                with (partial / name).open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())


def folders(parent: Path) -> list[Path]:
    """Folders of records by name."""
    return sorted(path for path in parent.glob("[!.]*") if path.is_dir())
