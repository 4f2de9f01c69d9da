"""`orchestrator fit`: train one network here, and hand it over where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.console.live import CONSOLE
from orchestrator.cli.console.options import (
    DEFAULT_HOME,
    AsJson,
    Cache,
    Data,
    Device,
    Holdout,
    Home,
    NearDuplicates,
    Seed,
    SpaceFile,
    Splits,
    TrackingUri,
    Yes,
    absolute,
)
from orchestrator.cli.console.printing import agreed, err, note, out, print_json
from orchestrator.cli.data.splits import warn_of_lopsided
from orchestrator.cli.doctor import refuse_what_would_fail
from orchestrator.common.cpus import usable_cpus
from orchestrator.common.errors import Mistakes

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from orchestrator.data.splits.split_file import SplitPlan
    from orchestrator.results.single_fit import SingleFit
    from orchestrator.search.records.fit_records import FitRecord
    from orchestrator.search.space.space import Configuration
    from orchestrator.study.loading import DataChoice


def fit(
    file: SpaceFile,
    data: Data,
    fold: Annotated[int, typer.Option(min=0, help="Which fold.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value instead of the baseline's.")
    ] = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    seed: Seed = 0,
    near_duplicates: NearDuplicates = True,
    device: Device = "auto",
    export: Annotated[
        Path | None,
        typer.Option(callback=absolute, help="Folder for the model: weights, ONNX, config, card."),
    ] = None,
    yes: Yes = False,
    log: Annotated[
        bool, typer.Option("--log", help="Write a run with curves and scores into MLflow.")
    ] = False,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Train one fit in this process, without Ray. Run again, it goes on from its checkpoint.

    Scores are percent here, from 0 to 1 in JSON and MLflow.
    """
    from orchestrator.results.mlflow.client import default_uri
    from orchestrator.results.single_fit import SingleFit
    from orchestrator.search.records.trial_score import fold_specs
    from orchestrator.study.loading import DataChoice

    home = home.expanduser().resolve()
    choice, uri = (
        DataChoice(home, data, (), splits, holdout, seed, near_duplicates, cache),
        tracking_uri or default_uri(home),
    )
    configuration, chosen = _checked(file, set_ or [], choice, device, export, uri if log else None)
    sources, _, plan = choice.load(CONSOLE, fold=fold)
    warn_of_lopsided(plan, sources)
    if export is not None and not _may_replace(export, fold_specs(configuration, plan)[fold].fit_id, yes=yes):
        raise typer.Exit(1)
    record = _trained(configuration, plan, fold, choice, chosen, err if as_json else out)
    done = SingleFit.of(record, configuration, plan)
    handed = {
        "bundle": None if export is None else str(done.export(export)),
        "run_id": done.log(uri) if log else None,
    }
    if as_json:
        print_json(_facts(done) | handed)
    else:
        _print_fit(done, handed)


def _checked(
    file: Path,
    assignments: Sequence[str],
    choice: DataChoice,
    device: str,
    export: Path | None,
    uri: str | None,
) -> tuple[Configuration, torch.device]:
    """The configuration and the device. Raises every mistake in what is asked of a fit, in one error."""
    from orchestrator.search.space.builds import check_builds, check_weights, override
    from orchestrator.search.space.space_file import load_space
    from orchestrator.training.process import device_here

    mistakes = Mistakes()
    with mistakes.noted():
        space = load_space(file)
        check_builds(space)
        check_weights(space)
        configuration = space.configuration(override(space.baseline_params(), assignments, space))
        for name in sorted(configuration.recipe.idle & {one.split("=")[0].strip() for one in assignments}):
            note(f"--set {name} has no effect with these other parameters")
    with mistakes.noted():
        choice.refuse()
    with mistakes.noted():
        chosen = device_here(device)
    with mistakes.noted():
        refuse_what_would_fail(choice.home, choice.cache, device, gpus=[0])
    _note_refused(mistakes, export, uri)
    mistakes.raise_all()
    return configuration, chosen


def _trained(
    configuration: Configuration,
    plan: SplitPlan,
    fold: int,
    choice: DataChoice,
    device: torch.device,
    progress: Console,
) -> FitRecord:
    """Train the fit, or read it where it is finished; a line an epoch."""
    from orchestrator.results.views.score_lines import epoch_line
    from orchestrator.search.fit_jobs import FitJobRunner
    from orchestrator.search.records.ledger import Ledger
    from orchestrator.search.records.trial_score import fold_specs
    from orchestrator.training.process import configure_process

    spec, ledger = fold_specs(configuration, plan)[fold], Ledger(choice.home / "fits")
    progress.print(
        f"fit {spec.fit_id}: {configuration.network}, fold {fold} of {plan.name}, on {device}",
        highlight=False,
    )

    def show(row: dict[str, float]) -> bool:
        progress.print(epoch_line(row, configuration.recipe.epochs), highlight=False)
        return True

    configure_process()
    loader_workers = min(8, usable_cpus() - 1) if device.type == "cuda" else 0
    FitJobRunner(choice.home, choice.cache_folder, ledger)(spec, device, loader_workers, show)
    return ledger.read(spec.fit_id)


def _note_refused(mistakes: Mistakes, export: Path | None, uri: str | None) -> None:
    """Note what would make hours of training end without the files, or the run, that were asked for."""
    from orchestrator.results.export.write import refuse_to_overwrite
    from orchestrator.results.mlflow.client import check_uri, refuse_locked_out

    if export is not None:
        with mistakes.noted():
            refuse_to_overwrite(export)
    if uri is not None:
        with mistakes.noted():
            check_uri(uri)
            refuse_locked_out(uri)


def _may_replace(folder: Path, fit_id: str, *, yes: bool) -> bool:
    """Whether the folder may be written, asked before anything is trained; `BadData` where nobody can be asked."""
    from orchestrator.results.single_fit import SingleFit

    earlier = SingleFit.why_ask(folder, fit_id)
    return earlier is None or agreed(f"{folder} holds another network ({earlier}); replace it", yes=yes)


def _facts(done: SingleFit) -> dict[str, Any]:
    record = done.record
    return {
        "fit_id": record.fit_id,
        "scores": dict(done.scores),
        "threshold": done.masks.threshold,
        "best_epoch": record.best_epoch + 1,
        "epochs": len(record.curves),
        "seconds": record.seconds,
        "folder": str(record.folder),
    }


def _print_fit(done: SingleFit, handed: Mapping[str, str | None]) -> None:
    """Scores of a fit at the mask rule that suits its own validation images best, and where it is kept."""
    from orchestrator.results.single_fit import EXPERIMENT
    from orchestrator.scoring.formatting import percent

    record, best = done.record, ", the best one for this fold" if done.configuration.masks.is_open else ""
    text = "  ".join(f"{name} {percent(value)}" for name, value in done.scores.items())
    lines = [
        f"in percent: {text}  at threshold {done.masks.threshold:.3f}{best}; best epoch {record.best_epoch + 1}",
        f"{record.seconds:.0f} s of training; record and weights in {record.folder}",
    ]
    if handed["bundle"]:
        lines.append(f"exported to {handed['bundle']}")
    if handed["run_id"]:
        lines.append(f"logged in MLflow, experiment {EXPERIMENT!r}: run {handed['run_id']}")
    for line in lines:
        out.print(line, markup=False, highlight=False)
