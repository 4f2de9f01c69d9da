"""Scores of an exported network on datasets: what it may be scored on, image by image, kept as files or in MLflow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.common.display import Display, counted
from orchestrator.common.errors import BadData, python_errors_of
from orchestrator.common.files import write_atomically
from orchestrator.data.cases import Case, Dataset, list_datasets
from orchestrator.data.splits.plan import group_of_case
from orchestrator.data.splits.split_plan import count_near_duplicates
from orchestrator.results.case_scores import CaseScores, breakdown, means, worst_first
from orchestrator.results.export import evaluation
from orchestrator.results.export.bundle import BundleConfig, ExportedModel
from orchestrator.results.export.paper_scores import RequestedScore, asked_for, paper_scores_of
from orchestrator.results.mlflow.evaluation_run import log_evaluation, origin_of
from orchestrator.results.views.tables import comparison_dicts, metric_dicts, score_dicts
from orchestrator.scoring.components import PolypCounts
from orchestrator.scoring.metrics import REGISTRY, metric_name
from orchestrator.selection.comparison import Comparison, NetworkScores, compare_networks
from orchestrator.study.loading import DataChoice, near_duplicate_pairs

Pairs = tuple[tuple[str, str], ...]  # case ids of near-duplicates


@dataclass(frozen=True)
class Eligible:
    """The cases of datasets that a network can be scored on: it has seen none of them, and no near-duplicate."""

    config: BundleConfig
    datasets: Sequence[Dataset]
    cases: Sequence[Case]
    group_of: Mapping[str, str]  # case id -> group; near-duplicates share theirs
    left_out: Any
    why: Mapping[str, Counter[str]]  # dataset -> reason -> cases that are left out for it
    pairs: Pairs | None  # None: not looked for

    @classmethod
    def of(
        cls,
        config: BundleConfig,
        data: Sequence[str],
        home: Path,
        *,
        cache: Path | None = None,
        near_duplicates: bool = True,
        display: Display,
    ) -> Eligible:
        """The cases of these datasets of a home. Raises `BadData` for names that are given twice or not there."""
        if repeated := sorted({name for name in data if data.count(name) > 1}):
            raise BadData("--data", f"expected each dataset once, found {', '.join(repeated)} again")
        choice = DataChoice(home, data, cache=cache)
        datasets = choice.load_unchanged(display)
        seen: tuple[Dataset, ...] = ()
        pairs: Pairs | None = None
        if near_duplicates:
            seen, pairs = _also_seen(config, datasets, choice, display)
        else:
            display.note(
                "near-duplicates: not looked for; frames of one place count as if they were independent"
            )
        group_of = group_of_case((*datasets, *seen), pairs)
        cases, left_out = evaluation.cases_to_score(config, datasets, seen, group_of)
        reasons = evaluation.why_left_out(config, datasets, seen, group_of)
        why = {
            dataset.name: Counter(reasons[case.id] for case in dataset.cases if case.id in reasons)
            for dataset in datasets
        }
        found = cls(config, datasets, cases, group_of, left_out, why, pairs)
        for line in found.left_out_lines():
            display.note(line)
        return found

    def without_seen_by(self, other: Eligible, name: str, display: Display) -> Eligible:
        """The cases that another network, of that name, can be scored on too. Raises `BadData` if none is left.

        `display` notes how many are left out.
        """
        theirs = {case.id for case in other.cases}
        cases = [case for case in self.cases if case.id in theirs]
        if not cases:
            raise BadData(
                "--against",
                f"{name} has seen every image that the other network can be scored on; name other data",
            )
        if lost := len(self.cases) - len(cases):
            display.note(
                f"{counted(lost, 'further image')} left out, which {name} has seen, or near-duplicates of them"
            )
        return replace(self, cases=cases)

    def left_out_lines(self) -> list[str]:
        """Sentences that say, by dataset, which cases are not scored and why."""
        lines = []
        for dataset in self.datasets:
            if counts := self.why[dataset.name]:
                text = ", ".join(f"{count} {reason}" for reason, count in counts.items())
                lines.append(
                    f"{dataset.name}: {counts.total()} of {len(dataset.cases)} cases are left out: {text}"
                )
            if dataset.skipped:
                lines.append(
                    f"{dataset.name}: {len(dataset.skipped)} pairs are not cases, because they were skipped when it "
                    "was added; `orchestrator data show` lists them"
                )
        return lines


def _also_seen(
    config: BundleConfig, datasets: Sequence[Dataset], choice: DataChoice, display: Display
) -> tuple[tuple[Dataset, ...], Pairs]:
    """Further datasets that the network was trained on, where the home has them, and near-duplicates in all."""
    seen, unknown = evaluation.datasets_seen(config, datasets, list_datasets(choice.home))
    for name in unknown:
        display.note(
            f"near-duplicates: {name}, which the model was trained on, is not in {choice.home}; they are not looked "
            "for in it"
        )
    pairs = near_duplicate_pairs((*datasets, *seen), choice.cache_folder, display)
    display.note(f"near-duplicates: {count_near_duplicates(pairs)}")
    return seen, pairs


@python_errors_of
@dataclass(frozen=True)
class BundleScores:
    """Scores of an exported network, image by image."""

    bundle: ExportedModel
    eligible: Eligible
    scored: Sequence[CaseScores]
    metric: str  # that the worst cases and the breakdown go by
    asked: Sequence[RequestedScore]  # scores of papers
    papers: Sequence[float]  # their values
    device: str = ""  # where it predicted, in words
    compared: Sequence[Comparison] = ()  # with another network, dataset by dataset

    @classmethod
    def of(
        cls,
        bundle: ExportedModel,
        eligible: Eligible,
        metric: str = "dice",
        paper_scores: Sequence[str] = (),
        display: Display | None = None,
        device: str = "",
    ) -> BundleScores:
        """Score the eligible cases one by one. Raises `BadData` for a paper's score that is not known."""
        cases = eligible.cases
        asked = asked_for(list(paper_scores), len(cases))
        papers = paper_scores_of(bundle, cases, asked)
        with (display or Display()).bar(f"scoring {counted(len(cases), 'image')}") as on_progress:
            scored = list(evaluation.evaluate(bundle, cases, eligible.group_of, on_progress))
        return cls(bundle, eligible, scored, metric, asked, papers, device)

    def against(self, reference: BundleScores) -> BundleScores:
        """With a comparison, by `metric` and paired image by image, with another network on the same images."""
        by_place: dict[str, list[tuple[CaseScores, CaseScores]]] = {}
        for ours, theirs in zip(self.scored, reference.scored, strict=True):
            by_place.setdefault(ours.case.dataset, []).append((theirs, ours))
        scores = {
            place: NetworkScores(
                np.array([theirs.scores[self.metric] for theirs, _ in pairs]),
                np.array([ours.scores[self.metric] for _, ours in pairs]),
                [ours.group for _, ours in pairs],
            )
            for place, pairs in by_place.items()
        }
        rows = compare_networks(reference.bundle.name, self.bundle.name, scores)
        return replace(self, compared=rows)

    @property
    def study(self) -> str:
        """Name of the study that trained the network. Raises `BadBundle` where the export does not say it."""
        return origin_of(self.bundle.folder).study

    @property
    def num_groups(self) -> int:
        """Number of groups (near-duplicates, sequences or patients) that intervals resample."""
        return len({one.group for one in self.scored})

    @property
    def polyps(self) -> PolypCounts:
        """Counts over all images: polyps that were found as objects, and marked areas that match none."""
        counted = [(one.polyps, one.group) for one in self.scored if one.polyps is not None]
        return PolypCounts.total((polyps for polyps, _ in counted), [group for _, group in counted])

    @property
    def means(self) -> Mapping[str, tuple[float, tuple[float, float]]]:
        """Metric -> mean over images, and the limits of its 95 % interval."""
        return means(self.scored)

    def as_dict(self, worst: int = 20) -> dict[str, Any]:
        """Scores, counts and intervals as plain values; `worst`: how many of the worst images are named."""
        scored, metric, eligible = self.scored, self.metric, self.eligible
        datasets = eligible.datasets
        return {
            "cases": len(scored),
            "groups": self.num_groups,
            "near_duplicate_pairs": None if eligible.pairs is None else len(eligible.pairs),
            "left_out": eligible.left_out,
            "left_out_why": {name: dict(counts) for name, counts in eligible.why.items() if counts},
            "skipped": {dataset.name: len(dataset.skipped) for dataset in datasets if dataset.skipped},
            "threshold": eligible.config.threshold,
            "scores": metric_dicts(self.means),
            "paper_scores": {one.name: value for one, value in zip(self.asked, self.papers, strict=True)},
            "paper_scores_of": {
                one.name: {"reads": one.score.program.reads, "size": one.score.program.size}
                for one in self.asked
            },
            "polyps": self.polyps.as_dict(),
            "breakdown": score_dicts(breakdown(scored, metric)),
            "images_per_second": evaluation.images_per_second(scored),
            "compared": comparison_dicts(self.compared),
            "worst": [
                {"case": one.case.id, "dice": one.scores["dice"], metric: one.scores[metric]}
                for one in worst_first(scored, metric)[:worst]
            ],
        }

    def write(self, folder: Path, worst: int = 20) -> None:
        """Write every image's scores, `scores.csv`, and a sheet of the worst images, `worst.png`."""
        folder.mkdir(parents=True, exist_ok=True)
        evaluation.write_csv(self.scored, folder / "scores.csv", self.metric)
        sheet = evaluation.worst_sheet(self.bundle, self.scored, worst, self.metric)
        write_atomically(folder / "worst.png", sheet, sync=False)

    def log(self, tracking_uri: str, folder: Path | None = None) -> str:
        """Log means with their limits, and the files of `write`, in MLflow; returns the id of the run.

        It is a run in the experiment of the study that the network is of. Raises `BadBundle` where the export does not
        say which, `BadStudy` where MLflow does not have it, `BadMachine` where it does not answer.
        """
        origin = origin_of(self.bundle.folder)
        metrics = {
            one.name.replace("@", "_"): value for one, value in zip(self.asked, self.papers, strict=True)
        }
        for name, (mean, (low, high)) in self.means.items():
            found = {name: mean, f"{name}_low": low, f"{name}_high": high}
            metrics |= {key: value for key, value in found.items() if math.isfinite(value)}
        polyps = self.polyps.as_dict()
        for name in ("sensitivity", "false_positives_per_image"):
            as_metric = "polyp_sensitivity" if name == "sensitivity" else name
            for end in ("", "_low", "_high"):
                if (value := polyps[f"{name}{end}"]) is not None:
                    metrics[f"{as_metric}{end}"] = value
        metrics["images_per_second"] = evaluation.images_per_second(self.scored)
        config = self.eligible.config
        tags = {
            "threshold": str(config.threshold),
            "cases": str(len(self.scored)),
            "groups": str(self.num_groups),
        }
        files = [folder / name for name in ("scores.csv", "worst.png")] if folder else []
        return log_evaluation(tracking_uri, origin, config, self.eligible.datasets, metrics, tags, files)


def check_compared(bundle: Path, reference: Path, metric: str) -> None:
    """Raises `BadData` for two networks that have one name, or a metric that is the better the lower it is."""
    problems = []
    if bundle.resolve() == reference.resolve():
        problems.append(f"--against {reference}: expected another network than the one that is scored")
    elif bundle.resolve().name == reference.resolve().name:
        problems.append(
            f"--against {reference}: expected a folder of another name than {bundle.name}; rename one"
        )
    if not REGISTRY[metric].maximise:
        known = ", ".join(name for name, one in REGISTRY.items() if one.maximise)
        problems.append(
            f"--metric {metric}: networks are compared only by metrics of which higher is better: {known}"
        )
    if problems:
        raise BadData("evaluate", problems)


def checked_metric(name: str) -> str:
    """The metric of that name. Raises `BadData` with the known ones."""
    try:
        return metric_name(name)
    except ValueError as unknown:
        raise BadData("--metric", str(unknown)) from None
