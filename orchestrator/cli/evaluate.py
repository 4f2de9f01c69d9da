"""`orchestrator evaluate` scores an exported model on a dataset; `orchestrator compare` says which of two is better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from orchestrator.common.display import counted
from orchestrator.common.files import refuse_as_output, write_atomically
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import err, out, print_json, show_table

if TYPE_CHECKING:
    from orchestrator.results.bundle_scores import BundleScores
    from orchestrator.selection.comparison import Comparison


BundleFolder = Annotated[Path, typer.Argument(help="Folder that `best --export` made.")]
ScoredData = Annotated[list[str], typer.Option(help="Dataset to score the model on; repeat for several.")]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder for scores.csv and worst.png.")]
PaperScores = Annotated[
    list[str] | None,
    typer.Option(
        help="Also give a paper's own score, such as dice_pranet, of what that paper scored: maps, or exported masks, "
        "at its size. NAME@mask or NAME@map chooses which. An unknown name lists all scores."
    ),
]
Against = Annotated[
    Path | None,
    typer.Option(
        help="Another exported model; both are scored on the same images and compared image by image."
    ),
]
NumWorst = Annotated[int, typer.Option(min=1, help="Number of images on the sheet of the worst cases.")]
Log = Annotated[
    bool, typer.Option("--log", help="Log the scores as a run in the study's experiment in MLflow.")
]


def evaluate(
    bundle: BundleFolder,
    data: ScoredData,
    out_folder: OutFolder = None,
    paper_score: PaperScores = None,
    against: Against = None,
    metric: MaskMetric = "dice",
    worst: NumWorst = 20,
    near_duplicates: NearDuplicates = True,
    device: PredictDevice = "auto",
    log: Log = False,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Score an exported model on datasets: by image, center and polyp size, the worst cases first.

    Of the datasets that it was trained on, only the hold-out cases are scored; of others, frames that show the same
    place as a frame of those are left out. Intervals resample frames of one place together.
    """
    from orchestrator.api import exports
    from orchestrator.api.home import home_folder

    uri = _uri_of(bundle, tracking_uri, home_folder(home)) if log else None
    if out_folder is not None:
        refuse_as_output(out_folder, "--out", folder=True)
    scores = exports.evaluate(
        bundle,
        data,
        metric=metric,
        against=against,
        paper_scores=paper_score or (),
        near_duplicates=near_duplicates,
        device=device,
        home=home,
        cache=cache,
        display=CONSOLE,
    )
    if as_json:
        print_json(scores.as_dict(worst))
    else:
        _show(scores, f"{bundle.name} on {', '.join(data)}, {counted(len(scores.scored), 'image')}")
    remarks = err if as_json else out
    if out_folder is not None:
        scores.write(out_folder, worst)
        remarks.print(f"every image in {out_folder}/scores.csv, the worst in worst.png", highlight=False)
    if uri is not None:
        run_id = scores.log(uri, out_folder)
        text = f"logged in MLflow, experiment {scores.study}: run {run_id}"
        remarks.print(text, markup=False, highlight=False)


def _uri_of(bundle: Path, uri: str | None, home: Path) -> str:
    """Tracking URI for the scores. Raises the errors of the URI and of the bundle's study before scoring."""
    from orchestrator.results.mlflow.client import check_uri, default_uri
    from orchestrator.results.mlflow.evaluation_run import origin_of

    uri = uri or default_uri(home)
    check_uri(uri)
    origin_of(bundle)
    return uri


def _show(scores: BundleScores, title: str) -> None:
    """Print tables of the scores over all images and over kinds of images."""
    from orchestrator.results.case_scores import breakdown
    from orchestrator.results.export.evaluation import images_per_second
    from orchestrator.results.views.tables import metric_table, score_table
    from orchestrator.scoring.metrics import REGISTRY
    from orchestrator.scoring.statistics import few_groups

    metric, threshold = scores.metric, scores.eligible.config.threshold
    title = f"{title} in {counted(scores.num_groups, 'group')}, threshold {threshold:.3f}"
    out.print(metric_table(scores.means, title))
    if few := few_groups(scores.num_groups):
        out.print(few, highlight=False)
    for one, value in zip(scores.asked, scores.papers, strict=True):
        out.print(f"{one.name} {value:.4f}: {one.explained}", markup=False, highlight=False)
    out.print(scores.polyps.sentence(), highlight=False)
    kinds = "where it does well and where it does not, in percent"
    kinds += f"; {metric} in pixels" if REGISTRY[metric].unit == "pixels" else ""
    show_table(score_table(breakdown(scores.scored, metric), kinds, metric))
    out.print(
        f"{images_per_second(scores.scored):.1f} images a second on {scores.device}, one at a time, from "
        "decoded pixels to mask",
        highlight=False,
    )
    if scores.compared:
        _show_comparison(scores.compared, metric)


def _show_comparison(rows: Sequence[Comparison], metric: str) -> None:
    from orchestrator.results.views.tables import comparison_table
    from orchestrator.selection.comparison import verdict

    show_table(comparison_table(rows, f"differences in {metric}, in points of a percent", out.width))
    for row in rows:
        out.print(verdict(row, metric), highlight=False)


def compare(
    studies: Annotated[
        list[str], typer.Argument(help="Studies, or STUDY:TRIAL; the first is the reference.")
    ],
    metric: Metric = "dice",
    plot: Annotated[Path | None, typer.Option(help="PNG file for a plot of the differences.")] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say which of several systems is better, by how much, and how sure that is, from scores paired by image."""
    from orchestrator.api import studies as api
    from orchestrator.cli.console.reading import ON_DAMAGE
    from orchestrator.results.views.tables import comparison_dicts

    if plot is not None:
        _refuse_plot(plot)
    rows = api.compare(*studies, metric=metric, home=home, display=ON_DAMAGE)
    if as_json:
        print_json(comparison_dicts(rows))
    else:
        _show_comparison(rows, metric)
    if plot is not None:
        from orchestrator.results.views.plots import difference_plot

        plot.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(plot, difference_plot(rows, metric), sync=False)
        (err if as_json else out).print(f"plot in {plot}", highlight=False)


def _refuse_plot(plot: Path) -> None:
    from orchestrator.common.errors import BadData

    if plot.suffix.lower() not in ("", ".png"):
        raise BadData(f"--plot {plot}", f"expected a name that ends in .png, found {plot.suffix}")
    refuse_as_output(plot, "--plot")
