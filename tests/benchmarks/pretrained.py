"""What ImageNet weights are worth: one network pretrained and at random, on images like its own and on another set.

    pip install '.[weights]'
    python tests/benchmarks/pretrained.py --data ../shared/data/polyps/Kvasir-SEG \\
        --unseen ../shared/data/polyps/CVC-ClinicDB
    python tests/benchmarks/pretrained.py --data DIR --unseen DIR --size 128 --epochs 12 --home DIR

encoder_decoder with tf_efficientnet_lite0 and a U-Net decoder is trained on each of five folds from each of three
seeds, once from the weights of the package, once with pretrained = false; nothing else differs, and the two arms share
folds, seeds and settings. In-domain: Dice on the fold's own validation images. Unseen: Dice on the other set, less what
shows the same place as a training image. The threshold of each fit is the best one on its validation images, for both.

Killed, the same command goes on: a fit from its last epoch, and what is finished is read. Each finished fit is one line
of JSON in --out. `--processes` fits run at a time, one thread each. Sets that the home has already are taken as they
are there, and so are pairs of near-duplicates that were found for them. Nothing is asserted.

Two intervals of the difference (95 %): over training sets, from the five folds' differences, each a mean over seeds,
with the correction of Nadeau and Bengio for training sets that overlap; and over images of the unseen set, each a mean
over all fits of an arm, drawn in groups (videos, patients) where the set has them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from orchestrator.common.display import Display
from orchestrator.data.cases import Dataset
from orchestrator.data.importing.dataset import add_dataset
from orchestrator.data.splits.split_plan import SplitPlan
from orchestrator.scoring.pending_cases import scores_under
from orchestrator.scoring.statistics import cluster_interval, corrected_interval
from orchestrator.search.fit_jobs import FitJobRunner
from orchestrator.search.records.ledger import Ledger
from orchestrator.search.records.trial_score import fold_specs
from orchestrator.search.score_job import ScoreJob
from orchestrator.search.space.space import Configuration
from orchestrator.search.space.space_file import parse_space
from orchestrator.study.loading import DataChoice

CPU = torch.device("cpu")
TEST_SHARE = 1 / 4  # of five folds
SPACE = """
network = "encoder_decoder"
[search]
pretrained = {{ choice = [true, false] }}
seed       = {{ choice = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }}
threshold  = {{ sweep = [0.05, 0.95] }}
[fixed]
encoder       = "{encoder}"
decoder       = "{decoder}"
width         = {width}
image_size    = {size}
epochs        = {epochs}
batch_size    = 16
learning_rate = {learning_rate}
weight_decay  = 1e-2
optimizer     = "adamw"
schedule      = "cosine"
warmup_epochs = {warmup}
loss          = "bce_dice"
augmentation  = "flips"
[baseline]
pretrained = true
seed       = 0
"""


@dataclass(frozen=True)
class Settings:
    home: Path
    space: str
    plan: SplitPlan
    unseen: dict[str, str]  # name -> fingerprint
    unseen_ids: tuple[str, ...]

    def configuration(self, pretrained: bool, seed: int) -> Configuration:
        space = parse_space(self.space, "pretrained.py")
        return space.configuration({**space.baseline_params(), "pretrained": pretrained, "seed": seed})


@dataclass(frozen=True)
class Fit:
    pretrained: bool
    seed: int
    fold: int


def run(fit: Fit, settings: Settings) -> dict[str, Any]:
    """Train and score a fit, or read it where it is finished."""
    torch.set_num_threads(1)
    configuration = settings.configuration(fit.pretrained, fit.seed)
    ledger = Ledger(settings.home / "fits")
    runner = FitJobRunner(settings.home, settings.home / "cache", ledger)
    spec = fold_specs(configuration, settings.plan)[fit.fold]
    runner(spec, CPU, 0, lambda row: True)
    runner(ScoreJob(spec.fit_id, "unseen", settings.unseen, settings.unseen_ids), CPU, 0, lambda row: True)
    record, scored = ledger.read(spec.fit_id), ledger.read_scores(spec.fit_id, settings.unseen_ids)
    masks = configuration.masks.best(record.histograms)
    unseen = scores_under(scored.histograms, masks)["dice"]
    return {
        "pretrained": fit.pretrained,
        "seed": fit.seed,
        "fold": fit.fold,
        "fit_id": spec.fit_id,
        "in_domain": float(scores_under(record.histograms, masks)["dice"].mean()),
        "unseen": float(unseen.mean()),
        "unseen_cases": [round(float(value), 5) for value in unseen],
        "threshold": masks.threshold,
        "best_epoch": record.best_epoch + 1,
        "seconds": round(record.seconds),
        "weights_sha256": spec.weights_sha256,
    }


def all_fits(num_folds: int, num_seeds: int) -> Iterator[Fit]:
    """Both arms of a fold and a seed one after the other, so that what is unfinished is in pairs."""
    for seed in range(num_seeds):
        for fold in range(num_folds):
            yield from (Fit(pretrained, seed, fold) for pretrained in (True, False))


def table(rows: list[dict[str, Any]], groups: list[str]) -> str:
    """Means and spreads of both arms over the pairs that are complete, and their difference."""
    arms = [
        {(row["seed"], row["fold"]): row for row in rows if row["pretrained"] is arm} for arm in (True, False)
    ]
    pairs = sorted(arms[0].keys() & arms[1].keys())
    folds = sorted({fold for _, fold in pairs})
    lines = [f"{len(pairs)} pairs of fits; Dice in percent, mean ± standard deviation over fits", ""]
    lines += [
        "| images | pretrained | random | difference | 95 % over training sets |",
        "|---|---|---|---|---|",
    ]
    for name in ("in_domain", "unseen"):
        values = [[100 * arm[pair][name] for pair in pairs] for arm in arms]
        off = [a - b for a, b in zip(*values, strict=True)]
        by_fold = [mean(x for x, pair in zip(off, pairs, strict=True) if pair[1] == fold) for fold in folds]
        low, high = corrected_interval(by_fold, TEST_SHARE) if len(folds) > 1 else (float("nan"),) * 2
        texts = [f"{mean(one):.2f} ± {stdev(one) if len(one) > 1 else 0:.2f}" for one in (*values, off)]
        lines.append(f"| {name.replace('_', '-')} | {' | '.join(texts)} | {low:.2f} to {high:.2f} |")
    cases = [np.mean([arm[pair]["unseen_cases"] for pair in pairs], axis=0) for arm in arms]
    low, high = cluster_interval(100 * (cases[0] - cases[1]), groups)
    best = [mean(arm[pair]["best_epoch"] for pair in pairs) for arm in arms]
    lines += [
        "",
        f"unseen difference over {len(groups)} images in {len(set(groups))} groups: {low:.2f} to {high:.2f}",
        f"best epoch, mean: {best[0]:.1f} pretrained, {best[1]:.1f} random",
    ]
    return "\n".join(lines)


def loaded(args: argparse.Namespace) -> tuple[Settings, tuple[Dataset, ...]]:
    """Import both sets once, and split the first; near-duplicates are looked for within and between them."""
    for folder in (args.data, args.unseen):
        meta = folder / "meta.csv" if folder is args.unseen and args.group_column else None
        column = {"group_column": args.group_column} if meta else {}
        if not (args.home / "datasets" / folder.name).exists():
            add_dataset(args.home, folder.name, folder, groups=meta, allow_empty=True, **column)
    choice = DataChoice(args.home, [args.data.name], [args.unseen.name], f"k-fold:{args.folds}", holdout=0.0)
    _, tests, plan = choice.load(Display(note=lambda line: print(line, file=sys.stderr)))
    ids = tuple(case.id for dataset in tests for case in dataset.cases if case.id not in plan.left_out)
    fingerprints = {dataset.name: dataset.fingerprint for dataset in tests}
    space = SPACE.format(**vars(args), warmup=int(args.epochs > 1))
    return Settings(args.home, space, plan, fingerprints, ids), tests


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of images/ and masks/ to train on")
    parser.add_argument("--unseen", type=Path, required=True, help="folder of images/ and masks/ to test on")
    parser.add_argument("--group-column", help="of the unseen set's meta.csv: its videos or patients")
    parser.add_argument("--home", type=Path, default=Path("build/pretrained"))
    parser.add_argument("--out", type=Path, help="default: HOME/fits.jsonl")
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--decoder", default="unet")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pairs", type=int, help="stop after so many pairs of fits, for a trial run")
    args = parser.parse_args()
    args.home = args.home.expanduser().resolve()
    args.out = args.out or args.home / "fits.jsonl"
    return args


def main() -> None:
    args = arguments()
    settings, tests = loaded(args)
    fits = list(all_fits(args.folds, args.seeds))[: None if args.pairs is None else 2 * args.pairs]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows, began = [], time.perf_counter()
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool, args.out.open("a") as file:
        for done in as_completed([pool.submit(run, fit, settings) for fit in fits]):
            row = done.result()
            rows.append(row)
            file.write(json.dumps({"settings": vars(args), **row}, default=str) + "\n")
            file.flush()
            arm = "pretrained" if row["pretrained"] else "random"
            print(
                f"{len(rows)} of {len(fits)}: {arm}, seed {row['seed']}, fold {row['fold']}: in-domain "
                f"{100 * row['in_domain']:.2f}, unseen {100 * row['unseen']:.2f}; {row['seconds']} s of training, "
                f"{(time.perf_counter() - began) / 60:.0f} min in all",
                flush=True,
            )
    group_of = {case.id: case.group for dataset in tests for case in dataset.cases}
    print(f"\n{table(rows, [group_of[one] for one in settings.unseen_ids])}")


if __name__ == "__main__":
    main()
