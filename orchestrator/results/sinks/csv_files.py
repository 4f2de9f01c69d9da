"""Every trial, fold and epoch of a study as CSV files in its folder, for pandas, R or a spreadsheet.

trials.csv   a row a trial: state, scores, searched parameters (`params_...`)
folds.csv    a row a finished fold: scores by the masks of its trial, or before these are known at its own threshold
epochs.csv   a row an epoch of every finished or cut fit, counted from 1

Scores are shares from 0 to 1. Trials and folds are written as whole files each time; epochs are added as whole fits,
and written again at the start of a run.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from orchestrator.common.files import append, write_atomically
from orchestrator.results.export.exported_network import fold_scores
from orchestrator.results.sinks.measures import own_scores
from orchestrator.results.sinks.records import FinishedFit, KnownTrial, StudyRecords
from orchestrator.results.sinks.replay import PERIOD_S, RETRY_S, ReplaySink
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial

Row = dict[str, Any]
TRIALS = ("trial", "state", "reason", "folds_done", "num_folds")
FOLDS = ("trial", "fold", "fit_id", "epochs", "best_epoch", "seconds", "num_images", "device", "inference_ms")
CURVES = (
    "train_loss",
    "val_loss",
    "val_dice",
    "learning_rate",
    "images_per_second",
    "seconds",
    "micro_batch",
)
EPOCHS = ("trial", "fold", "fit_id", "epoch", *CURVES)
PARAM = "params_"


class CsvSink(ReplaySink):
    """Keeps `trials.csv`, `folds.csv` and `epochs.csv` in the folder of a study."""

    problem = "cannot be written"

    def __init__(self, store: StudyStore, *, period_s: float = PERIOD_S, retry_s: float = RETRY_S) -> None:
        super().__init__(period_s=period_s, retry_s=retry_s)
        self.store, self.records = store, StudyRecords(store)
        self.name = f"CSV files in {store.folder}"
        self._trials: dict[int, Row] = {}
        self._folds: dict[tuple[int, str], Row] = {}  # by trial and fit
        self._new_epochs: list[Row] = []
        self._with_epochs: set[tuple[int, str]] = (
            set()
        )  # fits whose epochs are, or are about to be, in the file
        self._known: dict[
            int, tuple[str, int]
        ] = {}  # trial -> state and fits on record, as they are in the rows
        self._written: dict[Path, bytes] = {}  # file -> digest of what this process has written

    def sync(self, *, is_last: bool) -> None:
        self.records.update()
        for known in self.records.trials.values():
            self._trial(known)
        self._cut_fits()
        folder = self.store.folder
        self._write(folder / "trials.csv", TRIALS, self._trials.values())
        self._write(folder / "folds.csv", FOLDS, self._folds.values())
        self._write_epochs(folder / "epochs.csv")

    def _trial(self, known: KnownTrial) -> None:
        fits = self.records.fits_of(known)
        now = known.state, len(fits)
        if self._known.get(known.number) == now:
            return
        trial = self.records.read_trial(known)
        for fit in fits:
            self._fold(known, fit, trial)
        self._trials[known.number] = self._trial_row(trial)
        self._known[known.number] = now

    def _trial_row(self, trial: StudyTrial) -> Row:
        own = (trial.number, trial.state, trial.error, len(trial.records), trial.num_folds)
        metrics = self.records.metrics_of(trial)
        params = {f"{PARAM}{name}": value for name, value in trial.searched.items()}
        return dict(zip(TRIALS, own, strict=True)) | metrics | params

    def _fold(self, known: KnownTrial, fit: FinishedFit, trial: StudyTrial) -> None:
        record = self.records.find(fit)
        if record is None:  # it was damaged
            return
        key = fit.trial, fit.fit_id
        score = trial.score() if trial.state == "complete" and not fit.is_reevaluation else None
        if score is not None:
            scores = fold_scores(record, score.masks) | {"threshold": score.threshold}
        else:
            scores = own_scores(record, known.configuration.masks)
        self._folds[key] = _fold_row(fit, record) | scores
        self._add_epochs(fit.trial, fit.fold, fit.fit_id, record.curves)

    def _cut_fits(self) -> None:
        for cut in chain.from_iterable(self.records.cut_fits.values()):
            if cut.fit_id not in self.records.on_record:
                self._add_epochs(cut.trial, self.records.plan.folds[cut.fold].name, cut.fit_id, cut.rows)

    def _add_epochs(self, trial: int, fold: str, fit_id: str, rows: Iterable[Mapping[str, float]]) -> None:
        if (trial, fit_id) in self._with_epochs:
            return
        self._with_epochs.add((trial, fit_id))
        for row in rows:
            own = {"trial": trial, "fold": fold, "fit_id": fit_id, "epoch": int(row["epoch"]) + 1}
            self._new_epochs.append(own | {name: row[name] for name in CURVES if name in row})

    def _write(self, file: Path, first: Iterable[str], rows: Iterable[Row]) -> None:
        rows = list(rows)
        columns = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
        content = as_csv(columns, rows)
        digest = hashlib.sha256(content).digest()
        if self._written.get(file) != digest:
            write_atomically(file, content, sync=False)
            self._written[file] = digest

    def _write_epochs(self, file: Path) -> None:
        if file not in self._written:
            write_atomically(file, as_csv(EPOCHS, self._new_epochs), sync=False)
            self._written[file] = b""
        elif self._new_epochs:
            append(file, as_csv(EPOCHS, self._new_epochs, header=False))
        self._new_epochs = []


def as_csv(columns: Sequence[str], rows: Iterable[Row], *, header: bool = True) -> bytes:
    """Rows as a CSV file in UTF-8; missing values are empty."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().encode()


def _fold_row(fit: FinishedFit, record: FitRecord) -> Row:
    own = (
        fit.trial,
        fit.fold,
        fit.fit_id,
        len(record.curves),
        record.best_epoch + 1,
        record.seconds,
        len(record.case_ids),
        record.device,
        record.inference_ms,
    )
    return dict(zip(FOLDS, own, strict=True))
