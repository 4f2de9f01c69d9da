"""Fits on drawn polyps, small enough to train in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from orchestrator.data.cache.frames import CachedCases, cached_cases
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.ledger import Ledger
from orchestrator.training.fit import FitOutcome, Report, run_fit
from orchestrator.training.recipe import FitSpec, Recipe

CPU = torch.device("cpu")


def drawn_cases(home: Path, *, num_cases: int = 24) -> CachedCases:
    """Draw frames of 48 pixels and cache them at 32."""
    draw_dataset(home / "frames", num_cases=num_cases, size=48)
    return cached_cases([add_dataset(home, "drawn", home / "frames", allow_empty=True)], 32, home / "cache")


def drawn_fit(cases: CachedCases, *, num_train: int = 8, num_val: int = 5, **recipe: Any) -> FitSpec:
    """A narrow U-Net on the first frames that show a polyp, validated on those that follow."""
    dataset = cases.datasets[0]
    ids = tuple(case.id for case in dataset.cases if case.polyp_fraction > 0)
    configuration: dict[str, Any] = {"image_size": 32, "epochs": 4, "batch_size": 4, "learning_rate": 1e-2}
    return FitSpec(
        network="unet",
        network_params={"base_channels": 4},
        recipe=Recipe.model_validate(configuration | recipe),
        datasets={dataset.name: dataset.fingerprint},
        train=ids[:num_train],
        val=ids[num_train : num_train + num_val],
        fold="0",
    )


def work(home: Path, folder: Path) -> FitJobRunner:
    """What a lane would do, with the datasets of `home` and a ledger in `folder`."""
    return FitJobRunner(home, home / "cache", Ledger(folder))


def train(
    spec: FitSpec,
    cases: CachedCases,
    folder: Path,
    report: Report = lambda row: True,
    micro_batch: int | None = None,
) -> FitOutcome | None:
    """Run a fit on the CPU, going on from what `folder` holds."""
    return run_fit(spec, cases, folder, device=CPU, report=report, micro_batch=micro_batch)


def learned(outcome: FitOutcome) -> list[tuple[float, ...]]:
    """The curves without what depends on the speed of the machine."""
    return [
        (row["epoch"], row["train_loss"], row["val_dice"], row["learning_rate"], row["val_loss"])
        for row in outcome.curves
    ]
