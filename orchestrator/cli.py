"""The commands; the only file that prints or exits.

Exit codes: 0 done, 1 it failed, 2 the user can mend it, 130 interrupted (and, for a search, resumable).
What a command needs is imported inside it, so that `--help` does not wait for torch, Ray and MLflow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from orchestrator.errors import FitFailed, UserError

if TYPE_CHECKING:
    from orchestrator.data.cases import Dataset
    from orchestrator.data.splits import SplitPlan
    from orchestrator.search.home import StudyHome, StudyTrial
    from orchestrator.search.ledger import FitRecord

LOG_WIDTH = 140  # a log file has no width; tables need one
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else LOG_WIDTH)
err = Console(stderr=True, soft_wrap=True)

app = typer.Typer(
    help="Search hyperparameters and cross-validate polyp segmentation networks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Datasets: import, look at, check.", no_args_is_help=True)
space_app = typer.Typer(help="Search-space files: check, describe.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(space_app, name="space")

Home = Annotated[
    Path,
    typer.Option(
        envvar="ORCHESTRATOR_HOME", help="Where datasets, studies and MLflow live; shared by all nodes."
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        envvar="ORCHESTRATOR_CACHE",
        help="Where decoded images are kept; a fast local disk. Default: HOME/cache.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What trains.")]
Address = Annotated[
    str,
    typer.Option(
        help="auto: a running Ray cluster, else this machine; local: this machine; or HOST:PORT of a head node."
    ),
]
Width = Annotated[
    int, typer.Option(min=1, help="Data-parallel workers of one fit; does not change its result.")
]
Data = Annotated[list[str], typer.Option(help="Dataset to train on; repeat for several.")]
Unseen = Annotated[
    list[str] | None, typer.Option(help="Dataset that only the champion is scored on; repeat for several.")
]
Splits = Annotated[str, typer.Option(help="five-fold, or the JSON file of a split.")]
Holdout = Annotated[
    float, typer.Option(min=0, max=0.5, help="Share of the cases set aside for the champion's test.")
]
Metric = Annotated[str, typer.Option(help="dice, iou, precision, recall, f2 or accuracy.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the split and of the search.")]
TrackingUri = Annotated[
    str | None, typer.Option(envvar="MLFLOW_TRACKING_URI", help="MLflow server. Default: SQLite in HOME.")
]
DEFAULT_HOME = Path.home() / ".orchestrator"


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        app()
    except UserError as mistake:
        err.print(f"[bold red]error:[/] {_plain(str(mistake))}", highlight=False)
        sys.exit(2)
    except FitFailed as failure:
        err.print(f"[bold red]failed:[/] {_plain(str(failure))}", highlight=False)
        sys.exit(1)


@data_app.command("add")
def data_add(
    name: Annotated[str, typer.Argument(help="Name of the dataset, for --data.")],
    path: Annotated[Path, typer.Argument(help="Folder with images/ and masks/, paired by file name.")],
    groups: Annotated[
        Path | None, typer.Option(help="CSV with columns name and group (video, patient).")
    ] = None,
    group_column: Annotated[str, typer.Option(help="Column of --groups that names the group.")] = "group",
    center_column: Annotated[str, typer.Option(help="Column of --groups that names the center.")] = "center",
    allow_empty: Annotated[bool, typer.Option(help="Accept masks without a polyp.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Import a folder of images and masks, checking every pair; nothing is kept unless all are good."""
    from orchestrator.data.cases import add_dataset

    with _bar(f"reading {path}") as on_progress:
        dataset = add_dataset(
            home.expanduser().resolve(),
            name,
            path,
            groups=groups,
            group_column=group_column,
            center_column=center_column,
            allow_empty=allow_empty,
            on_progress=on_progress,
        )
    out.print(_describe(dataset))


@data_app.command("list")
def data_list(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show every dataset."""
    from orchestrator.data.cases import list_datasets

    datasets = list_datasets(home.expanduser().resolve())
    if as_json:
        _print_json([_facts(dataset) for dataset in datasets])
    elif not datasets:
        out.print("no datasets yet; `orchestrator data add NAME PATH` imports one")
    for dataset in () if as_json else datasets:
        out.print(_describe(dataset))


@data_app.command("show")
def data_show(name: str, home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """Show one dataset: sizes, groups, centers, polyps."""
    from orchestrator.data.cases import load_dataset

    facts = _facts(load_dataset(home.expanduser().resolve(), name))
    if as_json:
        _print_json(facts)
    else:
        for key, value in facts.items():
            out.print(f"{key:>16}  {value}", highlight=False)


@data_app.command("check")
def data_check(name: str, home: Home = DEFAULT_HOME) -> None:
    """Read every file of a dataset again; exit code 2 if one is damaged or changed."""
    from orchestrator.data.cases import check_dataset, load_dataset
    from orchestrator.errors import BadData

    dataset = load_dataset(home.expanduser().resolve(), name)
    problems = check_dataset(dataset)
    if problems:
        raise BadData(name, problems)
    out.print(f"{name}: all {len(dataset.cases)} pairs are as they were imported")


@data_app.command("draw")
def data_draw(
    path: Annotated[Path, typer.Argument(help="Folder to make.")],
    cases: Annotated[int, typer.Option(min=1, help="Number of frames.")] = 120,
    size: Annotated[int, typer.Option(min=32, help="Height in pixels.")] = 160,
    centers: Annotated[int, typer.Option(min=1, help="Hospitals that differ in color and scale.")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Draw colonoscopy-like frames with polyps, to try everything without real data."""
    from orchestrator.data.phantom import draw_dataset

    with _bar(f"drawing {path}") as on_progress:
        draw_dataset(
            path, num_cases=cases, size=size, num_centers=centers, seed=seed, on_progress=on_progress
        )
    out.print(f"{path}: {cases} frames; import them with --groups {path / 'groups.csv'} --allow-empty")


@space_app.command("check")
def space_check(file: Path) -> None:
    """Check a search-space file and build every network that it can ask for."""
    from orchestrator.search.space import check_builds, load_space

    space = load_space(file)
    check_builds(space)
    out.print(f"{file}: good; network {', '.join(space.networks)}")
    for name, distribution in space.search.items():
        out.print(f"  {name:>16}  {distribution}  (baseline {space.baseline.get(name)})", highlight=False)


@space_app.command("schema")
def space_schema() -> None:
    """Print the JSON Schema of search-space files, for editors."""
    from orchestrator.search.space_schema import json_schema

    _print_json(json_schema())


@app.command()
def fit(
    file: Annotated[
        Path, typer.Argument(metavar="SPACE", help="Search-space file; its baseline is trained.")
    ],
    data: Data,
    fold: Annotated[int, typer.Option(min=0, help="Which fold.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value instead of the baseline's.")
    ] = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    seed: Seed = 0,
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
) -> None:
    """Train one fit in this process, without Ray. Run again, it goes on from its checkpoint."""
    import torch

    from orchestrator.errors import BadSplit
    from orchestrator.scoring.metrics import scores_at
    from orchestrator.scoring.threshold import best_threshold
    from orchestrator.search.folds import fold_specs
    from orchestrator.search.ledger import Ledger
    from orchestrator.search.space import check_builds, check_weights, load_space, override
    from orchestrator.search.work import Work

    home = home.expanduser().resolve()
    space = load_space(file)
    check_builds(space)
    check_weights(space)
    settings = space.settings(override(space.baseline_params(), set_ or [], space))
    _, _, plan = _split(home, data, [], splits, holdout, seed)
    specs = fold_specs(settings, plan)
    if fold >= len(specs):
        raise BadSplit("--fold", f"needs a number below {len(specs)}, found {fold}")
    ledger = Ledger(home / "fits")
    chosen = torch.device(_device(device))
    out.print(
        f"fit {specs[fold].fit_id}: {settings.network}, fold {fold} of {plan.name}, on {chosen}",
        highlight=False,
    )

    def show(row: dict[str, float]) -> bool:
        out.print(_epoch_line(row, settings.recipe.epochs), highlight=False)
        return True

    loader_workers = min(8, (os.cpu_count() or 2) - 1) if chosen.type == "cuda" else 0
    Work(home, cache or home / "cache", ledger)(specs[fold], chosen, loader_workers, show)
    record = ledger.read(specs[fold].fit_id)
    threshold = settings.threshold or best_threshold(record.histograms, *settings.sweep)[0]
    scores = {name: float(values.mean()) for name, values in scores_at(record.histograms, threshold).items()}
    text = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
    out.print(f"{text}  at threshold {threshold:.3f}, best epoch {record.best_epoch + 1}", highlight=False)
    out.print(f"{record.seconds:.0f} s of training; record and weights in {record.folder}", highlight=False)


@app.command()
def search(
    file: Annotated[Path, typer.Argument(metavar="SPACE", help="Search-space file.")],
    data: Data,
    trials: Annotated[int, typer.Option(min=1, help="Settings to try; those of earlier runs count.")],
    unseen: Unseen = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    hours: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long; run again to go on.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name. Default: made of SPACE, the data and the split.")
    ] = None,
    workers_per_fit: Width = 1,
    lanes: Annotated[int | None, typer.Option(min=1, help="Fits at a time. Default: as many as fit.")] = None,
    seed: Seed = 0,
    address: Address = "auto",
    device: Device = "auto",
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Search hyperparameters; every trial is cross-validated. Run the same command again to resume."""
    from orchestrator.results.report import Report
    from orchestrator.search.home import StudyHome
    from orchestrator.search.space import check_builds, check_weights, load_space
    from orchestrator.search.work import Work
    from orchestrator.study import Machine, Study, run_study

    home = home.expanduser().resolve()
    space = load_space(file)
    check_builds(space)
    check_weights(space)
    sources, tests, plan = _split(home, data, unseen or [], splits, holdout, seed)
    name = study or "-".join([file.stem, *data, plan.name, *(f"vs-{other}" for other in unseen or [])])
    study_home = StudyHome(home, name)
    asked = Study(
        home=study_home,
        space=space,
        plan=plan,
        datasets=sources,
        unseen=tests,
        num_trials=trials,
        seed=seed,
        hours=hours,
    )
    machine = Machine(address, device, workers_per_fit, lanes)
    work = Work(home, cache or home / "cache", study_home.ledger)
    with _study_progress(trials * len(plan.folds)) as (say, advance):
        report = Report(study_home, tracking_uri, say=say, advance=advance)
        try:
            run_study(asked, machine, work, report)
        except KeyboardInterrupt:
            say(f"interrupted; the same command goes on from here (study {name})")
            raise
    leaderboard(name, home=home)
    if study_home.champion() is None:
        raise FitFailed(f"study {name}: no trial was finished; the errors are in the table above")


@app.command()
def leaderboard(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    metric: Metric = "dice",
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Show the trials of a study, best first."""
    from orchestrator.results.handover import board
    from orchestrator.results.tables import leaderboard as table
    from orchestrator.results.tables import leaderboard_dicts
    from orchestrator.search.home import find_study

    found = find_study(home.expanduser().resolve(), study)
    rows = board(found, _known(metric))
    if as_json:
        _print_json(leaderboard_dicts(rows, metric))
    else:
        out.print(table(rows, f"{found.name}, scores on validation images in percent", metric))


@app.command()
def best(
    study: Annotated[str | None, typer.Argument(help="Default: the study worked on last.")] = None,
    export: Annotated[
        Path | None, typer.Option(help="Folder for the model: weights, ONNX, config, card.")
    ] = None,
    metric: Metric = "dice",
    refit: Annotated[
        bool, typer.Option(help="Train once more on all cases of the folds, and take that.")
    ] = False,
    address: Address = "auto",
    device: Device = "auto",
    workers_per_fit: Width = 1,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show the winner of a study, and hand it over as files that other programs load."""
    from orchestrator.errors import BadStudy
    from orchestrator.results.card import ScoreLine
    from orchestrator.results.handover import export_trial, outside_lines, validation_line
    from orchestrator.results.registry import register_champion
    from orchestrator.results.report import default_uri
    from orchestrator.results.tables import score_dicts, score_table
    from orchestrator.search.home import champion_fit, find_study, ranked

    home = home.expanduser().resolve()
    found = find_study(home, study)
    standing = ranked(found.trials(), _known(metric))
    if not standing:
        raise BadStudy(found.name, "has no finished trial yet; run `orchestrator search` on")
    trial, score = standing[0]
    if refit:
        record = _refit(found, trial, address, device, workers_per_fit, cache or home / "cache")
    else:
        record = champion_fit(trial)
    lines = [
        *(
            ScoreLine(f"fold {i}", len(r.case_ids), m)
            for i, (r, m) in enumerate(zip(trial.records, score.fold_metrics, strict=True))
        ),
        validation_line(found, score),
        *outside_lines(found, record.fit_id, score.threshold),
    ]
    if as_json:
        _print_json(
            {
                "study": found.name,
                "trial": trial.number,
                "params": trial.params,
                "threshold": score.threshold,
                "fit_id": record.fit_id,
                "scores": score_dicts(lines),
            }
        )
    else:
        searched = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.searched.items()
        )
        out.print(
            f"best of {len(standing)} finished trials by {metric}: trial {trial.number} ({searched})",
            highlight=False,
        )
        out.print(
            score_table(
                lines, f"{found.name}, trial {trial.number}, in percent; threshold {score.threshold:.3f}"
            )
        )
    if export is None:
        return
    if not record.weights.exists():
        raise BadStudy(
            found.name,
            f"the weights of trial {trial.number} were pruned, as it was not among the best by dice; add --refit",
        )
    folder = export_trial(found, trial, score, record, export)
    version = register_champion(
        folder,
        tracking_uri=tracking_uri or default_uri(home),
        experiment=found.name,
        model_name=found.name,
        trial=trial.number,
    )
    (err if as_json else out).print(
        f"exported to {folder}; in MLflow models:/{found.name}@champion, version {version}", highlight=False
    )


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="Folder that `best --export` made.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of them.")],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for masks and overlays.")],
) -> None:
    """Write a mask and an overlay for every image, from the exported model alone."""
    from orchestrator.results.bundle import Bundle
    from orchestrator.results.predict import predict_files

    loaded = Bundle.load(bundle)
    with _bar("predicting") as on_progress:
        masks = predict_files(loaded, images, out_folder, on_progress)
    out.print(f"{len(masks)} masks and overlays in {out_folder}", highlight=False)


def _refit(
    study: StudyHome, trial: StudyTrial, address: str, device: Any, workers_per_fit: int, cache: Path
) -> FitRecord:
    from orchestrator.search.work import Work
    from orchestrator.study import Machine, refit

    epochs = trial.settings.recipe.epochs
    machine = Machine(address, device, workers_per_fit)
    work = Work(study.home, cache, study.ledger)
    return refit(
        study, trial, machine, work, lambda row: err.print(_epoch_line(row, epochs), highlight=False)
    )


def _known(metric: str) -> str:
    from orchestrator.errors import BadStudy
    from orchestrator.scoring.metrics import METRICS

    if metric not in METRICS:
        raise BadStudy("--metric", f"no metric is named {metric!r}; known: {', '.join(METRICS)}")
    return metric


@contextmanager
def _study_progress(num_fits: int) -> Iterator[tuple[Callable[[str], None], Callable[[int, str], None]]]:
    """Lines with the time since the start, above a bar on a terminal; in a log file the lines alone."""
    started = time.monotonic()
    columns = (
        TextColumn("fits"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("about"),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("left  {task.description}"),
    )
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        task = progress.add_task("", total=num_fits)

        def say(line: str) -> None:
            seconds = int(time.monotonic() - started)
            out.print(f"[dim]{seconds // 60:02d}:{seconds % 60:02d}[/]  {_plain(line)}", highlight=False)

        def advance(done: int, doing: str) -> None:
            progress.update(task, completed=done, description=doing)

        yield say, advance


def _split(
    home: Path, data: list[str], unseen: list[str], splits: str, holdout: float, seed: int
) -> tuple[tuple[Dataset, ...], tuple[Dataset, ...], SplitPlan]:
    from orchestrator.data.cases import load_datasets
    from orchestrator.data.splits import five_fold, read_plan
    from orchestrator.errors import BadSplit

    datasets = load_datasets(home, [*data, *unseen])
    sources, tests = datasets[: len(data)], datasets[len(data) :]
    if splits == "five-fold":
        return sources, tests, five_fold(sources, seed=seed, holdout=holdout, unseen=tests)
    if not Path(splits).is_file():
        raise BadSplit("--splits", f"needs five-fold or the JSON file of a split, found {splits!r}")
    return sources, tests, read_plan(Path(splits), sources, tests)


def _device(device: str) -> str:
    import torch

    from orchestrator.errors import BadMachine

    if device == "cuda" and not torch.cuda.is_available():
        raise BadMachine("--device", "cuda needs a GPU that torch can use, found none; use --device cpu")
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


def _epoch_line(row: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {row['epoch'] + 1:.0f}/{epochs}  loss {row['train_loss']:.4f}  dice {row['val_dice']:.4f}  "
        f"lr {row['learning_rate']:.2e}  {row['images_per_second']:.1f} images/s"
    )


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; in a log file, nothing until the command's own last line."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _describe(dataset: Dataset) -> str:
    facts = _facts(dataset)
    return (
        f"{facts['name']}: {facts['cases']} cases ({facts['without_polyp']} without polyp), {facts['groups']}, "
        f"{facts['sizes']}, fingerprint {dataset.fingerprint[:12]}"
    )


def _facts(dataset: Dataset) -> dict[str, Any]:
    sizes = sorted({(case.height * case.width, f"{case.width}x{case.height}") for case in dataset.cases})
    groups = len({case.group for case in dataset.cases})
    areas = sorted(case.polyp_fraction for case in dataset.cases if case.polyp_fraction)
    return {
        "name": dataset.name,
        "cases": len(dataset.cases),
        "without_polyp": len(dataset.cases) - len(areas),
        "groups": f"{groups} groups" if dataset.groups_known else "groups unknown",
        "centers": sorted({case.center for case in dataset.cases if case.center}),
        "sizes": sizes[0][1] if len(sizes) == 1 else f"{sizes[0][1]} to {sizes[-1][1]}",
        "polyp_area": f"{areas[0]:.2%} to {areas[-1]:.2%} of the frame" if areas else "none",
        "fingerprint": dataset.fingerprint,
        "folder": str(dataset.folder),
    }


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


def _plain(text: str) -> str:
    """Text as it is: square brackets in it are no markup."""
    from rich.markup import escape

    return escape(text)
