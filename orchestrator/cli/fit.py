"""`orchestrator fit`: train one network here, and export it on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.console.asking import may_replace
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
from orchestrator.terminal.live import CONSOLE
from orchestrator.terminal.printing import err, out, print_json

if TYPE_CHECKING:
    from orchestrator.results.single_fit import SingleFit


def fit(
    file: SpaceFile,
    data: Data,
    fold: Annotated[int, typer.Option(min=0, help="Fold to train, counted from 0.")] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Parameter to change from the baseline, as key=value.")
    ] = None,
    splits: Splits = "five-fold",
    holdout: Holdout = 0.1,
    seed: Seed = 0,
    near_duplicates: NearDuplicates = True,
    device: Device = "auto",
    export: Annotated[
        Path | None,
        typer.Option(callback=absolute, help="Folder to export the model to: weights, ONNX, config, card."),
    ] = None,
    yes: Yes = False,
    log: Annotated[bool, typer.Option("--log", help="Log curves and scores as a run in MLflow.")] = False,
    home: Home = DEFAULT_HOME,
    cache: Cache = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Train one fit in this process, without Ray. Run the same command again to continue from its checkpoint.

    Scores are in percent here, from 0 to 1 in JSON and MLflow.
    """
    from orchestrator.api import fits

    show = err if as_json else out
    done = fits.fit(
        file,
        data,
        fold=fold,
        parameters=set_ or (),
        splits=splits,
        holdout=holdout,
        seed=seed,
        near_duplicates=near_duplicates,
        device=device,
        export=export,
        replace=may_replace(yes=yes),
        log=log,
        tracking_uri=tracking_uri,
        home=home,
        cache=cache,
        display=replace(CONSOLE, announce=lambda line: show.print(line, highlight=False)),
    )
    if as_json:
        print_json(done.as_dict())
    else:
        _print_fit(done)


def _print_fit(done: SingleFit) -> None:
    """Print the scores of a fit at the mask rule that is best on its validation images, and its folder."""
    from orchestrator.results.single_fit import EXPERIMENT
    from orchestrator.scoring.formatting import percent

    record, best = done.record, ", the best one for this fold" if done.configuration.masks.is_open else ""
    text = "  ".join(f"{name} {percent(value)}" for name, value in done.scores.items())
    lines = [
        f"in percent: {text}  at threshold {done.masks.threshold:.3f}{best}; best epoch {record.best_epoch + 1}",
        f"{record.seconds:.0f} s of training; record and weights in {record.folder}",
    ]
    if done.bundle is not None:
        lines.append(f"exported to {done.bundle}")
    if done.run_id is not None:
        lines.append(f"logged in MLflow, experiment {EXPERIMENT!r}: run {done.run_id}")
    for line in lines:
        out.print(line, markup=False, highlight=False)
