"""How much a fold's score gains because its epoch was chosen on the very images that it is scored on.

    python tests/benchmarks/epoch_optimism.py --data ../shared/data/polyps/Kvasir-SEG
    python tests/benchmarks/epoch_optimism.py --data DIR --size 128 --epochs 60 --seeds 2 --out optimism.json

A fit keeps the epoch of the highest validation Dice, and a cross-fitted score is free of the optimism of the threshold
only. Here each of K fits leaves two of K parts out of its training: A, which a K-fold split validates, and B, the next
part, as large. Every epoch is scored on both by the scoring of the engine. The Dice of A at the epoch that A chooses is
what a study reports; at the epoch that B chooses it is what the same rule gives on images that had no say. The
difference is the optimism; A and B change places, and the mean of the two is one number a fit. Masks are made at the
threshold that the other fits choose on their own parts, as in a cross-fitted score.

The error is that of the mean over fits, whose training sets overlap. Nothing is asserted. Printed on 850 images of
Kvasir-SEG with `--size 96 --epochs 40` (half an hour of CPU time):

    5 fits of 40 epochs, 850 images: Dice 78.26 at the epoch chosen on the images scored, 77.65 at one chosen on as
    many others, 77.51 at the last
    optimism of the epoch: 0.61 ± 0.29 points (mean ± standard error over fits)
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator import models
from orchestrator.data.cache.frames import CachedCases, cached_cases
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.splits.plan import make_plan
from orchestrator.scoring.threshold import best_threshold, curve
from orchestrator.search.space.space_file import parse_space
from orchestrator.training.checkpoint import load_checkpoint
from orchestrator.training.fit import run_fit
from orchestrator.training.recipe import FitSpec
from orchestrator.training.validation.scores import EPOCH_SWEEP, score_cases

CPU = torch.device("cpu")
SPACE = """
network = "unet"
[search]
learning_rate = {{ log_uniform = [1e-5, 1e-1] }}
threshold = {{ sweep = [0.05, 0.95] }}
[fixed]
base_channels = {channels}
image_size = {size}
epochs = {epochs}
batch_size = 8
augmentation = "flips"
[baseline]
learning_rate = 2e-3
"""


@dataclass(frozen=True)
class Scored:
    """Histograms (epochs, images, 2, 256) of one fit: part A, and part B."""

    own: NDArray[np.uint32]
    other: NDArray[np.uint32]


def prepare(home: Path, data: Path, num_cases: int) -> Any:
    """The first images of a folder with images/ and masks/."""
    for kind in ("images", "masks"):
        (home / "frames" / kind).mkdir(parents=True)
        for path in sorted((data / kind).iterdir())[:num_cases]:
            (home / "frames" / kind / path.name).symlink_to(path.resolve())
    return add_dataset(home, "frames", home / "frames", allow_empty=True)


def scored_epochs(spec: FitSpec, cases: CachedCases, num_own: int, folder: Path) -> Scored:
    """Train; score the network as it stands after every epoch. The first `num_own` validation cases are part A."""
    network = models.build(spec.network, **spec.network_params)
    epochs: list[NDArray[np.uint32]] = []

    def report(row: dict[str, float]) -> bool:
        state = load_checkpoint(folder, spec.fit_id)
        assert state is not None
        network.load_state_dict(state["network"])
        epochs.append(score_cases(network, cases, spec.val, CPU, spec))
        return True

    run_fit(spec, cases, folder, device=CPU, report=report)
    found = np.stack(epochs)
    return Scored(found[:, :num_own], found[:, num_own:])


def train_all(options: argparse.Namespace, home: Path) -> list[list[Scored]]:
    """scored[seed][fit]."""
    dataset = prepare(home, options.data, options.cases)
    cases = cached_cases([dataset], options.size, home / "cache")
    plan = make_plan(f"k-fold:{options.folds}", [dataset], seed=0, holdout=0)
    space = parse_space(SPACE.format(channels=options.channels, size=options.size, epochs=options.epochs))
    recipe = space.configuration({**space.fixed, "learning_rate": options.rate}).recipe
    found: list[list[Scored]] = []
    for seed in range(options.seeds):
        found.append([])
        for place, fold in enumerate(plan.folds):
            secondary = plan.folds[(place + 1) % len(plan.folds)]
            spec = FitSpec(
                network="unet",
                network_params={"base_channels": options.channels},
                recipe=recipe.model_copy(update={"seed": 100 * seed + place}),
                datasets=plan.datasets,
                train=tuple(id for id in fold.train if id not in set(secondary.val)),
                val=fold.val + secondary.val,
                fold=str(place),
            )
            with tempfile.TemporaryDirectory(dir=home) as folder:
                found[-1].append(scored_epochs(spec, cases, len(fold.val), Path(folder)))
            print(f"seed {seed}, fit {place}", file=sys.stderr, flush=True)
    return found


def epoch_chosen_on(histograms: NDArray[np.uint32]) -> int:
    """As a fit chooses: the highest mean Dice, each epoch at its own best threshold."""
    return int(np.argmax([best_threshold(one, *EPOCH_SWEEP)[1] for one in histograms]))


def optimism(fits: Sequence[Scored]) -> list[dict[str, float]]:
    """Of every fit of one seed: mean Dice at the epoch chosen on the images scored, and at that of the other part."""
    rows = []
    for one in fits:
        others = [fit for fit in fits if fit is not one]
        kept = np.concatenate([fit.own[epoch_chosen_on(fit.own)] for fit in others])
        threshold, _ = best_threshold(kept, *EPOCH_SWEEP)
        dice = [curve(part.reshape(-1, 2, 256))[:, round(256 * threshold)] for part in (one.own, one.other)]
        means = [values.reshape(len(one.own), -1).mean(axis=1) for values in dice]  # part -> (epochs,)
        chosen = [epoch_chosen_on(part) for part in (one.own, one.other)]
        same = float(np.mean([means[0][chosen[0]], means[1][chosen[1]]]))
        apart = float(np.mean([means[0][chosen[1]], means[1][chosen[0]]]))
        last = float(np.mean([means[0][-1], means[1][-1]]))
        rows.append({"same": same, "apart": apart, "last": last, "epochs_apart": abs(chosen[0] - chosen[1])})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description="What choosing the epoch on the images scored adds to a score."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with images/ and masks/")
    parser.add_argument("--cases", type=int, default=850, help="images, the first of the folder")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1, help="fits of every fold")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--size", type=int, default=64, help="pixels of the square that is trained on")
    parser.add_argument("--channels", type=int, default=8, help="of the U-Net's first level")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    if options.folds < 3 or options.seeds < 1 or options.epochs < 2:
        parser.error("expected 3 --folds or more, 1 --seeds or more and 2 --epochs or more")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for fits in train_all(options, Path(folder)) for row in optimism(fits)]
    gains = 100 * np.array([row["same"] - row["apart"] for row in rows])
    error = gains.std(ddof=1) / np.sqrt(len(gains))
    print(
        f"{len(rows)} fits of {options.epochs} epochs, {options.cases} images: Dice "
        f"{100 * np.mean([row['same'] for row in rows]):.2f} at the epoch chosen on the images scored, "
        f"{100 * np.mean([row['apart'] for row in rows]):.2f} at one chosen on as many others, "
        f"{100 * np.mean([row['last'] for row in rows]):.2f} at the last\n"
        f"optimism of the epoch: {gains.mean():.2f} ± {error:.2f} points (mean ± standard error over fits)"
    )
    if options.out:
        content = {"command": shlex.join(["python", *sys.argv]), "fits": rows}
        options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
