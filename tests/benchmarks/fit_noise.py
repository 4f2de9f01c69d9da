"""What makes validation Dice vary: fits trained again and again, their scores taken apart.

    python tests/benchmarks/fit_noise.py                                      # drawn polyps; minutes on one core
    python tests/benchmarks/fit_noise.py --data ../shared/data/polyps/Kvasir-SEG --out noise.json

A tiny U-Net is trained with several settings (learning rates) on each of five folds with several seeds, by the training
and scoring of the engine: one threshold for the five folds of a setting and a seed. The Dice of every validation image
is then taken apart as in an analysis of variance with random effects (all combinations are there, so each mean square
less what lies below it gives one part; a negative one is told as 0):

setting         what a search looks for
fold            how much folds differ in difficulty, beyond their images
setting_fold    what a setting makes of a fold, its training images above all
fit             the seed: the same setting on the same fold trained again, beyond what the images explain
image           how much images differ in difficulty
setting_image   what a setting makes of an image
fit_image       what one fit makes of an image

Every fit's curve of validation Dice over epochs t = 1, 2, ... is described by `asymptote - amplitude * t^-rate` and the
SD of single epochs around it. orchestrator/search/simulated/worlds.py reads its noise from such a file.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from orchestrator.data.cache.frames import CachedCases, cached_cases
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.phantom import draw_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.scoring.threshold import best_threshold
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.space.space_file import parse_space
from orchestrator.training.fit import FitOutcome, run_fit
from orchestrator.training.validation.scores import EPOCH_SWEEP

Array = NDArray[np.float64]
RATES = np.linspace(0.05, 3, 60)  # of learning that are tried
SPACE = """
network = "unet"
[search]
learning_rate = {{ log_uniform = [1e-5, 1e-1] }}
seed = {{ int = [0, 1000] }}
threshold = {{ sweep = [0.05, 0.95] }}
[fixed]
base_channels = 8
image_size = 64
epochs = {epochs}
batch_size = 8
augmentation = "flips"
[baseline]
learning_rate = 1e-3
seed = 0
"""


def prepare(home: Path, data: Path | None, num_cases: int) -> Dataset:
    """The first images of a folder with images/ and masks/, or drawn ones."""
    if data is None:
        draw_dataset(home / "frames", num_cases=num_cases, size=96)
        return add_dataset(home, "frames", home / "frames", allow_empty=True)
    for kind in ("images", "masks"):
        (home / "frames" / kind).mkdir(parents=True)
        for path in sorted((data / kind).iterdir())[:num_cases]:
            (home / "frames" / kind / path.name).symlink_to(path.resolve())
    return add_dataset(home, "frames", home / "frames", allow_empty=True)


def train_all(
    home: Path, dataset: Dataset, rates: Sequence[float], num_seeds: int, epochs: int
) -> list[list[list[FitOutcome]]]:
    """outcome[setting][seed][fold]."""
    plan = make_plan("five-fold", [dataset], seed=0, holdout=0)
    space = parse_space(SPACE.format(epochs=epochs))
    cases = cached_cases([dataset], 64, home / "cache")
    found: list[list[list[FitOutcome]]] = []
    started, total = time.monotonic(), len(rates) * num_seeds * len(plan.folds)
    for rate in rates:
        found.append([])
        for seed in range(num_seeds):
            configuration = space.configuration({**space.fixed, "learning_rate": rate, "seed": seed})
            found[-1].append([_train(spec, cases, home / "fits") for spec in fold_specs(configuration, plan)])
            done = ((len(found) - 1) * num_seeds + seed + 1) * len(plan.folds)
            print(f"{done} of {total} fits, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return found


def _train(spec: Any, cases: CachedCases, folder: Path) -> FitOutcome:
    with tempfile.TemporaryDirectory(dir=folder.parent) as checkpoints:
        outcome = run_fit(spec, cases, Path(checkpoints), device=torch.device("cpu"), report=lambda row: True)
    assert outcome is not None
    return outcome


def image_dice(folds: Sequence[FitOutcome]) -> list[Array]:
    """Dice of every image, fold by fold, at the threshold that is best for all folds together."""
    threshold, _ = best_threshold(np.concatenate([fold.histograms for fold in folds]), *EPOCH_SWEEP)
    return [scores_under(fold.histograms, PostProcess(threshold))["dice"] for fold in folds]


def take_apart(dice: Sequence[Array]) -> dict[str, float]:
    """Variances of the parts, from Dice (settings, seeds, images) of every fold; images may differ in number."""
    configurations, seeds = dice[0].shape[:2]
    images = float(np.mean([part.shape[2] for part in dice]))
    of_fits = np.array([part.mean(axis=2) for part in dice])  # (folds, settings, seeds)
    of_configurations = of_fits.mean(axis=2)  # (folds, settings)
    fit_image = float(np.mean([_interaction(one) for part in dice for one in part]))
    fit = float(of_fits.var(axis=2, ddof=1).mean()) - fit_image / images
    configuration_image = (
        float(np.mean([_interaction(part.mean(axis=1)) for part in dice])) - fit_image / seeds
    )
    below = (
        fit / seeds + configuration_image / images + fit_image / (seeds * images)
    )  # in a mean of one setting on a fold
    configuration_fold = _interaction(of_configurations) - below
    image = float(np.mean([part.mean(axis=(0, 1)).var(ddof=1) for part in dice]))
    image -= configuration_image / configurations + fit_image / (configurations * seeds)
    fold = (
        float(of_configurations.mean(axis=1).var(ddof=1))
        - image / images
        - (configuration_fold + below) / configurations
    )
    configuration = float(of_configurations.mean(axis=0).var(ddof=1)) - (configuration_fold + below) / len(
        dice
    )
    return {
        "setting": configuration,
        "fold": fold,
        "setting_fold": configuration_fold,
        "fit": fit,
        "image": image,
        "setting_image": configuration_image,
        "fit_image": fit_image,
    }


def _interaction(table: Array) -> float:
    """Mean square of what rows and columns do not explain."""
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    return float((rest**2).sum()) / ((table.shape[0] - 1) * (table.shape[1] - 1))


def describe(curve: Array) -> dict[str, float]:
    """Asymptote, amplitude, rate and SD of the epochs of one curve: least squares, the rate by trial."""
    epochs = np.arange(1, len(curve) + 1, dtype=np.float64)
    best: dict[str, float] = {}
    for rate in RATES:
        basis = np.stack([np.ones_like(epochs), -(epochs**-rate)], axis=1)
        found = np.linalg.lstsq(basis, curve, rcond=None)[0]
        sd = float(np.sqrt(((curve - basis @ found) ** 2).sum() / (len(curve) - 3)))
        if not best or sd < best["epoch_sd"]:
            best = {"asymptote": found[0], "amplitude": found[1], "rate": float(rate), "epoch_sd": sd}
    return {key: float(value) for key, value in best.items()}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        dataset = prepare(home, options.data, options.cases)
        outcomes = train_all(home, dataset, options.rates, options.seeds, options.epochs)
    dice = [[image_dice(folds) for folds in seeds] for seeds in outcomes]
    by_fold = [
        np.array([[seed[fold] for seed in seeds] for seeds in dice]) for fold in range(len(dice[0][0]))
    ]
    variances = take_apart(by_fold)
    curves = [
        [[row["val_dice"] for row in fold.curves] for seed in seeds for fold in seed] for seeds in outcomes
    ]
    described = [[describe(np.array(curve)) for curve in one] for one in curves]
    of_configurations = [
        {key: float(np.median([one[key] for one in fits])) for key in fits[0]} for fits in described
    ]
    mean_curves = [np.mean(one, axis=0).round(4).tolist() for one in curves]
    return {
        "command": shlex.join(["python", *sys.argv]),
        "data": options.data.name if options.data else "drawn",
        "images": len(dataset.cases),
        "settings": [{"learning_rate": rate} for rate in options.rates],
        "seeds": options.seeds,
        "epochs": options.epochs,
        "seconds": round(time.monotonic() - started),
        "mean_dice": [float(np.mean([part[i].mean() for part in by_fold])) for i in range(len(dice))],
        "variance": variances,
        "sd": {name: float(np.sqrt(max(0.0, value))) for name, value in variances.items()},
        "fit_sd_interval": fit_sd_interval(by_fold),
        "curves": of_configurations,
        "mean_curves": mean_curves,
        "learning": learning(mean_curves, [one["epoch_sd"] for one in of_configurations]),
    }


def learning(mean_curves: Sequence[Sequence[float]], epoch_sds: Sequence[float]) -> dict[str, float]:
    """The curve of all settings together, and the SD of an epoch of one fit."""
    together = describe(np.mean(mean_curves, axis=0))
    return together | {"epoch_sd": float(np.median(epoch_sds))}


def fit_sd_interval(dice: Sequence[Array], draws: int = 1000) -> list[float]:
    """95 % bootstrap interval of the SD of a fit: pairs of setting and fold are drawn again."""
    rng = np.random.default_rng(0)
    cells = np.array(
        [one.mean(axis=1).var(ddof=1) - _interaction(one) / one.shape[1] for part in dice for one in part]
    )
    means = rng.choice(cells, (draws, len(cells))).mean(axis=1)
    return np.sqrt(np.maximum(0, np.quantile(means, [0.025, 0.975]))).tolist()


def show(found: dict[str, Any]) -> None:
    table = Table("part", title=f"{found['data']}, {found['images']} images; SD in Dice points")
    table.add_column("SD", justify="right")
    for name, sd in found["sd"].items():
        low, high = found["fit_sd_interval"]
        table.add_row(
            name, f"{100 * sd:.2f}" + (f" ({100 * low:.2f} to {100 * high:.2f})" if name == "fit" else "")
        )
    second = Table("learning rate", title="curves, medians over fits")
    for heading in ("Dice", "asymptote", "amplitude", "rate", "SD of epochs"):
        second.add_column(heading, justify="right")
    for configuration, dice, curve in zip(
        found["settings"], found["mean_dice"], found["curves"], strict=True
    ):
        numbers = (dice, curve["asymptote"], curve["amplitude"], curve["rate"], curve["epoch_sd"])
        second.add_row(f"{configuration['learning_rate']:g}", *(f"{number:.3f}" for number in numbers))
    console = Console()
    console.print(table)
    console.print(second)


def main() -> None:
    parser = argparse.ArgumentParser(description="What makes validation Dice vary, from fits trained again.")
    parser.add_argument("--data", type=Path, help="folder with images/ and masks/; by default they are drawn")
    parser.add_argument("--cases", type=int, default=200, help="images, the first of the folder")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3, 5e-3, 1e-2])
    parser.add_argument("--seeds", type=int, default=3, help="fits of every setting on every fold")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    if min(len(options.rates), options.seeds) < 2 or options.epochs < 4:
        parser.error("two --rates and --seeds are needed at least, and 4 --epochs")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    found = measure(options)
    show(found)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
