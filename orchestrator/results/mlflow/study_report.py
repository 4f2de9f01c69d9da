"""What a running study tells: MLflow through `MlflowWriter`, people through two callables of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from orchestrator.data.cases import Case, Dataset
from orchestrator.data.images import read_image, read_mask
from orchestrator.data.resize import resize_probability
from orchestrator.data.splits.proportions import lopsided
from orchestrator.data.splits.split_file import SplitPlan
from orchestrator.results.export.exported_network import fold_scores, outside_metrics, training_facts
from orchestrator.results.mlflow.writer import MlflowWriter
from orchestrator.results.views.plots import Tile, learning_curves, overlay_sheet, threshold_curve
from orchestrator.scoring.formatting import percent
from orchestrator.scoring.histograms import NUM_BINS
from orchestrator.scoring.mask_choice import MaskChoice
from orchestrator.scoring.metrics import scores_of_masks
from orchestrator.scoring.postprocess import PostProcess
from orchestrator.search.budget.limits import End
from orchestrator.search.fit_jobs import NUM_EXAMPLES
from orchestrator.search.forecast.width import WidthChoice
from orchestrator.search.goals.objective import Objective
from orchestrator.search.race.rules import Verdict
from orchestrator.search.records.fit_records import FitRecord
from orchestrator.search.records.status import Status
from orchestrator.search.records.trial_score import TrialScore
from orchestrator.search.store.study_store import (
    StudyStore,
    StudyTrial,
    champion_fit,
    finished_score,
    whole_study,
)
from orchestrator.selection.nested import nested_of
from orchestrator.selection.ranking import select_trial
from orchestrator.selection.reevaluation import Reevaluated, reevaluated_on

if TYPE_CHECKING:
    from orchestrator.study.spec import Study
    from orchestrator.training.ray.lanes import Shape
from orchestrator.results.provenance import environment

OWN = "own_threshold_"  # what the metrics of a fold begin with at the threshold that is best for it alone
MAX_SHOWN = 6  # folds on the sheet of examples, which takes a second each to draw
SETTLE_S = 120.0  # at the end, how long MLflow is waited for


class Report:
    """Reports one study; a context for as long as it runs."""

    def __init__(
        self,
        home: StudyStore,
        tracking_uri: str | None,
        *,
        say: Callable[[str], None],
        show: Callable[[Status], None],
    ) -> None:
        """`say(line)` prints a line; `show(status)` how the study stands, about once a second."""
        self.home, self.say, self.progress = home, say, show
        self.uri = tracking_uri or default_uri(home.home)
        # A server knows where its artifacts go; our own database is told.
        self.artifacts = None if tracking_uri else str(home.home / "mlartifacts")
        self.cases: dict[str, Case] = {}
        self.folds: tuple[str, ...] = ()  # names
        self.best: tuple[float, int] | None = None  # objective, minus the trial's number

    def __enter__(self) -> Self:
        spool = self.home.folder / "mlflow-spool"
        self.objective, self.secondary = self.home.objective(), self.home.secondary()
        tags = study_tags(self.home)
        self.tracking = MlflowWriter(self.uri, self.home.name, self.artifacts, tags, spool=spool)
        return self

    def __exit__(self, *_: object) -> None:
        self.tracking.close(SETTLE_S)

    def started(self, study: Study, shape: Shape) -> None:
        self.cases = {case.id: case for dataset in study.datasets for case in dataset.cases}
        self.folds = tuple(fold.name for fold in study.plan.folds)
        self.tracking.study(
            {
                "search_space.toml": study.space.text,
                "splits.json": self.home.splits_file.read_text(),
                "environment.json": json.dumps(
                    {**environment(), "race": study.race, "sampler": study.sampler}, indent=1
                ),
            },
            [_use(dataset, "source") for dataset in study.datasets]
            + [_use(dataset, "unseen") for dataset in study.unseen],
        )
        before = [trial for trial in self.home.trials() if trial.state != "open"]
        for trial in before:
            self._count(trial)
        width = f" of {shape.workers_per_lane} workers" if shape.workers_per_lane > 1 else ""
        self.say(
            f"study {self.home.name}: until {study.budget}; {len(study.plan.folds)} folds, {study.plan.name}, "
            f"{len(study.plan.test)} cases held out, {shape.num_lanes} lane(s){width} on {shape.device}"
            + (f"; {len(before)} trial(s) are finished already" if before else "")
        )
        for line in cautions(study.plan):
            self.say(line)
        baseline = study.space.configuration(study.space.baseline_params())
        if (broken := self.secondary.broken(baseline)) is not None:
            self.say(
                f"the paper's setting has {broken}: it is trained to compare with, and is never champion"
            )

    def width_chosen(self, choice: WidthChoice) -> None:
        self.tracking.study_tags({"workers_per_fit": str(choice.width), "workers_per_fit_why": choice.why})
        self.say(choice.why)

    def trial_started(self, number: int, params: dict[str, Any]) -> None:
        self.tracking.trial_started(number, params)

    def news(self, number: int, fold: int, fit_id: str, rows: list[dict[str, float]]) -> None:
        if rows:
            self.tracking.epoch(number, self._label(fold), fit_id, rows)

    def fold_finished(self, number: int, fold: int, record: FitRecord, masks: MaskChoice) -> None:
        self._fold(number, self._label(fold), self.folds[fold], record, masks)

    def _fold(self, number: int, label: str, name: str, record: FitRecord, masks: MaskChoice) -> None:
        scores = own_scores(record, masks)
        metrics = scores | {"best_epoch": record.best_epoch, "seconds": record.seconds}
        self.tracking.fold_finished(number, label, record.fit_id, record.curves, metrics)
        dice = f"dice {percent(scores['dice'])}" if "dice" in scores else own_threshold_text(scores)
        self.say(
            f"trial {number} {name}  {dice}  "
            f"best epoch {record.best_epoch + 1}/{len(record.curves)}  {record.seconds:.1f} s"
        )

    def judged(self, number: int, verdict: Verdict) -> None:
        self.tracking.verdict(number, asdict(verdict))
        if (
            verdict.action == "pause"
        ):  # who goes on says so by going on, and a trial that is over is told as that
            self.say(f"trial {number} waits: {verdict.reason}")

    def trial_finished(self, trial: StudyTrial) -> None:
        self._count(trial)
        searched = "  ".join(f"{name} {_short(value)}" for name, value in trial.searched.items())
        score = trial.score()
        if (partial := trial.partial) is not None and trial.state == "stopped":
            self.tracking.trial_finished(trial.number, partial.metrics(), "stopped", trial.error)
            self.say(f"trial {trial.number} stopped {partial}: {trial.error}  ({searched})")
            return
        if trial.state == "failed" or score is None:
            self.tracking.trial_finished(trial.number, {}, "failed", trial.error)
            self.say(f"trial {trial.number} failed: {trial.error}  ({searched})")
            return
        spread = {
            "threshold": score.threshold,
            "folds_seen": float(trial.num_folds),  # as of stopped trials, to compare with those
            "dice_on_seen_folds": score.metrics["dice"],
            "seconds": sum(record.seconds for record in trial.records),
        }
        if score.cross_fitted is not None:
            spread["dice_cross_fitted"] = score.cross_fitted["dice"]
        if self.objective.name != "mean":
            spread["objective"] = self.objective(score)
        told, also = "", self.secondary.values(trial.configuration, score, trial.inference_ms)
        for name, value in zip(self.secondary.names, also, strict=True):
            spread[f"objective_{name.replace('-', '_')}"] = value
            told += f"  {name} {value:.4g}"
        if score.fold_dice_std is not None:
            spread["fold_dice_std"] = score.fold_dice_std
        for fold, record in enumerate(trial.records):
            scores = fold_scores(record, score.masks)
            self.tracking.fold_scores(trial.number, self._label(fold), record.fit_id, scores)
        self.tracking.overlays(trial.number, pictures(trial, score, self.cases))
        self.tracking.trial_finished(trial.number, score.metrics | spread)
        worth = self.objective(score)
        best = ", best so far" if self.best == (worth, -trial.number) else ""
        self.say(
            f"trial {trial.number} done  {self.objective.label()} {percent(worth)}{best}{told}  ({searched})"
        )

    def ends(self, end: End) -> None:
        self.tracking.study_tags({"ended_by": end.by, "ended_why": end.why})
        rest = "" if end.is_of_this_run else "; those in flight and the best go on, as far as the budget goes"
        self.say(f"no new trial is begun: {end.why}{rest}")

    def reevaluation_started(self, trials: Sequence[int], num_fits: int) -> None:
        numbers = ", ".join(map(str, trials))
        self.say(
            f"trials {numbers} cannot be told apart: scored again {reevaluated_on(self.home)}; {num_fits} fits to go"
        )

    def fold_reevaluated(self, number: int, record: FitRecord, masks: MaskChoice) -> None:
        self._fold(number, record.spec.fold.replace(" ", "-"), record.spec.fold, record, masks)

    def finished(self, champion: StudyTrial | None) -> None:
        if champion is None:
            self.tracking.summary({})
            return
        score = finished_score(champion)
        outside = self.home.outside_scores(champion_fit(champion).fit_id, score.masks)
        metrics = outside_metrics(outside)
        record = champion_fit(champion)
        fold = training_facts(self.home.plan(), record).label
        scored_by = {"outside_scores_of": f"network of {fold} of trial {champion.number}"} if metrics else {}
        front, standing = self.home.front(), self.home.ranked()
        params = {trial.number: trial.params for trial, _ in standing}
        if self.secondary.objectives:
            for number in params:
                on_front = "true" if number in front else "false"
                self.tracking.trial_scores(number, {}, {"pareto": on_front}, params[number])
            self.say(f"no trial is better in all objectives than: {', '.join(map(str, front))}")
        selection = select_trial(self.home, standing)
        for one in selection.again:
            self.tracking.trial_scores(
                one.trial,
                reevaluation_metrics(one, self.objective),
                {"scored_again": "true"},
                params[one.trial],
            )
        self.tracking.trial_scores(
            champion.number,
            metrics | selection.metrics(),
            {"champion": "true"} | scored_by | selection.tags(),
            champion.params,
        )
        if metrics:  # they are the fold network's own
            label = fold_label(fold, int(record.spec.fold))
            self.tracking.fold_finished(champion.number, label, record.fit_id, record.curves, {})
            self.tracking.fold_scores(champion.number, label, record.fit_id, metrics)
        again = reevaluation_metrics(selection.again[0], self.objective) if selection.again else {}
        if scored_by:
            self.tracking.study_tags(scored_by)
        nested = nested_of(self.home)
        if nested is not None:
            self.tracking.study_tags({"nested": nested.sentences()[0]})
        self.tracking.summary(
            {
                "champion_trial": champion.number,
                **score.metrics,
                **metrics,
                **again,
                **(nested.metrics() if nested else {}),
            }
        )
        for line in selection.reevaluation_sentences():
            self.say(line)

    def _label(self, fold: int) -> str:
        return fold_label(self.folds[fold], fold)

    def _count(self, trial: StudyTrial) -> None:
        score = trial.score() if trial.state != "failed" else None
        if score is not None:
            self.best = max(self.best or (-1.0, 0), (self.objective(score), -trial.number))


def own_scores(record: FitRecord, masks: MaskChoice) -> dict[str, float]:
    """Scores of one fit by the masks that its own cases choose, of those that its trial can have.

    Where nothing is left open these are the masks of the trial. Else the scores, a little too good, are named so: those
    by the trial's masks are known when all its folds are.
    """
    own = masks.best(record.histograms)
    scores = fold_scores(record, own) | {"threshold": own.threshold}
    return {own_name(name): value for name, value in scores.items()} if masks.is_open else scores


def own_name(metric: str) -> str:
    """own_threshold_dice; own_threshold."""
    return OWN.rstrip("_") if metric == "threshold" else f"{OWN}{metric}"


def own_threshold_text(scores: Mapping[str, float]) -> str:
    """The Dice of a fold at the threshold that is best for it alone."""
    return f"dice {percent(scores[f'{OWN}dice'])} at its own best threshold"


def reevaluation_metrics(one: Reevaluated, objective: Objective) -> dict[str, float]:
    """What both scorings of a finalist say by the study's objective, for MLflow."""
    name = f"rescored_{objective.label()}".replace("-", "_").replace(" ", "_")
    return {name: one.both, f"{name}_fresh": one.fresh, "search_optimism": one.optimism}


def study_tags(home: StudyStore) -> dict[str, str]:
    """What every run of a study is tagged with."""
    objectives = ", ".join([home.objective().label(), *home.secondary().names])
    tags = {"study_id": home.study_id, "objective": objectives} | split_tags(home.plan())
    whole = whole_study(home.home, home.name)
    return tags if whole == home.name else tags | {"outer_fold_of": whole}


def fold_label(name: str, fold: int) -> str:
    """What MLflow calls a fold: its number, or the name of what it validates on."""
    return str(fold) if name == f"fold {fold}" else name


def split_tags(plan: SplitPlan) -> dict[str, str]:
    """How the cases were dealt, for MLflow: by it, runs of different studies can be told apart."""
    return {
        "split": plan.name,
        "split_digest": plan.digest,
        "twin_pairs": "not looked for"
        if plan.num_near_duplicates is None
        else str(sum(plan.num_near_duplicates)),
        "twin_pairs_between": "not looked for"
        if plan.num_near_duplicates is None
        else str(plan.num_near_duplicates.between),
        "dropped_cases": _listed(plan.num_dropped) or "0",
        "hold_out_cases": str(len(plan.test)),
    } | ({"split_warning": warning} if (warning := lopsided(plan)) else {})


def cautions(plan: SplitPlan) -> list[str]:
    """What whoever reads the scores of this split must know, a line each."""
    lines = []
    if not plan.groups_known and plan.near_duplicates is None:
        lines.append(
            "groups (videos, patients) are unknown, so images of one may be on both sides of a split"
        )
    elif plan.near_duplicates is None:
        lines.append(
            "near-identical images were not looked for, so two groups that show one place may be parted"
        )
    elif not plan.groups_known:
        lines.append(
            f"groups (videos, patients) are unknown; {len(plan.near_duplicates)} pairs of near-duplicate images are "
            "kept together, other images of one patient may be on both sides of a split"
        )
    if warning := lopsided(plan):
        lines.append(warning)
    if len(plan.folds) == 1:
        lines.append("there is one fold, so a swept threshold is chosen on the images it is scored on")
    if plan.num_dropped:
        lines.append(f"images left out of validation and tests: {_listed(plan.num_dropped)}")
    return lines


def default_uri(home: Path) -> str:
    """MLflow's database where no server is named."""
    return f"sqlite:///{home / 'mlflow.db'}"


def pictures(trial: StudyTrial, score: TrialScore, cases: Mapping[str, Case]) -> dict[str, bytes]:
    """PNGs of a finished trial: cases from worst to best, learning curves, Dice against threshold."""
    title = f"trial {trial.number}, {trial.configuration.network}"
    shown = trial.records[:MAX_SHOWN]
    which = "each fold" if shown == trial.records else f"the first {MAX_SHOWN} of {len(trial.records)} folds,"
    tiles = [
        _tile(cases[case_id], bins, score.masks)
        for record in shown
        for case_id, bins in record.examples.items()
    ]
    sizes = [len(record.case_ids) for record in trial.records]
    return {
        "examples.png": overlay_sheet(
            tiles, f"{title}: {which} from worst to best at its own threshold", columns=NUM_EXAMPLES
        ),
        "learning_curves.png": learning_curves(
            {_fold_name(record): record.curves for record in trial.records}, title
        ),
        "threshold.png": threshold_curve(
            np.concatenate([record.histograms for record in trial.records]),
            np.repeat(np.arange(len(sizes)), sizes),
            score.masks,
            title,
        ),
    }


def _fold_name(record: FitRecord) -> str:
    return f"fold {record.spec.fold}" if record.spec.fold.isdigit() else record.spec.fold


def _tile(case: Case, bins: np.ndarray, masks: PostProcess) -> Tile:
    middle = (bins.astype(np.float32) + np.float32(0.5)) / np.float32(NUM_BINS)
    probability = resize_probability(middle, case.height, case.width)
    truth, mask = read_mask(case.mask), masks.apply(probability)
    dice = scores_of_masks(mask, truth)["dice"]
    return Tile(case.id.split("/", 1)[1], read_image(case.image), mask, truth, dice)


def _use(dataset: Dataset, context: str) -> tuple[str, str, int, str]:
    return dataset.name, dataset.fingerprint, len(dataset.cases), context


def _listed(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} ({reason})" for reason, count in dropped.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
