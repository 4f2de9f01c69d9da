"""A whole study without networks: fits are scored by a formula of the learning rate, in milliseconds."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from split_plans import five_fold
from torch import nn

from orchestrator.common.errors import FitFailed
from orchestrator.data.cases import Dataset, list_datasets, load_dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.search.budget.limits import End
from orchestrator.search.choices import RuleName
from orchestrator.search.records.fit_records import FitRecord, ScoreRecord
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.records.status import Status
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.space.space_file import parse_space
from orchestrator.search.store.study_store import StudyStore
from orchestrator.search.store.trials import StudyTrial
from orchestrator.search.study_spec import StudySpec
from orchestrator.study.runnable_study import RunnableStudy
from orchestrator.study.sinks import ResultSink
from orchestrator.training.recipe import FitSpec

SPACE = parse_space("""
network = "unet"
[search]
learning_rate = { log_uniform = [1e-5, 1e-1] }
[fixed]
batch_size = 2
epochs = 3
image_size = 32
[baseline]
learning_rate = 1e-4
""")
AREA = 1000  # pixels of every polyp


def quality(learning_rate: float) -> float:
    """Share of the polyp that is found: 1 at 1e-3, less in both directions."""
    return math.exp(-((math.log10(learning_rate) + 3) ** 2))


def histograms(found: float | np.ndarray, num_cases: int) -> np.ndarray:
    """Maps that find a share of each polyp with certainty and nothing outside."""
    stack = np.zeros((num_cases, 2, 256), np.uint32)
    pixels = np.round(np.asarray(found) * AREA).astype(np.uint32)
    stack[:, 0, 0] = 9 * AREA
    stack[:, 1, 250] = pixels
    stack[:, 1, 0] = AREA - pixels
    return stack


@dataclass(frozen=True)
class FormulaJobRunner:
    """What `FitJobRunner` does, by formula; a rate above `diverges_above` fails, `kill_marker` kills its worker once.

    As long as there is a file `fault` the machine fails after an epoch, with the errno that the file holds.
    """

    ledger: Ledger
    seconds: float = 0.0
    diverges_above: float = math.inf
    kill_marker: Path | None = None
    fault: Path | None = None
    noise: float = 0.0  # of every image
    best_epoch: int | None = None  # of every fold, from 0; None: the last one

    def __call__(
        self,
        job: FitSpec | ScoreJob,
        device: torch.device,
        loader_workers: int,
        report: Callable[[dict[str, float]], bool],
    ) -> bool:
        if isinstance(job, ScoreJob):
            found = self.found(self.ledger.read(job.fit_id).spec, job.case_ids)
            self.ledger.write_scores(
                ScoreRecord(job.scored_as, job.name, job.case_ids, histograms(found, len(job.case_ids)))
            )
            return True
        if self.ledger.has(job.fit_id):
            return True
        self.ledger.fits.mkdir(parents=True, exist_ok=True)
        with (self.ledger.fits.parent / "trained.log").open("a") as log:
            log.write(f"{job.fit_id}\n")
        curves = []
        num_epochs = job.stop_after or job.recipe.epochs
        for epoch in range(num_epochs):
            time.sleep(self.seconds)
            if job.recipe.learning_rate > self.diverges_above:
                raise FitFailed("the loss became nan")
            if self.kill_marker is not None and not self.kill_marker.exists():
                self.kill_marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault is not None and self.fault.exists():
                raise OSError(int(self.fault.read_text()), "the machine failed", str(self.ledger.running))
            curves.append(row(epoch, quality(job.recipe.learning_rate) if job.val else math.nan))
            if not report(curves[-1]):
                return False
        plain = {
            "curves": curves,
            "best_epoch": num_epochs - 1 if self.best_epoch is None or not job.val else self.best_epoch,
            "seconds": 1.0,
            "device": "formula",
            "world_size": 1,
            "case_ids": job.val,
            "versions": {},
            "inference_ms": -math.log10(job.recipe.learning_rate),
        }
        scored = histograms(self.found(job, job.val), len(job.val))
        self.ledger.write(job, plain, scored, {}, b"weights")
        return True

    def found(self, spec: FitSpec, case_ids: Sequence[str]) -> float | np.ndarray:
        """Share of each polyp that a fit's network finds."""
        level = quality(spec.recipe.learning_rate)
        if not self.noise:
            return level
        return np.clip(
            level + np.random.default_rng(int(spec.fit_id, 16)).normal(0, self.noise, len(case_ids)), 0, 1
        )

    def num_trained(self) -> int:
        """Fits that were started, repeats included."""
        return len((self.ledger.fits.parent / "trained.log").read_text().splitlines())


def row(epoch: int, dice: float) -> dict[str, float]:
    return {
        "epoch": epoch,
        "val_dice": dice,
        "train_loss": 0.1 if math.isnan(dice) else 1 - dice,
        "learning_rate": 1e-3,
        "images_per_second": 100.0,
        "seconds": 0.1,
    }


@dataclass
class Heard(ResultSink):
    """A sink that remembers its events."""

    told: list[tuple[Any, ...]] = field(default_factory=list)
    shown: list[Status] = field(default_factory=list)

    def started(self, study: RunnableStudy, shape: Any) -> None:
        self.told.append(("started", shape.num_lanes))

    def width_chosen(self, choice: Any) -> None:
        self.told.append(("width_chosen", choice.width))

    def trial_started(self, number: int, params: dict[str, Any]) -> None:
        self.told.append(("trial_started", number, params["learning_rate"]))

    def epochs(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None:
        self.told.extend(("epoch", number, fold, row["epoch"]) for row in rows)

    def fold_finished(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None:
        self.told.append(("fold_finished", number, fold))

    def judged(self, number: int, verdict: Any) -> None:
        self.told.append(("judged", number, verdict.action))

    def trial_finished(self, trial: StudyTrial) -> None:
        self.told.append(("trial_finished", trial.number, trial.state))

    def ends(self, end: End) -> None:
        self.told.append(("ends", end.by))

    def reevaluation_started(self, trials: Sequence[int], num_fits: int) -> None:
        self.told.append(("scoring_again", tuple(trials), num_fits))

    def fold_reevaluated(self, number: int, record: FitRecord, masks: MaskChoice) -> None:
        self.told.append(("fold_again", number, record.spec.fold))

    def progress(self, status: Status) -> None:
        self.shown.append(status)

    def finished(self, champion: StudyTrial | None) -> None:
        self.told.append(("finished", champion.number if champion else None))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.told if event[0] == kind]


def formula_study(
    home: Path, *, num_trials: int | None = None, seed: int = 0, race: RuleName = "none", **budget: Any
) -> RunnableStudy:
    """A study of the formula in `home`, on two dozen frames drawn there."""
    dataset = _dataset(home)
    return RunnableStudy(
        store=StudyStore(home, "formula"),
        space=SPACE,
        plan=five_fold([dataset], seed=seed),
        datasets=(dataset,),
        unseen=(),
        spec=StudySpec(trials=num_trials, seed=seed, race=race, rescore=0, **budget),
    )


def _dataset(home: Path) -> Dataset:
    if "drawn" not in {dataset.name for dataset in list_datasets(home)}:
        draw_dataset(home / "frames", num_cases=24, size=32)
        add_dataset(home, "drawn", home / "frames", allow_empty=True)
    return load_dataset(home, "drawn")


def carry_out(
    study: RunnableStudy,
    rates: Sequence[float],
    make: Callable[[Ledger], FormulaJobRunner] = FormulaJobRunner,
) -> FormulaJobRunner:
    """Train trials of these learning rates on all folds without Ray, and tell Optuna their Dice."""
    study.store.begin(study.space, study.plan, study.spec)
    optuna, work = study.store.optuna_study(), make(study.store.ledger)
    for rate in rates:
        optuna.enqueue_trial({"learning_rate": rate})
        trial = optuna.ask()
        configuration = study.space.configuration(study.space.sample(trial))
        for spec in fold_specs(configuration, study.plan):
            work(spec, torch.device("cpu"), 0, lambda row: True)
        optuna.tell(trial, [quality(rate)] * len(optuna.directions))
    return work


def replace_weights(record: FitRecord, network: nn.Module) -> None:
    """Give a fit of the formula a network, as if it had been trained."""
    save_file(network.state_dict(), record.weights)
    file = record.folder / "record.json"
    stored = json.loads(file.read_text())
    del stored["files"][record.weights.name], stored["sha256"]  # as in records of earlier versions
    file.write_text(json.dumps(stored))


def finish(study: RunnableStudy, rate: float, found: Sequence[float | np.ndarray]) -> None:
    """Put a trial on record whose folds find these shares of each polyp, or show every image these (2, 256) bins; folds
    that are missing never ran."""
    optuna = study.store.optuna_study()
    optuna.enqueue_trial({"learning_rate": rate})
    trial = optuna.ask()
    specs = fold_specs(study.space.configuration(study.space.sample(trial)), study.plan)
    for spec, shown in zip(specs, found, strict=False):
        num_cases = len(spec.val)
        bins = (
            np.stack([shown] * num_cases) if isinstance(shown, np.ndarray) else histograms(shown, num_cases)
        )
        plain = {
            "curves": [row(0, 0.5 if isinstance(shown, np.ndarray) else shown)],
            "best_epoch": 0,
            "seconds": 1.0,
            "device": "formula",
            "world_size": 1,
            "case_ids": spec.val,
            "versions": {},
        }
        study.store.ledger.write(spec, plain, bins.astype(np.uint32), {}, b"")
