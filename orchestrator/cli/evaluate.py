"""`orchestrator evaluate` scores an exported model on a dataset; `orchestrator compare` says which of two is better."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    AsJson,
    Cache,
    Home,
    MaskMetric,
    Metric,
    NearDuplicates,
    PredictDevice,
    TrackingUri,
)
from orchestrator.cli.console.printing import bar, err, note, out, print_json, show_table
from orchestrator.cli.data.splits import load_unchanged, look_for_near_duplicates
from orchestrator.common.files import write_atomically

if TYPE_CHECKING:
    from orchestrator.data.cases import Case, Dataset
    from orchestrator.results.export.bundle import BundleConfig
    from orchestrator.results.export.evaluation import CaseScores
    from orchestrator.results.export.paper_scores import Asked
    from orchestrator.results.mlflow.evaluation_run import Origin


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Folder that `best --export` made.")],
    data: Annotated[list[str], typer.Option(help="Dataset to score it on; repeat for several.")],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for scores.csv and worst.png.")
    ] = None,
    paper_score: Annotated[
        list[str] | None,
        typer.Option(
            help="A paper's own score as well, such as dice_pranet, of what that paper scored: maps, or exported "
            "masks, at its size. NAME@mask and NAME@map choose. A wrong name lists all."
        ),
    ] = None,
    metric: MaskMetric = "dice",
    worst: Annotated[int, typer.Option(min=1, help="Images on the sheet of the worst cases.")] = 20,
    near_duplicates: NearDuplicates = True,
    device: PredictDevice = "auto",
    log: Annotated[
        bool, typer.Option("--log", help="Write a run with the scores into the study's experiment in MLflow.")
    ] = False,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Score an exported model on datasets: by image, center and polyp size, the worst cases first.

    Of the datasets it was trained on, only the hold-out cases are scored; of others, no frame that shows the same place
    as one of those. Intervals draw frames of one place together.
    """
    from orchestrator.common.errors import BadData
    from orchestrator.results.export import evaluation
    from orchestrator.results.export.bundle import Bundle
    from orchestrator.results.export.paper_scores import asked_for, paper_scores_of
    from orchestrator.results.export.prediction.device import on_device
    from orchestrator.scoring.metrics import metric_name

    try:
        metric = metric_name(metric)
    except ValueError as unknown:
        raise BadData("--metric", str(unknown)) from None
    if out_folder is not None and out_folder.exists() and not out_folder.is_dir():
        raise BadData(f"--out {out_folder}", "expected a folder, or a name that is free, found a file")
    loaded, where = on_device(Bundle.load(bundle), device)
    home = home.expanduser().resolve()
    logged = _Log.of(bundle, tracking_uri, home) if log else None
    if repeated := sorted({name for name in data if data.count(name) > 1}):
        raise BadData("--data", f"expected each dataset once, found {', '.join(repeated)} again")
    datasets = load_unchanged(home, data, cache)
    seen, pairs = _what_it_saw(loaded.config, datasets, home, cache, near_duplicates=near_duplicates)
    chosen = _cases(loaded.config, datasets, seen, pairs)
    asked = asked_for(paper_score or [], len(chosen.cases))
    papers = paper_scores_of(loaded, chosen.cases, asked)
    with bar(f"scoring {len(chosen.cases)} images") as on_progress:
        scored = list(evaluation.evaluate(loaded, chosen.cases, chosen.group_of, on_progress))
    if as_json:
        print_json(_as_dict(loaded.config, datasets, pairs, chosen, scored, asked, papers, metric, worst))
    else:
        title = f"{bundle.name} on {', '.join(data)}, {len(scored)} images"
        _show(title, loaded.config.threshold, scored, asked, papers, metric, where)
    if out_folder is not None:
        out_folder.mkdir(parents=True, exist_ok=True)
        evaluation.write_csv(scored, out_folder / "scores.csv", metric)
        sheet = evaluation.worst_sheet(loaded, scored, worst, metric)
        write_atomically(out_folder / "worst.png", sheet, sync=False)
        (err if as_json else out).print(
            f"every image in {out_folder}/scores.csv, the worst in worst.png", highlight=False
        )
    if logged is not None:
        text = logged.write(loaded.config, datasets, scored, papers, asked, out_folder)
        (err if as_json else out).print(text, markup=False, highlight=False)


@dataclass(frozen=True)
class _Log:
    """Where scores are logged."""

    origin: Origin
    uri: str

    @classmethod
    def of(cls, bundle: Path, uri: str | None, home: Path) -> _Log:
        """Raises what is wrong before anything is scored."""
        from orchestrator.results.mlflow.client import check_uri, default_uri
        from orchestrator.results.mlflow.evaluation_run import origin_of

        uri = uri or default_uri(home)
        check_uri(uri)
        return cls(origin_of(bundle), uri)

    def write(
        self,
        config: BundleConfig,
        datasets: Sequence[Dataset],
        scored: Sequence[CaseScores],
        papers: Sequence[float],
        asked: Sequence[Asked],
        out_folder: Path | None,
    ) -> str:
        """Log means, with their limits, and the files that were written; what was done, in a sentence."""
        from orchestrator.results.export import evaluation
        from orchestrator.results.mlflow.evaluation_run import log_evaluation

        metrics = {one.name.replace("@", "_"): value for one, value in zip(asked, papers, strict=True)}
        for name, (mean, (low, high)) in evaluation.means(scored).items():
            found = {name: mean, f"{name}_low": low, f"{name}_high": high}
            metrics |= {key: value for key, value in found.items() if math.isfinite(value)}
        metrics["images_per_second"] = evaluation.images_per_second(scored)
        counts = {"cases": len(scored), "groups": len({one.group for one in scored})}
        tags = {"threshold": str(config.threshold)} | {key: str(value) for key, value in counts.items()}
        files = [out_folder / name for name in ("scores.csv", "worst.png")] if out_folder else []
        run_id = log_evaluation(self.uri, self.origin, config, datasets, metrics, tags, files)
        return f"logged in MLflow, experiment {self.origin.study}: run {run_id}"


@dataclass(frozen=True)
class _Chosen:
    """The cases of datasets that a network can be scored on."""

    cases: Sequence[Case]
    group_of: dict[str, str]
    left_out: Any
    why: dict[str, Counter[str]]  # dataset -> reason -> cases that are left out for it


def _cases(
    config: BundleConfig,
    datasets: Sequence[Dataset],
    seen: Sequence[Dataset],
    pairs: tuple[tuple[str, str], ...] | None,
) -> _Chosen:
    """What can be scored; what is left out is said."""
    from orchestrator.data.splits.plan import group_of_case
    from orchestrator.results.export import evaluation

    group_of = group_of_case((*datasets, *seen), pairs)
    cases, left_out = evaluation.cases_to_score(config, datasets, seen, group_of)
    reasons = evaluation.why_left_out(config, datasets, seen, group_of)
    why = {
        dataset.name: Counter(reasons[case.id] for case in dataset.cases if case.id in reasons)
        for dataset in datasets
    }
    for dataset in datasets:
        if counts := why[dataset.name]:
            text = ", ".join(f"{count} {reason}" for reason, count in counts.items())
            note(f"{dataset.name}: {counts.total()} of {len(dataset.cases)} cases are left out: {text}")
        if dataset.skipped:
            note(
                f"{dataset.name}: {len(dataset.skipped)} pairs are no cases, for they were skipped when it was added; "
                "`orchestrator data show` lists them"
            )
    return _Chosen(cases, group_of, left_out, why)


def _as_dict(
    config: BundleConfig,
    datasets: Sequence[Dataset],
    pairs: tuple[tuple[str, str], ...] | None,
    chosen: _Chosen,
    scored: Sequence[CaseScores],
    asked: Sequence[Asked],
    papers: Sequence[float],
    metric: str,
    worst: int,
) -> dict[str, Any]:
    """Everything as plain values."""
    from orchestrator.results.export import evaluation
    from orchestrator.results.views.tables import metric_dicts, score_dicts

    return {
        "cases": len(scored),
        "groups": len({one.group for one in scored}),
        "twins": None if pairs is None else len(pairs),
        "left_out": chosen.left_out,
        "left_out_why": {name: dict(counts) for name, counts in chosen.why.items() if counts},
        "skipped": {dataset.name: len(dataset.skipped) for dataset in datasets if dataset.skipped},
        "threshold": config.threshold,
        "scores": metric_dicts(evaluation.means(scored)),
        "paper_scores": {one.name: value for one, value in zip(asked, papers, strict=True)},
        "paper_scores_of": {
            one.name: {"reads": one.score.program.reads, "size": one.score.program.size} for one in asked
        },
        "breakdown": score_dicts(evaluation.breakdown(scored, metric)),
        "images_per_second": evaluation.images_per_second(scored),
        "worst": [
            {"case": one.case.id, "dice": one.scores["dice"], metric: one.scores[metric]}
            for one in evaluation.worst_first(scored, metric)[:worst]
        ],
    }


def _show(
    title: str,
    threshold: float,
    scored: Sequence[CaseScores],
    asked: Sequence[Asked],
    papers: Sequence[float],
    metric: str,
    where: str,
) -> None:
    """Tables of all images, and of their kinds."""
    from orchestrator.results.export import evaluation
    from orchestrator.results.views.tables import metric_table, score_table
    from orchestrator.scoring.metrics import REGISTRY
    from orchestrator.scoring.statistics import few_groups

    num_groups = len({one.group for one in scored})
    out.print(
        metric_table(evaluation.means(scored), f"{title} in {num_groups} groups, threshold {threshold:.3f}")
    )
    if few := few_groups(num_groups):
        out.print(few, highlight=False)
    for one, value in zip(asked, papers, strict=True):
        out.print(f"{one.name} {value:.4f}: {one.explained}", markup=False, highlight=False)
    kinds = "where it does well and where it does not, in percent"
    kinds += f"; {metric} in pixels" if REGISTRY[metric].unit == "pixels" else ""
    show_table(score_table(evaluation.breakdown(scored, metric), kinds, metric))
    out.print(
        f"{evaluation.images_per_second(scored):.1f} images a second on {where}, one at a time, from decoded "
        "pixels to mask",
        highlight=False,
    )


def _what_it_saw(
    config: BundleConfig,
    datasets: Sequence[Dataset],
    home: Path,
    cache: Path | None,
    *,
    near_duplicates: bool,
) -> tuple[tuple[Dataset, ...], tuple[tuple[str, str], ...] | None]:
    """Further datasets that the model was trained on, if imported, and near-duplicates in all; None: not looked for."""
    from orchestrator.data.cases import list_datasets
    from orchestrator.data.splits.split_file import count_near_duplicates
    from orchestrator.results.export.evaluation import datasets_seen

    if not near_duplicates:
        err.print(
            "near-duplicates: not looked for; frames of one place count as if they were independent",
            highlight=False,
        )
        return (), None
    seen, unknown = datasets_seen(config, datasets, list_datasets(home))
    for name in unknown:
        err.print(
            f"near-duplicates: {name}, which the model was trained on, is not in {home}; they are not looked for in it",
            highlight=False,
        )
    pairs = look_for_near_duplicates((*datasets, *seen), cache or home / "cache")
    err.print(f"near-duplicates: {count_near_duplicates(pairs)}", highlight=False)
    return seen, pairs


def compare(
    studies: Annotated[
        list[str], typer.Argument(help="Studies, or STUDY:TRIAL; the first is the reference.")
    ],
    metric: Metric = "dice",
    plot: Annotated[Path | None, typer.Option(help="PNG of the differences.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say which of several systems is better, by how much, and how sure that is; paired, image by image."""
    from orchestrator.cli.console.reading import known_metric, tell_damage
    from orchestrator.common.errors import Mistakes
    from orchestrator.results.views.tables import comparison_dicts, comparison_table
    from orchestrator.search.store.study_store import find_study
    from orchestrator.selection import comparison

    home, mistakes, contenders = home.expanduser().resolve(), Mistakes(), []
    with mistakes.noted():
        metric = known_metric(metric)
    found = {}
    for name in dict.fromkeys(name.partition(":")[0] for name in studies):
        with mistakes.noted():
            found[name] = find_study(home, name).snapshot()
            tell_damage(found[name])
    mistakes.raise_all()
    for name, _, number in (name.partition(":") for name in studies):
        with mistakes.noted():
            contenders.append(comparison.compared_system(found[name], number, metric))
    mistakes.raise_all()
    rows = comparison.compare(contenders)
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
    if as_json:
        print_json(comparison_dicts(rows))
    else:
        show_table(comparison_table(rows, f"differences in {metric}, in points of a percent"))
        for row in rows:
            out.print(comparison.verdict(row, metric), highlight=False)
    if plot is not None:
        from orchestrator.results.views.plots import difference_plot

        write_atomically(plot, difference_plot(rows, metric), sync=False)
        (err if as_json else out).print(f"plot in {plot}", highlight=False)
